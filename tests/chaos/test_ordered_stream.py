"""The ordered stream over restarts and kills: every event, in order, and into a file exactly once."""

import json
import os
import random
import shutil
import time

import pytest
from annal_server import MANIFESTS, PROJECT, STORE, event, wait_until
from load import Load, check, finish

KILLS = int(os.environ.get("ANNAL_CHAOS_KILLS", "50"))

MANIFEST = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: {name}}}
spec:
  library: {{name: {library}}}
  config: {config}
  triggers:
    - name: all
      events: {{project: {project}, patterns: {patterns}, from: {start}, batch: {{maxEvents: {batch}}}}}
"""


def streaming(make_server, library="sink_file", name="stream", config=None, patterns='["*"]', start="earliest", batch=50,
              below=".", **more):
    """A server with one stream, its file in the folder `below` the server's; it is not started yet."""
    if STORE == "postgres":
        more.setdefault("settings", "limits:\n  lease_ms: 500\n")  # after a kill the lease is a dead node's for so long
    server = make_server(**more)
    (server.folder / below).mkdir(parents=True, exist_ok=True)
    server.out = server.folder / below / "out.jsonl"
    if config is None:
        config = f"{{path: {server.out}}}" if library == "sink_file" else "{}"
    path = server.folder / f"{name}.yaml"
    path.write_text(MANIFEST.format(
        name=name, library=library, config=config, project=PROJECT, patterns=patterns, start=start, batch=batch))
    server.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{path}"
    return server


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def wait_for_end(server, seconds=60):
    """Waits until the stream has caught up; the export's lines, oldest first."""
    client = server.client()
    count = client.count()
    # Before it has begun its metrics are those of an empty log's end.
    wait_until(lambda: any(s["project_id"] == PROJECT and s["state"] == "active" for s in client.get("/v1/plugins").json()["streams"])
               and client.metric("annal_stream_lag_events", project=PROJECT) == 0
               and client.metric("annal_stream_cursor_seq", project=PROJECT) == count - 1, seconds, "the stream's end")
    return client.export_lines()[::-1]


@pytest.mark.parametrize("how", ["kill", "mixed"])
def test_the_file_holds_each_event_once_in_order_whatever_happens(make_server, how):
    server = streaming(make_server).start()
    chance = random.Random()
    with Load(server, threads=3) as load:
        for _ in range(max(2, KILLS // 2)):
            time.sleep(chance.uniform(0.02, 0.3))
            if how == "kill" or chance.random() < 0.5:
                server.kill()
            else:
                server.terminate()
            server.start()
    finish(load)
    exported = wait_for_end(server)
    check(load, server.client())
    assert len(exported) > KILLS
    assert lines_of(server.out) == exported
    server.restart()
    time.sleep(0.2)
    assert lines_of(server.out) == exported, "a restart sends nothing again"


@pytest.mark.parametrize("torn", [b'{', b'{"id":"evt_01', None], ids=["one byte", "a few bytes", "all but the end"])
def test_a_torn_last_line_is_repaired(make_server, torn):
    """What a crash in the middle of a write leaves behind: a part of a line that counts for nothing."""
    server = streaming(make_server).start()
    client = server.client()
    client.ingest(*(event(metadata={"i": i}) for i in range(100)))
    exported = wait_for_end(server)
    server.kill()
    with open(server.out, "ab") as file:
        file.write(torn if torn is not None else exported[-1].replace('"seq":100', '"seq":101').encode())
    server.start()
    client.ingest(event("after.crash"))
    exported = wait_for_end(server)
    assert lines_of(server.out) == exported


def test_stdout_is_in_order_and_loses_nothing_over_sigterm(make_server):
    server = streaming(make_server, library="sink_stdout").start()
    with Load(server, threads=2, pause=0.002) as load:
        for _ in range(6):
            time.sleep(0.25)
            server.terminate()
            server.start()
    finish(load)
    exported = wait_for_end(server)
    server.terminate()
    shown = [line for line in lines_of(server.stdout_path) if line.startswith("{")]
    # Stopped in an orderly way, nothing comes twice either.
    assert shown == exported


def test_stdout_over_kills_repeats_at_most_what_was_in_flight(make_server):
    server = streaming(make_server, library="sink_stdout", batch=20).start()
    chance = random.Random()
    with Load(server, threads=2) as load:
        for _ in range(10):
            time.sleep(chance.uniform(0.05, 0.25))
            server.kill()
            server.start()
    finish(load)
    exported = wait_for_end(server)
    server.terminate()
    shown = []
    for line in lines_of(server.stdout_path):
        # A torn line of a killed process stands before what the next one says first.
        start = line.rfind('{"id":"evt_')
        if start >= 0 and line.endswith("}"):
            shown.append(line[start:])
    seqs = [json.loads(line)["seq"] for line in shown]
    assert set(seqs) == set(range(len(exported)))
    highest = -1
    for line, seq in zip(shown, seqs):
        assert seq <= highest + 1, "an event came before its turn"
        assert line == exported[seq], "a repeated event must be the same bytes"
        highest = max(highest, seq)
    repeats = len(seqs) - len(set(seqs))
    assert repeats <= 10 * 20, "a crash repeats one batch at most"


def test_patterns_choose_and_the_cursor_passes_the_rest(make_server):
    server = streaming(make_server, patterns='["pick.*", "one.exact"]').start()
    client = server.client()
    client.ingest(*(event(a) for a in ("pick.a", "skip.a", "one.exact", "one.exactly", "pick.b.c", "picky.a") * 20))
    wanted = [line for line in client.export_lines()[::-1] if json.loads(line)["action"] in ("pick.a", "one.exact", "pick.b.c")]
    wait_until(lambda: lines_of(server.out) == wanted, what="the stream")
    server.restart()
    client.ingest(event("pick.last"), event("skip.last"))
    wait_until(lambda: len(lines_of(server.out)) == len(wanted) + 1, what="the stream")
    assert json.loads(lines_of(server.out)[-1])["action"] == "pick.last"


def test_from_latest_begins_at_the_end_and_goes_on_from_there(make_server):
    server = streaming(make_server, start="latest")
    manifests = server.env.pop("ANNAL_MANIFESTS")
    server.start()
    server.client().ingest(event("old.one"), event("old.two"))
    server.terminate()
    server.env["ANNAL_MANIFESTS"] = manifests
    server.start()
    client = server.client()
    wait_until(lambda: server.logs("stream.started"), what="the stream's start")
    client.ingest(event("new.one"))
    wait_until(lambda: len(lines_of(server.out)) == 1, what="the stream")
    server.kill()
    server.start()
    client.ingest(event("new.two"))
    wait_until(lambda: len(lines_of(server.out)) == 2, what="the stream")
    assert [json.loads(line)["action"] for line in lines_of(server.out)] == ["new.one", "new.two"]


def test_a_destination_that_fails_is_tried_again_until_it_has_everything(make_server):
    server = streaming(make_server, below="mounted").start()
    folder = server.out.parent
    client = server.client()
    client.ingest(*(event() for _ in range(10)))
    wait_for_end(server)
    before = lines_of(server.out)

    away = server.folder / "away"
    shutil.move(folder, away)
    client.ingest(*(event(metadata={"i": i}) for i in range(100)))
    wait_until(lambda: server.logs("stream.retry"), what="the retry")
    wait_until(lambda: client.metric("annal_stream_lag_events", project=PROJECT) >= 0, what="the gauge")
    status = next(s for s in client.get("/v1/plugins").json()["streams"] if s["project_id"] == PROJECT)
    assert status["state"] == "retrying"
    assert "out.jsonl" in status["last_error"]
    assert status["cursor_seq"] == len(before) - 1
    assert client.metric("annal_stream_deliveries_total", outcome="retry") >= 1
    assert client.get("/readyz", key=False).status == 200, "a destination that is away is not the node's failure"
    client.ingest(event("meanwhile.posted"))

    shutil.move(away, folder)
    exported = wait_for_end(server)
    assert lines_of(server.out) == exported
    status = next(s for s in client.get("/v1/plugins").json()["streams"] if s["project_id"] == PROJECT)
    assert (status["state"], status["last_error"], status["lag_events"]) == ("active", None, 0)


def test_lag_counts_what_the_destination_lacks(make_server):
    server = streaming(make_server, below="mounted").start()
    folder = server.out.parent
    client = server.client()
    wait_for_end(server)
    shutil.move(folder, server.folder / "away")
    client.ingest(*(event() for _ in range(40)))
    wait_until(lambda: client.metric("annal_stream_lag_events", project=PROJECT) == 40, what="the lag")
    shutil.move(server.folder / "away", folder)
    wait_for_end(server)


def test_a_stop_does_not_wait_for_a_destination_that_is_away(make_server):
    server = streaming(make_server, below="mounted").start()
    folder = server.out.parent
    client = server.client()
    wait_for_end(server)
    shutil.move(folder, server.folder / "away")
    client.ingest(event())
    wait_until(lambda: len(server.logs("stream.retry")) >= 2, what="the retries")
    began = time.monotonic()
    server.terminate()
    assert time.monotonic() - began < 10
    shutil.move(server.folder / "away", folder)
    server.start()
    assert lines_of(folder / "out.jsonl")[:1]
    assert [json.loads(line)["seq"] for line in wait_until(
        lambda: len(lines_of(folder / "out.jsonl")) == 2 and lines_of(folder / "out.jsonl"), what="the stream")] == [0, 1]


def test_a_full_disk_below_the_stream(make_server):
    """The file may not grow: the stream waits, keeps the file whole, and goes on once there is room."""
    server = streaming(make_server)
    # Another project's lines make the sink's file larger than the store's own, so that it alone meets the limit.
    padding = b"".join(b'{"id":"other","project_id":"another","seq":%d}\n' % i for i in range(120_000))
    server.out.write_bytes(padding)
    server.file_size_max = len(padding) + 4_000
    server.start()
    client = server.client()
    client.ingest(*(event(metadata={"text": "x" * 200}) for _ in range(50)))
    wait_until(lambda: server.logs("stream.retry"), what="the retry")
    assert client.ingest(event("still.writes"))
    server.kill()
    held = server.out.read_bytes()
    assert held.startswith(padding) and (held == padding or held.endswith(b"}\n")), "a part of a line stayed"
    server.start()
    wait_until(lambda: server.logs("stream.retry"), what="the retry")
    server.lift_file_size_limit()
    exported = wait_for_end(server)
    assert server.out.read_bytes() == padding + "".join(line + "\n" for line in exported).encode()


def test_two_streams_of_one_project_do_not_disturb_each_other(make_server):
    server = streaming(make_server)
    other = server.folder / "other.jsonl"
    second = server.folder / "second.yaml"
    second.write_text(MANIFEST.format(name="second", library="sink_file", config=f"{{path: {other}}}", project=PROJECT,
                                      patterns='["*"]', start="earliest", batch=7))
    server.env["ANNAL_MANIFESTS"] += f":{second}"
    server.start()
    with Load(server, threads=2) as load:
        for _ in range(4):
            time.sleep(0.2)
            server.kill()
            server.start()
    finish(load)
    wanted = server.client().export_lines()[::-1]
    for path in (server.out, other):
        wait_until(lambda p=path: len(lines_of(p)) >= len(wanted), 60, "the stream")
        assert lines_of(path) == wanted
