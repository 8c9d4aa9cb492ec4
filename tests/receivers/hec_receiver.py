"""A strict HTTP Event Collector with indexer acknowledgement, as Splunk documents it.

It is the project's own, written from Splunk's documents: what it knows of Splunk is what they say. Where several events come in one
request they are taken all or not at all, and a refusal names the first that is wrong.
"""

import json
import re
import uuid

from http_receiver import HttpReceiver

CONTENT_BYTES_MAX = 1 << 20  # what Splunk Cloud takes
EVENT = "/services/collector/event"
ACK = "/services/collector/ack"
HEALTH = "/services/collector/health"

REPLIES = {
    0: (200, "Success"), 1: (403, "Token disabled"), 2: (401, "Token is required"), 3: (401, "Invalid authorization"),
    4: (403, "Invalid token"), 5: (400, "No data"), 6: (400, "Invalid data format"), 7: (400, "Incorrect index"),
    8: (500, "Internal server error"), 9: (503, "Server is busy"), 10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"), 12: (400, "Event field is required"), 13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"), 15: (400, "Error in handling indexed fields"), 17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"), 23: (503, "Server is shutting down"),
    24: (200, "Data channel is approaching capacity"),
}
TOP_LEVEL = {"time", "host", "source", "sourcetype", "index", "event", "fields"}


class Refused(Exception):
    def __init__(self, code, **more):
        self.code, self.more = code, more


class Backend:
    """One indexer behind the balancer: channels and what is on its way into the index."""

    def __init__(self, name):
        self.name = name
        self.channels = {}  # channel: next ack id
        self.pending = {}  # (channel, ack id): [events, polls until they are indexed]
        self.confirmed = set()  # indexed, and nobody has read it yet


class HecReceiver(HttpReceiver):
    """`indexed` is what it would find in a search, in the order in which it came there."""

    def __init__(self, token="hec-token-0001", ack=False, indexes=("main", "audit"), polls_until_indexed=1, backends=("a",),
                 old_health=False):
        self.token, self.ack, self.indexes = token, ack, set(indexes)
        self.token_disabled = False
        self.polls_until_indexed = polls_until_indexed
        self.old_health = old_health
        self.health_code = 17
        self.success_code = 0
        self.backends = {name: Backend(name) for name in backends}
        self.lead = backends[0]  # where the balancer sends those without a cookie
        self.sends_cookies = len(backends) > 1
        self.indexed = []
        self.replies = []  # (path, code) of every request
        super().__init__()

    # --- What a test does to it

    def lose_pending(self):
        """The indexer ends before it has written: what was taken with a 200 is gone, and its acks with it."""
        with self.lock:
            for backend in self.backends.values():
                backend.pending.clear()
                backend.channels.clear()

    def index_pending(self):
        """The indexers write what they have; the next query says so."""
        with self.lock:
            self.polls_until_indexed = 0
            for backend in self.backends.values():
                for waiting in backend.pending.values():
                    waiting[1] = 0

    def move(self, to):
        """The balancer leaves the present indexer: everybody's next request goes to `to`."""
        with self.lock:
            self.lead = to

    # --- Protocol

    def answer(self, request):
        headers = {}
        backend = self._balance(request, headers)
        try:
            code, more = self._dispatch(request, backend)
        except Refused as refused:
            code, more = refused.code, refused.more
        self.replies.append((request.path, code))
        if code is None:  # the ack query has a body of its own
            return 200, headers, more
        if code == 404 or code == 413:
            return code, headers, {"text": "The requested URL was not found on this server.", "code": 404} if code == 404 else b""
        status, text = REPLIES[code]
        return status, headers, {"text": text, "code": code} | more

    def _balance(self, request, headers):
        """Sticky while the cookie names the leading indexer."""
        name = self.lead
        if self.sends_cookies and f"hec={name}" not in request.headers.get("cookie", "").split("; "):
            headers["Set-Cookie"] = f"hec={name}; Path=/; HttpOnly"
        return self.backends[name]

    def _dispatch(self, request, backend):
        if request.method == "GET" and request.path in (HEALTH, HEALTH + "/1.0"):
            if self.old_health and request.path != HEALTH:
                raise Refused(404)
            return self.health_code, {}
        if request.method != "POST" or request.path not in (EVENT, ACK):
            raise Refused(404)
        self._authorize(request)
        channel = self._channel(request)
        if request.path == ACK:
            return None, self._acknowledge(request, backend, channel)
        return self._take(request, backend, channel)

    def _authorize(self, request):
        header = request.headers.get("authorization")
        if header is None:
            raise Refused(2)
        scheme, _, token = header.partition(" ")
        if scheme != "Splunk" or not token:
            raise Refused(3)
        if token != self.token:
            raise Refused(4)
        if self.token_disabled:
            raise Refused(1)

    def _channel(self, request):
        channel = request.headers.get("x-splunk-request-channel") or request.query.get("channel")
        if channel is None:
            if self.ack:
                raise Refused(10)
            return None
        try:
            uuid.UUID(channel)
        except ValueError:
            raise Refused(11) from None
        return channel

    def _take(self, request, backend, channel):
        if request.text is None or len(request.text) > CONTENT_BYTES_MAX:
            raise Refused(413 if request.text is not None else 6)
        events = self._events(request.text.decode("utf-8"))
        if not self.ack:
            self.indexed += events
            return self.success_code, {}
        ack_id = backend.channels.get(channel, 0)
        backend.channels[channel] = ack_id + 1
        backend.pending[channel, ack_id] = [events, self.polls_until_indexed]
        return self.success_code, {"ackId": ack_id}

    def _acknowledge(self, request, backend, channel):
        if not self.ack:
            raise Refused(14)
        try:
            wanted = json.loads(request.text)["acks"]
        except (ValueError, KeyError, TypeError):
            raise Refused(6) from None
        for key in [key for key in backend.pending if key[0] == channel]:
            waiting = backend.pending[key]
            waiting[1] -= 1
            if waiting[1] < 0:
                self.indexed += waiting[0]
                backend.confirmed.add(key)
                del backend.pending[key]
        answers = {}
        for ack_id in wanted:
            # A status is there once: who reads it has to remember it.
            answers[str(ack_id)] = (channel, ack_id) in backend.confirmed
            backend.confirmed.discard((channel, ack_id))
        return {"acks": answers}

    def _events(self, text):
        if not text.strip():
            raise Refused(5)
        decoder, events, at = json.JSONDecoder(), [], 0
        while at < len(text):
            if text[at] in " \t\r\n":
                at += 1
                continue
            try:
                event, end = decoder.raw_decode(text, at)
            except ValueError:
                raise Refused(6, **{"invalid-event-number": len(events)}) from None
            self._check(event, text[at:end], len(events))
            events.append(event)
            at = end
        return events

    def _check(self, event, text, number):
        def refuse(code):
            raise Refused(code, **{"invalid-event-number": number})

        if not isinstance(event, dict) or event.keys() - TOP_LEVEL:
            refuse(6)
        if "event" not in event:
            refuse(12)
        if event["event"] in ("", None, {}):
            refuse(13)
        if "index" in event and event["index"] not in self.indexes:
            refuse(7)
        if not re.search(r'"time":\d+\.\d{3}[,}]', text):
            refuse(6)
        fields = event.get("fields", {})
        if not isinstance(fields, dict) or not all(isinstance(value, (str, int, float)) for value in fields.values()):
            refuse(15)
