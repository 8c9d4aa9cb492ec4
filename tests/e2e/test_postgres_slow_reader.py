"""What an export costs PostgreSQL whose reader is slow: one connection for each page's moment, and nothing in between."""

import json
import time

import pytest
from annal_server import Server, event

ROWS, FILLER = 20_000, "x" * 500
STALL_S = 2.0

# The node's connections that are doing something, but for its looks at what other nodes have changed.
BUSY = """
SELECT pid, state, extract(epoch FROM clock_timestamp() - xact_start), query FROM pg_stat_activity
WHERE application_name = 'exporting' AND state <> 'idle' AND query !~ ' FROM kv '
"""
PAGES_READ = "SELECT max(state_change) FROM pg_stat_activity WHERE application_name = 'exporting' AND query = 'COMMIT'"


@pytest.fixture(scope="module")
def node(postgres_cluster):
    with Server(database=postgres_cluster.create_database() + "&application_name=exporting") as node:
        client = node.client()
        for _ in range(ROWS // 5_000):
            client.ingest(*(event("bulk.row", metadata={"filler": FILLER}) for _ in range(5_000)))
        yield node


def start_export(node):
    connection = node.raw(receive_buffer=4096)
    connection.send(("GET /v1/audit/events.jsonl?type=bulk.row HTTP/1.1\r\nHost: a\r\n"
                     f"Authorization: Bearer {node.client().secret}\r\n\r\n").encode())
    status, _ = connection.head()
    assert status == 200
    return connection


def test_a_reader_that_stops_holds_no_connection(postgres_cluster, node):
    look = lambda query: postgres_cluster.sql(node.database, query)
    with start_export(node):
        time.sleep(1)  # until everything between the store and the client is full
        read_until = look(PAGES_READ)
        end = time.monotonic() + STALL_S
        while time.monotonic() < end:
            assert look(BUSY) == "", "a connection is kept for a client that does not read"
        assert look(PAGES_READ) == read_until, "pages are read ahead of the client"


def test_a_slow_reader_has_one_connection_at_most(postgres_cluster, node):
    with start_export(node) as connection:
        body, seen = b"", 0
        while piece := connection._exactly(int(connection._line(), 16)):
            body += piece
            assert connection._line() == ""
            if len(body) > seen + (256 << 10):
                seen = len(body)
                busy = postgres_cluster.sql(node.database, BUSY).splitlines()
                assert len(busy) <= 1, busy
        assert [json.loads(line)["seq"] for line in body.splitlines()] == list(range(ROWS, 0, -1))
    assert seen > 5 << 20
