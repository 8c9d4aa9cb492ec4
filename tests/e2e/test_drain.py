"""SIGTERM under load: whoever was heard is answered, nothing acknowledged is lost, the process ends in time."""

import json
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from annal_server import BOOTSTRAP_KEY, event, wait_until

AUTH = f"Authorization: Bearer {BOOTSTRAP_KEY}\r\n"


class Poster(threading.Thread):
    """A keep-alive client that posts one event after the other until the server ends its connection."""

    def __init__(self, server, number):
        super().__init__()
        self.server, self.number = server, number
        self.acknowledged = []  # external ids
        self.unanswered = []    # sent, and then the connection ended
        self.last = None        # the last answer
        self.problem = None
        self.sent_at = None     # when the last request had left
        self.late = False       # held up for longer than a stopping server waits

    def run(self):
        try:
            with self.server.raw(timeout=20) as connection:
                for n in range(1_000_000):
                    if not self.post(connection, f"c{self.number}-{n}"):
                        return
        except Exception as error:  # noqa: BLE001  (reported by the test)
            self.problem = error

    def post(self, connection, external_id):
        body = json.dumps(event("drain.event", external_id=external_id))
        previous, self.sent_at = self.sent_at, None
        try:
            connection.send((f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: application/json\r\n"
                             f"Content-Length: {len(body)}\r\n\r\n{body}").encode())
            self.sent_at = time.monotonic()
            answer = connection.receive()
        except (ConnectionError, ValueError):
            self.unanswered.append(external_id)
            # The server's idle time began after the previous request had been sent.
            self.late = previous is not None and (self.sent_at or time.monotonic()) - previous > 0.2
            return False
        assert answer.status == 201, answer
        self.acknowledged.append(external_id)
        self.last = answer
        return answer.headers.get("connection") != "close"


def test_every_request_that_was_heard_is_answered(make_server):
    """Eight clients in the rhythm of request and answer: each learns of the end from an answer, none from a reset."""
    for _ in range(5):  # with a client that was held up, which is not in the rhythm, once more
        server = make_server().start()
        posters = [Poster(server, n) for n in range(8)]
        for poster in posters:
            poster.start()
        wait_until(lambda: all(len(p.acknowledged) >= 5 for p in posters))
        began = time.monotonic()
        server.signal_stop()
        server.expect_clean_exit()
        assert time.monotonic() - began < 10
        for poster in posters:
            poster.join()
        if not any(poster.late for poster in posters):
            break
    for poster in posters:
        assert poster.problem is None
        assert poster.unanswered == []
        assert poster.last.headers["connection"] == "close"
    server.start()
    stored = [json.loads(line)["external_id"] for line in server.client().export_lines("?type=drain.event")]
    assert sorted(stored) == sorted(x for p in posters for x in p.acknowledged)


def test_new_connections_are_refused_while_it_drains(make_server):
    server = make_server(settings="limits: {drain_timeout: 20s}\n").start()
    client = server.client()
    with server.raw() as slow:
        slow.send(f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: application/json\r\n"
                  "Content-Length: 60\r\n\r\n{".encode())
        # What still waits to be accepted when the end begins is refused with the rest.
        wait_until(lambda: client.metric("annal_http_connections") >= 2)
        server.signal_stop()
        wait_until(lambda: refused(server))
        rest = b'"action":"drain.late","actor":{"type":"user","id":"u"}}'
        slow.send(rest.ljust(59))
        answer = slow.receive()
        assert answer.status == 201 and answer.headers["connection"] == "close"
    server.expect_clean_exit()
    server.start()
    assert len(server.client().walk("?type=drain.late")) == 1


def refused(server):
    try:
        socket.create_connection(server.address, timeout=5).close()
        return False
    except ConnectionError:
        return True


def test_an_export_in_flight_ends_whole(make_server):
    server = make_server().start()
    client = server.client()
    for _ in range(3):
        client.ingest(*(event("bulk.row", metadata={"filler": "x" * 500}) for _ in range(8_000)))
    with server.raw(receive_buffer=4096) as connection:
        connection.send(f"GET /v1/audit/events.jsonl?type=bulk.row HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n".encode())
        status, fields = connection.head()
        assert status == 200
        server.signal_stop()
        wait_until(lambda: refused(server))
        body, _ = connection._chunks()
        assert body.count(b"\n") == 24_000
        assert connection.closed()
    server.expect_clean_exit()


def unsent(connection):
    """Bytes that the server's socket holds for a reader that takes none."""
    host, port = connection.socket.getsockname()
    own = f"{int.from_bytes(socket.inet_aton(host), 'little'):08X}:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return next((int(row[4].split(":")[0], 16) for row in rows if row[2] == own), 0)


def await_stuck(connection):
    """Until the server has sent all that the sockets hold, and waits."""
    def waits():
        before = unsent(connection)
        time.sleep(0.3)
        return before > 0 and unsent(connection) == before

    wait_until(waits, what="the reader to be stuck")


@pytest.mark.parametrize("what", ["reader", "body", "head"])
def test_a_stuck_client_does_not_hold_up_the_end(make_server, what):
    server = make_server(settings="limits: {drain_timeout: 2s}\n").start()
    client = server.client()
    rows = 24_000 if what == "reader" else 1_000  # more than sockets hold
    for _ in range(rows // 1_000):
        client.ingest(*(event("bulk.row", metadata={"filler": "x" * 500}) for _ in range(1_000)))
    texts = {
        "reader": f"GET /v1/audit/events.jsonl HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n",
        "body": f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: application/json\r\nContent-Length: 9\r\n\r\n" "{",
        "head": "GET /healthz HTTP/1.1\r\nHo",
    }
    with server.raw(receive_buffer=4096) as connection:
        connection.send(texts[what].encode())
        if what == "reader":
            connection.head()
            await_stuck(connection)
        wait_until(lambda: client.metric("annal_http_connections") >= 2)
        began = time.monotonic()
        server.signal_stop()
        server.expect_clean_exit()
        took = time.monotonic() - began
        assert 1.5 < took < 9, f"{took} s instead of the drain timeout, and little more: {server.stderr()[-2000:]}"
    server.start()
    assert len(server.client().export_lines("?type=bulk.row")) == rows


def test_a_repeated_sigterm_changes_nothing(make_server):
    """An impatient supervisor asks again and again; the end is as orderly as with one signal."""
    server = make_server().start()
    process = server.process
    for _ in range(4000):
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGTERM)
        time.sleep(0.002)
    server.expect_clean_exit()
