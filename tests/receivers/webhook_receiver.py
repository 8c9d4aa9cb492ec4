"""A webhook's other end: takes POSTs, verifies them with the Standard Webhooks library, and remembers each.

    with WebhookReceiver(secret) as receiver:
        …  # a sink that delivers to 127.0.0.1:{receiver.port}
        for request in receiver.requests(): request["verified"]

It answers 204 to what verifies and 401 to what does not; without a secret it takes everything. It is a program of its own, because
the library lives with the other receivers, not with pytest.
"""

import base64
import http.server
import json
import sys
import threading
import urllib.request

from program import PYTHON, START_DEADLINE_S, Program, serve_until_stopped


class WebhookReceiver(Program):
    """The program and its client. Any thread may call."""

    def __init__(self, secret=None):
        super().__init__(PYTHON, __file__, *([secret] if secret else []))

    def requests(self):
        """All that came, in order: `path`, `headers` (lower case), `body`, `verified`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=START_DEADLINE_S) as answer:
            found = json.load(answer)
        for request in found:
            request["body"] = base64.b64decode(request["body"])
        return found


def serve(secret):
    from standardwebhooks import Webhook, WebhookVerificationError

    webhook, taken, lock = Webhook(secret) if secret else None, [], threading.Lock()

    def verifies(headers, body):
        if webhook is None:
            return True
        try:
            webhook.verify(body, headers, json_parse=False)
            return True
        except WebhookVerificationError:
            return False

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            verified = verifies(headers, body)
            with lock:
                taken.append({"path": self.path, "headers": headers, "body": base64.b64encode(body).decode(), "verified": verified})
            self.answer(204 if verified else 401)

        def do_GET(self):
            with lock:
                self.answer(200, json.dumps(taken).encode())

        def answer(self, status, body=b""):
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    serve_until_stopped(server.server_address[1])


if __name__ == "__main__":
    serve(sys.argv[1] if len(sys.argv) > 1 else None)
