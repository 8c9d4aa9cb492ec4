"""What two nodes on one database tell each other: live tails, and an ordered stream that goes from one to the other."""

import json
import signal
import time

import pytest
from annal_server import MANIFESTS, PROJECT, Server, event, wait_until
from event_stream import POLL_S, EventStream
from lease_samples import LeaseSamples
from posting import Load
from tcp_proxy import TcpProxy

LEASE_S = 1.0
SETTINGS = f"limits:\n  lease_ms: {int(LEASE_S * 1000)}\n"
# A slow machine's share of what takes milliseconds.
SLACK_S = 4.0
# Until PostgreSQL ends the transaction of a node that froze within it, which may have locked the lease's row.
CUT_OFF_S = 5.0
# Until another goes on for it.
OUTLIVED_S = max(LEASE_S * 4 / 3, CUT_OFF_S) + SLACK_S

# Each node has a file of its own: the path is relative to its working directory.
MANIFEST = f"""\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: stream}}
spec:
  library: {{name: sink_file}}
  config: {{path: ./out.jsonl}}
  triggers:
    - name: all
      events: {{project: {PROJECT}, patterns: ["*"], from: earliest, batch: {{maxEvents: 20}}}}
"""


def node_on(url, name, **more):
    """A node that PostgreSQL knows by its name."""
    return Server(database=f"{url}&application_name={name}", settings=SETTINGS, **more)


def seen_within(tail, posted_at, seconds):
    """The next message, which must come within so long after `posted_at`."""
    message = tail.take(1)[0]
    took = time.monotonic() - posted_at
    assert took < seconds, f"{message.event} came after {took:.2f} s"
    return message


# --- Live tails


@pytest.fixture(scope="module")
def nodes(postgres_cluster):
    url = postgres_cluster.create_database()
    with node_on(url, "a") as a, node_on(url, "b") as b:
        yield a, b


def test_a_tail_sees_at_once_what_the_other_node_stores(nodes):
    a, b = nodes
    here = a.client().new_project()
    there = b.client(here.secret, here.project)
    with Load(b.client()), EventStream(there, "?type=at.a") as tail:
        tail.open()
        for i in range(50):
            posted = time.monotonic()
            receipt = here.ingest(event("at.a"))[0]
            assert seen_within(tail, posted, 1.0).id == str(receipt["seq"])


@pytest.mark.parametrize("deaf", ["a", "b"])
def test_a_wake_up_that_is_lost_is_made_up_for(postgres_cluster, nodes, deaf):
    a, b = nodes
    here = a.client().new_project()
    there = b.client(here.secret, here.project)
    listener = ("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
                f"AND pid <> pg_backend_pid() AND application_name = '{deaf}' AND query ~ 'LISTEN|pg_notify'")
    with EventStream(there) as tail:
        tail.open()
        assert postgres_cluster.sql(a.database, listener) == "1"
        posted = time.monotonic()
        receipt = here.ingest(event("at.a"))[0]
        assert seen_within(tail, posted, POLL_S + 1).id == str(receipt["seq"])


def test_a_wake_up_whose_sending_failed_is_sent_again(postgres_cluster, nodes):
    """By the node itself: sooner than others would look."""
    a, _ = nodes
    name = postgres_cluster.sql(a.database, "SELECT current_database()")
    with TcpProxy(postgres_cluster.socket_path) as proxy, Server(database=proxy.url(name)) as c:
        here = c.client().new_project()
        with EventStream(a.client(here.secret, here.project)) as tail:
            tail.open()
            proxy.cut_on(b"pg_notify", lost="request")
            posted = time.monotonic()
            receipt = here.ingest(event("at.c"))[0]
            assert proxy.await_cut()
            assert seen_within(tail, posted, POLL_S - 1).id == str(receipt["seq"])


# --- The stream


def stream_state(server):
    return server.client().get("/v1/plugins").json()["streams"][0]["state"]


def await_state(server, state, seconds=SLACK_S):
    wait_until(lambda: stream_state(server) == state, seconds, f"the stream to be {state}")


def lines_of(server):
    """What the node's sink has written; a torn last line of a killed one does not count."""
    path = server.folder / "out.jsonl"
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def seqs_of(lines):
    return [json.loads(line)["seq"] for line in lines]


@pytest.fixture
def streaming(postgres_cluster, tmp_path):
    """Two nodes with the same stream, the first its owner; and the samples of its lease."""
    manifest = tmp_path / "stream.yaml"
    manifest.write_text(MANIFEST)
    url = postgres_cluster.create_database()
    a, b = (node_on(url, name, manifests=[manifest]) for name in "ab")
    frozen = []
    try:
        a.start()
        await_state(a, "active", SLACK_S + LEASE_S)
        b.start()
        with LeaseSamples(url) as samples:
            yield a, b, samples, frozen
        for node in frozen:
            node.process.send_signal(signal.SIGCONT)
        for node in (a, b):
            node.terminate()
    finally:
        for node in (a, b):
            node.kill()
            node.remove()


def test_a_node_that_freezes_within_a_transaction_is_cut_off(streaming, postgres_cluster):
    """What it has locked, the lease's row among it, is free again soon."""
    a, b, samples, frozen = streaming
    await_state(b, "standby")
    within = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'a' "
              "AND state = 'idle in transaction' AND query ~ 'INSERT'")
    with Load(b.client(), b.client()) as load:
        load.await_progress(20)

        def caught():
            a.process.send_signal(signal.SIGSTOP)
            time.sleep(0.05)  # for PostgreSQL to end the statement
            if postgres_cluster.sql(a.database, within) == "1":
                return True
            a.process.send_signal(signal.SIGCONT)
            return False

        wait_until(caught, 30, "a freeze within a transaction")
        frozen.append(a)
        await_state(b, "active", OUTLIVED_S)
        taken_over = samples.latest()[1]
        wait_until(lambda: samples.latest()[1] > taken_over, what="the cursor to go on")
        a.process.send_signal(signal.SIGCONT)
        frozen.clear()
        await_state(a, "standby")
        load.await_progress(20)
    load.expect_kept(b.client())
    samples.expect_monotonic()


def test_a_stream_goes_from_node_to_node_and_loses_nothing(streaming):
    a, b, samples, frozen = streaming
    await_state(b, "standby")
    with Load(b.client(), b.client()) as load:
        load.await_progress(20)
        assert (stream_state(a), stream_state(b)) == ("active", "standby")
        wait_until(lambda: samples.latest()[1] > 10, what="the cursor to move")

        # The owner dies.
        a.kill()
        first_tenure = lines_of(a)
        await_state(b, "active", LEASE_S * 4 / 3 + SLACK_S)
        took_over = samples.latest()
        wait_until(lambda: samples.latest()[1] > took_over[1], what="the cursor to go on")
        load.await_progress(20)
        assert len(lines_of(a)) == len(first_tenure)

        # It comes back, and finds the stream taken.
        a.start()
        await_state(a, "standby")
        assert stream_state(b) == "active"
        load.await_progress(20)

        # The new owner hangs in the middle of its work.
        frozen.append(b)
        b.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        await_state(a, "active", OUTLIVED_S)
        at_takeover = samples.latest()[1]
        last = a.client().ingest(*(event("while.frozen") for _ in range(50)))[-1]["seq"]
        wait_until(lambda: samples.latest()[1] >= last, what="the cursor to pass the frozen node's")
        assert last > at_takeover
        time.sleep(max(0.0, stopped + 3 * LEASE_S - time.monotonic()))
        b.process.send_signal(signal.SIGCONT)
        frozen.clear()
        await_state(b, "standby")
        wait_until(lambda: b.logs("stream.lease_lost"), what="the loss to be told")
        assert b.client().ingest(event("after.thawing"))
        load.await_progress(20)
        assert (stream_state(a), stream_state(b)) == ("active", "standby")
    load.expect_kept(a.client())

    stored = a.client().export_lines()[::-1]
    head = len(stored) - 1
    wait_until(lambda: samples.latest()[1] == head, what="the stream's end")
    samples.expect_monotonic()
    assert samples.count > 100
    assert len({fence for fence, _ in samples.found}) == 3, "one fence for each tenure"

    # A tenure's part of its node's file. What the sink held already when a tenure began is a part of an earlier one.
    tenures = [first_tenure, lines_of(b), lines_of(a)[len(first_tenure):]]
    fences = sorted({fence for fence, _ in samples.found})
    delivered = set()
    for fence, lines in zip(fences, tenures):
        seqs = seqs_of(lines)
        assert seqs and all(a < b for a, b in zip(seqs, seqs[1:])), "within a tenure seqs rise"
        assert [stored[seq] for seq in seqs] == lines, "every time the same bytes"
        if delivered:
            cursor = samples.cursor_at_takeover(fence)
            assert min(seqs) == cursor + 1, "a tenure begins behind the cursor that it finds"
        delivered.update(seqs)
    assert delivered == set(range(head + 1)), "a gap"
