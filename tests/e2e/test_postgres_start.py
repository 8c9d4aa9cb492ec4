"""How a node on PostgreSQL starts: it waits for its database, brings it up to date, or says why it can't have it."""

import re
import subprocess
import time

import pytest
from annal_server import BUILD, KEY_RING, MANIFESTS, PLUGINS, SOURCE, event, expect_problem, wait_until
from postgres_cluster import PostgresCluster

# For what takes well below a second where the machine has time.
SLOW_S = 20


@pytest.fixture(scope="module")
def own_cluster():
    """One to stop and start."""
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture
def database(own_cluster):
    """The name of a fresh database; in the end the cluster runs."""
    name = f"start_{time.monotonic_ns()}"
    own_cluster.sql("postgres", f"CREATE DATABASE {name}")
    yield name
    if own_cluster.pid is None:
        own_cluster.start()


def ends(server, code, *words):
    """It ends by itself with this code and a message that holds the words; the message."""
    if server.process is None:
        server.spawn()
    status = server.wait_exit(60)
    message = "\n".join(line for line in server.stderr().splitlines() if not line.startswith("{"))
    assert status == code, (status, server.stderr())
    for word in words:
        assert str(word) in message, (word, message)
    return message


def command(server, code, *arguments):
    server.folder.mkdir(parents=True, exist_ok=True)
    run = server.cli(*arguments)
    assert run.returncode == code, (run.returncode, run.stdout, run.stderr)
    return run.stdout if code == 0 else run.stdout + run.stderr


# --- Waiting

def expect_waiting(server):
    client = server.client()
    assert client.get("/healthz", key=False).status == 200
    ready = client.get("/readyz", key=False)
    assert ready.status == 503 and "waits for the database" in ready.json()["reasons"][0], ready
    for method, path in (("GET", "/v1/audit/events"), ("POST", "/v1/audit/events"), ("GET", "/v1/plugins"), ("DELETE", "/healthz"),
                         ("GET", "/v1/projects"), ("GET", "/nowhere")):
        refused = client.request(method, path)
        expect_problem(refused, 503, "waits for the database", "PostgreSQL")
        assert int(refused.headers["retry-after"]) >= 1
    assert "annal_build_info" in client.get("/metrics", key=False).text


def test_it_waits_for_a_database_that_is_down(own_cluster, database, make_server):
    own_cluster.stop()
    server = make_server(database=own_cluster.url(database)).start()
    expect_waiting(server)
    waits = wait_until(lambda: server.logs("runtime.waits_for_store"), what="the log line")
    assert "can't connect to PostgreSQL" in waits[0]["reason"]
    own_cluster.start()
    there = time.monotonic()
    wait_until(lambda: server.client().get("/readyz", key=False).status == 200, SLOW_S, "the node to go on")
    print(f"went on after {time.monotonic() - there:.2f} s")
    assert server.client().ingest(event())[0]["seq"] >= 0
    assert server.client().get("/v1/plugins").json()["data"]
    assert server.logs("runtime.store_is_there") and server.logs("bootstrap.key_created")
    assert server.stdout().count("listening on") == 1


def test_it_waits_again_at_every_start(own_cluster, database, make_server):
    server = make_server(database=own_cluster.url(database)).start()
    stored = server.client().ingest(event())
    server.terminate()
    own_cluster.stop()
    server.start()
    expect_waiting(server)
    own_cluster.start()
    wait_until(lambda: server.client().get("/readyz", key=False).status == 200, SLOW_S, "the node to go on")
    assert server.client().walk()[0]["id"] == stored[0]["id"]


# Instances of it other than "ready" can't be made before there is a file "there"; both are noted in a file "lives".
IMPATIENT = r"""
#include <annal/abi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static void note(char what) { FILE *lives = fopen("lives", "a"); fputc(what, lives); fclose(lives); }
static annal_status create(const annal_init *init, void **self, annal_error *error) {
    *self = 0;
    if (init->instance.len != 5 && access("there", F_OK) != 0) {
        error->code = ANNAL_UNAVAILABLE;
        error->text_len = sprintf(error->text, "it is not there yet");
        return ANNAL_UNAVAILABLE;
    }
    note('+');
    return ANNAL_OK;
}
static void destroy(void *self) { (void)self; note('-'); }
static void handle(void *self, annal_call *call, const annal_request *request, const annal_response *response) {
    (void)self, (void)call, (void)request, (void)response;
}
static annal_str render(void *self, const annal_problem *problem, const annal_writer *body) {
    (void)self, (void)problem, (void)body;
    annal_str type = {"text/plain", 10};
    return type;
}
static const annal_http_v1 http = {sizeof http, 0, create, destroy, handle, render};
static const annal_component component = {
    sizeof component, 0, ANNAL_COMPONENT_HTTP, "impatient", "{\"type\":\"object\"}", &http, 0};
static const annal_component *const components[] = {&component};
static const annal_module module = {
    sizeof module, ANNAL_ABI_MAJOR, ANNAL_ABI_MINOR, "test.impatient", "1.0.0", "test", "test", 1, 0, components};
ANNAL_EXPORT const annal_module *annal_module_v1(void) { return &module; }
"""
IMPATIENT_MANIFEST = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: {name}}}
spec:
  library: {{name: impatient}}
"""


@pytest.fixture
def impatient(tmp_path):
    """The variables of a server with two plugins: one that is ready, one that waits for a file."""
    (tmp_path / "impatient.c").write_text(IMPATIENT)
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-I", SOURCE / "sdk" / "include", "-o",
                    tmp_path / "impatient.so", tmp_path / "impatient.c"], check=True, timeout=60)
    manifest = tmp_path / "two.yaml"
    manifest.write_text("---\n".join(IMPATIENT_MANIFEST.format(name=name) for name in ("ready", "waiting")))
    return {"ANNAL_MANIFESTS": f"{MANIFESTS}:{manifest}", "ANNAL_PLUGINS": f"{PLUGINS}:{tmp_path}"}


def test_it_waits_for_plugins_that_can_not_have_what_they_need_yet(own_cluster, database, make_server, impatient):
    server = make_server(database=own_cluster.url(database), env=impatient).start()
    said = server.client().get("/readyz", key=False).text
    assert "two.yaml:7: waiting: " in said and "it is not there yet" in said
    (server.folder / "there").write_text("")
    wait_until(lambda: server.client().get("/readyz", key=False).status == 200, SLOW_S, "the node to go on")
    assert server.client().ingest(event())
    server.terminate()
    lives = (server.folder / "lives").read_text()
    assert re.fullmatch(r"(\+-)+\+\+--", lives), f"an instance was left behind: {lives}"


def test_it_does_not_wait_for_them_where_no_database_is(make_server, impatient):
    server = make_server(env=impatient)
    ends(server, 1, "two.yaml:7: waiting: ", "it is not there yet")


def test_a_signal_ends_the_waiting(own_cluster, database, make_server):
    own_cluster.stop()
    server = make_server(database=own_cluster.url(database)).start()
    begun = time.monotonic()
    server.terminate()  # exit code 0 and nothing but log lines
    assert time.monotonic() - begun < 10
    server.spawn()  # the lock and the socket are free; also before it has said anything
    wait_until(lambda: (server.data_dir / "annal.sock").exists(), what="the socket")
    server.terminate()


def test_a_frozen_server_is_waited_for_and_left(own_cluster, database, make_server):
    own_cluster.freeze()
    try:
        server = make_server(database=own_cluster.url(database)).start(settled=False)
        assert server.client().get("/healthz", key=False).status == 200
        assert server.client().get("/readyz", key=False).status == 503
        begun = time.monotonic()
        server.terminate()
        assert time.monotonic() - begun < 15
    finally:
        own_cluster.thaw()


def test_commands_say_what_the_node_waits_for(own_cluster, database, make_server):
    own_cluster.stop()
    server = make_server(database=own_cluster.url(database)).start()
    said = command(server, 1, "keys", "list", "--project", "p")
    assert "waits for the database" in said
    server.terminate()
    begun = time.monotonic()
    said = command(server, 1, "keys", "list", "--project", "p")  # by a runtime of its own
    assert "can't connect to PostgreSQL" in said
    assert time.monotonic() - begun < 40
    assert "can't connect to PostgreSQL" in command(server, 1, "migrate")


def test_a_database_of_a_newer_program_that_comes_late(own_cluster, database, make_server):
    make_server(database=own_cluster.url(database)).start().terminate()
    own_cluster.sql(database, "UPDATE schema_compatibility SET oldest_runtime = 99")
    own_cluster.stop()
    server = make_server(database=own_cluster.url(database)).start()
    own_cluster.start()
    ends(server, 1, "generation 99", "install a newer version")


# --- Migrations

def test_two_nodes_migrate_at_once(own_cluster, database, make_server):
    """They see the database at the same moment: one of them does it, both serve, and there is one bootstrap key."""
    own_cluster.stop()
    nodes = [make_server(database=own_cluster.url(database)).start() for _ in range(2)]
    own_cluster.start()
    for node in nodes:
        wait_until(lambda: node.client().get("/readyz", key=False).status == 200, SLOW_S, "the node to go on")
    assert sum(len(node.logs("postgres.migrated")) for node in nodes) == 1
    for node in nodes:
        keys = node.client().get("/v1/api-keys").json()["data"]
        assert [k["name"] for k in keys] == ["bootstrap"]
        assert node.client().ingest(event())


def test_migrate_says_what_it_did(own_cluster, database, make_server):
    server = make_server(database=own_cluster.url(database))
    missing = command(server, 1, "migrate", "--check")
    assert "missing 0001_create_control.sql" in missing
    assert own_cluster.sql(database, r"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"
    done = command(server, 0, "migrate")
    assert done.splitlines()[0] == "applied 0001_create_control.sql"
    version = re.fullmatch(r"version (\d+)", done.splitlines()[-1])[1]
    assert command(server, 0, "migrate") == f"nothing to do, version {version}\n"
    assert command(server, 0, "migrate", "--check") == f"nothing to do, version {version}\n"
    server.start()
    assert not server.logs("postgres.migrated")
    assert command(server, 0, "migrate") == f"nothing to do, version {version}\n"  # beside the node


def test_two_migrate_at_once(own_cluster, database, make_server):
    server = make_server(database=own_cluster.url(database))
    server.folder.mkdir(exist_ok=True)
    runs = [subprocess.Popen([str(BUILD / "annal"), "migrate"], env=server.environment(), stdout=subprocess.PIPE, text=True)
            for _ in range(4)]
    said = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0, 0]
    assert sum("applied 0001" in text for text in said) == 1 and sum("nothing to do" in text for text in said) == 3


NO_MIGRATION = "store: postgres\npostgres: {migrate: false}\n"


def test_a_node_that_may_not_migrate(own_cluster, database, make_server):
    server = make_server(database=own_cluster.url(database), settings=NO_MIGRATION)
    ends(server, 1, "0001_create_control.sql", "annal migrate")
    command(server, 0, "migrate")
    server.start()
    assert server.client().ingest(event())


@pytest.mark.parametrize("change,words", [
    ("UPDATE schema_compatibility SET oldest_runtime = 2", ["generation 2", "install a newer version"]),
    ("UPDATE schema_migrations SET checksum = 'x' WHERE version = 1", ["0001_create_control.sql", "another content"]),
])
def test_a_database_of_another_program(own_cluster, database, make_server, change, words):
    server = make_server(database=own_cluster.url(database)).start()
    server.terminate()
    own_cluster.sql(database, change)
    ends(server, 1, *words)
    for arguments in (["migrate"], ["migrate", "--check"]):
        said = command(server, 1, *arguments)
        assert all(word in said for word in words), said
    said = command(server, 2, "serve", "--check")
    assert all(word in said for word in words), said


# --- The key ring

def test_a_missing_key_ring_is_not_made(own_cluster, database, make_server):
    server = make_server(database=own_cluster.url(database))
    ring = server.folder / "absent" / "ring"
    server.env["ANNAL_MASTER_KEY_FILE"] = str(ring)
    ends(server, 2, ring, "annal secrets new-key")
    assert not ring.exists()
    assert f"there is no key ring at {ring}" in command(server, 2, "serve", "--check")
    line = command(server, 0, "secrets", "new-key")
    assert re.fullmatch(r"k1:[0-9a-f]{64}\n", line) and line != command(server, 0, "secrets", "new-key")
    ring.parent.mkdir()
    ring.write_text(line)
    ring.chmod(0o600)
    server.start()
    assert server.client().ingest(event())


def test_a_node_with_another_key_ring(own_cluster, database, make_server):
    first, second = (make_server(database=own_cluster.url(database)) for _ in range(2))
    first.start()
    ring = second.folder / "ring"
    ring.write_text("k1:" + "77" * 32 + "\n")
    ends(second, 1, ring, "not the one that this database's other nodes have")
    ring.write_text("# of the first node\n" + KEY_RING)
    second.start()
    assert second.client().ingest(event())
    # What is kept to compare them tells nothing.
    kept = own_cluster.sql(database, "SELECT encode(value, 'escape') FROM kv WHERE space = 'host.key_ring'")
    assert len(kept) == 32 and kept not in KEY_RING


# --- Settings

def test_the_password_stays_unsaid(own_cluster, database, make_server):
    url = f"postgresql://annal:sesame@127.0.0.1:1/{database}"
    server = make_server(database=url).start()
    wait_until(lambda: server.logs("runtime.waits_for_store"), what="the log line")
    assert "sesame" not in server.stderr()
    assert "sesame" not in server.client().get("/readyz", key=False).text
    assert "sesame" not in command(server, 1, "migrate")
    assert "sesame" not in command(server, 0, "serve", "--check")


def test_a_url_that_is_none(make_server):
    for url in ("postgresql://annal:sesame@db:port/x", "sesame", "postgresql://annal:sesame@db/audit?colour=red"):
        server = make_server(database=url)
        assert "sesame" not in ends(server, 2, "ANNAL_POSTGRES_URL: is no URL of PostgreSQL")


def test_the_check_of_a_configuration(own_cluster, database, make_server):
    server = make_server(database=own_cluster.url(database))
    assert "migrations to be applied" in command(server, 0, "serve", "--check")
    assert not server.data_dir.exists()
    server.start()
    version = own_cluster.sql(database, "SELECT max(version) FROM schema_migrations")
    assert f"PostgreSQL, version {version}" in command(server, 0, "serve", "--check")
    server.terminate()
    own_cluster.stop()
    assert "PostgreSQL, not reached now" in command(server, 0, "serve", "--check")
    own_cluster.start()
    del server.env["ANNAL_STORE"]
    assert "the store is not named" in command(server, 2, "serve", "--check")


def test_commands_about_files_say_so(own_cluster, database, make_server):
    server = make_server(database=own_cluster.url(database))
    assert "the store is postgres" in command(server, 2, "check")
    assert "pg_dump" in command(server, 2, "backup", "--output", server.folder / "copy")
