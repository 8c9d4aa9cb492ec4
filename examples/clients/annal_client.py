#!/usr/bin/env python3
"""Post and read audit events with nothing but Python's standard library.

    export ANNAL_URL=http://127.0.0.1:8080 ANNAL_KEY=sk_live_…
    ./annal_client.py post invoice.paid usr_1 '{"amount": 1.10}'
    ./annal_client.py list 'type=invoice.*&limit=5'
    ./annal_client.py follow-export > events.jsonl
    ./annal_client.py tail 'type=invoice.*'
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid


class Annal:
    """A client that posts safely: every request carries an idempotency key, so that it may be sent again."""

    def __init__(self, url, key):
        self.url = url.rstrip("/")
        self.key = key

    def _request(self, method, path, body=None, headers=None):
        fields = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"} | (headers or {})
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=fields)
        return urllib.request.urlopen(request, timeout=30)

    def post(self, events):
        """Stores `events`, all or none; their ids and seqs. Tries again while the server is busy or away."""
        body = json.dumps({"events": events}).encode()
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        for attempt in range(6):
            try:
                with self._request("POST", "/v1/audit/events", body, headers) as answer:
                    return json.load(answer)["data"]
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    raise SystemExit(f"refused: {error.read().decode()}") from None
                time.sleep(float(error.headers.get("Retry-After", 1)))
            except OSError:
                time.sleep(min(2**attempt / 4, 5))
        raise SystemExit("the server did not answer")

    def list(self, query=""):
        """All events that match, newest first, over as many pages as there are."""
        filters = urllib.parse.parse_qsl(query)
        cursor = None
        while True:
            pairs = filters + ([("cursor", cursor)] if cursor else [])
            with self._request("GET", "/v1/audit/events?" + urllib.parse.urlencode(pairs)) as answer:
                page = json.load(answer)
            yield from page["data"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return

    def export(self, query="", out=sys.stdout.buffer):
        """Writes JSON lines, going on behind the cap of one request."""
        path = "/v1/audit/events.jsonl" + (f"?{query}" if query else "")
        while path:
            with self._request("GET", path) as answer:
                while piece := answer.read(1 << 16):
                    out.write(piece)
                link = answer.headers.get("Link", "")
                if answer.headers.get("Annal-Truncated") == "unknown":
                    raise SystemExit("the server could not tell in time whether this is all; narrow it with from= and to=")
            path = link[link.index("<") + 1:link.index(">")] if "<" in link else None

    def tail(self, query="", last_id=None):
        """Events as they are stored, without end; goes on behind the last one when the connection breaks."""
        while True:
            headers = {"Last-Event-ID": last_id} if last_id else {}
            try:
                with self._request("GET", "/v1/audit/events/tail" + (f"?{query}" if query else ""), headers=headers) as answer:
                    event_id, data = last_id, None
                    for line in answer:  # a heartbeat comes every 15 s, so the timeout is never reached
                        field, _, value = line.decode().rstrip("\n").partition(": ")
                        if field == "id":
                            event_id = value
                        elif field == "data":
                            data = value
                        elif line == b"\n":  # ends a message; one without data only moves the position
                            last_id = event_id
                            if data is not None:
                                yield json.loads(data)
                            data = None
            except urllib.error.HTTPError as error:
                if error.code not in (429, 503):
                    raise SystemExit(f"refused: {error.read().decode()}") from None
            except (OSError, http.client.HTTPException):
                pass  # the server will be back
            time.sleep(2)


def main():
    annal = Annal(os.environ["ANNAL_URL"], os.environ["ANNAL_KEY"])
    command, *rest = sys.argv[1:] or ["help"]
    if command == "post" and len(rest) >= 2:
        event = {"action": rest[0], "actor": {"type": "user", "id": rest[1]}, "metadata": json.loads(rest[2] if rest[2:] else "{}")}
        print(json.dumps(annal.post([event])[0]))
    elif command == "list":
        for event in annal.list(*rest[:1]):
            print(event["seq"], event["created_at"], event["action"], event["actor"]["id"])
    elif command == "tail":
        for event in annal.tail(*rest[:1]):
            print(event["seq"], event.get("created_at"), event.get("action", "deleted"), flush=True)
    elif command == "follow-export":
        annal.export(*rest[:1])
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
