"""The network between a client and a server on a Unix socket: what tests/support/tcp_proxy.h is to the C++ tests."""

import os
import select
import socket
import struct
import threading

from postgres_cluster import USER, free_port

CONNECTIONS_MAX = 256
CHUNK_BYTES_MAX = 65536
DEADLINE_S = 60


def _reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _receive(sock):
    """What there is, and whether the stream has ended; a reset is an end, too."""
    try:
        chunk = sock.recv(CHUNK_BYTES_MAX)
        return chunk, not chunk
    except BlockingIOError:
        return b"", False
    except OSError:
        return b"", True


def _send(sock, data):
    """What could not be sent yet, and whether nobody receives any more."""
    try:
        return data[sock.send(data):], False
    except BlockingIOError:
        return data, False
    except OSError:
        return b"", True


class _Connection:
    def __init__(self, client, server):
        self.client, self.server = client, server
        self.to_server = self.to_client = b""  # received, not yet forwarded
        self.seen = b""  # the last bytes of the client, where a pattern may begin
        self.client_ended = self.server_ended = False
        self.answer_lost = self.silent = self.closed = False
        self.then = None

    def close(self, reset=False):
        self.closed = True
        self.server.close()
        # An orderly end passes as one.
        self.client.close() if self.server_ended and not self.answer_lost and not reset else _reset(self.client)


class TcpProxy:
    """Takes connections on a port of 127.0.0.1, forwards them to the server behind `socket_path`, and fails them on demand. What a
    method demands holds for every byte from its return on. Any thread may call; one of the proxy's own forwards.
    """

    def __init__(self, socket_path):
        self._server_path = str(socket_path)
        self._listener = socket.socket()
        self._bind()
        self.port = self._listener.getsockname()[1]
        # Only now, so that the port was free: for listening again while connections are open.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setblocking(False)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._work = []
        self._cut_happened = threading.Event()
        self._connections, self._trigger = [], None
        self._stalled = self._ending = False
        self._admit()
        self._thread = threading.Thread(target=self._loop, name="tcp_proxy", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Resets all connections and ends the proxy."""
        if self._thread.is_alive():
            self._on_loop(self._end)
            self._thread.join(DEADLINE_S)
            self._listener.close()
            os.close(self._wake)

    def url(self, database):
        """libpq's URL of a database of the cluster behind, without encryption, so that `cut_on` reads it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    # --- Demands

    def cut(self):
        """Resets all connections. New ones are welcome."""
        self._on_loop(self._close_all)

    def stall(self):
        """Stops forwarding in both directions, ends of streams included, and closes nothing. New connections stand, too."""
        self._on_loop(lambda: setattr(self, "_stalled", True))

    def stall_on(self, pattern):
        """Once: the same from the chunk on in which a client sends the bytes `pattern`. It arrives after `resume`."""
        assert pattern
        self._arm(bytes(pattern), "nothing", None)

    def refuse(self):
        """Refuses new connections; those that are there go on."""
        self._on_loop(self._refuse)

    def resume(self):
        """Ends `stall` and `refuse`, and takes back a `cut_on` or `stall_on` that has not happened."""
        self._on_loop(self._resume)

    def cut_on(self, pattern, lost="request", then="reset"):
        """Once, on the first connection whose client sends the bytes `pattern`: forwards nothing any more from the chunk on in
        which the pattern ends. Other connections, also later ones, go on.

        lost="request": the server never sees the chunk. lost="answer": the server gets it, and what it answers is dropped; it
        happens when that answer has come, so that what it confirms is done. then="reset" closes both sides at once, the client's
        with a reset; then="silence" keeps both open, and nothing passes any more, until `cut`.
        """
        assert pattern and lost in ("request", "answer") and then in ("reset", "silence")
        self._arm(bytes(pattern), lost, then)

    def await_cut(self, seconds=30):
        """Waits until the last `cut_on` or `stall_on` has happened; False when it has not in time."""
        return self._cut_happened.wait(seconds)

    def connections(self):
        """How many connections are open, those in silence included."""
        count = []
        self._on_loop(lambda: count.append(len(self._connections)))
        return count[0]

    # --- The thread

    def _arm(self, pattern, lost, then):
        def arm():
            self._cut_happened.clear()
            self._trigger = (pattern, lost, then)

        self._on_loop(arm)

    def _bind(self):
        for tries_left in reversed(range(10)):
            try:
                return self._listener.bind(("127.0.0.1", free_port()))
            except OSError:
                if tries_left == 0:
                    raise

    def _on_loop(self, work):
        done = threading.Event()
        with self._lock:
            self._work.append((work, done))
        os.eventfd_write(self._wake, 1)
        assert done.wait(DEADLINE_S), "the proxy hangs"

    def _do_work(self):
        os.eventfd_read(self._wake)
        with self._lock:
            work, self._work = self._work, []
        for piece, done in work:
            piece()
            done.set()

    def _loop(self):
        while not self._ending:
            events = self._poll()
            if events.pop(self._wake, 0):
                self._do_work()
                continue  # what was asked for holds before anything else is forwarded
            for each in self._connections:
                self._forward(each, events.get(each.client.fileno(), 0), events.get(each.server.fileno(), 0))
            self._connections = [each for each in self._connections if not each.closed]
            if events.get(self._listener.fileno()):
                self._accept()

    def _poll(self):
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._admitting and len(self._connections) < CONNECTIONS_MAX:
            poll.register(self._listener, select.POLLIN)
        for each in self._connections:
            if self._stalled or each.silent:
                continue
            hears_client = not (each.client_ended or each.answer_lost or each.to_server)
            client = (select.POLLIN if hears_client else 0) | (select.POLLOUT if each.to_client else 0)
            hears_server = not (each.server_ended or each.to_client)
            server = (select.POLLIN if hears_server else 0) | (select.POLLOUT if each.to_server else 0)
            # Without anything to wait for poll must not see a descriptor at all: it would tell of hang-ups.
            for sock, wanted in ((each.client, client), (each.server, server)):
                if wanted:
                    poll.register(sock, wanted)
        return dict(poll.poll())

    def _admit(self):
        self._listener.listen(128)
        self._admitting = True

    def _refuse(self):
        # Without its listener the socket keeps the port, and the kernel refuses.
        if self._admitting:
            self._listener.shutdown(socket.SHUT_RDWR)
        self._admitting = False

    def _resume(self):
        self._stalled, self._trigger = False, None
        if not self._admitting:
            self._admit()

    def _close_all(self):
        for each in self._connections:
            each.close(reset=True)
        self._connections = []

    def _end(self):
        self._close_all()
        self._ending = True

    def _accept(self):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        server.setblocking(False)
        try:
            server.connect(self._server_path)
        except OSError:
            server.close()
            _reset(client)
            return
        self._connections.append(_Connection(client, server))

    def _forward(self, each, client_events, server_events):
        if self._stalled:
            return  # since an earlier one of this round
        readable = select.POLLIN | select.POLLHUP | select.POLLERR
        if client_events & readable and not each.to_server:
            self._from_client(each)
        if not (each.closed or each.silent) and server_events & readable and not each.to_client:
            self._from_server(each)
        if each.closed or each.silent or self._stalled:
            return
        if each.to_server:
            each.to_server, gone = _send(each.server, each.to_server)
            each.server_ended |= gone
        if each.to_client:
            each.to_client, gone = _send(each.client, each.to_client)
            each.client_ended |= gone
        # What one side has said in the end still reaches the other.
        if (each.client_ended and not each.to_server) or (each.server_ended and not each.to_client):
            each.close()

    def _from_client(self, each):
        if each.client_ended or each.answer_lost:
            return
        chunk, each.client_ended = _receive(each.client)
        each.seen += chunk
        if not self._trigger or self._trigger[0] not in each.seen:
            kept = len(self._trigger[0]) - 1 if self._trigger else 0
            each.seen = each.seen[len(each.seen) - min(len(each.seen), kept):]
            each.to_server = chunk
            return
        (_, lost, each.then), self._trigger = self._trigger, None
        if lost == "nothing":
            each.to_server, self._stalled = chunk, True
            self._cut_happened.set()
        elif lost == "request":
            self._lose(each)
        else:
            each.to_server = chunk
            each.answer_lost = True

    def _from_server(self, each):
        if each.server_ended:
            return
        chunk, each.server_ended = _receive(each.server)
        if each.answer_lost and not each.to_server and (chunk or each.server_ended):
            self._lose(each)
        else:
            each.to_client = chunk

    def _lose(self, each):
        if each.then == "silence":
            each.silent = True
        else:
            each.close(reset=True)
        self._cut_happened.set()
