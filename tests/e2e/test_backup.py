"""`annal backup`: of a running server under load, of one at rest, on a disk that gets full, and cut off in the middle."""

import json
import shutil
import signal
import subprocess
import threading
import time

import pytest
from annal_server import ANNAL, event, wait_until

SETTINGS = "sqlite:\n  segment_events: 400\n"


class Ingest:
    """Threads that post until told to stop; what was acknowledged, and how long it took."""

    def __init__(self, server, threads=3):
        self.client = server.client()
        self.acknowledged, self.seconds = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, number):
        n = 0
        while not self._stop.is_set():
            began = time.monotonic()
            names = [f"{number}-{n}-{i}" for i in range(10)]
            self.client.ingest(*(event("backup.load", external_id=name) for name in names))
            self.seconds.append(time.monotonic() - began)
            self.acknowledged += names
            n += 1


@pytest.fixture
def restored(make_server):
    """A server on a copy."""
    def start(copy):
        server = make_server(settings=SETTINGS)
        shutil.copytree(copy, server.data_dir)
        return server.start()
    return start


def stored(server):
    return [json.loads(line) for line in server.client().export_lines()][::-1]


def test_a_backup_under_load_holds_what_was_acknowledged_before(make_server, restored, tmp_path):
    server = make_server(settings=SETTINGS).start()
    client = server.client()
    key = client.make_key(["audit:read"], name="kept")
    with Ingest(server) as load:
        for round_number in range(3):
            wait_until(lambda: len(load.acknowledged) > 600 * (round_number + 1), what="some load")
            target = client.page("?limit=1&type=backup.*")["data"][0]["id"]
            assert client.delete(f"/v1/audit/events/{target}").status == 204
            before = set(load.acknowledged)
            copy = tmp_path / f"copy{round_number}"
            answer = server.cli("backup", "--output", copy)
            assert answer.returncode == 0, answer
            assert "master key" in answer.stderr
            assert not copy.with_name(copy.name + ".partial").exists()
    for round_number in range(3):
        answer = server.cli("check", "--data-dir", tmp_path / f"copy{round_number}")
        assert answer.returncode == 0, answer.stdout
    other = restored(copy)
    events = stored(other)
    assert [e["seq"] for e in events] == sorted({e["seq"] for e in events})
    names = [e["external_id"] for e in events if e["action"] == "backup.load"]
    assert len(names) == len(set(names))
    erased = sum(e["action"] == "audit_log.entry.deleted" for e in events)
    assert erased == 3, sorted({e["action"] for e in events})
    assert len(before - set(names)) <= erased
    head = other.client().page("?limit=1")["data"][0]["seq"]
    assert other.client().ingest(event("goes.on"))[0]["seq"] == head + 1
    assert other.client(key.secret).get("/v1/audit/events").status == 200
    wait_until(lambda: list(other.data_dir.glob("segments/*/*.search")), seconds=120, what="sidecars, made anew")
    other.terminate()
    assert other.cli("check").returncode == 0


def test_erasures_meanwhile_do_not_hold_it_up(make_server, restored, tmp_path):
    server = make_server(settings=SETTINGS).start()
    client = server.client()
    receipts = []
    for _ in range(25):
        receipts += client.ingest(*(event("backup.old", metadata={"filler": "x" * 2_000}) for _ in range(400)))
    wait_until(lambda: len(list(server.data_dir.glob("segments/*/*.search"))) >= 24, 120, "sealed segments")
    stop, erased = threading.Event(), []

    def erase():
        while not stop.is_set():
            target = receipts[len(erased) * 397 % len(receipts)]["id"]  # of another segment each time
            assert client.delete(f"/v1/audit/events/{target}").status == 204
            erased.append(target)

    thread = threading.Thread(target=erase)
    thread.start()
    wait_until(lambda: len(erased) > 5, what="some erasures")
    for number in range(10):  # one during which next to nothing was erased shows nothing: once more
        copy, before = tmp_path / f"copy{number}", len(erased)
        answer = server.cli("backup", "--output", copy)
        meanwhile = len(erased) - before
        if answer.returncode != 0 or meanwhile > 5:
            break
    stop.set()
    thread.join(60)
    assert answer.returncode == 0, answer
    assert meanwhile > 5
    answer = server.cli("check", "--data-dir", copy)
    assert answer.returncode == 0, answer.stdout
    other = restored(copy)
    there = {e["id"] for e in stored(other)}
    assert not there & set(erased[:before]), "erased before, and there"
    records = sum(e["action"] == "audit_log.entry.deleted" for e in other.client().walk("?type=audit_log.entry.deleted"))
    assert sum(r["id"] not in there for r in receipts) == records >= before


def test_a_backup_of_a_stopped_server_without_its_key_ring(make_server, tmp_path):
    server = make_server(settings=SETTINGS).start()
    server.client().ingest(*[event()] * 50)
    server.terminate()
    answer = server.cli("backup", "--output", tmp_path / "copy", "--without-keyring")
    assert answer.returncode == 0, answer
    assert not (tmp_path / "copy" / "keyring").exists()
    assert server.cli("check", "--data-dir", tmp_path / "copy").returncode == 0
    assert json.loads(server.cli("check", "--data-dir", tmp_path / "copy", "--json").stdout)["events"] == 51


def test_an_existing_target_is_left_alone(make_server, tmp_path):
    server = make_server().start()
    (tmp_path / "copy").mkdir()
    answer = server.cli("backup", "--output", tmp_path / "copy")
    assert answer.returncode == 1 and "is there already" in answer.stderr
    assert list((tmp_path / "copy").iterdir()) == []


def test_a_backup_that_runs_out_of_space_leaves_nothing(make_server, tmp_path):
    server = make_server().start()
    server.client().ingest(*(event(metadata={"x": "y" * 60_000}) for _ in range(60)))
    answer = subprocess.run(
        ["bash", "-c", 'trap "" XFSZ; ulimit -f 1024; exec "$0" backup --output "$1"', str(ANNAL), str(tmp_path / "copy")],
        capture_output=True, text=True, env=server.environment(), timeout=60)
    assert answer.returncode == 1, answer
    assert "copy.partial" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_backup_that_is_killed_is_not_there(make_server, tmp_path):
    server = make_server(settings=SETTINGS).start()
    for _ in range(10):
        server.client().ingest(*(event(metadata={"x": "y" * 3000}) for _ in range(200)))
    copy, partial = tmp_path / "copy", tmp_path / "copy.partial"
    for _ in range(10):
        process = subprocess.Popen([str(ANNAL), "backup", "--output", str(copy)], env=server.environment(),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Without a pause: it takes some tenths of a second altogether, and may end unseen all the same.
        while not partial.exists() and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        if not copy.exists():
            break
        shutil.rmtree(copy)
    assert not copy.exists() and partial.exists()
    answer = server.cli("backup", "--output", copy)
    assert answer.returncode == 1 and "copy.partial is there already" in answer.stderr
    shutil.rmtree(partial)
    assert server.cli("backup", "--output", copy).returncode == 0
    assert server.cli("check", "--data-dir", copy).returncode == 0
