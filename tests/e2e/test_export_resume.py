"""`annal export` that is interrupted, by whatever, and goes on: the file is the same to the byte."""

import json
import os
import pty
import signal
import subprocess
import time

import pytest
from annal_server import ANNAL, event, wait_until

ROWS = 33_000
LINE = '{"action":"bulk.row","actor":{"type":"user"},"description":"say \\"x\\",\\n%d"}\n'


def fill(client):
    have = client.count()
    for first in range(have, ROWS, 10_000):
        answer = client.ndjson("".join(LINE % i for i in range(first, min(first + 10_000, ROWS))))
        assert answer.status == 201, answer
    return client


@pytest.fixture(scope="module")
def full(root):
    return fill(root.new_project())


def export(client, path, *arguments, form="jsonl", **more):
    return client.server.cli("export", "--project", client.project, "--format", form, "--output", path, *arguments, **more)


@pytest.fixture(scope="module", params=["jsonl", "csv"])
def whole(request, full, tmp_path_factory):
    """An uninterrupted export; its format and bytes."""
    path = tmp_path_factory.mktemp("whole") / "whole"
    done = export(full, path, form=request.param)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    data = path.read_bytes()
    if request.param == "jsonl":
        assert [json.loads(line)["seq"] for line in data.splitlines()] == list(range(ROWS - 1, -1, -1))
    return request.param, data


def partial(path):
    return path.with_name(path.name + ".partial")


def state(path):
    return path.with_name(path.name + ".partial.state")


def start(client, path, *arguments, form="jsonl"):
    return subprocess.Popen(
        [str(ANNAL), "export", "--project", client.project, "--format", form, "--output", str(path), *arguments],
        env=client.server.environment(), cwd=client.server.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def wait_for_state(path, process, above=0):
    """Until a position behind `above` bytes has been kept."""
    while process.poll() is None:
        try:
            if json.loads(state(path).read_text())["bytes"] > above:
                return True
        except (FileNotFoundError, ValueError):
            pass
        time.sleep(0.001)
    return False


def cut_short(client, path, signal_number):
    """Leaves an export that a signal has ended in the middle. One that ended before it was noticed is made once more."""
    for _ in range(10):
        process = start(client, path)
        if wait_for_state(path, process):
            process.send_signal(signal_number)
        process.communicate()
        if partial(path).exists() and state(path).exists():
            assert not path.exists()
            return
        path.unlink()
        state(path).unlink(missing_ok=True)
    raise AssertionError("every export ended before it could be interrupted")


def kill_and_resume(full, form, expected, path):
    """How many times the export was killed before it came to its end."""
    kills, kept = 0, 0
    for _ in range(20):
        process = start(full, path, "--resume", form=form)
        seen = wait_for_state(path, process, kept)
        if seen:
            process.kill()
        out, err = process.communicate()
        if path.exists():
            assert seen or (process.returncode, out, err) == (0, "", "")
            assert path.read_bytes() == expected
            assert not partial(path).exists() and (seen or not state(path).exists())
            return kills
        assert seen, err
        kills += 1
        kept = json.loads(state(path).read_text())["bytes"]
        assert partial(path).read_bytes()[:kept] == expected[:kept]
        with open(partial(path), "ab") as file:  # what a page that was cut may leave
            file.write(b"half a row")
    raise AssertionError("20 kills, and no end")


def test_killed_and_resumed_it_is_the_same_to_the_byte(full, whole, tmp_path):
    form, expected = whole
    # A position is kept for every 10 000 rows; now and then one comes and goes unseen.
    kills = (kill_and_resume(full, form, expected, tmp_path / str(n)) for n in range(10))
    assert any(count >= 2 for count in kills)


def test_events_that_come_meanwhile_stay_out(root, tmp_path):
    client = fill(root.new_project())
    path = tmp_path / "out.jsonl"
    cut_short(client, path, signal.SIGKILL)
    client.ingest(*(event("came.later") for _ in range(10)))
    assert export(client, path, "--resume").returncode == 0
    assert [json.loads(line)["seq"] for line in path.read_bytes().splitlines()] == list(range(ROWS - 1, -1, -1))


def test_the_server_is_killed_and_comes_back_or_stays_away(make_server, tmp_path):
    server = make_server().start()
    client = fill(server.client())
    reference, path = tmp_path / "reference", tmp_path / "out"
    assert export(client, reference).returncode == 0

    def export_while(act):
        """Its answer to what happens in the middle; one that ended before is made once more."""
        for _ in range(10):
            process = start(client, path)
            in_time = wait_for_state(path, process)
            act()
            out, err = process.communicate(timeout=60)
            if in_time and err:
                return process.returncode, out, err
            path.unlink()
            server.kill()
            server.start()
        raise AssertionError("every export ended before the server was killed")

    def kill_and_start():
        server.kill()
        server.start()

    code, out, err = export_while(kill_and_start)
    assert (code, out) == (0, "") and "trying again" in err, err
    assert path.read_bytes() == reference.read_bytes()

    path = tmp_path / "again"
    code, _, err = export_while(server.kill)
    assert code == 1 and "--resume" in err, err
    # Without a server the command runs a node of its own.
    done = export(client, path, "--resume")
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == reference.read_bytes()


@pytest.fixture
def interrupted(full, tmp_path):
    path = tmp_path / "out"
    cut_short(full, path, signal.SIGINT)
    return path


def test_nothing_is_thrown_away_unasked(full, interrupted):
    kept = partial(interrupted).read_bytes()
    done = export(full, interrupted)
    assert done.returncode == 2
    assert "--resume" in done.stderr and "--overwrite" in done.stderr and "rows" in done.stderr
    assert partial(interrupted).read_bytes() == kept
    for other in (export(full, interrupted, "--resume", "--filter", "type=bulk.*"),
                  export(full, interrupted, "--resume", form="csv")):
        assert other.returncode == 2 and "another export" in other.stderr, other
    assert partial(interrupted).read_bytes() == kept
    done = export(full, interrupted, "--overwrite")
    assert done.returncode == 0 and not state(interrupted).exists()
    assert interrupted.read_bytes().count(b"\n") == ROWS


def test_a_position_that_is_not_accepted_any_more(full, interrupted):
    kept = json.loads(state(interrupted).read_text())
    state(interrupted).write_text(json.dumps(kept | {"cursor": "A" * 40}))
    done = export(full, interrupted, "--resume")
    assert done.returncode == 1
    assert "not accepted any more" in done.stderr and "--overwrite" in done.stderr
    state(interrupted).write_text("{")
    done = export(full, interrupted, "--resume")
    assert done.returncode == 1 and "damaged" in done.stderr
    os.truncate(partial(interrupted), 10)
    state(interrupted).write_text(json.dumps(kept))
    done = export(full, interrupted, "--resume")
    assert done.returncode == 1 and "shorter" in done.stderr


def test_resume_needs_a_file(full):
    done = full.server.cli("export", "--project", full.project, "--resume")
    assert done.returncode == 2 and "--output" in done.stderr
    done = full.server.cli("export", "--project", full.project, "--output", "x", "--resume", "--overwrite")
    assert done.returncode == 2


def on_terminal(client, path, *arguments, halts=0):
    """Standard error of an export whose standard error is a terminal of 100 columns.

    The export is halted each of the first `halts` times that it shows something, for longer than
    the time between two states of its line, so that it has more to show on the fastest machine.
    """
    import fcntl
    import struct
    import termios
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [str(ANNAL), "export", "--project", client.project, "--output", str(path), *arguments],
        env=client.server.environment(), cwd=client.server.folder, stdin=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 1 << 16):
            shown += piece
            if halts > 0:
                halts -= 1
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.15)
                process.send_signal(signal.SIGCONT)
    except OSError:
        pass  # a terminal whose other side is closed
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_a_terminal_shows_how_far_it_is(full, tmp_path):
    for number in range(10):  # one that ended before it could be halted is made once more
        shown = on_terminal(full, tmp_path / f"a{number}", halts=3)
        lines = [line.strip() for line in shown.replace("\x1b[K", "").split("\r") if line.strip()]
        if len(lines) > 3:
            break
    assert len(lines) > 3
    assert all(len(line) < 100 for line in lines)
    assert any("%" in line and "of 33 000 rows" in line and "rows/s" in line and "[" in line for line in lines[:-1])
    assert "100 %" in lines[-1] and "33 000 of 33 000 rows" in lines[-1] and shown.endswith("\n")
    filtered = on_terminal(full, tmp_path / "b", "--filter", "type=bulk.*")
    assert "rows/s" in filtered and "33 000" not in filtered
    # Without a total there is no share to show while it runs.
    assert all("%" not in line for line in filtered.replace("\x1b[K", "").split("\r")[:-3])
    assert on_terminal(full, tmp_path / "c", "--no-progress") == ""


def test_no_terminal_no_progress(full, tmp_path):
    done = export(full, tmp_path / "a")
    assert done.stderr == "" and done.stdout == ""


def test_a_page_is_as_small_as_asked(full):
    answer = full.raw_get("/v1/audit/events.jsonl?limit=7")
    assert len(answer.text.splitlines()) == 7
    assert answer.trailers["annal-truncated"] == "true" and answer.trailers["annal-next-cursor"]
    plain = full.get("/v1/audit/events.jsonl?limit=7")  # takes no trailers
    assert plain.headers["annal-truncated"] == "true" and plain.headers["annal-next-cursor"]
    assert plain.body == answer.body
    last = full.raw_get(f"/v1/audit/events.jsonl?limit={ROWS}")
    assert len(last.text.splitlines()) == ROWS and not last.field("annal-next-cursor")


def test_two_at_a_time_do_not_mix(full, tmp_path):
    path = tmp_path / "out"
    process = start(full, path)
    wait_until(lambda: partial(path).exists() or process.poll() is not None, what="the first export")
    done = export(full, path, "--resume")
    process.communicate()
    assert process.returncode == 0
    assert done.returncode == 0 or "another export is writing" in done.stderr
    assert path.read_bytes().count(b"\n") == ROWS
