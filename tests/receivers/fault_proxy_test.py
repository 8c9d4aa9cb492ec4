"""The faults of the proxy, each before a receiver that knows what it has got."""

import http.client
import http.server
import socket
import ssl
import subprocess
import threading
import time

import pytest
from fault_proxy import (CONNECTIONS_MAX, FaultProxy, hang, lost_answer, partial, passing, reset, rewrite, slow, status,
                         truncate_answer)


class Receiver:
    """Keeps every body that it gets and answers with its number."""

    def __init__(self):
        taken = self.taken = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                taken.append(self.rfile.read(int(self.headers["Content-Length"])))
                body = b"number %d" % len(taken)
                self.send_response(201)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("X-Host", self.headers["Host"])
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.send_response(200)
                if self.path == "/until-the-end":
                    self.close_connection = True
                    self.end_headers()
                    self.wfile.write(b"no length")
                    return
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.wfile.write(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n")

            def do_HEAD(self):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def proxy(receiver):
    with FaultProxy("127.0.0.1", receiver.port) as proxy:
        yield proxy


def send(proxy, body=b"x", method="POST", path="/in", timeout=5, connection=None, **headers):
    own = connection or http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout)
    try:
        own.request(method, path, body=body if method == "POST" else None, headers=headers)
        answer = own.getresponse()
        return answer.status, answer.read(), answer
    finally:
        if connection is None:
            own.close()


def test_passes_on_and_records(proxy, receiver):
    code, body, answer = send(proxy, b"\x00\xff", path="/a?b=c", Key="1")
    assert (code, body) == (201, b"number 1")
    assert answer.headers["X-Host"] == f"127.0.0.1:{proxy.port}"  # not rewritten: signatures may cover it
    assert receiver.taken == [b"\x00\xff"]
    (seen,) = proxy.wait_for(1)
    assert (seen.method, seen.path, seen.body, seen.header("key")) == ("POST", "/a?b=c", b"\x00\xff", "1")
    assert (seen.complete, seen.forwarded, seen.upstream_status, seen.answered_status) == (True, True, 201, 201)
    assert seen.fault is None


def test_every_framing_passes_on_a_kept_connection(proxy):
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
    assert send(proxy, connection=connection)[:2] == (201, b"number 1")
    assert send(proxy, method="GET", connection=connection)[:2] == (200, b"abcde")
    assert send(proxy, method="HEAD", connection=connection)[:2] == (200, b"")
    assert send(proxy, method="GET", path="/until-the-end", connection=connection)[:2] == (200, b"no length")
    assert send(proxy, connection=connection)[:2] == (201, b"number 2")
    connection.close()
    assert [r.method for r in proxy.wait_for(5)] == ["POST", "GET", "HEAD", "GET", "POST"]


def test_a_chunked_request_is_recorded_without_its_chunks(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        # This receiver wants a length; that the request reached it is all that is asked here.
        sock.shutdown(socket.SHUT_WR)
        (seen,) = proxy.wait_for(1)
    assert seen.body == b"abc" and seen.complete


def test_a_lost_answer_was_committed(proxy, receiver):
    proxy.plan([lost_answer()])
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        send(proxy, b"once")
    assert receiver.taken == [b"once"]
    (seen,) = proxy.wait_for(1)
    assert (seen.forwarded, seen.upstream_status, seen.answered_status) == (True, 201, None)
    assert seen.fault == "lost_answer"
    assert send(proxy, b"once")[0] == 201
    assert receiver.taken == [b"once", b"once"]


def test_statuses_are_not_forwarded(proxy, receiver):
    proxy.plan([status(429, {"Retry-After": "3"}), passing(), status(413, body="too much")])
    code, body, answer = send(proxy)
    assert (code, body, answer.headers["Retry-After"]) == (429, b"", "3")
    assert send(proxy, b"taken")[0] == 201
    assert send(proxy)[:2] == (413, b"too much")
    assert receiver.taken == [b"taken"]
    assert [(r.forwarded, r.answered_status) for r in proxy.wait_for(3)] == [(False, 429), (True, 201), (False, 413)]


def test_resets_before_and_in_the_middle_of_a_body(proxy, receiver):
    proxy.plan([reset(), reset(after_body_bytes=1000)])
    for _ in range(2):
        with pytest.raises((ConnectionError, http.client.BadStatusLine)):
            send(proxy, b"y" * 5_000_000)
    assert receiver.taken == []
    first, second = proxy.wait_for(2)
    assert (len(first.body), len(second.body)) == (0, 1000)
    assert not (first.complete or second.complete or first.forwarded or second.forwarded)


def test_slow_answers_come_late(proxy, receiver):
    proxy.plan([slow(0.3)])
    begin = time.monotonic()
    assert send(proxy)[0] == 201
    assert time.monotonic() - begin >= 0.3


@pytest.mark.parametrize("forward", [False, True])
def test_hanging_lasts_until_the_client_leaves(proxy, receiver, forward):
    proxy.plan([hang(forward)])
    with pytest.raises(TimeoutError):
        send(proxy, timeout=0.3)
    (seen,) = proxy.wait_for(1)
    assert seen.answered_status is None and seen.forwarded == forward
    assert len(receiver.taken) == forward
    assert send(proxy)[0] == 201


def test_truncated_answers(proxy, receiver):
    proxy.plan([truncate_answer(), truncate_answer(keep=20)])
    with pytest.raises(http.client.IncompleteRead):
        send(proxy)
    with socket.create_connection(("127.0.0.1", proxy.port)) as sock:
        sock.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        assert sock.makefile("rb").read() == b"HTTP/1.1 201 Created"
    assert len(receiver.taken) == 2


def test_rewrites_and_partial_success(proxy, receiver):
    def half_failed(answer):
        answer.status = 207
        answer.body += b", but not all"

    proxy.plan([rewrite(answer=half_failed), partial(lambda body: body[:2], half_failed)])
    assert send(proxy, b"abcd")[:2] == (207, b"number 1, but not all")
    assert send(proxy, b"abcd")[:2] == (207, b"number 2, but not all")
    assert receiver.taken == [b"abcd", b"ab"]
    first, second = proxy.wait_for(2)
    assert second.body == b"abcd" and second.upstream_status == 201 and second.answered_status == 207


def test_steps_may_be_for_some_requests_only(proxy, receiver):
    proxy.plan([status(503)], where=lambda request: request.path == "/ack")
    proxy.plan([status(500)])
    assert send(proxy)[0] == 500
    assert send(proxy)[0] == 201
    assert send(proxy, path="/ack")[0] == 503
    assert [r.path for r in proxy.wait_for(2, where=lambda r: r.fault)] == ["/in", "/ack"]


def test_a_receiver_that_is_not_there_cuts_the_client_off(proxy, receiver):
    proxy.upstream = ("127.0.0.1", 1)
    with pytest.raises((ConnectionError, http.client.BadStatusLine)):
        send(proxy)
    (seen,) = proxy.wait_for(1)
    assert not seen.forwarded
    proxy.upstream = ("127.0.0.1", receiver.port)
    assert send(proxy)[0] == 201


def test_a_fault_that_did_not_happen_fails_the_test(receiver):
    with pytest.raises(AssertionError, match="lost_answer"):
        with FaultProxy("127.0.0.1", receiver.port) as proxy:
            proxy.plan([lost_answer()])
    with FaultProxy("127.0.0.1", receiver.port) as proxy:
        proxy.plan([lost_answer()])
        proxy.forget_plan()
    with pytest.raises(AssertionError, match="0 requests of 1"):
        with FaultProxy("127.0.0.1", receiver.port) as proxy:
            proxy.wait_for(1, seconds=0.05)


def test_serves_over_tls(receiver, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
                   check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with FaultProxy("127.0.0.1", receiver.port, tls=context) as proxy:
        proxy.plan([passing(), lost_answer()])
        trusting = ssl.create_default_context(cafile=str(cert))
        over_tls = [http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=5, context=trusting) for _ in range(2)]
        assert send(proxy, b"secret", connection=over_tls[0])[0] == 201
        with pytest.raises((OSError, http.client.HTTPException)):
            send(proxy, b"secret", connection=over_tls[1])
        for connection in over_tls:
            connection.close()
        # Who distrusts the certificate leaves; the proxy goes on.
        with pytest.raises(ssl.SSLError):
            send(proxy, connection=http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=5))
        assert receiver.taken == [b"secret"] * 2


def test_closes_with_connections_in_every_state(receiver):
    proxy = FaultProxy("127.0.0.1", receiver.port)
    before = threading.active_count()
    proxy.plan([hang(), slow(60)])
    idle = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(CONNECTIONS_MAX + 5)]
    for sock in idle[:2]:
        sock.sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
    idle[2].sendall(b"POST /in HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
    proxy.wait_for(1)
    assert threading.active_count() > before
    begin = time.monotonic()
    proxy.close()
    assert time.monotonic() - begin < 5
    assert not [t for t in threading.enumerate() if t.name == "fault_proxy"]
    for sock in idle:
        sock.close()
