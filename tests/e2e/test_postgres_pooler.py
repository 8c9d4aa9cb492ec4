"""A node whose database stands behind PgBouncer in transaction mode, with the direct URL for what a pooler can't serve."""

import contextlib
import json

import pytest
from annal_server import MANIFESTS, PROJECT, event, expect_problem, wait_until
from event_stream import EventStream
from pgbouncer import PgBouncer
from posting import Load
from postgres_cluster import PostgresCluster

RECOVERY_S = 30

MANIFEST = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: pooled}}
spec:
  library: {{name: sink_file}}
  config: {{path: {path}}}
  triggers:
    - name: all
      events: {{project: {project}, patterns: ["*"], from: earliest, batch: {{maxEvents: 20}}}}
"""


@pytest.fixture(scope="module")
def cluster():
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture
def pool(cluster):
    # Fewer than a node has connections: they have to share.
    with PgBouncer(cluster, settings=["default_pool_size = 4"]) as pool:
        yield pool


@pytest.fixture
def pooled(cluster, pool, make_server):
    """Makes nodes on one database, which is reached through the pooler."""
    direct = cluster.create_database() + "&application_name=direct"
    name = direct.partition("///")[2].partition("?")[0]

    def make():
        server = make_server(database=pool.url(name), env={"ANNAL_POSTGRES_DIRECT_URL": direct})
        server.database = name
        return server

    return make


def is_ready(server):
    return server.client().get("/readyz", key=False).status == 200


def test_ingest_list_export_and_tail(pooled):
    server = pooled().start()
    client = server.client().new_project()
    with EventStream(client).open() as tail:
        receipts = client.ingest(*(event(f"a.e{i}") for i in range(30)))
        receipts += client.ingest(event("a.last", idempotency_key="once"))
        assert [m.json()["seq"] for m in tail.take(31)] == [r["seq"] for r in receipts]
    again = client.post("/v1/audit/events", {"events": [event("a.last", idempotency_key="once")]})
    assert again.status == 200 and again.json()["data"][0]["id"] == receipts[-1]["id"]
    assert [e["id"] for e in reversed(client.walk("?type=a.*", limit=7))] == [r["id"] for r in receipts]
    assert len(client.walk("?q=a.e1")) == 11
    assert [json.loads(line)["id"] for line in client.export_lines("?type=a.*")][::-1] == [r["id"] for r in receipts]
    assert client.delete(f"/v1/audit/events/{receipts[0]['id']}").status in (200, 204)
    assert client.get(f"/v1/audit/events/{receipts[0]['id']}").status == 404


def test_what_a_pooler_cannot_serve_goes_directly(cluster, pooled):
    server = pooled().start()
    server.client().ingest(event())
    sessions = f"SELECT application_name, query FROM pg_stat_activity WHERE datname = '{server.database}'"

    def listening():
        lines = cluster.sql("postgres", sessions).splitlines()
        return [line for line in lines if "LISTEN" in line.upper() or "pg_notify" in line]

    found = wait_until(listening, what="a session that listens")
    assert all(line.startswith("direct|") for line in found)
    # Ten connections of the node share the pooler's four.
    pooled_sessions = [line for line in cluster.sql("postgres", sessions).splitlines() if line.startswith("annal|")]
    assert 1 <= len(pooled_sessions) <= 4


def test_nodes_wake_each_other(pooled):
    here, there = pooled().start(), pooled().start()
    client = here.client().new_project()
    with EventStream(there.client(client.secret, client.project)).open() as tail:
        stored = client.ingest(event("woken.up"))[0]
        assert tail.take(1)[0].json()["id"] == stored["id"]


def test_the_pooler_restarts_in_mid_load(pool, pooled):
    """Each write is acknowledged or refused, and what is acknowledged is there once; stream and node come back by themselves."""
    server = pooled()
    out = server.folder / "out.jsonl"
    manifest = server.folder / "pooled.yaml"
    manifest.write_text(MANIFEST.format(path=out, project=PROJECT))
    server.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{manifest}"
    server.start()
    client = server.client()
    with Load(client, client, client) as load:
        load.await_progress()
        for _ in range(3):
            pool.restart()
            load.await_progress()
        # Away for long enough that everybody is refused.
        with contextlib.ExitStack() as again:
            again.callback(pool.start)
            pool.stop()
            load.await_refusals(2)
            expect_problem(client.get("/v1/audit/events"), 503)
        load.await_progress()
    load.expect_kept(client)
    wait_until(lambda: is_ready(server), RECOVERY_S, "the node to be ready again")

    stored = client.export_lines()[::-1]
    wait_until(lambda: out.exists() and out.read_text().count("\n") >= len(stored), 60, "the stream")
    assert out.read_text().splitlines() == stored
