"""Every limit of a node at its edge: exactly the limit works, one more is refused with its status and its words.

Limits of single events, of batches and of bodies are in test_ingest.py, those of exports in test_export.py, of pages in
test_cursors.py, of the append queue of a project in test_write_failures.py; the budget of a scan is in
runtime/plugin/services_test.cpp, what else can be told within a process in runtime/http/*_test.cpp."""

import json
import resource
import socket
import threading
import time
from pathlib import Path

import pytest
from annal_server import BOOTSTRAP_KEY, RawConnection, event, expect_problem, wait_until

MIB = 1 << 20
AUTH = f"Authorization: Bearer {BOOTSTRAP_KEY}\r\n"


def with_limits(make_server, **limits):
    lines = "".join(f"  {name}: {value}\n" for name, value in limits.items())
    return make_server(settings="limits:\n" + lines).start()


def head_of(size, target="/healthz"):
    """A request without a body whose head has exactly `size` bytes."""
    start = f"GET {target} HTTP/1.1\r\nHost: a\r\nX-Filler: ".encode()
    return start + b"f" * (size - len(start) - 4) + b"\r\n\r\n"


# --- The head of a request

@pytest.mark.parametrize("limit,configured", [(16 << 10, None), (2048, 2048)])
def test_header_bytes(make_server, limit, configured):
    server = with_limits(make_server, header_bytes=configured) if configured else make_server().start()
    with server.raw() as connection:
        connection.send(head_of(limit))
        assert connection.receive().status == 200
        connection.send(head_of(limit + 1))
        answer = connection.receive()
        expect_problem(answer, 431, f"larger than {limit} bytes")
        assert answer.headers["connection"] == "close" and connection.closed()


# --- Bodies

def test_body_bytes_of_the_settings(make_server):
    client = with_limits(make_server, body_bytes="1KiB").client()
    body = json.dumps(event()).encode()
    assert client.post("/v1/audit/events", body.ljust(1024)).status == 201
    expect_problem(client.post("/v1/audit/events", body.ljust(1025)), 413, "larger than the server takes")
    lines = b"".join(json.dumps(event()).encode() + b"\n" for _ in range(100))
    assert client.ndjson(lines).status == 201, "NDJSON may be longer than that"


class OpenBody:
    """A request whose body has come but for its last byte, so that the node holds it."""

    def __init__(self, server, body, content_type):
        self.body = body
        self.connection = RawConnection(*server.address)
        self.connection.send((f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: {content_type}\r\n"
                              f"Content-Length: {len(body)}\r\n\r\n").encode() + body[:-1])

    def finish(self):
        self.connection.send(self.body[-1:])
        answer = self.connection.receive()
        self.connection.close()
        return answer


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
def test_bodies_in_memory(make_server, content_type):
    """A quarter of the memory each: four bodies fit exactly, a fifth is told to wait, and memory comes back."""
    size = 1 * MIB
    server = with_limits(make_server, bodies_in_memory=4 * size)
    client = server.client()
    body = json.dumps(event(description="x" * 900)).encode().ljust(size)
    waiting = [OpenBody(server, body, content_type) for _ in range(4)]
    wait_until(lambda: all_read(server))
    answer = client.post("/v1/audit/events", json.dumps(event()) + "\n", headers={"Content-Type": content_type})
    expect_problem(answer, 503, "memory for request bodies")
    assert answer.headers["retry-after"] == "1"
    assert client.get("/v1/audit/events").status == 200, "what has no body is served"
    for request in waiting:
        assert request.finish().status == 201
    assert client.ndjson([event()]).status == 201
    again = [OpenBody(server, body, content_type) for _ in range(4)]
    assert [request.finish().status for request in again] == [201] * 4, "all of it was given back"


def all_read(server):
    """Whether the server has taken every byte that its clients have sent."""
    own = f"0100007F:{server.address[1]:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    established = "01"
    ours = [row for row in rows if row[1] == own and row[3] == established]
    sent = [row for row in rows if row[2] == own and row[3] == established]
    return all(row[4].endswith(":00000000") for row in ours) and all(row[4].startswith("00000000:") for row in sent)


def test_a_stream_without_end_counts_as_one_whole_body(make_server):
    """However long it is, and it leaves room for others."""
    server = with_limits(make_server, body_bytes="1MiB", bodies_in_memory="2MiB")
    client = server.client()
    line = (json.dumps(event("long.line", description="x" * 900)) + "\n").encode()
    with server.raw() as stream:
        stream.send(f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: application/x-ndjson\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(12):
            stream.send(b"%x\r\n%s\r\n" % (len(line) * 1000, line * 1000))  # 12 MB in all
        body = json.dumps(event()).encode()
        wait_until(lambda: client.post("/v1/audit/events", body.ljust(MIB)).status == 201)
        stream.send(b"0\r\n\r\n")
        answer = stream.receive()
        assert answer.status == 201 and answer.json()["stored"] == 12_000, answer


# --- Connections

def open_connections(server, count):
    host, port = server.address
    clients = []
    for _ in range(count):
        client = socket.create_connection((host, port), timeout=20)
        clients.append(client)
    return clients


def test_4096_connections_and_one_more(make_server):
    """The default, with descriptors to carry it; the operator's own socket stays open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= 9_000, "this test needs a hard limit of 9,000 open files"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 9_000), hard))
    server = make_server()
    server.open_files = (256, 9_000)  # the server has to raise its soft limit by itself
    server.start()
    assert not server.logs("runtime.few_descriptors")
    clients = open_connections(server, 4_096)
    try:
        first, last = clients[0], clients[-1]
        for client in (first, last):
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        with server.raw() as beyond:
            answer = beyond.receive()
            expect_problem(answer, 503, "maximum of 4096 connections")
            assert answer.headers["retry-after"] == "1" and beyond.closed()
        assert server.cli("keys", "list", "--project", "proj_tests").returncode == 0, "the operator gets in"
        first.close()
        wait_until(lambda: server.client().get("/healthz", key=False).status == 200)
    finally:
        for client in clients:
            client.close()


def test_few_descriptors_lower_the_limit_with_a_warning(make_server):
    server = make_server()
    server.open_files = (256, 700)
    server.start()
    carried = 700 - 512 - 700 // 8  # what the process needs for itself, and for requests of its own
    warning = server.logs("runtime.few_descriptors")[0]
    assert warning["level"] == "warn" and warning["connections_wanted"] == 4096
    assert warning["descriptors_max"] == 700 and warning["connections_max"] == carried
    clients = open_connections(server, carried)
    with server.raw() as beyond:
        expect_problem(beyond.receive(), 503, f"maximum of {carried} connections")
    assert server.cli("keys", "list", "--project", "proj_tests").returncode == 0
    clients.pop().close()
    client = server.client()
    wait_until(lambda: client.get("/healthz", key=False).status == 200)
    wait_until(lambda: client.post("/v1/audit/events", event()).status == 201, what="room for the store's files")
    for client in clients:
        client.close()


# --- Queues and pages

def test_the_queue_of_the_node_is_its_limit(make_server):
    """Beyond it everybody is told to wait, whatever the share of the project."""
    from concurrent.futures import ThreadPoolExecutor
    client = with_limits(make_server, queue_bytes="64KiB").client()
    body = {"events": [event(metadata={"big": "x" * 20_000})] * 40}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/audit/events", body), range(64)))
    assert {a.status for a in answers} == {201, 503}
    refused = next(a for a in answers if a.status == 503)
    expect_problem(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert client.metric("annal_append_refused_total", reason="node_queue_full") == sum(a.status == 503 for a in answers)


def test_a_page_of_200_and_of_201(make_server):
    client = make_server().start().client()
    client.ingest(*(event() for _ in range(250)))
    page = client.page("?limit=200")
    assert len(page["data"]) == 200 and page["has_more"]
    expect_problem(client.get("/v1/audit/events?limit=201"), 400, "limit")


def nested(depth):
    return '{"a":' * (depth - 1) + "{}" + "}" * (depth - 1)


def test_metadata_depth(make_server):
    client = make_server().start().client()

    def post(depth):
        return client.post("/v1/audit/events",
                           '{"action":"a.b","actor":{"type":"user","id":"u"},"metadata":' + nested(depth) + "}")
    assert post(16).status == 201
    expect_problem(post(17), 422, "/metadata/a/a", "too_deep")


# --- Time

@pytest.mark.parametrize("limit,sent,answer", [
    ("header_timeout", b"GET /healthz HTTP/1.1\r\nHost: ", b"HTTP/1.1 408 "),
    ("body_timeout", f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: application/json\r\n"
                     "Content-Length: 10\r\n\r\n{".encode(), b"HTTP/1.1 408 "),
    ("idle_timeout", b"", b""),
])
def test_timeouts_of_the_settings(make_server, limit, sent, answer):
    server = with_limits(make_server, **{limit: "600ms"})
    with server.raw() as connection:
        began = time.monotonic()
        connection.send(sent)
        received = b""
        while piece := connection.socket.recv(4096):
            received += piece
        took = time.monotonic() - began
    assert received.startswith(answer) and bool(received) == bool(answer), received
    assert 0.5 < took < 10, took


def test_the_body_rate_of_the_settings(make_server):
    """Half the rate, without a pause: cut once it lags by the timeout. Twice the rate is served."""
    server = with_limits(make_server, body_timeout="1500ms", body_rate=400)
    body = json.dumps(event()).encode().ljust(1200)

    def post(bytes_at_once):
        with server.raw() as connection:
            connection.send((f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: application/json\r\n"
                             f"Content-Length: {len(body)}\r\n\r\n").encode())
            stopped = threading.Event()

            def drip():
                for at in range(0, len(body), bytes_at_once):
                    if stopped.wait(0.05):
                        return
                    try:
                        connection.send(body[at:at + bytes_at_once])
                    except OSError:
                        return
            sender = threading.Thread(target=drip)
            sender.start()
            answer = connection.receive()
            stopped.set()
            sender.join()
            return answer

    expect_problem(post(10), 408, "Request Timeout", "did not arrive in time")
    assert post(40).status == 201
