"""Clients that post events while their server is killed under them, and the account of what they were told."""

import http.client
import json
import random
import threading
import time

from annal_server import BOOTSTRAP_KEY, event

REQUEST_DEADLINE_S = 20


class Post:
    """One request: its events, how it is sent, and what became of it."""

    def __init__(self, names, form, key, action):
        self.names = names      # external ids, unique over the test
        self.form = form        # single, batch, ndjson
        self.key = key          # header, events or None: what makes it safe to send again
        self.action = action    # of all of its events
        self.receipts = None    # once it is acknowledged
        self.attempts = 0

    def events(self):
        made = []
        for name in self.names:
            one = event(self.action, external_id=name, metadata={"name": name, "n": 1.10})
            if self.key == "events":
                one["idempotency_key"] = "event " + name
            made.append(one)
        return made

    def request(self):
        headers = {"Authorization": f"Bearer {BOOTSTRAP_KEY}", "Content-Type": "application/json"}
        if self.key == "header":
            headers["Idempotency-Key"] = "request " + self.names[0]
        events = self.events()
        if self.form == "ndjson":
            headers["Content-Type"] = "application/x-ndjson"
            return headers, "".join(json.dumps(e) + "\n" for e in events)
        return headers, json.dumps(events[0] if self.form == "single" else {"events": events})

    def take(self, status, body):
        assert status in (200, 201), (status, body[:500])
        answer = json.loads(body)
        rows = answer.get("data", [answer])
        assert len(rows) == len(self.names)
        self.receipts = {name: (row["seq"], row["id"], row["created_at"]) for name, row in zip(self.names, rows)}


class Load:
    """Threads that post until `stop`; they wait while their server is down and send unanswered idempotent posts again. Of several
    nodes each connection is to any."""

    def __init__(self, *servers, threads=4, seed=None, pause=0.0, sizes=(2, 7, 40), actions=("load.posted",)):
        self.servers = servers
        self.seed = seed if seed is not None else random.randrange(1 << 32)
        self.pause = pause
        self.sizes = sizes      # of a batch
        self.actions = actions  # all begin with "load."
        self.posts = []
        self.refusals = 0       # for now: 429 and 503
        self.failures = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"
        assert not self.failures, self.failures[:3]

    def acknowledged(self):
        with self._lock:
            return sum(len(p.names) for p in self.posts if p.receipts is not None)

    def unanswered(self):
        with self._lock:
            return [p for p in self.posts if p.receipts is None]

    def _make(self, chance, thread, number):
        form = chance.choice(("single", "single", "batch", "ndjson"))
        key = chance.choice(("header", "events", "header", None))
        size = 1 if form == "single" else chance.choice(self.sizes)
        return Post([f"{thread}-{number}-{i}" for i in range(size)], form, key, chance.choice(self.actions))

    def _run(self, thread):
        chance = random.Random(self.seed * 31 + thread)
        number, again, connection = 0, None, None
        try:
            while not self._stop.is_set():
                post = again
                if post is None:
                    post = self._make(chance, thread, number)
                    number += 1
                    with self._lock:
                        self.posts.append(post)
                again = None
                connection, sent = self._send(post, connection)
                if post.receipts is None:
                    # What was never sent can be sent again whatever it is; the rest only with a key.
                    if post.key or not sent:
                        again = post
                    time.sleep(0.02)
                elif self.pause:
                    time.sleep(self.pause)
        except Exception as e:
            self.failures.append(repr(e))
        finally:
            if connection:
                connection.close()

    def _send(self, post, connection):
        """One attempt. The connection to go on with, and whether a byte of the request may have left."""
        headers, body = post.request()
        sent = False
        try:
            if connection is None:
                connection = http.client.HTTPConnection(*random.choice(self.servers).address, timeout=REQUEST_DEADLINE_S)
                connection.connect()
            sent = True
            post.attempts += 1
            connection.request("POST", "/v1/audit/events", body, headers)
            response = connection.getresponse()
            text = response.read()
            if response.status in (429, 503):
                with self._lock:
                    self.refusals += 1
                return connection, False
            post.take(response.status, text)
            return connection, sent
        except (OSError, http.client.HTTPException):
            if connection:
                connection.close()
            return None, sent


def finish(load):
    """Sends every unanswered post that has a key once more: now it must work."""
    for post in load.unanswered():
        if post.key is None:
            continue
        connection, _ = load._send(post, None)
        assert post.receipts is not None, post.names
        connection.close()


def check(load, client):
    """Compares what the clients were told with what the log holds. The stored lines, oldest first."""
    lines = client.export_lines()[::-1]
    stored = [json.loads(line) for line in lines]
    print(f"seed {load.seed}: {len(stored)} events, {load.acknowledged()} acknowledged")

    assert [e["seq"] for e in stored] == list(range(len(stored))), "the sequence has a hole"
    for key in ("created_at", "id"):
        values = [e[key] for e in stored]
        assert all(a < b for a, b in zip(values, values[1:])), f"{key} does not rise with seq"

    by_name = {}
    for e in stored:
        if e["action"].startswith("load."):
            by_name.setdefault(e["external_id"], []).append(e)
    for post in load.posts:
        found = [by_name.pop(name, []) for name in post.names]
        counts = [len(copies) for copies in found]
        if post.receipts is None:
            # Nobody was told anything: there or not, but never in part, and never twice.
            assert counts in ([0] * len(counts), [1] * len(counts)), (post.names, counts)
            continue
        assert counts == [1] * len(counts), (post.names, post.key, post.attempts, counts)
        for name, (copy,) in zip(post.names, found):
            assert (copy["seq"], copy["id"], copy["created_at"]) == post.receipts[name]
            assert copy["action"] == post.action and copy["metadata"] == {"name": name, "n": 1.1}
        seqs = [copy["seq"] for (copy,) in found]
        assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), "a request's events are not together"
    assert not by_name, "the log holds events that nobody posted"
    return lines
