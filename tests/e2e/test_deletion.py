"""Deleting one event: its content goes, its place in the sequence stays, and the deletion itself is on record."""

import json

import pytest
from annal_server import MANIFESTS, PROJECT, event, expect_problem, wait_until

SECRET_TEXT = "remember-me-not-4711"


@pytest.fixture
def victim(project):
    """An event between two others."""
    receipts = project.ingest(
        event("keep.first"), event("drop.me", user_id="usr_gone", external_id="ext_gone", target_id="tgt_gone",
                                   description=SECRET_TEXT, metadata={"k": SECRET_TEXT}), event("keep.last"))
    return receipts[1]


def drop(client, receipt, query=""):
    return client.delete(f"/v1/audit/events/{receipt['id']}{query}")


def test_a_deleted_event_is_gone_from_everywhere(project, victim):
    answer = drop(project, victim)
    assert (answer.status, answer.body) == (204, b"")
    expect_problem(project.get(f"/v1/audit/events/{victim['id']}"), 404)
    assert [e["seq"] for e in project.walk()] == [4, 3, 1, 0]
    for query in ("?type=drop.*", "?user=usr_gone", "?external_id=ext_gone", "?target=tgt_gone", "?q=drop.me", f"?q={SECRET_TEXT}"):
        assert project.page(query)["data"] == [], query
    assert "drop.me" not in {row["action"] for row in project.get("/v1/audit/events/types").json()["data"]}
    for path in ("/v1/audit/events.csv", "/v1/audit/events.jsonl", "/v1/audit-events", "/v1/audit/events?limit=200"):
        text = project.get(path).text
        for word in ("drop.me", SECRET_TEXT, "usr_gone"):
            assert word not in text, path


def test_a_second_deletion_is_404_and_records_nothing(project, victim):
    assert drop(project, victim).status == 204
    count = len(project.walk())
    expect_problem(drop(project, victim), 404)
    assert len(project.walk()) == count


def test_the_deletion_is_an_event(project, victim):
    assert drop(project, victim, "?reason=asked+by+the+user").status == 204
    record = project.page("?limit=1")["data"][0]
    assert record["action"] == "audit_log.entry.deleted"
    assert record["actor"] == {"type": "api_key", "id": project.key_id}
    assert record["target_id"] == victim["id"]
    assert record["metadata"]["seq"] == victim["seq"]
    assert record["metadata"]["reason"] == "asked by the user"
    assert "drop.me" not in json.dumps(record) and SECRET_TEXT not in json.dumps(record)


def test_the_record_of_a_deletion_can_be_read_on(project, victim):
    drop(project, victim)
    types = {row["action"]: row["count"] for row in project.get("/v1/audit/events/types").json()["data"]}
    assert types["audit_log.entry.deleted"] == 1


def test_the_uuid_form_deletes_too(project, victim):
    from test_samples import uuid_form
    assert project.delete(f"/v1/audit/events/{uuid_form(victim['id'])}").status == 204
    assert project.get(f"/v1/audit/events/{victim['id']}").status == 404


def test_a_deletion_survives_restarts_and_leaves_no_trace_in_the_files(make_server):
    server = make_server().start()
    client = server.client()
    receipt = client.ingest(event("drop.me", metadata={"k": SECRET_TEXT}))[0]
    client.ingest(event("keep.me"))
    assert drop(client, receipt).status == 204
    for stop in (server.kill, server.terminate):
        stop()
        server.start()
        assert client.get(f"/v1/audit/events/{receipt['id']}").status == 404
        assert [e["action"] for e in client.walk()] == ["audit_log.entry.deleted", "keep.me", "api_key.created"]
    server.terminate()
    for path in server.data_dir.rglob("*"):
        if path.is_file():
            assert SECRET_TEXT.encode() not in path.read_bytes(), path


def test_paging_over_deleted_events(project):
    receipts = project.ingest(*(event("page.me") for _ in range(60)))
    for receipt in receipts[5:55]:
        assert drop(project, receipt).status == 204
    shown = [e["seq"] for e in project.walk("?type=page.*", limit=7)]
    assert shown == [r["seq"] for r in (receipts[:5] + receipts[55:])][::-1]
    assert [e["seq"] for e in project.walk(limit=3)] == sorted(
        {0} | set(shown) | set(range(61, 111)), reverse=True)


def test_a_stream_gets_a_tombstone_for_what_was_deleted_before_its_turn(make_server):
    server = make_server()
    server.folder.mkdir(exist_ok=True)
    path = server.folder / "stream.yaml"
    out = server.folder / "late" / "out.jsonl"
    path.write_text(f"""\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: late}}
spec:
  library: {{name: sink_file}}
  config: {{path: {out}}}
  triggers:
    - name: all
      events: {{project: {PROJECT}}}
""")
    server.start()
    client = server.client()
    receipts = client.ingest(event("keep.first"), event("drop.me", metadata={"k": SECRET_TEXT}), event("keep.last"))
    assert drop(client, receipts[1]).status == 204
    server.terminate()
    out.parent.mkdir()
    server.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{path}"
    server.start()
    lines = wait_until(lambda: out.exists() and len(out.read_text().splitlines()) == 5 and out.read_text().splitlines(),
                       what="the stream")
    rows = [json.loads(line) for line in lines]
    assert [row["seq"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[2] == {"id": receipts[1]["id"], "seq": 2, "deleted": True}
    assert rows[4]["action"] == "audit_log.entry.deleted"
