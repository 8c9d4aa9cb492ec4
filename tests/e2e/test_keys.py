"""API keys and projects: made, listed, revoked, recorded; secrets shown once and kept nowhere."""

import json
import re
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from annal_server import BOOTSTRAP_KEY, PROJECT, STORE, Client, event, expect_problem, wait_until_past
from postgres_cluster import programs

SECRET = re.compile(r"sk_live_[A-Za-z0-9_-]{20,}")
KEY_ID = re.compile(r"apikey_[A-Za-z0-9_-]{10,}")


def test_a_made_key_is_complete(project):
    answer = project.post("/v1/api-keys", {"name": "ci", "scopes": ["audit:ingest"]})
    assert answer.status == 201
    key = answer.json()
    assert SECRET.fullmatch(key["secret"]) and KEY_ID.fullmatch(key["id"])
    assert (key["name"], key["scopes"], key["project_id"]) == ("ci", ["audit:ingest"], project.project)
    assert key["secret"].startswith(key["prefix"]) and len(key["prefix"]) < 16
    assert key["expires_at"] is None and key["revoked_at"] is None


def test_secrets_are_long_and_random(project):
    secrets = [project.make_key(["audit:read"]).secret for _ in range(10)]
    assert len({s[8:14] for s in secrets}) == 10
    assert all(len(s) - 8 >= 32 for s in secrets)  # 192 bits in base 64


def test_the_list_has_no_secret(project):
    made = [project.make_key(["audit:read"]) for _ in range(3)]
    answer = project.get("/v1/api-keys")
    keys = answer.json()["data"]
    assert [k["id"] for k in keys] == [k.key_id for k in made[::-1]] + [project.key_id]  # newest first
    for key in keys:
        assert "secret" not in key and "hash" not in key
    for key in [*made, project]:
        assert key.secret not in answer.text


def test_last_used_is_noted(project):
    key = project.make_key(["audit:read"])
    of = lambda: next(k for k in project.get("/v1/api-keys").json()["data"] if k["id"] == key.key_id)  # noqa: E731
    assert of()["last_used_at"] is None
    assert key.get("/v1/audit/events").status == 200
    assert of()["last_used_at"] is not None


def test_creation_and_revocation_are_events(project):
    key = project.make_key(["audit:read", "audit:ingest"], name="to go")
    assert project.delete(f"/v1/api-keys/{key.key_id}").status == 204
    revoked, created = project.page("?limit=2&target=" + key.key_id)["data"]
    for e, action in ((created, "api_key.created"), (revoked, "api_key.revoked")):
        assert e["action"] == action
        assert e["actor"] == {"type": "api_key", "id": project.key_id}
        assert (e["target_type"], e["target_id"]) == ("api_key", key.key_id)
        assert e["metadata"]["name"] == "to go" and e["metadata"]["scopes"] == ["audit:read", "audit:ingest"]
        assert key.secret not in json.dumps(e)


def test_the_bootstrap_key_is_recorded_too(root):
    first = root.walk()[-1]
    assert (first["seq"], first["action"], first["actor"]) == (0, "api_key.created", {"type": "system", "id": "bootstrap"})


def test_revoking_twice_is_the_same_as_once(project):
    key = project.make_key(["audit:read"])
    assert project.delete(f"/v1/api-keys/{key.key_id}").status == 204
    count = project.count()
    assert project.delete(f"/v1/api-keys/{key.key_id}").status == 204
    assert project.count() == count, "nothing happened the second time, so nothing is recorded"
    shown = next(k for k in project.get("/v1/api-keys").json()["data"] if k["id"] == key.key_id)
    assert shown["revoked_at"] is not None
    expect_problem(key.get("/v1/audit/events"), 401, "revoked")


def test_a_key_can_revoke_itself(project):
    key = project.make_key(["keys:write"])
    assert key.delete(f"/v1/api-keys/{key.key_id}").status == 204
    assert key.delete(f"/v1/api-keys/{key.key_id}").status == 401


def test_another_projects_key_is_404(project, root):
    other = root.new_project()
    expect_problem(other.delete(f"/v1/api-keys/{project.key_id}"), 404)
    assert project.get("/v1/audit/events").status == 200


def test_expiry(project):
    soon = datetime.now(timezone.utc) + timedelta(seconds=3)
    key = project.make_key(["audit:read"], expires_at=soon.isoformat())
    assert key.get("/v1/audit/events").status == 200
    wait_until_past(soon)
    expect_problem(key.get("/v1/audit/events"), 401, "expired")


@pytest.mark.parametrize("scopes,wanted", [
    (["keys:write"], ["audit:read"]), (["keys:*"], ["admin"]), (["keys:write", "audit:read"], ["audit:*"]), (["admin"], ["platform"]),
    (["keys:write", "audit:ingest"], ["audit:ingest", "audit:read"])])
def test_a_key_cannot_grant_what_it_lacks(root, scopes, wanted):
    key = root.make_key(scopes)
    count = root.count()
    answer = key.post("/v1/api-keys", {"name": "n", "scopes": wanted})
    problem = expect_problem(answer, 403)
    assert problem["errors"][0]["pointer"].startswith("/scopes")
    assert root.count() == count


@pytest.mark.parametrize("scopes,wanted", [
    (["keys:*", "audit:*"], ["audit:read", "audit:ingest", "audit:write"]), (["admin"], ["admin", "audit:*", "keys:*"]),
    (["platform"], ["platform", "admin"]), (["keys:write", "audit:read"], ["audit:read"])])
def test_a_key_can_grant_what_it_has(root, scopes, wanted):
    made = root.make_key(scopes).make_key(wanted)
    assert made.get("/v1/audit/events").status == 200


def test_a_key_for_another_project_needs_platform(project, root):
    other = root.new_project()
    answer = project.post("/v1/api-keys", {"name": "n", "scopes": ["audit:read"], "project_id": other.project})
    expect_problem(answer, 403, "platform")


def test_a_key_for_a_project_that_is_none(root):
    answer = root.post("/v1/api-keys", {"name": "n", "scopes": ["audit:read"], "project_id": "proj_none"})
    expect_problem(answer, 404, "proj_none", "POST /v1/projects")


@pytest.mark.parametrize("body,pointer", [
    ({"scopes": ["audit:read"]}, "/name"), ({"name": "", "scopes": ["audit:read"]}, "/name"),
    ({"name": "x" * 129, "scopes": ["audit:read"]}, "/name"), ({"name": 5, "scopes": ["audit:read"]}, "/name"),
    ({"name": "n"}, "/scopes"), ({"name": "n", "scopes": []}, "/scopes"), ({"name": "n", "scopes": "audit:read"}, "/scopes"),
    ({"name": "n", "scopes": ["audit:raed"]}, "/scopes"), ({"name": "n", "scopes": [5]}, "/scopes"),
    ({"name": "n", "scopes": ["audit:read"], "expires_at": "soon"}, "/expires_at"),
    ({"name": "n", "scopes": ["audit:read"], "expires_at": "2026-05-14"}, "/expires_at"),
    ({"name": "n", "scopes": ["audit:read"], "expires_at": 5}, "/expires_at"),
    ({"name": "n", "scopes": ["audit:read"], "colour": "red"}, "/colour"),
    ({"name": "n", "scopes": ["audit:read"], "secret": "mine"}, "/secret")])
def test_a_bad_key_request_is_422_with_a_pointer(root, body, pointer):
    count = root.count()
    problem = expect_problem(root.post("/v1/api-keys", body), 422)
    assert problem["errors"][0]["pointer"].startswith(pointer), problem
    assert root.count() == count


@pytest.mark.parametrize("body", ["{", "", "[]", '{"name":"a"} x', "nul", '{"name":"a","name":"b","scopes":["audit:read"]}'])
@pytest.mark.parametrize("path", ["/v1/api-keys", "/v1/projects"])
def test_a_malformed_body_is_refused(root, path, body):
    count = root.count()
    projects = len(root.get("/v1/projects").json()["data"])
    answer = root.post(path, body)
    assert answer.status in (400, 422), answer
    expect_problem(answer, answer.status)
    assert root.count() == count
    assert len(root.get("/v1/projects").json()["data"]) == projects


def test_an_unknown_scope_lists_the_known_ones(root):
    expect_problem(root.post("/v1/api-keys", {"name": "n", "scopes": ["audit:raed"]}), 422, "audit:read", "keys:write")


# --- Projects

def test_a_project_with_and_without_an_id(root):
    mine = root.post("/v1/projects", {"id": "proj_named_1", "name": "Named"})
    assert mine.status == 201 and mine.json()["id"] == "proj_named_1" and mine.json()["name"] == "Named"
    made = root.post("/v1/projects", {"name": "Made"})
    assert made.status == 201 and re.fullmatch(r"proj_\w+", made.json()["id"])
    listed = {p["id"]: p["name"] for p in root.get("/v1/projects").json()["data"]}
    assert listed["proj_named_1"] == "Named" and listed[made.json()["id"]] == "Made" and PROJECT in listed


def test_a_project_twice_is_409(root):
    assert root.post("/v1/projects", {"id": "proj_twice", "name": "First"}).status == 201
    expect_problem(root.post("/v1/projects", {"id": "proj_twice", "name": "Second"}), 409, "proj_twice")
    assert {p["id"]: p["name"] for p in root.get("/v1/projects").json()["data"]}["proj_twice"] == "First"


@pytest.mark.parametrize("project_id", ["", "a b", "a/b", "x" * 65, "é", "a.b", "../x", 5, None, "a\nb"])
def test_a_bad_project_id_is_422(root, project_id):
    problem = expect_problem(root.post("/v1/projects", {"id": project_id, "name": "n"}), 422)
    assert problem["errors"][0]["pointer"] == "/id"


@pytest.mark.parametrize("project_id", ["a", "x" * 64, "A-b_9"])
def test_a_good_project_id(root, project_id):
    assert root.post("/v1/projects", {"id": project_id, "name": "n"}).status == 201


def test_projects_see_nothing_of_each_other(root):
    mine, theirs = root.new_project(), root.new_project()
    receipt = mine.ingest(event("secret.plan", user_id="usr_x", external_id="ext_x"))[0]
    for path in (f"/v1/audit/events/{receipt['id']}",):
        expect_problem(theirs.get(path), 404)
        expect_problem(theirs.delete(path), 404)
        assert mine.get(path).status == 200
    assert theirs.page("?type=secret.*")["data"] == []
    assert theirs.page("?user=usr_x")["data"] == []
    assert theirs.page("?q=secret.plan")["data"] == []
    assert theirs.page("?external_id=ext_x")["data"] == []
    assert "secret.plan" not in theirs.get("/v1/audit/events/types").text
    for form in ("csv", "jsonl"):
        assert "secret.plan" not in theirs.get(f"/v1/audit/events.{form}").text
    assert "secret.plan" not in theirs.get("/v1/audit-events").text
    assert [k["id"] for k in theirs.get("/v1/api-keys").json()["data"]] == [theirs.key_id]


def test_each_project_has_its_own_sequence(root):
    a, b = root.new_project(), root.new_project()
    for _ in range(3):
        a.ingest(event())
        b.ingest(event(), event())
    assert [e["seq"] for e in a.walk()] == [3, 2, 1, 0]
    assert [e["seq"] for e in b.walk()] == [6, 5, 4, 3, 2, 1, 0]


def test_settings_belong_to_their_project(root):
    a, b = root.new_project(), root.new_project()
    assert a.put("/v1/config/audit_retention_days", 365).status == 200
    assert b.get("/v1/config/audit_retention_days").json()["value"] is None


# --- Where secrets must not be

def test_secrets_are_in_no_log_line_and_no_file(make_server):
    server = make_server(env={"ANNAL_LOG_LEVEL": "debug"}).start()
    root = server.client()
    key = root.make_key(["admin"])
    by_cli = json.loads(server.cli("keys", "create", "--project", PROJECT, "--name", "c", "--scopes", "audit:read").stdout)
    secrets = [BOOTSTRAP_KEY, key.secret, by_cli["secret"]]
    wrong = "sk_live_" + "w" * 40
    for secret in [*secrets, wrong]:
        client = Client(server, secret)
        client.get("/v1/audit/events")
        client.get("/v1/audit/events", headers={"X-API-Key": secret}, key=False)
        client.get(f"/v1/audit/events?key={secret}")  # a mistake that happens
        client.post("/v1/audit/events", "{")
        client.delete(f"/v1/api-keys/{secret}")
    shown = "".join(root.get(path).text for path in (
        "/v1/api-keys", "/v1/audit/events?limit=200", "/v1/audit/events.jsonl", "/v1/plugins", "/metrics", "/v1/projects"))
    server.terminate()
    logs = server.stderr_path.read_text()
    for secret in secrets:
        assert secret not in logs
        assert secret not in shown
        assert secret[8:] not in shown
    assert wrong not in logs
    stored = {path: path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file()}
    if server.database:
        stored["the database"] = subprocess.check_output([programs() / "pg_dump", "--dbname", server.database])
    assert len(stored) > 1
    for path, content in stored.items():
        for secret in secrets:
            assert secret.encode() not in content, path
            assert secret[8:].encode() not in content, path


@pytest.mark.skipif(STORE != "sqlite", reason="about SQLite's files")
def test_the_data_folder_is_its_owners_alone(make_server):
    server = make_server().start()
    ring = server.data_dir / "keyring"
    assert ring.stat().st_mode & 0o077 == 0
    assert (server.data_dir / "annal.sock").stat().st_mode & 0o077 == 0


def test_keys_and_their_ends_survive_a_restart(make_server):
    server = make_server().start()
    root = server.client()
    good, gone = root.make_key(["audit:read"]), root.make_key(["audit:read"])
    root.delete(f"/v1/api-keys/{gone.key_id}")
    for stop in (server.terminate, server.kill):
        stop()
        server.start()
        assert good.get("/v1/audit/events").status == 200
        assert gone.get("/v1/audit/events").status == 401
        assert root.get("/v1/audit/events").status == 200
    created = [e for e in root.walk() if e["actor"]["id"] == "bootstrap"]
    assert len(created) == 1, "the bootstrap key is made once"
