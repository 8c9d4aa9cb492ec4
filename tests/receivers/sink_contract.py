"""What every sink before a receiver has to show. A receiver_test.py defines the fixture `target` and imports all of this.

A target is a context manager around a receiver and has:
    library, batch            the sink's library; a batch of its trigger, or None
    port                      of the receiver
    config(port), secrets(port)   of the manifest, when the receiver is to be reached at `port`
    events()                  the canonical events that the receiver has, in the order in which they came there, repeats included
    is_delivery(request)      whether a request of the proxy's record carries events
    lock_out(), let_in()          makes the receiver refuse the credentials that the manifest has, and take them again
    refusal                   what its refusal says
"""

import time

import pytest
from annal_server import wait_until
from fault_proxy import FaultProxy, hang, lost_answer, reset, slow, status, truncate_answer
from sink_server import SinkServer


@pytest.fixture
def proxy(target):
    with FaultProxy("127.0.0.1", target.port) as proxy:
        yield proxy


@pytest.fixture
def make_sink(make_server, target, proxy):
    def make(**more):
        return SinkServer(make_server, target.library, target.config(proxy.port), proxy.port, target.secrets(proxy.port),
                          **({"batch": target.batch} | more))

    return make


@pytest.fixture
def sink(make_sink):
    return make_sink().start()


def seqs(target):
    return [event["seq"] for event in target.events()]


def first_of_each(events):
    """Without repeats: what a search by event id leaves."""
    return list({event["id"]: event for event in events}.values())


def wait_all(target, end, seconds=90):
    wait_until(lambda: end in seqs(target), seconds, f"seq {end} at the receiver")


def deliveries(target, proxy, count):
    return proxy.wait_for(count, where=target.is_delivery)


def test_events_arrive_in_order_and_once(target, proxy, sink):
    end = sink.ingest(700)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    assert len(target.events()) >= 700
    sink.server.restart()
    end = sink.ingest(30, first=700)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()


def test_refused_credentials_lose_nothing(target, proxy, sink):
    end = sink.ingest(50)
    wait_all(target, end)
    before = len(target.events())
    target.lock_out()
    end = sink.ingest(50, first=50)
    stream = sink.wait_state("blocked", "paused")
    assert target.refusal in stream["last_error"]
    assert stream["cursor_seq"] < end
    assert sink.client.metric("annal_stream_deliveries_total", outcome="pause") >= 1
    assert sink.client.metric("annal_stream_blocked") == 1
    assert len(target.events()) == before
    target.let_in()
    sink.server.restart()  # a paused stream is tried again, slowly; an operator who has mended it does not wait for that
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()


def test_a_lost_answer_repeats_the_same_bytes(target, proxy, sink):
    wait_until(lambda: target.events(), 30, "the first event")
    before = len(deliveries(target, proxy, 1))
    proxy.plan([lost_answer()], where=target.is_delivery)
    end = sink.ingest(40)
    wait_all(target, end)
    sink.wait_cursor(end)
    lost, again = deliveries(target, proxy, before + 2)[before:before + 2]
    assert (lost.fault, lost.upstream_status // 100) == ("lost_answer", 2)
    assert again.fault is None
    assert lost.body == again.body and len(lost.body) > 0
    assert first_of_each(target.events()) == sink.exported()


def test_whatever_goes_wrong_events_stay_in_order(target, proxy, make_sink):
    # Planned before the server starts, so that it is the first delivery that meets them all.
    faults = [reset(), reset(after_body_bytes=100), status(503), status(429, {"Retry-After": "1"}), truncate_answer()]
    proxy.plan(faults, where=target.is_delivery)
    sink = make_sink()
    sink.start()
    end = sink.ingest(120)
    wait_all(target, end, seconds=120)
    sink.wait_cursor(end)
    assert first_of_each(target.events()) == sink.exported()
    met = deliveries(target, proxy, 6)
    assert [request.fault for request in met[:6]] == [step.name for step in faults] + [None]
    # Retries are one batch: all that came through whole has the same bytes.
    assert len({request.body for request in met[:6] if request.complete}) == 1
    # A request on a kept connection that turns out to be dead is repeated below the stream.
    assert sink.client.metric("annal_stream_deliveries_total", outcome="retry") >= len(faults) - 1
    assert sink.client.metric("annal_stream_deliveries_total", outcome="reject") == 0


def test_silence_ends_with_the_timeout(target, proxy, make_sink):
    proxy.plan([hang(), hang(forward=True)], where=target.is_delivery)
    sink = make_sink(timeout="2s")
    sink.start()
    end = sink.ingest(20)
    wait_all(target, end)
    sink.wait_cursor(end)
    first, second, third = deliveries(target, proxy, 3)[:3]
    assert first.body == second.body == third.body
    assert 1.5 < second.at - first.at < 10
    assert first_of_each(target.events()) == sink.exported()
    # A sink that reports after its deadline would hold its stream up.
    assert not sink.server.logs("stream.sink_stuck")


def test_a_slow_receiver_is_waited_for(target, proxy, make_sink):
    proxy.plan([slow(3)], where=target.is_delivery)
    sink = make_sink()
    sink.start()
    end = sink.ingest(20)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()  # once
    assert sink.client.metric("annal_stream_deliveries_total", outcome="retry") == 0


def test_what_is_too_large_is_sent_in_halves(target, proxy, sink):
    wait_until(lambda: target.events(), 30, "the first event")
    sink.wait_state("active")
    before = len(deliveries(target, proxy, 1))
    proxy.plan([status(413, body="too large")], where=target.is_delivery)
    end = sink.ingest(4)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert sink.client.metric("annal_stream_deliveries_total", outcome="reject") == 1
    refused, half = deliveries(target, proxy, before + 2)[before:before + 2]
    assert refused.fault is not None and half.fault is None and half.body != refused.body
    assert target.events() == sink.exported()  # once


@pytest.mark.parametrize("forward", [False, True])
def test_a_killed_server_loses_nothing(target, proxy, make_sink, forward):
    # Killed in the middle of a delivery: before the receiver has it, and when it has it and the server does not know.
    sink = make_sink(timeout="60s")
    sink.start()
    wait_until(lambda: target.events(), 30, "the first event")
    sink.wait_state("active")
    before = len(deliveries(target, proxy, 1))
    proxy.plan([hang(forward)], where=target.is_delivery)
    end = sink.ingest(60)
    held = deliveries(target, proxy, before + 1)[before]
    assert held.fault == "hang" and held.forwarded == forward
    sink.server.kill()
    sink.start()
    wait_all(target, end)
    sink.wait_cursor(end)
    assert first_of_each(target.events()) == sink.exported()
    order = seqs(target)
    assert [order[i] for i in range(len(order)) if order[i] not in order[:i]] == sorted(set(order))


def test_an_outage_loses_nothing(target, proxy, sink):
    wait_until(lambda: target.events(), 30, "the first event")
    target.stop()
    end = sink.ingest(150)
    stream = sink.wait_state("retrying")
    assert stream["cursor_seq"] < end
    sink.server.kill()
    time.sleep(0.2)
    target.start()
    sink.start()
    wait_all(target, end)
    sink.wait_cursor(end)
    assert first_of_each(target.events()) == sink.exported()


def test_no_secret_is_said(target, proxy, sink):
    target.lock_out()
    sink.ingest(5)
    sink.wait_state("blocked", "paused")
    said = sink.everything_it_says()
    assert target.refusal in said
    for secret in target.secrets(proxy.port).values():
        assert secret not in said
        assert secret.rsplit("/", 1)[-1].rstrip("=") not in said
