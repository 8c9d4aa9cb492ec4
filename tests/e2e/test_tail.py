"""Live tails: every event once and in order, whatever happens to the connection, the server or the other readers."""

import json
import random
import socket
import subprocess
import threading
import time

import pytest
from annal_server import HOLD_LITTLE_BACK, STORE, allow_open_files, event, expect_problem, wait_until
from event_stream import POLL_S, TAIL, EventStream, Message, seqs

FAST = "limits:\n  tail_heartbeat: 200ms\n"


@pytest.fixture(scope="module")
def fast():
    """A server with a short heartbeat."""
    from annal_server import Server
    with Server(settings=FAST) as running:
        yield running


@pytest.fixture
def mine(fast):
    return fast.client().new_project()


def test_new_events_as_the_list_shows_them(project):
    head = project.count() - 1
    with EventStream(project) as tail:
        assert tail.status == 200
        assert tail.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert tail.headers["cache-control"] == "no-store"
        assert tail.headers["x-accel-buffering"] == "no"
        tail.open()
        assert (tail.retry, tail.last_id) == (2000, str(head))
        project.ingest(event("user.created", metadata={"text": "line\nbreak \u2028 é😀"}), event("user.deleted"))
        messages = tail.take(2)
        assert seqs(messages) == [head + 1, head + 2]
        assert [m.event for m in messages] == ["user.created", "user.deleted"]
        listed = project.page("?limit=2")["data"]
        assert [m.json() for m in messages] == listed[::-1]


def test_metadata_with_line_breaks_stays_one_line(project):
    with EventStream(project) as tail:
        tail.open()
        body = '{"action":"a.b","actor":{"type":"user"},"metadata":{\r\n "x":\r1.10,\n"y":"z"}}'
        assert project.post("/v1/audit/events", body).status == 201
        message = tail.take(1)[0]
        assert message.json()["metadata"] == {"x": 1.1, "y": "z"} and '1.10' in message.data


@pytest.mark.parametrize("how", ["header", "after", "last_event_id"])
def test_resumes_behind_a_seq(project, how):
    project.ingest(*(event() for _ in range(30)))
    query, last = ("", 10) if how == "header" else (f"?{how}=10", None)
    with EventStream(project, query, last) as tail:
        assert seqs(tail.take(20)) == list(range(11, 31))


def test_the_header_wins_over_the_url_of_a_reconnecting_browser(project):
    project.ingest(*(event() for _ in range(9)))
    with EventStream(project, "?after=-1", 7) as tail:
        assert seqs(tail.take(2)) == [8, 9]
    with EventStream(project, "?after=-1") as tail:
        assert seqs(tail.take(10)) == list(range(10))


def test_what_cannot_be_resumed_is_refused(project):
    head = project.count() - 1
    for query in ("?after=x", "?after=-2", "?after=", "?after=1&after=2", "?after=0&last_event_id=0", "?limit=5",
                  "?cursor=x", "?type=", f"?after={head + 1}"):
        expect_problem(project.get(TAIL + query), 400)
    expect_problem(project.get(TAIL, headers={"Last-Event-ID": "abc"}), 400, "Last-Event-ID")
    expect_problem(project.get(TAIL, headers={"Last-Event-ID": str(head + 1)}), 400, f"has seq {head}")
    expect_problem(project.get(TAIL, key=False), 401)
    expect_problem(project.make_key(["audit:ingest"]).get(TAIL), 403, "audit:read")
    expect_problem(project.post(TAIL, {}), 405)


def test_head_and_the_trailing_slash(project):
    with EventStream(project, method="HEAD") as tail:
        assert tail.status == 200 and tail.headers["content-type"].startswith("text/event-stream")
        assert "content-length" not in tail.headers
        # Nothing follows, and the connection is free for the next request.
        tail.connection.send(f"GET /v1/audit/events?limit=1 HTTP/1.1\r\nHost: t\r\nX-API-Key: {project.secret}\r\n\r\n".encode())
        assert tail.connection.receive().status == 200
    with EventStream(project, path=TAIL + "/") as tail:
        tail.open()
        project.ingest(event())
        assert len(tail.take(1)) == 1


def test_curl_sees_events_as_they_come(project):
    host, port = project.server.address
    curl = subprocess.Popen(
        ["curl", "-sN", "-H", f"Authorization: Bearer {project.secret}", f"http://{host}:{port}{TAIL}"],
        stdout=subprocess.PIPE, text=True)
    try:
        assert curl.stdout.readline() == "retry: 2000\n"
        assert curl.stdout.readline().startswith("id: ")
        assert curl.stdout.readline() == "\n"
        receipt = project.ingest(event("user.created"))[0]
        assert curl.stdout.readline() == f"id: {receipt['seq']}\n"
        assert curl.stdout.readline() == "event: user.created\n"
        assert json.loads(curl.stdout.readline().removeprefix("data: "))["id"] == receipt["id"]
    finally:
        curl.kill()
        curl.wait()
        curl.stdout.close()


def test_no_gap_and_no_duplicate_over_reconnects_under_ingest(project):
    first = project.count()
    total = 1500
    chance = random.Random(20261120)

    def write():
        left = total
        while left > 0:
            count = min(left, chance.randint(1, 40))
            project.ingest(*(event() for _ in range(count)))
            left -= count

    writer = threading.Thread(target=write)
    last, seen, connections = str(first - 1), [], 0
    writer.start()
    reader = random.Random(7)
    while len(seen) < total:
        connections += 1
        with EventStream(project, last_id=last) as tail:
            for message in tail.messages():
                seen.append(message)
                if len(seen) == total or reader.random() < 0.02:
                    break
            last = tail.last_id
    writer.join()
    assert seqs(seen) == list(range(first, first + total))
    assert connections > 5


def test_filters_are_those_of_the_list(project):
    queries = ["?type=user.*", "?type=user.created,team.*", "?user=usr_1", "?q=NEEDLE", "?target_type=doc&target=d1",
               "?actor=a1&ip=192.0.2.7", "?external_id=x1"]
    tails = [EventStream(project, query).open() for query in queries]
    project.ingest(
        event("user.created", user_id="usr_1"), event("team.created", description="a needle in it"),
        event("other.thing", target_type="doc", target_id="d1", external_id="x1"),
        event("user.created.deep", actor={"type": "user", "id": "a1"}, ip="192.0.2.7"), event("last.of.all"))
    for query, tail in zip(queries, tails):
        expected = [e["seq"] for e in project.walk(query)][::-1]
        assert expected, query
        assert seqs(tail.take(len(expected))) == expected, query
        tail.close()


def test_heartbeats_carry_the_progress_of_a_filtered_tail(mine):
    with EventStream(mine, "?type=rare.*") as tail:
        tail.open()
        mine.ingest(*(event("common.thing") for _ in range(50)))
        head = str(mine.count() - 1)
        tail.until(lambda: tail.last_id == head)
        assert "heartbeat" in tail.comments
        last = tail.last_id
    with EventStream(mine, "?type=rare.*", last) as tail:
        tail.open()
        mine.ingest(event("rare.thing"))
        assert seqs(tail.take(1)) == [int(head) + 1]


def test_a_silent_tail_shows_signs_of_life(mine):
    with EventStream(mine) as tail:
        begin = time.monotonic()
        tail.open()
        tail.until(lambda: len(tail.comments) == 4)
        assert 0.5 < time.monotonic() - begin < 5
        assert set(tail.comments) == {"heartbeat"}


def test_tombstones(project):
    receipts = project.ingest(*(event("user.created", user_id="u") for _ in range(3)))
    assert project.delete(f"/v1/audit/events/{receipts[1]['id']}").status == 204
    first = receipts[0]["seq"]
    with EventStream(project, last_id=first - 1) as tail:
        messages = tail.take(4)
        assert seqs(messages) == [first, first + 1, first + 2, first + 3]
        assert messages[1].event == "deleted"
        assert messages[1].json() == {"id": receipts[1]["id"], "seq": first + 1, "deleted": True}
        assert messages[3].event == "audit_log.entry.deleted"
    with EventStream(project, "?user=u", first - 1) as tail:
        assert seqs(tail.take(2)) == [first, first + 2]


def test_resumes_after_kill_and_restart(make_server):
    server = make_server().start()
    client = server.client()
    with EventStream(client, last_id=-1) as tail:
        client.ingest(*(event() for _ in range(20)))
        seen = tail.take(15)
        server.kill()
        with pytest.raises(ConnectionError):
            for message in tail.messages():
                seen.append(message)
        assert not tail.ended_cleanly
        last = tail.last_id
    server.start()
    client.ingest(*(event() for _ in range(20)))
    with EventStream(client, last_id=last) as tail:
        seen += tail.take(41 - len(seen))
    assert seqs(seen) == list(range(41))


def test_a_hundred_tails_cost_one_scan_for_each_commit(mine):
    tails = [EventStream(mine).open() for _ in range(100)]
    shared = lambda: mine.metric("annal_tail_scans_total", kind="shared") or 0
    caught = lambda: mine.metric("annal_tail_scans_total", kind="catch_up") or 0
    before, behind = shared(), caught()
    begin = time.monotonic()
    for _ in range(20):
        mine.ingest(event())
    for tail in tails:
        assert len(tail.take(20)) == 20
        tail.close()
    # Where others may store as well, a node looks by itself, too.
    looks = 1 + int((time.monotonic() - begin) / POLL_S) if STORE == "postgres" else 0
    assert 1 <= shared() - before <= 20 + looks
    assert caught() == behind
    wait_until(lambda: mine.metric("annal_tails") == 0, what="the end of the tails")
    before = shared()
    mine.ingest(event())
    assert shared() == before, "a project without tails costs nothing"


def big(count):
    return [event("bulk.row", metadata={"filler": "x" * 2000}) for _ in range(count)]


def test_a_stopped_reader_among_200_costs_little_and_loses_nothing(make_server):
    server = make_server(settings="limits:\n  tail_buffer: 256KiB\n  write_timeout: 5m\n",
                         env=HOLD_LITTLE_BACK).start()
    client = server.client()
    first = client.count()
    others = [EventStream(client, "?type=none.such").open() for _ in range(198)]
    with EventStream(client, receive_buffer=4096).open() as stopped, EventStream(client).open() as reader:
        before = server.rss_bytes()
        for _ in range(40):
            client.ingest(*big(100))
            assert len(reader.take(100)) == 100
        assert client.metric("annal_tails") == 200
        # 8 MB went through; a queue for each of the 200 would be 1.6 GB, one for the stopped reader alone 8 MB and more.
        server.expect_growth_below(64, before, tsan_factor=4)
        assert seqs(stopped.take(4000)) == list(range(first, first + 4000))
        assert client.metric("annal_tail_lagging_total") >= 1
    for tail in others:
        tail.close()


def test_a_reader_that_takes_nothing_is_cut_and_can_resume(make_server):
    server = make_server(settings="limits:\n  write_timeout: 500ms\n  tail_buffer: 64KiB\n").start()
    client = server.client()
    with EventStream(client, receive_buffer=4096).open() as stopped:
        for _ in range(30):
            client.ingest(*big(100))
        wait_until(lambda: client.metric("annal_tails") == 0, what="the end of the stopped tail")
        seen = []
        with pytest.raises(ConnectionError):
            for message in stopped.messages():
                seen.append(message)
        assert len(seen) < 3000
        last = stopped.last_id
    server.settings = "limits:\n  tail_buffer: 64KiB\n"  # who resumes has time, however busy the machine is
    server.restart()
    with EventStream(client, last_id=last) as tail:
        seen += tail.take(3000 - len(seen))
    assert seqs(seen) == list(range(1, 3001))


def test_the_limit_at_its_edge(make_server):
    server = make_server(settings="limits:\n  tails: 3\n").start()
    client = server.client()
    tails = [EventStream(client).open() for _ in range(3)]
    refused = client.get(TAIL)
    expect_problem(refused, 503, "maximum of 3")
    assert int(refused.headers["retry-after"]) >= 1
    assert client.metric("annal_tail_refused_total") == 1
    tails.pop().close()
    wait_until(lambda: client.metric("annal_tails") == 2, what="the end of one tail")
    tails.append(EventStream(client).open())
    client.ingest(event())
    for tail in tails:
        assert len(tail.take(1)) == 1
        tail.close()


def test_a_thousand_tails(make_server):
    allow_open_files(8192)
    server = make_server().start()
    client = server.client()
    tails = [EventStream(client).open() for _ in range(1000)]
    assert client.metric("annal_tails") == 1000
    expect_problem(client.get(TAIL), 503, "maximum of 1000")
    receipt = client.ingest(event())[0]
    for tail in tails:
        assert seqs(tail.take(1)) == [receipt["seq"]]
    server.signal_stop()
    for tail in tails:
        assert list(tail.messages()) == [] and tail.ended_cleanly
        tail.close()
    server.expect_clean_exit()


def ends_within(tail, seconds):
    begin = time.monotonic()
    rest = list(tail.messages())
    assert time.monotonic() - begin < seconds
    assert tail.ended_cleanly
    return rest


def test_a_revoked_key_ends_its_tails(project):
    reader = project.make_key(["audit:read"])
    with EventStream(reader).open() as tail, EventStream(project).open() as other:
        assert project.delete(f"/v1/api-keys/{reader.key_id}").status == 204
        ends_within(tail, 2)
        expect_problem(reader.get(TAIL), 401)
        project.ingest(event("still.there"))
        assert [m.event for m in other.take(2)] == ["api_key.revoked", "still.there"]


def test_an_expired_key_ends_its_tails(project):
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    reader = project.make_key(["audit:read"], expires_at=at)
    with EventStream(reader).open() as tail:
        ends_within(tail, 5)


def test_sigterm_ends_tails_at_once_and_cleanly(make_server):
    server = make_server().start()
    client = server.client()
    tails = [EventStream(client).open() for _ in range(20)]
    client.ingest(event())
    for tail in tails:
        assert len(tail.take(1)) == 1
    begin = time.monotonic()
    server.signal_stop()
    for tail in tails:
        assert ends_within(tail, 5) == []
        tail.close()
    server.expect_clean_exit()
    assert time.monotonic() - begin < 8  # the grace of 10 s was not needed


def test_projects_are_apart(mine, fast):
    other = fast.client().new_project()
    with EventStream(mine).open() as tail:
        other.ingest(*(event("not.yours") for _ in range(5)))
        mine.ingest(event("yours.alone"))
        assert [m.event for m in tail.take(1)] == ["yours.alone"]
        # Two heartbeats later there is still nothing of the other project.
        tail.comments.clear()
        got = []
        for step in tail.steps():
            if isinstance(step, Message):
                got.append(step)
            if len(tail.comments) >= 2:
                break
        assert got == []


def test_a_client_that_goes_away_is_forgotten(mine):
    tails = [EventStream(mine).open() for _ in range(5)]
    assert mine.metric("annal_tails") >= 5
    for i, tail in enumerate(tails):
        if i % 2:
            tail.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        tail.close()
    wait_until(lambda: mine.metric("annal_tails") == 0, what="the end of the tails")
