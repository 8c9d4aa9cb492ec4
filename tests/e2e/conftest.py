"""Fixtures of the end-to-end tests: each file shares one server, each test takes a project of its own."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import postgres_cluster as clusters  # noqa: E402
from annal_server import STORE, Server  # noqa: E402
from scripted_receiver import Receiver  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "sqlite_only: is about SQLite's files; left out where servers are on PostgreSQL")


def pytest_collection_modifyitems(config, items):
    if STORE == "sqlite":
        return
    left_out = [item for item in items if item.get_closest_marker("sqlite_only")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="module")
def server():
    """One server for a file's tests; in the end it must stop cleanly, with nothing but log lines on standard error."""
    server = Server().start()
    try:
        yield server
        server.terminate()
    finally:
        server.kill()
        server.remove()


@pytest.fixture(scope="module")
def root(server):
    """The bootstrap key."""
    return server.client()


@pytest.fixture
def project(root):
    """A fresh project; its admin key."""
    return root.new_project()


@pytest.fixture
def make_server(tmp_path_factory):
    """Servers of one test alone. Those that still run in the end must stop cleanly."""
    servers = []

    def make(**more):
        server = Server(**more)
        servers.append(server)
        return server

    yield make
    try:
        for server in servers:
            if server.process is not None:
                server.terminate()
    finally:
        for server in servers:
            server.kill()
            server.remove()


@pytest.fixture(scope="session")
def postgres_cluster():
    """One PostgreSQL for all of a file's tests; who stops or freezes clusters makes one."""
    return clusters.shared()


@pytest.fixture
def postgres_database(postgres_cluster):
    """The URL of a fresh database."""
    return postgres_cluster.create_database()


@pytest.fixture
def receiver():
    """A destination that takes everything until its test says otherwise."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def nodes(postgres_database):
    """Two servers of one database, whose leases end soon after their owner has."""
    settings = "limits:\n  lease_ms: 1000\n"
    with Server(database=postgres_database, settings=settings) as a, Server(database=postgres_database, settings=settings) as b:
        yield a, b


@pytest.fixture
def both(nodes):
    """A fresh project, as a client of each node."""
    a, b = nodes
    here = a.client().new_project()
    return here, b.client(here.secret, here.project)
