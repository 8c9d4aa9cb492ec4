"""The 40 sample events of the Authio documentation: what goes in comes out, in every form."""

import csv
import io
import itertools
import json
import re
import uuid
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import pytest
from annal_server import SOURCE, Client, event, expect_problem, raw_array, raw_object

SAMPLES_FILE = SOURCE / "examples" / "events" / "authio.ndjson"
SAMPLE_LINES = SAMPLES_FILE.read_text(encoding="utf-8").splitlines()
SAMPLES = [json.loads(line) for line in SAMPLE_LINES]
SAMPLE_PROJECT = "proj_2eh2n8gh33c0hxs1"
ENVELOPE = ["id", "action", "created_at", "project_id", "organization_id", "user_id", "target_type", "target_id",
            "metadata", "actor"]
CSV_COLUMNS = ["id", "created_at", "action", "actor_type", "actor_id", "user_id", "project_id", "target_type",
               "target_id", "ip", "user_agent", "description"]
ID = re.compile(r"evt_[0-9A-HJKMNP-TV-Z]{26}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture(scope="module")
def loaded(server):
    """The output of two runs of `annal load-samples` against the running server."""
    runs = [server.cli("load-samples"), server.cli("load-samples")]
    for run in runs:
        assert run.returncode == 0, run.stderr
    return [run.stdout for run in runs]


@pytest.fixture(scope="module")
def reader(server, loaded):
    """A key of the sample project. Made through the CLI, so that its creation event is one more event there."""
    made = server.cli("keys", "create", "--project", SAMPLE_PROJECT, "--name", "reader", "--scopes", "audit:read")
    assert made.returncode == 0, made.stderr
    key = json.loads(made.stdout)
    return Client(server, key["secret"], SAMPLE_PROJECT, key["id"])


@pytest.fixture(scope="module")
def listed(reader):
    """All sample events as the list shows them, oldest first."""
    events = [e for e in reader.walk() if not e["action"].startswith("api_key.")]
    return events[::-1]


def test_the_samples_file_has_forty_different_actions():
    assert len(SAMPLES) == 40
    assert len({s["action"] for s in SAMPLES}) == 40


def test_loading_twice_stores_once(loaded, listed):
    assert len(listed) == 40
    for output in loaded:
        assert "40" in output and SAMPLE_PROJECT in output


@pytest.mark.parametrize("index", range(40), ids=[s["action"] for s in SAMPLES])
def test_list_equals_the_sample(listed, index):
    sample, shown = SAMPLES[index], listed[index]
    for key in ENVELOPE:
        assert key in shown
    for key in set(ENVELOPE) - {"id", "created_at"}:
        assert shown[key] == sample[key], key
    assert ID.fullmatch(shown["id"])
    assert TIME.fullmatch(shown["created_at"])
    assert shown["external_id"] == sample["id"]
    assert shown["occurred_at"] == "2026-05-14T18:42:13.001000Z"
    assert shown["seq"] == index
    assert shown["auth_type"] == sample["actor"]["type"]
    further = set(shown) - set(ENVELOPE)
    assert further == {"seq", "external_id", "occurred_at", "auth_type"}


def test_the_list_is_newest_first_over_all_pages(reader):
    events = reader.walk(limit=7)
    assert [e["seq"] for e in events] == list(range(40, -1, -1))
    assert [e["created_at"] for e in events] == sorted((e["created_at"] for e in events), reverse=True)
    assert [e["id"] for e in events] == sorted((e["id"] for e in events), reverse=True)


def members_of(line):
    return raw_object(line)[0]


def test_jsonl_is_the_samples_file_but_for_what_the_server_adds(reader):
    lines = [line for line in reader.export_lines() if '"action":"api_key.' not in line][::-1]
    assert len(lines) == 40
    for line, sample in zip(lines, SAMPLE_LINES):
        shown, posted = members_of(line), members_of(sample)
        assert list(shown)[:10] == ENVELOPE
        for key in set(ENVELOPE) - {"id", "created_at"}:
            assert shown[key] == posted[key], "the text itself must be the same"
        assert shown["external_id"] == posted["id"]


def test_list_and_jsonl_have_the_same_text(reader):
    answer = reader.get("/v1/audit/events?limit=200")
    data = raw_array(raw_object(answer.text)[0]["data"])
    assert data == reader.export_lines()


def test_csv_equals_the_samples(reader):
    answer = reader.get("/v1/audit/events.csv?to=2100-01-01T00:00:00Z")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.count("\r\n") == answer.text.count("\n") == 42  # header, 40 samples, the reader's key
    rows = list(csv.reader(io.StringIO(answer.text, newline="")))
    assert rows[0] == CSV_COLUMNS
    rows = [row for row in rows[1:] if not row[2].startswith("api_key.")][::-1]
    assert len(rows) == 40
    for row, sample in zip(rows, SAMPLES):
        shown = dict(zip(CSV_COLUMNS, row, strict=True))
        assert ID.fullmatch(shown.pop("id"))
        assert TIME.fullmatch(shown.pop("created_at"))
        assert shown == {
            "action": sample["action"], "actor_type": sample["actor"]["type"], "actor_id": sample["actor"]["id"] or "",
            "user_id": sample["user_id"] or "", "project_id": sample["project_id"],
            "target_type": sample["target_type"] or "", "target_id": sample["target_id"] or "", "ip": "",
            "user_agent": "", "description": ""}


def test_types_counts_each_action(reader, listed):
    rows = reader.get("/v1/audit/events/types").json()["data"]
    shown = {row["action"]: row for row in rows}
    assert {action: row["count"] for action, row in shown.items()} == {s["action"]: 1 for s in SAMPLES} | {"api_key.created": 1}
    for e in listed:
        assert shown[e["action"]]["last_seen"] == e["created_at"]
    assert [(-row["count"], row["action"]) for row in rows] == sorted((-row["count"], row["action"]) for row in rows)


def uuid_form(event_id):
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = 0
    for c in event_id[4:]:
        number = number * 32 + digits.index(c)
    return uuid.UUID(int=number)


def test_get_by_id_in_both_forms(reader, listed):
    for e in listed:
        as_uuid = uuid_form(e["id"])
        assert as_uuid.version == 7 and as_uuid.variant == uuid.RFC_4122
        for form in (e["id"], e["id"].lower(), str(as_uuid), str(as_uuid).upper()):
            answer = reader.get(f"/v1/audit/events/{form}")
            assert answer.status == 200, form
            assert answer.json() == e


def test_ids_carry_the_recorded_time(listed):
    for e in listed:
        at = datetime.fromisoformat(e["created_at"].replace("Z", "+00:00"))
        milliseconds = (at - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(milliseconds=1)
        assert uuid_form(e["id"]).int >> 80 == milliseconds


# --- Filters

def matches(pattern):
    if pattern.endswith(".*"):
        return lambda e: e["action"].startswith(pattern[:-1])
    return lambda e: e["action"] == pattern


FILTERS = {
    "type=session.created": matches("session.created"),
    "type=session.*": matches("session.*"),
    "type=recovery.request.*": matches("recovery.request.*"),
    "type=organization.created,recovery.code.*": lambda e: e["action"] == "organization.created" or e["action"].startswith("recovery.code."),
    "type=*": lambda e: True,
    "type=nothing.*": lambda e: False,
    "user=" + quote("usr_…"): lambda e: e["user_id"] == "usr_…",
    "user=usr_": lambda e: False,
    "actor=" + quote("apikey_…"): lambda e: e["actor"]["id"] == "apikey_…",
    "organization=" + quote("org_…"): lambda e: e["organization_id"] == "org_…",
    "auth_type=api_key": lambda e: e["actor"]["type"] == "api_key",
    "target_type=membership": lambda e: e["target_type"] == "membership",
    "target=" + quote("web_…"): lambda e: e["target_id"] == "web_…",
    "external_id=evt_01HXAMPL...": lambda e: True,
    "external_id=evt_other": lambda e: False,
    "client=cli_1": lambda e: False,
    "issuer=iss_1": lambda e: False,
    "agent=agt_1": lambda e: False,
    "ip=203.0.113.5": lambda e: False,
    "from=2020-01-01T00:00:00Z": lambda e: True,
    "from=2100-01-01T00:00:00Z": lambda e: False,
    "to=2020-01-01T00:00:00Z": lambda e: False,
    "occurred_from=2026-05-14T18:42:13.001Z": lambda e: True,
    "occurred_from=2026-05-14T18:42:13.001001Z": lambda e: False,
    "occurred_to=2026-05-14T18:42:13.001Z": lambda e: False,
    "occurred_to=2026-05-14T18:42:13.001001Z": lambda e: True,
    "occurred_from=2026-05-14T20:42:13.001%2B02:00": lambda e: True,
    "q=passkey": lambda e: "passkey" in e["action"],
    "q=PASSKEY": lambda e: "passkey" in e["action"],
    "q=" + quote("rev"): lambda e: "rev" in e["action"],
    "q=" + quote("web_…"): lambda e: "web_…" in (e["target_id"] or ""),
    "q=_": lambda e: True,
    "q=%25": lambda e: False,
    "q=" + quote("or_s"): lambda e: "or_s" in e["action"],
}


def expected(*names):
    return [s["action"] for s in reversed(SAMPLES) if all(FILTERS[name](s) for name in names)]


def shown_actions(reader, query):
    # The reader's own key event is not one of the samples.
    return [e["action"] for e in reader.walk("?" + query) if not e["action"].startswith("api_key.")]


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter(reader, name):
    assert shown_actions(reader, name) == expected(name)


def pairs():
    by_parameter = {}
    for name in FILTERS:
        by_parameter.setdefault(name.split("=")[0], name)
    return list(itertools.combinations(by_parameter.values(), 2))


@pytest.mark.parametrize("first,second", pairs())
def test_each_pair_of_filters(reader, first, second):
    assert shown_actions(reader, f"{first}&{second}") == expected(first, second)


def test_all_filters_at_once(reader):
    query = "type=membership.*&user={0}&organization={1}&auth_type=user&target_type=membership&q=role&from=2020-01-01T00:00:00Z" \
            "&to=2100-01-01T00:00:00Z&occurred_from=2026-05-14T00:00:00Z&occurred_to=2026-05-15T00:00:00Z".format(
                quote("usr_…"), quote("org_…"))
    assert shown_actions(reader, query) == ["membership.role_changed"]


def test_from_is_inclusive_and_to_is_exclusive(reader, listed):
    tenth, twentieth = listed[10], listed[20]
    query = f"?from={tenth['created_at']}&to={twentieth['created_at']}"
    assert [e["seq"] for e in reader.walk(query)] == list(range(19, 9, -1))


def test_filters_serve_exports_too(reader):
    lines = reader.export_lines("?type=session.*&auth_type=user")
    assert [json.loads(line)["action"] for line in lines] == expected("type=session.*")


# --- The legacy list

def legacy_walk(reader, query, limit):
    events, before = [], None
    for _ in range(100):
        path = f"/v1/audit-events?limit={limit}{query}" + (f"&before={quote(before)}" if before else "")
        answer = reader.get(path)
        assert answer.status == 200, answer
        page = answer.json()
        assert set(page) >= {"data", "next_before"}
        assert len(page["data"]) <= limit
        events += page["data"]
        before = page["next_before"]
        if not before:
            return events
    raise AssertionError("the legacy pages have no end")


@pytest.mark.parametrize("limit", [1, 7, 41, 200])
def test_the_legacy_list_pages_without_loss_or_repeat(reader, limit):
    assert [e["seq"] for e in legacy_walk(reader, "", limit)] == list(range(40, -1, -1))


def test_before_is_exclusive(reader, listed):
    answer = reader.get(f"/v1/audit-events?limit=200&before={listed[10]['created_at']}").json()
    assert [e["seq"] for e in answer["data"]] == list(range(9, -1, -1))


@pytest.mark.parametrize("prefix,count", [
    ("session.", 4), ("session.org_s", 2), ("session.org_", 2), ("recovery.request.c", 2), ("rec", 6), ("_", 0), ("%25", 0),
    ("session%25", 0), ("se_sion", 0), ("session.created", 1), ("session.created.", 0)])
def test_action_prefix_is_plain_text(reader, prefix, count):
    actions = [e["action"] for e in legacy_walk(reader, f"&action_prefix={prefix}", 3)]
    plain = prefix.replace("%25", "%")
    assert actions == [s["action"] for s in reversed(SAMPLES) if s["action"].startswith(plain)]
    assert len(actions) == count


def test_the_underscore_of_a_prefix_is_no_wildcard(project):
    project.ingest(event("a_b.c"), event("axb.c"), event("a_b.d"))
    answer = project.get("/v1/audit-events?action_prefix=a_b").json()
    assert [e["action"] for e in answer["data"]] == ["a_b.d", "a_b.c"]


@pytest.mark.parametrize("query", ["before=yesterday", "limit=0", "limit=x", "before=2026-05-14", "colour=red"])
def test_bad_legacy_parameters_are_400(reader, query):
    expect_problem(reader.get("/v1/audit-events?" + query), 400, query.split("=")[0])


def test_samples_of_another_file(server, tmp_path):
    path = tmp_path / "mine.ndjson"
    path.write_text('{"project_id":"proj_of_mine","action":"a.b","actor":{"type":"user","id":null}}\n')
    run = server.cli("load-samples", "--file", path)
    assert run.returncode == 0, run.stderr
    assert "1 sample event" in run.stdout and "proj_of_mine" in run.stdout
