"""A client of Server-Sent Events that follows the WHATWG's standard, over a raw socket so that every byte is its own."""

import json
import time
from typing import NamedTuple

from annal_server import RawConnection

TAIL = "/v1/audit/events/tail"
# How often a tail looks for what nobody told its node of.
POLL_S = 5.0


class Message(NamedTuple):
    id: str
    event: str
    data: str

    def json(self):
        return json.loads(self.data)


class EventStream:
    """One connection to a live tail. `last_id` is what a browser would send when it reconnects."""

    def __init__(self, client, query="", last_id=None, timeout=30, receive_buffer=None, path=TAIL, method="GET"):
        self.connection = RawConnection(*client.server.address, timeout=timeout, receive_buffer=receive_buffer)
        lines = [f"{method} {path}{query} HTTP/1.1", "Host: test", "Accept: text/event-stream",
                 f"Authorization: Bearer {client.secret}"]
        if last_id is not None:
            lines.append(f"Last-Event-ID: {last_id}")
        self.connection.send(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.status, fields = self.connection.head()
        self.headers = {name.lower(): value for name, value in fields}
        self.last_id = "" if last_id is None else str(last_id)
        self.retry = None
        self.comments = []
        self.ended_cleanly = False
        self._bytes = b""
        self._id, self._event, self._data = self.last_id, "", []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def _chunk(self):
        """The next chunk of the body; b"" at its end."""
        size = int(self.connection._line().split(";")[0], 16)
        piece = self.connection._exactly(size)
        assert self.connection._line() == ""
        self.ended_cleanly = size == 0
        return piece

    def _lines(self):
        """Lines as the standard ends them: LF, CR LF or CR."""
        while True:
            at = min((i for i in (self._bytes.find(b"\n"), self._bytes.find(b"\r")) if i >= 0), default=-1)
            # A CR at the very end may be the first half of a CR LF.
            if at < 0 or (self._bytes[at:] == b"\r"):
                piece = self._chunk()
                if not piece:
                    return
                self._bytes += piece
                continue
            line, rest = self._bytes[:at], self._bytes[at:]
            self._bytes = rest[2:] if rest.startswith(b"\r\n") else rest[1:]
            yield line.decode("utf-8")

    def steps(self):
        """A Message for each one with data, None for each empty line without; ends with the answer."""
        for line in self._lines():
            if line == "":
                self.last_id = self._id
                event, data = self._event, self._data
                self._event, self._data = "", []
                yield Message(self.last_id, event or "message", "\n".join(data)) if data else None
                continue
            field, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if field == "":
                self.comments.append(value)
            elif field == "event":
                self._event = value
            elif field == "data":
                self._data.append(value)
            elif field == "id":
                if "\0" not in value:
                    self._id = value
            elif field == "retry":
                self.retry = int(value)
            else:
                raise AssertionError(f"a field that the standard does not know: {line!r}")

    def messages(self):
        return (step for step in self.steps() if step is not None)

    def take(self, count):
        """The next `count` messages."""
        taken = []
        for message in self.messages():
            taken.append(message)
            if len(taken) == count:
                return taken
        raise AssertionError(f"the tail ended after {len(taken)} of {count} messages")

    def open(self):
        """Reads the opening, so that whatever is stored from now on is seen."""
        for _ in self.steps():
            return self
        raise AssertionError("the tail ended before it began")

    def until(self, condition, seconds=20):
        """Reads on, message or not, until the condition holds."""
        end = time.monotonic() + seconds
        for _ in self.steps():
            if condition():
                return
            assert time.monotonic() < end, "it did not happen in time"
        raise AssertionError("the tail ended before it happened")


def seqs(messages):
    for message in messages:
        assert message.id == str(message.json()["seq"])
    return [int(message.id) for message in messages]
