"""A master key is exchanged for another while streams are at work, and the old one is thrown away."""

import hashlib
import hmac
import json
import random
import sqlite3
import subprocess
import threading
import time

import postgres_cluster
import pytest
from annal_server import ANNAL, STORE, Server, event, wait_until
from test_audit_streams import get, recorded, seqs, steer, to_hook
from test_stream_outcomes import dump

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OLD, NEW = "k1:" + "5a" * 32 + "\n", "k2:" + "c3" * 32 + "\n"  # OLD: what nodes of a database have in these tests

many_nodes = pytest.mark.skipif(STORE != "postgres", reason="about nodes that share a database")


def ring_of(server):
    return server.folder / "ring"


def use_ring(server, *lines):
    server.folder.mkdir(parents=True, exist_ok=True)
    ring_of(server).write_text("".join(lines))
    ring_of(server).chmod(0o600)
    server.env["ANNAL_MASTER_KEY_FILE"] = str(ring_of(server))


def fingerprint(line):
    key = bytes.fromhex(line.strip().partition(":")[2])
    return hmac.new(key, b"fingerprint of the ring", hashlib.sha256).hexdigest()[:32]


@pytest.fixture
def make_node(make_server):
    def make(*lines, **more):
        server = make_server(**more)
        use_ring(server, *(lines or (OLD,)))
        return server

    return make


def rekey(server, *arguments, code=0):
    done = server.cli("secrets", "rekey", *arguments)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done


def said(done, resealed, current, unopened=0):
    noun = "secret" if resealed == 1 else "secrets"
    assert f"{resealed} {noun} re-sealed under k2, {current} current already, {unopened} can't be opened" in done.stdout, done


def with_secret(project, receiver, **more):
    return to_hook(project, receiver, {"secret": SECRET}, **more)


def caught_up(project, *streams):
    for stream in streams:
        wait_until(lambda s=stream: get(project, s)["lag_events"] == 0, 30, "the stream's end")


def expect_signed(requests):
    assert requests
    for request in requests:
        expected = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
        assert request.headers["authio-signature"] == "v1=" + expected


def sealed_under(server):
    """How many secrets there are by the key that they are sealed under, in the files or the database as they are now."""
    if STORE == "postgres":
        rows = postgres_cluster.shared().sql(
            server.database, "SELECT encode(value, 'escape') FROM kv WHERE space = 'host.streams'").splitlines()
    else:
        control = sqlite3.connect(f"file:{server.data_dir / 'control.db'}?mode=ro", uri=True)
        try:
            rows = [bytes(v) if isinstance(v, bytes) else v.encode() for (v,) in control.execute(
                "SELECT value FROM kv WHERE space = 'host.streams'")]
            rows = [row.decode() for row in rows]
        finally:
            control.close()
    counts = {}
    for row in rows:
        sealed = json.loads(row).get("sealed")
        if sealed:
            key = sealed.split(".")[1]
            counts[key] = counts.get(key, 0) + 1
    return counts


# --- The whole procedure


@pytest.mark.parametrize("running", [True, False], ids=["beside the server", "at rest"])
def test_a_key_is_exchanged_and_the_old_one_removed(make_node, receiver, running):
    server = make_node().start()
    project = server.client().new_project()
    streams = [with_secret(project, receiver) for _ in range(5)]
    plain = to_hook(project, receiver)
    paused, revoked = with_secret(project, receiver), with_secret(project, receiver)
    assert steer(project, paused, "pause").status == 200
    assert project.delete(f"/v1/audit/streams/{revoked['id']}").status == 204
    project.ingest(*[event() for _ in range(3)])
    caught_up(project, *streams, plain)
    page = project.page("?limit=1")
    server.terminate()

    line = server.cli("secrets", "new-key", "--id", "k2").stdout
    assert line.startswith("k2:") and len(line) == len(NEW)
    use_ring(server, line, OLD)
    server.start()
    later = with_secret(project, receiver)
    assert sealed_under(server) == {"k1": 6, "k2": 1}
    assert project.page(f"?limit=1&cursor={page['next_cursor']}")["data"], "cursors of the old key are valid"
    project.ingest(event())
    caught_up(project, *streams, later)
    started = len(server.logs("stream.started"))
    if not running:
        server.terminate()

    counted = rekey(server, "--dry-run").stdout
    assert "6 secrets would be re-sealed under k2, 1 current already, 0 can't be opened" in counted
    assert sealed_under(server) == {"k1": 6, "k2": 1}
    done = rekey(server)
    said(done, 6, 1)
    assert "k1 can be removed from the key ring" in done.stdout and done.stderr == ""
    assert sealed_under(server) == {"k2": 7}
    again = rekey(server)
    said(again, 0, 7)
    assert "k1 can be removed" in again.stdout

    if running:
        assert len(server.logs("stream.started")) == started, "no stream was begun anew"
        for stream in (*streams, paused):
            answer = project.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"name": "renamed"})
            assert answer.status == 200 and answer.json()["secrets"] == ["secret"], answer
        assert [action for action, _ in recorded(project, later)] == ["audit_stream.created"]
        server.terminate()

    use_ring(server, line)
    server.start()
    assert project.get(f"/v1/audit/events?limit=1&cursor={page['next_cursor']}").status == 400
    assert steer(project, paused, "resume").status == 200
    before = len(receiver.requests)
    project.ingest(event())
    caught_up(project, *streams, plain, paused, later)
    unsigned = [r for r in receiver.requests[before:] if "authio-signature" not in r.headers]
    assert len({r.headers["idempotency-key"] for r in unsigned}) >= 1, "of the stream without a secret"
    signed = [r for r in receiver.requests[before:] if "authio-signature" in r.headers]
    assert len(signed) >= 7
    expect_signed(signed)
    assert "no other key" in rekey(server).stdout
    server.terminate()
    held = dump(server)
    for secret in (SECRET, SECRET.removeprefix("whsec_")):
        assert secret.encode() not in held


def test_a_replay_under_way_goes_on_with_its_secret(make_node, receiver):
    server = make_node().start()
    project = server.client().new_project()
    stream = with_secret(project, receiver, start="earliest")
    project.ingest(*[event() for _ in range(20)])
    caught_up(project, stream)
    receiver.answer = lambda _: 503
    assert project.post(f"/v1/audit/streams/{stream['id']}/replay", {"from_seq": 5, "to_seq": 21}).status == 202
    server.terminate()
    use_ring(server, NEW, OLD)
    server.start()
    said(rekey(server), 2, 0)
    server.terminate()
    use_ring(server, NEW)
    before = len(receiver.requests)
    receiver.answer = lambda _: 200
    server.start()
    wait_until(lambda: "audit_stream.replay_completed" in dict(recorded(project, stream)), 30, "the replay's end")
    again = receiver.requests[before:]
    assert set(range(5, 22)) <= set(seqs(again))
    expect_signed(again)


# --- Interruptions


def test_killed_at_any_moment_it_goes_on_when_it_is_run_again(make_node, receiver):
    total, kills, caught = 110, 5, set()
    server = make_node().start()
    project = server.client().new_project()
    streams = [with_secret(project, receiver) for _ in range(total)]
    server.terminate()
    use_ring(server, NEW, OLD)
    for attempt in range(kills):
        # Now and then it is the server that is killed, with the command at its side.
        beside = attempt % 2 == 1
        if beside:
            server.start()
        have = sealed_under(server).get("k2", 0)
        if have == total:
            break
        target = random.randint(have, min(total - 1, have + total // kills))
        command = subprocess.Popen([str(ANNAL), "secrets", "rekey"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=server.environment(), cwd=server.folder)
        try:
            while sealed_under(server).get("k2", 0) <= target and command.poll() is None:
                pass
        finally:
            server.kill()
            command.kill()
            command.wait()
        counts = sealed_under(server)
        assert sum(counts.values()) == total
        caught.add(counts.get("k2", 0))
    assert any(0 < count < total for count in caught), f"never in the middle: {caught}"
    server.start()  # which may find one more than could be seen from outside: SQLite's log held it, its index not yet
    have = sealed_under(server).get("k2", 0)
    said(rekey(server), total - have, have)
    server.terminate()
    use_ring(server, NEW)
    before = len(receiver.requests)
    server.start()
    project.ingest(event())
    caught_up(project, *streams)
    fresh = receiver.requests[before:]
    assert len(fresh) >= total
    expect_signed(fresh)


def test_changes_over_the_api_meet_no_conflict(make_node, receiver):
    server = make_node().start()
    project = server.client().new_project()
    streams = [with_secret(project, receiver) for _ in range(40)]
    server.terminate()
    use_ring(server, NEW, OLD)
    server.start()
    answers, stop = [], threading.Event()

    def change(mine):
        for n in range(10_000):
            if stop.is_set():
                return
            stream = mine[n % len(mine)]
            body = {"name": f"n{n}"} if n % 2 else {"config": {"secret": SECRET}}
            answers.append(project.request("PATCH", f"/v1/audit/streams/{stream['id']}", body))

    # Backwards, so that they meet.
    writers = [threading.Thread(target=change, args=(streams[at::2][::-1],)) for at in range(2)]
    for writer in writers:
        writer.start()
    try:
        wait_until(lambda: len(answers) > 4, 30, "changes")
        done = rekey(server)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert {answer.status for answer in answers} == {200}, [a for a in answers if a.status != 200][:3]
    assert "k1 can be removed" in done.stdout
    assert sealed_under(server) == {"k2": len(streams)}
    project.ingest(event())
    caught_up(project, *streams)
    expect_signed(receiver.requests)


# --- What can't be done


def test_what_cant_be_opened_is_named(make_node, receiver):
    server = make_node().start()
    project = server.client().new_project()
    stream, broken = with_secret(project, receiver), with_secret(project, receiver)
    server.terminate()
    if STORE == "postgres":
        postgres_cluster.shared().sql(server.database, f"""
            UPDATE kv SET value = replace(encode(value, 'escape'), 'v1.k1.', 'v1.k7.')::bytea
            WHERE space = 'host.streams' AND key = '{broken['id']}'""")
    else:
        control = sqlite3.connect(server.data_dir / "control.db")
        (value,) = control.execute("SELECT value FROM kv WHERE space = 'host.streams' AND key = ?", (broken["id"],)).fetchone()
        text = value.decode() if isinstance(value, bytes) else value
        forged = text.replace("v1.k1.", "v1.k7.")
        with control:
            control.execute("UPDATE kv SET value = ? WHERE space = 'host.streams' AND key = ?",
                            (forged.encode() if isinstance(value, bytes) else forged, broken["id"]))
        control.close()
    use_ring(server, NEW, OLD)
    server.start()
    for arguments in (["--dry-run"], []):
        done = rekey(server, *arguments, code=1)
        (line, *_) = done.stderr.splitlines()
        assert broken["id"] in line and project.project in line and "k7" in line
        assert "1 can't be opened" in done.stdout and "can be removed" not in done.stdout
    assert "keep every key" in done.stderr
    assert sealed_under(server) == {"k2": 1, "k7": 1}, "the rest is done"
    assert project.delete(f"/v1/audit/streams/{broken['id']}").status == 204
    done = rekey(server)
    said(done, 0, 1)
    assert "k1 can be removed" in done.stdout


def test_a_server_that_has_not_read_the_ring_again_refuses(make_node, receiver):
    server = make_node().start()
    project = server.client().new_project()
    with_secret(project, receiver)
    use_ring(server, NEW, OLD)
    done = rekey(server, code=1)
    assert "start it anew" in done.stderr and done.stdout == ""
    assert sealed_under(server) == {"k1": 1}
    server.restart()
    said(rekey(server), 1, 0)


def test_bad_rings_and_arguments(make_node, tmp_path):
    server = make_node(OLD)
    done = server.cli("secrets", "new-key", "--id", "a.b")
    assert done.returncode == 2 and "--id" in done.stderr and done.stdout == ""
    use_ring(server, OLD.replace("5a", "66"), OLD)
    done = rekey(server, code=2)
    assert f"{ring_of(server)}:2: another key" in done.stderr
    server.env["ANNAL_MASTER_KEY_FILE"] = str(tmp_path / "none")
    assert "there is no key ring at" in rekey(server, code=2).stderr


def test_the_route_is_for_operators_and_minds_its_body(make_node):
    server = make_node().start()
    root = server.client()
    path, right = "/v1/secrets/rekey", {"first_key": fingerprint(OLD), "action": "count"}
    assert root.post(path, right).json() == {"resealed": 0, "stale": 0, "current": 0, "unopened": [],
                                             "next": {"space": 1, "project_id": "", "id": ""}}
    assert root.new_project().post(path, right).status == 403
    assert root.post(path, right, key=False).status == 401
    for change, status in (({"action": "erase"}, 422), ({"first_key": fingerprint(NEW)}, 409), ({"first_key": ""}, 422),
                           ({"from": 1}, 422), ({"from": {"space": 1}}, 422),
                           ({"from": {"space": -1, "project_id": "", "id": ""}}, 422),
                           ({"from": {"space": 1, "project_id": "", "id": 7}}, 422), ({"more": 1}, 422)):
        assert root.post(path, right | change).status == status, change
    assert root.post(path, right | {"from": {"space": 99, "project_id": "", "id": ""}}).json().get("next") is None


# --- Several nodes


@pytest.fixture
def two(make_node, postgres_database):
    nodes = [make_node(database=postgres_database, settings="limits:\n  lease_ms: 1000\n") for _ in range(2)]
    for node in nodes:
        node.start()
    return nodes


def refuses(server):
    server.spawn()
    assert server.wait_exit() == 1
    assert "not the one that this database's other nodes have" in server.stderr()


def not_ready(server):
    answer = server.client().get("/readyz", key=False)
    return answer.status == 503 and "key ring" in answer.text


@many_nodes
def test_nodes_of_one_database_exchange_their_keys_one_by_one(two, receiver):
    a, b = two
    here = a.client().new_project()
    there = b.client(here.secret, here.project)
    streams = [with_secret(here, receiver) for _ in range(4)]

    def everything_works():
        for client in (here, there):
            streams.append(with_secret(client, receiver))
            client.ingest(event())
        cursors = [client.page("?limit=1")["next_cursor"] for client in (here, there)]
        for client in (here, there):
            caught_up(client, *streams)
            for cursor in cursors:
                assert client.page(f"?limit=1&cursor={cursor}")["data"]
        expect_signed(receiver.requests)

    def restart(*lines):
        """One after the other; in between everything works, too."""
        for node in (a, b):
            node.terminate()
            use_ring(node, *lines)
            node.start()
            everything_works()

    everything_works()
    restart(OLD, NEW)  # every node can open what is sealed under the new key before any seals so
    b.terminate()
    use_ring(b, NEW)
    refuses(b)  # the old key is needed still
    use_ring(b, OLD, NEW)
    b.start()
    restart(NEW, OLD)
    started = [len(node.logs("stream.started")) for node in (a, b)]
    done = rekey(a)
    assert "k1 can be removed" in done.stdout
    assert sealed_under(a) == {"k2": len(streams)}
    for client in (there, here):  # the other node knows the rows, too
        for stream in streams:
            answer = client.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"name": "renamed"})
            assert answer.status == 200, answer
    assert all(node.client().get("/readyz", key=False).status == 200 for node in (a, b))
    assert started[0] + started[1] > 0
    restart(NEW)
    assert "no other key" in rekey(b).stdout
    a.terminate()
    use_ring(a, OLD)
    refuses(a)
    use_ring(a, NEW)
    a.start()


@many_nodes
def test_a_node_that_was_left_out_is_not_ready(two, receiver):
    a, b = two
    project = a.client().new_project()
    with_secret(project, receiver)
    a.terminate()
    use_ring(a, NEW, OLD)
    a.start()
    assert b.client().get("/readyz", key=False).status == 200
    rekey(a)
    wait_until(lambda: not_ready(b), 10, "the other node's word")
    assert len(b.logs("runtime.key_ring_outdated")) == 1
    assert a.client().get("/readyz", key=False).status == 200
    b.terminate()
    use_ring(b, NEW, OLD)
    b.start()
    assert b.client().get("/readyz", key=False).status == 200


@many_nodes
def test_the_other_node_goes_on_undisturbed(two, receiver):
    a, b = two
    for node in (a, b):
        node.terminate()
        use_ring(node, NEW, OLD)
        node.start()
    project = b.client().new_project()
    streams = [with_secret(project, receiver) for _ in range(10)]
    # Secrets of the time before, which a node of the old ring has sealed.
    a.terminate()
    use_ring(a, OLD, NEW)
    a.start()
    older = a.client(project.secret, project.project)
    streams += [with_secret(older, receiver) for _ in range(10)]
    project.ingest(event())
    caught_up(project, *streams)
    a.terminate()
    use_ring(a, NEW, OLD)
    wait_until(lambda: all(get(project, s)["state"] == "active" for s in streams), 20, "all streams on the other node")
    started = len(b.logs("stream.started"))
    said(rekey(a), 10, 10)  # by a runtime of its own
    time.sleep(1.5)
    project.ingest(event())
    caught_up(project, *streams)
    assert len(b.logs("stream.started")) == started and not b.logs("stream.lease_lost")
    for stream in streams:
        assert project.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"name": "renamed"}).status == 200
