"""What becomes of a delivery over HTTP: repeated, put aside, stopped; and that no credential ever shows."""

import json
import socket
import subprocess
import threading
import time

import pytest
from annal_server import STORE, event, expect_problem
from postgres_cluster import programs
from test_audit_streams import create, get, recorded, seqs, steer, to_hook, until, with_status

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def delivered(requests, answers):
    """Seqs of the requests that were answered 200, in order."""
    return [seq for request, status in zip(requests, answers) if status == 200 for seq in seqs([request])]


class Scripted:
    """Answers with what `say(received)` returns and writes it down."""

    def __init__(self, say):
        self.say, self.statuses, self.lock = say, [], threading.Lock()

    def __call__(self, received):
        said = self.say(received)
        with self.lock:
            self.statuses.append(said[0] if isinstance(said, tuple) else said)
        return said


# --- transient


def test_a_retry_sends_the_identical_bytes_until_they_are_taken(project, receiver):
    failures = iter([500, 503, 429, 408])
    receiver.answer = Scripted(lambda _: next(failures, 200))
    stream = to_hook(project, receiver)
    receiver.wait_for(lambda requests: len(requests) >= 1)
    project.ingest(*[event() for _ in range(5)])
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert receiver.answer.statuses[:5] == [500, 503, 429, 408, 200]
    first = receiver.requests[0]
    for again in receiver.requests[1:5]:
        assert again.body == first.body, "what was ingested meanwhile waits for the next batch"
        assert again.headers["idempotency-key"] == first.headers["idempotency-key"]
    assert delivered(receiver.requests, receiver.answer.statuses) == list(range(1, project.count()))


def test_an_answer_that_is_lost_is_followed_by_the_same_bytes(project):
    """The destination has taken the batch, but nobody hears it."""
    listener = socket.create_server(("127.0.0.1", 0))
    bodies = []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(20)
                text = b""
                while b"\r\n\r\n" not in text:
                    text += connection.recv(65536)
                head, _, body = text.partition(b"\r\n\r\n")
                length = int([line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")][0])
                while len(body) < length:
                    body += connection.recv(65536)
                bodies.append(body)
                if len(bodies) > 1:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    threading.Thread(target=serve, daemon=True).start()
    try:
        stream = create(project, "generic_webhook", {"url": f"http://127.0.0.1:{listener.getsockname()[1]}/"})
        until(lambda: get(project, stream)["lag_events"] == 0)
        assert len(bodies) == 2 and bodies[0] == bodies[1]
    finally:
        listener.close()


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(project, receiver, form):
    def later():
        if form == "seconds":
            return "2"
        return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 3))

    receiver.answer = lambda _: (429, {"Retry-After": later()}, b"") if len(receiver.requests) == 1 else 200
    to_hook(project, receiver)
    receiver.wait_for(lambda requests: len(requests) >= 2)
    assert receiver.requests[1].at - receiver.requests[0].at >= 1.9


def test_a_destination_that_is_down_costs_nothing_but_time(project, receiver):
    receiver.close()
    stream = to_hook(project, receiver)
    project.ingest(*[event() for _ in range(20)])
    shown = until(lambda: (lambda s: s if s["state"] == "retrying" and s["last_error"] else None)(get(project, stream)))
    assert "127.0.0.1" in shown["last_error"] and shown["status"] == "active"
    receiver.open()
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert seqs(receiver.requests) == list(range(1, project.count()))


# --- configuration


@pytest.mark.parametrize("status", [401, 403, 404, 410, 302])
def test_a_configuration_fault_stops_the_stream_until_it_is_changed(project, receiver, status):
    wrong = {"now": True}
    receiver.answer = lambda _: (status, {"Location": "http://169.254.169.254/"}, b"no") if wrong["now"] else 200
    stream = to_hook(project, receiver)
    failed = with_status(project, stream, "failed")
    assert str(status) in failed["last_error"]
    time.sleep(1.5)
    assert len(receiver.requests) == 1, "nothing is tried until somebody says so"
    actions = dict(recorded(project, stream))
    assert actions["audit_stream.revoked"]["reason"].startswith("failed: ")
    assert actions["audit_stream.failed"]["destination"] == "generic_webhook" and actions["audit_stream.failed"]["name"] == "siem-prod"
    assert str(status) in actions["audit_stream.failed"]["error"]
    (alert,) = project.page(f"?type=audit_stream.failed&target={stream['id']}")["data"]
    assert alert["actor"]["type"] == "system" and alert["target_type"] == "audit_stream"
    wrong["now"] = False
    answer = project.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"config": {"format": "ndjson"}})
    assert answer.status == 200 and answer.json()["status"] == "active"
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert seqs(receiver.requests[1:]) == list(range(1, project.count())), "from where it stopped"


def test_resume_tries_once_and_stops_again(project, receiver):
    receiver.answer = lambda _: 401
    stream = to_hook(project, receiver)
    with_status(project, stream, "failed")
    assert steer(project, stream, "resume").status == 200
    receiver.wait_for(lambda requests: len(requests) == 2)
    with_status(project, stream, "failed")
    assert len(receiver.requests) == 2
    receiver.answer = lambda _: 200
    steer(project, stream, "resume")
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert [a for a, _ in recorded(project, stream)].count("audit_stream.failed") == 2


def test_a_stream_that_failed_survives_a_restart_as_it_is(make_server, receiver):
    server = make_server().start()
    project = server.client().new_project()
    receiver.answer = lambda _: 403
    stream = to_hook(project, receiver)
    with_status(project, stream, "failed")
    server.kill()
    server.start()
    time.sleep(0.5)
    assert get(project, stream)["status"] == "failed" and len(receiver.requests) == 1


def test_revoking_and_pausing_begin_no_further_request(project, receiver):
    receiver.answer = lambda _: time.sleep(0.02) or 200
    streams = [to_hook(project, receiver, batch={"max_events": 1}) for _ in range(2)]
    project.ingest(*[event() for _ in range(200)])
    receiver.wait_for(lambda requests: len(requests) > 20)
    assert steer(project, streams[0], "pause").status == 200
    assert project.delete(f"/v1/audit/streams/{streams[1]['id']}").status == 204
    at = time.monotonic()
    time.sleep(0.5)
    late = [r for r in receiver.requests if r.at > at + 0.1]  # what was on its way may still arrive
    assert late == []


# --- poison


def test_a_destination_that_refuses_everything_stops_its_stream(project, receiver):
    receiver.answer = lambda _: 400
    stream = to_hook(project, receiver, start="earliest")
    project.ingest(*[event() for _ in range(300)])
    failed = with_status(project, stream, "failed")
    assert "refuses everything" in failed["last_error"]
    letters = project.get(f"/v1/audit/streams/{stream['id']}/dead-letters?limit=200").json()["data"]
    assert 50 <= len(letters) <= 60
    assert failed["cursor_seq"] == letters[-1]["seq"]


# --- replay


def test_a_range_is_sent_once_more(project, receiver):
    stream = to_hook(project, receiver, start="earliest")
    project.ingest(*[event() for _ in range(30)])
    until(lambda: get(project, stream)["lag_events"] == 0)
    before = len(receiver.requests)
    answer = project.post(f"/v1/audit/streams/{stream['id']}/replay", {"from_seq": 5, "to_seq": 21})
    assert answer.status == 202 and answer.json()["replay_id"].startswith("rpl_")
    until(lambda: "audit_stream.replay_completed" in dict(recorded(project, stream)))
    until(lambda: get(project, stream)["lag_events"] == 0)
    again = [s for s in seqs(receiver.requests[before:]) if s <= 21]
    assert again == list(range(5, 22))
    assert [s["id"] for s in project.get("/v1/audit/streams").json()["data"]] == [stream["id"]], "a replay is no stream"
    for body in ({"from_seq": 5, "to_seq": 4}, {"from_seq": 0, "to_seq": 10**6}, {"from_seq": -1, "to_seq": 4}, {}):
        expect_problem(project.post(f"/v1/audit/streams/{stream['id']}/replay", body), 422)


# --- credentials


def dump(server, expected=b"host.streams"):
    """Everything that the store holds, as bytes."""
    if STORE == "postgres":
        found = subprocess.run([programs() / "pg_dump", server.database], capture_output=True, check=True).stdout
        assert expected in found
        return found
    files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    found = b"".join(path.read_bytes() for path in files)
    assert expected in found
    return found


def test_no_credential_ever_shows(make_server, receiver):
    server = make_server().start()
    project = server.client().new_project()
    receiver.answer = lambda _: 401
    stream = to_hook(project, receiver, {"secret": SECRET})
    with_status(project, stream, "failed")
    path = f"/v1/audit/streams/{stream['id']}"
    texts = [project.get(p).text for p in (path, "/v1/audit/streams", path + "/dead-letters", "/v1/plugins")]
    texts.append(project.request("PATCH", path, {"name": "b"}).text)
    texts.append(json.dumps(project.walk()))
    texts.append(project.get("/metrics", key=False).text)
    assert get(project, stream)["secrets"] == ["secret"]
    server.terminate()
    texts += [server.stderr(), server.stdout()]
    held = dump(server)
    for secret in (SECRET, SECRET.removeprefix("whsec_")):
        assert all(secret not in text for text in texts)
        assert secret.encode() not in held
    server.start()
    receiver.answer = lambda _: 200
    steer(project, stream, "resume")
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert receiver.requests[-1].headers["authio-signature"].startswith("v1="), "it is there all the same"


def test_a_foreign_key_ring_opens_no_credential(make_server, receiver):
    if STORE == "postgres":
        pytest.skip("a node with another ring refuses to start there: test_postgres_nodes")
    server = make_server().start()
    project = server.client().new_project()
    stream = to_hook(project, receiver, {"secret": SECRET})
    until(lambda: get(project, stream)["lag_events"] == 0)
    server.terminate()
    ring = next(path for path in server.data_dir.iterdir() if "key" in path.name)
    ring.write_text("k9:" + "ab" * 32 + "\n")
    server.start()
    project.ingest(event())
    shown = until(lambda: (lambda s: s if s["state"] == "blocked" else None)(get(project, stream)))
    assert "master key" in shown["last_error"]
