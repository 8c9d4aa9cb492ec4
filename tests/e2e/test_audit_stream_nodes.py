"""Audit streams on several nodes of one database: any takes orders, one delivers, another takes over."""

import os
import signal
import time

import pytest
from annal_server import event, wait_until
from test_audit_streams import get, seqs, steer, to_hook


def caught_up(client, stream):
    wait_until(lambda: get(client, stream)["lag_events"] == 0, 30, "the stream's end")


def owner_of(nodes, both, stream):
    """The server that delivers the stream, and the client of the other."""
    def found():
        states = [get(client, stream)["state"] for client in both]
        return states if "standby" in states and "starting" not in states else None

    states = wait_until(found, 20, "one on stand-by")
    at = 1 - states.index("standby")
    return nodes[at], both[1 - at]


def test_what_one_makes_the_other_knows_and_one_of_them_delivers(nodes, both, receiver):
    here, there = both
    stream = to_hook(here, receiver, start="earliest")
    assert get(there, stream)["id"] == stream["id"]
    for client in (here, there) * 5:
        client.ingest(event(), event())
    for client in both:
        caught_up(client, stream)
    assert seqs(receiver.requests) == list(range(here.count())), "each once, in order"
    assert sorted(get(client, stream)["state"] for client in both) == ["active", "standby"]
    assert [get(client, stream)["cursor_seq"] for client in both] == [here.count() - 1] * 2


@pytest.mark.parametrize("verb", ["pause", "revoke"])
def test_no_request_begins_after_the_other_node_has_answered(nodes, both, receiver, verb):
    receiver.answer = lambda _: time.sleep(0.01) or 200
    stream = to_hook(both[0], receiver, batch={"max_events": 1})
    _, other = owner_of(nodes, both, stream)
    for _ in range(3):
        other.ingest(*[event() for _ in range(500)])
    receiver.wait_for(lambda requests: len(requests) > 10)
    if verb == "pause":
        assert steer(other, stream, "pause").json()["status"] == "paused"
    else:
        assert other.delete(f"/v1/audit/streams/{stream['id']}").status == 204
    at = time.monotonic()
    assert get(other, stream)["lag_events"] > 0, "there is something left to send"
    time.sleep(1)
    assert [r for r in receiver.requests if r.at > at + 0.1] == []


def test_a_change_reaches_the_node_that_delivers(nodes, both, receiver):
    stream = to_hook(both[0], receiver)
    _, other = owner_of(nodes, both, stream)
    answer = other.request("PATCH", f"/v1/audit/streams/{stream['id']}", {"events": ["picked.*"]})
    assert answer.status == 200
    caught_up(other, stream)
    time.sleep(1.5)
    before = len(receiver.requests)
    other.ingest(event("picked.one"), event("left.out"))
    receiver.wait_for(lambda requests: len(requests) > before)
    caught_up(other, stream)
    assert len(seqs(receiver.requests[before:])) == 1


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_the_other_sends_what_was_planned(nodes, both, receiver, how):
    """The owner goes while its batch is with a destination that never answers: the same bytes come from the other node."""
    hold = {"on": True}
    receiver.answer = lambda _: time.sleep(30) if hold["on"] else 200
    stream = to_hook(both[0], receiver)
    both[0].ingest(*[event() for _ in range(7)])
    receiver.wait_for(lambda requests: len(requests) == 1)
    owner, other = owner_of(nodes, both, stream)
    if how == "killed":
        owner.kill()
    else:
        os.kill(owner.process.pid, signal.SIGSTOP)
    other.ingest(event(), event())
    hold["on"] = False
    receiver.wait_for(lambda requests: len(requests) >= 2, 20)
    first, again = receiver.requests[:2]
    assert again.body == first.body and again.headers["idempotency-key"] == first.headers["idempotency-key"]
    assert int(again.headers["stream-fence"]) > int(first.headers["stream-fence"])
    caught_up(other, stream)
    if how == "frozen":
        os.kill(owner.process.pid, signal.SIGCONT)
        time.sleep(2)
    else:
        owner.start()
    delivered = seqs(receiver.requests[1:])
    assert sorted(set(delivered)) == list(range(1, other.count())) and delivered == sorted(delivered)
    assert get(other, stream)["cursor_seq"] == other.count() - 1
