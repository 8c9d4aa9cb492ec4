"""The throw-away PostgreSQL of these tests, its pool and its network."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from annal_server import wait_until
from pgbouncer import PgBouncer
from postgres_cluster import PostgresCluster, PostgresError
from tcp_proxy import TcpProxy

CONNECTION_LOST = 2  # psql's exit code
INSERT = "BEGIN; INSERT INTO t VALUES (1); COMMIT; SELECT 'committed'"
WHILE_S = 0.2  # in which nothing happens


@pytest.fixture(scope="module")
def rough_cluster():
    """One for those who stop, freeze and configure it."""
    with PostgresCluster(settings=["work_mem = '5MB'"], tcp=True) as cluster:
        yield cluster


@pytest.fixture
def table(postgres_cluster, postgres_database):
    """The name of a database with a table `t`."""
    return postgres_cluster.sql(postgres_database, "CREATE TABLE t (id int); SELECT current_database()")


@pytest.fixture
def proxy(postgres_cluster):
    with TcpProxy(postgres_cluster.socket_path) as proxy:
        yield proxy


def test_databases_are_fresh_and_their_own(postgres_cluster, postgres_database):
    other = postgres_cluster.create_database()
    assert other != postgres_database
    postgres_cluster.sql(postgres_database, "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)")
    assert postgres_cluster.sql(postgres_database, "SELECT id, 'x' FROM t ORDER BY id") == "1|x\n2|x"
    with pytest.raises(PostgresError, match='relation "t" does not exist'):
        postgres_cluster.sql(other, "SELECT 1; SELECT * FROM t")


def test_crash_keeps_what_was_committed(rough_cluster):
    url = rough_cluster.create_database()
    rough_cluster.sql(url, "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000)")
    port = rough_cluster.tcp_port
    rough_cluster.stop("immediate")
    assert rough_cluster.pid is None
    rough_cluster.start()
    assert rough_cluster.sql(url, "SELECT count(*) FROM t") == "1000"
    assert rough_cluster.sql(rough_cluster.tcp_url("postgres"), "SHOW port") == str(port)


def test_starts_again_after_its_postmaster_was_killed(rough_cluster):
    with rough_cluster.psql("postgres", "SELECT pg_sleep(600)") as sleeper:
        wait_until(lambda: len(rough_cluster.backends()) == 1)
        os.kill(rough_cluster.pid, signal.SIGKILL)
        assert sleeper.wait(30)[0] == CONNECTION_LOST
    rough_cluster.start()
    assert rough_cluster.sql("postgres", "SELECT 1") == "1"


def test_removed_after_its_postmaster_was_killed_it_leaves_nothing():
    with PostgresCluster() as cluster:
        os.kill(cluster.pid, signal.SIGKILL)
        segment = wait_until(lambda: (cluster.data / "postmaster.pid").read_text().split("\n")[6]).split()[1]
    assert not cluster.folder.exists()
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()]
    assert segment not in [row[1] for row in rows]


def test_frozen_it_answers_nobody(rough_cluster):
    rough_cluster.freeze()
    with rough_cluster.psql("postgres", "SELECT 'answered'") as run:
        assert run.wait(WHILE_S) is None
        rough_cluster.thaw()
        assert run.wait(30) == (0, "answered", "")
    rough_cluster.freeze()
    rough_cluster.restart()  # also when nobody thawed it


def test_reloaded_settings_hold_for_the_next_session(rough_cluster):
    assert rough_cluster.sql("postgres", "SHOW work_mem") == "5MB"  # the fixture's
    rough_cluster.reload_with("work_mem = '7MB'")
    with pytest.raises(PostgresError, match="settings refused: work_mem"):
        rough_cluster.reload_with("work_mem = 'much'")
    assert rough_cluster.sql("postgres", "SHOW work_mem") == "7MB"


@pytest.mark.parametrize("freeze", [False, True])
def test_killed_tests_leave_nothing(freeze):
    program = f"""
import time
from postgres_cluster import PostgresCluster
cluster = PostgresCluster()
if {freeze}: cluster.freeze()
print(cluster.pid, cluster.folder, flush=True)
time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})
    try:
        pid, folder = holder.stdout.readline().split()
        assert Path(f"/proc/{pid}").exists()
    finally:
        holder.kill()
        holder.communicate()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the postmaster's end")
    wait_until(lambda: not Path(folder).exists(), what="the folder's removal")


def test_pool_shares_connections_by_the_transaction(postgres_cluster, table):
    with PgBouncer(postgres_cluster, settings=["default_pool_size = 1"]) as pool:
        with postgres_cluster.psql(pool.url(table), "SELECT pg_backend_pid(); SELECT pg_sleep(600)") as sleeper:
            in_sleep = f"SELECT pid FROM pg_stat_activity WHERE datname = '{table}' AND query LIKE '%pg_sleep(600)%'"
            pid = wait_until(lambda: postgres_cluster.sql("postgres", in_sleep))
            with postgres_cluster.psql(pool.url(table), "SELECT pg_backend_pid()") as waiting:
                assert waiting.wait(WHILE_S) is None
                postgres_cluster.sql("postgres", f"SELECT pg_cancel_backend({pid})")
                assert waiting.wait(30) == (0, pid, "")
            assert sleeper.wait(30)[1] == pid
        pool.restart()
        assert postgres_cluster.sql(pool.url(table), "SELECT count(*) FROM t") == "0"


def test_cut_resets_and_takes_new_connections(postgres_cluster, table, proxy):
    with postgres_cluster.psql(proxy.url(table), "SELECT pg_sleep(600)") as run:
        wait_until(lambda: proxy.connections() == 1)
        proxy.cut()
        assert proxy.connections() == 0
        assert run.wait(30)[0] == CONNECTION_LOST
    large = "x" * 3_000_000
    assert postgres_cluster.sql(proxy.url(table), f"SELECT length('{large}'); SELECT repeat('x', 3000000)") == f"3000000\n{large}"


def test_stall_lets_nothing_through(postgres_cluster, table, proxy):
    proxy.stall()
    with postgres_cluster.psql(proxy.url(table), "SELECT 'through'") as run:
        assert run.wait(WHILE_S) is None
        proxy.resume()
        assert run.wait(30) == (0, "through", "")


def test_refuse_ends_with_resume(postgres_cluster, table, proxy):
    for _ in range(2):
        proxy.refuse()
        with pytest.raises(PostgresError, match="Connection refused"):
            postgres_cluster.sql(proxy.url(table), "SELECT 1")
        proxy.resume()
        assert postgres_cluster.sql(proxy.url(table), "SELECT 1") == "1"


@pytest.mark.parametrize("then", ["reset", "silence"])
@pytest.mark.parametrize("lost,rows", [("request", "0"), ("answer", "1")])
def test_commit_is_lost(postgres_cluster, table, proxy, lost, rows, then):
    proxy.cut_on(b"COMMIT", lost, then)
    with postgres_cluster.psql(proxy.url(table), INSERT) as run:
        assert proxy.await_cut()
        assert postgres_cluster.sql(table, "SELECT count(*) FROM t") == rows
        if then == "silence":
            assert run.wait(WHILE_S) is None
            proxy.cut()
        code, output, _ = run.wait(30)
        assert (code, output) == (CONNECTION_LOST, "")
    assert postgres_cluster.sql(proxy.url(table), INSERT) == "committed"  # only once


def test_demand_taken_back_does_not_happen(postgres_cluster, table, proxy):
    proxy.cut_on(b"COMMIT")
    proxy.resume()
    assert postgres_cluster.sql(proxy.url(table), INSERT) == "committed"
    assert not proxy.await_cut(0)
