"""A web server of the test's own, to which streams and webhooks deliver."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Received:
    """One request as it arrived."""

    def __init__(self, method, path, headers, body):
        self.method, self.path, self.body, self.at = method, path, body, time.monotonic()
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def lines(self):
        return self.body.decode().splitlines()


class Receiver:
    """Answers each request with what `answer(received)` returns, a status or (status, headers, body); 200 by default. None cuts
    the connection instead.

    Requests are written down before they are answered. Closed, it refuses connections; its port can be opened again.
    """

    def __init__(self, answer=None, port=0):
        self.answer = answer or (lambda _: 200)
        self.requests = []
        self.answered = 0  # how many of them, or cut
        self.changed = threading.Condition()
        self.port = port
        self.open()

    def open(self):
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                size = int(self.headers.get("content-length", 0))
                body = self.rfile.read(size)
                if len(body) < size:
                    self.close_connection = True  # who sent it has ended
                    return
                received = Received(self.command, self.path, self.headers.items(), body)
                with owner.changed:
                    owner.requests.append(received)
                    owner.changed.notify_all()
                said = owner.answer(received)
                try:
                    self.say(said)
                finally:
                    with owner.changed:
                        owner.answered += 1
                        owner.changed.notify_all()

            def say(self, said):
                if said is None:
                    self.close_connection = True
                    return
                status, headers, text = said if isinstance(said, tuple) else (said, {}, b"")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_HEAD = do_POST = do_PUT = serve

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                pass  # a client that is killed leaves a broken connection

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/hook"

    def wait_for(self, condition, timeout=60):
        """Until `condition(requests)` holds; what it returned."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while True:
                held = condition(self.requests)
                if held:
                    return held
                left = deadline - time.monotonic()
                assert left > 0, f"waited {timeout} s; {len(self.requests)} requests came"
                self.changed.wait(min(left, 0.2))
