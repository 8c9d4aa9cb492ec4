"""A stream over HTTP, while its server is killed and frozen and its destination comes and goes: nothing lost, nothing out of
order, and what comes twice is the same bytes."""

import json
import os
import random
import signal
import threading
import time

import pytest
from annal_server import STORE, Server, wait_until
from scripted_receiver import Receiver
from load import Load, check, finish

KILLS = int(os.environ.get("ANNAL_CHAOS_KILLS", "12"))
SETTINGS = "limits:\n  lease_ms: 600\n"


class Flapping:
    """A destination that takes most batches, refuses some for now, and of some takes the events but never says so.

    What it holds is `taken`: the requests whose events it has, in the order in which it took them.
    """

    def __init__(self, seed):
        self.chance, self.lock, self.taken = random.Random(seed), threading.Lock(), []
        self.steady = False

    def __call__(self, received):
        with self.lock:
            fate = 1.0 if self.steady else self.chance.random()
            if fate < 0.15:
                return self.chance.choice([500, 503, 429])
            self.taken.append(received)
        if fate < 0.25:
            return None  # taken, but nobody hears it
        if fate < 0.35:
            time.sleep(0.2)
        return 200


def expect_no_loss_no_disorder(taken, exported):
    """Compares what the destination holds with the log. How many batches came more than once."""
    by_key, seen, again = {}, [], 0
    for request in taken:
        key, lines = request.headers["idempotency-key"], request.body.decode().splitlines()
        seqs = [json.loads(line)["seq"] for line in lines]
        assert seqs == list(range(seqs[0], seqs[-1] + 1)), "a hole within a batch"
        assert request.headers["stream-seq"] == f"{seqs[0]}-{seqs[-1]}"
        if key in by_key:
            assert by_key[key] == request.body, "a duplicate must be the same bytes"
            again += 1
            continue
        by_key[key] = request.body
        # A batch that was not seen before begins behind all that was: no event of it can have come in another batch.
        assert seqs[0] == (seen[-1] + 1 if seen else 0), f"{seqs[0]} came after {seen[-1] if seen else None}"
        seen += seqs
        assert lines == exported[seqs[0]:seqs[-1] + 1], "other bytes than the log has"
    assert seen == list(range(len(exported))), "lost"
    return again


def make_stream(client, receiver):
    answer = client.post("/v1/audit/streams", {
        "name": "chaos", "destination": "generic_webhook", "config": {"url": receiver.url}, "start": "earliest",
        "batch": {"max_events": 100}})
    assert answer.status == 201, answer
    return answer.json()["id"]


def wait_for_end(client, stream, seconds=120):
    """Until the stream has delivered all; the log's lines, oldest first."""
    def ended():
        shown = client.get(f"/v1/audit/streams/{stream}").json()
        assert shown["status"] == "active", shown
        return shown["lag_events"] == 0

    wait_until(ended, seconds, "the stream's end")
    return client.export_lines()[::-1]


@pytest.fixture
def receiver():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    receiver = Receiver(Flapping(seed))
    yield receiver
    receiver.close()


def test_kills_and_a_flapping_destination(make_server, receiver):
    server = make_server(settings=SETTINGS).start()
    stream = make_stream(server.client(), receiver)
    chance = random.Random()
    with Load(server, threads=64, pause=0.6) as load:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 0.4))
            if chance.random() < 0.2:
                receiver.close()
                time.sleep(0.1)
                receiver.open()
            server.kill()
            server.start()
    finish(load)
    receiver.answer.steady = True
    exported = wait_for_end(server.client(), stream)
    check(load, server.client())
    again = expect_no_loss_no_disorder(receiver.answer.taken, exported)
    print(f"{len(exported)} events, {len(receiver.answer.taken)} batches taken, {again} of them once more")
    assert len(exported) > 300 and again > 0


@pytest.mark.skipif(STORE != "postgres", reason="one node has SQLite's files for itself")
def test_two_nodes_that_are_killed_and_frozen_in_turn(postgres_database, receiver):
    with Server(database=postgres_database, settings=SETTINGS) as a, Server(database=postgres_database, settings=SETTINGS) as b:
        stream = make_stream(a.client(), receiver)
        chance = random.Random()
        with Load(a, threads=16, pause=0.3) as load, Load(b, threads=16, pause=0.3, label="b") as more:
            for _ in range(KILLS):
                time.sleep(chance.uniform(0.1, 0.4))
                victim = chance.choice([a, b])
                if chance.random() < 0.5:
                    victim.kill()
                    time.sleep(chance.uniform(0, 1.5))
                    victim.start()
                else:
                    # Longer than its lease, so that the other delivers meanwhile, and then it goes on where it was.
                    os.kill(victim.process.pid, signal.SIGSTOP)
                    time.sleep(chance.uniform(0.3, 1.5))
                    os.kill(victim.process.pid, signal.SIGCONT)
        for one in (load, more):
            finish(one)
        receiver.answer.steady = True
        exported = wait_for_end(a.client(), stream)
        again = expect_no_loss_no_disorder(late_ones_left_out(receiver.answer.taken), exported)
        print(f"{len(exported)} events, {len(receiver.answer.taken)} batches taken, {again} of them once more")
        assert len(exported) > 300


def late_ones_left_out(taken):
    """Without what a frozen node still had in a socket: it comes with the lower fence, after the higher one has begun, and it is
    a batch that was planned, so the same bytes came or come under the other fence."""
    kept, fence, known = [], -1, {request.headers["idempotency-key"]: request.body for request in taken}
    for request in taken:
        own = int(request.headers["stream-fence"])
        if own < fence:
            assert known[request.headers["idempotency-key"]] == request.body
            continue
        fence = own
        kept.append(request)
    return kept
