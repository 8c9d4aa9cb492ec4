"""`annal tail`: events as they come, over restarts, for people and for programs."""

import json
import os
import pty
import re
import signal
import subprocess

import pytest
from annal_server import ANNAL, event, wait_until


class Tail:
    """A running `annal tail`."""

    def __init__(self, client, *arguments, stdout=subprocess.PIPE):
        server = client.server
        self.process = subprocess.Popen(
            [str(ANNAL), "tail", "--project", client.project, *arguments], env=server.environment(), cwd=server.folder,
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True)

    def lines(self, count):
        return [json.loads(self.process.stdout.readline()) for _ in range(count)]

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.end()

    def end(self):
        try:
            out, err = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert "Sanitizer" not in err and "runtime error" not in err, err
        return self.process.returncode, out, err


def ready(client, tails=1):
    wait_until(lambda: (client.metric("annal_tails") or 0) >= tails, what="the tail")


@pytest.fixture
def quiet(project):
    """A project while nobody else has a tail."""
    wait_until(lambda: not project.metric("annal_tails"), what="the end of other tails")
    return project


def test_json_lines_into_a_pipe(quiet):
    tail = Tail(quiet)
    ready(quiet)
    quiet.ingest(event("user.created"), event("user.deleted"))
    shown = tail.lines(2)
    assert shown == quiet.page("?limit=2")["data"][::-1]
    assert tail.stop() == (0, "", "")


def test_filters_and_a_beginning(quiet):
    quiet.ingest(*(event("a.b") for _ in range(5)), event("user.created"), *(event("a.b") for _ in range(5)))
    tail = Tail(quiet, "--after", "-1", "--filter", "type=a.*,user.*", "--filter", "actor=none")
    ready(quiet)
    assert tail.stop(signal.SIGTERM) == (0, "", "")
    tail = Tail(quiet, "--after", "2", "--filter", "type=user.*")
    assert [e["action"] for e in tail.lines(1)] == ["user.created"]
    tail.stop()
    tail = Tail(quiet, "--after", "-1")
    assert [e["seq"] for e in tail.lines(12)] == list(range(12))
    tail.stop()


def test_goes_on_when_the_server_comes_back(make_server):
    server = make_server().start()
    client = server.client()
    tail = Tail(client)
    ready(client)
    client.ingest(event(), event())
    seen = tail.lines(2)
    server.kill()
    server.start()
    client.ingest(event(), event())
    seen += tail.lines(2)
    server.restart()
    client.ingest(event())
    seen += tail.lines(1)
    assert [e["seq"] for e in seen] == [1, 2, 3, 4, 5]
    code, out, err = tail.stop()
    assert (code, out) == (0, "")
    assert err.count("the tail has ended") == 2 and err.count("connected again, behind seq") == 2


def test_a_reader_that_has_enough_is_no_failure(quiet):
    server = quiet.server
    tail = Tail(quiet, "--after", "-1", stdout=subprocess.PIPE)
    quiet.ingest(event())
    tail.process.stdout.readline()
    tail.process.stdout.close()
    tail.process.stdout = None
    quiet.ingest(event())
    quiet.ingest(event())
    assert tail.end()[0] == 0
    assert server.running()


def test_a_line_for_people_on_a_terminal(quiet):
    ours, theirs = pty.openpty()
    try:
        tail = Tail(quiet, stdout=theirs)
        os.close(theirs)
        ready(quiet)
        quiet.ingest(event("user.created", actor={"type": "user", "id": "usr_1"}, target_type="doc", target_id="d1",
                           description="calm \x1b[31mred"))
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(ours, 4096)
        text = line.decode()
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z +\d+  user\.created +user:usr_1 +doc:d1 ", text), text
        assert r"calm \x1b[31mred" in text and "\x1b" not in text
        assert tail.stop()[0] == 0
    finally:
        os.close(ours)


def test_the_form_can_be_chosen(quiet):
    tail = Tail(quiet, "--format", "line")
    ready(quiet)
    quiet.ingest(event("user.created"))
    assert "  user.created  " in tail.process.stdout.readline()
    tail.stop()


def test_what_cannot_work_is_said_at_once(quiet, make_server):
    for arguments, code, words in [
        (["--filter", "nonsense=1"], 1, "nonsense"),
        (["--filter", "nonsense"], 2, "name=value"),
        (["--after", "100000"], 1, "no event 100000"),
        (["--after", "-2"], 2, "--after"),
        (["--format", "xml"], 2, "--format"),
    ]:
        tail = Tail(quiet, *arguments)
        ended = tail.end()
        assert ended[0] == code and ended[1] == "" and words in ended[2], ended
    down = make_server().start()
    client = down.client()
    down.terminate()
    code, _, err = Tail(client).end()
    assert code == 1 and "start annal serve" in err


def test_a_full_node_is_waited_for(make_server):
    server = make_server(settings="limits:\n  tails: 1\n").start()
    client = server.client()
    first = Tail(client)
    ready(client)
    second = Tail(client, "--after", str(client.count() - 1))  # whenever it gets in, it misses nothing
    assert "maximum of 1" in second.process.stderr.readline()
    first.stop()
    client.ingest(event("got.in"))
    assert second.lines(1)[0]["action"] == "got.in"
    assert second.stop()[0] == 0
