"""Erasing a person's data: every role, every way to read, every copy; whatever crashes on the way."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from annal_server import STORE, event, expect_problem, wait_until
from scripted_receiver import Receiver
from test_audit_streams import steer, to_hook
from test_cli import rows, run
from test_stream_outcomes import dump

ERASURES = "/v1/audit/erasures"
SUBJECT = "usr_subject-4711"
MAIL = "elderflower@example.com"
WORDS = (SUBJECT, MAIL, "198.51.100.77", "Netscape/4711", "Sesame-Street-4711", "walked-the-dog-4711", "ext-4711")


def own_act(**more):
    return event("user.changed", **{
        "user_id": SUBJECT, "actor": {"type": "user", "id": SUBJECT, "email": MAIL}, "target_type": "user", "target_id": SUBJECT,
        "external_id": f"{SUBJECT}/ext-4711", "organization_id": "org_1", "client_id": "cli_1", "ip": "198.51.100.77",
        "user_agent": "Netscape/4711", "description": "walked-the-dog-4711", "metadata": {"street": "Sesame-Street-4711"}} | more)


def of_admin(**more):
    """An administrator acts on the person."""
    return own_act(**{"actor": {"type": "user", "id": "usr_admin", "email": "admin@example.com"}} | more)


def by_subject(**more):
    """The person acts on another."""
    return own_act(**{"user_id": "usr_other", "target_id": "usr_other"} | more)


def other(**more):
    return event("user.seen", **{"user_id": SUBJECT + "0", "actor": {"type": "user", "id": SUBJECT + "0"},
                                 "ip": "203.0.113.1", "metadata": {"street": "Elm"}} | more)


def ask(project, user_id=SUBJECT):
    answer = project.post(ERASURES, {"user_id": user_id})
    assert answer.status == 202, answer
    return answer.json()


def look(project, erasure):
    answer = project.get(f"{ERASURES}/{erasure['id']}")
    assert answer.status == 200, answer
    return answer.json()


def completed(project, erasure, seconds=120):
    return wait_until(lambda: (lambda e: e if e["status"] == "completed" else None)(look(project, erasure)), seconds,
                      what="the erasure")


def erase(project, user_id=SUBJECT):
    return completed(project, ask(project, user_id))


def found_in(text):
    text = text if isinstance(text, bytes) else text.encode()
    # A dump shows values of bytea in hexadecimal digits.
    return [word for word in WORDS if word.encode() in text or word.encode().hex().encode() in text]


def table_files(postgres_cluster, server):
    """What is in the files of the tables and indexes, after a checkpoint."""
    postgres_cluster.sql(server.database, "CHECKPOINT")
    folder = postgres_cluster.sql(server.database, "SELECT current_setting('data_directory')")
    paths = postgres_cluster.sql(
        server.database,
        "WITH own AS (SELECT oid, reltoastrelid FROM pg_class WHERE relnamespace = 'public'::regnamespace) "
        "SELECT pg_relation_filepath(c.oid) FROM pg_class c WHERE pg_relation_filepath(c.oid) IS NOT NULL AND "
        "(c.oid IN (SELECT oid FROM own) OR c.oid IN (SELECT reltoastrelid FROM own))").split()
    for path in paths:
        yield from Path(folder).glob(path + "*")


def expect_no_trace(server, postgres_cluster):
    if STORE == "postgres":
        assert found_in(dump(server, b"host.erasures")) == []
        files = list(table_files(postgres_cluster, server))
    else:
        files = [path for path in server.data_dir.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert found_in(path.read_bytes()) == [], path


@pytest.fixture
def cluster(request):
    return request.getfixturevalue("postgres_cluster") if STORE == "postgres" else None


@pytest.fixture
def make_receiver():
    made = []

    def make(answer):
        made.append(Receiver(answer))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


# --- what is asked


@pytest.mark.parametrize("body, status", [
    ({}, 422), ({"user_id": ""}, 422), ({"user_id": "  "}, 422), ({"user_id": 4}, 422), ({"user_id": "x" * 257}, 422),
    ({"user_id": "a\0b"}, 422), ({"user_id": "u", "why": "so"}, 422), ([], 400), ({"user_id": None}, 422), ({"user_id": True}, 422),
    ({"user_id": ["u"]}, 422), ({"user_id": {"id": "u"}}, 422), ({"user_id": "\t\r\n"}, 422), ({"user_id": "\u00e9" * 129}, 422),
    ("", 400), ("null", 400), ('{"user_id":"u"} x', 400), ('{"user_id":"u","user_id":"v"}', 422), (b'{"user_id":"\xff"}', 400),
    ('{"user_id":"\\ud800"}', 400), ('{"user_id":' + "[" * 100 + "]" * 100 + "}", 400), ({"user_id": "x" * (64 << 10)}, 413)])
def test_what_it_refuses(project, body, status):
    expect_problem(project.post(ERASURES, body), status)
    assert project.get(ERASURES).json()["data"] == []
    # What is refused is not exported either.
    expect_problem(project.post("/v1/audit/subjects/export", body), status)
    assert project.page("?type=user.*")["data"] == []


def test_an_unknown_erasure_is_404_also_to_another_project(root, project):
    expect_problem(project.get(f"{ERASURES}/era_01J0000000000000000000000Z"), 404)
    mine = ask(project)
    expect_problem(root.new_project().get(f"{ERASURES}/{mine['id']}"), 404)


def test_a_reader_may_not_erase(project):
    reader = project.make_key(["audit:read", "audit:ingest"])
    expect_problem(reader.post(ERASURES, {"user_id": SUBJECT}), 403, "audit:write")
    expect_problem(reader.get(ERASURES), 403)


@pytest.mark.parametrize("scopes, erases, exports", [
    (["audit:write"], 202, 403), (["audit:read"], 403, 200), (["audit:ingest", "keys:write", "streams:write"], 403, 403),
    (["admin"], 202, 200)])
def test_which_scope_is_for_what(project, scopes, erases, exports):
    key = project.make_key(scopes)
    assert key.post(ERASURES, {"user_id": "usr_nobody"}).status == erases
    assert key.get(ERASURES).status == (200 if erases == 202 else 403)
    assert key.post("/v1/audit/subjects/export", {"user_id": "usr_nobody"}).status == exports
    revoked = project.make_key(scopes)
    assert project.delete(f"/v1/api-keys/{revoked.key_id}").status == 204
    expect_problem(revoked.post(ERASURES, {"user_id": "usr_nobody"}), 401)


def test_no_header_leads_to_another_project(root, project):
    neighbour = root.new_project()
    receipt = neighbour.ingest(own_act())[0]
    there = {"Annal-Project": neighbour.project}
    asked = project.post(ERASURES, {"user_id": SUBJECT}, headers=there)
    assert asked.status == 202 and completed(project, asked.json())["events"] == 0
    assert project.post("/v1/audit/subjects/export", {"user_id": SUBJECT}, headers=there).text == ""
    assert [e["id"] for e in project.get(ERASURES, headers=there).json()["data"]] == [asked.json()["id"]]
    assert neighbour.get(ERASURES).json()["data"] == []
    assert "erased" not in neighbour.get(f"/v1/audit/events/{receipt['id']}").json()


def test_erasures_are_listed_newest_first(project):
    made = [erase(project, f"usr_{n}")["id"] for n in range(3)]
    page = project.get(f"{ERASURES}?limit=2").json()
    assert [e["id"] for e in page["data"]] == made[:0:-1] and page["has_more"]
    page = project.get(f"{ERASURES}?limit=2&cursor={page['next_cursor']}").json()
    assert [e["id"] for e in page["data"]] == made[:1] and not page["has_more"] and page["next_cursor"] is None
    expect_problem(project.get(f"{ERASURES}?cursor=x"), 400)
    for query in ("limit=201", "limit=0", "limit=-1", "limit=1.0", "limit=", "limit=99999999999999999999", "cursor=era_%00", "cursor=era_%ff"):
        expect_problem(project.get(f"{ERASURES}?{query}"), 400)
    assert project.get(f"{ERASURES}?cursor=era_").json()["data"] == []
    for name in ("era_%00", "%ff"):
        expect_problem(project.get(f"{ERASURES}/{name}"), 400)
    for name in ("..", "%2e%2e", "era_", "era_" + "0" * 5_000):
        expect_problem(project.get(f"{ERASURES}/{name}"), 404)


# --- what becomes of events


def test_events_stay_in_their_place_without_what_is_personal(project):
    receipts = project.ingest(own_act(), of_admin(), by_subject(), other())
    before = project.count()
    done = erase(project)
    assert (done["events"], done["paused_by"]) == (3, None)
    assert done["through_seq"] >= receipts[2]["seq"] and done["completed_at"] > done["requested_at"]
    assert SUBJECT not in json.dumps(done)
    own, admins, subjects, others = (project.get(f"/v1/audit/events/{r['id']}").json() for r in receipts)
    for e, receipt in zip((own, admins, subjects), receipts):
        assert (e["id"], e["seq"], e["created_at"]) == (receipt["id"], receipt["seq"], receipt["created_at"])
        assert e["erased"] is True and e["metadata"] == {} and e["action"] == "user.changed"
        assert (e["organization_id"], e["client_id"], e["target_type"], e["actor"]["type"]) == ("org_1", "cli_1", "user", "user")
        assert not {"ip", "user_agent", "description", "external_id"} & set(e)
    assert own["actor"] == {"type": "user", "id": None} and own["user_id"] is own["target_id"] is None
    assert admins["actor"] == {"type": "user", "id": "usr_admin", "email": "admin@example.com"}
    assert admins["user_id"] is admins["target_id"] is None
    assert subjects["actor"] == {"type": "user", "id": None}
    assert (subjects["user_id"], subjects["target_id"]) == ("usr_other", "usr_other")
    assert "erased" not in others and others["user_id"] == SUBJECT + "0" and others["metadata"] == {"street": "Elm"}
    assert project.count() == before + 1  # the record


def test_no_way_to_read_finds_the_person(project):
    project.ingest(*[own_act() for _ in range(30)], *[of_admin() for _ in range(30)], *[other() for _ in range(10)])
    erase(project)
    for query in (f"?user={SUBJECT}", f"?actor={SUBJECT}", f"?target={SUBJECT}", "?q=walked-the-dog", f"?q={SUBJECT.upper()}&user={SUBJECT}",
                  "?ip=198.51.100.77", f"?external_id={SUBJECT}/ext-4711"):
        assert project.page(query)["data"] == [], query
    assert len(project.walk("?type=user.changed")) == 60
    types = {row["action"]: row["count"] for row in project.get("/v1/audit/events/types").json()["data"]}
    assert (types["user.changed"], types["user.seen"], types["user.data_purged"]) == (60, 10, 1)
    rows = project.get("/v1/audit/events/aggregate?group_by=user_id").json()["buckets"][0]["rows"]
    assert [(row["key"], row["count"]) for row in rows] == [(SUBJECT + "0", 10)]
    everything = [project.get(path).text for path in (
        "/v1/audit/events?limit=200", "/v1/audit/events.csv", "/v1/audit/events.jsonl", "/v1/audit-events?limit=200",
        "/api/logging/audit/?limit=250", "/api/admin/audit?pageSize=100", f"/v1/accounts/{project.project}/events?limit=100")]
    for text in everything:
        assert len(text) > 5_000
        assert found_in(text.replace(SUBJECT + "0", "")) == []


def test_the_record_names_who_asked_and_not_whose_data_it_was(project):
    project.ingest(own_act(), of_admin())
    asked = ask(project)
    done = completed(project, asked)
    (record,) = project.page("?type=user.data_purged")["data"]
    assert record["actor"] == {"type": "api_key", "id": project.key_id}
    assert record["metadata"] == {"erasure_id": done["id"], "events": 2}
    assert found_in(json.dumps(record)) == []
    assert done["requested_by"] == {"type": "api_key", "id": project.key_id}


def test_another_project_keeps_its_events(root, project):
    neighbour = root.new_project()
    neighbour.ingest(own_act())
    project.ingest(own_act())
    erase(project)
    assert len(neighbour.page(f"?user={SUBJECT}")["data"]) == 1


def test_what_comes_afterwards_is_new_data_and_can_be_erased_again(project):
    project.ingest(own_act())
    first = erase(project)
    project.ingest(own_act())
    assert len(project.page(f"?user={SUBJECT}")["data"]) == 1
    second = erase(project)
    assert (first["events"], second["events"]) == (1, 1) and first["id"] != second["id"]


def test_a_person_without_events_is_done_with_and_recorded(project):
    done = erase(project, "usr_nobody")
    assert done["events"] == 0 and set(done["copies"].values()) == {0}
    (record,) = project.page("?type=user.data_purged")["data"]
    assert record["metadata"] == {"erasure_id": done["id"], "events": 0}
    assert erase(project, "usr_nobody")["id"] != done["id"]


NAMES = ["\u00e9\u4e2d\U0001f600", "e\u0301", "\u00e9", "\u00a0", "usr_1 ", "usr_1", "Usr_1", "a/b?c#d%00", '"quoted\\"', "'; DROP TABLE x; --",
         "x" * 256, "\u00e9" * 128, "%", "_", "\u2028", "\x01\x7f", "null", "*"]


def test_names_are_compared_byte_by_byte(project):
    """None of them takes another's events along, whatever it means elsewhere."""
    receipts = project.ingest(*[event("user.came", actor={"type": "user", "id": name}, metadata={"n": n}) for n, name in enumerate(NAMES)])
    for n, name in enumerate(NAMES):
        lines = project.post("/v1/audit/subjects/export", {"user_id": name}).text.split("\n")[:-1]
        assert [json.loads(line)["metadata"] for line in lines] == [{"n": n}], name
    # Each second one; without the records of the exports, which name them, too.
    for asked in [ask(project, name) for name in NAMES[::2]]:
        assert completed(project, asked)["events"] == 2
    for n, (name, receipt) in enumerate(zip(NAMES, receipts)):
        stored = project.get(f"/v1/audit/events/{receipt['id']}").json()
        expected = ({}, None) if n % 2 == 0 else ({"n": n}, name)
        assert (stored["metadata"], stored["actor"]["id"]) == expected, name


def test_words_that_the_log_itself_uses(project):
    """A person may be named like a type or an action; the event stays what it is."""
    names = ["user", "api_key", "user.came", "org_1", project.project]
    receipts = project.ingest(*[event("user.came", actor={"type": "user", "id": name}, user_id=name, target_type="user",
                                      organization_id="org_1", metadata={"n": 1}) for name in names])
    for asked in [ask(project, name) for name in names]:
        assert completed(project, asked)["events"] == 1
    for receipt in receipts:
        stored = project.get(f"/v1/audit/events/{receipt['id']}").json()
        assert (stored["action"], stored["project_id"], stored["seq"]) == ("user.came", project.project, receipt["seq"])
        assert stored["erased"] and stored["actor"]["id"] is stored["user_id"] is None and stored["metadata"] == {}
    assert len(project.page("?type=user.came")["data"]) == len(names)


def test_a_retried_request_does_not_bring_the_event_back(project):
    body = own_act(idempotency_key=f"login-{SUBJECT}-1")
    receipt = project.ingest(body)[0]
    erase(project)
    assert project.post("/v1/audit/events", body).json()["id"] == receipt["id"]
    assert project.page(f"?user={SUBJECT}")["data"] == []


def test_two_at_once_join(project):
    project.ingest(*[own_act() for _ in range(200)])
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: ask(project), range(60)))
    for answer in answers:
        completed(project, answer)
    assert sum(look(project, {"id": i})["events"] for i in {a["id"] for a in answers}) == 200
    assert len({a["id"] for a in answers}) < 60


def test_a_tail_and_a_stream_show_the_marker(project, receiver):
    project.ingest(own_act())
    erase(project)
    to_hook(project, receiver, start="earliest")
    lines = wait_until(lambda: [line for request in receiver.requests for line in request.lines if "user.changed" in line],
                       what="the stream")
    assert json.loads(lines[0])["erased"] is True and found_in(lines[0]) == []


# --- the hold


def test_a_legal_hold_refuses_and_pauses(project):
    project.ingest(*[own_act() for _ in range(5)])
    assert project.put("/v1/config/legal_hold", True).status == 200
    answer = project.post(ERASURES, {"user_id": SUBJECT})
    expect_problem(answer, 409, "legal hold")
    assert answer.json()["code"] == "legal_hold"
    assert len(project.page(f"?user={SUBJECT}")["data"]) == 5
    assert project.put("/v1/config/legal_hold", False).status == 200
    assert erase(project)["events"] == 5


def test_a_hold_keeps_nobody_from_seeing_their_data(project):
    project.ingest(own_act())
    assert project.put("/v1/config/legal_hold", True).status == 200
    assert len(project.post("/v1/audit/subjects/export", {"user_id": SUBJECT}).text.splitlines()) == 1
    assert project.get(ERASURES).json()["data"] == []


def test_a_hold_that_begins_meanwhile_pauses(make_server):
    server = make_server().start()
    project = server.client()
    project.ingest(*[own_act() for _ in range(3_000)])
    erasure = ask(project)
    assert project.put("/v1/config/legal_hold", True).status == 200
    time.sleep(1.5)
    paused = look(project, erasure)
    if paused["status"] == "running":
        assert paused["paused_by"] == "legal_hold"
        time.sleep(1)
        assert look(project, erasure)["events"] == paused["events"]
    assert project.put("/v1/config/legal_hold", False).status == 200
    assert completed(project, erasure)["events"] == 3_000


# --- crashes


def test_it_goes_on_after_kills_and_counts_each_event_once(make_server):
    server = make_server(settings="sqlite: {segment_events: 1000}\n")
    server.start()
    project = server.client()
    for _ in range(6):
        project.ingest(*[own_act() for _ in range(600)], *[other() for _ in range(100)])
    erasure, seen = ask(project), []
    for pause in (0.02, 0.05, 0.1, 0.2, 0.4, 0.1, 0.3):
        time.sleep(pause)
        server.kill()
        server.start()
        project = server.client()
        seen.append(look(project, erasure))
        if seen[-1]["status"] == "completed":
            break
    assert seen[0]["status"] == "running", "the first kill was on the way"
    done = completed(project, erasure)
    assert done["events"] == 3_600
    assert len(project.page("?type=user.data_purged")["data"]) == 1
    assert project.page(f"?user={SUBJECT}")["data"] == []
    assert len(project.walk("?type=user.seen")) == 600
    server.terminate()
    if STORE == "sqlite":
        answer = server.cli("check", "--json")
        assert answer.returncode == 0, answer
        for path in server.data_dir.rglob("*"):
            if path.is_file():
                assert found_in(path.read_bytes().replace((SUBJECT + "0").encode(), b"")) == [], path


def test_another_node_goes_on(nodes, both):
    """On one database, whatever the other tests run on."""
    here, there = both
    for _ in range(4):
        here.ingest(*[own_act() for _ in range(1_000)])
    erasure = ask(here)
    nodes[0].kill()
    assert look(there, erasure)["status"] == "running", "the kill was on the way"
    done = completed(there, erasure)
    assert done["events"] == 4_000
    assert there.page(f"?user={SUBJECT}")["data"] == []
    assert len(there.page("?type=user.data_purged")["data"]) == 1


# --- copies


def test_nothing_is_left_anywhere(make_server, cluster, make_receiver):
    """Open plans, webhook deliveries, kept answers, dead letters, keys, files."""
    server = make_server().start()
    project = server.client()
    echo = make_receiver(lambda r: (500, {}, r.body))  # says what it was sent
    refuses = make_receiver(lambda r: (422, {}, r.body))
    made = project.post("/v1/webhooks/endpoints", {"url": echo.url, "events": ["user.*"]})
    assert made.status == 201, made
    seqs = {r["seq"] for r in project.ingest(own_act(idempotency_key=f"k-{SUBJECT}"), of_admin(), by_subject())}
    to_hook(project, echo, start="earliest")
    refusing = to_hook(project, refuses, name="refuses", start="earliest")

    def letters():
        return project.get(f"/v1/audit/streams/{refusing['id']}/dead-letters").json()["data"]

    def attempts():
        data = project.get("/v1/webhooks/deliveries").json()["data"]
        return data and all(d["attempts"] >= 1 for d in data) and data
    wait_until(attempts, what="attempts")
    kept = json.dumps([project.get(f"/v1/webhooks/deliveries/{d['id']}").json() for d in attempts()])
    assert found_in(kept), "the test's own premise: answers are kept"
    wait_until(lambda: any(found_in(r.body) for r in echo.requests if len(r.lines) > 1), what="the stream")
    wait_until(lambda: seqs <= {letter["seq"] for letter in letters()}, what="the dead letters")
    assert found_in(json.dumps(letters())), "the test's own premise"
    done = erase(project)
    assert done["copies"]["webhook_attempts"] > 0 and done["copies"]["dead_letters"] >= 3
    time.sleep(0.5)
    sent = len(echo.requests), len(refuses.requests)
    for delivery in project.get("/v1/webhooks/deliveries").json()["data"]:
        shown = project.get(f"/v1/webhooks/deliveries/{delivery['id']}").text
        assert found_in(shown) == []
        assert project.post(f"/v1/webhooks/deliveries/{delivery['id']}/replay").status == 202
    for stream in project.get("/v1/audit/streams").json()["data"]:
        assert found_in(project.get(f"/v1/audit/streams/{stream['id']}/dead-letters").text) == []

    def came_again():
        """Of the stream and of the endpoint. What fails has been waiting for longer and longer."""
        later = echo.requests[sent[0]:]
        return len(later) >= 4 and {len(r.lines) > 1 for r in later} == {True, False}
    wait_until(came_again, 180, what="later attempts")
    for request in echo.requests[sent[0]:] + refuses.requests[sent[1]:]:
        assert found_in(request.body) == []
    server.terminate()
    expect_no_trace(server, cluster)


def test_what_attempts_that_were_under_way_are_answered_goes_too(make_server, cluster, make_receiver):
    server = make_server().start()
    project = server.client()
    may_answer = threading.Event()

    def in_the_end(status):
        def answer(request):
            may_answer.wait(10)
            return status, {}, request.body
        return answer
    echo, refuses = make_receiver(in_the_end(500)), make_receiver(in_the_end(422))
    project.post("/v1/webhooks/endpoints", {"url": echo.url, "events": ["user.*"]})
    stream = to_hook(project, refuses, events=["user.*"])
    project.ingest(own_act())
    wait_until(lambda: all(any(found_in(r.body) for r in receiver.requests) for receiver in (echo, refuses)), what="attempts")
    asked = ask(project)
    wait_until(lambda: look(project, asked)["events"] == 1, what="the event without the person")
    may_answer.set()

    def told():
        """What the attempts have left, as the API shows it."""
        deliveries = project.get("/v1/webhooks/deliveries").json()["data"]
        shown = "".join(project.get(f"/v1/webhooks/deliveries/{delivery['id']}").text for delivery in deliveries)
        letters = project.get(f"/v1/audit/streams/{stream['id']}/dead-letters").json()["data"]
        return shown, json.dumps(letters)
    wait_until(lambda: all(found_in(text) for text in told()), what="the answers (the test's own premise)")
    assert look(project, asked)["status"] == "running", "what may be answered yet is waited for"
    done = completed(project, asked)
    assert done["copies"]["webhook_attempts"] >= 1 and done["copies"]["dead_letters"] >= 1
    assert [found_in(text) for text in told()] == [[], []]
    for path in ("/v1/audit/events", "/v1/audit/streams", "/v1/webhooks/endpoints"):
        assert found_in(project.get(path).text) == []
    server.terminate()
    expect_no_trace(server, cluster)


def test_a_stream_that_is_held_up_sends_its_plan_without_the_person(make_server, make_receiver):
    server = make_server().start()
    project = server.client()
    works = threading.Event()
    receiver = make_receiver(lambda _: 200 if works.is_set() else 503)
    project.ingest(own_act(), other(), of_admin())
    stream = to_hook(project, receiver, start="earliest")
    wait_until(lambda: any(found_in(r.body) for r in receiver.requests), what="a first attempt")
    erase(project)
    time.sleep(0.3)
    before = len(receiver.requests)
    works.set()
    for verb in ("pause", "resume"):  # instead of waiting for the next attempt
        assert steer(project, stream, verb).status == 200
    lines = wait_until(
        lambda: (lambda got: got if any("user.data_purged" in line for line in got) else None)(
            [line for r in receiver.requests[before:] for line in r.lines]), what="the rest")
    assert found_in("\n".join(lines).replace(SUBJECT + "0", "")) == []
    seqs = [json.loads(line)["seq"] for line in lines]
    assert list(dict.fromkeys(seqs)) == list(range(min(seqs), max(seqs) + 1))
    assert project.page("?type=audit_stream.replanned")["data"]


# --- Art. 20


def test_the_export_of_one_person_holds_all_of_theirs_and_is_recorded_first(project):
    receipts = project.ingest(own_act(), of_admin(), other(), by_subject())
    answer = project.post("/v1/audit/subjects/export", {"user_id": SUBJECT})
    assert answer.status == 200 and answer.headers["content-type"] == "application/x-ndjson"
    events = [json.loads(line) for line in answer.text.splitlines()]
    assert sorted(e["seq"] for e in events) == [receipts[n]["seq"] for n in (0, 1, 3)]
    assert events[0] == project.get(f"/v1/audit/events/{events[0]['id']}").json()
    (record,) = project.page("?type=user.data_exported")["data"]
    assert (record["user_id"], record["target_type"], record["target_id"]) == (SUBJECT, "user", SUBJECT)
    assert record["actor"] == {"type": "api_key", "id": project.key_id}
    erase(project)
    assert project.post("/v1/audit/subjects/export", {"user_id": SUBJECT}).text == ""
    expect_problem(project.post("/v1/audit/subjects/export", {"user_id": " "}), 422)


def test_an_export_of_many_rows(project):
    for _ in range(5):
        project.ingest(*[own_act() for _ in range(500)], *[by_subject() for _ in range(100)], *[other() for _ in range(100)])
    answer = project.post("/v1/audit/subjects/export", {"user_id": SUBJECT})
    seqs = [json.loads(line)["seq"] for line in answer.text.splitlines()]
    assert len(seqs) == len(set(seqs)) == 3_000


# --- the command line


def test_the_command_line_asks_shows_and_lists(server, project):
    def cli(*arguments, **more):
        return run(server, "erasures", arguments[0], "--project", project.project, *arguments[1:], **more)

    project.ingest(own_act(), other())
    assert rows(cli("list")) == []
    asked = cli("create", "--user-id", SUBJECT)
    (made,) = rows(asked)
    assert asked.stderr == "" and found_in(asked.stdout) == []
    assert made["status"] == "running" and made["requested_by"] == {"type": "system", "id": "local"}
    shown = wait_until(lambda: (lambda e: e if e["status"] == "completed" else None)(rows(cli("show", made["id"]))[0]), 60, "its end")
    assert shown == look(project, made) and shown["events"] == 1
    assert project.page(f"?user={SUBJECT}")["data"] == [] and len(project.page(f"?user={SUBJECT}0")["data"]) == 1
    (record,) = project.page("?type=user.data_purged")["data"]
    assert record["actor"] == {"type": "system", "id": "local"}
    (nobody,) = rows(cli("create", "--user-id", "usr_nobody"))
    assert completed(project, nobody)["events"] == 0, "somebody of whom there is nothing is no error"
    assert [e["id"] for e in rows(cli("list"))] == [nobody["id"], made["id"]]
    assert rows(cli("list"))[1] == shown


def test_the_command_line_says_what_is_in_the_way(server, root, project):
    def refused(code, *arguments):
        done = run(server, "erasures", *arguments, code=code)
        assert done.stdout == "" and done.stderr, done
        return done.stderr

    mine = ("--project", project.project)
    assert "--user-id is required" in refused(2, "create", *mine)
    assert "--project is required" in refused(2, "create", "--user-id", SUBJECT)
    assert "--project is required" in refused(2, "list")
    assert "id is required" in refused(2, "show", *mine)
    refused(2)
    for user_id in ("", "  ", "x" * 257):
        assert refused(1, "create", *mine, "--user-id", user_id).startswith("annal: ")
    assert "no erasure has this id" in refused(1, "show", *mine, "era_01J0000000000000000000000Z")
    theirs = erase(root.new_project())
    assert "no erasure has this id" in refused(1, "show", *mine, theirs["id"])
    assert project.put("/v1/config/legal_hold", True).status == 200
    said = refused(1, "create", *mine, "--user-id", SUBJECT)
    assert "legal hold" in said and SUBJECT not in said
    assert rows(run(server, "erasures", "list", *mine)) == []


def test_what_is_asked_for_without_a_server_is_done_by_the_next(make_server):
    server = make_server().start()
    project = server.client().new_project()
    project.ingest(own_act())
    server.terminate()
    (made,) = rows(run(server, "erasures", "create", "--project", project.project, "--user-id", SUBJECT))
    (listed,) = rows(run(server, "erasures", "list", "--project", project.project))
    assert listed == made and made["status"] == "running"
    server.start()
    assert completed(server.client(project.secret, project.project), made)["events"] == 1
