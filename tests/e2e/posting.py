"""Clients that post events one by one while something is done to their servers, and the account of what they were told."""

import http.client
import threading
import time

from annal_server import event, wait_until


class Poster(threading.Thread):
    """Posts events under idempotency keys until it is stopped. What is refused for now, or gets no answer, it posts again as it is."""

    def __init__(self, client, name):
        super().__init__(name=name)
        self.client = client
        self.acknowledged = []   # receipts
        self.refusals = []       # seconds that each answer 503 took
        self.slowest_s = 0.0
        self.unexpected = None   # what no client should ever get
        self._ended = threading.Event()

    def run(self):
        number = 0
        while not self._ended.is_set() and self.unexpected is None:
            number += 1
            self._post(event("load.posted", idempotency_key=f"{self.name}.{number}"))

    def _post(self, body):
        while not self._ended.is_set():
            begun = time.monotonic()
            try:
                answer = self.client.post("/v1/audit/events", body)
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)  # the node is gone
                continue
            took = time.monotonic() - begun
            self.slowest_s = max(self.slowest_s, took)
            if answer.status in (200, 201):
                self.acknowledged.append(answer.json())
                return
            if answer.status != 503 or int(answer.headers.get("retry-after", 0)) < 1:
                self.unexpected = answer
                return
            self.refusals.append(took)
            time.sleep(0.02)

    def end(self):
        self._ended.set()


class Load:
    """Posters at the nodes of `clients`, one each; stops with the block."""

    def __init__(self, *clients, name="poster"):
        self.posters = [Poster(client, f"{name}{i}") for i, client in enumerate(clients)]

    def __enter__(self):
        for poster in self.posters:
            poster.start()
        return self

    def __exit__(self, *_):
        for poster in self.posters:
            poster.end()
        for poster in self.posters:
            poster.join()

    def await_progress(self, count=10, seconds=60):
        """Returns when each poster has had `count` more events acknowledged."""
        before = [len(p.acknowledged) for p in self.posters]
        wait_until(lambda: any(p.unexpected for p in self.posters) or
                   all(len(p.acknowledged) >= n + count for p, n in zip(self.posters, before)), seconds, "the load to go on")
        self.expect_no_surprise()

    def await_refusals(self, count=1, seconds=60):
        """Returns when each poster has been refused `count` more times."""
        before = [len(p.refusals) for p in self.posters]
        wait_until(lambda: any(p.unexpected for p in self.posters) or
                   all(len(p.refusals) >= n + count for p, n in zip(self.posters, before)), seconds, "refusals")
        self.expect_no_surprise()

    def expect_no_surprise(self):
        assert [p.unexpected for p in self.posters if p.unexpected] == []

    def expect_kept(self, client):
        """Once stopped: what was acknowledged is there as it was said, once, and seqs have no hole."""
        self.expect_no_surprise()
        found = {e["seq"]: e["id"] for e in client.walk()}
        assert sorted(found) == list(range(len(found)))
        receipts = [r for p in self.posters for r in p.acknowledged]
        assert len({r["seq"] for r in receipts}) == len(receipts)
        for receipt in receipts:
            assert found[receipt["seq"]] == receipt["id"]
        # Each poster may have ended with one event that is stored and was not acknowledged.
        posted = [e for e in client.walk("?type=load.posted")]
        assert len(receipts) <= len(posted) <= len(receipts) + len(self.posters)
