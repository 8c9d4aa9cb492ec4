"""`annal serve --check`: what is wrong with a configuration, all at once, without touching anything."""

import os
import re
import sqlite3
import subprocess

import pytest
from annal_server import MANIFESTS, SOURCE, event
from test_tls import make_pair


def everything_below(folder):
    """Names, sizes, modes and times of all files, to see that nothing changed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        info = path.lstat()
        found[str(path)] = (info.st_mode, info.st_size, info.st_mtime_ns)
    return found


def check(server, code, *arguments):
    """Runs the check; what it says. Nothing below the server's folder may change by it."""
    before = everything_below(server.folder)
    run = server.cli("serve", "--check", *arguments)
    assert run.returncode == code, (run.returncode, run.stdout, run.stderr)
    assert everything_below(server.folder) == before
    return run.stdout if code == 0 else run.stderr


@pytest.fixture
def fresh(make_server):
    """A server that was never started."""
    server = make_server()
    server.folder.mkdir(exist_ok=True)
    return server


def test_a_good_configuration_of_a_new_node(fresh):
    summary = check(fresh, 0)
    assert "listens on 127.0.0.1:0" in summary and f"data in {fresh.data_dir}, to be made" in summary
    assert "keyring, to be made" in summary and "TLS: none" in summary
    for name in ("ingest-http", "query-authio", "format-csv", "format-jsonl"):
        assert name in summary
    assert re.search(r"\d+ instances of \d+ libraries, \d+ routes, \d+ streams", summary)
    assert not fresh.data_dir.exists()


def test_the_default_configuration_starts_as_it_was_checked(fresh):
    check(fresh, 0)
    fresh.start()
    assert fresh.client().ingest(event())


def test_beside_the_running_server(make_server):
    server = make_server().start()
    server.client().ingest(event())
    run = server.cli("serve", "--check")
    assert run.returncode == 0, run.stderr
    assert f"data in {server.data_dir}\n" in run.stdout
    assert server.client().count() >= 1


def test_on_the_data_of_a_stopped_server(make_server):
    server = make_server().start()
    server.client().ingest(event())
    server.terminate()
    check(server, 0)


def test_tls_is_shown_with_its_expiry(fresh):
    certificate, key = make_pair(fresh.folder)
    fresh.env |= {"ANNAL_TLS_CERTIFICATE_FILE": str(certificate), "ANNAL_TLS_KEY_FILE": str(key)}
    assert re.search(rf"TLS: {re.escape(str(certificate))}, good until 20\d\d-", check(fresh, 0))


MANIFEST = """apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: mine}
spec:
  library: {name: sink_file}
  config: {colour: red}
---
apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: other}
spec:
  library: {name: no_such_library}
---
apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: secretive}
spec:
  library: {name: sink_file}
  config: {path: {secretRef: nowhere}}
  permissions: {secrets: [nowhere]}
"""


def test_everything_that_is_wrong_is_named_at_once(fresh):
    """One error of every kind that there is, in one run."""
    settings = fresh.folder / "annal.yaml"
    certificate, _ = make_pair(fresh.folder)
    settings.write_text(
        "colour: red\n"
        "limits:\n  export_rows: 0\n"
        f"tls:\n  certificate_file: {certificate}\n  key_file: {fresh.folder}/missing.key\n")
    manifest = fresh.folder / "mine.yaml"
    manifest.write_text(MANIFEST)
    ring = fresh.folder / "ring"
    ring.write_text("k1:zz\n")
    ring.chmod(0o600)
    data = fresh.folder / "file"
    data.write_text("")
    fresh.env |= {"ANNAL_LISTEN": "nowhere", "ANNAL_MANIFESTS": f"{MANIFESTS}:{manifest}", "ANNAL_MASTER_KEY_FILE": str(ring),
                  "ANNAL_DATA_DIR": str(data / "data"), "ANNAL_LOG_LEVEL": "loud"}
    errors = check(fresh, 2, "--config", settings)
    for pattern in (
            rf"^{settings}:1: unknown setting `colour`", rf"^{settings}:3: limits\.export_rows: must be",
            r"^ANNAL_LOG_LEVEL: must be", r"^listen: 'nowhere' is no address",
            rf"^tls\.key_file {fresh.folder}/missing\.key: can't be read", rf"^data_dir: {data}/data can't be",
            rf"^master_key_file: {ring}:1: ", rf"^{manifest}:6: /spec/config", rf"^{manifest}:8: .*no_such_library",
            rf"^{manifest}:\d+: /spec/config/path.*nowhere"):
        assert re.search(pattern, errors, re.MULTILINE), (pattern, errors)


def test_routes_that_two_manifests_want(fresh):
    text = (MANIFESTS / "ingest_http.yaml").read_text()
    again = fresh.folder / "again.yaml"
    again.write_text(re.sub(r"name: ingest-http\b", "name: again", text, count=1))
    fresh.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{again}"
    assert re.search(rf"{again}:\d+: .*/v1/audit/events", check(fresh, 2))


def test_a_secret_that_is_there_is_found(fresh):
    manifest = fresh.folder / "mine.yaml"
    manifest.write_text(MANIFEST.split("---\n")[2])
    fresh.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{manifest}"
    assert "nowhere" in check(fresh, 2)
    fresh.env["ANNAL_SECRET_NOWHERE"] = str(fresh.folder / "out")
    assert "mine.yaml" not in check(fresh, 0)


@pytest.mark.parametrize("file", ["control.db", "segments/*/*.db", "keys/*.db"])
def test_data_of_a_newer_program(make_server, file):
    server = make_server().start()
    server.client().ingest(event(idempotency_key="k"))
    server.terminate()
    path = next(server.data_dir.glob(file))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 9999")
    db.close()
    errors = check(server, 2)
    assert str(path) in errors and "schema version 9999" in errors and "start a newer annal" in errors


def test_data_that_is_damaged(make_server):
    server = make_server().start()
    server.terminate()
    (server.data_dir / "control.db").write_bytes(b"this is no database at all, " * 40)
    assert "control.db is no database" in check(server, 2)


def test_a_key_ring_that_others_can_read(make_server):
    server = make_server().start()
    server.terminate()
    (server.data_dir / "keyring").chmod(0o644)
    assert "chmod 600" in check(server, 2)


def test_a_data_directory_that_can_not_be_written(fresh):
    """As somebody who is not root: root may write anywhere."""
    if os.geteuid() != 0:
        fresh.data_dir.mkdir()
        fresh.data_dir.chmod(0o500)
        assert "can't be written" in check(fresh, 2)
        return
    fresh.data_dir.mkdir(mode=0o700)
    fresh.folder.chmod(0o755)
    run = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(_program()), "serve", "--check"], cwd="/",
        env=fresh.environment(), capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and f"data_dir: {fresh.data_dir} can't be written" in run.stderr, run.stderr


def _program():
    from annal_server import ANNAL
    return ANNAL


def test_a_socket_name_that_is_too_long(fresh):
    fresh.env["ANNAL_DATA_DIR"] = str(fresh.folder / ("x" * 100))
    assert "too long for a Unix socket" in check(fresh, 2)


def test_the_examples_are_good_together_with_the_defaults(fresh):
    fresh.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{SOURCE / 'examples' / 'quickstart'}"
    check(fresh, 0)
