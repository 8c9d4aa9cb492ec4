"""What audit streams and webhooks promise, each tried in the way that breaks those who only seem to keep it.

T1 to T3 are about commits that come late, not at all, or beside others; T4 to T6 about nodes that die, freeze or have another
time; T9 and T10 about what a destination refuses and what nobody wants any more. T7 is about a store that forgets: see
stream_outcome_test.cpp and webhooks_test.cpp.
"""

import os
import signal
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime

import pytest
from annal_server import STORE, event, wait_until
from delivered import expect_no_loss_no_disorder, expect_same_bytes, in_time
from lease_samples import LeaseSamples
from posting import Load
from scripted_receiver import Receiver
from shifted_clock import shifted
from tcp_proxy import TcpProxy
import test_audit_stream_nodes as stream_nodes
import test_audit_streams as streams
import test_webhook_nodes as webhook_nodes
import test_webhooks as webhooks
from test_stream_outcomes import Scripted, delivered

postgres_only = pytest.mark.skipif(STORE != "postgres", reason="one node has SQLite's files for itself")

LEASE_S = 1.0
LEASES = f"limits:\n  lease_ms: {int(LEASE_S * 1000)}\n"
# A slow machine's share of what takes milliseconds.
SLACK_S = 15
# What a transaction that writes begins with, and one that reads does not.
BEGIN_OF_WRITING = b"idle_in_transaction_session_timeout"


# --- the two kinds of delivery, as far as they promise the same


class StreamDelivery:
    """An audit stream over HTTP that begins with its project's first event."""

    lease = "stream.%"
    lease_lost = "stream.lease_lost"
    at_once = 1  # requests under way

    def __init__(self, project, receiver, **more):
        self.receiver = receiver
        self.made = streams.to_hook(project, receiver, start="earliest", **({"batch": {"max_events": 20}} | more))

    def has(self, receipts):
        """Whether all of these have come."""
        return {r["seq"] for r in receipts} <= set(streams.seqs(self.receiver.requests))

    def await_end(self, project):
        """Until all is delivered and that is recorded."""
        wait_until(lambda: streams.get(project, self.made)["cursor_seq"] == project.count() - 1, 60, "the stream's end")

    def expect_all(self, project):
        """Nothing lost, nothing out of order, nothing twice but as the same bytes; how much came again."""
        return expect_no_loss_no_disorder(in_time(self.receiver.requests), project.export_lines()[::-1])

    def owner_of(self, nodes, both):
        """The number of the node that delivers, the other one being on stand-by."""
        return nodes.index(stream_nodes.owner_of(nodes, both, self.made)[0])

    def stands_by(self, project):
        return streams.get(project, self.made)["state"] == "standby"

    def revoke(self, project):
        return project.delete(f"/v1/audit/streams/{self.made['id']}")

    def lacks(self, project):
        """How many events it has not sent."""
        return project.count() - 1 - streams.get(project, self.made)["cursor_seq"]


class WebhookDelivery:
    """A webhook endpoint that gets the posted events, all of which come after its creation."""

    lease = "webhooks"
    lease_lost = "webhook.lease_lost"
    at_once = 32

    def __init__(self, project, receiver):
        self.receiver = receiver
        self.made = webhooks.create(project, receiver, ["load.*"])

    def wanted(self, project):
        return [e["id"] for e in project.walk() if e["action"].startswith("load.")]

    def has(self, receipts):
        return {r["id"] for r in receipts} <= set(webhooks.ids(self.receiver.requests))

    def await_end(self, project):
        wanted = set(self.wanted(project))
        self.receiver.wait_for(lambda requests: wanted <= set(webhooks.ids(requests)))
        wait_until(lambda: webhooks.deliveries(project, "?status=pending") == [], 60, "what came of them")

    def expect_all(self, project):
        return expect_same_bytes(self.receiver.requests, self.wanted(project))

    def owner_of(self, nodes, both):
        return webhook_nodes.owner_of(nodes, both)

    def stands_by(self, project):
        return webhook_nodes.standby(project) == 1

    def revoke(self, project):
        return project.delete(f"{webhooks.ENDPOINTS}/{self.made['id']}")

    def lacks(self, project):
        return len(self.wanted(project)) - len(set(webhooks.ids(self.receiver.requests)))


each_kind = pytest.mark.parametrize("kind", [StreamDelivery, WebhookDelivery], ids=["stream", "webhook"])


def receipts_of(*loads):
    return [receipt for load in loads for poster in load.posters for receipt in poster.acknowledged]


def load_events(count):
    return [event("load.posted") for _ in range(count)]


class Gate:
    """Keeps every answer back until it is opened; then all that came is taken."""

    def __init__(self):
        self.opened = threading.Event()
        self.lock = threading.Lock()
        self.held = 0

    def __call__(self, _):
        with self.lock:
            self.held += 1
        self.opened.wait(120)
        return 200

    def open(self):
        self.opened.set()


@pytest.fixture
def receivers():
    """Makes receivers that end with the test."""
    with ExitStack() as stack:
        def make():
            receiver = Receiver()
            stack.callback(receiver.close)
            return receiver

        yield make


# --- T1 to T3: commits


# At the end of a commit, before anybody sees it: waits while its project is held, or fails by chance.
AT_COMMIT = """
CREATE TABLE test_holds (project_id text PRIMARY KEY);
CREATE TABLE test_chance (of_failure float NOT NULL);
CREATE SEQUENCE test_failures;
CREATE FUNCTION test_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM test_holds WHERE project_id = NEW.project_id) LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    IF random() < (SELECT max(of_failure) FROM test_chance) THEN
        CASE nextval('test_failures') % 4
            WHEN 0 THEN RAISE 'not now' USING ERRCODE = 'serialization_failure';
            WHEN 1 THEN RAISE 'not now' USING ERRCODE = 'deadlock_detected';
            WHEN 2 THEN RAISE 'not now' USING ERRCODE = 'disk_full';
            ELSE PERFORM pg_terminate_backend(pg_backend_pid());
        END CASE;
    END IF;
    RETURN NULL;
END $$;
"""
TRIGGER = """
CREATE CONSTRAINT TRIGGER test_at_commit AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION test_at_commit();
"""
# Appends; and commits that move a cursor or record what came of an attempt.
APPENDS, OTHERS = TRIGGER.format("event_batches"), TRIGGER.format("commit_marks")
ASLEEP = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"


@contextmanager
def held_commits(cluster, database, project):
    """No commit of the project that the triggers see ends within the block."""
    cluster.sql(database, f"INSERT INTO test_holds VALUES ('{project.project}')")
    try:
        yield
    finally:
        cluster.sql(database, "DELETE FROM test_holds")


def await_held(cluster, database):
    """Which commit is held."""
    return wait_until(lambda: cluster.sql(database, "SELECT pid, xact_start " + ASLEEP), SLACK_S, "a commit to be held")


@postgres_only
@each_kind
def test_t1_a_commit_that_takes_long_loses_nothing_and_holds_up_nobody_else(
        postgres_cluster, postgres_database, make_server, receivers, kind):
    here = make_server(database=postgres_database).start()
    slow, *others = projects = [here.client().new_project() for _ in range(8)]
    deliveries = [kind(project, receivers()) for project in projects]
    there = make_server(database=postgres_database).start()  # only now, so that the first node delivers for all of them
    slow_there = there.client(slow.secret, slow.project)
    postgres_cluster.sql(postgres_database, AT_COMMIT + APPENDS)
    loads = [Load(project, name=f"other{n}.") for n, project in enumerate(others)]
    first, second = Load(slow_there, slow_there, name="there"), Load(slow, slow, name="here")
    with ExitStack() as running:
        for load in [*loads, first]:
            running.enter_context(load)
        for load in [*loads, first]:
            load.await_progress(5)
        with held_commits(postgres_cluster, postgres_database, slow):
            begun = time.monotonic()
            held = await_held(postgres_cluster, postgres_database)
            running.enter_context(second)
            before, head = len(receipts_of(first)), slow.count()
            for load, delivery in zip(loads, deliveries[1:]):
                load.await_progress(5)
                stored = receipts_of(load)
                wait_until(lambda: delivery.has(stored), SLACK_S, "the others' deliveries")
            time.sleep(max(0.0, begun + 3 - time.monotonic()))
            assert held == await_held(postgres_cluster, postgres_database), "others have waited for it to time out"
            assert len(receipts_of(first)) == before and receipts_of(second) == [] and slow.count() == head, \
                "nobody gets a number behind a commit that is open"
        for load in (first, second):
            load.await_progress(5)
    for load in [*loads, first, second]:
        load.expect_no_surprise()
    stored = receipts_of(first, second)
    for project, delivery in zip(projects, deliveries):
        delivery.await_end(project)
        assert delivery.expect_all(project) == 0, "nothing twice"
    assert deliveries[0].has(stored)
    for load, project in zip(loads, others):
        load.expect_kept(project)


@postgres_only
@each_kind
def test_t1b_a_snapshot_that_is_held_open_stops_no_delivery(postgres_cluster, server, project, receiver, kind):
    delivery = kind(project, receiver)
    count = "SELECT count(*) FROM event_batches"
    with postgres_cluster.session(server.database) as session:
        session.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
        seen = session.run(count)
        with Load(*[project] * 4) as load:
            for _ in range(4):
                load.await_progress(25)
                stored = receipts_of(load)
                wait_until(lambda: delivery.has(stored), SLACK_S, "what was stored meanwhile")
        delivery.await_end(project)
        assert session.run(count) == seen, "it is the same snapshot still"
    load.expect_kept(project)
    assert delivery.expect_all(project) == 0


@postgres_only
@each_kind
def test_t2_commits_that_fail_at_random_leave_no_hole(postgres_cluster, postgres_database, make_server, receivers, kind):
    nodes = [make_server(database=postgres_database).start() for _ in range(2)]
    projects = [nodes[0].client().new_project() for _ in range(3)]
    deliveries = [kind(project, receivers()) for project in projects]
    postgres_cluster.sql(postgres_database, AT_COMMIT + APPENDS + OTHERS + "INSERT INTO test_chance VALUES (0.3)")
    loads = [Load(*(node.client(p.secret, p.project) for node in nodes), name=f"poster{n}.") for n, p in enumerate(projects)]
    with ExitStack() as running:
        for load in loads:
            running.enter_context(load)
        for load in loads:
            load.await_progress(15)
    assert int(postgres_cluster.sql(postgres_database, "SELECT last_value FROM test_failures")) > 20
    postgres_cluster.sql(postgres_database, "UPDATE test_chance SET of_failure = 0")
    for load, project, delivery in zip(loads, projects, deliveries):
        load.expect_kept(project)
        delivery.await_end(project)
        assert delivery.expect_all(project) == 0, "what was rolled back is done again, not sent again"


@postgres_only
@each_kind
def test_t3_transactions_of_others_are_not_waited_for(postgres_cluster, server, project, receiver, kind):
    """Open ones that have written, in another database of the cluster and in the same one."""
    delivery = kind(project, receiver)
    with ExitStack() as stack:
        for database in (postgres_cluster.create_database(), server.database):
            session = stack.enter_context(postgres_cluster.session(database))
            session.run("BEGIN; CREATE TABLE test_bystander (n int); INSERT INTO test_bystander VALUES (1)")
        for _ in range(10):
            stored = project.ingest(*load_events(3))
            wait_until(lambda: delivery.has(stored), SLACK_S, "the delivery")
        delivery.await_end(project)
    assert delivery.expect_all(project) == 0


# --- T4 to T6: nodes


def held_requests(project, receiver):
    """Has requests under way that are not answered, and more events behind them that another batch would have in it."""
    gate = receiver.answer = Gate()
    project.ingest(*load_events(7))
    receiver.wait_for(lambda _: gate.held > 0)
    project.ingest(*load_events(5))
    return gate


def answer_held(receiver, gate):
    """Lets 200 be said to all, who may read it or not; what comes later is answered at once."""
    sent = len(receiver.requests)
    receiver.answer = lambda _: 200
    gate.open()
    receiver.wait_for(lambda _: receiver.answered >= sent)


@each_kind
def test_t4_what_was_taken_when_the_node_died_comes_again_as_it_was(make_server, receiver, kind):
    """The answer stands in the socket of a process that does not read it any more."""
    server = make_server(settings=LEASES).start()
    project = server.client().new_project()
    delivery = kind(project, receiver)
    project.ingest(*load_events(3))
    for kill in range(1, 4):
        delivery.await_end(project)
        gate = held_requests(project, receiver)
        server.process.send_signal(signal.SIGSTOP)
        answer_held(receiver, gate)
        server.kill()
        server.start()
        delivery.await_end(project)
        assert delivery.expect_all(project) >= kill


@postgres_only
@each_kind
def test_t4_what_was_taken_but_not_recorded_comes_again_as_it_was(
        postgres_cluster, postgres_database, make_server, receiver, kind):
    """The node has read the answer and dies in the commit that records it."""
    server = make_server(database=postgres_database, settings=LEASES).start()
    project = server.client().new_project()
    delivery = kind(project, receiver)
    postgres_cluster.sql(postgres_database, AT_COMMIT + OTHERS)
    for kill in range(1, 3):
        delivery.await_end(project)
        gate = held_requests(project, receiver)
        with held_commits(postgres_cluster, postgres_database, project):
            answer_held(receiver, gate)
            await_held(postgres_cluster, postgres_database)
            server.kill()
            postgres_cluster.sql(postgres_database, "SELECT pg_terminate_backend(pid) " + ASLEEP)
        server.start()
        delivery.await_end(project)
        assert delivery.expect_all(project) >= kill


@postgres_only
@each_kind
def test_t5_a_node_that_froze_beyond_its_lease_changes_nothing(postgres_database, nodes, both, receiver, kind):
    delivery = kind(both[0], receiver)
    both[0].ingest(*load_events(3))
    with LeaseSamples(postgres_database, delivery.lease) as samples:
        for _ in range(2):  # the second time the other way round
            delivery.await_end(both[0])
            at = delivery.owner_of(nodes, both)
            frozen, other = nodes[at], both[1 - at]
            losses = len(frozen.logs(delivery.lease_lost))
            gate = held_requests(other, receiver)
            os.kill(frozen.process.pid, signal.SIGSTOP)
            try:
                answer_held(receiver, gate)  # for it to read later
                other.ingest(*load_events(30))
                delivery.await_end(other)
            finally:
                os.kill(frozen.process.pid, signal.SIGCONT)
            expect_stale(delivery, frozen, losses, both[at])
    expect_kept_once(delivery, both[0], samples, 2)


@postgres_only
@each_kind
def test_t5_what_a_node_had_on_its_way_to_the_database_changes_nothing(
        postgres_cluster, postgres_database, make_server, receiver, kind):
    """It was in time when it began to record what was taken; that arrives when another node has gone on."""
    name = postgres_cluster.sql(postgres_database, "SELECT current_database()")
    with TcpProxy(postgres_cluster.socket_path) as proxy:
        owner = make_server(database=proxy.url(name), settings=LEASES).start()
        project = owner.client().new_project()
        delivery = kind(project, receiver)
        next_one = make_server(database=postgres_database, settings=LEASES).start()
        other = next_one.client(project.secret, project.project)
        with LeaseSamples(postgres_database, delivery.lease) as samples:
            project.ingest(*load_events(3))
            delivery.await_end(project)
            losses = len(owner.logs(delivery.lease_lost))
            gate = held_requests(project, receiver)
            proxy.stall_on(BEGIN_OF_WRITING)
            answer_held(receiver, gate)
            assert proxy.await_cut()
            other.ingest(*load_events(30))
            delivery.await_end(other)
            proxy.resume()
            expect_stale(delivery, owner, losses, project)
        expect_kept_once(delivery, project, samples, 1)
        owner.terminate()


def expect_stale(delivery, node, losses, client):
    """The node finds out that it is not the owner any more, and takes part in the rest."""
    wait_until(lambda: len(node.logs(delivery.lease_lost)) > losses, SLACK_S, "the loss to be told")
    wait_until(lambda: delivery.stands_by(client), SLACK_S, "it to stand by")
    client.ingest(*load_events(5))
    delivery.await_end(client)


def expect_kept_once(delivery, project, samples, again):
    assert delivery.expect_all(project) >= again
    samples.expect_monotonic()
    if isinstance(delivery, WebhookDelivery):
        assert {d["attempts"] for d in webhooks.deliveries(project, "?limit=200")} == {1}, "what the stale one sent is not recorded"


# Who takes a lease from whom, and when by the database's clock. One that was released has no owner any more.
TAKEOVERS = """
CREATE TABLE test_takeovers (name text, lease_until timestamptz, at timestamptz);
CREATE FUNCTION test_takeover() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO test_takeovers VALUES (OLD.name, OLD.lease_until, clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER test_takeover AFTER UPDATE ON leases FOR EACH ROW
    WHEN (OLD.owner <> '' AND NEW.owner <> '' AND NEW.owner <> OLD.owner) EXECUTE FUNCTION test_takeover();
"""


@postgres_only
@each_kind
def test_t6_nodes_two_hours_apart_take_the_lease_when_it_is_due(
        postgres_cluster, postgres_database, make_server, receiver, kind):
    """One is an hour ahead of the database, the other an hour behind."""
    nodes = [make_server(database=postgres_database, settings=LEASES, env=shifted(hours=hours)) for hours in (1, -1)]
    project = nodes[0].start().client().new_project()
    delivery = kind(project, receiver)
    postgres_cluster.sql(postgres_database, TAKEOVERS)
    both = [project, nodes[1].start().client(project.secret, project.project)]
    for node, ahead_s in zip(nodes, (3600, -3600)):
        assert abs(time_of(node) - time.time() - ahead_s) < 60, "its clock is what it is told"

    def lease(what):
        return postgres_cluster.sql(postgres_database, f"SELECT {what} FROM leases WHERE name LIKE '{delivery.lease}'")

    def lease_until():
        return float(lease("extract(epoch FROM lease_until)"))

    def takeovers():
        """How many seconds after the end of the lease each was."""
        return [float(line) for line in postgres_cluster.sql(
            postgres_database, "SELECT extract(epoch FROM at - lease_until) FROM test_takeovers "
            f"WHERE name LIKE '{delivery.lease}' ORDER BY at").splitlines()]

    for turn, owner in enumerate([0, 1]):
        other = both[1 - owner]
        wait_until(lambda: delivery.stands_by(other), SLACK_S, "the other to stand by")
        # Nobody takes it from its owner while that renews it.
        fence, until = lease("fence"), lease_until()
        with Load(*both, name=f"poster{turn}.") as load:
            wait_until(lambda: lease_until() > until + 2 * LEASE_S, SLACK_S, "renewals")
            load.await_progress(5)
        load.expect_no_surprise()
        delivery.await_end(both[owner])
        assert lease("fence") == fence and len(takeovers()) == turn and delivery.stands_by(other)
        nodes[owner].kill()
        other.ingest(*load_events(3))
        delivery.await_end(other)
        assert len(takeovers()) == turn + 1
        assert 0 <= takeovers()[-1] < LEASE_S + SLACK_S, "neither before the lease was over nor long after"
        nodes[owner].start()
    assert delivery.expect_all(project) == 0, "nothing twice"


def time_of(server):
    """Seconds since 1970, as the node has them."""
    made = server.client().post("/v1/projects", {"name": "Time"}).json()["created_at"]
    return datetime.fromisoformat(made.replace("Z", "+00:00")).timestamp()


# --- T9: what a destination refuses


@pytest.mark.parametrize("status", [400, 422])
def test_t9_a_refused_event_is_put_aside_listed_and_redriven(project, receiver, status):
    poison = {"on": True}
    receiver.answer = Scripted(lambda r: (status, {}, b"field missing") if poison["on"] and b"poison" in r.body else 200)
    stream = streams.to_hook(project, receiver)
    bad = {}
    for n in range(60):
        (receipt,) = project.ingest(event("test.poison" if n in (17, 41) else "test.fine"))
        if n in (17, 41):
            bad[receipt["seq"]] = receipt["id"]
    streams.until(lambda: streams.get(project, stream)["lag_events"] == 0)
    taken = delivered(receiver.requests, receiver.answer.statuses)
    assert taken == [s for s in range(1, project.count()) if s not in bad]
    path = f"/v1/audit/streams/{stream['id']}/dead-letters"
    letters = project.get(path).json()
    assert [(d["seq"], d["event_id"], d["status"], d["attempts"]) for d in letters["data"]] == [
        (seq, bad[seq], "dead", 1) for seq in sorted(bad)]
    assert all(str(status) in d["reason"] and "field missing" in d["reason"] for d in letters["data"])
    page = project.get(path + "?limit=1").json()
    assert page["has_more"] and len(page["data"]) == 1
    rest = project.get(f"{path}?limit=1&cursor={page['next_cursor']}").json()
    assert [d["seq"] for d in rest["data"]] == sorted(bad)[1:] and not rest["has_more"]
    # Refused again: it stays, with one refusal more.
    assert project.post(path + "/redrive", {"seqs": sorted(bad)[:1]}).json() == {"redriving": 1}
    streams.until(lambda: [d["attempts"] for d in project.get(path).json()["data"]] == [2, 1])
    poison["on"] = False
    assert project.post(path + "/redrive", {}).json() == {"redriving": 2}
    streams.until(lambda: project.get(path).json()["data"] == [])
    assert set(bad) <= set(delivered(receiver.requests, receiver.answer.statuses))
    assert ("audit_stream.redriven", {"destination": "generic_webhook", "name": "siem-prod", "events": 2}) in streams.recorded(
        project, stream)


def test_t9_block_stops_in_front_of_a_refused_event(project, receiver):
    receiver.answer = Scripted(lambda r: 422 if b"poison" in r.body else 200)
    stream = streams.to_hook(project, receiver, on_poison="block")
    project.ingest(event(), event("test.poison"), event())
    failed = streams.with_status(project, stream, "failed")
    assert "event 3 is refused" in failed["last_error"]  # the key's, the stream's, one event
    assert delivered(receiver.requests, receiver.answer.statuses) == [1, 2]
    assert failed["cursor_seq"] == 2
    receiver.answer = Scripted(lambda _: 200)
    streams.steer(project, stream, "resume")
    streams.until(lambda: streams.get(project, stream)["lag_events"] == 0)
    assert streams.seqs(receiver.requests)[-5:][0] == 3


def test_t9_a_delivery_that_is_refused_holds_up_no_other(project, receiver, receivers):
    """Neither the endpoint's own nor those of another endpoint, which takes everything."""
    receiver.answer = lambda r: 422 if b"poison" in r.body else 200
    refusing, taking = webhooks.create(project, receiver, ["load.*"]), receivers()
    webhooks.create(project, taking, ["load.*"])
    posted = [project.ingest(event("load.poison" if n in (17, 41) else "load.fine"))[0]["id"] for n in range(60)]
    bad = [posted[17], posted[41]]
    taking.wait_for(lambda requests: len(requests) == 60)
    of_it = f"?endpoint={refusing['id']}&limit=200"
    wait_until(lambda: len(webhooks.deliveries(project, of_it + "&status=delivered")) == 58, 30, "the other deliveries")
    pending = webhooks.deliveries(project, of_it + "&status=pending")
    assert [d["event_id"] for d in pending] == bad[::-1]
    wait_until(lambda: all(webhooks.delivery(project, d["id"])["attempts"] > 0 for d in pending), 30, "their attempts")
    receiver.answer = lambda _: 200
    for each in pending:
        assert project.post(f"{webhooks.DELIVERIES}/{each['id']}/replay").status == 202
        webhooks.with_status(project, each["id"], "delivered")
    assert expect_same_bytes(receiver.requests, posted) >= 2
    assert expect_same_bytes(taking.requests, posted) == 0


# --- T10: what nobody wants any more


@each_kind
def test_t10_after_revocation_no_attempt_begins(make_server, postgres_cluster, receiver, kind):
    """With 10 000 events to be sent, and where there are two nodes at the one that does not deliver."""
    receiver.answer = lambda _: time.sleep(0.005) or 200
    if STORE == "postgres":
        url = postgres_cluster.create_database()
        nodes = [make_server(database=url, settings=LEASES).start() for _ in range(2)]
    else:
        nodes = [make_server().start()]
    project = nodes[0].client().new_project()
    both = [node.client(project.secret, project.project) for node in nodes]
    delivery = kind(project, receiver, **({"batch": {"max_events": 1}} if kind is StreamDelivery else {}))
    asked = both[1 - delivery.owner_of(nodes, both)] if len(nodes) > 1 else project
    for _ in range(10):
        asked.ingest(*load_events(1_000))
    receiver.wait_for(lambda requests: len(requests) > 100)

    def expect_none_since(answered_at):
        late = [r.at - answered_at for r in receiver.requests if r.at > answered_at]
        assert len(late) <= delivery.at_once and max(late, default=0) < 0.2, f"not only what was on its way: {late}"

    assert delivery.revoke(asked).status == 204
    answered_at = time.monotonic()
    assert delivery.lacks(asked) > 1_000, "there is something left to send"
    time.sleep(max(0.0, answered_at + 1.5 - time.monotonic()))
    expect_none_since(answered_at)
    nodes[0].restart()
    time.sleep(0.5)
    expect_none_since(answered_at)
