"""What nodes do when their PostgreSQL fails under them: 503 in bounded time, nothing acknowledged lost, recovery by themselves."""

import socket
import struct
import threading
import time

import pytest
from annal_server import MANIFESTS, event, expect_problem, wait_until
from posting import Load
from postgres_cluster import USER, PostgresCluster
from tcp_proxy import TcpProxy

# A slow machine's share of what takes less than 5 s.
RECOVERY_S = 30
# The most that a read, and a write whose commit may be under way, wait for a server that does not answer.
READ_S, WRITE_S = 15, 45
SLOWNESS_S = 10
# The end of the query as the protocol has it: READ COMMITTED is something else.
COMMIT = b"COMMIT\0"


@pytest.fixture(scope="module")
def cluster():
    with PostgresCluster() as cluster:
        yield cluster


@pytest.fixture
def database(cluster):
    name = f"faults_{time.monotonic_ns()}"
    cluster.sql("postgres", f"CREATE DATABASE {name}")
    return name


def is_ready(server):
    return server.client().get("/readyz", key=False).status == 200


def await_ready(server):
    wait_until(lambda: is_ready(server), RECOVERY_S, "the node to be ready again")


def not_ready(server, *words):
    """Whether the node says that it is not ready, for these reasons."""
    answer = server.client().get("/readyz", key=False)
    return answer.status == 503 and all(word in answer.text for word in words)


def expect_refused(answer, *words):
    expect_problem(answer, 503, *words)
    assert int(answer.headers["retry-after"]) >= 1


def nodes_of(make_server, url, count=2):
    """Nodes, and a fresh project's client at each."""
    nodes = [make_server(database=url).start() for _ in range(count)]
    first = nodes[0].client().new_project()
    return nodes, [node.client(first.secret, first.project) for node in nodes]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_in_mid_load(cluster, database, make_server, mode):
    nodes, clients = nodes_of(make_server, cluster.url(database))
    with Load(*clients, *clients) as load:
        load.await_progress()
        for _ in range(2):
            cluster.restart(mode)
            load.await_progress()
    load.expect_kept(clients[0])
    for node in nodes:
        await_ready(node)


def test_away_for_a_while(cluster, database, make_server):
    """Reads and writes are refused at once, not after a time-out."""
    (server,), (client,) = nodes_of(make_server, cluster.url(database), 1)
    with Load(client) as load:
        load.await_progress()
        cluster.stop()
        try:
            load.await_refusals(3)
            wait_until(lambda: not_ready(server), what="the node to say so")
            assert server.client().get("/healthz", key=False).status == 200
            expect_refused(client.get("/v1/audit/events"))
            expect_refused(server.client().get("/v1/projects"))
            expect_refused(client.post("/v1/audit/events", event()))
        finally:
            cluster.start()
        load.await_progress()
    load.expect_kept(client)
    await_ready(server)
    assert server.logs("postgres.connect_failed")
    assert len(server.logs("postgres.connect_failed")) < 40, "an outage floods the log"


def test_it_says_so_without_any_traffic(cluster, database, make_server):
    (server,), _ = nodes_of(make_server, cluster.url(database), 1)
    assert is_ready(server)
    cluster.stop()
    try:
        wait_until(lambda: not_ready(server, "the store can't write"), what="the node to say so")
    finally:
        cluster.start()
    await_ready(server)


def test_a_database_that_is_read_only(cluster, database, make_server):
    (server,), (client,) = nodes_of(make_server, cluster.url(database), 1)
    stored = client.ingest(event())[0]
    with Load(client) as load:
        load.await_progress()
        cluster.reload_with("default_transaction_read_only = on")
        try:
            load.await_refusals(3)
            expect_refused(client.post("/v1/audit/events", event()), "read-only")
            assert client.get(f"/v1/audit/events/{stored['id']}").status == 200
            wait_until(lambda: not_ready(server, "read-only"), what="the node to say so")
        finally:
            cluster.reload_with("default_transaction_read_only = off")
        load.await_progress()
    load.expect_kept(client)
    await_ready(server)


class Hogs:
    """Takes every connection that the cluster has left, by PostgreSQL's protocol."""

    def __init__(self, cluster):
        self.taken = []
        for _ in range(100):
            hog = socket.socket(socket.AF_UNIX)
            hog.settimeout(30)
            hog.connect(str(cluster.socket_path))
            words = struct.pack("!i", 3 << 16) + f"user\0{USER}\0database\0postgres\0\0".encode()
            hog.sendall(struct.pack("!i", len(words) + 4) + words)
            self.taken.append(hog)
            if hog.recv(1) == b"E":  # an error: there is none left
                return
        raise AssertionError("the connections never end")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hog in self.taken:
            hog.close()


@pytest.fixture(scope="module")
def narrow_cluster():
    with PostgresCluster(settings=["max_connections = 16", "superuser_reserved_connections = 1"]) as cluster:
        yield cluster


def test_too_many_connections_at_start(narrow_cluster, make_server):
    url = narrow_cluster.create_database()
    with Hogs(narrow_cluster):
        server = make_server(database=url).start()
        assert not_ready(server, "waits for the database", "too many clients")
    await_ready(server)
    assert server.client().ingest(event())


def test_too_many_connections_later(narrow_cluster, make_server):
    """The node loses its connections, and there are none left for new ones."""
    name = "loses_its_connections"
    narrow_cluster.sql("postgres", f"CREATE DATABASE {name}")
    with TcpProxy(narrow_cluster.socket_path) as proxy:
        server = make_server(database=proxy.url(name)).start()
        client = server.client().new_project()
        assert narrow_cluster.backends_of(name)
        proxy.refuse()
        proxy.cut()
        wait_until(lambda: not narrow_cluster.backends_of(name), what="PostgreSQL to end the node's connections")
        with Hogs(narrow_cluster):
            proxy.resume()
            wait_until(lambda: "too many clients" in client.get("/v1/audit/events").text, RECOVERY_S, "the reason")
            expect_refused(client.get("/v1/audit/events"), "too many clients")
        wait_until(lambda: client.get("/v1/audit/events").status == 200, RECOVERY_S, "the node to get its connections")
        await_ready(server)


def test_a_network_that_cuts(cluster, database, make_server):
    with TcpProxy(cluster.socket_path) as proxy:
        (server,), (client,) = nodes_of(make_server, proxy.url(database), 1)
        with Load(client, client, client) as load:
            for _ in range(5):
                load.await_progress()
                proxy.cut()
            load.await_progress()
            proxy.refuse()
            proxy.cut()
            load.await_refusals(2)
            proxy.resume()
            load.await_progress()
        load.expect_kept(client)
        await_ready(server)
        server.terminate()


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_network_that_breaks_behind_a_read(cluster, database, make_server, lost):
    """The rows are there, the end of their transaction is not: they are the answer."""
    with TcpProxy(cluster.socket_path) as proxy:
        (server,), (client,) = nodes_of(make_server, proxy.url(database), 1)
        client.ingest(event("read.me"))
        ended = threading.Event()

        def cut_all():
            while not ended.is_set():
                proxy.cut_on(COMMIT, lost=lost)
                proxy.await_cut(0.5)

        cutter = threading.Thread(target=cut_all)
        cutter.start()
        try:
            for _ in range(20):  # also when the second try's connection breaks
                assert client.page("?type=read.me")["data"][0]["action"] == "read.me"
        finally:
            ended.set()
            cutter.join()
        server.terminate()


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_network_that_loses_a_commit(cluster, database, make_server, lost):
    """The node finds out what became of it: nobody is refused, and nothing is there twice."""
    with TcpProxy(cluster.socket_path) as proxy:
        (server,), (client,) = nodes_of(make_server, proxy.url(database), 1)
        with Load(client, client) as load:
            # Not every COMMIT is an append's.
            for _ in range(30):
                load.await_progress()
                proxy.cut_on(COMMIT, lost=lost)
                assert proxy.await_cut()
                load.await_progress()
                if client.metric("annal_postgres_unknown_commits_total") >= 2:
                    break
            else:
                raise AssertionError("no append lost its COMMIT")
        assert [p.refusals for p in load.posters] == [[], []]
        load.expect_kept(client)
        server.terminate()


def test_a_server_that_freezes(cluster, database, make_server):
    """Nothing answers, and nothing is closed: requests end all the same, and the node says that it is not ready."""
    (server,), (client,) = nodes_of(make_server, cluster.url(database), 1)
    with Load(client, client) as load:
        load.await_progress()
        cluster.freeze()
        try:
            begun = time.monotonic()
            wait_until(lambda: not_ready(server), READ_S + SLOWNESS_S, "the node to say so")
            expect_refused(client.get("/v1/audit/events", timeout=READ_S + SLOWNESS_S))
            load.await_refusals(1, WRITE_S + SLOWNESS_S)
            assert time.monotonic() - begun < READ_S + WRITE_S + 2 * SLOWNESS_S
            assert server.client().get("/healthz", key=False).status == 200
        finally:
            cluster.thaw()
        load.await_progress()
    load.expect_kept(client)
    assert max(p.slowest_s for p in load.posters) < WRITE_S + SLOWNESS_S
    await_ready(server)


def test_a_node_stops_while_its_database_is_away(cluster, database, make_server):
    (server,), (client,) = nodes_of(make_server, cluster.url(database), 1)
    client.ingest(event())
    cluster.stop()
    try:
        wait_until(lambda: not_ready(server), what="the node to say so")
        begun = time.monotonic()
        server.terminate()
        assert time.monotonic() - begun < 10 + SLOWNESS_S
    finally:
        cluster.start()


STREAM = """apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: stream{n}}}
spec:
  library: {{name: sink_file}}
  config: {{path: {folder}/out{n}.jsonl}}
  triggers:
    - name: all
      events: {{project: proj_tests, patterns: ["*"], from: earliest}}
"""


def test_a_node_stops_while_its_database_is_frozen(cluster, database, make_server):
    """Nothing answers: requests, streams and leases all wait for it, and the end waits for none of them for long."""
    drain_s = 3
    server = make_server(database=cluster.url(database), settings=f"limits: {{drain_timeout: {drain_s}s}}\n")
    paths = [server.folder / f"stream{n}.yaml" for n in range(4)]
    for n, path in enumerate(paths):
        path.write_text(STREAM.format(n=n, folder=server.folder))
    server.env["ANNAL_MANIFESTS"] = ":".join(map(str, [MANIFESTS, *paths]))
    server.start()
    clients = [server.client().new_project() for _ in range(3)] + [server.client()]
    loads = [Load(client, client, name=f"poster{n}.") for n, client in enumerate(clients)]
    for load in loads:
        load.__enter__()
    for load in loads:
        load.await_progress()
    cluster.freeze()
    try:
        time.sleep(0.5)  # so that all that there is waits
        begun = time.monotonic()
        server.signal_stop()
        server.expect_clean_exit()
        took = time.monotonic() - begun
    finally:
        cluster.thaw()
        for load in loads:
            load.__exit__()
    assert took < drain_s + 5
    server.start()
    for load, client in zip(loads, clients):
        load.expect_kept(client)
