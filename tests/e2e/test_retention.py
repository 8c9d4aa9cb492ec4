"""Events go when their time is over, and nothing else does: a log of four months, by a clock that is put back."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from annal_server import MANIFESTS, STORE, Server, event, expect_problem, wait_until
from shifted_clock import shifted
from test_dialect_errors import APIS, Crowd, refused

if STORE == "postgres":
    from postgres_cluster import PostgresCluster

DAYS_AGO = [130, 85, 40, 33, 20, 5]
PER_DAY = 6
PROJECTS = ["plain", "a_year", "thirty", "held"]


class Past:
    """A server that has been there for months. Its clock, and that of its database, stand where they are put."""

    def __init__(self, archive):
        self.cluster = PostgresCluster() if STORE == "postgres" else None
        self.server = Server(database=self.cluster.create_database() if self.cluster else None)
        self.plain = dict(self.server.env) | {"AUTHIO_AUDIT_RETENTION_MONTHS": "12"}
        self.archive = archive

    def go_to(self, days_ago, **environment):
        """Starts it so many days ago; 0: today."""
        if self.server.process:
            self.server.terminate()
        if self.cluster:
            self.cluster.stop()
            self.cluster.environment = shifted(into=self.cluster.folder, days=-days_ago)
            self.cluster.start()
        self.server.env = self.plain | shifted(days=-days_ago) | environment
        self.server.start()
        self.server.await_run_at_start()
        return self.server

    def remove(self):
        self.server.kill()
        self.server.remove()
        if self.cluster:
            self.cluster.remove()


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    past = Past(tmp_path_factory.mktemp("archive"))
    try:
        projects = {}
        for days in DAYS_AGO:
            server = past.go_to(days)
            for name in PROJECTS:
                if name not in projects:
                    projects[name] = server.client().new_project(name)
                projects[name].ingest(*(event(f"day.d{days}", external_id=f"{name}_{n}") for n in range(PER_DAY)))
        past.projects = projects
        past.go_to(0)
        yield past
        past.server.terminate()
    finally:
        past.remove()


@pytest.fixture(scope="module")
def projects(past):
    return past.projects


def days_of(project):
    """How many events of each of the days are there."""
    counts = {}
    for stored in project.walk():
        if stored["action"].startswith("day.d"):
            counts[int(stored["action"][5:])] = counts.get(int(stored["action"][5:]), 0) + 1
    return counts


def whole(*days):
    return {day: PER_DAY for day in days}


def set_days(project, days):
    assert project.put("/v1/config/audit_retention_days", json.dumps(days)).status == 200


def set_hold(project, held):
    assert project.put("/v1/config/legal_hold", json.dumps(held)).status == 200


def run(past, trigger="daily"):
    answer = past.server.client().post("/v1/jobs/job-retention/runs", {"trigger": trigger})
    assert answer.status == 200, answer
    return answer.json()


def of(report, project):
    return next(one for one in report["projects"] if one["project_id"] == project.project)


def recorded(project, action):
    return [e for e in project.walk() if e["action"] == action]


def test_under_twelve_months_everything_is_there(past, projects):
    for project in projects.values():
        assert days_of(project) == whole(*DAYS_AGO)
    assert not past.server.logs("retention.short")


def test_a_dry_run_on_the_command_line_says_what_would_go_and_takes_nothing(past, projects):
    set_days(projects["thirty"], 30)
    done = past.server.cli("retention", "run", "--dry-run")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["dry_run"] and report["months"] == [] and not report["failed"]
    assert [one["project_id"] for one in report["projects"]] == [projects["thirty"].project]
    assert of(report, projects["thirty"])["events"] >= 4 * PER_DAY
    assert days_of(projects["thirty"]) == whole(*DAYS_AGO)
    assert recorded(projects["thirty"], "audit_log.expired") == []


def test_an_older_project_loses_what_is_older_than_its_days(past, projects):
    assert of(run(past)["report"], projects["thirty"])["kept_for_streams"] == []
    assert days_of(projects["thirty"]) == whole(20, 5)
    for name in ("plain", "a_year", "held"):
        assert days_of(projects[name]) == whole(*DAYS_AGO)


def test_what_a_stream_has_not_read_stays_seven_days_longer_then_it_gets_a_gap(past, projects, receiver):
    project = projects["plain"]
    receiver.answer = lambda _: 503
    made = project.post("/v1/audit/streams", {"name": "slow", "destination": "generic_webhook", "start": "earliest",
                                              "config": {"url": f"http://127.0.0.1:{receiver.port}/"}})
    assert made.status == 201, made
    stream = made.json()["id"]
    wait_until(lambda: receiver.requests, 30, "the first attempt")
    set_days(project, 30)
    report = of(run(past)["report"], project)
    assert report["kept_for_streams"] == [stream]
    assert days_of(project) == whole(33, 20, 5), "33 days are within the seven, 40 are not"
    assert of(run(past)["report"], project)["to_seq"] == report["to_seq"], "nothing more goes by itself"
    receiver.answer = lambda _: 200
    gap = wait_until(lambda: recorded(project, "audit_stream.gap"), 60, "the record of the gap")[0]
    assert (gap["metadata"]["from_seq"], gap["metadata"]["to_seq"]) == (0, report["to_seq"])

    def delivered():
        # What was tried before the answer changed had begun with what is gone now.
        events = [json.loads(line) for request in receiver.requests for line in request.lines]
        return any(e["action"] == "audit_stream.gap" and e["target_id"] == stream for e in events)
    wait_until(delivered, 60, "the gap in the stream")
    assert project.delete(f"/v1/audit/streams/{stream}").status == 204
    assert of(run(past)["report"], project)["kept_for_streams"] == [], "a stream that is revoked keeps nothing"
    assert days_of(project) == whole(20, 5)
    set_days(project, None)


def test_each_deed_is_an_event_of_the_log_that_it_was_done_to(projects):
    record = recorded(projects["thirty"], "audit_log.expired")[0]
    assert record["actor"] == {"type": "system", "id": "retention"}
    assert record["target_id"] == projects["thirty"].project
    assert record["metadata"]["audit_retention_days"] == 30
    assert record["metadata"]["events"] >= 4 * PER_DAY
    assert record["metadata"]["from_seq"] == 0
    assert record["metadata"]["cutoff"].endswith("T00:00:00.000000Z")


def test_a_legal_hold_refuses_what_takes_events_away(past, projects):
    project = projects["held"]
    oldest = project.walk()[-1]
    set_hold(project, True)
    for path, form in ((f"/v1/audit/events/{oldest['id']}", "detail"), (f"/api/logging/audit/{oldest['id']}", "detail"),
                       ("/api/admin/audit/cleanup", "message")):
        answer = project.delete(path)
        assert answer.status == 409, answer
        assert "legal hold" in answer.json()[form], answer
    set_days(project, 1)
    assert of(run(past)["report"], project)["held"]
    assert days_of(project) == whole(*DAYS_AGO)
    changes = [e for e in recorded(project, "project.setting.updated") if e["target_id"] == "legal_hold"]
    assert [e["metadata"] for e in changes] == [{"from": False, "to": True}]
    set_days(project, None)


def test_a_cleanup_answers_as_the_document_says(projects):
    project = projects["plain"]
    set_days(project, 10)
    narrow = project.make_key(["audit:read"])
    assert narrow.delete("/api/admin/audit/cleanup").status == 403
    before = len(project.walk())
    answer = project.delete("/api/admin/audit/cleanup")
    assert answer.status == 200 and answer.headers["content-type"] == "application/json", answer
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    cutoff = (today - timedelta(days=10)).strftime("%Y-%m-%dT00:00:00.000Z")
    document = answer.json()
    assert list(document) == ["deleted", "retentionDays", "cutoffDate"]
    assert document["retentionDays"] == 10 and document["cutoffDate"] == cutoff
    assert days_of(project) == whole(5)
    # The record of the cleanup has come beside what has gone.
    assert len(project.walk()) == before - document["deleted"] + 1
    assert recorded(project, "audit_log.cleaned_up")[0]["metadata"]["events"] == document["deleted"]
    again = project.delete("/api/admin/audit/cleanup").json()
    assert again["deleted"] == 0
    set_days(project, None)


def test_three_months_a_year_and_a_hold_on_one_log(past, projects, tmp_path):
    """The default policy from here on, and what goes is archived."""
    set_days(projects["a_year"], 365)
    archive = past.archive
    manifests = past.server.folder / "with_archive"
    manifests.mkdir()
    for path in MANIFESTS.glob("*.yaml"):
        text = path.read_text()
        if path.name == "job_retention.yaml":
            assert "# archive: /var/lib/annal-archive" in text
            text = text.replace("# archive: /var/lib/annal-archive", f"archive: {archive}")
        (manifests / path.name).write_text(text)
    past.plain.pop("AUTHIO_AUDIT_RETENTION_MONTHS")
    past.plain["ANNAL_MANIFESTS"] = str(manifests)
    server = past.go_to(0)
    warning = server.logs("retention.short")
    assert len(warning) == 1 and warning[0]["level"] == "warn" and "PCI DSS 10.5.1" in warning[0]["detail"]
    jobs = server.client().get("/v1/jobs").json()["data"]
    assert {job["trigger"] for job in jobs} == {"daily", "dry-run"}
    assert 130 in days_of(projects["a_year"]) and 130 in days_of(projects["held"])
    assert days_of(projects["a_year"]) == whole(*DAYS_AGO)

    set_days(projects["a_year"], None)
    report = run(past)["report"]
    assert report["months"] == [], "a hold keeps the month"
    one = of(report, projects["a_year"])
    file = Path(one["archive"]["file"])
    lines = file.read_text().splitlines()
    assert len(lines) == one["events"] == one["archive"]["events"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == one["archive"]["sha256"]
    assert [json.loads(line)["action"] for line in lines].count("day.d130") == PER_DAY
    assert 130 not in days_of(projects["a_year"]) and 85 in days_of(projects["a_year"])

    set_hold(projects["held"], False)
    month = (datetime.now(timezone.utc) - timedelta(days=130)).strftime("%Y-%m")
    assert month in run(past)["report"]["months"]
    assert 130 not in days_of(projects["held"]) and 85 in days_of(projects["held"])
    assert run(past)["report"]["months"] == []
    for project in projects.values():
        assert project.get("/v1/audit/events?from=2020-01-01T00:00:00Z").status == 200


def test_cleanups_at_once_take_what_one_takes(projects):
    project = projects["held"]
    assert 85 in days_of(project)
    set_days(project, 30)
    before = len(project.walk())
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: project.delete("/api/admin/audit/cleanup"), range(8)))
    assert {a.status for a in answers} == {200}, answers
    assert days_of(project) == whole(20, 5)
    records = recorded(project, "audit_log.cleaned_up")
    taken = before - (len(project.walk()) - len(records))
    assert sorted(a.json()["deleted"] for a in answers) == [0] * 7 + [taken]
    assert [record["metadata"]["events"] for record in records] == [taken]
    set_days(project, None)


def test_a_cleanup_for_which_the_queue_has_no_room_is_429_and_takes_nothing(past, projects):
    project = projects["a_year"]
    ages = sorted(days_of(project), reverse=True)
    past.server.settings = "limits:\n  project_queue_bytes: 1KiB\n"
    past.go_to(0)
    past.server.settings = None

    def clean_up(number):
        """One that gets through takes the oldest day away, so that the next has something to take, too."""
        days = str(ages[number] - 2)
        if number > 0:
            wait_until(lambda: project.put("/v1/config/audit_retention_days", days).status == 200, what="the setting")
        return project.delete("/api/admin/audit/cleanup")
    set_days(project, ages[0] - 2)
    with Crowd(project):
        answer = refused(clean_up, len(ages) - 1)
    APIS["porta"].expect(answer, 429)
    assert answer.json()["error"] == "TooManyRequests"
    assert max(days_of(project)) == ages[answer.number]
    assert project.delete("/api/admin/audit/cleanup").status == 200, "and then there is room"
    assert max(days_of(project)) == ages[answer.number + 1]
    set_days(project, None)


def test_streams_and_reads_go_on_over_a_restart(past, projects):
    before = {name: days_of(project) for name, project in projects.items()}
    past.go_to(0)
    assert {name: days_of(project) for name, project in projects.items()} == before
    for project in projects.values():
        project.ingest(event("goes.on"))
        assert project.page("?limit=1")["data"][0]["action"] == "goes.on"


@pytest.mark.parametrize("name", ["AUTHIO_AUDIT_RETENTION_MONTHS", "AUTHIO_AUDIT_FORWARD_MONTHS"])
@pytest.mark.parametrize("value", ["0", "-1", "3.5", "soon", "99999"])
def test_nonsense_refuses_to_start(make_server, name, value):
    server = make_server(env={name: value}).spawn()
    assert server.wait_exit(60) != 0
    assert name in server.stderr() and "whole number of months from 1" in server.stderr()


def test_the_command_line_runs_retention_and_lists_its_jobs(make_server):
    server = make_server().start()

    def cli(*arguments, code=0):
        done = server.cli(*arguments)
        assert done.returncode == code, (done.args, done.returncode, done.stdout, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()] if code == 0 else done.stderr

    server.await_run_at_start()
    daily, dry_run = cli("jobs", "list")
    assert (daily["instance"], daily["trigger"], daily["every_seconds"]) == ("job-retention", "daily", 86_400)
    assert daily["at_start"] and not daily["running"] and daily["last_run"]["error"] is None
    assert (dry_run["trigger"], dry_run["every_seconds"], dry_run["last_run"]) == ("dry-run", None, None)

    (report,) = cli("retention", "run", "--dry-run")
    assert report["dry_run"] and report["months"] == report["projects"] == [] and report["error"] is None and not report["failed"]
    assert report["policy"] == {"months": 3, "forward_months": 3, "unread_days": 7, "archive": None, "archive_to": None}
    again, dry_run = cli("jobs", "list")
    assert again == daily, "a dry run is none"
    assert dry_run["last_run"]["report"] == report

    (report,) = cli("retention", "run")
    assert not report["dry_run"] and not report["failed"]
    ran, dry_run_too = cli("jobs", "list")
    assert ran["last_run"]["report"] == report and ran["last_run"]["started_at"] > daily["last_run"]["ended_at"]
    assert dry_run_too == dry_run
    assert server.client().get("/v1/jobs").json()["data"] == [ran, dry_run]

    for arguments in (["jobs"], ["retention"], ["retention", "run", "--dry"], ["jobs", "list", "extra"]):
        cli(*arguments, code=2)
    server.terminate()
    assert cli("retention", "run", "--dry-run")[0]["dry_run"], "and without a server"
    assert cli("jobs", "list")[0] == ran


def test_the_command_line_says_that_there_is_no_retention(make_server):
    server = make_server(defaults=False, manifests=[MANIFESTS / "ingest_http.yaml"]).start()
    done = server.cli("retention", "run", "--dry-run")
    assert done.returncode == 1 and done.stdout == "" and "job_retention.yaml" in done.stderr
    done = server.cli("jobs", "list")
    assert (done.returncode, done.stdout) == (0, "")


def test_runs_at_once_are_refused_but_one(server, root):
    def run_now(trigger):
        answer = root.post("/v1/jobs/job-retention/runs", {"trigger": trigger})
        if answer.status == 200:
            assert answer.json()["trigger"] == trigger and answer.json()["error"] is None
        else:
            expect_problem(answer, 409, "runs already")
        return answer.status
    server.await_run_at_start()
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(run_now, ["daily", "dry-run"] * 20))
    assert set(statuses) == {200, 409}
    assert run_now("daily") == run_now("dry-run") == 200
    assert not any(job["running"] for job in root.get("/v1/jobs").json()["data"])


@pytest.mark.parametrize("scopes", [["audit:read", "audit:ingest"], ["audit:write"], ["keys:write", "streams:write"], ["admin"]])
def test_who_may_do_what(root, project, scopes):
    """Jobs are about all projects, settings about one's own."""
    key = project.make_key(scopes)
    expect_problem(key.get("/v1/jobs"), 403, "platform")
    expect_problem(key.post("/v1/jobs/job-retention/runs", {"trigger": "dry-run"}), 403, "platform")
    assert key.delete("/api/admin/audit/cleanup").status == (200 if scopes in (["admin"], ["audit:write"]) else 403)
    for path in ("/v1/config/legal_hold", "/v1/config/audit_retention_days"):
        value = "true" if path.endswith("hold") else "1"
        if scopes == ["admin"]:
            assert key.put(path, value, headers={"Annal-Project": root.project}).status == 200
        else:
            expect_problem(key.put(path, value), 403, "admin")
            expect_problem(key.get(path), 403, "admin")
    assert root.get("/v1/config/legal_hold").json()["value"] is False, "no header leads to another project"
    assert root.get("/v1/config/audit_retention_days").json()["value"] is None


@pytest.mark.parametrize("key, values", [
    ("legal_hold", ["1", "0", '"true"', "null", "[]", "{}", "[true]"]),
    ("audit_retention_days", ["0", "-1", "-0", "1.0", "1e2", "36501", "99999999999999999999", "1e400", '"30"', "true", "[]", "{}"])])
def test_a_setting_that_is_none_changes_nothing(project, key, values):
    path = f"/v1/config/{key}"
    before = project.get(path).json()["value"]
    for value in values:
        expect_problem(project.put(path, value), 422, key)
    for value in ("", "tru", "true true", "NaN", "1,", "[" * 3_000):
        expect_problem(project.put(path, value), 400)
    expect_problem(project.put(path, '"' + "x" * 4_096 + '"'), 413)
    assert project.get(path).json()["value"] == before
    assert recorded(project, "project.setting.updated") == []


@pytest.mark.parametrize("body, status", [
    ({"trigger": 4}, 422), ({"trigger": ""}, 422), ({"trigger": None}, 422), ({"trigger": "x" * 64}, 422), ({"trigger": "x" * 63}, 404),
    ({"trigger": "daily\0"}, 422), ({"trigger": "daily", "now": True}, 422), ({"trigger": "Daily"}, 404), ([], 400), ("daily", 400)])
def test_a_run_of_nothing(root, body, status):
    expect_problem(root.post("/v1/jobs/job-retention/runs", json.dumps(body)), status)


def test_jobs_say_what_is_wrong(root, project):
    expect_problem(project.get("/v1/jobs"), 403)
    expect_problem(root.post("/v1/jobs/no-such/runs", {"trigger": "daily"}), 404, "job-retention/daily")
    expect_problem(root.post("/v1/jobs/job-retention/runs", {"trigger": "weekly"}), 404, "job-retention/daily")
    expect_problem(root.post("/v1/jobs/job-retention/runs", {}), 422)


def test_a_setting_needs_no_project_where_there_is_one(make_server):
    server = make_server().start()
    done = server.cli("config", "set", "--key", "audit_retention_days", "--value", "365")
    assert done.returncode == 0, done.stderr
    assert server.client().get("/v1/config/audit_retention_days").json()["value"] == 365
    server.client().new_project("another")
    done = server.cli("config", "set", "--key", "audit_retention_days", "--value", "30")
    assert done.returncode != 0 and "another" in done.stderr and "--project" in done.stderr
