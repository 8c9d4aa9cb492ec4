"""Audit streams made over REST: what they take, what they deliver, and what is recorded of them."""

import json
import time
from datetime import datetime, timedelta, timezone

import pytest
from annal_server import event, expect_problem

SAMPLE_KEYS = {"id", "action", "created_at", "project_id", "organization_id", "user_id", "target_type", "target_id",
               "metadata", "actor"}


def until(condition, timeout=30):
    deadline = time.monotonic() + timeout
    while True:
        held = condition()
        if held:
            return held
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def create(project, destination, config, **more):
    answer = project.post("/v1/audit/streams", {"name": "siem-prod", "destination": destination, "config": config} | more)
    assert answer.status == 201, answer
    return answer.json()


def to_file(project, path, **more):
    return create(project, "file", {"path": str(path)}, **more)


def to_hook(project, receiver, config=None, **more):
    return create(project, "generic_webhook", {"url": receiver.url} | (config or {}), **more)


def get(project, stream):
    answer = project.get(f"/v1/audit/streams/{stream['id']}")
    assert answer.status == 200, answer
    return answer.json()


def steer(project, stream, verb, body=None):
    return project.post(f"/v1/audit/streams/{stream['id']}/{verb}", body)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def seqs(requests):
    return [json.loads(line)["seq"] for request in requests for line in request.lines]


def recorded(project, stream):
    """Actions and metadata of what was recorded of a stream, oldest first."""
    return [(e["action"], e["metadata"]) for e in project.walk(f"?target={stream['id']}")[::-1]]


def with_status(project, stream, status):
    return until(lambda: (lambda s: s if s["status"] == status else None)(get(project, stream)))


# --- making one


def test_a_made_stream_is_complete_and_recorded_as_sampled(project, tmp_path):
    project.ingest(event(), event())  # behind the project's own first event, its key's
    answer = project.post("/v1/audit/streams", {"name": "siem-prod", "destination": "file",
                                                "config": {"path": str(tmp_path / "a.jsonl")}})
    assert answer.status == 201
    stream = answer.json()
    assert stream["id"].startswith("aud_") and stream["status"] == "active"
    assert stream["cursor_seq"] in (2, 3), "it starts behind what was there"
    assert (stream["events"], stream["on_poison"], stream["last_error"]) == (["*"], "dead_letter", None)
    assert stream["batch"] == {"max_events": 500, "max_bytes": 1 << 20} and stream["rate_limit"] is None
    (made,) = project.page(f"?target={stream['id']}")["data"]
    assert SAMPLE_KEYS <= set(made)
    assert made["action"] == "audit_stream.created" and made["target_type"] == "audit_stream"
    assert made["metadata"] == {"destination": "file", "name": "siem-prod"}
    assert made["actor"] == {"type": "api_key", "id": project.key_id}
    assert made["organization_id"] is None and made["user_id"] is None
    project.ingest(event())
    until(lambda: [e["seq"] for e in lines(tmp_path / "a.jsonl")] == [3, 4])
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert get(project, stream)["cursor_seq"] == 4


@pytest.mark.parametrize("start, first", [("earliest", 0), ("latest", 6), ({"seq": 3}, 3), ({"seq": 0}, 0)])
def test_it_starts_where_it_is_told(project, tmp_path, start, first):
    project.ingest(*[event() for _ in range(5)])
    to_file(project, tmp_path / "a", start=start)
    until(lambda: [e["seq"] for e in lines(tmp_path / "a")] == list(range(first, 7)))


def test_it_starts_at_a_time(project, tmp_path):
    project.ingest(event())
    middle = datetime.now(timezone.utc)
    time.sleep(0.01)
    project.ingest(event(), event())
    to_file(project, tmp_path / "a", start={"time": middle.isoformat()})
    until(lambda: [e["seq"] for e in lines(tmp_path / "a")] == [2, 3, 4])
    to_file(project, tmp_path / "b", start={"time": (middle + timedelta(days=1)).isoformat()})
    until(lambda: [e["action"] for e in lines(tmp_path / "b")] == ["audit_stream.created"])


def test_it_delivers_what_its_patterns_select(project, tmp_path):
    stream = to_file(project, tmp_path / "a", events=["auth.*", "session.created"])
    project.ingest(event("auth.signin_attempt"), event("session.revoked"), event("session.created"),
                   event("auth.step_up.done"), event("authority.made"))
    until(lambda: len(lines(tmp_path / "a")) == 3)
    assert [e["action"] for e in lines(tmp_path / "a")] == ["auth.signin_attempt", "session.created", "auth.step_up.done"]
    for _ in range(2):
        project.ingest(event("authority.made"))
        until(lambda: get(project, stream)["lag_events"] == 0)  # what it passes over does not make it lag


@pytest.mark.parametrize("change, pointer", [
    ({"name": None}, "/name"), ({"name": ""}, "/name"), ({"name": "x" * 129}, "/name"),
    ({"destination": "no_such"}, "/destination"), ({"destination": None}, "/destination"),
    ({"config": []}, "/config"), ({"config": {}}, "/config"), ({"config": {"path": 3}}, "/config"),
    ({"config": {"path": "/tmp/x", "nonsense": 1}}, "/config"),
    ({"config": {"path": {"secretRef": "master"}}}, "/config/path"),
    ({"config": {"path": "/no/such/folder/x"}}, "/config"),
    ({"events": []}, "/events"), ({"events": ["a b"]}, "/events/0"), ({"events": "*"}, "/events"),
    ({"start": "now"}, "/start"), ({"start": {"seq": -1}}, "/start/seq"), ({"start": {"seq": 10**6}}, "/start/seq"),
    ({"start": {"time": "soon"}}, "/start/time"), ({"start": {}}, "/start"),
    ({"on_poison": "skip"}, "/on_poison"),
    ({"batch": {"max_events": 0}}, "/batch/max_events"), ({"batch": {"max_bytes": 1}}, "/batch/max_bytes"),
    ({"batch": {"events": 1}}, "/batch/events"),
    ({"rate_limit": {"requests_per_second": 0}}, "/rate_limit/requests_per_second"),
    ({"probe": 1}, "/probe"), ({"nonsense": 1}, "/nonsense"),
])
def test_a_request_that_can_not_be_is_refused_and_nothing_is_recorded(project, tmp_path, change, pointer):
    body = {"name": "a", "destination": "file", "config": {"path": str(tmp_path / "a")}} | change
    answer = project.post("/v1/audit/streams", {k: v for k, v in body.items() if v is not None})
    problem = expect_problem(answer, 422)
    assert pointer in json.dumps(problem), problem
    assert project.get("/v1/audit/streams").json()["data"] == []
    assert project.count() == 1  # its key


def test_a_webhook_secret_that_is_no_base64_is_refused_and_not_shown(project, receiver):
    config = {"url": receiver.url, "secret": "whsec_not/base64!"}
    answer = project.post("/v1/audit/streams", {"name": "a", "destination": "generic_webhook", "config": config})
    assert "is not base64 behind whsec_" in json.dumps(expect_problem(answer, 422)) and "/secret" in answer.text
    assert "not/base64" not in answer.text
    assert project.get("/v1/audit/streams").json()["data"] == []


def test_scopes(project, tmp_path):
    body = {"name": "a", "destination": "file", "config": {"path": str(tmp_path / "a")}}
    reader, writer = project.make_key(["streams:read"]), project.make_key(["streams:write"])
    expect_problem(reader.post("/v1/audit/streams", body), 403)
    assert "admin" in expect_problem(writer.post("/v1/audit/streams", body), 403)["detail"]
    stream = to_file(project, tmp_path / "a")
    assert reader.get(f"/v1/audit/streams/{stream['id']}").status == 200
    expect_problem(writer.get(f"/v1/audit/streams/{stream['id']}"), 403)
    for verb in ("pause", "resume", "probe"):
        expect_problem(steer(reader, stream, verb), 403)
        assert steer(writer, stream, verb).status == 200
    expect_problem(reader.delete(f"/v1/audit/streams/{stream['id']}"), 403)
    assert writer.delete(f"/v1/audit/streams/{stream['id']}").status == 204


def test_another_projects_stream_is_not_there(root, project, tmp_path):
    stream, other = to_file(project, tmp_path / "a"), root.new_project()
    path = f"/v1/audit/streams/{stream['id']}"
    expect_problem(other.get(path), 404)
    expect_problem(other.request("PATCH", path, {"name": "b"}), 404)
    expect_problem(other.delete(path), 404)
    for verb in ("pause", "resume", "probe", "replay", "dead-letters/redrive"):
        body = {"from_seq": 0, "to_seq": 0} if verb == "replay" else {} if verb.startswith("dead") else None
        expect_problem(steer(other, stream, verb, body), 404)
    expect_problem(other.get(path + "/dead-letters"), 404)
    assert other.get("/v1/audit/streams").json()["data"] == []
    assert get(project, stream)["name"] == "siem-prod"


# --- pause, resume, revoke, patch


def test_pause_and_resume(project, tmp_path):
    stream = to_file(project, tmp_path / "a")
    project.ingest(event())
    until(lambda: len(lines(tmp_path / "a")) == 2)
    assert steer(project, stream, "pause").json()["status"] == "paused"
    assert steer(project, stream, "pause").json()["status"] == "paused"  # nothing more happens
    project.ingest(event(), event())
    time.sleep(0.5)
    assert len(lines(tmp_path / "a")) == 2
    shown = get(project, stream)
    assert shown["lag_events"] == 4 and shown["last_error"] == "paused"
    assert steer(project, stream, "resume").json()["status"] == "active"
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert [e["seq"] for e in lines(tmp_path / "a")] == list(range(1, 8))
    assert [a for a, _ in recorded(project, stream)] == [
        "audit_stream.created", "audit_stream.revoked", "audit_stream.paused", "audit_stream.resumed"]
    assert recorded(project, stream)[1][1] == {"reason": "paused"}


def test_revoke(project, tmp_path):
    stream = to_file(project, tmp_path / "a")
    path = f"/v1/audit/streams/{stream['id']}"
    until(lambda: len(lines(tmp_path / "a")) == 1)
    assert project.delete(path).status == 204
    assert project.delete(path).status == 204
    project.ingest(event())
    time.sleep(0.3)
    assert len(lines(tmp_path / "a")) == 1, "not even its own end"
    assert get(project, stream)["status"] == "revoked"
    assert project.get("/v1/audit/streams").json()["data"] == []
    expect_problem(steer(project, stream, "resume"), 409)
    expect_problem(project.request("PATCH", path, {"name": "b"}), 409)
    assert recorded(project, stream)[1:] == [("audit_stream.revoked", {"reason": "removed"})]


def test_patch(project, tmp_path):
    stream = to_file(project, tmp_path / "a")
    until(lambda: len(lines(tmp_path / "a")) == 1)
    path = f"/v1/audit/streams/{stream['id']}"
    answer = project.request("PATCH", path, {"name": "other", "events": ["user.*"], "batch": {"max_events": 7},
                                             "rate_limit": {"requests_per_second": 50}, "on_poison": "block",
                                             "config": {"path": str(tmp_path / "b")}})
    assert answer.status == 200, answer
    changed = answer.json()
    assert (changed["name"], changed["events"], changed["on_poison"]) == ("other", ["user.*"], "block")
    assert changed["batch"] == {"max_events": 7, "max_bytes": 1 << 20}
    assert changed["config"]["path"] == str(tmp_path / "b")
    project.ingest(event("user.created"), event("session.created"))
    until(lambda: [e["action"] for e in lines(tmp_path / "b")] == ["user.created"])
    assert len(lines(tmp_path / "a")) == 1
    action, metadata = recorded(project, stream)[1]
    assert action == "audit_stream.updated"
    assert set(metadata["fields"]) == {"name", "events", "batch", "rate_limit", "on_poison", "config"}
    expect_problem(project.request("PATCH", path, {"config": {"path": "/no/such/folder/x"}}), 422)
    assert get(project, stream)["config"]["path"] == str(tmp_path / "b")


def test_streams_survive_restart_and_kill(make_server, tmp_path):
    server = make_server().start()
    project = server.client().new_project()
    stream, paused = to_file(project, tmp_path / "a"), to_file(project, tmp_path / "b")
    steer(project, paused, "pause")
    for stop in (server.terminate, server.kill):
        project.ingest(event(), event())
        stop()
        server.start()
        project.ingest(event())
        until(lambda: get(project, stream)["lag_events"] == 0)
    found = [e["seq"] for e in lines(tmp_path / "a")]
    assert found == list(range(1, project.count())), "each once, in order"
    assert get(project, paused)["status"] == "paused"


# --- what operators decide


OFFER = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: offered}}
spec:
  library: {{name: sink_file}}
  config: {config}
  triggers: [{{name: offered, destination: {destination}}}]
"""


def offering(tmp_path, config, destination="{name: archive}"):
    manifest = tmp_path / "offered.yaml"
    manifest.write_text(OFFER.format(config=config, destination=destination))
    return manifest


def test_what_the_operator_sets_a_stream_can_not_change(make_server, tmp_path):
    server = make_server(manifests=[offering(tmp_path, f"{{path: {tmp_path / 'fixed'}}}")]).start()
    project = server.client().new_project(scopes=("streams:read", "streams:write", "audit:ingest", "audit:read"))
    body = {"name": "a", "destination": "archive"}
    problem = expect_problem(project.post("/v1/audit/streams", body | {"config": {"path": "/tmp/x"}}), 422)
    assert "operator" in problem["detail"]
    stream = create(project, "archive", {"fsync": False})
    until(lambda: lines(tmp_path / "fixed"))
    assert get(project, stream)["config"] == {"fsync": False}, "the operator's part is not the project's to read"


def test_a_destination_that_is_offered_twice_or_wrongly_refuses_to_start(make_server, tmp_path):
    for config, destination, words in [
        ("{}", "{name: file}", "offered by destination-file already"),
        ("{nonsense: 1}", "{name: archive}", "nonsense"),
        ("{}", "{name: No-Such}", "no destination's name"),
    ]:
        server = make_server(manifests=[offering(tmp_path, config, destination)]).spawn()
        assert server.wait_exit() != 0
        assert words in server.stderr(), server.stderr()


def test_a_stream_waits_for_its_destination_to_be_offered_again(make_server, tmp_path):
    manifest = offering(tmp_path, "{}")
    server = make_server(manifests=[manifest]).start()
    project = server.client().new_project()
    stream = create(project, "archive", {"path": str(tmp_path / "a")})
    until(lambda: lines(tmp_path / "a"))
    server.terminate()
    offer, text = manifest.read_text(), OFFER.format(config="{}", destination="{name: other}")
    manifest.write_text(text)
    server.start()
    project.ingest(event())
    shown = until(lambda: (lambda s: s if s["state"] == "blocked" else None)(get(project, stream)))
    assert "offers the destination archive" in shown["last_error"] and shown["status"] == "active"
    server.terminate()
    manifest.write_text(offer)
    server.start()
    until(lambda: get(project, stream)["lag_events"] == 0)
    assert [e["seq"] for e in lines(tmp_path / "a")] == list(range(1, project.count()))


# --- the command line


def test_the_command_line_does_all_of_it(server, project, tmp_path):
    def annal(*arguments, code=0):
        done = server.cli("streams", *arguments, "--project", project.project)
        assert done.returncode == code, done
        return done.stdout if code == 0 else done.stderr

    made = json.loads(annal("create", "--name", "cli", "--destination", "file", "--set", f"path={tmp_path / 'a'}",
                            "--set", "fsync=false", "--events", "user.*,session.created", "--start", "earliest",
                            "--on-poison", "block"))
    stream = made["id"]
    assert made["events"] == ["user.*", "session.created"] and made["config"]["fsync"] is False
    assert json.loads(annal("list"))["id"] == stream
    assert json.loads(annal("change", stream, "--name", "other", "--events", "*"))["name"] == "other"
    assert json.loads(annal("pause", stream))["status"] == "paused"
    assert json.loads(annal("resume", stream))["status"] == "active"
    assert json.loads(annal("probe", stream))["status"] == "active"
    assert json.loads(annal("get", stream))["events"] == ["*"]
    assert annal("dead-letters", stream) == ""
    assert json.loads(annal("redrive", stream)) == {"redriving": 0}
    assert "keeps its own position" in annal("replay", stream, "--from", "0", "--to", "1", code=1)
    assert annal("revoke", stream) == f"revoked {stream}\n"
    assert annal("list") == ""
    assert "--set takes key=value" in annal("create", "--name", "x", "--destination", "file", "--set", "path", code=1)
