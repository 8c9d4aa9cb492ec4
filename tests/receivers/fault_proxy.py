"""The network between a sink and a receiver, one HTTP/1.1 request at a time: what receivers do on their worst days.

    with FaultProxy("127.0.0.1", receiver.port) as proxy:
        proxy.plan([lost_answer(), status(429, {"Retry-After": "2"})])
        …  # a sink that delivers to 127.0.0.1:{proxy.port}
        first, second, third = proxy.wait_for(3)
        assert first.body == second.body == third.body

The first request meets the first step, the second one the second; requests beyond the plan are passed on. Bytes that no step
changes go through as they are, so that signatures over host, headers and body hold. Leaving the `with` fails when a planned fault
has not happened: a test of a fault that never came would prove nothing.
"""

import select
import socket
import ssl
import struct
import threading
import time

CONNECTIONS_MAX = 64
HEAD_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 64 << 20
DEADLINE_S = 60


class Cut(Exception):
    """The connection to the client is to be reset, here and now."""


class _Gone(Exception):
    """The peer has closed between two requests, or in the middle of one."""


class Message:
    """Head and body of a request or an answer. `body` is without chunks; what a step assigns here is what is sent on."""

    def __init__(self, start, headers, body=b"", raw_head=b""):
        self.start = start  # "POST /x HTTP/1.1", "HTTP/1.1 200 OK"
        self.headers = headers  # [(name, value)], as they came
        self.body = body
        self._raw = (raw_head, b"")
        self._seen = (start, list(headers), body)

    def take_body(self, body, raw):
        """The body that came behind the head, without its framing and with it."""
        self.body = body
        self._raw = (self._raw[0], raw)
        self._seen = (self.start, list(self.headers), body)

    def header(self, name):
        """The first value of a header, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def wire(self):
        """The bytes to send: those that came, unless something was changed."""
        if self._raw[0] and self._seen == (self.start, self.headers, self.body):
            return self._raw[0] + self._raw[1]
        fields = [(k, v) for k, v in self.headers if k.lower() not in ("content-length", "transfer-encoding")]
        fields.append(("Content-Length", str(len(self.body))))
        head = "\r\n".join([self.start] + [f"{k}: {v}" for k, v in fields]) + "\r\n\r\n"
        return head.encode("latin-1") + self.body


class Answer(Message):
    """What the receiver said."""

    @property
    def status(self):
        return int(self.start.split(" ")[1])

    @status.setter
    def status(self, code):
        self.start = f"HTTP/1.1 {code} Changed"


class Request(Message):
    """One request of the sink and what became of it."""

    def __init__(self, start, headers, raw_head):
        super().__init__(start, headers, raw_head=raw_head)
        self.method, self.path, _ = start.split(" ")
        self.at = time.monotonic()  # when its head was there
        self.complete = False  # its body came to its end
        self.forwarded = False  # the receiver got all of it
        self.upstream_status = None  # what the receiver answered; None: it was not asked, or did not answer
        self.answered_status = None  # what the sink was told; None: it was cut off
        self.fault = None  # the name of the step that it met, or None
        self.settled = False  # all of this is final

    def take_body(self, body, raw):
        super().take_body(body, raw)
        self.complete = True

    def __repr__(self):
        return (f"Request({self.method} {self.path}, {len(self.body)} bytes, fault={self.fault}, forwarded={self.forwarded}, "
                f"upstream={self.upstream_status}, answered={self.answered_status})")


class Step:
    """What happens to one request. `run(exchange)` does it."""

    def __init__(self, name, run):
        self.name, self.run = name, run

    def __repr__(self):
        return self.name


def passing():
    """Nothing: keeps a place in a plan."""
    return Step("passing", lambda exchange: exchange.answer_with(exchange.forward()))


def lost_answer():
    """The receiver gets the whole request and answers; then the connection is reset: it has committed, and the sink can't know."""

    def run(exchange):
        exchange.forward()
        raise Cut

    return Step("lost_answer", run)


def status(code, headers=None, body=b""):
    """This answer, without asking the receiver."""
    fields = list(dict(headers or {}).items())

    def run(exchange):
        exchange.read_body()
        exchange.answer_with(Answer(f"HTTP/1.1 {code} Planned", fields, body.encode() if isinstance(body, str) else body))

    return Step(f"status {code}", run)


def slow(seconds):
    """The receiver's own answer, so much later."""

    def run(exchange):
        answer = exchange.forward()
        exchange.proxy.pause(seconds)
        exchange.answer_with(answer)

    return Step(f"slow {seconds}", run)


def hang(forward=False):
    """No answer, and no end of the connection either, until the sink gives up. With `forward` the receiver gets the request."""

    def run(exchange):
        exchange.forward() if forward else exchange.read_body()
        exchange.settle()
        exchange.wait_for_client_to_leave()
        raise _Gone

    return Step("hang", run)


def reset(after_body_bytes=0):
    """A reset, after the head and so many bytes of the request's body; the receiver sees nothing of it."""

    def run(exchange):
        exchange.request.body = exchange.read_some(after_body_bytes)
        raise Cut

    return Step(f"reset after {after_body_bytes}", run)


def truncate_answer(keep=None):
    """The receiver's answer ends in the middle of its body, or after `keep` bytes of head and body. Without a body it ends in its
    status line: clients may take a head that lacks only its end for a whole one."""

    def run(exchange):
        answer = exchange.forward().wire()
        body_at = answer.index(b"\r\n\r\n") + 4
        middle = body_at + (len(answer) - body_at) // 2 if len(answer) > body_at + 1 else len("HTTP/1.1 2")
        exchange.send(answer[:min(keep if keep is not None else middle, len(answer) - 1)])
        raise _Gone

    return Step("truncate_answer", run)


def rewrite(answer=None, request=None):
    """Functions that change what passes: `request(Request)` what the receiver gets, `answer(Answer)` what the sink is told."""

    def run(exchange):
        exchange.read_body()
        sent = exchange.request
        before = (sent.start, list(sent.headers), sent.body)
        if request:
            request(sent)
        wire = sent.wire()
        sent.start, sent.headers, sent.body = before  # the record shows what the sink sent
        came = exchange.forward(wire)
        if answer:
            answer(came)
        exchange.answer_with(came)

    return Step("rewrite", run)


def partial(keep, answer=None):
    """The receiver gets only what `keep` makes of the body (bytes to bytes), and the sink is told the answer to that, as
    `answer(Answer)` changes it."""

    def cut_down(request):
        request.body = keep(request.body)

    step = rewrite(answer=answer, request=cut_down)
    step.name = "partial"
    return step


class _Stream:
    """A socket with a buffer before it."""

    def __init__(self, sock):
        self.socket, self.buffer = sock, b""

    def fill(self):
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise _Gone
        self.buffer += piece

    def take(self, size):
        pieces, missing = [self.buffer[:size]], size - len(self.buffer[:size])
        self.buffer = self.buffer[size:]
        while missing > 0:
            piece = self.socket.recv(min(1 << 16, missing))
            if not piece:
                raise _Gone
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def line(self):
        while b"\r\n" not in self.buffer:
            if len(self.buffer) > HEAD_BYTES_MAX:
                raise AssertionError("a line without end")
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line + b"\r\n"

    def head(self):
        """Start line, headers and the bytes they came in."""
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > HEAD_BYTES_MAX:
                raise AssertionError("a head without end")
            self.fill()
        raw, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        start, *lines = raw.decode("latin-1").split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        return start, headers, raw + b"\r\n\r\n"

    def body(self, message, ends_with_connection):
        """The body behind a head, decoded and raw."""
        if "chunked" in (message.header("Transfer-Encoding") or "").lower():
            return self._chunks()
        length = message.header("Content-Length")
        if length is not None:
            assert int(length) <= BODY_BYTES_MAX, "a body larger than the proxy takes"
            body = self.take(int(length))
            return body, body
        if not ends_with_connection:
            return b"", b""
        while True:
            try:
                self.fill()
                assert len(self.buffer) <= BODY_BYTES_MAX, "a body larger than the proxy takes"
            except _Gone:
                body, self.buffer = self.buffer, b""
                return body, body

    def _chunks(self):
        pieces, raw = [], []
        while True:
            raw.append(self.line())
            size = int(raw[-1].split(b";")[0], 16)
            if size == 0:
                break
            assert sum(map(len, pieces)) + size <= BODY_BYTES_MAX, "a body larger than the proxy takes"
            pieces.append(self.take(size))
            raw += [pieces[-1], self.line()]
        while raw[-1] != b"\r\n":  # trailers, and the empty line behind them
            raw.append(self.line())
        return b"".join(pieces), b"".join(raw)


class _Exchange:
    """One request on one connection: what steps work with."""

    def __init__(self, proxy, client, request):
        self.proxy, self.client, self.request = proxy, client, request

    def read_body(self):
        if not self.request.complete:
            if (self.request.header("Expect") or "").lower() == "100-continue":
                self.client.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.take_body(*self.client.body(self.request, ends_with_connection=False))

    def read_some(self, size):
        return self.client.take(min(size, int(self.request.header("Content-Length") or size)))

    def forward(self, wire=None):
        """Sends the request, or `wire` in its place, to the receiver; its answer. A receiver that is not there cuts the sink off."""
        self.read_body()
        request = self.request
        try:
            with self.proxy.connect() as sock:
                sock.sendall(wire if wire is not None else request.wire())
                request.forwarded = True
                stream = _Stream(sock)
                answer = self._read_answer(stream)
        except (OSError, _Gone):
            raise Cut from None
        request.upstream_status = answer.status
        return answer

    def _read_answer(self, stream):
        while True:
            start, headers, raw_head = stream.head()
            answer = Answer(start, headers, raw_head=raw_head)
            if answer.status >= 200:
                break
        if self.request.method == "HEAD" or answer.status in (204, 304):
            answer.take_body(b"", b"")
            return answer
        body, raw = stream.body(answer, ends_with_connection=True)
        if answer.header("Content-Length") is None and answer.header("Transfer-Encoding") is None:
            answer.body, answer._raw = body, (b"", b"")  # it ended with its connection; the sink's goes on, and needs a length
        else:
            answer.take_body(body, raw)
        return answer

    def send(self, data):
        self.client.socket.sendall(data)

    def answer_with(self, answer):
        self.request.answered_status = answer.status
        try:
            self.send(answer.wire())
        except OSError:
            self.request.answered_status = None  # the sink has given up
            raise _Gone from None

    def wait_for_client_to_leave(self):
        while not self.proxy.closing.is_set():
            if select.select([self.client.socket], [], [], 0.1)[0]:
                return

    def settle(self):
        self.proxy.settle(self.request)


class FaultProxy:
    """Takes connections on a free port of 127.0.0.1 and hands their requests to the receiver, each as the plan says.

    `tls` is the ssl.SSLContext to serve with, `upstream_tls` the one to reach the receiver with; None: plain. `upstream` may be
    assigned anew when a receiver comes back elsewhere. Any thread may call. Requests of one connection are answered in order; at
    most CONNECTIONS_MAX connections are served at a time, each by a thread that `close` joins.
    """

    def __init__(self, upstream_host, upstream_port, tls=None, upstream_tls=None):
        self.upstream = (upstream_host, upstream_port)
        self.closing = threading.Event()
        self._tls, self._upstream_tls = tls, upstream_tls
        self._changed = threading.Condition()
        self._requests, self._plans, self._errors = [], [], []
        self._sockets = set()
        self._threads = []  # the acceptor's, until it has ended
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS_MAX)
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="fault_proxy", daemon=True)
        self._acceptor.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is None:
            assert not self.planned(), f"faults that have not happened: {self.planned()}"

    # --- What a test arranges and looks at

    def plan(self, steps, where=None):
        """Steps for the next requests, behind those that are planned already. `where(Request)` says which requests they are for, by
        method, path and headers; the body is not there yet."""
        with self._changed:
            self._plans.append((where or (lambda _: True), list(steps)))

    def forget_plan(self):
        """From now on requests are passed on."""
        with self._changed:
            self._plans = []

    def planned(self):
        """The steps that no request has met yet."""
        with self._changed:
            return [step for _, steps in self._plans for step in steps]

    def requests(self, where=None):
        """The requests so far whose fate is settled, in the order of their heads. The sink may know its answer an instant earlier:
        `wait_for` is what tests look with."""
        with self._changed:
            return [r for r in self._requests if r.settled and (where is None or where(r))]

    def wait_for(self, count, seconds=30, where=None):
        """All settled requests, as soon as they are `count`. For `hang`: when the silence has begun."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                found = [r for r in self._requests if r.settled and (where is None or where(r))]
                if len(found) >= count:
                    return found
                left = deadline - time.monotonic()
                assert left > 0, f"{len(found)} requests of {count} within {seconds} s: {found}"
                self._changed.wait(left)

    def close(self):
        """Resets all connections and waits for all threads. Fails when the proxy itself did."""
        if self.closing.is_set():
            return
        self.closing.set()
        with self._changed:
            for sock in self._sockets | {self._listener}:
                self._wake(sock)
        self._acceptor.join(DEADLINE_S)
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "the proxy hangs"
        self._listener.close()
        assert not self._errors, self._errors

    # --- For the steps

    def pause(self, seconds):
        self.closing.wait(seconds)

    def connect(self):
        sock = socket.create_connection(self.upstream, timeout=DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._upstream_tls.wrap_socket(sock, server_hostname=self.upstream[0]) if self._upstream_tls else sock

    def settle(self, request):
        with self._changed:
            request.settled = True
            self._changed.notify_all()

    # --- Threads

    @staticmethod
    def _wake(sock):
        try:
            # Not SSLSocket's own, which is not for a thread beside the one that reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self):
        while True:
            self._slots.acquire()
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                if self.closing.is_set():
                    sock.close()
                    return
                self._sockets.add(sock)
            sock.settimeout(DEADLINE_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(sock,), name="fault_proxy", daemon=True)
            thread.start()
            # One that has left its connection may still run for an instant, which `close` waits for as well.
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]

    def _serve(self, sock):
        wrapped = sock
        try:
            if self._tls:
                wrapped = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                with self._changed:
                    self._sockets.discard(sock)
                    self._sockets.add(wrapped)
                wrapped.do_handshake()
            self._converse(_Stream(wrapped))
        except (_Gone, OSError, ssl.SSLError):
            pass  # the sink has left, or did not like the certificate
        except Cut:
            wrapped.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except Exception as error:
            if not self.closing.is_set():
                self._errors.append(repr(error))
        finally:
            with self._changed:
                self._sockets -= {sock, wrapped}
            wrapped.close()
            self._slots.release()

    def _converse(self, client):
        while not self.closing.is_set():
            start, headers, raw_head = client.head()
            request = Request(start, headers, raw_head)
            with self._changed:
                self._requests.append(request)
                step = self._next_step(request)
            request.fault = step.name if step else None
            try:
                (step or passing()).run(_Exchange(self, client, request))
            finally:
                self.settle(request)
            if (request.header("Connection") or "").lower() == "close":
                return

    def _next_step(self, request):
        for where, steps in self._plans:
            if steps and where(request):
                return steps.pop(0)
        return None
