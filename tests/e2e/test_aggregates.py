"""Counts by time and value, against a count of this file's own over the list."""

import itertools
from collections import defaultdict
from datetime import datetime, timedelta, timezone

import pytest
from annal_server import event, expect_problem

COLUMNS = ["action", "actor_type", "actor_id", "actor_email", "auth_type", "user_id", "organization_id", "client_id",
           "issuer_id", "agent_id", "target_type", "target_id", "external_id", "ip"]
INTERVALS = [None, "hour", "day", "week"]
UNIQUES = [(), ("user_id",), ("ip", "action", "user_id")]
PATH = "/v1/audit/events/aggregate"


def aggregate(client, **parameters):
    query = "&".join(f"{name}={value}" for name, value in parameters.items() if value)
    answer = client.get(f"{PATH}?{query}")
    assert answer.status == 200, answer
    return answer.json()


def value_of(stored, column):
    actor = {"actor_type": "type", "actor_id": "id", "actor_email": "email"}
    return stored["actor"].get(actor[column]) if column in actor else stored.get(column)


def start_of(stored, interval):
    at = datetime.fromisoformat(stored["created_at"]).astimezone(timezone.utc)
    hour = at.replace(minute=0, second=0, microsecond=0)
    day = hour.replace(hour=0)
    start = {"hour": hour, "day": day, "week": day - timedelta(days=day.weekday())}[interval]
    return start.strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def counted(events, group_by, interval, unique):
    buckets = defaultdict(lambda: defaultdict(list))
    for stored in events:
        key = value_of(stored, group_by) if group_by else None
        if group_by and not key:
            continue
        buckets[start_of(stored, interval) if interval else None][key].append(stored)
    expected = {"interval": interval, "group_by": group_by, "buckets": []}
    for start, groups in sorted(buckets.items(), key=lambda item: item[0] or ""):
        rows = []
        for key, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0] or "")):
            row = ({"key": key} if group_by else {}) | {"count": len(members)}
            if unique:
                row["uniques"] = {name: len({value_of(m, name) for m in members} - {None, ""}) for name in unique}
            rows.append(row)
        expected["buckets"].append(({"start": start} if interval else {}) | {"rows": rows})
    if not interval and not expected["buckets"]:
        expected["buckets"] = [{"rows": []}]
    return expected


@pytest.fixture
def filled(project):
    for n in range(6):
        project.ingest(*[
            event(f"kind{i % 5}.made", actor={"type": "user" if i % 3 else "api_key", "id": f"usr_{i % 7}", "email": f"{i % 4}@x.test"},
                  user_id=f"usr_{i % 11}" if i % 4 else None, organization_id=["org_1", "org_2", ""][i % 3], client_id=f"cli_{i % 2}",
                  issuer_id=f"iss_{i % 3}", agent_id=f"agt_{i % 13}", target_type="thing", target_id=f"t{i}", external_id=f"x{i % 9}",
                  ip=f"192.0.2.{i % 6 + 1}", auth_type=["user", "token"][i % 2])
            for i in range(n * 40, n * 40 + 40)])
    victims = project.page("?limit=30&type=kind3.made")["data"][::7]
    for victim in victims:
        assert project.delete(f"/v1/audit/events/{victim['id']}").status == 204
    return project


def test_every_group_interval_and_distinct_count_is_exact(filled):
    events = filled.walk()
    for group_by, interval, unique in itertools.product([None] + COLUMNS, INTERVALS, UNIQUES):
        answer = aggregate(filled, group_by=group_by, interval=interval, count_unique=",".join(unique))
        assert answer == counted(events, group_by, interval, unique), (group_by, interval, unique)


@pytest.mark.parametrize("query", ["type=kind1.made,kind2.*", "organization=org_1&ip=192.0.2.3", "user=usr_5", "q=KIND4", "actor=nobody",
                                   "to=2020-01-01T00:00:00Z", "target_type=thing&auth_type=token"])
def test_filters_are_those_of_the_list(filled, query):
    filters = dict(pair.split("=") for pair in query.split("&"))
    events = filled.walk("?" + query)
    for interval in (None, "day"):
        answer = aggregate(filled, group_by="action", interval=interval, count_unique="user_id", **filters)
        assert answer == counted(events, "action", interval, ("user_id",))


def test_bounds_of_time_are_inclusive_and_exclusive(filled):
    events = filled.walk()
    middle = events[len(events) // 2]["created_at"]
    newer = [e for e in events if e["created_at"] >= middle]
    assert aggregate(filled, **{"from": middle}) == counted(newer, None, None, ())
    older = [e for e in events if e["created_at"] < middle]
    assert aggregate(filled, to=middle, group_by="action") == counted(older, "action", None, ())


def test_without_events_there_is_one_bucket_without_interval_and_none_with_one(project):
    long_ago = {"to": "2020-01-01T00:00:00Z"}
    assert aggregate(project, **long_ago) == {"interval": None, "group_by": None, "buckets": [{"rows": []}]}
    assert aggregate(project, group_by="ip", **long_ago)["buckets"] == [{"rows": []}]
    assert aggregate(project, interval="day", **long_ago) == {"interval": "day", "group_by": None, "buckets": []}


def test_what_it_does_not_know_is_400_by_name(project):
    for query, word in (("group_by=metadata", "group_by"), ("interval=month", "interval"), ("count_unique=a,b", "count_unique"),
                        ("limit=5", "limit"), ("cursor=x", "cursor"), ("from=yesterday", "from")):
        problem = expect_problem(project.get(f"{PATH}?{query}"), 400)
        assert word in problem["detail"], problem


def test_scope_and_key_are_asked_for(project):
    expect_problem(project.get(PATH, key=False), 401)
    expect_problem(project.make_key(["audit:ingest"]).get(PATH), 403)
    assert project.make_key(["audit:read"]).get(PATH).status == 200
    assert project.post(PATH, {}).status == 405
