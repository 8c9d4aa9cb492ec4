"""Stores that go back in time: a standby that lagged is promoted, a copy is restored. Seqs are then given anew, and no stream may
send the new events behind a destination's back."""

import shutil
import time

import pytest
from annal_server import STORE, Server, event, wait_until
from postgres_cluster import PostgresCluster
from test_audit_streams import get, recorded, seqs, steer, to_file, to_hook
from test_webhooks import bodies, create, deliveries

SETTINGS = "limits:\n  lease_ms: 1000\n"
pytestmark = pytest.mark.sqlite_only  # each test has the store that it needs


@pytest.fixture
def cluster():
    with PostgresCluster(["wal_level = replica"]) as cluster:
        yield cluster


def shown(client, stream):
    """The stream; empty while connections of before the failover are still being found broken."""
    answer = client.get(f"/v1/audit/streams/{stream['id']}")
    return answer.json() if answer.status == 200 else {}


def caught_up(client, stream):
    """All is delivered, and that is recorded."""
    def ended():
        newest = client.get("/v1/audit/events?limit=1")
        return newest.status == 200 and shown(client, stream).get("cursor_seq") == newest.json()["data"][0]["seq"]

    wait_until(ended, 60, "the stream's end")


def await_ready(server):
    wait_until(lambda: server.client().get("/readyz", key=False).status == 200, 60, "the node to be ready")


def ingest_soon(client, *events):
    """As soon as the node has found its database again."""
    wait_until(lambda: client.post("/v1/audit/events", {"events": list(events)}).status in (200, 201, 207), 60, "an event's answer")


def halted(client, stream):
    return wait_until(lambda: (s := shown(client, stream)).get("status") == "failed" and s, 60, "the halt")


def expect_new_events_in_order(client, stream, receiver, known, cursor):
    """After the resumption: everything behind the cursor that the store still knew, under another name."""
    before = len(receiver.requests)
    assert steer(client, stream, "resume").status == 200
    caught_up(client, stream)
    came = receiver.requests[before:]
    assert seqs(came) == list(range(cursor + 1, client.count())), "a gap, or another order"
    exported = client.export_lines()[::-1]
    assert [line for request in came for line in request.body.decode().splitlines()] == exported[cursor + 1:]
    for request in came:
        assert request.headers["idempotency-key"].startswith(stream["id"] + "_r1/")
        assert request.headers["webhook-id"] not in known, "a receiver would take it for one that it has"
    (restarted,) = [m for action, m in recorded(client, stream) if action == "audit_stream.restarted"]
    assert restarted["known_as"] == stream["id"] + "_r1" and restarted["epoch"] != restarted["epoch_before"]


def stream_with_a_copy_behind_it(cluster, server, receiver):
    """A project and its stream, which has delivered events that the copy knows."""
    client = server.client().new_project()
    stream = to_hook(client, receiver, start="earliest")
    client.ingest(*[event("kept.one") for _ in range(5)])
    caught_up(client, stream)
    cluster.keep_copy()
    await_ready(server)
    return client, stream


@pytest.mark.parametrize("restarted", [False, True], ids=["the node goes on", "the node starts anew"])
def test_t8_a_lagging_standby_is_promoted(cluster, receiver, restarted):
    url = cluster.create_database()
    with Server(database=url, settings=SETTINGS) as server:
        client, stream = stream_with_a_copy_behind_it(cluster, server, receiver)
        cursor = get(client, stream)["cursor_seq"]
        assert cursor == client.count() - 1
        wait_until(lambda: shown(client, stream).get("state") == "active", 30, "the stream's lease")
        ingest_soon(client, *[event("lost.one") for _ in range(20)])
        caught_up(client, stream)
        sent = len(receiver.requests)
        known = {request.headers["webhook-id"] for request in receiver.requests}

        cluster.fail_over_to_copy()
        if restarted:
            server.kill()
            server.start()
        await_ready(server)
        ingest_soon(client, *[event("new.one") for _ in range(30)])
        reason = halted(client, stream)["last_error"]
        assert "gone back in time" in reason and "resume" in reason
        time.sleep(1.5)  # longer than a lease
        assert len(receiver.requests) == sent, "nothing is sent of what may be taken for something else"
        actions = [action for action, _ in recorded(client, stream)]
        assert actions.count("audit_stream.failed") == 1 and actions.count("audit_stream.revoked") == 1
        expect_new_events_in_order(client, stream, receiver, known, cursor)
        # From here on all is as ever.
        client.ingest(event("after.all"))
        caught_up(client, stream)
        assert get(client, stream)["status"] == "active"


def test_t8_a_stream_goes_on_by_itself_where_the_operator_says_so(cluster, receiver):
    url = cluster.create_database()
    with Server(database=url, settings=SETTINGS + "after_failover: go_on\n") as server:
        client, stream = stream_with_a_copy_behind_it(cluster, server, receiver)
        ingest_soon(client, *[event("lost.one") for _ in range(20)])
        caught_up(client, stream)
        before = len(receiver.requests)
        cluster.fail_over_to_copy()
        await_ready(server)
        ingest_soon(client, *[event("new.one") for _ in range(3)])
        caught_up(client, stream)
        came = [line for request in receiver.requests[before:] for line in request.body.decode().splitlines()]
        exported = client.export_lines()[::-1]
        assert came == exported[-len(came):] and sum('"new.one"' in line for line in came) == 3


def test_t8_webhooks_miss_nothing_that_is_recorded_after_it(cluster, receiver):
    """Every delivery has its event's own id, which is never given twice: endpoints go on."""
    url = cluster.create_database()
    with Server(database=url, settings=SETTINGS) as server:
        client = server.client().new_project()
        create(client, receiver, ["*"])
        client.ingest(*[event("kept.one") for _ in range(5)])
        receiver.wait_for(lambda requests: len(requests) >= 5)
        wait_until(lambda: deliveries(client, "?status=pending") == [], 30, "what came of them")
        cluster.keep_copy()
        await_ready(server)
        ingest_soon(client, *[event("lost.one") for _ in range(20)])
        receiver.wait_for(lambda requests: sum(b["action"] == "lost.one" for b in bodies(requests)) == 20)
        cluster.fail_over_to_copy()
        await_ready(server)
        ingest_soon(client, *[event("new.one") for _ in range(30)])
        new = {e["id"] for e in client.walk("?type=new.one")}
        assert len(new) >= 30
        receiver.wait_for(lambda requests: new <= {request.headers["webhook-id"] for request in requests})
        wait_until(lambda: deliveries(client, "?status=pending") == [], 30, "what came of them")
        by_id = {}
        for request in receiver.requests:
            assert by_id.setdefault(request.headers["webhook-id"], request.body) == request.body


@pytest.mark.skipif(STORE != "sqlite", reason="of the embedded store")
def test_t8_a_restored_copy(make_server, receiver):
    server = make_server().start()
    client = server.client().new_project()
    hook = to_hook(client, receiver, start="earliest")
    path = server.folder / "out.jsonl"
    file = to_file(client, path)
    client.ingest(*[event("kept.one") for _ in range(5)])
    for stream in (hook, file):
        caught_up(client, stream)
    cursor = get(client, hook)["cursor_seq"]
    copy = server.folder / "copy-of-data"
    assert server.cli("backup", "--output", copy).returncode == 0
    client.ingest(*[event("lost.one") for _ in range(20)])
    for stream in (hook, file):
        caught_up(client, stream)
    sent, written = len(receiver.requests), path.read_text()
    known = {request.headers["webhook-id"] for request in receiver.requests}

    server.terminate()
    shutil.rmtree(server.data_dir)
    copy.rename(server.data_dir)
    server.start()
    client.ingest(*[event("new.one") for _ in range(30)])
    assert "gone back in time" in halted(client, hook)["last_error"]
    assert "make a new stream" in halted(client, file)["last_error"]
    assert len(receiver.requests) == sent
    # Another start of the same copy is no other copy.
    server.restart()
    expect_new_events_in_order(client, hook, receiver, known, cursor)
    assert steer(client, file, "resume").status == 200
    assert "make a new stream" in halted(client, file)["last_error"]
    assert path.read_text() == written, "a file that knows its own position takes nothing that it may have"
