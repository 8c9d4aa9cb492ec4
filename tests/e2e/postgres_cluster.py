"""Throw-away PostgreSQL clusters: what tests/support/postgres_cluster.h is to the C++ tests."""

import atexit
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from scratch_folder import ScratchFolder, environment

DEADLINE_S = 60
PATIENCE_S = 10  # with what ends by itself
USER = "annal"
SOCKET_PORT = 5432
LOG_TAIL_CHARS = 4000
PORT_TAKEN = "could not create any TCP/IP sockets"
MODES = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

CONFIGURATION = """
unix_socket_directories = '{folder}'
max_connections = 60
shared_buffers = 64MB
dynamic_shared_memory_type = mmap
fsync = off
wal_level = minimal
max_wal_senders = 0
jit = off
autovacuum = on
logging_collector = off
log_line_prefix = '%m [%p] %q%a@%d '
include = 'listen.conf'
include = 'extra.conf'
"""

# What is wrong in the files of configuration as they are, but for settings that wait for a restart.
REFUSED_SETTINGS = """
SELECT coalesce(name, 'line ' || sourceline) || ': ' || error FROM pg_file_settings f
WHERE error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_settings s WHERE s.name = f.name AND s.context = 'postmaster')
"""


class PostgresError(Exception):
    pass


def programs():
    """The folder of the newest server that Debian's packages have installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres") if path.parts[-3].isdigit()]
    if not found:
        raise PostgresError("no PostgreSQL server under /usr/lib/postgresql")
    return max(found, key=lambda path: int(path.parts[-2]))


def free_port():
    """Outside of those that the kernel hands out by itself, so that nobody takes it while the server restarts."""
    for _ in range(1000):
        port = random.SystemRandom().randint(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise PostgresError("no free port of 127.0.0.1")


def _await(condition, seconds=DEADLINE_S):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)
    return value


def _read(path):
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _state_and_parent(pid):
    """As in /proc: T is stopped, Z has ended; None when there is no such process."""
    fields = _read(f"/proc/{pid}/stat").rpartition(") ")[2].split()
    return (fields[0], int(fields[1])) if len(fields) > 1 else None


def _children(parent):
    return sorted(pid for pid in _pids() if (found := _state_and_parent(pid)) and found[1] == parent and found[0] != "Z")


def _members(folder):
    """Every process that works in `folder`: a cluster's own, also those without a postmaster."""
    found = []
    for pid in _pids():
        try:
            if os.readlink(f"/proc/{pid}/cwd") == str(folder):
                found.append(pid)
        except OSError:
            continue
    return found


def _signal(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _freeze(pid):
    _signal(pid, signal.SIGSTOP)
    stopped = _await(lambda: (_state_and_parent(pid) or "Z")[0] in "TZ")
    assert stopped, f"process {pid} does not stop"


class PsqlRun:
    """psql at work beside the test. `wait` gives its exit code, output and errors; None while it is still at work."""

    def __init__(self, url, statements):
        # Files, so that psql never waits for this process.
        self._output, self._errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        with tempfile.TemporaryFile() as script:
            script.write(statements.encode())
            script.seek(0)
            self.process = subprocess.Popen([programs() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url],
                                            stdin=script, stdout=self._output, stderr=self._errors, env=environment())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wait(self, seconds):
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        texts = []
        for file in (self._output, self._errors):
            file.seek(0)
            texts.append(file.read().decode())
        return code, texts[0].removesuffix("\n"), texts[1]


class Session:
    """A psql that stays at work, with a transaction open when it is told to begin one; the block's end is its end."""

    def __init__(self, url):
        self._psql = subprocess.Popen([programs() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._psql.communicate()

    def run(self, statements):
        """The lines that they print."""
        self._psql.stdin.write(statements + ";\n\\echo .\n")
        self._psql.stdin.flush()
        lines = []
        for line in iter(self._psql.stdout.readline, ".\n"):
            if not line:
                raise PostgresError("psql has ended")
            lines.append(line.removesuffix("\n"))
        return lines


class PostgresCluster:
    """A PostgreSQL cluster in a fresh folder under /tmp, on a Unix socket there: superuser `annal`, no passwords, fsync off.

    As root it runs as the user postgres, or else nobody. The constructor returns once it accepts connections; failures are
    PostgresError with the log's tail. Start clusters from the main thread: they end with the thread that started them. Tests that
    are killed leave neither processes nor folders.

    `settings` are lines of postgresql.conf that override the cluster's own; with `tcp` it listens on a free port of 127.0.0.1, too.
    """

    def __init__(self, settings=(), tcp=False):
        self._scratch = ScratchFolder("pg")
        self.folder = self._scratch.path
        self.data = self.folder / "data"
        self._copy = self.folder / "copy"
        self.tcp_port = None
        self._process = None
        self._frozen = False
        self._databases = 0
        self.environment = {}  # of the server, from its next start on
        try:
            self._init(settings)
            self._start_on_free_port() if tcp else self.start()
        except BaseException:
            self.remove()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        """Ends the cluster, and with it its data."""
        self.stop("immediate")
        self._remove_segment()
        self._scratch.remove()

    # --- Databases

    def url(self, database):
        """libpq's URL of a database, through the socket."""
        port = f"&port={self.tcp_port}" if self.tcp_port else ""
        return f"postgresql:///{database}?host={self.folder}{port}&user={USER}"

    def tcp_url(self, database):
        assert self.tcp_port, "this cluster does not listen on 127.0.0.1"
        return f"postgresql://{USER}@127.0.0.1:{self.tcp_port}/{database}"

    def create_database(self):
        """The URL of a new, empty database of a name of its own."""
        self._databases += 1
        name = f"db_{self._databases}"
        self.sql("postgres", f"CREATE DATABASE {name}")
        return self.url(name)

    def sql(self, database, statements):
        """Runs statements with psql, each in a transaction of its own unless they say otherwise; rows, one a line, columns parted
        by '|'. `database` is a name, or any URL that libpq takes. The first error is a PostgresError with psql's message."""
        with self.psql(database, statements) as run:
            result = run.wait(DEADLINE_S)
        if result is None:
            raise PostgresError(f"psql: no answer: {statements}")
        code, output, errors = result
        if code != 0:
            raise PostgresError(errors)
        return output

    def psql(self, database, statements):
        """The same beside the test: a PsqlRun."""
        return PsqlRun(database if "://" in database else self.url(database), statements)

    def session(self, database):
        """One that can be asked again and again."""
        return Session(database if "://" in database else self.url(database))

    # --- The cluster's life

    @property
    def pid(self):
        """The postmaster's process id; None when stopped."""
        return self._process.pid if self._process else None

    def start(self):
        """Starts a cluster that was stopped or has died, on the same data, socket and port; returns once it accepts connections."""
        if self._process:
            # It may have been killed, or be about to end: its sessions notice before we do.
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._fail("the cluster runs already")
        self._end_remaining()
        self._frozen = False
        (self.data / "listen.conf").write_text(f"listen_addresses = '{'127.0.0.1' if self.tcp_port else ''}'\n"
                                               f"port = {self.tcp_port or SOCKET_PORT}\n")
        (self.data / "listen.conf").chmod(0o644)
        with open(self.folder / "log", "ab") as log:
            extra = ["/usr/bin/env", *(f"{name}={value}" for name, value in self.environment.items())] if self.environment else []
            self._process = self._scratch.start([*extra, programs() / "postgres", "-D", self.data], log, signal.SIGQUIT)
        ready = _await(lambda: self._process.poll() is not None or self._accepts())
        code = self._process.returncode
        if not ready or code is not None:
            self.stop("immediate")
            self._fail(f"postgres ended with {code}" if ready else "postgres does not get ready")
        return self

    def stop(self, mode="fast"):
        """`fast` ends sessions and writes a checkpoint; `immediate` is as a crash. Waits for the end of all processes."""
        if not self._process:
            return
        self.thaw()
        ended = True
        if self._process.poll() is None:
            _signal(self._process.pid, MODES[mode])
            try:
                self._process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                ended = False
                self._process.kill()
                self._process.wait()
        self._process = None
        self._end_remaining()
        if not ended:
            self._fail("postgres did not stop")

    def restart(self, mode="fast"):
        self.stop(mode)
        return self.start()

    def keep_copy(self):
        """What a standby would have that falls behind from now on. The cluster needs `wal_level = replica`."""
        self.stop()
        subprocess.run(["/bin/cp", "-a", self.data, self._copy], check=True)
        self.start()

    def fail_over_to_copy(self):
        """The cluster is lost, and the copy promoted in its place: it has another timeline, and none of what came since."""
        self._lose()
        self._remove_segment()
        shutil.rmtree(self.data)
        self._copy.rename(self.data)
        with open(self.data / "extra.conf", "a") as configuration:
            configuration.write("restore_command = '/bin/false'\n")
        (self.data / "recovery.signal").touch()
        self.start()

    def reload_with(self, *settings):
        """Adds lines to the configuration and returns once new sessions have them; refused ones are not kept. Settings that need
        a restart wait for one."""
        loaded_at = "SELECT pg_conf_load_time()"
        before = self.sql("postgres", loaded_at)
        path = self.data / "extra.conf"
        kept = path.read_text()
        path.write_text(kept + "".join(line + "\n" for line in settings))
        if errors := self.sql("postgres", REFUSED_SETTINGS):
            path.write_text(kept)
            self._fail(f"settings refused: {errors}")
        os.kill(self.pid, signal.SIGHUP)
        if not _await(lambda: self.sql("postgres", loaded_at) != before):
            self._fail("the settings were not loaded")

    def freeze(self):
        """Stops every process where it is, as a machine that hangs; returns once all have stopped."""
        _freeze(self.pid)  # first: afterwards there are no new children
        self._frozen = True
        for pid in _children(self.pid):
            _freeze(pid)

    def thaw(self):
        if self._frozen:
            self._frozen = False
            for pid in _members(self.data):
                _signal(pid, signal.SIGCONT)

    def backends(self):
        """Processes that serve a connection now, by their titles, ascending."""
        titles = {pid: _read(f"/proc/{pid}/cmdline") for pid in _children(self.pid)}
        return [pid for pid, title in titles.items() if re.match(r"postgres: .* (\[local\]|127\.0\.0\.1\(\d+\)) ", title)]

    def backends_of(self, database):
        """Those of one database; asking takes no connection."""
        titles = {pid: _read(f"/proc/{pid}/cmdline") for pid in self.backends()}
        return [pid for pid, title in titles.items() if f" {database} [local] " in title]

    @property
    def socket_path(self):
        return self.folder / f".s.PGSQL.{self.tcp_port or SOCKET_PORT}"

    def log(self):
        """What the server has logged since the cluster was made."""
        return _read(self.folder / "log")

    # --- Steps

    def _init(self, settings):
        with open(self.folder / "initdb", "w+b") as said:
            initdb = self._scratch.start([programs() / "initdb", f"--pgdata={self.data}", "--auth=trust", "--encoding=UTF8",
                                          "--locale=C.UTF-8", "--no-sync", f"--username={USER}"], said)
            try:
                code = initdb.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                initdb.kill()
                code = initdb.wait()
        if code != 0:
            raise PostgresError(f"initdb failed: {_read(self.folder / 'initdb')}")
        with open(self.data / "postgresql.conf", "a") as configuration:
            configuration.write(CONFIGURATION.format(folder=self.folder))
        (self.data / "extra.conf").write_text("".join(line + "\n" for line in settings))
        (self.data / "extra.conf").chmod(0o644)

    def _start_on_free_port(self):
        for tries_left in reversed(range(5)):
            self.tcp_port = free_port()
            try:
                return self.start()
            except PostgresError:
                if tries_left == 0 or PORT_TAKEN not in self.log():
                    raise

    def _accepts(self):
        """As pg_ctl knows it: the pid file's line 8."""
        lines = _read(self.data / "postmaster.pid").split("\n")
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].startswith("ready")

    def _lose(self):
        """As a machine loses its power: no session hears a word."""
        self.freeze()
        for pid in _members(self.data):
            _signal(pid, signal.SIGKILL)
        self._process.wait(DEADLINE_S)
        self._process, self._frozen = None, False
        self._end_remaining()

    def _end_remaining(self):
        """After the postmaster's death its children end by themselves, and soon; the next start waits."""
        if _await(lambda: not _members(self.data), PATIENCE_S):
            return
        for pid in _members(self.data):
            _signal(pid, signal.SIGKILL)
        if not _await(lambda: not _members(self.data)):
            self._fail("processes of the cluster do not end")

    def _remove_segment(self):
        """The shared memory that a killed postmaster leaves, by line 7 of its pid file."""
        lines = _read(self.data / "postmaster.pid").split("\n")
        fields = lines[6].split() if len(lines) > 6 else []
        if len(fields) == 2:
            subprocess.run(["/usr/bin/ipcrm", "-m", fields[1]], stderr=subprocess.DEVNULL)

    def _fail(self, what):
        raise PostgresError(f"PostgreSQL in {self.folder}: {what}\n{self.log()[-LOG_TAIL_CHARS:]}")


_shared = None


def shared():
    """One cluster for all tests of a run, made when it is first asked for. Who stops, freezes or configures one makes one."""
    global _shared
    if _shared is None:
        _shared = PostgresCluster(["max_connections = 200"])
        atexit.register(_shared.remove)
    return _shared
