"""Events on their way to Sumo Logic: an HTTP source of the project's own, written from Sumo's documents."""

import gzip
import json

import pytest

pytest.register_assert_rewrite("sink_contract", "sink_server")

from annal_server import wait_until  # noqa: E402
from sink_contract import *  # noqa: E402,F403
from sink_contract import deliveries, wait_all  # noqa: E402
from sink_server import all_options_on  # noqa: E402
from sumo_receiver import MESSAGE_BYTES_MAX, SumoReceiver  # noqa: E402

TOKEN = "ZaVnC4dhaV3xBo8kLm9qRtUvWxYz0123456789abcdefTheSecretPart=="


class SumoLogic(SumoReceiver):
    library = "sink_sumologic"
    batch = None
    refusal = "the destination answered 401"

    def __init__(self):
        super().__init__(TOKEN)
        self.options = {}

    def config(self, port):
        return {"url": {"secretRef": "sumo/source"}, "category": "audit/annal", "fields": ["env=test", "team=secops"]} | self.options

    def secrets(self, port):
        return {"sumo/source": f"http://127.0.0.1:{port}/receiver/v1/http/{TOKEN}"}

    def events(self):
        with self.lock:
            return [json.loads(text)["audit"] for text, *_ in self.messages if text]

    def is_delivery(self, request):
        return request.path.startswith("/receiver/")

    def lock_out(self):
        self.token = "another"

    def let_in(self):
        self.token = TOKEN


@pytest.fixture
def target():
    with SumoLogic() as target:
        yield target


def test_messages_have_what_a_search_needs(target, sink):
    end = sink.ingest(3)
    wait_all(target, end)
    with target.lock:
        messages = [message for message in target.messages if message[0]]
    for text, name, host, category, fields in messages:
        message = json.loads(text)
        assert text.startswith('{"timestamp":"20')
        audit = message["audit"]
        assert message["timestamp"] == audit["created_at"][:23] + "Z"
        assert (message["event_id"], message["seq"]) == (audit["id"], audit["seq"])
        assert (name, host, category, fields) == ("", "", "audit/annal", ["env=test", "team=secops"])


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
    assert 700_000 < max(map(len, bodies)) <= 1_000_000


def test_an_event_that_would_be_sliced_is_not_sent(target, proxy, make_sink):
    sink = make_sink()
    sink.start()
    wait_until(lambda: target.events(), 30, "the first event")
    before = len(target.events())
    end = sink.ingest(1, metadata={"large": "m" * 65_500})
    wait_until(lambda: "bytes in the destination's form" in (sink.stream()["last_error"] or ""), 30, "the refusal")
    assert sink.stream()["cursor_seq"] < end
    assert len(target.events()) == before and target.sliced == 0
    # Where the manifest allows it, it goes out, in pieces.
    sink.server.kill()
    target.options = {"allow_sliced": True}
    allowed = make_sink()
    allowed.start()
    allowed.ingest(1, metadata={"large": "m" * 65_500})
    wait_until(lambda: target.sliced == 1, 30, "the sliced message")
    with target.lock:
        assert max(len(text) for text, *_ in target.messages) == MESSAGE_BYTES_MAX


def test_the_example_is_valid_with_every_option(make_server, target):
    server = make_server(env={"ANNAL_SECRET_SUMO_SOURCE": target.secrets(1)["sumo/source"]})
    path = server.folder / "example.yaml"
    path.write_text(all_options_on("sink_sumologic.yaml"))
    run = server.cli("plugins", "validate", path)
    assert run.returncode == 0, run.stdout + run.stderr
