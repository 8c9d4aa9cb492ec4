"""Disks that are full, read-only or broken under the whole server: nothing false is acknowledged, reads go on, the node says
what is wrong and goes on by itself."""

import json
import subprocess
import threading

import pytest
from annal_server import event, expect_problem, wait_until

SETTINGS = "sqlite:\n  segment_events: 300\n"


class SmallDisk:
    """A file system of 24 MiB, where this user may mount one."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(folder)], check=True,
                       capture_output=True)

    def fill(self):
        with open(self.folder / "filler", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
            except OSError:
                pass

    def free(self):
        (self.folder / "filler").unlink(missing_ok=True)

    def remove(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


class FailingDisk:
    """The simulated disk of tests/power_loss, whose writes fail when it is told so."""

    def __init__(self, server):
        self.faults = server.folder / "faults"
        server.use_simulated_disk(seed=1, faults=self.faults)
        self.free()

    def fail(self, *rules):
        partial = self.faults.with_suffix(".new")
        partial.write_text("".join(rule + "\n" for rule in rules))
        partial.rename(self.faults)

    def fill(self):
        self.fail("write ENOSPC data/", "open ENOSPC -wal", "mkdir ENOSPC data/")

    def free(self):
        self.fail()

    def remove(self):
        pass


@pytest.fixture
def full(make_server):
    """A server and its disk, which can be filled: a real one where that is permitted."""
    server = make_server(settings=SETTINGS)
    try:
        disk = SmallDisk(server.folder / "mount")
        server.data_dir = disk.folder / "data"
        server.env["ANNAL_DATA_DIR"] = str(server.data_dir)
    except (subprocess.CalledProcessError, FileNotFoundError):
        disk = FailingDisk(server)
    server.start()
    yield server, disk
    try:
        disk.free()
        if server.process is not None:
            server.terminate()
    finally:
        disk.remove()


def fill_log(client, name="before", count=1000):
    for i in range(0, count, 100):
        client.ingest(*(event(f"{name}.event", external_id=str(n)) for n in range(i, i + 100)))


def ready(client):
    answer = client.get("/readyz", key=False)
    return answer.status == 200, answer.json()


def post_until_refused(client):
    """What was acknowledged before the disk refused, and the refusal."""
    taken = []
    for n in range(2000):
        answer = client.post("/v1/audit/events", event("until.full", external_id=str(n), metadata={"x": "y" * 2000}))
        if answer.status != 201:
            return taken, answer
        taken.append(str(n))
    raise AssertionError("a full disk takes everything")


def test_a_full_disk_refuses_writes_serves_reads_and_recovers_by_itself(full):
    server, disk = full
    client = server.client()
    fill_log(client)
    disk.fill()
    taken, refused = post_until_refused(client)
    problem = expect_problem(refused, 503)
    assert int(refused.headers["retry-after"]) >= 1
    assert "disk is full" in problem["detail"] or "No space left" in problem["detail"], problem
    assert server.running()
    is_ready, body = ready(client)
    assert not is_ready and "the store can't write" in body["reasons"][0], body
    assert client.get("/healthz", key=False).status == 200
    for _ in range(3):
        lines = [json.loads(line) for line in client.export_lines()]
        assert [e["external_id"] for e in lines if e["action"] == "until.full"] == taken[::-1]
        assert sum(e["action"] == "before.event" for e in lines) == 1000
        assert len(client.page("?q=before.ev&limit=200")["data"]) == 200
    assert server.logs("store.writes_fail")
    disk.free()
    wait_until(lambda: ready(client)[0], what="readiness, without a write from anybody")
    assert server.logs("store.writes_work_again")
    fill_log(client, "after", 600)
    seqs = [json.loads(line)["seq"] for line in client.export_lines()][::-1]
    assert seqs == list(range(len(seqs)))
    server.terminate()
    assert server.cli("check").returncode == 0
    server.start()
    assert server.client().count() == len(seqs)


def test_a_start_on_a_full_disk_says_so_and_works_later(full):
    server, disk = full
    fill_log(server.client(), count=100)
    server.terminate()
    disk.fill()
    with pytest.raises(AssertionError, match="ended with 1 instead"):
        server.start()
    assert "the disk is full; free some space" in server.stderr() or "No space left" in server.stderr()
    disk.free()
    server.start()
    assert server.client().count() == 101


@pytest.fixture
def failing(make_server):
    server = make_server(settings=SETTINGS)
    disk = FailingDisk(server)
    server.start()
    return server, disk


@pytest.mark.parametrize("error", ["EDQUOT", "EROFS", "EIO"])
def test_other_write_errors_are_refusals_too(failing, error):
    server, disk = failing
    client = server.client()
    fill_log(client, count=100)
    disk.fail(f"write {error} .db-wal")
    refused = client.post("/v1/audit/events", event())
    expect_problem(refused, 503, "00000001.db", "disk I/O error")
    assert int(refused.headers["retry-after"]) >= 1
    is_ready, body = ready(client)
    assert not is_ready and "disk I/O error" in body["reasons"][0], body
    assert len(client.walk()) == 101
    disk.free()
    wait_until(lambda: ready(client)[0], what="readiness")
    assert client.ingest(event())[0]["seq"] == 101


@pytest.mark.parametrize("part", ["-wal", ".db"])
def test_a_sync_that_fails_ends_the_process_and_loses_nothing(failing, part):
    server, disk = failing
    client = server.client()
    acknowledged = []

    def post():
        try:
            while True:
                acknowledged.extend(r["id"] for r in client.ingest(*[event("sync.it")] * 20))
        except (OSError, AssertionError, ValueError, EOFError):
            pass  # the server is gone
        except Exception:  # http.client's own ways to say that
            pass

    threads = [threading.Thread(target=post) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(acknowledged) > 200, what="some events")
    disk.fail(f"sync EIO {part}")
    assert server.wait_exit(60) == 70
    for thread in threads:
        thread.join()
    assert [e["event"] for e in server.logs("store.fsync_failed")][:1] == ["store.fsync_failed"]
    server.use_real_disk()
    server.start()
    stored = {json.loads(line)["id"] for line in server.client().export_lines()}
    assert set(acknowledged) <= stored
    server.terminate()
    assert server.cli("check").returncode == 0


def test_sealing_and_checkpoints_wait_for_space(failing):
    server, disk = failing
    client = server.client()
    disk.fail("write ENOSPC 00000001.db", "write ENOSPC .search")
    try:
        fill_log(client, count=200)
    except AssertionError:
        pass  # the first segment is the open one: nobody could write to it
    disk.fail("write ENOSPC .search")
    fill_log(client, count=900)
    wait_until(lambda: server.logs("store.upkeep_failed"), seconds=120, what="the complaint of who seals")
    assert list(server.data_dir.glob("segments/*/*.search")) == []
    client.ingest(event())
    disk.free()
    wait_until(lambda: len(list(server.data_dir.glob("segments/*/*.search"))) >= 2, 120, "the sidecars")
    assert len(client.export_lines()) == client.count()


def test_a_damaged_segment_is_named_and_the_rest_is_served(make_server):
    server = make_server(settings=SETTINGS).start()
    fill_log(server.client())
    wait_until(lambda: len(list(server.data_dir.glob("segments/*/*.search"))) >= 2, 120, "sealed segments")
    server.terminate()
    first = next(server.data_dir.glob("segments/*/00000001.db"))
    whole = first.read_bytes()
    first.write_bytes(whole[:100] + b"\xff" * 20_000 + whole[20_100:])
    server.start()
    client = server.client()
    assert len(client.page("?limit=200")["data"]) == 200
    oldest = client.get("/v1/audit/events?limit=200&to=2000-01-01T00:00:00Z")
    assert oldest.status == 200
    cursor, answer = None, None
    for _ in range(20):
        answer = client.get("/v1/audit/events?limit=100" + (f"&cursor={cursor}" if cursor else ""))
        if answer.status != 200:
            break
        cursor = answer.json()["next_cursor"]
    expect_problem(answer, 503, "segment_unreadable", "00000001.db", "events 0 to")
    is_ready, body = ready(client)
    assert is_ready and "00000001.db" in body["degraded"][0], body
    assert client.metric("annal_store_unreadable_segments") == 1
    assert server.logs("store.segment_unreadable")
    assert client.ingest(event())
    assert server.cli("check").returncode == 1
    first.write_bytes(whole)
