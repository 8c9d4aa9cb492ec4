"""Each example receiver as a process, and requests posted to it: signed, repeated, forged and broken."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "webhooks"
DEADLINE_S = 30
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD_SECRET = "whsec_" + base64.b64encode(b"the secret before this one").decode()
COMMANDS = {
    "cpp": [os.path.join(os.environ["ANNAL_BUILD_DIR"], "webhook_receiver")],
    "node": [os.environ["ANNAL_NODE"], EXAMPLES / "receiver.js"],
    "python": [sys.executable, EXAMPLES / "receiver.py"],
}


class Receiver:
    def __init__(self, command):
        self.process = subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=os.environ | {"ANNAL_WEBHOOK_SECRET": f"{SECRET} {OLD_SECRET}"})
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        try:
            host, _, port = self.line().removeprefix("listening on ").rpartition(":")
            self.address = (host, int(port))
        except BaseException:
            self.process.kill()
            self.stop()
            raise
        assert host == "127.0.0.1"

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def line(self):
        return self.lines.get(timeout=DEADLINE_S)

    def post(self, headers, body=b""):
        connection = http.client.HTTPConnection(*self.address, timeout=DEADLINE_S)
        try:
            return post_on(connection, headers, body)
        finally:
            connection.close()

    def send(self, data):
        """What is answered to these bytes, until the connection ends or is still for a while."""
        with socket.create_connection(self.address, timeout=DEADLINE_S) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            try:
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionResetError:
                return b""

    def takes(self, action):
        """Posts an event, and nothing may have been printed since but its action."""
        body = event(action)
        assert self.post(signed(body), body) == (204, "")
        assert self.line() == action

    def stop(self):
        self.process.terminate()
        errors = self.process.stderr.read()
        self.process.wait(DEADLINE_S)
        self.reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return errors


@pytest.fixture(scope="module", params=sorted(COMMANDS))
def receiver(request):
    running = Receiver(COMMANDS[request.param])
    yield running
    assert running.process.poll() is None, "it ended by itself"
    assert running.stop() == ""
    assert request.param != "cpp" or running.process.returncode == 0


def post_on(connection, headers, body=b""):
    connection.putrequest("POST", "/hooks")
    for name, value in headers:
        connection.putheader(name, value)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode().removesuffix("\n")


def event(action):
    return json.dumps({"id": "evt_1", "action": action, "metadata": {"name": "Zoë", "n": 1.10}}, ensure_ascii=False, indent=1).encode()


made = iter(range(10**9))


def signed(body, message_id=None, age_s=0, secrets=(SECRET,)):
    message_id, timestamp = message_id or f"del_{next(made)}", int(time.time()) - age_s
    signatures = []
    for secret in secrets:
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signatures.append("v1," + base64.b64encode(mac(key, f"{message_id}.{timestamp}.".encode() + body)).decode())
    return [("webhook-id", message_id), ("webhook-timestamp", str(timestamp)), ("webhook-signature", " ".join(signatures)),
            ("Authio-Signature", "v1=" + mac(SECRET.encode(), body).hex()), ("Authio-Event", "what.is_not_signed"),
            ("Content-Type", "application/json")]


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def altered(headers, name, value):
    return [(header, value if header == name else old) for header, old in headers]


def test_each_delivery_is_handled_once(receiver):
    body = event("invoice.paid")
    for age_s in (20, 10, 0):  # attempts of one delivery
        assert receiver.post(signed(body, "del_same", age_s), body) == (204, "")
    assert receiver.line() == "invoice.paid"
    receiver.takes("invoice.void")


def test_secrets_change_without_a_gap(receiver):
    for number, secrets in enumerate([(OLD_SECRET,), (SECRET, OLD_SECRET), (SECRET,)]):
        body = event(f"rotation.step_{number}")
        assert receiver.post(signed(body, secrets=secrets), body) == (204, "")
        assert receiver.line() == f"rotation.step_{number}"


def test_forged_requests_are_refused_and_named(receiver):
    body = event("forged.event")
    good = signed(body)
    miss = "webhook-signature: no signature fits this body and these secrets"
    untimed = "Authio-Signature: signs no time, and a request that can be replayed is not accepted"
    stranger = "whsec_" + base64.b64encode(b"a stranger's").decode()
    now = int(time.time())
    timed = f"t={now},v1=" + mac(SECRET.encode(), f"{now}.".encode() + body).hex()
    for headers, sent, why in (
            (good, body + b" ", miss), (good, json.dumps(json.loads(body)).encode(), miss), (good, b"", miss),
            (altered(good, "webhook-id", "del_other"), body, miss),
            (altered(good, "webhook-timestamp", str(now - 7)), body, miss),
            (signed(body, secrets=[stranger]), body, miss),
            (good + [("Webhook-Id", "del_other")], body, "webhook-id: is there more than once"),
            (altered(good, "webhook-signature", "v2,x"), body, "webhook-signature: holds no whole v1 signature"),
            (altered(good, "webhook-signature", ""), body, "webhook-signature: is empty"),
            (good[1:], body, "webhook-id is missing"),
            (good[3:], body, untimed),
            ([("Authio-Signature", timed)], body, "no webhook-id was signed, so a repetition could not be told from a new delivery"),
            ([], body, "neither webhook-signature nor Authio-Signature is there")):
        assert receiver.post(headers, sent) == (400, why)
    status, why = receiver.post(signed(body, age_s=3600), body)
    assert status == 400 and why.endswith(" s old; 300 s are tolerated")
    status, why = receiver.post(signed(body, age_s=-3600), body)
    assert status == 400 and why.endswith(" s ahead of the clock; 300 s are tolerated")
    receiver.takes("after.forgeries")
    assert receiver.post(good, body) == (204, "")
    assert receiver.line() == "forged.event"


def test_signed_bodies_that_are_no_events(receiver):
    for body in (b"", b"null", b"[]", b"7", b'"action"', b"{}", b"{", b"\xff\xfe"):
        assert receiver.post(signed(body), body) == (400, "the body is no event"), body
    receiver.takes("after.no_events")


def test_requests_on_one_connection(receiver):
    connection = http.client.HTTPConnection(*receiver.address, timeout=DEADLINE_S)
    body = event("kept.connection")
    assert post_on(connection, signed(body), body)[0] == 204
    kept = connection.sock
    assert post_on(connection, [], body)[0] == 400
    assert post_on(connection, signed(body), body)[0] == 204
    assert connection.sock is kept
    connection.close()
    assert [receiver.line(), receiver.line()] == ["kept.connection"] * 2


def test_broken_requests_break_nothing(receiver):
    start = b"POST / HTTP/1.1\r\nHost: x\r\n"
    large = receiver.send(start + b"Content-Length: 1048577\r\n\r\n")
    assert large.split(b" ")[1] == b"413"
    for data in (b"", b"\r\n\r\n", b"\0\xff\xfe garbage\r\n\r\n", start, start + b"Content-Length: 10\r\n\r\nhalf",
                 start + b"Content-Length: -1\r\n\r\n", start + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
                 start + b"webhook-signature: \0\r\nContent-Length: 0\r\n\r\n",
                 start + b"webhook-signature: " + b"v1,A " * 2000 + b"\r\nContent-Length: 0\r\n\r\n"):
        answer = receiver.send(data)
        assert not answer.startswith(b"HTTP/1.1 2"), (data[:60], answer)
    receiver.takes("after.garbage")


@pytest.mark.parametrize("language", sorted(COMMANDS))
@pytest.mark.parametrize("arguments, secret", [(["0"], ""), (["0"], " "), ([], SECRET), (["x"], SECRET)])
def test_usage(language, arguments, secret):
    run = subprocess.run([*COMMANDS[language], *arguments], capture_output=True, text=True, timeout=DEADLINE_S,
                         env=os.environ | {"ANNAL_WEBHOOK_SECRET": secret})
    assert run.returncode == 1 and run.stderr.startswith("usage: ") and run.stdout == ""
