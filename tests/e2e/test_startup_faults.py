"""What keeps a server from starting: each is one clear message and an exit code, never a trace or an abort."""

import os
import re
import shutil
import socket
import subprocess

import pytest
from annal_server import PLUGINS, PROJECT, SOURCE, event, wait_until


def fails(server, *words, code=None):
    """The start fails with a message that holds each of the words; the message."""
    server.spawn()
    status = server.wait_exit(60)
    message = server.stderr()
    assert status in ((1, 2) if code is None else (code,)), (status, message)
    for trace in ("terminate called", "AddressSanitizer", "LeakSanitizer", "runtime error:", "Assertion", "std::", "boost::"):
        assert trace not in message
    lines = [line for line in message.splitlines() if not line.startswith("{")]
    assert lines and lines[0].startswith("annal: "), message
    text = "\n".join(lines)
    for word in words:
        assert str(word) in text, (word, text)
    assert "listening on" not in server.stdout()
    return text


def starts(server):
    server.start()
    assert server.client().ingest(event())[0]["seq"] >= 0
    server.terminate()


def test_the_port_is_in_use(make_server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = make_server(env={"ANNAL_LISTEN": f"127.0.0.1:{port}"})
        fails(server, f"127.0.0.1:{port}", "in use", code=1)
    starts(server)


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x", ":::", "[::1", "256.0.0.1:80"])
def test_a_listen_address_that_is_none(make_server, listen):
    fails(make_server(env={"ANNAL_LISTEN": listen}), "address")


@pytest.mark.parametrize("variable", ["ANNAL_LISTEN", "ANNAL_DATA_DIR"])
def test_an_empty_variable_that_must_not_be(make_server, variable):
    fails(make_server(env={variable: ""}), variable, "empty", code=2)


def test_an_address_of_another_machine(make_server):
    fails(make_server(env={"ANNAL_LISTEN": "203.0.113.7:0"}), "203.0.113.7", code=1)


def test_the_data_directory_is_locked(make_server):
    holder = make_server().start()
    second = make_server(env={"ANNAL_DATA_DIR": str(holder.data_dir)})
    fails(second, holder.data_dir, holder.process.pid, code=1)
    assert holder.client().get("/v1/audit/events").status == 200, "the first one is not disturbed"
    assert (holder.data_dir / "annal.sock").exists()
    holder.cli("keys", "list", "--project", PROJECT).check_returncode()
    holder.kill()
    starts(second)  # the lock ends with its holder


def test_the_data_directory_lies_below_a_file(make_server):
    server = make_server()
    server.folder.mkdir(exist_ok=True)
    (server.folder / "file").write_text("")
    server.env["ANNAL_DATA_DIR"] = str(server.folder / "file" / "data")
    fails(server, server.folder / "file" / "data", code=1)


def test_the_data_directory_is_a_file(make_server):
    server = make_server()
    server.data_dir.write_text("mine")
    fails(server, server.data_dir, code=1)
    assert server.data_dir.read_text() == "mine"


def test_the_data_directory_can_not_be_written(make_server):
    fails(make_server(env={"ANNAL_DATA_DIR": "/proc/annal"}), "/proc/annal", code=1)


def test_the_data_directorys_name_is_too_long_for_a_socket(make_server):
    server = make_server()
    server.folder.mkdir(exist_ok=True)
    server.env["ANNAL_DATA_DIR"] = str(server.folder / ("x" * 100))
    fails(server, "x" * 100, "socket")


@pytest.mark.sqlite_only
def test_a_damaged_store(make_server):
    server = make_server().start()
    server.terminate()
    for suffix in ("-wal", "-shm"):
        (server.data_dir / f"control.db{suffix}").unlink(missing_ok=True)
    (server.data_dir / "control.db").write_bytes(b"this is no database at all, " * 40)
    fails(server, "control.db", code=1)


@pytest.mark.sqlite_only
def test_a_store_of_a_newer_program(make_server):
    import sqlite3
    server = make_server().start()
    server.terminate()
    with sqlite3.connect(server.data_dir / "control.db") as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        if version:
            db.execute("PRAGMA user_version = 9999")
        else:
            table = next(t for t in tables if "migration" in t or "schema" in t)
            column = db.execute(f"PRAGMA table_info({table})").fetchall()
            names = [c[1] for c in column]
            row = dict(zip(names, db.execute(f"SELECT * FROM {table} ORDER BY 1 DESC LIMIT 1").fetchone()))
            row[names[0]] = 9999
            db.execute(f"INSERT INTO {table} ({','.join(names)}) VALUES ({','.join('?' * len(names))})", list(row.values()))
    db.close()
    fails(server, "9999", code=1)


@pytest.mark.sqlite_only
def test_a_key_ring_that_others_can_read(make_server):
    server = make_server().start()
    server.terminate()
    (server.data_dir / "keyring").chmod(0o644)
    fails(server, server.data_dir / "keyring", "chmod 600", code=1)
    (server.data_dir / "keyring").chmod(0o600)
    starts(server)


@pytest.mark.parametrize("line", ["k1:zz", "nonsense", "k1:" + "0" * 63, ":" + "0" * 64, ""])
def test_a_key_ring_that_is_none(make_server, line):
    server = make_server()
    server.folder.mkdir(exist_ok=True)
    ring = server.folder / "ring"
    ring.write_text(line + "\n")
    ring.chmod(0o600)
    server.env["ANNAL_MASTER_KEY_FILE"] = str(ring)
    fails(server, ring)
    assert ring.read_text() == line + "\n"


# --- Settings

def test_unknown_settings_are_named_with_file_and_line_all_at_once(make_server):
    server = make_server(settings="listen: 127.0.0.1:0\ncolour: red\nlimits:\n  export_rows: 0\n  speed: 9\nlog_level: loud\n")
    text = fails(server, code=2)
    path = server.folder / "annal.yaml"
    for line, word in ((2, "colour"), (4, "export_rows"), (5, "speed"), (6, "log_level")):
        assert re.search(re.escape(f"{path}:{line}: ") + ".*" + word, text), text


@pytest.mark.parametrize("settings,line", [
    ("listen: [127\n", 2), ("- a\n- b\n", 1), ("limits: 5\n", 1), ("a: b: c\n", 1), ("listen:\n  host: x\n", 2),
    ("listen: x:0\n\tlog_level: info\n", 2)])
def test_a_settings_file_that_is_none(make_server, settings, line):
    server = make_server(settings=settings)
    fails(server, f"annal.yaml:{line}", code=2)


@pytest.mark.parametrize("variable,value", [
    ("ANNAL_STORE", "oracle"), ("ANNAL_LOG_LEVEL", "loud"), ("ANNAL_STORE", ""), ("ANNAL_BOOTSTRAP_KEY", "short"),
    ("ANNAL_ALLOW_CIDRS", "everywhere"), ("ANNAL_ALLOW_CIDRS", "127.0.0.1/33"), ("ANNAL_OUTBOUND_PORTS", "80,http"),
    ("ANNAL_BOOTSTRAP_PROJECT", "not a project")])
def test_a_bad_environment_variable_is_named(make_server, variable, value):
    fails(make_server(env={variable: value}), variable)


@pytest.mark.parametrize("variable", ["ANNAL_BOOTSTRAP_KEY", "ANNAL_BOOTSTRAP_PROJECT"])
def test_half_a_bootstrap(make_server, variable):
    server = make_server(bootstrap=False, env={variable: "sk_live_bootstrap_of_the_tests_000"})
    fails(server, "ANNAL_BOOTSTRAP_KEY", "ANNAL_BOOTSTRAP_PROJECT", code=2)


# --- Manifests and libraries

def manifest(name="mine", library="sink_file", rest="  config: {path: ./x}\n"):
    return f"apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {{name: {name}}}\nspec:\n  library: {{name: {library}}}\n{rest}"


def with_manifest(make_server, text, **more):
    server = make_server(**more)
    server.folder.mkdir(exist_ok=True)
    path = server.folder / "mine.yaml"
    path.write_text(text)
    server.env["ANNAL_MANIFESTS"] = f"{SOURCE / 'manifests'}:{path}"
    return server, path


def test_an_unknown_manifest_key(make_server):
    server, path = with_manifest(make_server, manifest(rest="  config: {path: ./x}\n  colour: red\n"))
    fails(server, f"{path}:7: /spec/colour", code=2)


def test_a_manifests_folder_that_is_none(make_server):
    fails(make_server(env={"ANNAL_MANIFESTS": "/nowhere"}), "/nowhere", code=2)


def test_a_missing_library(make_server):
    server, path = with_manifest(make_server, manifest(library="sink_nowhere"))
    fails(server, path, "sink_nowhere.so", PLUGINS, code=2)


def test_two_instances_of_one_name(make_server):
    server, path = with_manifest(make_server, manifest() + "---\n" + manifest())
    fails(server, path, "mine", code=2)


def test_a_route_that_is_taken(make_server):
    text = manifest(name="twin", library="query_authio", rest=(
        "  triggers:\n    - name: list\n      http: {method: GET, route: /v1/audit/events, scope: none}\n"
        "  permissions: {store: [read, delete], export: true}\n"))
    server, path = with_manifest(make_server, text)
    fails(server, path, "/v1/audit/events", "query-authio")


def test_a_route_of_the_host_itself(make_server):
    text = manifest(name="twin", library="query_authio", rest=(
        "  triggers:\n    - name: list\n      http: {method: GET, route: /v1/api-keys, scope: none}\n"
        "  permissions: {store: [read, delete], export: true}\n"))
    server, _ = with_manifest(make_server, text)
    fails(server, "/v1/api-keys", "twin")


def test_a_config_that_does_not_fit(make_server):
    server, path = with_manifest(make_server, manifest(rest="  config: {path: 5, colour: red}\n"))
    fails(server, path, "path", "colour", code=2)


def test_a_secret_that_is_not_there(make_server):
    server, path = with_manifest(make_server, manifest(rest="  config: {path: {secretRef: acme/token}}\n"))
    fails(server, path, "acme/token", code=2)


def test_all_manifest_errors_at_once(make_server):
    text = manifest(library="sink_nowhere") + "---\n" + manifest(name="two", rest="  config: {}\n") + "---\n" + \
        manifest(name="three", library="sink_elsewhere")
    server, _ = with_manifest(make_server, text)
    fails(server, "sink_nowhere", "sink_elsewhere", "two", code=2)


MODULE = """
#include <annal/abi.h>
static const annal_module module = {MODULE};
ENTRY
"""


def build_library(folder, name, module, entry="ANNAL_EXPORT const annal_module *annal_module_v1(void) { return &module; }"):
    """A tiny plugin library, for better or worse."""
    folder.mkdir(exist_ok=True)
    source = folder / f"{name}.c"
    source.write_text(MODULE.replace("MODULE", module).replace("ENTRY", entry))
    subprocess.run(["cc", "-shared", "-fPIC", "-w", "-I", SOURCE / "sdk" / "include", "-o", folder / f"{name}.so", source],
                   check=True, timeout=60)


GOOD = 'sizeof(annal_module), ANNAL_ABI_MAJOR, ANNAL_ABI_MINOR, "test.module", "1.0.0", "test", "test"'
FOREIGN = {
    "another major": (f"{GOOD.replace('ANNAL_ABI_MAJOR', '2')}, 0, 0, 0", None, ["2.3", "1.3"]),
    "a newer minor": (f"{GOOD.replace('ANNAL_ABI_MINOR', '9')}, 0, 0, 0", None, ["1.9", "1.3"]),
    "a short struct": (f"{GOOD.replace('sizeof(annal_module)', '16')}, 0, 0, 0", None, ["16"]),
    "no components": (f"{GOOD}, 0, 0, 0", None, ["component"]),
    "the entry of ABI 2": (f"{GOOD}, 0, 0, 0", "ANNAL_EXPORT const annal_module *annal_module_v2(void) { return &module; }",
                           ["ABI 2"]),
    "no entry": (f"{GOOD}, 0, 0, 0", "ANNAL_EXPORT int something_else(void) { return module.n_components; }", ["annal_module_v1"]),
    "an entry that returns nothing": (f"{GOOD}, 0, 0, 0", "ANNAL_EXPORT const annal_module *annal_module_v1(void) { return 0; }", []),
    "an unresolved symbol": (f"{GOOD}, 0, 0, 0",
                             "extern int not_anywhere(void); ANNAL_EXPORT const annal_module *annal_module_v1(void) "
                             "{ return not_anywhere() ? &module : 0; }", ["not_anywhere"]),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_library_that_does_not_fit(make_server, name):
    module, entry, words = FOREIGN[name]
    server, _ = with_manifest(make_server, manifest(library="foreign", rest=""))
    libraries = server.folder / "libraries"
    build_library(libraries, "foreign", module, *([entry] if entry else []))
    server.env["ANNAL_PLUGINS"] = f"{PLUGINS}:{libraries}"
    fails(server, "foreign.so", *words, code=2)


def test_a_library_that_is_no_library(make_server):
    server, _ = with_manifest(make_server, manifest(library="foreign", rest=""))
    libraries = server.folder / "libraries"
    libraries.mkdir()
    (libraries / "foreign.so").write_text("hello")
    server.env["ANNAL_PLUGINS"] = f"{PLUGINS}:{libraries}"
    fails(server, "foreign.so", code=2)


def test_a_pin_of_another_build(make_server):
    text = manifest(rest="  config: {path: ./x}\n").replace("{name: sink_file}", "{name: sink_file, sha256: " + "0" * 64 + "}")
    server, _ = with_manifest(make_server, text)
    fails(server, "sink_file.so", "0" * 64, code=2)


# --- And what must not keep it from starting

def test_a_stale_socket_of_a_killed_server(make_server):
    server = make_server().start()
    server.kill()
    assert (server.data_dir / "annal.sock").exists()
    starts(server)


def test_a_stream_of_a_project_that_is_not_there_yet(make_server):
    server, _ = with_manifest(make_server, manifest(rest=(
        "  config: {path: ./later.jsonl}\n  triggers:\n    - name: all\n      events: {project: proj_later}\n")))
    server.start()
    later = server.client().new_project("proj_later")
    later.ingest(event())
    wait_until(lambda: (server.folder / "later.jsonl").exists() and
               len((server.folder / "later.jsonl").read_text().splitlines()) == 2, what="the stream")


def test_no_manifest_at_all(make_server):
    server = make_server()
    empty = server.folder / "empty"
    empty.mkdir(parents=True)
    server.env["ANNAL_MANIFESTS"] = str(empty)
    server.start()
    assert server.client().get("/healthz", key=False).status == 200
    assert server.client().get("/v1/audit/events").status == 404


def test_ipv6(make_server):
    server = make_server(env={"ANNAL_LISTEN": "[::1]:0"})
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        fails(server, "::1", code=1)  # a machine without IPv6 says so
        return
    server.start()
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


def test_the_data_directory_can_be_moved(make_server):
    server = make_server().start()
    server.client().ingest(event("before.move"))
    server.terminate()
    moved = server.folder / "moved"
    shutil.move(server.data_dir, moved)
    server.env["ANNAL_DATA_DIR"] = str(moved)
    server.data_dir = moved
    server.start()
    assert len(server.client().page("?type=before.move")["data"]) == 1
    assert not os.path.exists(server.folder / "data")
