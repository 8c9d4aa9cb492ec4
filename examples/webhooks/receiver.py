#!/usr/bin/env python3
"""Receives Annal's webhooks with nothing but Python's standard library: receiver.py PORT (0: any free one).

ANNAL_WEBHOOK_SECRET holds the endpoint's secret, or two with a space between while one replaces the other.
"""

import collections
import http.server
import json
import os
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sdk" / "webhooks" / "python"))

import annal_webhook  # noqa: E402

BODY_BYTES_MAX = 1 << 20
SEEN_MAX = 100_000


class Receiver:
    """Handles each delivery once. Any thread may call."""

    def __init__(self, secrets):
        self.secrets = secrets
        # In a real receiver a table with a unique key, written in the transaction of what the event changes: a delivery is
        # repeated for days, also after a restart.
        self.seen = collections.OrderedDict()
        self.lock = threading.Lock()

    def receive(self, headers, body):
        """The status to answer with, and why."""
        try:
            verified = annal_webhook.verify(body, headers, self.secrets)
        except annal_webhook.WebhookError as error:
            return 400, str(error)
        if verified.id is None:
            return 400, "no webhook-id was signed, so a repetition could not be told from a new delivery"
        with self.lock:
            if verified.id in self.seen:
                return 204, ""
            try:
                # From the body: Authio-Event says the same, but no signature covers it.
                action = json.loads(body)["action"]
            except (ValueError, TypeError, KeyError):
                return 400, "the body is no event"
            print(action, flush=True)
            self.seen[verified.id] = True
            if len(self.seen) > SEEN_MAX:
                self.seen.popitem(last=False)
        return 204, ""


def handler_of(receiver):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10  # seconds that a client may be silent

        def do_POST(self):
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal():
                return self.answer(411, "Content-Length is needed", close=True)
            if len(length) > 9 or int(length) > BODY_BYTES_MAX:
                return self.answer(413, "the body is too large", close=True)
            body = self.rfile.read(int(length))
            self.answer(*receiver.receive(self.headers, body))

        def answer(self, status, why, close=False):
            self.send_response(status)
            if status != 204:
                text = why.encode() + b"\n"
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(text)))
            if close:
                self.send_header("Connection", "close")
            self.end_headers()
            if status != 204:
                self.wfile.write(text)

        def log_message(self, *_):
            pass

    return Handler


def main():
    secrets = os.environ.get("ANNAL_WEBHOOK_SECRET", "").split()
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or not secrets:
        raise SystemExit("usage: ANNAL_WEBHOOK_SECRET=whsec_… receiver.py PORT")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), handler_of(Receiver(secrets)))
    server.daemon_threads = True
    print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
