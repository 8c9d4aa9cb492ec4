"""A store that can't write: nothing is acknowledged that is not durable, the failure is told, reads go on."""

import json
import signal

import pytest
from annal_server import PROJECT, event, expect_problem, wait_until

BIG = "x" * 60_000


@pytest.fixture
def full_disk(make_server):
    """A server whose files can't grow beyond 3 MiB, filled up to there; the client, and what was acknowledged."""
    server = make_server()
    server.file_size_max = 3 << 20
    server.start()
    client = server.client()
    acknowledged = []
    for i in range(200):
        answer = client.post("/v1/audit/events", event("fill.up", external_id=str(i), metadata={"big": BIG}))
        if answer.status != 201:
            break
        acknowledged.append(str(i))
    else:
        raise AssertionError("12 MB went into files that may have 3 MiB")
    return server, client, acknowledged, answer


def test_a_write_that_fails_is_503_and_reads_go_on(full_disk):
    server, client, acknowledged, refused = full_disk
    expect_problem(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1
    for _ in range(3):
        again = client.post("/v1/audit/events", {"events": [event(metadata={"big": BIG})] * 20})
        expect_problem(again, 503)
    assert server.running()
    stored = [json.loads(line)["external_id"] for line in client.export_lines("?type=fill.*")][::-1]
    assert stored == acknowledged
    assert client.get("/healthz", key=False).status == 200
    assert [e["seq"] for e in client.walk()] == list(range(len(acknowledged), -1, -1))


def test_an_async_write_that_fails_is_a_warning_and_a_counter(full_disk):
    server, client, acknowledged, _ = full_disk
    assert (client.metric("annal_ingest_async_failures_total") or 0) == 0
    body = {"events": [event("lost.one", metadata={"big": BIG})] * 20}
    answer = client.post("/v1/audit/events", body, headers={"Prefer": "respond-async"})
    assert answer.status == 202, answer
    warning = wait_until(lambda: server.logs("ingest.async_write_failed"), what="the warning")[0]
    assert warning["level"] == "warn"
    assert warning["project"] == PROJECT
    assert warning["request_id"] == answer.headers["annal-request-id"]
    assert BIG[:100] not in json.dumps(warning)
    assert wait_until(lambda: client.metric("annal_ingest_async_failures_total"), what="the counter") >= 1
    assert client.page("?type=lost.*")["data"] == []
    assert client.count() == len(acknowledged) + 1


@pytest.mark.parametrize("how", ["at once", "after a restart"])
def test_it_goes_on_once_there_is_room(full_disk, how):
    server, client, acknowledged, _ = full_disk
    if how == "at once":
        server.lift_file_size_limit()
    else:
        server.terminate()
        server.file_size_max = None
        server.start()
    client = server.client()
    receipt = client.ingest(event("after.all", metadata={"big": BIG}))[0]
    assert receipt["seq"] == len(acknowledged) + 1
    stored = [json.loads(line) for line in client.export_lines()][::-1]
    assert [e["seq"] for e in stored] == list(range(len(acknowledged) + 2))
    assert [e["external_id"] for e in stored if e["action"] == "fill.up"] == acknowledged


def test_a_key_that_can_not_be_stored_is_not_handed_out(full_disk):
    server, client, *_ = full_disk
    before = client.get("/v1/api-keys").json()["data"]
    answers = [client.post("/v1/api-keys", {"name": "n" * 128, "scopes": ["audit:read"]}) for _ in range(3)]
    for answer in answers:
        assert answer.status in (201, 503), answer  # the last bytes of room may still hold one
    made = [a.json()["id"] for a in answers if a.status == 201]
    assert [k["id"] for k in client.get("/v1/api-keys").json()["data"]] == made[::-1] + [k["id"] for k in before]


def test_a_full_queue_is_429_with_retry_after(make_server):
    """The project's share of the append queue is its own limit: others are served."""
    from concurrent.futures import ThreadPoolExecutor
    server = make_server(settings="limits:\n  project_queue_bytes: 64KiB\n").start()
    root = server.client()
    busy, calm = root.new_project(), root.new_project()
    body = {"events": [event(metadata={"big": "x" * 20_000})] * 40}
    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(busy.post, "/v1/audit/events", body) for _ in range(64)]
        others = [calm.post("/v1/audit/events", event()) for _ in range(10)]
        answers = [f.result() for f in futures]
    assert {a.status for a in answers} == {201, 429}
    for answer in answers:
        if answer.status == 429:
            expect_problem(answer, 429)
            assert int(answer.headers["retry-after"]) >= 1
    assert {a.status for a in others} == {201}
    accepted = sum(a.status == 201 for a in answers)
    assert busy.count() == 1 + 40 * accepted


def test_a_pipe_without_a_reader_does_not_end_the_node(server):
    """What a write to a peer that is gone raises, where a library asks the system for no other answer."""
    server.process.send_signal(signal.SIGPIPE)
    assert server.client().post("/v1/audit/events", event()).status == 201
    assert server.running()
