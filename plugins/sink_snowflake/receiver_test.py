"""sink_snowflake in a real server, before a strict Snowpipe Streaming of the project's own, and before snowduck."""

import json

import pytest
from annal_server import event, wait_until
from fault_proxy import FaultProxy, hang, lost_answer, reset, status, truncate_answer
from stream_server import StreamServer
from snowduck_server import Snowduck
from snowpipe import Snowpipe


def appends(request):
    return "/rows?" in request.path


@pytest.fixture
def snowflake(tmp_path):
    with Snowpipe(tmp_path) as running:
        yield running


@pytest.fixture
def proxy(snowflake):
    with FaultProxy("127.0.0.1", snowflake.port) as running:
        snowflake.advertise = f"127.0.0.1:{running.port}"
        yield running


def streaming(make_server, port, private_key, batch_events=50, timeout="5s", **config):
    sink = StreamServer(
        make_server, "sink_snowflake",
        {"account": "acme-prod.eu-central-1", "user": "annal", "private_key": {"secretRef": "snowflake/key"}, "database": "AUDIT",
         "schema": "PUBLIC", "table": "EVENTS", "url": f"http://127.0.0.1:{port}", "poll_ms": 50} | config,
        [f"127.0.0.1:{port}"], batch_events, timeout)
    sink.server.env["ANNAL_SECRET_SNOWFLAKE_KEY"] = private_key
    return sink


def expect_all(rows, lines):
    """The table is the log: nothing missing, nothing twice, in order."""
    assert [row["SEQ"] for row in rows] == list(range(len(lines)))
    for row, line in zip(rows, lines):
        one = json.loads(line)
        assert row["EVENT"] == one
        assert (row["EVENT_ID"], row["CREATED_AT"], row["ACTION"]) == (one["id"], one["created_at"], one["action"])
        assert row["ACTOR_ID"] == one["actor"]["id"] and row["PROJECT_ID"] == one["project_id"] and row["DELETED"] is False


def expect_table(snowflake, sink):
    lines = sink.wait_for_end()  # the rows are looked at only then
    expect_all(snowflake.rows(), lines)


def events(count):
    return [event("a.b", metadata={"i": i, "text": "ü\n\u2028"}) for i in range(count)]


@pytest.mark.parametrize("json_answers", [False, True], ids=["bare", "json"])
def test_rows_arrive_once_and_in_order(make_server, snowflake, proxy, json_answers):
    snowflake.json_answers = json_answers
    sink = streaming(make_server, proxy.port, snowflake.private_key).start()
    sink.client().ingest(*events(320))
    lines = sink.wait_for_end()
    # Delivered means committed: nothing had to be waited for once the cursor was there.
    assert snowflake.in_flight() == 0
    expect_all(snowflake.rows(), lines)
    assert snowflake.verified == 2 and snowflake.opened == 1


def test_an_append_of_unknown_outcome_repeats_nothing(make_server, snowflake, proxy):
    proxy.plan([status(429), reset(100), status(503), hang(), truncate_answer()], where=appends)
    sink = streaming(make_server, proxy.port, snowflake.private_key, timeout="2s").start()
    sink.client().ingest(*events(60))
    expect_table(snowflake, sink)
    for step in (lost_answer(), hang(forward=True)):
        proxy.plan([step], where=appends)
        sink.client().ingest(*events(20))
        expect_table(snowflake, sink)
    assert not proxy.planned()


def test_a_kill_repeats_nothing(make_server, snowflake, proxy):
    snowflake.delay_s = 0.8
    sink = streaming(make_server, proxy.port, snowflake.private_key).start()
    sink.client().ingest(*events(30))
    sink.wait_for_end()
    for count in (20, 40):
        sink.client().ingest(*events(count))
        # Appended, and neither committed nor known to the cursor.
        wait_until(snowflake.in_flight, what="rows in flight")
        sink.server.kill()
        sink.start()
    # And once more between the commit and the cursor.
    proxy.plan([hang()], where=lambda r: r.path.endswith(":bulk-channel-status") and len(snowflake.rows()) > 90)
    sink.client().ingest(*events(25))
    proxy.wait_for(1, where=lambda r: r.fault == "hang")
    sink.server.kill()
    sink.start()
    sink.client().ingest(*events(5))
    expect_table(snowflake, sink)


def test_who_is_shut_out_opens_the_channel_anew(make_server, snowflake, proxy):
    sink = streaming(make_server, proxy.port, snowflake.private_key).start()
    sink.client().ingest(*events(10))
    sink.wait_for_end()
    snowflake.take_over()
    opened = snowflake.opened
    sink.client().ingest(*events(10))
    expect_table(snowflake, sink)
    assert snowflake.opened > opened
    # And while rows are in flight, which are lost to it then.
    snowflake.delay_s = 1.5
    sink.client().ingest(*events(10))
    wait_until(snowflake.in_flight, what="rows in flight")
    snowflake.take_over()
    assert snowflake.in_flight() == 0
    snowflake.delay_s = 0.1
    sink.server.restart()
    expect_table(snowflake, sink)


def test_a_token_that_has_run_out_is_renewed(make_server, snowflake, proxy):
    sink = streaming(make_server, proxy.port, snowflake.private_key).start()
    for _ in range(3):
        sink.client().ingest(*events(10))
        sink.wait_for_end()
        snowflake.expire_tokens()
    sink.client().ingest(*events(10))
    expect_table(snowflake, sink)
    assert snowflake.verified == 2 + 3
    assert sink.stream()["state"] == "active" and not sink.server.logs("stream.retry")


def test_rows_that_are_not_taken_block_the_stream(make_server, snowflake, proxy):
    snowflake.refuses = lambda row: "value too long for ACTION" if row["ACTION"] == "bad.one" else None
    sink = streaming(make_server, proxy.port, snowflake.private_key).start()
    sink.client().ingest(*events(3), event("bad.one"), *events(3))
    blocked = sink.wait_for_state("blocked")
    assert "1 of " in blocked["last_error"] and "rows were not taken: value too long for ACTION" in blocked["last_error"]


def test_a_wrong_key_blocks_the_stream_until_it_is_right(make_server, snowflake, proxy):
    sink = streaming(make_server, proxy.port, snowflake.other_key()).start()
    sink.client().ingest(*events(3))
    assert "answered 401" in sink.wait_for_state("blocked")["last_error"]
    assert snowflake.verified == 0 and snowflake.rows() == []
    sink.server.env["ANNAL_SECRET_SNOWFLAKE_KEY"] = snowflake.private_key
    sink.server.restart()
    expect_table(snowflake, sink)


def test_snowduck_holds_the_same_rows(make_server, snowflake):
    """Of snowduck, which nobody here has written: its paths, its answers, its table. It checks neither JWTs nor rows."""
    with Snowduck() as duck:
        sink = streaming(make_server, duck.port, snowflake.private_key, pipe="EVENTS").start()
        sink.client().ingest(*events(120))
        expected = [[e["seq"], e["id"], e["action"]] for e in map(json.loads, sink.wait_for_end())]
        assert duck.rows() == expected
        sink.server.restart()  # the cursor and the channel's token agree
        sink.client().ingest(*events(30))
        expected = [[e["seq"], e["id"], e["action"]] for e in map(json.loads, sink.wait_for_end())]
        assert duck.rows() == expected
