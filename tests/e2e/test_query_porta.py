"""Porta's audit list, against the text and the sample of its documentation."""

import itertools
import json
import re
from datetime import datetime, timedelta, timezone
from urllib.parse import quote, urlencode

import pytest
from annal_server import event, raw_array, raw_object, wait_until
from test_samples import uuid_form

# As the documentation has it; its ids are placeholders.
SAMPLE = """\
{
  "data": [
    {
      "id": "event-uuid",
      "action": "organization.created",
      "entityType": "organization",
      "entityId": "org-uuid",
      "actorId": "user-uuid",
      "actorEmail": "admin@example.com",
      "organizationId": "org-uuid",
      "metadata": {
        "name": "Acme Corp",
        "slug": "acme-corp"
      },
      "createdAt": "2024-01-15T10:30:00.000Z"
    }
  ],
  "pagination": {
    "total": 156,
    "page": 1,
    "pageSize": 20,
    "totalPages": 8
  }
}"""

# Every table of event types, without the descriptions.
ACTIONS = """
organization.created organization.updated organization.suspended organization.activated organization.archived
organization.branding_updated
user.created user.invited user.updated user.suspended user.activated user.locked user.unlocked user.archived
user.password_changed user.login_success user.login_failure
client.created client.updated client.revoked client.secret_generated client.secret_revoked
role.created role.updated role.archived role.permission_assigned role.permission_removed user.role_assigned user.role_removed
security.login_method_disabled security.2fa_enabled security.2fa_disabled security.rate_limited
user.data_exported user.data_purged
user.auto_locked user.auto_unlocked
""".split()

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PATH = "/api/admin/audit"


def ask(client, **parameters):
    """The answer to a list with these parameters; `from_` stands for from."""
    answer = client.get(PATH + query_of(parameters))
    assert answer.status == 200, answer
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def query_of(parameters):
    named = {name.rstrip("_"): value for name, value in parameters.items()}
    return "?" + urlencode(named, quote_via=quote) if named else ""


def entities(client, **parameters):
    return [row["entityId"] for row in ask(client, **parameters)["data"]]


def total(client, **parameters):
    return ask(client, **parameters)["pagination"]["total"]


def expect_error(answer, status, error, *words):
    """Checks an error document of Porta's form; its message."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["annal-request-id"]
    document = answer.json()
    assert list(document) == ["error", "message", "statusCode"], document
    assert (document["error"], document["statusCode"]) == (error, status)
    for word in words:
        assert word in document["message"], (word, document)
    return document["message"]


def paged(i):
    return event("page.me", target_type="thing", target_id=str(i))


@pytest.fixture(scope="module")
def pages(root):
    """A project of 45 events that page.me selects, and the one of its key."""
    client = root.new_project()
    client.ingest(*(paged(i) for i in range(45)))
    return client


# --- The answer

def test_the_sample(project):
    sample = json.loads(SAMPLE)
    row = sample["data"][0]
    receipt = project.ingest({
        "action": row["action"], "actor": {"type": "user", "id": row["actorId"], "email": row["actorEmail"]},
        "organization_id": row["organizationId"], "target_type": row["entityType"], "target_id": row["entityId"],
        "metadata": row["metadata"]})[0]
    shown = ask(project, action=row["action"])
    assert list(shown) == list(sample)
    assert list(shown["pagination"]) == list(sample["pagination"])
    assert shown["pagination"] == {"total": 1, "page": 1, "pageSize": 20, "totalPages": 1}
    assert len(shown["data"]) == 1
    assert list(shown["data"][0]) == list(row), "every key, in the order of the sample"
    assert list(shown["data"][0]["metadata"]) == list(row["metadata"])
    for key in set(row) - {"id", "createdAt"}:
        assert shown["data"][0][key] == row[key], key
    assert shown["data"][0]["id"] == str(uuid_form(receipt["id"]))
    assert UUID.fullmatch(shown["data"][0]["id"])
    assert TIME.fullmatch(shown["data"][0]["createdAt"])
    assert shown["data"][0]["createdAt"] == receipt["created_at"][:-4] + "Z", "milliseconds, cut and not rounded"


def test_the_totals_of_the_sample(project):
    project.ingest(*(event("organization.created") for _ in range(156)))
    assert ask(project, action="organization.created")["pagination"] == json.loads(SAMPLE)["pagination"]


def test_what_is_not_set_is_null(project):
    project.ingest({"action": "bare.event", "actor": {"type": "system", "id": None}})
    row = ask(project, action="bare.event")["data"][0]
    assert row == {"id": row["id"], "action": "bare.event", "entityType": None, "entityId": None, "actorId": None,
                   "actorEmail": None, "organizationId": None, "metadata": {}, "createdAt": row["createdAt"]}


def test_metadata_is_passed_on_byte_for_byte(project):
    metadata = '{ "z" :1.50e+2, "a":"\\u00e9\\/", "n" : {"x":[ 1,2 ]},"é":" " }'
    body = '{"action":"raw.text","actor":{"type":"user","id":"u"},"metadata":' + metadata + "}"
    assert project.post("/v1/audit/events", body).status == 201
    answer = project.get(PATH + "?action=raw.text")
    row = raw_object(raw_array(raw_object(answer.text)[0]["data"])[0])[0]
    assert row["metadata"] == metadata


def test_the_id_gets_the_event(pages):
    for row in ask(pages, pageSize=3)["data"]:
        answer = pages.get(f"/v1/audit/events/{row['id']}")
        assert answer.status == 200, answer
        assert answer.json()["action"] == row["action"]
        assert str(uuid_form(answer.json()["id"])) == row["id"]


def test_the_newest_comes_first(pages):
    assert entities(pages, action="page.me", pageSize=100) == [str(i) for i in range(44, -1, -1)]


def test_another_project_sees_nothing_of_it(pages, project):
    assert total(project, action="page.me") == 0
    assert [row["action"] for row in ask(project)["data"]] == ["api_key.created"]


# --- Event types

@pytest.fixture(scope="module")
def typed(root):
    """One event of each type, under the strict catalog."""
    client = root.new_project()
    assert client.put("/v1/config/catalog", '"strict"').status == 200
    client.ingest(*(event(action, target_id=action) for action in ACTIONS))
    return client


def test_the_tables_name_each_type_once():
    assert len(ACTIONS) == len(set(ACTIONS)) == 37


@pytest.mark.parametrize("action", ACTIONS)
def test_each_type_is_taken_and_found(typed, action):
    shown = ask(typed, action=action)
    assert [row["action"] for row in shown["data"]] == [action]
    assert shown["pagination"] == {"total": 1, "page": 1, "pageSize": 20, "totalPages": 1}


@pytest.mark.parametrize("namespace", sorted({action.split(".")[0] for action in ACTIONS}))
def test_a_namespace_is_found_whole(typed, namespace):
    wanted = [action for action in reversed(ACTIONS) if action.startswith(namespace + ".")]
    assert entities(typed, action=namespace + ".*", pageSize=100) == wanted
    assert total(typed, action=namespace + ".*") == len(wanted)


def test_every_type(typed):
    assert total(typed, action="*") == total(typed)
    assert total(typed, entity_id="user.created", action="*") == 1


@pytest.mark.parametrize("action", ["user", "user.create", "user.created.x", "User.Created", "none.such", "none.*"])
def test_a_type_that_is_none_finds_nothing(typed, action):
    assert ask(typed, action=action) == {"data": [], "pagination": {"total": 0, "page": 1, "pageSize": 20, "totalPages": 0}}


# --- Filters

@pytest.fixture(scope="module")
def mixed(root):
    """A project with values in many combinations: what was sent and recorded, newest first."""
    client = root.new_project()
    sent = [event(("user.updated", "role.updated")[i % 2], target_type=("user", "role", "client")[i % 3],
                  target_id=("user-uuid", "any string", "0197a000-0000-7000-8000-000000000000", "é&=")[i % 4],
                  actor={"type": "user", "id": ("a-1", "A-1", "a", "a-1 ", "x")[i % 5]},
                  organization_id=("org-1", "org-2")[i // 2 % 2]) for i in range(120)]
    stored = [one | receipt for one, receipt in zip(sent, client.ingest(*sent), strict=True)]
    return client, stored[::-1]


def filters_of(stored):
    """Each parameter, its value and whom it selects."""
    begin, end = stored[100]["created_at"], stored[10]["created_at"]
    return {
        "action": ("user.*", lambda e: e["action"].startswith("user.")),
        "entity_type": ("role", lambda e: e["target_type"] == "role"),
        "entity_id": ("user-uuid", lambda e: e["target_id"] == "user-uuid"),
        "actor_id": ("a-1", lambda e: e["actor"]["id"] == "a-1"),
        "organization_id": ("org-1", lambda e: e["organization_id"] == "org-1"),
        "from": (begin, lambda e: e["created_at"] >= begin),
        "to": (end, lambda e: e["created_at"] < end),
    }


@pytest.mark.parametrize("count", range(1, 8))
def test_every_combination_of_filters(mixed, count):
    client, stored = mixed
    filters = filters_of(stored)
    assert len(filters) == 7
    found = 0
    for names in itertools.combinations(filters, count):
        wanted = [str(uuid_form(e["id"])) for e in stored if all(filters[name][1](e) for name in names)]
        if names == ("to",):
            wanted.append(None)  # the project's key was made before
        shown = ask(client, pageSize=100, **{name: filters[name][0] for name in names})
        assert shown["pagination"]["total"] == len(wanted), names
        ids = [row["id"] for row in shown["data"]]
        assert len(ids) == min(len(wanted), 100), names
        assert all(a == b or b is None for a, b in zip(ids, wanted)), names
        found += len(ids)
    assert found > 0


@pytest.mark.parametrize("name,value", [
    ("entity_id", "0197a000-0000-7000-8000-000000000000"), ("entity_id", "é&="), ("entity_id", "any string"), ("actor_id", "A-1"),
    ("actor_id", "a-1 "), ("organization_id", "org-2"), ("entity_type", "client")])
def test_ids_are_compared_as_they_are(mixed, name, value):
    client, stored = mixed
    column = {"entity_id": lambda e: e["target_id"], "actor_id": lambda e: e["actor"]["id"],
              "organization_id": lambda e: e["organization_id"], "entity_type": lambda e: e["target_type"]}[name]
    wanted = sum(column(e) == value for e in stored)
    assert wanted > 0
    assert total(client, **{name: value}) == wanted
    assert total(client, **{name: value + "x"}) == 0


def shifted(time_text, microseconds):
    at = datetime.fromisoformat(time_text.replace("Z", "+00:00")) + timedelta(microseconds=microseconds)
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_from_is_inclusive_and_to_is_exclusive_to_the_microsecond(mixed):
    client, stored = mixed
    one = stored[60]
    only = {"from_": one["created_at"], "to": shifted(one["created_at"], 1)}
    assert [row["id"] for row in ask(client, **only)["data"]] == [str(uuid_form(one["id"]))]
    assert total(client, **only) == 1
    assert total(client, from_=one["created_at"], to=one["created_at"]) == 0
    assert total(client, from_=one["created_at"]) == 61
    assert total(client, from_=shifted(one["created_at"], 1)) == 60
    assert total(client, to=one["created_at"], from_=stored[-1]["created_at"]) == 59
    assert total(client, to=shifted(one["created_at"], 1), from_=stored[-1]["created_at"]) == 60


def test_from_is_inclusive_and_to_is_exclusive_to_the_millisecond(mixed):
    client, _ = mixed
    row = ask(client, page=60, pageSize=1)["data"][0]
    at = row["createdAt"]
    assert row["id"] in [r["id"] for r in ask(client, from_=at, pageSize=100)["data"]]
    assert row["id"] not in [r["id"] for r in ask(client, to=at, pageSize=100)["data"]]
    after = shifted(at[:-1] + "000Z", 1000)[:-4] + "Z"
    within = ask(client, from_=at, to=after, pageSize=100)["data"]
    assert row["id"] in [r["id"] for r in within]
    assert {r["createdAt"] for r in within} == {at}


def test_forms_of_one_time(mixed):
    client, stored = mixed
    at = datetime.fromisoformat(stored[30]["created_at"].replace("Z", "+00:00"))
    east = at.astimezone(timezone(timedelta(hours=2))).isoformat()
    assert east.endswith("+02:00")
    assert total(client, from_=east) == 31


def test_a_date_begins_at_midnight_utc(mixed):
    client, _ = mixed
    everything = total(client)
    assert total(client, from_="2024-01-15") == everything
    assert total(client, to="2024-01-15") == 0
    assert total(client, from_="2100-01-01") == 0
    assert total(client, from_="2024-01-15", to="2100-01-01") == everything
    newest = ask(client, pageSize=1)["data"][0]["createdAt"]
    assert total(client, from_=newest[:10]) == total(client, from_=newest[:10] + "T00:00:00Z")


def test_a_window_that_ends_before_it_begins_is_empty(mixed):
    assert total(mixed[0], from_="2100-01-01", to="2020-01-01") == 0


# --- Pages

@pytest.mark.parametrize("size", [1, 7, 20, 44, 45, 46, 100])
def test_the_pages_hold_each_event_once(pages, size):
    seen, count = [], -(-45 // size)
    for page in range(1, count + 1):
        shown = ask(pages, action="page.me", page=page, pageSize=size)
        assert shown["pagination"] == {"total": 45, "page": page, "pageSize": size, "totalPages": count}
        assert len(shown["data"]) == (size if page < count else 45 - size * (count - 1))
        seen += [row["entityId"] for row in shown["data"]]
    assert seen == [str(i) for i in range(44, -1, -1)]
    past = ask(pages, action="page.me", page=count + 1, pageSize=size)
    assert past == {"data": [], "pagination": {"total": 45, "page": count + 1, "pageSize": size, "totalPages": count}}


def test_the_pages_without_a_filter(pages):
    seen = []
    for page in (1, 2, 3):
        shown = ask(pages, page=page)
        assert shown["pagination"] == {"total": 46, "page": page, "pageSize": 20, "totalPages": 3}
        seen += [row["action"] for row in shown["data"]]
    assert seen == ["page.me"] * 45 + ["api_key.created"]
    assert ask(pages, page=4)["data"] == []


@pytest.mark.parametrize("asked,given", [("1", 1), ("100", 100), ("101", 100), ("1000000", 100), ("9" * 40, 100)])
def test_the_size_of_a_page(pages, asked, given):
    shown = ask(pages, pageSize=asked)
    assert shown["pagination"]["pageSize"] == given
    assert len(shown["data"]) == min(given, 46)


@pytest.mark.parametrize("value", ["0", "-1", "abc", "1.5", "0x1", "+1", "1 "])
@pytest.mark.parametrize("name", ["page", "pageSize"])
def test_a_bad_number_is_400_and_named(pages, name, value):
    expect_error(pages.get(f"{PATH}?{name}={quote(value)}"), 400, "BadRequest", f"parameter {name} ")


@pytest.mark.parametrize("more", [{}, {"action": "page.me"}, {"from_": "2020-01-01"}, {"actor_id": "usr_1"}])
def test_the_largest_page_numbers(pages, more):
    for page in (5_000_001, 2**53 - 1):
        shown = ask(pages, page=page, pageSize=100, **more)
        assert shown["data"] == []
        assert shown["pagination"]["page"] == page
        assert shown["pagination"]["total"] in (45, 46)
    for page in (2**53, 2**63, 10**30):
        expect_error(pages.get(f"{PATH}?page={page}"), 400, "BadRequest", "parameter page ")


def test_a_deep_page(root):
    client = root.new_project()
    receipts = client.ingest(*(event(("deep.even", "deep.odd")[i % 2], target_id=str(i)) for i in range(6000)))
    assert entities(client, page=51, pageSize=100) == [str(i) for i in range(999, 899, -1)]
    assert entities(client, action="deep.odd", page=26, pageSize=100) == [str(i) for i in range(999, 799, -2)]
    assert entities(client, action="deep.*", page=300) == [str(i) for i in range(19, -1, -1)]
    middle = receipts[3000]["created_at"]
    assert entities(client, to=middle, page=30, pageSize=100) == [str(i) for i in range(99, -1, -1)]
    assert ask(client, action="deep.odd", page=31, pageSize=100) == {
        "data": [], "pagination": {"total": 3000, "page": 31, "pageSize": 100, "totalPages": 30}}


def test_a_filtered_page_beyond_a_hundred_thousand_is_400(make_server):
    # However slow a sanitizer's build on a busy machine is, the depth is what counts here.
    client = make_server(settings="limits:\n  scan_budget: 20s\n").start().client()
    for _ in range(11):
        assert client.ndjson('{"action":"far.away","actor":{"type":"user","id":"u"}}\n' * 9_200).status == 201
    assert total(client, action="far.away") == 101_200
    assert len(entities(client, action="far.away", page=1001, pageSize=100)) == 100
    answer = client.get(f"{PATH}?action=far.away&page=1002&pageSize=100")
    expect_error(answer, 400, "BadRequest", "page 1002", "100000", "from and to")
    # Times alone are no such filter, and behind the last page there is nothing to pass over.
    assert [row["action"] for row in ask(client, from_="2024-01-15", page=1013, pageSize=100)["data"]] == ["api_key.created"]
    assert entities(client, action="far.away", page=1014, pageSize=100) == []


def test_deleted_events_are_neither_shown_nor_counted(project):
    project.ingest(*(paged(i) for i in range(30)))
    rows = ask(project, action="page.me", pageSize=100)["data"]
    for row in rows[3:23]:
        assert project.delete(f"/v1/audit/events/{row['id']}").status == 204
    left = [str(i) for i in (29, 28, 27, 6, 5, 4, 3, 2, 1, 0)]
    assert entities(project, action="page.me") == left
    assert entities(project, action="page.me", page=2, pageSize=4) == left[4:8]
    assert ask(project, action="page.me", page=3, pageSize=4)["pagination"] == {
        "total": 10, "page": 3, "pageSize": 4, "totalPages": 3}
    # Besides: the key, and a record of each deletion.
    everything = ask(project, pageSize=100)
    assert everything["pagination"]["total"] == len(everything["data"]) == 10 + 1 + 20
    assert not {row["id"] for row in rows[3:23]} & {row["id"] for row in everything["data"]}
    assert entities(project, page=3, pageSize=10) == left
    assert [row["action"] for row in ask(project, from_="2024-01-15", page=31, pageSize=1)["data"]] == ["api_key.created"]


# --- Parameters and errors

def test_unknown_and_empty_parameters_are_passed_over(pages):
    plain = ask(pages)
    assert ask(pages, sort="asc", limit=3, colour="red") == plain
    for name in ("page", "pageSize", "action", "entity_type", "entity_id", "actor_id", "organization_id", "from", "to"):
        for value in ("", "null"):
            assert ask(pages, **{name: value}) == plain, name


@pytest.mark.parametrize("query", [
    "from=yesterday", "to=2024-02-30", "from=2024-01-15T10:30:00", "to=1705314600000", "from=2024-01-15T10:30:00+02:00",
    "action=user.created,user.updated", "action=user*", "action=*.created", "actor_id=" + "x" * 1025, "page=1&page=1",
    "entity_id=a&entity_id=b"])
def test_a_bad_value_is_400_and_named(pages, query):
    expect_error(pages.get(f"{PATH}?{query}"), 400, "BadRequest", f"parameter {query.split('=')[0]} ")


def test_no_key_is_401(root):
    for headers in ({}, {"Authorization": "Bearer sk_live_unknown"}):
        answer = root.get(PATH, key=False, headers=headers)
        expect_error(answer, 401, "Unauthorized")
        assert [name.lower() for name, _ in answer.pairs].count("www-authenticate") == 1
        assert "Bearer" in answer.headers["www-authenticate"]


def test_a_missing_scope_is_403_and_named(project):
    weak = project.make_key(["audit:ingest"])
    expect_error(weak.get(PATH), 403, "Forbidden", "audit:read")
    assert project.make_key(["audit:read"]).get(PATH).status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_another_method_is_405(root, method):
    answer = root.request(method, PATH)
    expect_error(answer, 405, "MethodNotAllowed")
    assert {word.strip() for word in answer.headers["allow"].split(",")} == {"GET", "HEAD"}


def test_an_unknown_path_below_is_404(root):
    for path in (PATH + "/none", PATH + "/019e27cb-df89-73e7-8123-456789abcdef/x"):
        expect_error(root.get(path), 404, "NotFound")


def test_a_trailing_slash_and_head(pages, server):
    assert pages.get(PATH + "/?pageSize=1").json() == ask(pages, pageSize=1)
    with server.raw() as connection:
        connection.send(f"HEAD {PATH} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {pages.secret}\r\n\r\n".encode())
        answer = connection.receive("HEAD")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


# --- What else its documentation promises

def test_fire_and_forget_writes_appear(project):
    body = event("user.login_success", actor={"type": "user", "id": "user-uuid", "email": "admin@example.com"},
                 target_type="user", target_id="user-uuid", metadata={"method": "password"})
    answer = project.post("/v1/audit/events", body, headers={"Prefer": "respond-async"})
    assert answer.status == 202, answer
    row = wait_until(lambda: ask(project, action="user.login_success")["data"], what="the event")[0]
    assert (row["actorId"], row["actorEmail"], row["metadata"]) == ("user-uuid", "admin@example.com", {"method": "password"})


def test_config_set_in_the_form_of_the_documentation(server, project):
    command = "config set --key audit_retention_days --value 365".split()
    done = server.cli(*command, env={"ANNAL_PROJECT": project.project})
    assert done.returncode == 0, done.stderr
    setting = project.get("/v1/config/audit_retention_days").json()
    assert setting["value"] == 365
    assert json.loads(done.stdout) == setting


# --- cleanup

CLEANUP = PATH + "/cleanup"


def test_a_cleanup_of_a_young_log_deletes_nothing_and_says_by_what(project):
    project.ingest(event("young.event"))
    for days in (1, 365, 36500):
        assert project.put("/v1/config/audit_retention_days", days).status == 200
        answer = project.delete(CLEANUP)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json"), answer
        document = answer.json()
        assert list(document) == ["deleted", "retentionDays", "cutoffDate"]
        assert (document["deleted"], document["retentionDays"]) == (0, days)
        midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        # The test may run over midnight.
        cutoffs = [midnight - timedelta(days=days + late) for late in (0, 1)]
        assert document["cutoffDate"] in [f"{at:%Y-%m-%d}T00:00:00.000Z" for at in cutoffs]
    assert any(e["action"] == "young.event" for e in project.walk())


def test_a_cleanup_without_a_setting_goes_by_the_months_that_the_node_keeps(project):
    document = project.delete(CLEANUP).json()
    assert document["deleted"] == 0 and document["cutoffDate"].endswith("-01T00:00:00.000Z")
    assert 89 <= document["retentionDays"] <= 123


def test_a_cleanup_asks_for_audit_write(project):
    expect_error(project.delete(CLEANUP, key=False), 401, "Unauthorized")
    expect_error(project.make_key(["audit:read"]).delete(CLEANUP), 403, "Forbidden")
    assert project.make_key(["audit:write"]).delete(CLEANUP).status == 200


def test_a_cleanup_under_legal_hold_is_409(project):
    assert project.put("/v1/config/legal_hold", True).status == 200
    expect_error(project.delete(CLEANUP), 409, "Conflict")
    assert project.put("/v1/config/legal_hold", False).status == 200
    assert project.delete(CLEANUP).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH"])
def test_another_method_of_cleanup_is_405(root, method):
    answer = root.request(method, CLEANUP)
    expect_error(answer, 405, "MethodNotAllowed")
    assert answer.headers["allow"] == "DELETE"
