"""Posting events: every accepted form, and every bad input with its clear error and nothing stored."""

import gzip
import json
from datetime import datetime, timezone

import pytest
from annal_server import HOLD_LITTLE_BACK, event, expect_problem, raw_object, wait_until

MIB = 1 << 20
ACTOR = '"actor":{"type":"user","id":"usr_1"}'


def newest(client):
    return client.page("?limit=1")["data"][0]


def expect_refused(client, body, status, *words, path="/v1/audit/events", headers=None):
    """The request is refused as said, and stored nothing."""
    before = client.count()
    answer = client.post(path, body, headers=headers)
    problem = expect_problem(answer, status, *words)
    assert client.count() == before
    return problem


# --- Accepted forms

def test_one_event(project):
    answer = project.post("/v1/audit/events", event(
        user_id="usr_2", organization_id="org_1", client_id="cli_1", issuer_id="iss_1", agent_id="agt_1", auth_type="oauth",
        target_type="doc", target_id="doc_1", ip="2001:db8::1", user_agent="curl/8", description="Ünïcode ✓",
        occurred_at="2026-05-14T20:42:13.001+02:00", external_id="x-1", metadata={"k": [1, None]}))
    assert answer.status == 201, answer
    receipt = answer.json()
    assert receipt.keys() >= {"id", "seq", "created_at"}
    shown = project.get(f"/v1/audit/events/{receipt['id']}").json()
    assert shown == {
        "id": receipt["id"], "seq": receipt["seq"], "created_at": receipt["created_at"], "action": "test.happened",
        "project_id": project.project, "organization_id": "org_1", "user_id": "usr_2", "target_type": "doc", "target_id": "doc_1",
        "metadata": {"k": [1, None]}, "actor": {"type": "user", "id": "usr_1"}, "external_id": "x-1", "auth_type": "oauth",
        "client_id": "cli_1", "issuer_id": "iss_1", "agent_id": "agt_1", "ip": "2001:db8::1", "user_agent": "curl/8",
        "description": "Ünïcode ✓", "occurred_at": "2026-05-14T18:42:13.001000Z"}


def test_the_least_event_shows_all_ten_keys(project):
    project.post("/v1/audit/events", '{"action":"a.b","actor":{"type":"system"}}')
    shown = newest(project)
    assert shown["metadata"] == {}
    assert shown["actor"] == {"type": "system", "id": None}
    for key in ("organization_id", "user_id", "target_type", "target_id"):
        assert key in shown and shown[key] is None


def test_an_actor_with_an_email_and_the_flat_form(project):
    project.ingest(
        {"action": "a.b", "actor": {"type": "user", "id": "u", "email": "u@example.test"}},
        {"action": "a.c", "actor_type": "user", "actor_id": "u", "actor_email": "u@example.test"})
    shown = project.page("?limit=2")["data"]
    assert [e["actor"] for e in shown] == [{"type": "user", "id": "u", "email": "u@example.test"}] * 2


def test_a_batch_keeps_its_order(project):
    receipts = project.ingest(*(event(f"batch.n{i}") for i in range(25)))
    assert [r["seq"] for r in receipts] == list(range(1, 26))  # 0 is the key's creation
    assert [e["action"] for e in project.walk("?type=batch.*")][::-1] == [f"batch.n{i}" for i in range(25)]
    assert [r["id"] for r in receipts] == sorted(r["id"] for r in receipts)
    assert [r["created_at"] for r in receipts] == sorted(r["created_at"] for r in receipts)


def test_an_ndjson_body_with_blank_lines_and_no_last_newline(project):
    answer = project.ndjson(
        '{"action":"nd.a","actor":{"type":"user"}}\n\n  \r\n{"action":"nd.b","actor":{"type":"user"}}\r\n'
        '{"action":"nd.c","actor":{"type":"user"}}')
    assert answer.status == 201, answer
    assert len(answer.json()["data"]) == 3
    assert [e["action"] for e in project.walk("?type=nd.*")] == ["nd.c", "nd.b", "nd.a"]


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "Application/X-NDJSON; charset=utf-8"])
def test_ndjson_by_its_names(project, content_type):
    answer = project.ndjson([event()], headers={"Content-Type": content_type})
    assert answer.status == 201, answer


def test_gzip_bodies(project):
    one = gzip.compress(json.dumps(event("gz.one")).encode())
    assert project.post("/v1/audit/events", one, headers={"Content-Encoding": "gzip"}).status == 201
    lines = b"".join(gzip.compress(json.dumps(event(f"gz.n{i}")).encode() + b"\n") for i in range(3))  # three members
    answer = project.post(
        "/v1/audit/events", lines, headers={"Content-Encoding": "GZIP", "Content-Type": "application/x-ndjson"})
    assert answer.status == 201, answer
    assert [e["action"] for e in project.walk("?type=gz.*")] == ["gz.n2", "gz.n1", "gz.n0", "gz.one"]


@pytest.mark.parametrize("damage", ["cut", "crc", "no gzip at all", "empty"])
def test_a_damaged_gzip_body_is_400(project, damage):
    body = gzip.compress(json.dumps({"events": [event() for _ in range(50)]}).encode())
    body = {"cut": body[:-9], "crc": body[:-8] + b"\0" * 8, "no gzip at all": b'{"action":"a.b"}', "empty": b""}[damage]
    before = project.count()
    answer = project.post("/v1/audit/events", body, headers={"Content-Encoding": "gzip"})
    expect_problem(answer, 400)
    assert project.count() == before


def test_a_chunked_body(server, project):
    body = json.dumps(event("chunked.one")).encode()
    with server.raw() as connection:
        head = (f"POST /v1/audit/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {project.secret}\r\n"
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").encode()
        connection.send(head + b"".join(b"1\r\n" + body[i:i + 1] + b"\r\n" for i in range(len(body))) + b"0\r\n\r\n")
        assert connection.receive().status == 201


def test_the_envelope_of_a_list_can_be_posted_again(project, root):
    project.ingest(event("again.a", metadata={"n": 1}, occurred_at="2026-01-01T00:00:00Z"), event("again.b"))
    shown = project.walk("?type=again.*")[::-1]
    other = root.new_project()
    for e in shown:
        e.pop("project_id")
    other.ingest(*shown)
    copies = other.walk("?type=again.*")[::-1]
    for original, copy in zip(shown, copies, strict=True):
        assert copy["external_id"] == original["id"]
        assert copy["occurred_at"] == original.get("occurred_at", original["created_at"])
        for key in ("action", "actor", "metadata", "user_id"):
            assert copy[key] == original[key]


def test_description_falls_back_to_the_metadata(project):
    project.ingest(event(metadata={"description": "from within"}), event(metadata={"description": 5}))
    last, first = project.page("?limit=2")["data"]
    assert first["description"] == "from within"
    assert "description" not in last
    assert [e["seq"] for e in project.walk("?q=from%20with")] == [first["seq"]]


def test_created_at_is_the_servers_and_rises(project):
    before = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    receipts = project.ingest(*(event(created_at="1999-01-01T00:00:00Z") for _ in range(500)))
    times = [r["created_at"] for r in receipts]
    assert times[0] >= before
    assert all(a < b for a, b in zip(times, times[1:]))
    assert newest(project)["occurred_at"] == "1999-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("text,canonical", [
    ("2026-05-14T18:42:13Z", "2026-05-14T18:42:13.000000Z"),
    ("2026-05-14T18:42Z", "2026-05-14T18:42:00.000000Z"),
    ("2026-05-14t18:42:13.1234567z", "2026-05-14T18:42:13.123456Z"),
    ("2026-05-14 18:42:13,5+02:00", "2026-05-14T16:42:13.500000Z"),
    ("20260514T184213Z", "2026-05-14T18:42:13.000000Z"),
    ("2026-W20-4T18:42:13-0130", "2026-05-14T20:12:13.000000Z"),
    ("2026-134T18:42:13+02", "2026-05-14T16:42:13.000000Z"),
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000000Z"),
    ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
    ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"),
])
def test_forms_of_time(project, text, canonical):
    project.ingest(event(occurred_at=text))
    assert newest(project)["occurred_at"] == canonical


METADATA = [
    '{"a":1.10}', '{"a":12345678901234567890}', '{"a":1e400}', '{"a":-0.0,"b":1E+2,"c":0.10000000000000000555}',
    r'{"a":"\u00e9\ud83d\ude00\/\"\\\b"}', '{"a":"é😀"}', '{ "a" : [ 1 , 2 ] , "b" : { } }', '{"":"","b":null}', '{}',
    '{"a":' * 15 + '{}' + '}' * 15, '{"\\u0061":1,"b":{"a":1}}', '{"a":"\\u0001\\u001f"}', '{"a":"\u2028\u200b\ufeff"}',
    '{\t"a"\t:\t1}',
]


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata_is_kept_byte_for_byte(project, metadata):
    answer = project.post("/v1/audit/events", f'{{"action":"a.b","metadata":{metadata},{ACTOR}}}')
    assert answer.status == 201, answer
    one = project.get(f"/v1/audit/events/{answer.json()['id']}").text
    assert raw_object(one)[0]["metadata"] == metadata
    assert f'"metadata":{metadata},"actor":' in project.get("/v1/audit/events?limit=1").text
    assert raw_object(project.export_lines()[0])[0]["metadata"] == metadata


def test_metadata_over_lines_stays_one_line_of_jsonl(project):
    pretty = '{\n  "a": 1.10,\r\n  "b": [\n    "x\\ny"\n  ]\n}'
    project.post("/v1/audit/events", f'{{"action":"a.b","metadata":{pretty},{ACTOR}}}')
    line = project.export_lines()[0]
    shown = raw_object(line)[0]["metadata"]
    assert json.loads(shown) == json.loads(pretty)
    assert "1.10" in shown
    assert shown == pretty.replace("\r", " ").replace("\n", " ")


# --- Bad input

@pytest.mark.parametrize("body,where", [
    ('{"action":"a.b",', "column 17"),
    ('{"action":"a.b",\n "actor":}', "line 2, column 10"),
    ("", "column 1"),
    ("   ", ""),
    ("nonsense", "column 1"),
    ('{"action":"a.b","actor":{"type":"user"}}}', "column 41"),
    ('{"action":"a.b","actor":{"type":"user"}} {"action":"a.b"}', "column 42"),
    ('{"action":"a.b","actor":{"type":"user"},"metadata":{"a":01}}', "column 58"),
    ('{"action":"a.b","actor":{"type":"user"},"metadata":{"a":.5}}', "column 57"),
    ('{"action":"a.b","actor":{"type":"user"},"metadata":{"a":NaN}}', "column 57"),
    ("{'action':'a.b'}", "column 2"),
    ('{"action":"a.b","actor":{"type":"user"},}', ""),
    ('{"action":"a\tb"}', ""),
    ('{"action":"\\x41"}', ""),
    ('{"action":"a.b"', "column 16"),
    ('{"events":[{"action":"a.b"]}', ""),
    ("[" * 100_000, ""),
    ('{"action":"a.b","actor":{"type":"user"},"metadata":' + '{"a":' * 100_000, ""),
])
def test_malformed_json_is_400_with_its_position(project, body, where):
    problem = expect_refused(project, body, 400, where)
    assert problem["errors"][0]["offset"] >= 0


def test_a_byte_order_mark_is_named(project):
    expect_refused(project, b"\xef\xbb\xbf" + json.dumps(event()).encode(), 400, "byte order mark")


def one(**members):
    """An event's text with raw members."""
    return '{"action":"a.b",' + ACTOR + "".join(f',"{k}":{v}' for k, v in members.items()) + "}"


INVALID = {
    "unknown field": (one(colour='"red"'), "/colour", "unknown_field"),
    "unknown field in the actor": ('{"action":"a.b","actor":{"type":"user","role":"x"}}', "/actor/role", "unknown_field"),
    "case matters": (one(User_id='"x"'), "/User_id", "unknown_field"),
    "no action": ("{" + ACTOR + "}", "/action", "missing_field"),
    "null action": ('{"action":null,' + ACTOR + "}", "/action", "missing_field"),
    "no actor": ('{"action":"a.b"}', "/actor", "missing_field"),
    "no actor type": ('{"action":"a.b","actor":{"id":"x"}}', "/actor/type", "missing_field"),
    "action that is a number": ('{"action":5,' + ACTOR + "}", "/action", "wrong_type"),
    "actor that is a string": ('{"action":"a.b","actor":"me"}', "/actor", "wrong_type"),
    "metadata that is an array": (one(metadata="[1]"), "/metadata", "wrong_type"),
    "metadata that is a string": (one(metadata='"{}"'), "/metadata", "wrong_type"),
    "user_id that is a number": (one(user_id="5"), "/user_id", "wrong_type"),
    "duplicate key": (one(user_id='"a"', ip='"1.2.3.4"')[:-1] + ',"user_id":"b"}', "/user_id", "duplicate_key"),
    "duplicate key behind an escape": ('{"action":"a.b","\\u0061ction":"a.c",' + ACTOR + "}", "/action", "duplicate_key"),
    "duplicate key in the metadata": (one(metadata='{"a":{"b":1,"b":2}}'), "/metadata/a/b", "duplicate_key"),
    "escaped U+0000": (one(description='"a\\u0000b"'), "/description", "nul_character"),
    "escaped U+0000 in the metadata": (one(metadata='{"a":"\\u0000"}'), "/metadata/a", "nul_character"),
    "escaped U+0000 in a key": (one(metadata='{"a\\u0000":1}'), "/metadata", "nul_character"),
    "lone surrogate": (one(description='"\\ud83d"'), "/description", "lone_surrogate"),
    "lone low surrogate in the metadata": (one(metadata='{"a":"\\ude00"}'), "/metadata/a", "lone_surrogate"),
    "metadata too deep": (one(metadata='{"a":' * 16 + "{}" + "}" * 16), "/metadata" + "/a" * 16, "too_deep"),
    "time without a zone": (one(occurred_at='"2026-05-14T18:42:13"'), "/occurred_at", "bad_time"),
    "a date alone": (one(occurred_at='"2026-05-14"'), "/occurred_at", "bad_time"),
    "a day that is none": (one(occurred_at='"2026-02-30T00:00:00Z"'), "/occurred_at", "bad_time"),
    "a month that is none": (one(occurred_at='"2026-13-01T00:00:00Z"'), "/occurred_at", "bad_time"),
    "the 24th hour and a half": (one(occurred_at='"2026-05-14T24:30:00Z"'), "/occurred_at", "bad_time"),
    "words for a time": (one(occurred_at='"yesterday"'), "/occurred_at", "bad_time"),
    "an empty time": (one(occurred_at='""'), "/occurred_at", "bad_time"),
    "a number for a time": (one(occurred_at="1715712133"), "/occurred_at", "wrong_type"),
    "bad created_at": (one(created_at='"soon"'), "/created_at", "bad_time"),
    "ip with a port": (one(ip='"1.2.3.4:80"'), "/ip", "bad_ip"),
    "ip with a zone": (one(ip='"fe80::1%eth0"'), "/ip", "bad_ip"),
    "ip beyond 255": (one(ip='"1.2.3.256"'), "/ip", "bad_ip"),
    "a host for an ip": (one(ip='"localhost"'), "/ip", "bad_ip"),
    "an empty ip": (one(ip='""'), "/ip", "bad_ip"),
    "another project": (one(project_id='"proj_other"'), "/project_id", "foreign_project"),
    "two actors that differ": (one(actor_id='"usr_2"'), "/actor_id", "contradiction"),
    "empty idempotency key": (one(idempotency_key='""'), "/idempotency_key", ""),
    "empty batch": ('{"events":[]}', "/events", "empty"),
    "events that are no array": ('{"events":{}}', "/events", "wrong_type"),
    "a key beside events": ('{"events":[' + one() + '],"x":1}', "/x", "unknown_field"),
    "an array": ("[" + one() + "]", "", "wrong_type"),
    "a string": ('"a.b"', "", "wrong_type"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_event_is_422_with_pointer_and_code(project, name):
    body, pointer, code = INVALID[name]
    problem = expect_refused(project, body, 422)
    found = [(error["pointer"], error["code"]) for error in problem["errors"]]
    assert any(p == pointer and (not code or c == code) for p, c in found), problem
    assert all(error["detail"] for error in problem["errors"])


@pytest.mark.parametrize("action", [
    "created", "", "Organization.created", "a..b", ".a.b", "a.b.", "a b.c", "a-b.c", "_a.b", "a._b", "a.*", "ä.b", "a.b\\n",
    ".".join("abcdefghi")])
def test_a_bad_action_is_422(project, action):
    problem = expect_refused(project, f'{{"action":"{action}",{ACTOR}}}', 422)
    assert (problem["errors"][0]["pointer"], problem["errors"][0]["code"]) == ("/action", "bad_action")


@pytest.mark.parametrize("action", ["a.b", "0.1", "a_b.c_d", "a__.b__", ".".join("abcdefgh"), "a1.b2"])
def test_a_good_action_is_taken(project, action):
    project.ingest(event(action))
    assert newest(project)["action"] == action


LENGTHS = {
    "external_id": 128, "actor_type": 64, "actor_id": 256, "actor_email": 320, "auth_type": 64, "user_id": 256,
    "organization_id": 256, "client_id": 256, "issuer_id": 256, "agent_id": 256, "target_type": 128, "target_id": 512,
    "user_agent": 2048, "description": 4096, "idempotency_key": 256}


@pytest.mark.parametrize("field,limit", LENGTHS.items())
@pytest.mark.parametrize("letter", ["x", "é"], ids=["ascii", "two bytes"])
def test_each_length_at_its_limit_and_one_beyond(project, field, limit, letter):
    value = letter * (limit // len(letter.encode()))
    base = {"action": "a.b"} | ({} if field == "actor_type" else {"actor_type": "user"})
    assert project.post("/v1/audit/events", base | {field: value}).status == 201
    shown = newest(project)
    if field.startswith("actor_"):
        assert shown["actor"][field[6:]] == value
    elif field != "idempotency_key":
        assert shown[field] == value
    problem = expect_refused(project, base | {field: value + "x"}, 422)
    assert [(e["pointer"], e["code"]) for e in problem["errors"]] == [(f"/{field}", "too_long")]


def test_an_action_at_its_limit_and_beyond(project):
    action = "a." + "b" * 126
    project.ingest(event(action))
    assert newest(project)["action"] == action
    problem = expect_refused(project, event(action + "b"), 422)
    assert problem["errors"][0]["code"] == "too_long"


def test_metadata_at_its_limit_and_beyond(project):
    full = '{"k":"' + "x" * (65536 - 8) + '"}'
    assert len(full) == 65536
    assert project.post("/v1/audit/events", one(metadata=full)).status == 201
    assert raw_object(project.export_lines()[0])[0]["metadata"] == full
    problem = expect_refused(project, one(metadata=full.replace('x"}', 'xx"}')), 422)
    assert (problem["errors"][0]["pointer"], problem["errors"][0]["code"]) == ("/metadata", "too_long")


@pytest.mark.parametrize("text", [b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\xbd", b"\xf4\x90\x80\x80", b"\xe2\x82"])
@pytest.mark.parametrize("place", ["description", "metadata", "key"])
def test_bad_utf8_is_refused_with_its_place(project, text, place):
    parts = {"description": b'"description":"a%sb"', "metadata": b'"metadata":{"k":"a%sb"}', "key": b'"metadata":{"a%s":1}'}
    body = b'{"action":"a.b",' + ACTOR.encode() + b"," + parts[place] % text + b"}"
    before = project.count()
    answer = project.post("/v1/audit/events", body)
    assert answer.status in (400, 422), answer
    problem = expect_problem(answer, answer.status)
    assert problem["errors"][0]["code"] in ("bad_utf8", "malformed")
    assert "UTF-8" in problem["errors"][0]["detail"]
    assert problem["errors"][0]["offset"] >= 0
    assert project.count() == before


@pytest.mark.parametrize("place", ["description", "metadata", "between"])
def test_a_raw_nul_is_refused(project, place):
    body = {"description": one(description='"a\0b"'), "metadata": one(metadata='{"k":"\0"}'), "between": one() + "\0"}[place]
    before = project.count()
    answer = project.post("/v1/audit/events", body)
    assert answer.status in (400, 422), answer
    assert expect_problem(answer, answer.status)["errors"][0]["offset"] >= 0
    assert project.count() == before


def test_a_batch_with_bad_events_names_each_and_stores_none(project):
    events = [event(), event("BAD"), event(), event(ip="x", user_id=5), event()]
    problem = expect_refused(project, {"events": events}, 422)
    assert [(e["index"], e["pointer"], e["code"]) for e in problem["errors"]] == [
        (1, "/action", "bad_action"), (3, "/ip", "bad_ip"), (3, "/user_id", "wrong_type")]


def test_the_list_of_errors_is_bounded(project):
    problem = expect_refused(project, {"events": [event("BAD") for _ in range(5000)]}, 422)
    assert len(problem["errors"]) == 1000


def test_ten_thousand_events_and_one_more(project):
    one_event = json.dumps({"action": "a.b", "actor_type": "user"})
    body = '{"events":[' + ",".join([one_event] * 10_000) + "]}"
    answer = project.post("/v1/audit/events", body)
    assert answer.status == 201, answer
    receipts = answer.json()["data"]
    assert [r["seq"] for r in receipts] == list(range(1, 10_001))
    assert len({r["id"] for r in receipts}) == 10_000
    expect_refused(project, '{"events":[' + ",".join([one_event] * 10_001) + "]}", 413, "10000", "NDJSON")


@pytest.mark.parametrize("sent", ["plain", "gzip"])
def test_a_body_of_exactly_8_mib_and_one_byte_more(project, sent):
    text = one()
    body = (text + " " * (8 * MIB - len(text))).encode()
    headers = {"Content-Encoding": "gzip"} if sent == "gzip" else {}
    pack = gzip.compress if sent == "gzip" else bytes
    assert project.post("/v1/audit/events", pack(body), headers=headers).status == 201
    expect_refused(project, pack(body + b" "), 413, headers=headers)


def test_a_client_that_goes_away_in_the_middle_of_its_body_stores_nothing(server, project):
    body = json.dumps({"events": [event(metadata={"i": i}) for i in range(200)]}).encode()
    before = project.count()
    for sent in (0, 1, len(body) // 2, len(body) - 1):
        with server.raw() as connection:
            connection.send((f"POST /v1/audit/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {project.secret}\r\n"
                             f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body[:sent])
    assert project.post("/v1/audit/events", event()).status == 201
    assert project.count() == before + 1


# --- NDJSON

ND = {"Content-Type": "application/x-ndjson"}


def test_a_bad_ndjson_line_is_named_by_its_number_and_nothing_is_stored(project):
    body = "\n".join([one(), "", one(), '{"action":', one(), '{"action":"BAD","actor":{"type":"user"}}', ""])
    problem = expect_refused(project, body, 422, headers=ND)
    assert [(e["line"], e["index"], e["code"]) for e in problem["errors"]] == [(4, 2, "malformed"), (6, 4, "bad_action")]
    assert problem["errors"][0]["offset"] >= 0


@pytest.mark.parametrize("body", ["", "\n\n", "  "])
def test_an_empty_ndjson_body_is_refused(project, body):
    before = project.count()
    answer = project.ndjson(body)
    assert answer.status in (400, 422), answer
    expect_problem(answer, answer.status)
    assert project.count() == before


def test_ndjson_beyond_a_request_is_streamed_in_chunks(project):
    lines = [json.dumps(event("long.line", external_id=f"x{i}")) for i in range(12_345)]
    answer = project.ndjson("\n".join(lines))
    assert answer.status == 201, answer
    totals = answer.json()
    assert (totals["stored"], totals["last_durable_line"]) == (12_345, 12_345)
    assert project.count() == 12_346
    events = project.export_lines("?type=long.line")
    assert [json.loads(line)["external_id"] for line in events] == [f"x{i}" for i in range(12_344, -1, -1)]


def test_a_long_ndjson_body_with_a_bad_line_says_what_is_durable(project):
    """Beyond 10 000 lines chunks are committed on the way: the answer must say up to which line."""
    lines = [json.dumps(event("cut.line", external_id=f"x{i}")) for i in range(12_000)]
    lines[11_500] = '{"action":"BAD","actor":{"type":"user"}}'
    answer = project.ndjson("\n".join(lines))
    assert answer.status == 422, answer
    problem = answer.json()
    assert any(e["line"] == 11_501 and e["code"] == "bad_action" for e in problem["errors"]), problem
    stored = [json.loads(line)["external_id"] for line in project.export_lines("?type=cut.line")][::-1]
    assert stored == [f"x{i}" for i in range(len(stored))]
    assert len(stored) < 11_501
    assert problem["last_durable_line"] == len(stored) == 11_000


def test_ndjson_without_end_needs_flat_memory(make_server):
    server = make_server(env=HOLD_LITTLE_BACK).start()
    client = server.client()
    line = json.dumps(event("long.line", metadata={"text": "x" * 2_000})) + "\n"

    def send(lines):
        assert client.ndjson(line * lines).json()["stored"] == lines

    send(36_000)  # 77 MB: pools and caches are full now
    before = server.rss_bytes()
    send(72_000)
    server.expect_growth_below(40, before, tsan_factor=10)


# --- ?partial=true

def test_partial_stores_the_valid_events_and_reports_the_rest(project):
    events = [event("part.a"), event("BAD"), event("part.b"), event("part.c", ip="x")]
    answer = project.post("/v1/audit/events?partial=true", {"events": events})
    assert answer.status == 201, answer
    body = answer.json()
    assert [(e["index"], e["pointer"]) for e in body["errors"]] == [(1, "/action"), (3, "/ip")]
    stored = project.walk("?type=part.*")[::-1]
    assert [e["action"] for e in stored] == ["part.a", "part.b"]
    assert [(r["index"], r["id"]) for r in body["data"]] == [(0, stored[0]["id"]), (2, stored[1]["id"])]


def test_partial_ndjson_reports_lines(project):
    body = "\n".join([json.dumps(event("part.a")), "{", json.dumps(event("part.b"))])
    answer = project.post("/v1/audit/events?partial=true", body, headers=ND)
    assert answer.status == 201, answer
    assert [(e["line"], e["code"]) for e in answer.json()["errors"]] == [(2, "malformed")]
    assert [e["action"] for e in project.walk("?type=part.*")] == ["part.b", "part.a"]


def test_partial_over_a_long_ndjson_body(project):
    lines = [json.dumps(event("part.long", external_id=str(i))) for i in range(10_500)]
    for i in (0, 5_000, 10_499):
        lines[i] = '{"action":"BAD","actor":{"type":"user"}}' if i else "{"
    answer = project.post("/v1/audit/events?partial=true", "\n".join(lines), headers=ND)
    assert answer.status == 201, answer
    body = answer.json()
    assert (body["stored"], body["rejected"], body["last_durable_line"]) == (10_497, 3, 10_500)
    assert [(e["line"], e["code"]) for e in body["errors"]] == [(1, "malformed"), (5_001, "bad_action"), (10_500, "bad_action")]
    assert len(project.export_lines("?type=part.long")) == 10_497


def test_partial_with_nothing_valid_is_422(project):
    expect_refused(project, {"events": [event("BAD")]}, 422, path="/v1/audit/events?partial=true")


def test_partial_does_not_forgive_malformed_json(project):
    expect_refused(project, '{"events":[', 400, path="/v1/audit/events?partial=true")


@pytest.mark.parametrize("query", ["partial=maybe", "partial=", "dry_run=true", "partial=true&partial=true"])
def test_bad_query_parameters_of_ingest_are_400(project, query):
    expect_refused(project, event(), 400, query.split("=")[0], path=f"/v1/audit/events?{query}")


# --- Prefer: respond-async

@pytest.mark.parametrize("prefer", ["respond-async", "Respond-Async", "return=minimal, respond-async; wait=5"])
def test_respond_async_is_202_and_stored_soon(project, prefer):
    answer = project.post("/v1/audit/events", {"events": [event("async.a"), event("async.b")]}, headers={"Prefer": prefer})
    assert answer.status == 202, answer
    stored = wait_until(lambda: project.walk("?type=async.*"), what="the events")
    assert [e["action"] for e in stored] == ["async.b", "async.a"]


def test_respond_async_still_refuses_bad_events(project):
    expect_refused(project, event("BAD"), 422, headers={"Prefer": "respond-async"})
    expect_refused(project, "{", 400, headers={"Prefer": "respond-async"})


# --- catalog: strict

def test_a_strict_catalog_refuses_unknown_actions(project):
    assert project.put("/v1/config/catalog", json.dumps("strict")).status == 200
    problem = expect_refused(project, event("made.up"), 422)
    assert problem["errors"][0]["code"] == "unknown_action"
    assert project.post("/v1/audit/events", event("session.created")).status == 201
    assert project.put("/v1/config/catalog", json.dumps("open")).status == 200
    assert project.post("/v1/audit/events", event("made.up")).status == 201
