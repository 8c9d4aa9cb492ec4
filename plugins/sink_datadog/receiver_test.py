"""Events on their way to Datadog: an intake of the project's own, which checks logs with Datadog's client models."""

import gzip
import json

import pytest

pytest.register_assert_rewrite("sink_contract", "sink_server")

from annal_server import wait_until  # noqa: E402
from sink_server import all_options_on, use_installed_receivers  # noqa: E402

use_installed_receivers()

from datadog_intake import DatadogIntake  # noqa: E402
from sink_contract import *  # noqa: E402,F403
from sink_contract import deliveries, wait_all  # noqa: E402

KEY = "0123456789abcdef0123456789abcdef"


class Datadog(DatadogIntake):
    library = "sink_datadog"
    batch = None
    refusal = "403: "

    def __init__(self):
        super().__init__(KEY)

    def config(self, port):
        return {"api_key": {"secretRef": "datadog/api-key"}, "url": f"http://127.0.0.1:{port}", "api_url": f"http://127.0.0.1:{port}",
                "tags": ["env:test"]}

    def secrets(self, port):
        return {"datadog/api-key": KEY}

    def events(self):
        with self.lock:
            return [log["audit"] for log in self.logs]

    @staticmethod
    def is_delivery(request):
        return request.path == "/api/v2/logs"

    def lock_out(self):
        self.key = "another key"

    def let_in(self):
        self.key = KEY


@pytest.fixture
def target():
    with Datadog() as target:
        yield target
        assert not [refusal for refusal in target.refused if refusal[0] != 403], target.refused


def test_logs_have_what_a_search_needs(target, sink):
    end = sink.ingest(3)
    wait_all(target, end)
    for log in target.logs:
        audit = log["audit"]
        assert log.keys() == {"ddsource", "ddtags", "service", "timestamp", "message", "event_id", "seq", "project_id", "recorded_at",
                              "audit"}
        assert (log["event_id"], log["seq"], log["project_id"], log["recorded_at"], log["message"]) == (
            audit["id"], audit["seq"], audit["project_id"], audit["created_at"], audit["action"])


def test_limits_are_kept_at_their_edges(target, proxy, make_sink):
    # What the intake would refuse, 1001 logs or more than 5 MB, must not come to it; what it just takes must.
    sink = make_sink(batch={"maxEvents": 10000, "maxBytes": "60MiB"})
    sink.start()
    wait_until(lambda: target.events(), 30, "the first event")
    target.stop()
    sink.ingest(1)
    sink.wait_state("retrying")
    sink.ingest(1000, first=1, description="d" * 1000)
    sink.ingest(1000, first=1001, metadata={"large": "m" * 8000})
    sink.ingest(1000, first=2001, metadata={"large": "m" * 4700})  # a little more than fits
    end = sink.ingest(1, first=3001)
    target.start()
    wait_all(target, end)
    sink.wait_cursor(end)
    assert target.events() == sink.exported()
    bodies = [gzip.decompress(request.body) for request in deliveries(target, proxy, 4) if request.answered_status == 202]
    assert max(len(json.loads(body)) for body in bodies) == 1000
    assert 4_000_000 < max(map(len, bodies)) <= 5_000_000


def test_the_example_is_valid_with_every_option(make_server, target):
    server = make_server(env={"ANNAL_SECRET_DATADOG_API_KEY": KEY})
    path = server.folder / "example.yaml"
    path.write_text(all_options_on("sink_datadog.yaml"))
    run = server.cli("plugins", "validate", path)
    assert run.returncode == 0, run.stdout + run.stderr
