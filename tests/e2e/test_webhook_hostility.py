"""Endpoints that hang, drip, flood, lie or cut: each costs only itself."""

import socket
import threading
import time
import zlib

import pytest
from annal_server import HOLD_LITTLE_BACK, Server, event
from scripted_receiver import Receiver
from test_audit_streams import until
from test_webhooks import actions, create, deliveries, get


class Hostile:
    """A listener that serves each connection with `misbehave(socket)` after it has read the request's head."""

    def __init__(self, misbehave):
        self.misbehave, self.accepted = misbehave, 0
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.ended = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        with connection:
            try:
                connection.settimeout(60)
                connection.recv(65536)
                self.misbehave(self, connection)
            except OSError:
                pass

    def close(self):
        self.ended.set()
        self.listener.close()


def hang(self, connection):
    self.ended.wait(60)


def drip_head(self, connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not self.ended.wait(0.1):
        connection.sendall(b"x")


def drip_body(self, connection):
    connection.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n")
    while not self.ended.wait(0.1):
        connection.sendall(b"y")


def flood(self, connection):
    connection.sendall(b"HTTP/1.1 500 No\r\nContent-Type: text/plain\r\n\r\n")
    for _ in range(20_000):  # well over a gigabyte
        connection.sendall(b"z" * 65_536)


def flood_head(self, connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while not self.ended.is_set():
        connection.sendall(b"X-More: " + b"h" * 1_000 + b"\r\n")


def bomb(self, connection):
    body = zlib.compress(b"\0" * (64 << 20), 9)
    connection.sendall(b"HTTP/1.1 500 No\r\nContent-Encoding: deflate\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


def reset(self, connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def cut(self, connection):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


def garbage(self, connection):
    connection.sendall(b"\0\xff SSH-2.0-OpenSSH\r\n\r\n")


def no_status(self, connection):
    connection.sendall(b"HTTP/1.1 999999 Odd\r\n\r\n")


WAYS = [hang, drip_head, drip_body, flood, flood_head, bomb, reset, cut, garbage, no_status]


def test_hostile_endpoints_cost_only_themselves():
    hostile = [Hostile(way) for way in WAYS]
    healthy = Receiver()
    try:
        with Server(env=HOLD_LITTLE_BACK) as server:
            project = server.client().new_project()
            made = {}
            for each in hostile:
                answer = project.post("/v1/webhooks/endpoints", {"url": each.url, "events": ["a.*"]})
                assert answer.status == 201, answer
                made[answer.json()["id"]] = each.misbehave.__name__
            create(project, healthy, ["a.*"])
            project.ingest(*[event("a.first") for _ in range(20)])
            healthy.wait_for(lambda requests: len(requests) == 20)
            before = server.rss_bytes()
            for n in range(10):
                project.ingest(*[event(f"a.n{n}") for _ in range(10)])
            begun = time.monotonic()
            healthy.wait_for(lambda requests: len(requests) == 120)
            assert time.monotonic() - begun < 12, "none waits for another's timeout, which is 15 s"
            until(lambda: all(each.accepted for each in hostile))

            def failed():
                tried = {}
                for name, way in made.items():
                    rows = [d for d in deliveries(project, f"?endpoint={name}&status=pending&limit=200") if d["attempts"]]
                    tried[way] = [d["last_error"] for d in rows]
                return tried if all(tried.values()) else None

            tried = until(failed, timeout=60)
            assert all(deliveries(project, f"?endpoint={name}&status=delivered") == [] for name in made)
            assert "timeout" in tried["hang"][0] or "time" in tried["hang"][0], tried["hang"][0]
            server.expect_growth_below(96, before)
            assert set(actions(healthy.requests)) == {"a.first"} | {f"a.n{n}" for n in range(10)}
            assert all(get(project, {"id": name})["failing_since"] for name in made)
    finally:
        healthy.close()
        for each in hostile:
            each.close()


@pytest.mark.parametrize("way", [hang, drip_body])
def test_the_server_ends_in_time_while_an_endpoint_does_not_answer(way):
    hostile = Hostile(way)
    try:
        with Server() as server:
            project = server.client().new_project()
            project.post("/v1/webhooks/endpoints", {"url": hostile.url, "events": ["a.*"]})
            project.ingest(event("a.b"))
            until(lambda: hostile.accepted)
            begun = time.monotonic()
            server.terminate()
            assert time.monotonic() - begun < 14, "what is under way has five seconds"
            server.start()
            (waiting,) = deliveries(project)
            assert waiting["status"] == "pending" and waiting["attempts"] == 0, "it is tried again, as if never before"
            until(lambda: hostile.accepted == 2)
    finally:
        hostile.close()
