"""A log that has grown over weeks: the server's clock stands elsewhere at each of its starts. SQLite: a database has its own clock."""

from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from annal_server import Server, event
from shifted_clock import shifted

DAYS_AGO = [66, 45, 31, 29, 15, 8, 7, 6, 1, 0]
PER_DAY = 7


@pytest.fixture(scope="module")
def weeks():
    """The server as it is today, and the client of a project that got PER_DAY events on each of those days."""
    server, project = Server(), None
    plain = dict(server.env)
    try:
        for days in DAYS_AGO:
            server.env = plain | shifted(days=-days)
            server.start()
            if project is None:
                project = server.client().new_project()
            project.ingest(*[event(f"day.d{days}" if i else "day.any", user_id=f"usr_{i % 3}") for i in range(PER_DAY)])
            if days:
                server.terminate()
        yield project
        server.terminate()
    finally:
        server.kill()
        server.remove()


@pytest.fixture(scope="module")
def events(weeks):
    return [e for e in weeks.walk() if e["action"].startswith("day.")]


def at(stored):
    return datetime.fromisoformat(stored["created_at"]).astimezone(timezone.utc)


def test_the_log_spans_the_months(events):
    assert len(events) == PER_DAY * len(DAYS_AGO)
    assert len({at(e).strftime("%Y-%m") for e in events}) >= 3
    assert [e["created_at"] for e in events] == sorted((e["created_at"] for e in events), reverse=True)


def test_types_are_those_of_30_days(weeks):
    counts = {row["action"]: row["count"] for row in weeks.get("/v1/audit/events/types").json()["data"]}
    recent = [days for days in DAYS_AGO if days <= 30]
    assert 29 in recent and 31 not in recent
    for days in DAYS_AGO:
        assert counts.get(f"day.d{days}") == (PER_DAY - 1 if days in recent else None), days
    assert counts["day.any"] == len(recent)


def start_of(stored, interval):
    day = at(stored).replace(hour=0, minute=0, second=0, microsecond=0)
    hour = at(stored).replace(minute=0, second=0, microsecond=0)
    return {"hour": hour, "day": day, "week": day - timedelta(days=day.weekday())}[interval]


@pytest.mark.parametrize("interval", ["hour", "day", "week"])
def test_buckets_are_hours_days_and_weeks_from_monday(weeks, events, interval):
    expected = Counter(start_of(e, interval) for e in events)
    answer = weeks.get(f"/v1/audit/events/aggregate?type=day.*&interval={interval}").json()
    native = {datetime.fromisoformat(b["start"]): b["rows"][0]["count"] for b in answer["buckets"]}
    assert list(native) == sorted(native) and native == dict(expected)
    answer = weeks.get(f"/v1/accounts/{weeks.project}/events/aggregate?event_types=day.*&interval={interval}").json()
    authpi = {b["ts"]: b["rows"][0]["count"] for b in answer["buckets"]}
    assert authpi == {int(start.timestamp() * 1000): count for start, count in expected.items()}


@pytest.mark.parametrize("days", [7, 30])
def test_a_window_cuts_buckets_where_it_begins(weeks, events, days):
    first = [e for e in events if e["action"] == f"day.d{min(d for d in DAYS_AGO if d >= days)}"][2]
    inside = [e for e in events if e["created_at"] >= first["created_at"]]
    answer = weeks.get(f"/v1/audit/events/aggregate?type=day.*&interval=day&count_unique=user_id&from={first['created_at']}").json()
    assert sum(b["rows"][0]["count"] for b in answer["buckets"]) == len(inside)
    assert answer["buckets"][0]["rows"][0]["count"] == sum(start_of(e, "day") == start_of(first, "day") for e in inside)
    assert answer["buckets"][-1]["rows"][0]["uniques"] == {"user_id": 3}


def test_the_oldest_page_by_number_and_by_cursor(weeks, events):
    listed = weeks.get("/api/admin/audit?action=day.*&pageSize=10&page=7").json()
    assert listed["pagination"] == {"total": len(events), "page": 7, "pageSize": 10, "totalPages": 7}
    assert [row["action"] for row in listed["data"]] == [e["action"] for e in events[60:]]
    oldest = weeks.get("/api/logging/audit/?action__startswith=day.&sort_order=asc&limit=7").json()
    assert [item["id"] for item in oldest["items"]] == [e["id"] for e in reversed(events[-7:])]
    assert oldest["collection_total"] == len(events)
