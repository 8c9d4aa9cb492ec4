"""PgBouncer in transaction pooling mode in front of a throw-away cluster."""

import signal
import socket
import subprocess
import time

from postgres_cluster import USER, PostgresError
from scratch_folder import ScratchFolder

PROGRAM = "/usr/sbin/pgbouncer"
PORT = 6432  # only a part of the socket's name
DEADLINE_S = 30

CONFIGURATION = """
[databases]
* = host={cluster_folder} port={cluster_port}

[pgbouncer]
unix_socket_dir = {folder}
listen_port = {port}
auth_type = trust
auth_file = {folder}/users
admin_users = {user}
pool_mode = transaction
max_client_conn = 200
default_pool_size = 20
server_round_robin = 1
{settings}
"""


class PgBouncer:
    """Every transaction of a client may run on another of the pool's connections: what a session keeps (SET, prepared statements,
    advisory locks of a session, LISTEN) is not there in the next one. Connections are taken in turns, so that it shows soon.

    `settings` are lines of pgbouncer.ini that override those above. The constructor returns once it accepts connections. Start it
    from the main thread; it ends with it, and its folder with the tests.
    """

    def __init__(self, cluster, settings=()):
        self._scratch = ScratchFolder("pgb")
        self.folder = self._scratch.path
        self._process = None
        try:
            self._configure(cluster, settings)
            self.start()
        except BaseException:
            self.remove()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def url(self, database):
        """libpq's URL of the cluster's database of this name through the pool."""
        return f"postgresql:///{database}?host={self.folder}&port={PORT}&user={USER}"

    @property
    def pid(self):
        return self._process.pid if self._process else None

    @property
    def socket_path(self):
        return self.folder / f".s.PGSQL.{PORT}"

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def start(self):
        assert self._process is None, "PgBouncer runs already"
        with open(self.folder / "log", "ab") as log:
            self._process = self._scratch.start([PROGRAM, self.folder / "pgbouncer.ini"], log, signal.SIGKILL)
        deadline = time.monotonic() + DEADLINE_S
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise PostgresError(f"PgBouncer did not start\n{self.log()}")
            time.sleep(0.005)
        return self

    def stop(self):
        """At once: clients lose their connections."""
        if self._process:
            self._process.terminate()
            try:
                self._process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
            self.socket_path.unlink(missing_ok=True)

    def restart(self):
        self.stop()
        return self.start()

    def remove(self):
        self.stop()
        self._scratch.remove()

    def _configure(self, cluster, settings):
        texts = {
            "users": f'"{USER}" ""\n',
            "pgbouncer.ini": CONFIGURATION.format(
                folder=self.folder, port=PORT, user=USER, cluster_folder=cluster.folder,
                cluster_port=cluster.socket_path.name.rpartition(".")[2], settings="\n".join(settings)),
        }
        for name, text in texts.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o644)

    def _accepts(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket_path)) == 0
