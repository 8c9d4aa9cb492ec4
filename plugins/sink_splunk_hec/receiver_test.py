"""Events on their way to Splunk: a collector of the project's own, with and without indexer acknowledgement."""

import gzip
import time

import pytest

pytest.register_assert_rewrite("sink_contract", "sink_server")

from annal_server import wait_until  # noqa: E402
from fault_proxy import lost_answer, rewrite, status  # noqa: E402
from hec_receiver import ACK, CONTENT_BYTES_MAX, EVENT, HecReceiver  # noqa: E402
from sink_contract import *  # noqa: E402,F403
from sink_contract import deliveries, first_of_each, wait_all  # noqa: E402
from sink_server import all_options_on  # noqa: E402

TOKEN = "6f6e6c79-6174-6573-7420-746f6b656e21"


class Splunk(HecReceiver):
    library = "sink_splunk_hec"
    batch = None
    refusal = "Invalid token"

    def __init__(self, **more):
        super().__init__(TOKEN, **more)
        self.options = {}

    def config(self, port):
        return {"url": f"http://127.0.0.1:{port}", "token": {"secretRef": "splunk/token"}, "host": "audit.example", "index": "audit",
                "ack": self.ack, "ack_interval_ms": 100} | self.options

    def secrets(self, port):
        return {"splunk/token": TOKEN}

    def events(self):
        with self.lock:
            return [event["event"] for event in self.indexed]

    @staticmethod
    def is_delivery(request):
        return request.path == EVENT

    def lock_out(self):
        self.token = "another"

    def let_in(self):
        self.token = TOKEN


KINDS = {"plain": {}, "ack": {"ack": True}, "balanced": {"ack": True, "backends": ("a", "b")}}


@pytest.fixture(params=["plain", "ack"])
def target(request):
    with Splunk(**KINDS[request.param]) as target:
        yield target


with_acks = pytest.mark.parametrize("target", ["ack"], indirect=True)
behind_a_balancer = pytest.mark.parametrize("target", ["balanced"], indirect=True)


def is_query(request):
    return request.path.startswith(ACK)


def test_events_have_what_a_search_needs(target, sink):
    end = sink.ingest(3)
    wait_all(target, end)
    with target.lock:
        events = list(target.indexed)
    for event in events:
        assert event.keys() == {"time", "host", "source", "sourcetype", "index", "fields", "event"}
        assert event["fields"] == {"event_id": event["event"]["id"], "seq": str(event["event"]["seq"])}
        assert (event["host"], event["source"], event["sourcetype"], event["index"]) == (
            "audit.example", "annal", "annal:audit", "audit")
        recorded = event["event"]["created_at"]
        assert f"{event['time']:.3f}"[-3:] == recorded[20:23]
        assert time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event["time"])) == recorded[:19]


def test_limits_are_kept_at_their_edges(target, proxy, make_sink):
    sink = make_sink(batch={"maxEvents": 10000, "maxBytes": "60MiB"})
    sink.start()
    wait_until(lambda: target.events(), 30, "the first event")
    target.stop()
    sink.ingest(1)
    sink.wait_state("retrying")
    sink.ingest(100, first=1, metadata={"large": "m" * 30_000})
    end = sink.ingest(1, first=101)
    target.start()
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    bodies = [gzip.decompress(request.body) for request in deliveries(target, proxy, 5) if request.answered_status == 200]
    assert 700_000 < max(map(len, bodies)) <= 1_000_000 < CONTENT_BYTES_MAX


def test_a_busy_collector_is_tried_again(target, proxy, make_sink):
    proxy.plan([status(503, {"Retry-After": "1"}, '{"text":"Server is busy","code":9}'),
                status(500, body='{"text":"Internal server error","code":8}'),
                # Somebody else's 200 is no delivery.
                status(200, body="<html>Welcome</html>"), status(204)], where=target.is_delivery)
    sink = make_sink()
    sink.start()
    end = sink.ingest(30)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    assert len({request.body for request in deliveries(target, proxy, 5)[:5]}) == 1


def test_a_collector_near_its_capacity_has_taken_the_events(target, proxy, make_sink):
    target.success_code = 24
    sink = make_sink()
    sink.start()
    end = sink.ingest(30)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    assert len(sink.server.logs("splunk_hec.near_capacity")) == 1


def test_a_wrong_index_pauses(target, proxy, make_sink):
    target.options = {"index": "no_such_index"}
    sink = make_sink()
    sink.start()
    stream = sink.wait_state("blocked", "paused")
    assert "Incorrect index" in stream["last_error"]
    assert not target.events()


# --- Indexer acknowledgement


@with_acks
def test_nothing_counts_before_it_is_indexed(target, proxy, make_sink):
    target.polls_until_indexed = 10**9
    sink = make_sink(timeout="60s")
    sink.start()
    proxy.wait_for(5, where=is_query)
    sink.stays(lambda: sink.stream()["cursor_seq"] == -1 and not target.events())
    assert len(deliveries(target, proxy, 1)) == 1
    target.index_pending()
    end = sink.ingest(10)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()


@with_acks
def test_what_an_indexer_lost_is_sent_again(target, proxy, make_sink):
    # The collector has said 200, and the indexer ends before it has written.
    target.polls_until_indexed = 10**9
    sink = make_sink(timeout="3s")
    sink.start()
    proxy.wait_for(2, where=is_query)
    target.lose_pending()
    target.polls_until_indexed = 0
    end = sink.ingest(30)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    first, second = deliveries(target, proxy, 2)[:2]
    assert first.body == second.body
    assert first.answered_status == 200
    assert first.header("X-Splunk-Request-Channel") != second.header("X-Splunk-Request-Channel")


@with_acks
def test_a_confirmation_that_is_lost_is_no_confirmation(target, proxy, make_sink):
    # It is there to be read once: who loses the answer never hears of it again, and sends again.
    target.polls_until_indexed = 0
    proxy.plan([lost_answer()], where=is_query)
    sink = make_sink(timeout="3s")
    sink.start()
    end = sink.ingest(5)
    wait_all(target, end)
    sink.wait_cursor(end)
    first, second = deliveries(target, proxy, 2)[:2]
    assert first.body == second.body
    assert len(target.events()) > len(sink.exported())
    assert first_of_each(target.events()) == sink.exported()


@with_acks
def test_queries_that_fail_are_asked_again(target, proxy, make_sink):
    proxy.plan([status(503, body='{"text":"Server is busy","code":9}'), status(400, body="?"), status(200, body="{}"),
                status(200, body='{"acks":{}}')], where=is_query)
    sink = make_sink()
    sink.start()
    end = sink.ingest(5)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    assert len(deliveries(target, proxy, 1)) <= 2  # nothing was sent twice


@with_acks
@pytest.mark.parametrize("spoil", [b"<html>", b'{"acks":{"0":"true"}}', b'{"acks":{"0":true'])
def test_an_answer_that_is_none_confirms_nothing(target, proxy, make_sink, spoil):
    def spoiled(answer):
        assert b"true" in answer.body
        answer.body = spoil

    target.polls_until_indexed = 0
    proxy.plan([rewrite(answer=spoiled)], where=is_query)
    sink = make_sink(timeout="3s")
    sink.start()
    wait_until(lambda: sink.client.metric("annal_stream_deliveries_total", outcome="retry"), 30, "the retry")
    end = sink.ingest(5)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert first_of_each(target.events()) == sink.exported()


@with_acks
def test_a_token_without_acknowledgement_pauses(target, proxy, make_sink):
    sink = make_sink()
    target.ack = False
    sink.start()
    stream = sink.wait_state("blocked", "paused")
    assert "enable indexer acknowledgement" in stream["last_error"]
    assert stream["cursor_seq"] == -1
    assert not [request for request in proxy.requests() if is_query(request)]


@behind_a_balancer
def test_an_indexer_that_is_left_gets_its_events_sent_elsewhere(target, proxy, make_sink):
    target.polls_until_indexed = 10**9
    sink = make_sink(timeout="60s")
    sink.start()
    proxy.wait_for(2, where=is_query)
    assert all(request.header("Cookie") == "hec=a" for request in proxy.requests(where=is_query))
    target.polls_until_indexed = 0
    target.move(to="b")
    end = sink.ingest(30)
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    first, second = deliveries(target, proxy, 2)[:2]
    assert first.body == second.body
    assert (first.header("Cookie"), second.header("Cookie")) == (None, "hec=b")
    assert first.header("X-Splunk-Request-Channel") != second.header("X-Splunk-Request-Channel")
    assert second.at - first.at < 30  # it did not wait for the timeout


def test_the_example_is_valid_with_every_option(make_server, target):
    server = make_server(env={"ANNAL_SECRET_SPLUNK_TOKEN": TOKEN})
    path = server.folder / "example.yaml"
    path.write_text(all_options_on("sink_splunk_hec.yaml"))
    run = server.cli("plugins", "validate", path)
    assert run.returncode == 0, run.stdout + run.stderr
