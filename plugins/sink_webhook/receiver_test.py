"""sink_webhook in a real server, before a receiver that verifies with the Standard Webhooks library."""

import hashlib
import hmac
import json

import pytest
from annal_server import event
from fault_proxy import FaultProxy, hang, lost_answer, reset, status
from stream_server import StreamServer
from webhook_receiver import WebhookReceiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def receiver():
    with WebhookReceiver(SECRET) as running:
        yield running


@pytest.fixture
def proxy(receiver):
    with FaultProxy("127.0.0.1", receiver.port) as running:
        yield running


def streaming(make_server, port, secret=SECRET, batch_events=50, timeout="5s", **config):
    sink = StreamServer(
        make_server, "sink_webhook", {"url": f"http://127.0.0.1:{port}/in?x=1", "secret": {"secretRef": "hook"}} | config,
        [f"127.0.0.1:{port}"], batch_events, timeout)
    sink.server.env["ANNAL_SECRET_HOOK"] = secret
    return sink


def expect_all(requests, lines):
    """Every request verified, and their bodies in order are the log."""
    assert requests and all(r["verified"] for r in requests), requests
    assert b"".join(r["body"] for r in requests).decode() == "".join(line + "\n" for line in lines)


def test_lines_arrive_signed_and_in_order(make_server, receiver):
    sink = streaming(make_server, receiver.port, headers={"X-Team": "secops"}).start()
    sink.client().ingest(*(event("a.b", metadata={"i": i, "text": "ü\n\u2028"}) for i in range(320)))
    lines = sink.wait_for_end()
    requests = receiver.requests()
    expect_all(requests, lines)
    seqs = [r["headers"]["stream-seq"] for r in requests]
    assert [int(s.split("-")[0]) for s in seqs] == [0] + [int(s.split("-")[1]) + 1 for s in seqs[:-1]]
    ids = [r["headers"]["webhook-id"] for r in requests]
    assert len(set(ids)) == len(ids)
    for request in requests:
        headers = request["headers"]
        assert headers["content-type"] == "application/x-ndjson" and request["path"] == "/in?x=1" and headers["x-team"] == "secops"
        assert headers["webhook-id"].endswith(":" + headers["stream-seq"]) and int(headers["stream-fence"]) >= 0
        # Of this header the key is the secret's text, not what it decodes to.
        mac = hmac.new(SECRET.encode(), request["body"], hashlib.sha256).hexdigest()
        assert headers["authio-signature"] == "v1=" + mac


def test_arrays(make_server, receiver):
    sink = streaming(make_server, receiver.port, format="json").start()
    sink.client().ingest(*(event("a.b", metadata={"i": i}) for i in range(120)))
    lines = sink.wait_for_end()
    requests = receiver.requests()
    assert all(r["verified"] and r["headers"]["content-type"] == "application/json" for r in requests)
    assert [e for r in requests for e in json.loads(r["body"])] == [json.loads(line) for line in lines]


def test_a_retry_sends_the_same_bytes_and_keys(make_server, receiver, proxy):
    proxy.plan([status(503), lost_answer(), status(429, {"Retry-After": "1"}), reset(40), hang()])
    sink = streaming(make_server, proxy.port, timeout="3s").start()
    sink.client().ingest(*(event("a.b", metadata={"i": i}) for i in range(30)))
    lines = sink.wait_for_end()
    attempts = [r for r in proxy.wait_for(6) if r.header("Stream-Seq") == proxy.requests()[0].header("Stream-Seq")]
    assert len(attempts) == 6
    whole = [r for r in attempts if r.complete]
    assert len(whole) == 5 and len({r.body for r in whole}) == 1
    for name in ("webhook-id", "Idempotency-Key", "Stream-Seq", "Authio-Signature"):
        assert len({r.header(name) for r in attempts}) == 1, name
    stamps = [int(r.header("webhook-timestamp")) for r in attempts]
    assert stamps == sorted(stamps) and stamps[-1] > stamps[0]
    # What the receiver has is the log and one repetition, of the request whose answer was lost; its key tells.
    requests = receiver.requests()
    assert requests[0]["body"] == requests[1]["body"]
    assert requests[0]["headers"]["webhook-id"] == requests[1]["headers"]["webhook-id"]
    expect_all(requests[1:], lines)


@pytest.mark.parametrize("answer", [(410, {}), (401, {}), (302, {"Location": "https://elsewhere.example/in"})], ids=lambda a: a[0])
def test_what_a_retry_does_not_mend_blocks_the_stream(make_server, receiver, proxy, answer):
    code, headers = answer
    proxy.plan([status(code, headers, "no more")])
    sink = streaming(make_server, proxy.port).start()
    sink.client().ingest(event())
    blocked = sink.wait_for_state("blocked")
    assert f"answered {code}" in blocked["last_error"] and "no more" in blocked["last_error"]
    assert headers.get("Location", "") in blocked["last_error"]
    assert blocked["lag_events"] > 0
    assert receiver.requests() == []  # a redirect is not followed, not even to where the proxy leads
    sink.server.restart()  # the stream tries anew at once
    lines = sink.wait_for_end()
    expect_all(receiver.requests(), lines)


def test_a_wrong_secret_blocks_the_stream(make_server, receiver):
    sink = streaming(make_server, receiver.port, secret="whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").start()
    sink.client().ingest(event())
    assert "answered 401" in sink.wait_for_state("blocked")["last_error"]
    assert receiver.requests() and not any(r["verified"] for r in receiver.requests())
    sink.server.env["ANNAL_SECRET_HOOK"] = SECRET
    sink.server.restart()
    lines = sink.wait_for_end()
    expect_all([r for r in receiver.requests() if r["verified"]], lines)


def test_a_kill_repeats_at_most_whole_requests(make_server, receiver, proxy):
    sink = streaming(make_server, proxy.port, batch_events=10, timeout="5s").start()
    proxy.plan([lost_answer()], where=lambda r: (r.header("Stream-Seq") or "").startswith("2"))
    sink.client().ingest(*(event("a.b", metadata={"i": i}) for i in range(200)))
    proxy.wait_for(1, where=lambda r: r.fault)
    sink.server.kill()
    sink.start()
    lines = sink.wait_for_end()
    requests = receiver.requests()
    assert all(r["verified"] for r in requests)
    seen, firsts = set(), []
    for request in requests:
        if request["body"] not in seen:
            firsts.append(request)
        seen.add(request["body"])
    assert len(firsts) < len(requests), "the kill was to come between a delivery and its cursor"
    expect_all(firsts, lines)
