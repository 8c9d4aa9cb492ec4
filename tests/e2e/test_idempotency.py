"""Idempotency keys: a request that is sent again is stored once and answered alike."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from annal_server import event, expect_problem

KEY = {"Idempotency-Key": "request-1"}


def receipts(answer):
    """What an answer says was stored, without what is said besides."""
    rows = answer.json()
    return [{key: row[key] for key in ("id", "seq", "created_at")} for row in rows.get("data", [rows])]


def test_a_replay_answers_alike_with_200(project):
    body = {"events": [event(metadata={"n": i}) for i in range(3)]}
    first = project.post("/v1/audit/events", body, headers=KEY)
    assert first.status == 201, first
    count = project.count()
    again = project.post("/v1/audit/events", body, headers=KEY)
    assert again.status == 200, again
    assert receipts(again) == receipts(first)
    assert project.count() == count


def test_a_replay_of_one_event_answers_alike(project):
    first = project.post("/v1/audit/events", event(), headers=KEY)
    again = project.post("/v1/audit/events", event(), headers=KEY)
    assert (first.status, again.status) == (201, 200)
    assert receipts(again) == receipts(first)


def test_the_same_content_in_another_spelling_is_a_replay(project):
    one = '{"action":"a.b","actor":{"type":"user","id":"u"},"user_id":null}'
    other = ' {"actor_id":"u", "actor_type":"user",\n"action":"\\u0061.b"} '
    first = project.post("/v1/audit/events", one, headers=KEY)
    again = project.post("/v1/audit/events", other, headers=KEY)
    assert (first.status, again.status) == (201, 200)
    assert first.json()["id"] == again.json()["id"]


@pytest.mark.parametrize("other", [
    {"events": [event(), event(user_id="other")]}, {"events": [event()]}, {"events": [event(), event(), event()]}],
    ids=["other content", "fewer", "more"])
def test_the_same_key_with_other_content_is_409(project, other):
    assert project.post("/v1/audit/events", {"events": [event(), event()]}, headers=KEY).status == 201
    count = project.count()
    expect_problem(project.post("/v1/audit/events", other, headers=KEY), 409)
    assert project.count() == count


def test_keys_belong_to_their_project(project, root):
    other = root.new_project()
    first = project.post("/v1/audit/events", event(), headers=KEY)
    second = other.post("/v1/audit/events", event(user_id="x"), headers=KEY)
    assert (first.status, second.status) == (201, 201)


def test_another_api_key_of_the_project_replays_too(project):
    other = project.make_key(["audit:ingest"])
    first = project.post("/v1/audit/events", event(), headers=KEY)
    again = other.post("/v1/audit/events", event(), headers=KEY)
    assert (first.status, again.status) == (201, 200)


def test_keys_of_events_replay_one_by_one(project):
    a, b, c = (event(f"keyed.{n}", idempotency_key=n) for n in "abc")
    first = project.post("/v1/audit/events", {"events": [a, b]})
    assert first.status == 201
    second = project.post("/v1/audit/events", {"events": [b, c]})
    assert second.status == 201, second
    assert second.json()["data"][0]["id"] == first.json()["data"][1]["id"]
    third = project.post("/v1/audit/events", {"events": [c, a]})
    assert third.status == 200, third
    assert [r["id"] for r in third.json()["data"]] == [second.json()["data"][1]["id"], first.json()["data"][0]["id"]]
    assert [e["action"] for e in project.walk("?type=keyed.*")] == ["keyed.c", "keyed.b", "keyed.a"]


def test_a_key_twice_in_one_batch_is_one_event(project):
    twice = [event("keyed.x", idempotency_key="x")] * 2
    answer = project.post("/v1/audit/events", {"events": twice})
    assert answer.status == 201, answer
    one, two = answer.json()["data"]
    assert one["id"] == two["id"]
    assert len(project.walk("?type=keyed.*")) == 1


def test_an_events_key_with_other_content_is_409_and_stores_nothing(project):
    project.ingest(event(idempotency_key="x"))
    count = project.count()
    answer = project.post("/v1/audit/events", {"events": [event(), event(user_id="other", idempotency_key="x")]})
    expect_problem(answer, 409)
    assert project.count() == count


def test_ndjson_with_a_key_replays(project):
    lines = [event(metadata={"n": i}) for i in range(5)]
    first, again = (project.ndjson(lines, headers=KEY) for _ in range(2))
    assert (first.status, again.status) == (201, 200)
    assert receipts(first) == receipts(again)


def test_a_long_ndjson_body_with_a_key_replays_chunk_by_chunk(project):
    lines = [json.dumps({"action": "long.twin", "actor_type": "user", "external_id": str(i)}) for i in range(10_500)]
    first = project.ndjson("\n".join(lines), headers=KEY)
    assert (first.status, first.json()["stored"]) == (201, 10_500), first
    count = project.count()
    again = project.ndjson("\n".join(lines), headers=KEY)
    assert (again.status, again.json()["stored"], again.json()["replayed"]) == (200, 0, 10_500), again
    assert project.count() == count


@pytest.mark.parametrize("key,status", [("x" * 256, 201), ("x" * 257, 400), ("", 400), ("a\tb", 400)])
def test_a_keys_length_and_letters(project, key, status):
    count = project.count()
    answer = project.post("/v1/audit/events", event(), headers={"Idempotency-Key": key})
    assert answer.status == status, answer
    assert project.count() == count + (status == 201)


def test_concurrent_twins_are_stored_once(project):
    body = event("twin.born", metadata={"n": 1})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: project.post("/v1/audit/events", body, headers=KEY), range(16)))
    assert {a.status for a in answers} <= {200, 201}
    assert sum(a.status == 201 for a in answers) == 1
    assert len({a.json()["id"] for a in answers}) == 1
    assert len(project.walk("?type=twin.*")) == 1


def test_a_rejected_request_does_not_use_up_its_key(project):
    assert project.post("/v1/audit/events", event("BAD"), headers=KEY).status == 422
    assert project.post("/v1/audit/events", event(), headers=KEY).status == 201


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_keys_survive_a_restart(make_server, how):
    server = make_server().start()
    client = server.client()
    bodies = [event("kept.x", metadata={"n": i}) for i in range(3)]
    first = [client.post("/v1/audit/events", b, headers={"Idempotency-Key": f"k{i}"}).json() for i, b in enumerate(bodies)]
    single = client.ingest(event("kept.y", idempotency_key="e"))
    getattr(server, how)()
    server.start()
    client = server.client()
    for i, body in enumerate(bodies):
        again = client.post("/v1/audit/events", body, headers={"Idempotency-Key": f"k{i}"})
        assert again.status == 200, again
        assert again.json()["id"] == first[i]["id"]
        assert client.post("/v1/audit/events", event("kept.z"), headers={"Idempotency-Key": f"k{i}"}).status == 409
    assert client.post("/v1/audit/events", event("kept.y", idempotency_key="e")).json()["id"] == single[0]["id"]
    assert len(client.walk("?type=kept.*")) == 4
    assert json.loads(client.export_lines("?type=kept.y")[0])["id"] == single[0]["id"]
