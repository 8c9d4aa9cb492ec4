"""The client examples do what they say, against a real server."""

import json
import os
import subprocess

import pytest
from annal_server import SOURCE, event, wait_until

CLIENTS = SOURCE / "examples" / "clients"


@pytest.fixture
def run(project):
    def call(name, *arguments):
        host, port = project.server.address
        env = {k: v for k, v in os.environ.items() if k not in ("ASAN_OPTIONS", "LD_PRELOAD")}
        env |= {"ANNAL_URL": f"http://{host}:{port}", "ANNAL_KEY": project.secret}
        done = subprocess.run([CLIENTS / name, *arguments], capture_output=True, text=True, timeout=120, env=env)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    return call


def test_curl(run, project):
    first, second = run("curl.sh"), run("curl.sh")
    assert [e["action"] for e in project.walk("?type=invoice.*")] == ["invoice.sent"] * 4 + ["invoice.paid"]
    receipts = [json.loads(text.splitlines()[1]) for text in (first, second)]
    assert receipts[0]["id"] == receipts[1]["id"]
    assert second.splitlines()[-1].count(",") >= 11  # the last row of the CSV


def test_python_posts_and_lists(run, project):
    receipt = json.loads(run("annal_client.py", "post", "invoice.paid", "usr_1", '{"amount": 1.10}'))
    assert project.get(f"/v1/audit/events/{receipt['id']}").json()["metadata"] == {"amount": 1.1}
    project.ingest(*(event("many.of") for _ in range(120)))
    shown = run("annal_client.py", "list", "type=many.*&limit=50").splitlines()
    assert len(shown) == 120


def test_python_follows_over_a_restart(make_server):
    server = make_server().start()
    client = server.client()
    host, port = server.address
    server.env["ANNAL_LISTEN"] = f"{host}:{port}"  # the same port again
    follower = subprocess.Popen(
        [CLIENTS / "annal_client.py", "tail", "type=invoice.*"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"ANNAL_URL": f"http://{host}:{port}", "ANNAL_KEY": client.secret})
    try:
        wait_until(lambda: client.metric("annal_tails"), what="the tail")
        client.ingest(event("invoice.sent"), event("other.thing"))
        assert follower.stdout.readline().split()[2] == "invoice.sent"
        server.restart()
        client.ingest(event("invoice.paid"))
        assert follower.stdout.readline().split()[2] == "invoice.paid"
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()


def test_python_exports_everything(make_server, tmp_path):
    server = make_server(settings="limits:\n  export_rows: 10\n").start()
    client = server.client()
    client.ingest(*(event() for _ in range(34)))
    host, port = server.address
    done = subprocess.run(
        [CLIENTS / "annal_client.py", "follow-export"], capture_output=True, timeout=60, check=True,
        env=os.environ | {"ANNAL_URL": f"http://{host}:{port}", "ANNAL_KEY": client.secret})
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == list(range(34, -1, -1))
