"""Streams and webhooks while 64 clients post, commits are held up and rolled back, nodes are killed and frozen, and destinations
come and go: afterwards every destination holds what the log holds."""

import json
import os
import random
import signal
import time

import pytest
from annal_server import PROJECT, STORE, Server, wait_until
from destinations import Destination, Repetitions, check_stream, check_webhooks, wanted_lines, wanted_webhooks
from load import Load, check, finish
from restless_stores import RestlessDatabase, RestlessDisk

KILLS = int(os.environ.get("ANNAL_CHAOS_KILLS", "12"))
SEED = int(os.environ.get("ANNAL_TEST_SEED", random.randrange(1 << 32)))
SETTINGS = "limits:\n  lease_ms: 600\n"
WRITERS = 64
ACTIONS = ("load.posted", "load.posted", "load.changed", "load.removed")
# What each stream wants, and how many events at once; what each endpoint wants, and whether its receiver is healthy.
STREAMS = (["*"], 100), (["load.changed", "load.removed"], 7)
ENDPOINTS = (["load.*"], True), (["*"], False), (["load.removed", "audit_stream.*"], False)
DELIVERIES = "/v1/webhooks/deliveries"
END_S = 100  # longer than an endpoint rests that has failed again and again


class Project:
    """What is delivered of one project, and to whom."""

    def __init__(self, chance):
        self.streams, self.endpoints = {}, {}  # by id
        self.replayed = set()                  # ids of events
        self.repetitions = Repetitions()
        self._stream_places = [Destination(chance.random(), patterns) for patterns, _ in STREAMS]
        self._endpoint_places = [Destination(chance.random(), patterns, steady) for patterns, steady in ENDPOINTS]
        self.destinations = self._stream_places + self._endpoint_places

    def make(self, client):
        for place, (patterns, size) in zip(self._stream_places, STREAMS):
            answer = client.post("/v1/audit/streams", {
                "name": "chaos", "destination": "generic_webhook", "config": {"url": place.receiver.url}, "start": "earliest",
                "events": patterns, "batch": {"max_events": size}})
            assert answer.status == 201, answer
            self.streams[answer.json()["id"]] = place
        for place in self._endpoint_places:
            answer = client.post("/v1/webhooks/endpoints", {"url": place.receiver.url, "events": place.patterns})
            assert answer.status == 201, answer
            self.endpoints[answer.json()["id"]] = place

    def wait_for_end(self, client):
        """Until all is delivered, and recorded so; whether it was in time. What waits for its next attempt is replayed, so that
        nobody waits for the schedule."""
        for place in self.destinations:
            place.steady = True
        deadline = time.monotonic() + END_S
        while not self._has_ended(client):
            if time.monotonic() > deadline:
                print("not delivered in time:", self._state(client))
                return False
            time.sleep(0.1)
        return True

    def _has_ended(self, client):
        waiting = got(client, DELIVERIES + "?status=pending&limit=200")["data"]
        for delivery in waiting:
            if delivery["next_attempt_at"] is None:
                continue  # has had none
            # 409: it is under way, or done by now.
            assert client.post(f"{DELIVERIES}/{delivery['id']}/replay").status in (202, 409)
            self.replayed.add(delivery["event_id"])
        if waiting:
            return False
        lines = client.export_lines()[::-1]
        return (all(self._shown(client, stream)["cursor_seq"] >= json.loads(wanted_lines(place, lines)[-1])["seq"]
                    for stream, place in self.streams.items())
                and all(place.holds(wanted_webhooks(place, endpoint, lines)) for endpoint, place in self.endpoints.items()))

    def _shown(self, client, stream):
        shown = got(client, f"/v1/audit/streams/{stream}")
        assert shown["status"] == "active", shown
        return shown

    def _state(self, client):
        shown = [self._shown(client, stream) for stream in self.streams]
        shown = [(one["cursor_seq"], one["lag_events"], one["last_error"]) for one in shown]
        waiting = got(client, DELIVERIES + "?status=pending")["data"]
        return f"streams at {shown}, webhooks that wait: {waiting[:5]}"

    def check(self, client, lines):
        assert got(client, DELIVERIES + "?status=failed")["data"] == []
        again = [check_stream(place, lines, self.repetitions) for place in self.streams.values()]
        print(f"streams: {[len(p.taken) for p in self.streams.values()]} batches taken, {again} of them once more")
        assert sum(again) > 0
        again = []
        for endpoint, place in self.endpoints.items():
            delivered = recorded(client, endpoint)
            again.append(check_webhooks(place, endpoint, lines, delivered, self.replayed, self.repetitions))
        print(f"webhooks: {[len(p.taken) for p in self.endpoints.values()]} taken, {again} of them once more, "
              f"{len(self.replayed)} replayed")
        assert sum(again) > 0

    def remove(self):
        for place in self.destinations:
            place.receiver.close()


def got(client, path):
    answer = client.get(path)
    assert answer.status == 200, answer
    return answer.json()


def recorded(client, endpoint):
    """Events of which it is recorded that they were delivered to the endpoint."""
    ids, cursor = [], None
    while True:
        more = f"&cursor={cursor}" if cursor else ""
        page = got(client, f"{DELIVERIES}?endpoint={endpoint}&status=delivered&limit=200{more}")
        ids += [delivery["event_id"] for delivery in page["data"]]
        cursor = page["next_cursor"]
        if not cursor:
            return ids


@pytest.fixture
def chance():
    print(f"ANNAL_TEST_SEED={SEED}")
    return random.Random(SEED)


@pytest.fixture
def project(chance):
    project = Project(chance)
    yield project
    project.remove()


def start(server, chance):
    """Until a start meets no write that is refused."""
    for _ in range(20):
        if "ANNAL_DISK_SEED" in server.env:
            server.env["ANNAL_DISK_SEED"] = str(chance.randrange(1 << 32))
        try:
            return server.start()
        except AssertionError as e:
            assert "ended with 1 instead" in str(e), e
    raise AssertionError("no start works")


def delivers(server):
    """Whether any lease of the project is this node's."""
    client = server.client()
    standing_by = client.metric("annal_stream_standby", project=PROJECT)
    return client.metric("annal_webhook_standby", project=PROJECT) == 0 or standing_by in range(len(STREAMS))


def kill(victim, down_s, chance):
    assert victim.running(), victim.stderr()[-4000:]
    victim.kill()
    time.sleep(down_s)
    start(victim, chance)


def freeze(victim, seconds):
    """Mostly longer than its lease, so that another goes on meanwhile; and then it continues where it was."""
    os.kill(victim.process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(victim.process.pid, signal.SIGCONT)


def rage(nodes, project, chance):
    hit = 0
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.4))
        place = chance.choice(project.destinations)
        is_away = chance.random() < 0.5
        if is_away:
            place.leave()
        victim = chance.choice(nodes)
        if chance.random() < 0.7:
            victim = chance.choice([node for node in nodes if delivers(node)] or nodes)
        hit += delivers(victim)
        begin = time.monotonic()
        if chance.random() < 0.5:
            kill(victim, chance.uniform(0, 1) if len(nodes) > 1 else 0, chance)
        else:
            freeze(victim, chance.uniform(0.3, 1.2))
        project.repetitions.add(begin, time.monotonic())
        if is_away:
            place.come_back()
    assert hit > 0
    return hit


def run(nodes, store, project, chance):
    client = nodes[0].client()
    project.make(client)
    store.begin()
    with Load(*nodes, threads=WRITERS, seed=SEED, pause=1.0, sizes=(2, 7), actions=ACTIONS) as load:
        hit = rage(nodes, project, chance)
    store.end()
    for node in nodes:
        wait_until(lambda n=node: n.client().get("/readyz", key=False).status == 200, what="a node that is ready")
    finish(load)
    in_time = project.wait_for_end(client)
    for node in nodes:
        project.repetitions.add_lost_leases(node)
    lines = check(load, client)
    refused = sum(node.stderr_path.read_text().count(word) for node in nodes
                  for word in ("webhook.commit_failed", "stream.cursor_commit_failed"))
    print(f"{hit} of {KILLS} met a node that delivered; refused: {load.refusals} requests, {refused} commits of delivery")
    project.check(client, lines)
    assert in_time
    assert len(lines) > 50 * KILLS and load.refusals + refused > 0


def test_one_node(make_server, project, chance):
    server = make_server(settings=SETTINGS)
    store = RestlessDisk(server) if STORE == "sqlite" else RestlessDatabase(server.database)
    server.start()
    run([server], store, project, chance)


@pytest.mark.skipif(STORE != "postgres", reason="one node has SQLite's files for itself")
def test_two_nodes(postgres_database, project, chance):
    with Server(database=postgres_database, settings=SETTINGS) as a, Server(database=postgres_database, settings=SETTINGS) as b:
        run([a, b], RestlessDatabase(postgres_database), project, chance)
