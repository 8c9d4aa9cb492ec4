"""Clients that are slow, that stop, or that want to be understood in two ways: each is cut or refused, nobody else notices."""

import json
import socket
import threading
import time

import pytest
from annal_server import BOOTSTRAP_KEY, HOLD_LITTLE_BACK, Server, allow_open_files, event, expect_problem, wait_until

AUTH = f"Authorization: Bearer {BOOTSTRAP_KEY}\r\n"
POST = f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\n{AUTH}Content-Type: application/json\r\n"
BODY = json.dumps(event("smuggled.event"))


# --- Requests that two servers could read differently

SMUGGLED = f"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Smuggled: 1\r\n\r\n"


def post(*fields, body=BODY):
    return POST + "".join(field + "\r\n" for field in fields) + "\r\n" + body


CHUNKED = f"{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"

AMBIGUOUS = {
    "two lengths": post(f"Content-Length: {len(BODY)}", "Content-Length: 5"),
    "two lengths in a list": post(f"Content-Length: {len(BODY)}, 5"),
    "length and chunks": post(f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked", body=CHUNKED),
    "chunks and length": post("Transfer-Encoding: chunked", "Content-Length: 5", body=CHUNKED),
    "xchunked": post("Transfer-Encoding: xchunked", body=CHUNKED),
    "chunked, identity": post("Transfer-Encoding: chunked, identity", body=CHUNKED),
    "identity, chunked": post("Transfer-Encoding: identity, chunked", body=CHUNKED),
    "gzip, chunked": post("Transfer-Encoding: gzip, chunked", body=CHUNKED),
    "identity": post("Transfer-Encoding: identity", f"Content-Length: {len(BODY)}"),
    "chunked twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKED),
    "chunked in quotes": post('Transfer-Encoding: "chunked"', body=CHUNKED),
    "chunked with a parameter": post("Transfer-Encoding: chunked;q=1", body=CHUNKED),
    "vertical tab before chunked": post("Transfer-Encoding: \x0bchunked", body=CHUNKED),
    "chunks in HTTP/1.0": post("Transfer-Encoding: chunked", body=CHUNKED).replace("HTTP/1.1", "HTTP/1.0", 1),
    "folded": post("X-One: a\r\n b", f"Content-Length: {len(BODY)}"),
    "folded with a tab": post("X-One: a\r\n\tb", f"Content-Length: {len(BODY)}"),
    "folded encoding": post("Transfer-Encoding:\r\n chunked", body=CHUNKED),
    "first line folded": POST.replace("Host: a\r\n", " Host: a\r\n") + "\r\n",
    "space before the colon": post(f"Content-Length : {len(BODY)}"),
    "tab before the colon": post("Transfer-Encoding\t: chunked", body=CHUNKED),
    "no colon": post("Nonsense", f"Content-Length: {len(BODY)}"),
    "no name": post(": nothing", f"Content-Length: {len(BODY)}"),
    "bare LF": post(f"Content-Length: {len(BODY)}").replace("Host: a\r\n", "Host: a\n"),
    "bare LF at the end": post(f"Content-Length: {len(BODY)}").replace("\r\n\r\n", "\r\n\n", 1),
    "bare CR": post("X-One: a\rb", f"Content-Length: {len(BODY)}"),
    "NUL in a value": post("X-One: a\0b", f"Content-Length: {len(BODY)}"),
    "NUL in a name": post("X\0One: a", f"Content-Length: {len(BODY)}"),
    "NUL in a length": post(f"Content-Length: {len(BODY)}\0"),
    "control character": post("X-One: a\x01b", f"Content-Length: {len(BODY)}"),
    "negative length": post("Content-Length: -5"),
    "length with plus": post(f"Content-Length: +{len(BODY)}"),
    "length in hex": post("Content-Length: 0x10"),
    "length with a fraction": post("Content-Length: 10.0"),
    "empty length": post("Content-Length: "),
    "length of 64 bits and more": post("Content-Length: 18446744073709551617"),
    "length of 2^63": post("Content-Length: 9223372036854775808"),
    "two hosts": post("Host: b", f"Content-Length: {len(BODY)}"),
    "same host twice": post("Host: a", f"Content-Length: {len(BODY)}"),
    "no host": post(f"Content-Length: {len(BODY)}").replace("Host: a\r\n", ""),
    "space in the target": post(f"Content-Length: {len(BODY)}").replace("/events ", "/eve nts "),
    "authority form": "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "other scheme": post(f"Content-Length: {len(BODY)}").replace("POST /", "POST ftp://a/"),
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": "GET /healthz\r\n\r\n",
    "HTTP/1.2.3": "GET /healthz HTTP/1.2.3\r\nHost: a\r\n\r\n",
    "lower-case version": "GET /healthz http/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(server, root, shape):
    """Exactly one answer, whatever follows: nothing behind the request is taken for a second one."""
    before = root.count()
    with server.raw(timeout=20) as connection:
        connection.send((AMBIGUOUS[shape] + SMUGGLED).encode("latin-1"))
        answer = connection.receive()
        assert answer.status in (400, 501), answer
        assert answer.headers["connection"] == "close"
        assert connection.closed(), "a second answer"
    assert root.count() == before


BROKEN_CHUNKS = {
    "no number": "x\r\n",
    "negative": "-5\r\nhello\r\n0\r\n\r\n",
    "plus": "+5\r\nhello\r\n0\r\n\r\n",
    "0x": "0x5\r\nhello\r\n0\r\n\r\n",
    "space before": " 5\r\nhello\r\n0\r\n\r\n",
    "beyond 64 bits": "10000000000000005\r\nhello\r\n0\r\n\r\n",
    "more than it says": "3\r\nhello\r\n0\r\n\r\n",
    "LF alone": "5\nhello\n0\n\n",
    "no end of chunk": "5\r\nhello0\r\n\r\n",
    "NUL": "5\0\r\nhello\r\n0\r\n\r\n",
    "huge size line": "0" * 20_000 + "5\r\nhello\r\n0\r\n\r\n",
    "huge extension": "5;x=" + "y" * 20_000 + "\r\nhello\r\n0\r\n\r\n",
    "extension without end": "5;x=" + "y" * 2_000_000,
    "trailers too large": "0\r\nX-Trailer: " + "y" * 20_000 + "\r\n\r\n",
    "trailers without end": "0\r\n" + "X-Trailer: y\r\n" * 100_000,
}


@pytest.mark.parametrize("shape", BROKEN_CHUNKS)
def test_broken_chunks_are_refused_and_the_connection_closed(server, root, shape):
    before = root.count()
    with server.raw(timeout=20) as connection:
        text = POST + "Transfer-Encoding: chunked\r\n\r\n" + BROKEN_CHUNKS[shape] + SMUGGLED
        sending = threading.Thread(target=send_quietly, args=(connection, text.encode("latin-1")))
        sending.start()
        answer = connection.receive()
        sending.join()
        assert answer.status == 400, answer
        assert answer.headers["connection"] == "close"
        assert connection.closed(), "a second answer"
    assert root.count() == before


def send_quietly(connection, data):
    try:
        connection.send(data)
    except OSError:
        pass  # refused before all of it was sent


@pytest.mark.parametrize("chunks", [
    f"{len(BODY):X}\r\n{BODY}\r\n0\r\n\r\n",
    f"000{len(BODY):x}\r\n{BODY}\r\n000\r\n\r\n",
    f"{len(BODY):x};name=value;other=\"quoted; text\"\r\n{BODY}\r\n0;last\r\n\r\n",
    f"{len(BODY):x}\r\n{BODY}\r\n0\r\nX-Trailer: one\r\nX-Other: two\r\n\r\n",
    "".join(f"1\r\n{c}\r\n" for c in BODY) + "0\r\n\r\n",
], ids=["upper", "zeros", "extensions", "trailers", "byte_by_byte"])
def test_good_chunks_are_taken_and_the_connection_goes_on(server, root, chunks):
    with server.raw(timeout=20) as connection:
        connection.send((POST + "Transfer-Encoding: chunked\r\n\r\n" + chunks + SMUGGLED).encode())
        assert connection.receive().status == 201
        assert connection.receive().status == 200


@pytest.mark.parametrize("target", ["http://a/healthz", "HTTPS://other:99/healthz"])
def test_an_absolute_target_is_its_path(server, target):
    with server.raw() as connection:
        connection.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode() * 2)
        assert [connection.receive().status for _ in range(2)] == [200, 200]


def test_the_same_length_twice_is_refused_too_or_read_once(server, root):
    """RFC 9112 leaves both open; never two readings."""
    with server.raw() as connection:
        connection.send((post(f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY)}") + SMUGGLED).encode())
        answer = connection.receive()
        if answer.status == 201:
            assert connection.receive().status == 200
        else:
            assert answer.status == 400 and connection.closed()


# --- Many requests, few manners

def test_a_hundred_requests_in_one_segment_are_answered_in_order(server, root):
    ids = [receipt["id"] for receipt in root.ingest(*(event() for _ in range(100)))]
    with server.raw() as connection:
        connection.send(b"".join(f"GET /v1/audit/events/{i} HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n".encode() for i in ids))
        assert [connection.receive().json()["id"] for _ in ids] == ids


def test_a_hundred_posts_in_one_segment_keep_their_order(server, project):
    text = b"".join(
        (f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {project.secret}\r\n"
         f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n" + body).encode()
        for body in (json.dumps(event("piped.event", external_id=str(n))) for n in range(100)))
    with server.raw() as connection:
        connection.send(text)
        seqs = [connection.receive().json()["seq"] for _ in range(100)]
    assert seqs == sorted(seqs)
    assert [e["external_id"] for e in project.walk("?type=piped.event")][::-1] == [str(n) for n in range(100)]


def test_clients_that_connect_and_abort_leave_nothing_behind(server, root):
    before = root.metric("annal_http_connections")
    for n in range(100):
        connection = server.raw()
        if n % 2:
            connection.send(b"GET /v1/audit/ev")
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.close()
    wait_until(lambda: root.metric("annal_http_connections") <= before, what="the end of what was aborted")
    assert root.ingest(event())


@pytest.mark.parametrize("request_text", [f"GET /v1/audit/events?limit=1 HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n",
                                          post(f"Content-Length: {len(BODY)}"),
                                          f"GET /v1/audit/events.jsonl HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n"],
                         ids=["list", "post", "export"])
def test_a_half_closed_client_gets_its_answer(server, root, request_text):
    root.ingest(event())
    with server.raw() as connection:
        connection.send(request_text.encode())
        connection.socket.shutdown(socket.SHUT_WR)
        assert connection.receive().status in (200, 201)
        assert connection.closed()


# --- Slow clients

@pytest.fixture(scope="module")
def impatient():
    """A server whose clients have little time, with enough rows for an export that no socket holds."""
    server = Server(
        settings="limits: {header_timeout: 1s, body_timeout: 1s, write_timeout: 1s, idle_timeout: 3s}\n",
        env=HOLD_LITTLE_BACK).start()
    try:
        client = server.client()
        for _ in range(5):
            client.ingest(*(event("bulk.row", metadata={"filler": "x" * 500}) for _ in range(8_000)))
        yield server
        server.terminate()
    finally:
        server.kill()
        server.remove()


def drip(connection, data, stop, pause=0.1):
    for at in range(len(data)):
        if stop.wait(pause):
            return
        try:
            connection.send(data[at:at + 1])
        except OSError:
            return


@pytest.mark.parametrize("whole_at_once,dripped", [
    (b"", f"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Filler: {'x' * 100}".encode()),
    ((POST + "Content-Length: 1000\r\n\r\n").encode(), b"{" + b" " * 200),
    ((POST + "Transfer-Encoding: chunked\r\n\r\n").encode(), b"1\r\n{\r\n" + b"1\r\n \r\n" * 40),
], ids=["head", "body", "chunks"])
def test_what_comes_byte_by_byte_is_cut(impatient, whole_at_once, dripped):
    """Ten bytes a second never pause for long; the whole counts."""
    with impatient.raw(timeout=20) as connection:
        began = time.monotonic()
        connection.send(whole_at_once)
        stop = threading.Event()
        sender = threading.Thread(target=drip, args=(connection, dripped, stop))
        sender.start()
        answer = connection.receive()
        took = time.monotonic() - began
        stop.set()
        sender.join()
    assert answer.status == 408 and answer.headers["connection"] == "close", answer
    assert 0.9 < took < 4, took


def start_export(server, **more):
    connection = server.raw(receive_buffer=4096, **more)
    connection.send(f"GET /v1/audit/events.jsonl HTTP/1.1\r\nHost: a\r\n{AUTH}\r\n".encode())
    status, _ = connection.head()
    assert status == 200
    return connection


def test_readers_that_stop_in_an_export_are_cut_and_cost_no_memory(impatient):
    """More of them than the store has readers: they must not hold those up."""
    client = impatient.client()
    client.page()
    before = impatient.rss_bytes()
    stuck = [start_export(impatient) for _ in range(24)]
    impatient.expect_growth_below(48, before)
    began = time.monotonic()
    assert client.get("/v1/audit/events?limit=200").status == 200
    assert time.monotonic() - began < 5, "others are served meanwhile"
    wait_until(lambda: client.metric("annal_http_connections") <= 1, seconds=15, what="the end of the stuck exports")
    impatient.expect_growth_below(48, before)
    for connection in stuck:
        with pytest.raises((ConnectionError, ValueError)):
            connection._chunks()  # what came is not whole, and can't be taken for it
        connection.close()
    assert len(client.export_lines("?type=bulk.row")) == 40_000


def test_a_reader_of_a_few_bytes_a_second_is_cut(impatient):
    client = impatient.client()
    connection = start_export(impatient, timeout=20)
    began = time.monotonic()
    try:
        while time.monotonic() - began < 15 and client.metric("annal_http_connections") > 1:
            connection.socket.recv(20)
            time.sleep(0.1)
    except ConnectionError:
        pass
    wait_until(lambda: client.metric("annal_http_connections") == 1, seconds=5, what="the end of the slow reader")
    connection.close()


def test_idle_connections_are_closed_without_a_word(impatient):
    with impatient.raw(timeout=20) as fresh, impatient.raw(timeout=20) as used:
        used.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert used.receive().status == 200
        began = time.monotonic()
        assert fresh.closed() and used.closed()
        assert 2 < time.monotonic() - began < 10


# --- Many slow clients

@pytest.mark.parametrize("stage", ["head", "body"])
def test_many_slow_clients_cost_little_memory_each(make_server, stage):
    count = 2_000
    allow_open_files(8192)
    server = make_server(env=HOLD_LITTLE_BACK)
    server.start()
    client = server.client()
    client.ingest(event())
    part = (b"GET /v1/audit/events HTTP/1.1\r\nHost: a\r\nX-Filler: " + b"x" * 1_000 if stage == "head" else
            (POST + "Content-Length: 1000000\r\n\r\n").encode() + b"{" + b" " * 1_000)
    slow = []

    def connect_up_to(total):
        while len(slow) < total:
            connection = socket.create_connection(server.address, timeout=20)
            connection.sendall(part)
            slow.append(connection)
        wait_until(lambda: client.metric("annal_http_connections") > total)
        return server.rss_bytes()

    try:
        # The first ones pay for what all of them share.
        before = connect_up_to(count // 4)
        each = (connect_up_to(count) - before) / (count - count // 4)
        assert each < 64 << 10, f"{each:.0f} bytes for each connection"
        assert client.ingest(event()), "and others are served"
    finally:
        for connection in slow:
            connection.close()
    wait_until(lambda: client.metric("annal_http_connections") <= 1, seconds=15, what="the end of the slow connections")
