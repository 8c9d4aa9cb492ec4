"""Destinations that come and go, and the account of what they hold: of every stream nothing is lost or out of order, nothing came
that the log does not have, and what came twice was the same bytes and had its reason."""

import json
import random
import threading
import time
from datetime import datetime
from fnmatch import fnmatchcase

from delivered import in_time
from scripted_receiver import Receiver

ENVELOPE = ("id", "action", "project_id", "organization_id", "user_id", "target_type", "target_id", "metadata")
# How long after its sender was killed a request may still be read from the socket.
LATE_S = 1.0


class Destination:
    """Takes most requests. Unless it is steady it refuses some for now, and of some takes the events but never says so.

    What it holds is `taken`: the requests whose events it has, in the order in which it took them. `answered` is when it told its
    sender; None: never.
    """

    def __init__(self, seed, patterns, steady=False):
        self.chance, self.lock = random.Random(seed), threading.Lock()
        self.patterns, self.steady, self.is_away = patterns, steady, False
        self.taken = []
        self.receiver = Receiver(self._answer)

    def _answer(self, received):
        received.answered = None
        with self.lock:
            if self.is_away:
                return None
            fate = 1.0 if self.steady else self.chance.random()
            if fate < 0.15:
                return self.chance.choice([500, 503])
            self.taken.append(received)
        if fate < 0.25:
            return None
        if fate < 0.35:
            time.sleep(0.2)
        received.answered = time.monotonic()
        return 200

    def leave(self):
        """Connections are cut, new ones refused."""
        self.is_away = True
        self.receiver.close()

    def come_back(self):
        self.is_away = False
        self.receiver.open()

    def selects(self, event):
        return any(fnmatchcase(event["action"], pattern) for pattern in self.patterns)

    def holds(self, ids):
        """Whether all of these webhooks were taken."""
        return set(ids) <= {request.headers["webhook-id"] for request in self.taken}


class Repetitions:
    """When something may be sent again although it was answered: whoever had the answer was killed, frozen or lost its lease before
    that was durable."""

    def __init__(self):
        self.spans = []

    def add(self, begin, end):
        self.spans.append((begin, end + LATE_S))

    def add_lost_leases(self, server):
        """As the server's log has them. It notices up to a lease's length later."""
        offset = time.time() - time.monotonic()
        for line in server.stderr_path.read_text(errors="replace").splitlines():
            if '.lease_lost"' in line:
                at = datetime.fromisoformat(json.loads(line)["time"]).timestamp() - offset
                self.add(at - 2, at)

    def explain(self, before, again):
        if before.answered is None:
            return True
        return any(begin < again.at and before.answered < end for begin, end in self.spans)


def wanted_lines(destination, lines):
    """The log's lines that a stream has to deliver."""
    return [line for line in lines if destination.selects(json.loads(line))]


def check_stream(destination, lines, repetitions):
    """Compares what a stream's destination holds with the log's lines. How many batches it took more than once."""
    wanted = wanted_lines(destination, lines)
    place = {line: at for at, line in enumerate(wanted)}
    planned = {}
    for request in destination.receiver.requests:  # also those that it refused
        begin = place.get(request.lines[0])
        assert begin is not None, "an event that the log does not hold so"
        assert request.lines == wanted[begin:begin + len(request.lines)], "not as the log has it"
        seqs = [json.loads(line)["seq"] for line in request.lines]
        assert request.headers["stream-seq"] == f"{seqs[0]}-{seqs[-1]}"
        key = request.headers["idempotency-key"]
        assert planned.setdefault(key, request.body) == request.body, "a duplicate must be the same bytes"
    held, before, again = 0, None, 0
    for request in in_time(destination.taken):
        if before is not None and request.headers["idempotency-key"] == before.headers["idempotency-key"]:
            assert repetitions.explain(before, request), "sent again without a reason"
            again += 1
        else:
            # A batch that is not the last one again begins behind it.
            begin = place[request.lines[0]]
            assert begin == held, f"the event at {begin} came when {held} were there"
            held += len(request.lines)
        before = request
    assert held == len(wanted), f"lost: {len(wanted) - held} of {len(wanted)}"
    return again


def wanted_webhooks(destination, endpoint, lines):
    """The events that the endpoint has to get, by id: what it selects from its creation on."""
    events = [json.loads(line, parse_float=str) for line in lines]
    created = next(e["seq"] for e in events if e["action"] == "webhook.endpoint.created" and e["target_id"] == endpoint)
    return {e["id"]: e for e in events[created + 1:] if destination.selects(e)}


def check_webhooks(destination, endpoint, lines, delivered, replayed, repetitions):
    """Compares what an endpoint got with the log's lines, and with `delivered`, the ids of the events that are recorded so. How
    many it took more than once. Those of `replayed` may come again for no other reason."""
    wanted = wanted_webhooks(destination, endpoint, lines)
    bodies = {}
    for request in destination.receiver.requests:  # also those that it refused
        name = request.headers["webhook-id"]
        assert name in wanted, "an event that the log does not hold, or that is not for this endpoint"
        assert bodies.setdefault(name, request.body) == request.body, "a duplicate must be the same bytes"
        assert request.headers["authio-webhook-endpoint"] == endpoint
    for name, body in bodies.items():
        sent, event = json.loads(body, parse_float=str), wanted[name]
        assert {key: sent[key] for key in ENVELOPE} == {key: event[key] for key in ENVELOPE}, "not as the log has it"
        assert sent["actor"] == {key: event["actor"][key] for key in ("type", "id")}
    last, again = {}, 0
    for request in destination.taken:
        name = request.headers["webhook-id"]
        if name in last:
            assert name in replayed or repetitions.explain(last[name], request), "sent again without a reason"
            again += 1
        last[name] = request
    assert set(last) == set(wanted), f"lost: {len(set(wanted) - set(last))} of {len(wanted)}"
    assert sorted(delivered) == sorted(wanted), "not recorded as delivered, or twice"
    return again
