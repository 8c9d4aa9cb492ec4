"""kill -9 and SIGTERM at any moment lose no acknowledged event, double none, and leave no hole."""

import json
import os
import random
import threading
import time

from annal_server import event
from load import Load, check, finish

KILLS = int(os.environ.get("ANNAL_CHAOS_KILLS", "50"))


def test_kill_9_fifty_times_under_ingest(make_server):
    server = make_server(settings="sqlite:\n  segment_events: 2000\n").start()
    chance = random.Random()
    with Load(server, threads=4) as load:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.02, 0.25))
            server.kill()
            server.start()
        settled = load.acknowledged()
        deadline = time.monotonic() + 30
        while load.acknowledged() == settled and time.monotonic() < deadline:
            time.sleep(0.05)  # the last start serves, too
    assert load.acknowledged() > KILLS
    assert sum(p.attempts > 1 for p in load.posts) > KILLS / 10, "the kills hit nothing in flight"
    finish(load)
    check(load, server.client())
    server.restart()
    check(load, server.client())


def test_kill_9_while_starting(make_server):
    """A start replays what the last one left; killed in the middle of that, the next one does it again."""
    server = make_server(settings="sqlite:\n  segment_events: 500\n").start()
    client = server.client()
    client.ingest(*(event("kept.event", external_id=str(i)) for i in range(1800)))
    chance = random.Random()
    for _ in range(15):
        server.kill()
        server.spawn()
        time.sleep(chance.uniform(0, 0.3))
    server.kill()
    server.start()
    stored = [json.loads(line) for line in server.client().export_lines("?type=kept.event")][::-1]
    assert [e["external_id"] for e in stored] == [str(i) for i in range(1800)]
    assert server.client().ingest(event())[0]["seq"] == server.client().count() - 1


def test_kill_9_between_projects_keys_and_settings(make_server):
    """What control calls acknowledged is there after a kill, together with the event that records it."""
    server = make_server().start()
    chance = random.Random()
    keys, days = [], None
    for round_number in range(12):
        client = server.client()
        keys.append(client.make_key(["audit:read"], name=f"k{round_number}"))
        days = round_number + 1
        assert client.put("/v1/config/audit_retention_days", days).status == 200
        assert client.post("/v1/projects", {"id": f"proj_{round_number}", "name": "n"}).status == 201
        if chance.random() < 0.5:
            gone = keys.pop(0)
            assert client.delete(f"/v1/api-keys/{gone.key_id}").status == 204
        server.kill()
        server.start()
    client = server.client()
    assert client.get("/v1/config/audit_retention_days").json()["value"] == days
    assert {f"proj_{n}" for n in range(12)} <= {p["id"] for p in client.get("/v1/projects").json()["data"]}
    listed = {k["id"]: k["revoked_at"] is not None for k in client.get("/v1/api-keys").json()["data"]}
    events = client.walk("?type=api_key.*")
    created = {e["target_id"] for e in events if e["action"] == "api_key.created"}
    revoked = {e["target_id"] for e in events if e["action"] == "api_key.revoked"}
    assert created == set(listed)
    assert revoked == {i for i, is_revoked in listed.items() if is_revoked}
    for key in keys:
        assert key.get("/v1/audit/events").status == 200


def test_sigterm_under_load_keeps_what_was_acknowledged(make_server):
    server = make_server().start()
    with Load(server, threads=4) as load:
        for _ in range(8):
            time.sleep(0.3)
            server.signal_stop()
            server.expect_clean_exit()
            server.start()
    finish(load)
    check(load, server.client())


def test_sigterm_answers_the_requests_in_flight(make_server):
    server = make_server().start()
    client = server.client()
    size, senders = 4000, 4
    answers, sent = [], threading.Barrier(senders + 1)

    def post(number):
        body = json.dumps({"events": [event("flight.big", external_id=f"{number}-{i}") for i in range(size)]}).encode()
        with server.raw() as connection:
            connection.send(
                (f"POST /v1/audit/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {client.secret}\r\n"
                 f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body)
            sent.wait(60)
            answers.append((number, connection.receive()))

    half = json.dumps(event("flight.half")).encode()
    with server.raw() as slow, server.raw() as idle:
        idle.send(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        assert idle.receive().status == 200
        slow.send((f"POST /v1/audit/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {client.secret}\r\n"
                   f"Content-Type: application/json\r\nContent-Length: {len(half)}\r\n\r\n").encode() + half[:10])
        time.sleep(0.2)
        threads = [threading.Thread(target=post, args=(n,)) for n in range(senders)]
        for thread in threads:
            thread.start()
        sent.wait(60)
        time.sleep(0.1)
        began = time.monotonic()
        server.signal_stop()
        time.sleep(0.3)
        slow.send(half[10:])
        assert slow.receive().status == 201
        assert idle.closed()
        for thread in threads:
            thread.join(60)
    server.expect_clean_exit()
    assert time.monotonic() - began < 15
    assert sorted(number for number, _ in answers) == list(range(senders)), "a request was cut off"
    assert all(answer.status == 201 for _, answer in answers), answers
    server.start()
    stored = {json.loads(line)["external_id"] for line in client.export_lines("?type=flight.big")}
    assert stored == {f"{n}-{i}" for n in range(senders) for i in range(size)}
    assert len(client.page("?type=flight.half")["data"]) == 1


def test_sigterm_waits_no_longer_than_the_grace(make_server):
    """A client that never sends the rest of its body does not hold up the end for ever."""
    server = make_server(settings="limits:\n  drain_timeout: 1s\n").start()
    client = server.client()
    with server.raw() as stuck:
        stuck.send((f"POST /v1/audit/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {client.secret}\r\n"
                    "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{").encode())
        time.sleep(0.2)
        began = time.monotonic()
        server.terminate()
        assert time.monotonic() - began < 8


def test_sigint_stops_like_sigterm(make_server):
    import signal
    server = make_server().start()
    server.client().ingest(event())
    server.process.send_signal(signal.SIGINT)
    server.expect_clean_exit()


def test_async_posts_that_were_taken_are_committed_by_sigterm(make_server):
    server = make_server().start()
    client = server.client()
    for i in range(50):
        answer = client.post("/v1/audit/events", event("async.taken", external_id=str(i)), headers={"Prefer": "respond-async"})
        assert answer.status == 202
    server.restart()
    stored = [e["external_id"] for e in server.client().walk("?type=async.taken")]
    assert sorted(stored, key=int) == [str(i) for i in range(50)]
