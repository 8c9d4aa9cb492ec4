"""`annal check`: on a running server's data, on a stopped one's, and on data that somebody has changed."""

import json
import sqlite3

from annal_server import event, wait_until


def fill(server, count=700):
    client = server.client()
    for i in range(0, count, 50):
        client.ingest(*(event("check.filled", external_id=str(n), metadata={"n": n}) for n in range(i, i + 50)))
    return client


def test_a_running_and_a_stopped_server_are_clean(make_server):
    server = make_server(settings="sqlite:\n  segment_events: 200\n").start()
    client = fill(server)
    target = client.page("?limit=1")["data"][0]["id"]
    assert client.delete(f"/v1/audit/events/{target}").status == 204
    for state in ("running", "stopped"):
        answer = server.cli("check")
        assert answer.returncode == 0, (state, answer.stdout, answer.stderr)
        assert "all as written" in answer.stdout, state
        report = json.loads(server.cli("check", "--json").stdout)
        assert report["clean"] and report["problems"] == [] and report["erased"] == 1
        assert report["events"] >= 702
        if state == "running":
            client.ingest(event())
            server.terminate()


def test_what_was_changed_is_named(make_server):
    server = make_server(settings="sqlite:\n  segment_events: 200\n").start()
    fill(server)
    wait_until(lambda: list(server.data_dir.glob("segments/*/00000001.search")), 120, "the first sealed segment")
    server.terminate()
    first = next(server.data_dir.glob("segments/*/00000001.db"))
    with sqlite3.connect(first) as db:
        changed = db.execute("UPDATE events SET metadata = replace(metadata, '60', '61') WHERE key & 0xFFFFFFFFFF = 61")
        assert changed.rowcount == 1
    db.close()
    answer = server.cli("check", "--data-dir", server.data_dir)
    assert answer.returncode == 1, answer
    assert str(first.relative_to(server.data_dir)) in answer.stdout
    assert "event 61 is not what was sealed" in answer.stdout
    problem = json.loads(server.cli("check", "--json").stdout)["problems"][0]
    assert (problem["first_seq"], problem["last_seq"], problem["project_id"]) == (61, 61, "proj_tests")


def test_a_folder_without_data_is_bad_input(make_server, tmp_path):
    answer = make_server().cli("check", "--data-dir", tmp_path)
    assert answer.returncode == 2
    assert "no data directory" in answer.stderr
