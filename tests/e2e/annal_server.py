"""A real `annal serve` in a folder of its own, and ways to talk to it."""

import base64
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

import postgres_cluster

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ANNAL_BUILD_DIR", SOURCE / "build" / "dev")).resolve()
ANNAL = BUILD / "annal"
PLUGINS = BUILD / "plugins"
MANIFESTS = SOURCE / "manifests"

# Which store the tests of behaviour are run on; each server has a database of its own then.
STORE = os.environ.get("ANNAL_TEST_STORE", "sqlite")
# What all nodes of a database have; made once for all tests.
KEY_RING = "k1:" + "5a" * 32 + "\n"

BOOTSTRAP_KEY = "sk_live_bootstrap_of_the_tests_000"
PROJECT = "proj_tests"

START_DEADLINE_S = 60
STOP_DEADLINE_S = 30
REQUEST_DEADLINE_S = 120


class Answer:
    """What came back for one request."""

    def __init__(self, status, headers, body, trailers=()):
        self.status = status
        self.pairs = list(headers)
        self.headers = {name.lower(): value for name, value in self.pairs}
        self.trailers = {name.lower(): value for name, value in trailers}
        self.body = body

    @property
    def text(self):
        return self.body.decode("utf-8")

    def json(self):
        return json.loads(self.body)

    def field(self, name):
        """A header, or the trailer of the same name; None when there is neither."""
        return self.headers.get(name.lower(), self.trailers.get(name.lower()))

    def __repr__(self):
        return f"Answer({self.status}, {self.headers}, {self.body[:600]!r})"


class RawConnection:
    """A socket that sends exactly the bytes it is given, and reads answers with their trailers."""

    def __init__(self, host, port, timeout=REQUEST_DEADLINE_S, receive_buffer=None):
        self.socket = socket.socket(socket.AF_INET)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect((host, port))
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def _fill(self):
        piece = self.socket.recv(1 << 16)
        if not piece:
            raise ConnectionError("the server closed the connection in the middle of an answer")
        self.buffer += piece

    def _line(self):
        while b"\r\n" not in self.buffer:
            self._fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    def _exactly(self, size):
        pieces, have = [self.buffer], len(self.buffer)
        self.buffer = b""
        while have < size:
            piece = self.socket.recv(1 << 16)
            if not piece:
                raise ConnectionError("the server closed the connection in the middle of a body")
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        self.buffer = whole[size:]
        return whole[:size]

    def _fields(self):
        fields = []
        while line := self._line():
            name, value = line.split(":", 1)
            fields.append((name, value.strip()))
        return fields

    def _chunks(self):
        body = []
        while size := int(self._line().split(";")[0], 16):
            body.append(self._exactly(size))
            assert self._line() == ""
        return b"".join(body), self._fields()

    def head(self):
        """Status and header fields of the next answer."""
        status = int(self._line().split(" ")[1])
        return status, self._fields()

    def receive(self, method="GET"):
        status, fields = self.head()
        if 100 <= status < 200:
            return Answer(status, fields, b"")
        named = {name.lower(): value for name, value in fields}
        if method == "HEAD" or status in (204, 304):
            return Answer(status, fields, b"")
        if named.get("transfer-encoding", "").lower() == "chunked":
            body, trailers = self._chunks()
            return Answer(status, fields, body, trailers)
        return Answer(status, fields, self._exactly(int(named["content-length"])))

    def closed(self):
        """Whether the server has closed its side, with nothing more to read."""
        if self.buffer:
            return False
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def basic(user, secret):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


# The environment of a server whose memory is looked at: what a sanitizer holds back after it was freed would look like growth.
HOLD_LITTLE_BACK = {"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=4"}


class Client:
    """One API key's view of a server. Opens a connection for each request, so that nothing is shared between tests."""

    def __init__(self, server, secret=BOOTSTRAP_KEY, project=PROJECT, key_id=None):
        self.server = server
        self.secret = secret
        self.project = project
        self.key_id = key_id

    def request(self, method, path, body=None, headers=None, key=True, timeout=REQUEST_DEADLINE_S):
        fields = dict(bearer(self.secret)) if key else {}
        fields.update(headers or {})
        if isinstance(body, str):
            body = body.encode("utf-8")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body, ensure_ascii=False).encode("utf-8")
        if body is not None and not any(name.lower() == "content-type" for name in fields):
            fields["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(*self.server.address, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=fields)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.request("POST", path, body=body, **more)

    def put(self, path, body=None, **more):
        return self.request("PUT", path, body=body, **more)

    def delete(self, path, **more):
        return self.request("DELETE", path, **more)

    def raw_get(self, path, headers=None):
        """GET over a raw socket that takes trailers."""
        with self.server.raw() as connection:
            lines = [f"GET {path} HTTP/1.1", "Host: test", "TE: trailers", f"Authorization: Bearer {self.secret}"]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            connection.send(("\r\n".join(lines) + "\r\n\r\n").encode())
            return connection.receive()

    # --- What most tests do

    def ingest(self, *events, **more):
        """Stores events; the receipts."""
        body = {"events": list(events)}
        answer = self.post("/v1/audit/events", body, **more)
        assert answer.status == 201, answer
        return answer.json()["data"]

    def ndjson(self, lines, headers=None):
        if not isinstance(lines, (bytes, str)):
            lines = "".join(json.dumps(line) + "\n" for line in lines)
        fields = {"Content-Type": "application/x-ndjson"}
        fields.update(headers or {})
        return self.post("/v1/audit/events", lines, headers=fields)

    def page(self, query=""):
        answer = self.get("/v1/audit/events" + query)
        assert answer.status == 200, answer
        return answer.json()

    def walk(self, query="", limit=200):
        """All events over all pages, newest first."""
        events, cursor = [], None
        joint = "&" if "?" in query else "?"
        for _ in range(100_000):
            tail = f"{joint}limit={limit}" + (f"&cursor={cursor}" if cursor else "")
            page = self.page(query + tail)
            events += page["data"]
            cursor = page["next_cursor"]
            assert page["has_more"] == (cursor is not None)
            if not page["has_more"]:
                return events
        raise AssertionError("the pages have no end")

    def count(self):
        """Events of the project; by the hole-free seq one page tells, as long as none was deleted."""
        data = self.page("?limit=1")["data"]
        return data[0]["seq"] + 1 if data else 0

    def export_lines(self, query=""):
        """The JSONL export's lines over all continuations, newest first."""
        lines, cursor = [], None
        joint = "&" if "?" in query else "?"
        while True:
            path = "/v1/audit/events.jsonl" + query + (f"{joint}cursor={cursor}" if cursor else "")
            answer = self.raw_get(path)
            assert answer.status == 200, answer
            assert not answer.body or answer.body.endswith(b"\n")
            lines += answer.text.split("\n")[:-1]  # splitlines would split at U+2028, too
            cursor = answer.field("Annal-Next-Cursor")
            if not cursor:
                return lines

    def make_key(self, scopes, **more):
        body = {"name": "test", "scopes": list(scopes)} | more
        answer = self.post("/v1/api-keys", body)
        assert answer.status == 201, answer
        made = answer.json()
        return Client(self.server, made["secret"], made["project_id"], made["id"])

    def new_project(self, project_id=None, scopes=("admin",)):
        """A project of its own; the client of its first key."""
        body = {"name": "Test"} | ({"id": project_id} if project_id else {})
        answer = self.post("/v1/projects", body)
        assert answer.status == 201, answer
        return self.make_key(scopes, project_id=answer.json()["id"])

    def metric(self, name, **labels):
        """Sum of the series of one metric that carry the labels; None when there is none."""
        text = self.get("/metrics", key=False).text
        values = []
        for line in text.splitlines():
            match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if not match or match[1] != name:
                continue
            found = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            if all(found.get(label) == value for label, value in labels.items()):
                values.append(float(match[3]))
        return sum(values) if values else None


class Server:
    """`annal serve` in a folder of its own. Start it, stop it, kill it, start it again on the same data.

    With `database` it is a node on that database, a URL; others may be, too.
    """

    def __init__(self, folder=None, manifests=(), env=None, settings=None, bootstrap=True, defaults=True, database=None):
        self._own_folder = folder is None
        # A short path: the Unix socket's name may have 107 bytes.
        self.folder = Path(folder or tempfile.mkdtemp(prefix="annal-"))
        self.data_dir = self.folder / "data"
        self.stdout_path = self.folder / "stdout"
        self.stderr_path = self.folder / "stderr"
        self.process = None
        self.address = None
        self.file_size_max = None
        self.open_files = None  # soft and hard limit
        self.manifests = [str(m) for m in manifests]
        self.settings = settings
        self.env = {
            "ANNAL_LISTEN": "127.0.0.1:0",
            "ANNAL_DATA_DIR": str(self.data_dir),
            "ANNAL_ALLOW_CIDRS": "127.0.0.0/8",
        }
        if bootstrap:
            self.env |= {"ANNAL_BOOTSTRAP_KEY": BOOTSTRAP_KEY, "ANNAL_BOOTSTRAP_PROJECT": PROJECT}
        paths = ([str(MANIFESTS)] if defaults else []) + self.manifests
        if self.manifests or not defaults:
            self.env["ANNAL_MANIFESTS"] = ":".join(paths)
        if database is None and STORE == "postgres":
            database = postgres_cluster.shared().create_database()
        self.database = database
        if database is not None:
            self.use_database(database)
        self.env |= env or {}

    def use_database(self, url):
        ring = self.folder / "ring"
        self.folder.mkdir(parents=True, exist_ok=True)
        ring.write_text(KEY_RING)
        ring.chmod(0o600)
        self.env |= {"ANNAL_STORE": "postgres", "ANNAL_POSTGRES_URL": url, "ANNAL_MASTER_KEY_FILE": str(ring)}

    def use_simulated_disk(self, **more):
        """Puts the data on a disk of tests/power_loss, from the next start on; `more` are its variables without ANNAL_DISK_."""
        disk = self.folder / "disk"
        disk.mkdir(parents=True, exist_ok=True)
        self.data_dir = disk / "data"
        self.env = {k: v for k, v in self.env.items() if not k.startswith("ANNAL_DISK_")}
        self.env |= {"ANNAL_DATA_DIR": str(self.data_dir), "LD_PRELOAD": str(BUILD / "libsimulated_disk.so"),
                     "ANNAL_DISK_ROOT": str(disk)}
        self.env |= {f"ANNAL_DISK_{name.upper()}": str(value) for name, value in more.items()}
        # The layer comes before the sanitizer's library, which minds.
        self.env["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "detect_leaks=1") + ":verify_asan_link_order=0"

    def use_real_disk(self):
        """Leaves the simulated disk, not the data on it."""
        self.env = {k: v for k, v in self.env.items() if not k.startswith("ANNAL_DISK_") and k != "LD_PRELOAD"}

    # --- Process

    def environment(self):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("ANNAL_")}
        clean.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        clean.setdefault("LSAN_OPTIONS", "print_suppressions=0")
        return clean | self.env

    def _before_exec(self):
        if self.file_size_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_size_max, resource.RLIM_INFINITY))
        if self.open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self.open_files)

    def lift_file_size_limit(self):
        """What a full disk with room again looks like to the running process."""
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

    def spawn(self):
        """Starts the process and returns at once."""
        assert self.process is None, "the server runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        arguments = [str(ANNAL), "serve"]
        if self.settings is not None:
            path = self.folder / "annal.yaml"
            path.write_text(self.settings)
            arguments += ["--config", str(path)]
        self._stdout_from = self.stdout_path.stat().st_size if self.stdout_path.exists() else 0
        self._stderr_from = self.stderr_path.stat().st_size if self.stderr_path.exists() else 0
        with open(self.stdout_path, "ab") as out, open(self.stderr_path, "ab") as err:
            # Python ignores SIGXFSZ; under a limit the child keeps that, so that a full disk is an error of write, not a
            # signal. Otherwise it gets the signals' defaults, as from any shell.
            self.process = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self.environment(),
                cwd=self.folder, preexec_fn=self._before_exec, restore_signals=self.file_size_max is None)
        return self

    def start(self, settled=True):
        """Returns once it listens; `settled`: and once it has done with its database what it does first, or has failed to.
        On a slow machine it may listen before that, and answers 503 until then."""
        self.spawn()
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            match = re.search(r"^listening on (.+):(\d+)$", self.stdout(), re.MULTILINE)
            if match:
                self.address = (match[1].strip("[]"), int(match[2]))
                if settled and self.database:
                    self._await_database(time.monotonic() + START_DEADLINE_S)
                return self
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise AssertionError(f"the server ended with {code} instead of starting:\n{self.stderr()}")
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"the server did not start within {START_DEADLINE_S} s:\n{self.stderr()}")

    def _await_database(self, deadline):
        """Until it has said what comes of the database: a first connection may take longer than it waits for one."""
        unclear = ("being got ready", "timeout expired")
        while time.monotonic() < deadline and any(words in self.client().get("/readyz", key=False).text for words in unclear):
            time.sleep(0.05)

    def stdout(self):
        """Of the current process, or the last one."""
        with open(self.stdout_path, "rb") as file:
            file.seek(self._stdout_from)
            return file.read().decode("utf-8", "replace")

    def stderr(self):
        with open(self.stderr_path, "rb") as file:
            file.seek(self._stderr_from)
            return file.read().decode("utf-8", "replace")

    def logs(self, event=None):
        """The log lines of the current process."""
        found = []
        for line in self.stderr().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if event is None or entry.get("event") == event:
                found.append(entry)
        return found

    def await_run_at_start(self, job="job-retention/daily"):
        """Until what the job does at each start is done: whatever is asked for afterwards, that is not in its way."""
        def is_over():
            if not any(ran["job"] == job for ran in self.logs("job.ran")):
                return False
            return not any(known["running"] for known in self.client().get("/v1/jobs").json()["data"])
        wait_until(is_over, 60, f"the run of {job} at the start")

    def wait_exit(self, timeout=STOP_DEADLINE_S):
        """The exit code of a process that ends by itself."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the server did not end within {timeout} s:\n{self.stderr()[-4000:]}") from None
        self.process = None
        return code

    def signal_stop(self):
        self.process.send_signal(signal.SIGTERM)

    def expect_clean_exit(self):
        code = self.wait_exit()
        stderr = self.stderr()
        assert code == 0, f"exit code {code}:\n{stderr[-8000:]}"
        # Standard error carries the log and nothing else: no sanitizer report, no message of the C++ runtime.
        stray = [line for line in stderr.splitlines() if not line.startswith("{")]
        assert not stray, "\n".join(stray[:50])

    def terminate(self):
        self.signal_stop()
        self.expect_clean_exit()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self):
        self.terminate()
        return self.start()

    def running(self):
        return self.process is not None and self.process.poll() is None

    def rss_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024

    def expect_growth_below(self, mebibytes, before, tsan_factor=1):
        """Its memory has grown by less since `before`, an earlier rss_bytes().

        Where it takes much anew, ThreadSanitizer's own 5 to 10 bytes for each raise the bound by a factor.
        """
        grown = self.rss_bytes() - before
        factor = tsan_factor if "ANNAL_SANITIZE:STRING=thread" in (BUILD / "CMakeCache.txt").read_text() else 1
        assert grown < (mebibytes << 20) * factor, f"grown by {grown >> 20} MiB"

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        try:
            if self.process is not None:
                if kind is None:
                    self.terminate()
                else:
                    self.kill()
        finally:
            self.remove()

    def remove(self):
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    # --- Talking

    def client(self, secret=BOOTSTRAP_KEY, project=PROJECT):
        return Client(self, secret, project)

    def raw(self, **more):
        return RawConnection(*self.address, **more)

    def cli(self, *arguments, input_text=None, env=None, timeout=120):
        """One `annal …` command on this server's data."""
        return subprocess.run(
            [str(ANNAL), *map(str, arguments)], input=input_text, capture_output=True, text=True, timeout=timeout,
            env=self.environment() | (env or {}), cwd=self.folder)


def event(action="test.happened", **more):
    return {"action": action, "actor": {"type": "user", "id": "usr_1"}} | more


def raw_object(text, start=0):
    """Members of the JSON object at `start`, each value as the text it was written in; and where the object ends."""
    decoder, members = json.JSONDecoder(), {}
    at = _skip(text, start)
    assert text[at] == "{", text[at:at + 40]
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        assert text[at] == ":"
        begin = _skip(text, at + 1)
        _, at = decoder.raw_decode(text, begin)
        assert key not in members, f"{key} is there twice"
        members[key] = text[begin:at]
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return members, at + 1


def raw_array(text, start=0):
    """Elements of the JSON array at `start`, as texts."""
    decoder, elements = json.JSONDecoder(), []
    at = _skip(text, start)
    assert text[at] == "["
    at = _skip(text, at + 1)
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        elements.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return elements


def _skip(text, at):
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def allow_open_files(count):
    """Raises this process's own limit to `count`, or to what it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count)), hard))


def wait_until(condition, seconds=30, what="the condition"):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.02)


def wait_until_past(time_utc):
    """Until it is later than that here, and for the server, whose clock is the same."""
    wait_until(lambda: datetime.now(timezone.utc) > time_utc, what=str(time_utc))


PROBLEM_KEYS = {"type", "title", "status", "detail", "code", "request_id"}


def expect_problem(answer, status, *words):
    """Checks an RFC 9457 document; its content. Each of `words` must stand in it."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json", answer
    problem = answer.json()
    assert PROBLEM_KEYS <= problem.keys(), problem
    assert problem["status"] == status
    assert problem["request_id"] and problem["request_id"] == answer.headers["annal-request-id"]
    text = answer.text
    for word in words:
        assert word in text, (word, text)
    return problem
