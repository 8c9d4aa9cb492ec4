"""Streams whose batches are documents of a format that the node offers, in place of the sink's own."""

import csv
import io
import json
from urllib.parse import urlsplit

import pytest
from annal_server import MANIFESTS, PROJECT, event, expect_problem
from scripted_receiver import Receiver
from test_audit_streams import get, recorded, to_hook, until
from test_stream_outcomes import Scripted


def caught_up(project, stream):
    until(lambda: get(project, stream)["lag_events"] == 0)


def rows_of(request):
    rows = list(csv.DictReader(io.StringIO(request.body.decode(), newline="")))
    assert request.body.startswith(b"id,created_at,action,"), "each batch is a whole document"
    return rows


def actions(requests):
    return [row["action"] for request in requests for row in rows_of(request)]


def test_batches_are_documents_of_the_format(project, receiver):
    stream = to_hook(project, receiver, format="csv", start="earliest", batch={"max_events": 7})
    assert stream["format"] == "csv"
    project.ingest(*[event(f"a.b{n}", description='with "quotes", commas') for n in range(20)])
    caught_up(project, stream)
    assert {r.headers["content-type"] for r in receiver.requests} == {"text/csv; charset=utf-8"}
    assert max(len(rows_of(r)) for r in receiver.requests) <= 7
    exported = project.get("/v1/audit/events.csv").text.split("\r\n")
    streamed = [line for r in receiver.requests for line in r.body.decode().split("\r\n")[1:] if line]
    assert streamed == [line for line in exported[1:] if line][::-1]
    for request in receiver.requests:
        first, last = request.headers["stream-seq"].split("-")
        assert len(rows_of(request)) == int(last) - int(first) + 1


def test_jsonl_is_what_the_sink_writes_itself(project, receiver):
    other = Receiver()
    try:
        chosen = to_hook(project, receiver, format="jsonl", start="earliest")
        own = to_hook(project, other, start="earliest")
        project.ingest(*[event("a.b") for _ in range(5)])
        for stream in (chosen, own):
            caught_up(project, stream)
        lines = [[line for r in each.requests for line in r.lines] for each in (receiver, other)]
        assert [json.loads(line)["seq"] for line in lines[0]] == list(range(project.count()))
        assert lines[0][:6] == lines[1][:6]
    finally:
        other.close()


def test_a_retry_sends_the_identical_document(make_server, receiver):
    server = make_server().start()
    project = server.client()
    receiver.answer = Scripted(lambda _: None)  # taken, but nobody hears it
    stream = to_hook(project, receiver, format="csv")
    project.ingest(*[event("a.b") for _ in range(5)])
    receiver.wait_for(lambda requests: len(requests) >= 1)
    server.kill()
    receiver.answer = Scripted(lambda _: 200)
    before = len(receiver.requests)
    server.start()
    caught_up(server.client(), stream)
    first, again = receiver.requests[0], receiver.requests[before]
    assert first.body == again.body and first.headers["idempotency-key"] == again.headers["idempotency-key"]
    assert actions(receiver.requests[before:])[-5:] == ["a.b"] * 5


def test_a_refused_event_is_found_in_documents_too(project, receiver):
    receiver.answer = Scripted(lambda r: (400, {}, b"field missing") if b"poison" in r.body else 200)
    stream = to_hook(project, receiver, format="csv")
    project.ingest(*[event("test.poison" if n == 5 else "test.fine") for n in range(12)])
    caught_up(project, stream)
    letters = project.get(f"/v1/audit/streams/{stream['id']}/dead-letters").json()["data"]
    assert len(letters) == 1 and "field missing" in letters[0]["reason"]
    taken = [r for r in receiver.requests if b"poison" not in r.body]
    assert [a for a in actions(taken) if a == "test.fine"] == ["test.fine"] * 11


def test_a_limit_in_bytes_holds_for_documents(project, receiver):
    stream = to_hook(project, receiver, format="csv", batch={"max_bytes": 2_048})
    project.ingest(*[event("a.b", description="x" * 200) for _ in range(30)])
    caught_up(project, stream)
    assert max(len(r.body) for r in receiver.requests) <= 2_048
    assert actions(receiver.requests).count("a.b") == 30


@pytest.mark.parametrize("destination, config, name, said", [
    ("generic_webhook", {"url": "https://siem.example/in"}, "xml", "no format has the name"),
    ("file", {"path": "/tmp/never.jsonl"}, "csv", "a form of its own"),
    ("stdout", {}, "jsonl", "a form of its own"),
])
def test_a_format_that_can_not_be_is_refused(project, destination, config, name, said):
    answer = project.post("/v1/audit/streams",
                          {"name": "x", "destination": destination, "config": config, "format": name})
    expect_problem(answer, 422, said)
    assert answer.json()["errors"][0]["pointer"] == "/format"


def test_a_format_is_changed_and_taken_away(project, receiver):
    stream = to_hook(project, receiver)
    assert stream["format"] is None

    def patch(value):
        answer = project.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"format": value})
        assert answer.status == 200, answer
        assert answer.json()["format"] == value
        before = len(receiver.requests)
        project.ingest(event("a.b"))
        receiver.wait_for(lambda requests: len(requests) > before)
        caught_up(project, stream)
        return receiver.requests[-1]

    assert patch("csv").headers["content-type"].startswith("text/csv")
    assert patch(None).headers["content-type"] == "application/x-ndjson"
    fields = [m["fields"] for action, m in recorded(project, stream) if action == "audit_stream.updated"]
    assert fields == [["format"], ["format"]]
    answer = project.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"format": "xml"})
    expect_problem(answer, 422, "csv, jsonl")
    assert get(project, stream)["format"] is None


def test_what_was_planned_in_another_format_is_planned_anew_and_recorded(project, receiver):
    receiver.answer = Scripted(lambda _: 503)
    stream = to_hook(project, receiver)
    project.ingest(event("a.b"))
    receiver.wait_for(lambda requests: len(requests) >= 1)
    receiver.answer = Scripted(lambda _: 200)
    assert project.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"format": "csv"}).status == 200
    caught_up(project, stream)
    (planned,) = [m for action, m in recorded(project, stream) if action == "audit_stream.replanned"]
    assert "encoder" in planned["reason"]
    assert "a.b" in actions([r for r in receiver.requests if r.headers["content-type"].startswith("text/csv")])


MANIFEST = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: declared}}
spec:
  library: {{name: sink_webhook}}
  config: {{url: "{url}"}}
  triggers:
    - name: all
      events: {{project: {project}, format: {format}}}
  permissions: {{http: ["127.0.0.1:{port}"]}}
"""


def declared(make_server, tmp_path, receiver, name):
    path = tmp_path / "declared.yaml"
    path.write_text(MANIFEST.format(url=receiver.url, port=urlsplit(receiver.url).port, project=PROJECT, format=name))
    return make_server(manifests=[MANIFESTS, path], env={"ANNAL_ALLOW_CIDRS": "127.0.0.0/8"}), path


def test_a_manifest_names_a_format(make_server, tmp_path, receiver):
    server, _ = declared(make_server, tmp_path, receiver, "csv")
    server.start()
    server.client().ingest(event("a.b"))
    receiver.wait_for(lambda requests: "a.b" in actions(requests))


def test_a_manifest_that_names_no_format_there_is_refuses_to_start(make_server, tmp_path, receiver):
    server, path = declared(make_server, tmp_path, receiver, "xml")
    assert server.spawn().wait_exit() != 0
    assert f"{path}:9" in server.stderr() and "no format has the name" in server.stderr(), server.stderr()


def test_the_command_line_chooses_a_format(server, project, receiver):
    made = server.cli("streams", "create", "--project", project.project, "--name", "by-hand", "--destination", "generic_webhook",
                      "--set", f"url={receiver.url}", "--format", "csv")
    assert made.returncode == 0, made.stderr
    stream = json.loads(made.stdout)
    assert stream["format"] == "csv"
    changed = server.cli("streams", "change", stream["id"], "--project", project.project, "--format", "none")
    assert json.loads(changed.stdout)["format"] is None
