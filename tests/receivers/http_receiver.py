"""An HTTP server for receivers of the project's own: they say what their destination would, and keep what they took."""

import gzip
import http.server
import json
import threading
import urllib.parse
import zlib

BODY_BYTES_MAX = 64 << 20


class Received:
    """One request. `body` is as it was sent, `text` without its compression; None when it can't be undone."""

    def __init__(self, handler, body):
        split = urllib.parse.urlsplit(handler.path)
        self.method, self.path = handler.command, split.path
        self.query = dict(urllib.parse.parse_qsl(split.query))
        self.headers = {name.lower(): value for name, value in handler.headers.items()}
        self.body = body
        self.text = self._decoded()

    def _decoded(self):
        encoding = self.headers.get("content-encoding", "identity")
        try:
            if encoding == "gzip":
                return gzip.decompress(self.body)
            if encoding == "deflate":
                return zlib.decompress(self.body)
        except (OSError, EOFError, zlib.error):
            return None
        return self.body if encoding == "identity" else None


class HttpReceiver:
    """Answers on a port of 127.0.0.1 with what `answer(Received)` returns: status, and headers and body if there are any.

    One request at a time, whatever the connection. `stop` and `start` make an outage on the same port.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.port = 0
        self._server = None
        self.errors = []
        self.start()

    def answer(self, request):
        raise NotImplementedError

    def start(self):
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def respond(self):
                size = int(self.headers.get("Content-Length") or 0)
                assert size <= BODY_BYTES_MAX
                status, headers, body = receiver._answer(Received(self, self.rfile.read(size)))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = respond

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_):
                pass  # a client that has left

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self):
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None:
            assert not self.errors, self.errors

    def _answer(self, request):
        try:
            with self.lock:
                status, *more = self.answer(request)
        except Exception as error:  # a defect of the receiver must fail the test, not look like a fault
            self.errors.append(repr(error))
            status, more = 500, [{}, b"the receiver failed"]
        headers = more[0] if more else {}
        body = more[1] if len(more) > 1 else b""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode() if not isinstance(body, str) else body.encode()
            headers = {"Content-Type": "application/json"} | headers
        return status, headers, body
