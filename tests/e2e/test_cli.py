"""The command line, beside a running server and without one."""

import json
import re

import pytest
from annal_server import ANNAL, MANIFESTS, PROJECT, SOURCE, STORE, Client, Server, event

GOOD_MANIFEST = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: good}
spec:
  library: {name: sink_file}
  config: {path: ./out.jsonl}
  triggers:
    - name: all
      events: {project: proj_tests}
"""


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    """A server that ran once and is down: commands open its data by themselves."""
    server = Server(env={"ANNAL_BOOTSTRAP_PROJECT": "proj_offline"}).start()
    server.client().ingest(event("before.all"))
    server.terminate()
    yield server
    server.remove()


@pytest.fixture(params=["running", "offline"])
def node(request, server, offline):
    """Each command must do the same whether a server runs or not."""
    chosen = server if request.param == "running" else offline
    chosen.project_of_cli = PROJECT if chosen is server else "proj_offline"
    return chosen


def run(node, *arguments, code=0, **more):
    done = node.cli(*arguments, **more)
    assert done.returncode == code, (done.args, done.returncode, done.stdout, done.stderr)
    for trace in ("terminate called", "Traceback", "AddressSanitizer", "runtime error:", "Aborted"):
        assert trace not in done.stderr
    return done


def rows(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_version_and_help():
    import subprocess
    version = subprocess.run([ANNAL, "--version"], capture_output=True, text=True, timeout=60)
    assert version.returncode == 0 and re.fullmatch(r"annal \d+\.\d+\.\d+\n", version.stdout)
    usage = subprocess.run([ANNAL, "--help"], capture_output=True, text=True, timeout=60)
    assert usage.returncode == 0
    for command in ("serve", "migrate", "keys", "config", "plugins", "streams", "webhooks", "export", "load-samples"):
        assert command in usage.stdout


def test_keys_create_list_revoke(node):
    project = node.project_of_cli
    made = run(node, "keys", "create", "--project", project, "--name", "of cli", "--scopes", "audit:read,audit:ingest")
    key = rows(made)[0]
    assert "this once" in made.stderr and key["secret"] not in made.stderr
    assert key["secret"].startswith("sk_live_") and key["scopes"] == ["audit:read", "audit:ingest"]
    listed = run(node, "keys", "list", "--project", project)
    assert key["id"] == rows(listed)[0]["id"]
    assert key["secret"] not in listed.stdout
    assert "revoked" in run(node, "keys", "revoke", "--project", project, key["id"]).stdout
    assert rows(run(node, "keys", "list", "--project", project))[0]["revoked_at"] is not None
    run(node, "keys", "revoke", "--project", project, key["id"])
    run(node, "keys", "revoke", "--project", project, "apikey_none", code=1)


def test_a_key_of_the_cli_works_at_once_and_after_a_start(server, make_server):
    key = rows(run(server, "keys", "create", "--project", PROJECT, "--name", "n", "--scopes", "audit:read"))[0]
    assert Client(server, key["secret"]).get("/v1/audit/events").status == 200
    other = make_server().start()
    other.terminate()
    key = rows(run(other, "keys", "create", "--project", PROJECT, "--name", "n", "--scopes", "audit:read"))[0]
    other.start()
    assert Client(other, key["secret"]).get("/v1/audit/events").status == 200
    actors = [e["actor"] for e in other.client().page("?type=api_key.created")["data"]]
    assert {"type": "system", "id": "local"} in actors


def test_a_key_that_expires(node):
    key = rows(run(node, "keys", "create", "--project", node.project_of_cli, "--name", "n", "--scopes", "audit:read",
                   "--expires-at", "2099-01-01T00:00:00Z"))[0]
    assert key["expires_at"] == "2099-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("arguments", [
    ["--name", "n", "--scopes", "audit:raed"], ["--name", "n", "--scopes", "audit:read", "--expires-at", "soon"],
    ["--name", "", "--scopes", "audit:read"]])
def test_a_bad_key_request_fails_with_its_reason(node, arguments):
    done = run(node, "keys", "create", "--project", node.project_of_cli, *arguments, code=1)
    assert done.stderr.startswith("annal: ") and done.stdout == ""


def test_keys_of_a_project_that_is_none(node):
    done = run(node, "keys", "create", "--project", "proj_none", "--name", "n", "--scopes", "audit:read", code=1)
    assert "proj_none" in done.stderr


@pytest.mark.parametrize("key,good,bad", [
    ("audit_retention_days", ["365", "1", "36500", "null"], ["0", "-1", "36501", "1.5", "soon", "[]"]),
    ("catalog", ["strict", '"open"'], ["loose", "5", '""']),
    ("audit_reads", ["own_log", "access_log"], ["none", "true"]),
    ("legal_hold", ["true", "false"], ["yes", "1", "null"]),
])
def test_config_over_the_cli(node, key, good, bad):
    project = node.project_of_cli
    for value in good:
        shown = rows(run(node, "config", "set", "--project", project, "--key", key, "--value", value))[0]
        assert json.dumps(shown["value"]).strip('"') == value.strip('"')
        assert rows(run(node, "config", "get", "--project", project, "--key", key)) == [shown]
    for value in bad:
        done = run(node, "config", "set", "--project", project, "--key", key, f"--value={value}", code=1)
        assert key in done.stderr
    assert rows(run(node, "config", "get", "--project", project, "--key", key)) == [shown], "a refused value changes nothing"


def test_an_unknown_setting(node):
    for command in (["get"], ["set", "--value", "5"]):
        done = run(node, "config", command[0], "--project", node.project_of_cli, "--key", "colour", *command[1:], code=1)
        assert "audit_retention_days" in done.stderr


def test_plugins_list(node):
    listed = {row["instance"]: row for row in rows(run(node, "plugins", "list"))}
    assert {"ingest-http", "query-authio", "format-csv", "format-jsonl"} <= listed.keys()
    ingest = listed["ingest-http"]
    assert ingest["type"] == "annal.http/1" and re.fullmatch("[0-9a-f]{64}", ingest["sha256"])
    assert ingest["routes"] == [{"methods": ["POST"], "route": "/v1/audit/events", "scope": "audit:ingest"}]
    assert "ingest_http.yaml:" in ingest["manifest"]


@pytest.mark.parametrize("arguments", [
    ("config", "set", "--key", "legal_hold", "--value", "true"), ("config", "get", "--key", "legal_hold"),
    ("erasures", "create", "--user-id", "usr_1"), ("erasures", "list"), ("streams", "list"), ("keys", "list"), ("export",)])
def test_a_project_that_is_not_there_is_an_error(node, arguments):
    """A typo must not look like a hold that was placed, or a person who was erased."""
    done = run(node, *arguments, "--project", "prjo_tests", code=1)
    assert done.stdout == "" and "there is no project prjo_tests; `annal projects list` shows those there are" in done.stderr


def test_plugins_validate_good(node, tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD_MANIFEST)
    assert "1 manifest" in run(node, "plugins", "validate", path).stdout
    run(node, "plugins", "validate")
    run(node, "plugins", "validate", MANIFESTS, MANIFESTS / "examples", SOURCE / "examples" / "quickstart")


BAD_MANIFEST = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: Bad Name}
spec:
  library: {name: sink_file, colour: red}
  config: {path: 5}
  trigers: []
  triggers:
    - name: all
      events: {project: proj_tests, from: yesterday}
    - name: two
      http: {method: FETCH, route: /x, scope: "audit:raed"}
---
apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: lost}
spec:
  library: {name: no_such_library}
---
apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: misconfigured}
spec:
  library: {name: sink_file}
  config: {path: 5, colour: red}
"""


def test_plugins_validate_names_every_error_with_file_line_and_pointer(node, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(BAD_MANIFEST)
    errors = run(node, "plugins", "validate", path, code=2).stderr
    for line, pointer in ((3, "/metadata/name"), (5, "/spec/library/colour"), (7, "/spec/trigers"),
                          (10, "/spec/triggers/0/events/from"), (12, "/spec/triggers/1/http/method"),
                          (12, "/spec/triggers/1/http/scope")):
        assert f"{path}:{line}: {pointer}: " in errors, errors
    assert "no_such_library.so" in errors
    assert re.search(re.escape(str(path)) + r":\d+: /spec/config/path: ", errors), errors
    assert re.search(re.escape(str(path)) + r":\d+: /spec/config/colour: ", errors), errors
    assert 'did you mean "audit:read"' in errors


def test_migrate(node):
    run(node, "migrate")
    run(node, "migrate")


def test_migrate_makes_a_fresh_store(make_server):
    server = make_server()
    server.folder.mkdir(exist_ok=True)
    run(server, "migrate")
    assert (server.data_dir / "control.db").exists() == (STORE == "sqlite")
    assert server.start().client().ingest(event())


def test_export_to_standard_output(node):
    project = node.project_of_cli
    lines = rows(run(node, "export", "--project", project))
    assert [e["seq"] for e in lines] == list(range(len(lines) - 1, -1, -1)) and lines
    csv_text = run(node, "export", "--project", project, "--format", "csv", "--filter", "type=api_key.*",
                   "--filter", "csv_safe=false").stdout
    assert csv_text.startswith("id,created_at,action") and "api_key.created" in csv_text


@pytest.mark.parametrize("arguments,word", [
    (["--format", "xlsx"], "jsonl"), (["--filter", "colour=red"], "colour"),
    (["--filter", "from=soon"], "from"), (["--output", "/proc/nowhere/x"], "/proc/nowhere/x")])
def test_a_bad_export_fails_and_leaves_no_file(node, tmp_path, arguments, word):
    done = run(node, "export", "--project", node.project_of_cli, *arguments, code=1)
    assert word in done.stderr


def test_a_filter_without_a_value_is_a_bad_argument(node):
    assert "name=value" in run(node, "export", "--project", node.project_of_cli, "--filter", "type", code=2).stderr


def test_a_failed_export_leaves_the_old_file_alone(node, tmp_path):
    path = tmp_path / "kept.jsonl"
    path.write_text("old\n")
    run(node, "export", "--project", node.project_of_cli, "--output", path, "--filter", "colour=red", code=1)
    assert path.read_text() == "old\n"
    run(node, "export", "--project", node.project_of_cli, "--output", path)
    assert path.read_text() != "old\n"


def test_load_samples_without_a_file_there(node):
    done = run(node, "load-samples", "--file", "/nowhere.ndjson", code=1)
    assert "/nowhere.ndjson" in done.stderr


def test_load_samples_offline(make_server):
    server = make_server(bootstrap=False)
    server.folder.mkdir(exist_ok=True)
    for _ in range(2):
        assert "40 sample events" in run(server, "load-samples").stdout
    lines = rows(run(server, "export", "--project", "proj_2eh2n8gh33c0hxs1"))
    assert len(lines) == 40


def test_clock_confirm(node):
    assert "clock" in run(node, "clock", "confirm").stdout


@pytest.mark.parametrize("arguments", [
    [], ["fly"], ["serve", "--speed", "9"], ["keys"], ["keys", "create"], ["keys", "create", "--project", "p"], ["keys", "revoke"],
    ["config", "set", "--project", "p", "--key", "catalog"], ["export"], ["plugins"], ["serve", "--config", "/nowhere.yaml"],
    ["keys", "list"], ["serve", "extra"]])
def test_bad_arguments_exit_with_2_and_usage(node, arguments):
    done = run(node, *arguments, code=2)
    assert done.stderr.strip() or done.stdout.strip()


def test_bad_settings_exit_with_2(node):
    assert "ANNAL_STORE" in run(node, "keys", "list", "--project", "p", env={"ANNAL_STORE": "oracle"}, code=2).stderr


def test_commands_on_data_that_another_command_holds(offline):
    """Two commands at once without a server: one waits or fails clearly, and nothing is lost."""
    import concurrent.futures
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda i: offline.cli(
            "keys", "create", "--project", "proj_offline", "--name", f"par{i}", "--scopes", "audit:read"), range(6)))
    made = {json.loads(d.stdout)["id"] for d in done if d.returncode == 0}
    assert made
    for d in done:
        assert d.returncode in (0, 1), d
        if d.returncode:
            assert d.stderr.startswith("annal: ") and str(offline.data_dir) in d.stderr, d.stderr
    listed = {r["id"] for r in rows(run(offline, "keys", "list", "--project", "proj_offline"))}
    assert made <= listed


def test_the_project_comes_from_the_environment_too(node):
    run(node, "keys", "list", env={"ANNAL_PROJECT": node.project_of_cli})


def test_settings_come_from_a_file_too(node, tmp_path):
    path = tmp_path / "annal.yaml"
    path.write_text(f"data_dir: {node.data_dir}\nlimits: {{export_rows: 1000}}\n")
    run(node, "keys", "list", "--config", path, "--project", node.project_of_cli)
