"""Webhooks on several nodes of one database: any takes orders, one delivers, another takes over."""

import os
import signal
import time

import pytest
from annal_server import event, wait_until
from test_webhooks import ENDPOINTS, bodies, create, deliveries, expected_authio, get, ids, steer


def standby(client):
    text = client.get("/metrics", key=False).text
    line = [line for line in text.splitlines()
            if line.startswith("annal_webhook_standby{") and f'project="{client.project}"' in line]
    return int(float(line[0].split()[-1])) if line else None


def owner_of(nodes, both):
    """The number of the node that delivers."""
    wait_until(lambda: sorted(str(standby(client)) for client in both) == ["0", "1"], 20, "one on stand-by")
    return 0 if standby(both[0]) == 0 else 1


def test_what_one_makes_the_other_knows_and_one_of_them_delivers(nodes, both, receiver):
    here, there = both
    made = create(here, receiver, ["a.*"])
    assert get(there, made)["id"] == made["id"]
    posted = [r["id"] for client in (here, there) * 5 for r in client.ingest(event("a.b"), event("a.c"))]
    receiver.wait_for(lambda requests: len(requests) == len(posted))
    wait_until(lambda: deliveries(there, "?status=pending") == [], 20, "what came of them")
    assert sorted(ids(receiver.requests)) == sorted(posted), "each once"
    assert len(deliveries(there, "?status=delivered")) == len(deliveries(here, "?status=delivered")) == len(posted)
    owner_of(nodes, both)


def test_no_attempt_begins_after_the_other_node_has_answered(nodes, both, receiver):
    receiver.answer = lambda _: time.sleep(0.01) or 200
    made = create(both[0], receiver, ["a.*"])
    other = both[1 - owner_of(nodes, both)]
    for _ in range(3):
        other.ingest(*[event("a.b") for _ in range(1_000)])
    receiver.wait_for(lambda requests: len(requests) > 10)
    assert other.delete(f"{ENDPOINTS}/{made['id']}").status == 204
    at = time.monotonic()
    time.sleep(1.5)
    assert len(receiver.requests) < 3_000, "there was something left to send"
    assert [r for r in receiver.requests if r.at > at + 0.1] == []


def test_a_secret_that_the_other_node_rotates_signs_the_next_attempt(nodes, both, receiver):
    made = create(both[0], receiver, ["a.*"])
    at = owner_of(nodes, both)
    owner, other = both[at], both[1 - at]
    new = steer(other, made, "rotate-secret").json()["secret"]
    before = len(receiver.requests)
    owner.ingest(event("a.b"))
    receiver.wait_for(lambda requests: len(requests) > before)
    request = receiver.requests[-1]
    assert request.headers["authio-signature"] == expected_authio(new, request.body)


def test_what_the_other_node_replays_is_sent(nodes, both, receiver):
    create(both[0], receiver, ["a.*"])
    other = both[1 - owner_of(nodes, both)]
    other.ingest(event("a.b"))
    receiver.wait_for(lambda requests: len(requests) == 1)
    (done,) = wait_until(lambda: deliveries(other, "?status=delivered"), 20, "the delivery's end")
    assert other.post(f"/v1/webhooks/deliveries/{done['id']}/replay").status == 202
    receiver.wait_for(lambda requests: len(requests) == 2, timeout=20)
    assert receiver.requests[0].body == receiver.requests[1].body


@pytest.mark.parametrize("end", ["killed", "frozen"])
def test_another_node_takes_over_and_nothing_is_lost(nodes, both, receiver, end):
    create(both[0], receiver, ["a.*"])
    posted = []
    for _ in range(2):
        at = owner_of(nodes, both)
        node, other = nodes[at], both[1 - at]
        posted += [r["id"] for r in other.ingest(*[event("a.b") for _ in range(300)])]
        before = len(receiver.requests)
        receiver.wait_for(lambda requests: len(requests) > before)
        if end == "killed":
            node.kill()
        else:
            os.kill(node.process.pid, signal.SIGSTOP)
        posted += [r["id"] for r in other.ingest(*[event("a.c") for _ in range(50)])]
        receiver.wait_for(lambda requests: set(ids(requests)) >= set(posted))
        if end == "killed":
            node.start()
        else:
            os.kill(node.process.pid, signal.SIGCONT)
    wait_until(lambda: deliveries(both[0], "?status=pending") == [], 30, "what came of them")
    by_id = {}
    for request in receiver.requests:
        assert by_id.setdefault(request.headers["webhook-id"], request.body) == request.body, "again only the same bytes"
    assert set(by_id) == set(posted)
    assert len(receiver.requests) <= len(posted) + 2 * 400, "again only what was not recorded"
    assert {body["action"] for body in bodies(receiver.requests)} == {"a.b", "a.c"}
