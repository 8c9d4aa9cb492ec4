"""AuthPI's calls for a project's events: paths, parameters, events, aggregates and errors."""

import itertools
import re
import threading
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, urlencode

import pytest
from annal_server import bearer, event, raw_object
from test_samples import uuid_form

KEYS = ["id", "type", "timestamp", "account_id", "issuer_id", "user_id", "client_id", "org_id", "agent_id", "auth_type", "actor",
        "resource", "ip", "user_agent", "request", "response", "duration_ms", "metadata"]
DIMENSIONS = ["type", "auth_type", "issuer_id", "user_id", "client_id", "org_id", "agent_id"]
FILTERS = ["issuer_id", "user_id", "client_id", "event_types", "after", "before"]
UNKNOWN_ID = "evt_01J0000000000000000000000Z"
MS_MAX = (2**63 - 1) // 1000  # beyond it a time does not fit into microseconds

# As the API's reference has them.
REFERENCE_TYPES = """
  • User events: user.created, user.updated, user.deleted
  • Session events: session.created, session.terminated, session.expired, user.verification.succeeded, user.verification.failed
  • Client events: client.created, client.updated, client.deleted
  • Organization events: organization.created, organization.membership.created, organization.membership.deleted
"""
TYPES = re.findall(r"[a-z]+(?:\.[a-z]+)+", REFERENCE_TYPES)
REFERENCE_SAMPLE = {
    "interval": "hour",
    "group_by": "type",
    "buckets": [{"ts": 1745779200000,
                 "rows": [{"key": "user.verification.succeeded", "count": 200, "uniques": {"user_id": 142}}]}],
}


def path(client, rest="", **parameters):
    return f"/v1/accounts/{client.project}/events{rest}" + ("?" + urlencode(parameters) if parameters else "")


def ask(client, rest="", **parameters):
    return client.get(path(client, rest, **parameters))


def page(client, **parameters):
    answer = ask(client, **parameters)
    assert answer.status == 200, answer
    found = answer.json()
    assert list(found) == ["data", "next_cursor", "has_more"]
    assert found["has_more"] == (found["next_cursor"] is not None)
    return found


def walk(client, limit=100, **parameters):
    """All events over all pages, newest first."""
    events, cursor = [], {}
    for _ in range(10_000):
        found = page(client, limit=limit, **cursor, **parameters)
        assert len(found["data"]) <= limit
        events += found["data"]
        if not found["has_more"]:
            return events
        cursor = {"cursor": found["next_cursor"]}
    raise AssertionError("the pages have no end")


def aggregate(client, **parameters):
    answer = ask(client, "/aggregate", **parameters)
    assert answer.status == 200, answer
    return answer.json()


def ids(events):
    return [e["id"] for e in events]


def refused(answer, status, error, *words):
    """An error in this API's form; its description."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json", answer
    document = answer.json()
    assert list(document) == ["error", "error_description", "request_id"], document
    assert document["error"] == error, document
    assert document["request_id"] == answer.headers["annal-request-id"]
    assert document["error_description"]
    for word in words:
        assert word in document["error_description"], (word, document)
    return document["error_description"]


def varied(i):
    """Event number i of a log in which every dimension has several values, and none at times."""
    more = {name: f"{name[:3]}_{i % modulus}" for name, modulus, step in (
        ("issuer_id", 2, 3), ("user_id", 7, 2), ("client_id", 5, 4), ("organization_id", 3, 5), ("agent_id", 4, 6)) if i % step}
    if i % 4 == 0:
        more["auth_type"] = ["token", "client", "api_key"][i % 3]
    actor = {"type": ["user", "system", "api_key", "unauthenticated"][i % 4], "id": f"act_{i % 6}"}
    return event(TYPES[i * i % len(TYPES)], actor=actor, metadata={"i": i}, **more)


@pytest.fixture(scope="module")
def filled(root):
    """A project of 300 varied events, of several milliseconds."""
    client = root.new_project()
    for first in range(0, 300, 20):
        client.ingest(*(varied(i) for i in range(first, first + 20)))
    return client


@pytest.fixture(scope="module")
def events(filled):
    """All events of that project, newest first."""
    return walk(filled)


# --- The calls and their answers

def test_the_routes(root):
    plugin, = (p for p in root.get("/v1/plugins").json()["data"] if p["instance"] == "query-authpi")
    base = "/v1/accounts/{account_id}/events"
    assert {(m, r["route"], r["scope"]) for r in plugin["routes"] for m in r["methods"]} == {
        ("GET", route, "audit:read") for route in (base, base + "/aggregate", base + "/{event_id}")}


def test_the_list_and_its_defaults(filled, events):
    native = filled.walk()
    assert ids(events) == [e["id"] for e in native], "newest first"
    found = page(filled)
    assert found["data"] == events[:50] and found["has_more"]
    assert page(filled, limit=1)["data"] == events[:1]
    assert page(filled, limit=100)["data"] == events[:100]
    assert walk(filled, limit=7) == events


def test_an_event_has_every_key(project):
    full = event("client.updated", user_id="u", organization_id="o", client_id="c", issuer_id="i", agent_id="a", auth_type="token",
                 target_type="tt", target_id="ti", ip="192.0.2.7", user_agent="agent/1", description="not shown",
                 metadata={"request": {"method": "PUT"}, "response": {"status": 200}, "duration_ms": 12, "k": [1]},
                 actor={"type": "client", "id": "cli_1", "email": "a@example.com"})
    receipts = project.ingest(full, {"action": "user.created", "actor": {"type": "system"}})
    bare, whole = page(project, limit=2)["data"]
    assert list(whole) == list(bare) == KEYS
    times = [receipt_ms(receipt) for receipt in receipts]
    assert whole == {
        "id": receipts[0]["id"], "type": "client.updated", "timestamp": times[0], "account_id": project.project, "issuer_id": "i",
        "user_id": "u", "client_id": "c", "org_id": "o", "agent_id": "a", "auth_type": "token",
        "actor": {"type": "client", "id": "cli_1", "email": "a@example.com"}, "resource": {"type": "tt", "id": "ti"},
        "ip": "192.0.2.7", "user_agent": "agent/1", "request": {"method": "PUT"}, "response": {"status": 200}, "duration_ms": 12,
        "metadata": full["metadata"]}
    assert bare == dict.fromkeys(KEYS) | {
        "id": receipts[1]["id"], "type": "user.created", "timestamp": times[1], "account_id": project.project,
        "auth_type": "system", "actor": {"type": "system", "id": None, "email": None}, "resource": {"type": None, "id": None},
        "metadata": {}}
    assert type(bare["timestamp"]) is int


def receipt_ms(receipt):
    at = datetime.fromisoformat(receipt["created_at"].replace("Z", "+00:00"))
    return (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)


def test_metadata_and_what_is_taken_from_it_come_byte_for_byte(project):
    request, response, duration = '{ "b":1.00,\t"a" : "\\u0041\\/é", "z":[1E2,null , -0]}', '"}\\"{"', "0.10e1"
    text = (f'{{ "n":12345678901234567890, "re\\u0071uest" : {request} ,"x":{{"response":1,"duration_ms":2}},'
            f'"response":{response},"duration_ms":\n{duration} }}')
    answer = project.post("/v1/audit/events", '{"action":"a.b","actor":{"type":"user","id":"u"},"metadata":' + text + "}")
    assert answer.status == 201, answer
    one = ask(project, "/" + answer.json()["id"])
    members = raw_object(one.text)[0]
    assert [members[key] for key in ("request", "response", "duration_ms", "metadata")] == [request, response, duration, text]
    assert one.text in ask(project, limit=1).text


def test_one_event_in_both_forms_of_its_id(filled, events):
    for name in (events[0]["id"], uuid_form(events[0]["id"])):
        answer = ask(filled, f"/{name}")
        assert answer.status == 200 and answer.json() == events[0], answer
    assert ask(filled, f"/{events[0]['id']}", limit=0, colour="red").json() == events[0], "it takes no parameters"


@pytest.mark.parametrize("name", [UNKNOWN_ID, "00000000-0000-7000-8000-000000000000", "nonsense", "%20", "aggregates"])
def test_an_unknown_event_is_404(filled, name):
    refused(ask(filled, "/" + name), 404, "not_found", "no event with this id")


def test_another_projects_event_is_404(events, project):
    refused(ask(project, "/" + events[0]["id"]), 404, "not_found")


def test_another_account_is_403_before_anything_else(filled, events, project):
    for account in (filled.project, "no_such_account", project.project + "x", project.project.upper(), "%20"):
        for rest in ("", "/aggregate", "/" + events[0]["id"], "/" + UNKNOWN_ID, "?limit=0", "?cursor=x", "/aggregate?group_by=x",
                     "?event_types=X", "?limit=5&limit=5"):
            answer = project.get(f"/v1/accounts/{account}/events{rest}")
            refused(answer, 403, "access_denied", project.project)


def test_with_a_slash_at_the_end_and_with_an_encoded_account(filled, events):
    for rest in ("", "/aggregate", "/" + events[0]["id"]):
        plain = ask(filled, rest)
        assert plain.status == 200
        assert ask(filled, rest + "/").body == plain.body
        encoded = "".join(f"%{byte:02X}" for byte in filled.project.encode())
        assert filled.get(f"/v1/accounts/{encoded}/events{rest}").body == plain.body


def test_head_is_get_without_a_body(filled, events):
    for rest in ("", "/aggregate", "/" + events[0]["id"]):
        answer = filled.request("HEAD", path(filled, rest))
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", "application/json")


# --- Filters

def test_every_type_of_the_reference_can_be_listed(project):
    assert len(TYPES) == 14
    project.ingest(*(event(t) for t in TYPES))
    for t in TYPES:
        assert [e["type"] for e in walk(project, event_types=t)] == [t]
    assert [e["type"] for e in walk(project, event_types=",".join(TYPES))] == TYPES[::-1]
    both = walk(project, event_types="user.created,user.verification.succeeded")
    assert [e["type"] for e in both] == ["user.verification.succeeded", "user.created"]
    assert walk(project, event_types="user.never") == []


def test_a_type_may_be_a_pattern(filled, events):
    assert walk(filled, event_types="user.*, client.created") == [
        e for e in events if e["type"].startswith("user.") or e["type"] == "client.created"]
    assert walk(filled, event_types="*") == events


def chosen_values(events):
    """For each filter a value that selects some of the events, and what it selects."""
    times = sorted({e["timestamp"] for e in events})
    assert len(times) > 3
    after, before, types = times[1], times[-2], TYPES[:6]
    equal = {name: next(e[name] for e in events if e[name]) for name in ("issuer_id", "user_id", "client_id")}
    values = equal | {"event_types": ",".join(types), "after": after, "before": before}
    selects = {name: lambda e, name=name: e[name] == equal[name] for name in equal} | {
        "event_types": lambda e: e["type"] in types, "after": lambda e: e["timestamp"] > after,
        "before": lambda e: e["timestamp"] < before}
    return values, selects


@pytest.mark.parametrize("size", range(1, len(FILTERS) + 1))
def test_filters_alone_and_in_every_combination(filled, events, size):
    values, selects = chosen_values(events)
    for names in itertools.combinations(FILTERS, size):
        expected = [e for e in events if all(selects[name](e) for name in names)]
        asked = {name: values[name] for name in names}
        assert walk(filled, **asked) == expected, asked
        assert size > 1 or 0 < len(expected) < len(events), names
        assert aggregate(filled, **asked) == counted(expected), asked


def test_both_bounds_are_strict_at_the_very_millisecond(filled, events):
    for at in sorted({e["timestamp"] for e in events})[::3]:
        assert walk(filled, after=at) == [e for e in events if e["timestamp"] > at]
        assert walk(filled, before=at) == [e for e in events if e["timestamp"] < at]
        same = [e for e in events if e["timestamp"] == at]
        assert same and walk(filled, after=at - 1, before=at + 1) == same
        assert aggregate(filled, after=at - 1, before=at + 1) == counted(same)
        assert walk(filled, after=at, before=at) == walk(filled, after=at, before=at + 1) == []
        assert walk(filled, after=f"{at - 1}.5", before=f"{at}.5") == same, "half of a millisecond is between two"


def test_the_farthest_times_are_served(filled, events):
    for call in (lambda **p: len(walk(filled, **p)), lambda **p: count_of(aggregate(filled, **p))):
        assert call(after=-MS_MAX) == call(before=MS_MAX) == call(after=-MS_MAX, before=MS_MAX) == len(events)
        assert call(after=MS_MAX - 1) == call(before=-MS_MAX) == call(before=0) == call(after=MS_MAX - 1, before=-MS_MAX) == 0


def count_of(answer):
    return sum(row["count"] for bucket in answer["buckets"] for row in bucket["rows"])


@pytest.mark.parametrize("absent", ["", "null"])
def test_an_empty_or_null_parameter_is_absent(filled, events, absent):
    query = {name: absent for name in FILTERS}
    assert page(filled, limit=absent, cursor=absent, **query)["data"] == events[:50]
    assert aggregate(filled, group_by=absent, interval=absent, count_unique=absent, **query) == counted(events)


def test_unknown_parameters_are_ignored(filled, events):
    strange = {"colour": "red", "Limit": 0, "org_id": "org_1", "page": "x", "": "x"}
    assert page(filled, group_by="x", interval="x", **strange)["data"] == events[:50]
    assert aggregate(filled, limit=0, cursor="x", **strange) == counted(events)
    assert ask(filled, "?x=1&x=2&limit=1").json()["data"] == events[:1]


BAD = [("limit", v) for v in ("0", "101", "-1", "1.5", "ten", "+5", "0x10", "99999999999999999999", " 5", "true")] + [
    (name, v) for name in ("after", "before")
    for v in ("x", "2026-05-14T18:42:13Z", "+1", " 1", "1e", "inf", "nan", "-", "1,5", str(MS_MAX + 1), str(-MS_MAX - 1),
              "99999999999999999999", "1e300")] + [("after", str(MS_MAX))] + [
    ("event_types", v) for v in (",", "user.created,", "user", "User.created", "user..x", "*.x", "user.created;user.deleted",
                                 "a" * 200 + ".b", ",".join(f"a.b{i}" for i in range(101)))] + [
    (name, "x" * 1025) for name in ("issuer_id", "user_id", "client_id")]
BAD_PAGE = [("cursor", v) for v in ("x", "garbage", "eyJzZXEiOjF9", "A" * 3000, "0")]
BAD_SHAPE = [("group_by", v) for v in ("types", "Type", "ip", "type,user_id", "*", "action", "organization_id")] + [
    ("interval", v) for v in ("minute", "Hour", "month", "3600", "hour,day")] + [
    ("count_unique", v) for v in ("x", ",", "user_id,", "user_id,,type", "ip", "user_id;type", "all")]


def name_of(case):
    return f"{case[0]}={case[1][:24]}"


@pytest.mark.parametrize("case", BAD + BAD_PAGE, ids=name_of)
def test_a_bad_value_of_the_list_is_400_and_named(filled, case):
    refused(ask(filled, **dict([case])), 400, "invalid_request", f"query parameter {case[0]}")


@pytest.mark.parametrize("case", [c for c in BAD if c[0] != "limit"] + BAD_SHAPE, ids=name_of)
def test_a_bad_value_of_an_aggregate_is_400_and_named(filled, case):
    refused(ask(filled, "/aggregate", **dict([case])), 400, "invalid_request", f"query parameter {case[0]}")


def test_a_repeated_parameter_is_400_and_named(filled):
    for name in ["limit", "cursor"] + FILTERS:
        refused(ask(filled, f"?{name}=&{name}="), 400, "invalid_request", f"query parameter {name} is given more than once")
    for name in FILTERS + ["group_by", "interval", "count_unique"]:
        refused(ask(filled, f"/aggregate?{name}=&{name}="), 400, "invalid_request", name)


def test_values_are_decoded_and_compared_exactly(project):
    project.ingest(event(user_id="a b+c&d=é"), event(user_id="A b+c&d=é"))
    for written in ("a+b%2Bc%26d%3D%C3%A9", quote("a b+c&d=é")):
        assert len(ask(project, f"?user_id={written}").json()["data"]) == 1
    for broken in ("%C3", "%00", "%4"):
        refused(ask(project, f"?user_id={broken}"), 400, "invalid_request")


# --- Cursors

def test_a_walk_under_ingest_sees_every_event_once(root):
    client = root.new_project()
    receipts = client.ingest(*(event(TYPES[i % 3], user_id=f"usr_{i % 2}") for i in range(300)))
    stop = threading.Event()
    failures = []

    def ingest():
        try:
            while not stop.is_set():
                client.ingest(*(event(TYPES[i % 3], user_id=f"usr_{i % 2}") for i in range(6)))
        except Exception as e:  # reported by the test's own thread
            failures.append(e)

    threads = [threading.Thread(target=ingest) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        plain = walk(client, limit=9)
        filtered = walk(client, limit=4, event_types=TYPES[1], user_id="usr_1")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures
    old = [r["id"] for r in receipts][::-1]
    for shown, expected in ((plain, old), (filtered, [r["id"] for i, r in enumerate(receipts) if i % 6 == 1][::-1])):
        assert len(set(ids(shown))) == len(shown)
        assert [i for i in ids(shown) if i in set(old)] == expected
    assert len(walk(client)) > 301


def test_a_foreign_or_altered_cursor_is_400(filled, events, project):
    project.ingest(*(event("user.created") for _ in range(30)))
    cursor = page(filled, limit=10)["next_cursor"]
    assert page(filled, limit=5, cursor=cursor)["data"] == events[10:15]
    middle = len(cursor) // 2
    altered = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1:]
    for bad in (altered, cursor[:-2], cursor + "AA", cursor[::-1]):
        refused(ask(filled, cursor=bad), 400, "invalid_request", "query parameter cursor")
    refused(ask(project, cursor=cursor), 400, "invalid_request", "query parameter cursor")
    for other in ({"user_id": "use_1"}, {"event_types": "user.*"}, {"after": 0}):
        refused(ask(filled, cursor=cursor, **other), 400, "invalid_request", "query parameter cursor")
        own = page(filled, limit=1, **other)["next_cursor"]
        refused(ask(filled, cursor=own), 400, "invalid_request", "query parameter cursor")


# --- Aggregates

def interval_start(timestamp, interval):
    at = datetime.fromtimestamp(timestamp // 1000, timezone.utc).replace(minute=0, second=0)
    if interval != "hour":
        at = at.replace(hour=0)
    if interval == "week":
        at -= timedelta(days=at.weekday())  # Monday is 0
    return int(at.timestamp()) * 1000


def counted(events, group_by=None, interval=None, count_unique=None):
    """What an aggregate of exactly these events must answer."""
    groups = defaultdict(lambda: defaultdict(list))
    for e in events:
        if group_by is None or e[group_by]:
            groups[interval and interval_start(e["timestamp"], interval)][group_by and e[group_by]].append(e)
    buckets = []
    for start in sorted(groups) if interval else [None]:
        rows = []
        for key, members in sorted(groups[start].items(), key=lambda group: (-len(group[1]), group[0] or "")):
            row = ({"key": key} if group_by else {}) | {"count": len(members)}
            if count_unique:
                row["uniques"] = {name: len({e[name] for e in members if e[name]}) for name in count_unique.split(",")}
            rows.append(row)
        buckets.append(({"ts": start} if interval else {}) | {"rows": rows})
    return {"interval": interval, "group_by": group_by, "buckets": buckets}


@pytest.mark.parametrize("group_by", [None] + DIMENSIONS)
@pytest.mark.parametrize("interval", [None, "hour", "day", "week"])
def test_an_aggregate_counts_what_the_list_shows(filled, events, group_by, interval):
    shape = {"group_by": group_by, "interval": interval}
    shape = {name: value for name, value in shape.items() if value}
    for count_unique in [None] + DIMENSIONS + ["user_id,type", ",".join(DIMENSIONS), ",".join(DIMENSIONS[::-1])]:
        asked = shape | ({"count_unique": count_unique} if count_unique else {})
        found = aggregate(filled, **asked)
        assert found == counted(events, **asked), asked
        for row in found["buckets"][0]["rows"]:
            assert list(row.get("uniques", {})) == (count_unique.split(",") if count_unique else [])


def test_the_order_of_the_keys_of_an_answer(filled):
    answer = ask(filled, "/aggregate", interval="day", group_by="type", count_unique="user_id")
    members = raw_object(answer.text)[0]
    assert list(members) == list(REFERENCE_SAMPLE)
    assert answer.text.startswith('{"interval":"day","group_by":"type","buckets":[{"ts":')


def shape_of(value):
    """A JSON value's keys and types, of lists those of the first element."""
    if isinstance(value, dict):
        return {key: shape_of(member) for key, member in value.items()}
    return [shape_of(value[0])] if isinstance(value, list) else type(value)


def test_the_sample_of_the_reference(project):
    row = REFERENCE_SAMPLE["buckets"][0]["rows"][0]
    asked = {"interval": "hour", "group_by": "type", "count_unique": "user_id"}
    project.ingest(*(event(row["key"], user_id=f"usr_{i % row['uniques']['user_id']}") for i in range(row["count"])))
    found = aggregate(project, event_types=row["key"], **asked)
    assert shape_of(found) == shape_of(REFERENCE_SAMPLE)
    assert found == counted(walk(project, event_types=row["key"]), **asked)
    if len(found["buckets"]) == 1:  # else an hour has ended between two of them
        assert found["buckets"][0]["rows"] == [row]


def test_duplicates_in_count_unique_collapse(filled, events):
    assert aggregate(filled, count_unique="user_id,type,user_id,user_id") == counted(events, count_unique="user_id,type")


@pytest.mark.parametrize("nothing", [{"user_id": "nobody"}, {"event_types": "no.such"}, {"after": MS_MAX - 1}, {"before": 0}])
def test_an_empty_result(filled, nothing):
    for group_by in [None] + DIMENSIONS:
        shape = {"group_by": group_by} if group_by else {}
        for unique in ({}, {"count_unique": "user_id"}):
            assert aggregate(filled, **nothing, **shape, **unique) == {
                "interval": None, "group_by": group_by, "buckets": [{"rows": []}]}
            for interval in ("hour", "day", "week"):
                assert aggregate(filled, interval=interval, **nothing, **shape, **unique) == {
                    "interval": interval, "group_by": group_by, "buckets": []}


def test_groups_whose_key_is_not_set_are_left_out(project):
    project.ingest(event("user.created", agent_id="agt_1"), event("user.created"), event("user.created"))
    assert aggregate(project, group_by="agent_id")["buckets"] == [{"rows": [{"key": "agt_1", "count": 1}]}]
    for interval in ("hour", "day", "week"):
        found = aggregate(project, group_by="client_id", interval=interval)
        assert found["buckets"] == [], "a bucket whose rows all vanish is left out"
    assert aggregate(project, group_by="client_id")["buckets"] == [{"rows": []}]


# --- What is deleted

def test_a_deleted_event_is_gone_from_everywhere(project):
    kept, dropped = project.ingest(event("user.created", user_id="usr_kept"), event("user.dropped", user_id="usr_gone"))
    assert "usr_gone" in ask(project).text
    assert project.delete(f"/v1/audit/events/{dropped['id']}").status == 204
    refused(ask(project, "/" + dropped["id"]), 404, "not_found")
    refused(ask(project, f"/{uuid_form(dropped['id'])}"), 404, "not_found")
    events = walk(project)
    assert dropped["id"] not in ids(events) and kept["id"] in ids(events)
    assert len(events) == 3, "the key's creation, the event that was kept, the deletion"
    assert walk(project, user_id="usr_gone") == walk(project, event_types="user.dropped") == []
    for group_by, interval in itertools.product([None] + DIMENSIONS, [None, "hour", "day", "week"]):
        shape = {n: v for n, v in (("group_by", group_by), ("interval", interval)) if v} | {"count_unique": "user_id,type"}
        assert aggregate(project, **shape) == counted(events, **shape)
    assert count_of(aggregate(project, user_id="usr_gone")) == 0
    for text in (ask(project).text, ask(project, "/aggregate", group_by="user_id").text):
        assert "usr_gone" not in text


# --- Errors

RESTS = ["", "/aggregate", "/" + UNKNOWN_ID]


@pytest.mark.parametrize("rest", RESTS)
def test_no_key_or_a_dead_one_is_401(root, rest):
    dead = root.make_key(["audit:read"])
    assert root.delete(f"/v1/api-keys/{dead.key_id}").status == 204
    where = path(root, rest)
    answers = [root.get(where, key=False), dead.get(where), root.get(where, key=False, headers=bearer("sk_live_" + "x" * 40))]
    for answer in answers:
        refused(answer, 401, "unauthorized_client")
        assert [value for name, value in answer.pairs if name.lower() == "www-authenticate"] == ['Bearer realm="annal"']


@pytest.mark.parametrize("rest", RESTS)
def test_a_missing_scope_is_403_and_named(root, rest):
    weak = root.make_key(["audit:write", "risk:read"])
    refused(ask(weak, rest), 403, "insufficient_scope", "audit:read")
    assert ask(root.make_key(["audit:read"]), rest).status == (404 if UNKNOWN_ID in rest else 200)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("rest", RESTS)
def test_another_method_is_405_with_allow(root, rest, method):
    answer = root.request(method, path(root, rest))
    refused(answer, 405, "method_not_allowed", method)
    assert {word.strip() for word in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


def test_an_unknown_path_below_an_account_is_404(root):
    for rest in ("", "/x", f"/{root.project}", f"/{root.project}/event", f"/{root.project}/events/a/b"):
        refused(root.get("/v1/accounts" + rest), 404, "not_found")


def test_a_broken_query_is_400(root):
    refused(root.get(path(root) + "?limit=%zz"), 400, "invalid_request")
