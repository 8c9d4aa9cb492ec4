"""Errors in the form of the API that was asked, whoever makes them: the plugin, the host, or the store."""

import http.client
import json
import re
import threading
from datetime import datetime
from urllib.parse import quote

import pytest
from annal_server import STORE, event, wait_until

if STORE == "postgres":
    import postgres_cluster


def native(document, status):
    title = {413: "Content Too Large"}.get(status, http.client.responses[status])  # the word of RFC 9110
    return document["type"] and document["status"] == status and document["title"] == title and document["detail"] and document["code"]


def authpi(document, status):
    words = {400: "invalid_request", 401: "unauthorized_client", 403: "insufficient_scope", 404: "not_found", 405: "method_not_allowed",
             431: "invalid_request", 503: "temporarily_unavailable"}
    return list(document) == ["error", "error_description", "request_id"] and document["error"] == words[status]


def logging(document, status):
    return list(document) == ["detail"] and document["detail"]


def porta(document, status):
    return list(document) == ["error", "message", "statusCode"] and document["statusCode"] == status and " " not in document["error"]


class Api:
    def __init__(self, form, calls, content_type="application/json", missing=None, before=None):
        self.form, self.calls, self.content_type, self.missing, self.before = form, calls, content_type, missing, before

    def paths(self, project):
        return [call.replace("{project}", project) for call in self.calls]

    def expect(self, answer, status):
        assert answer.status == status, answer
        assert answer.headers["content-type"] == self.content_type, answer
        assert self.form(answer.json(), status), answer.text
        if status in (429, 503):
            assert int(answer.headers["retry-after"]) >= 1, answer
        if status == 401:
            assert answer.headers["www-authenticate"], answer


# `before`: the parameter of an upper bound of time, and how a time is written in it.
APIS = {
    "native": Api(native, ["/v1/audit/events", "/v1/audit/events/aggregate"], "application/problem+json", "/v1/audit/events/evt_nothing",
                  lambda at: f"to={quote(at)}"),
    "authpi": Api(authpi, ["/v1/accounts/{project}/events", "/v1/accounts/{project}/events/aggregate"],
                  missing="/v1/accounts/{project}/events/evt_nothing", before=lambda at: f"before={milliseconds(at)}"),
    "logging": Api(logging, ["/api/logging/audit/"], missing="/api/logging/audit/evt_nothing",
                   before=lambda at: f"timestamp__lt={quote(at)}"),
    "porta": Api(porta, ["/api/admin/audit"], missing="/api/admin/audit/nothing", before=lambda at: f"to={quote(at)}"),
}
each_api = pytest.mark.parametrize("api", APIS.values(), ids=APIS.keys())


def milliseconds(at):
    return int(datetime.fromisoformat(at).timestamp() * 1000)


@each_api
def test_keys_and_scopes(project, api):
    narrow = project.make_key(["audit:ingest"])
    for path in api.paths(project.project):
        api.expect(project.get(path, key=False), 401)
        api.expect(project.get(path, headers={"Authorization": "Bearer sk_live_" + "0" * 32}), 401)
        api.expect(narrow.get(path), 403)


@each_api
def test_what_is_not_there_and_what_can_not_be_done(project, api):
    if api.missing != "/api/admin/audit/nothing":  # no route of its own leads there
        api.expect(project.get(api.missing.replace("{project}", project.project)), 404)
    for path in api.paths(project.project):
        answer = project.post(path.rstrip("/") if path != "/v1/audit/events" else path + "/aggregate", {})
        api.expect(answer, 405)
        assert "GET" in answer.headers["allow"]


@each_api
def test_too_much_and_too_bad(project, api):
    for path in api.paths(project.project):
        api.expect(project.get(path, headers={"X-Long": "x" * 20_000}), 431)
    api.expect(project.get(f"{api.paths(project.project)[0]}?limit=0&pageSize=0"), 400)


def calls_with_a_body(client):
    """Method, path and what may come of it, of every call that the node describes with a body."""
    paths = client.get("/openapi.json", key=False).json()["paths"]
    return [(method.upper(), path.replace("{", "").replace("}", ""), call["responses"])
            for path, calls in paths.items() for method, call in calls.items() if "requestBody" in call]


def test_a_body_that_is_too_large_is_413_wherever_one_is_taken(server, root):
    """Only native calls take a body."""
    calls = calls_with_a_body(root)
    assert {path.split("/")[1] for _, path, _ in calls} == {"v1"} and len(calls) >= 15
    for method, path, responses in calls:
        assert "413" in responses, path
        if path == "/v1/audit/events":
            continue
        answer = root.request(method, path, body=b'{"a":"' + b"x" * (64 << 10) + b'"}')
        APIS["native"].expect(answer, 413)
        assert answer.json()["code"] == "too_large", answer
    with server.raw(timeout=30) as connection:
        # The client waits to be told that its body is wanted, and is told that it is not.
        connection.send((f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {root.secret}\r\n"
                         f"Content-Type: application/json\r\nContent-Length: {(8 << 20) + 1}\r\n"
                         "Expect: 100-continue\r\n\r\n").encode())
        APIS["native"].expect(connection.receive(), 413)


@each_api
def test_a_body_that_nobody_asked_for_is_not_waited_for(server, project, api):
    """So what only reads has no 413: the answer is the one without a body, and the connection ends."""
    for path in api.paths(project.project):
        with server.raw(timeout=30) as connection:
            connection.send((f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {project.secret}\r\n"
                             f"Content-Length: {1 << 30}\r\n\r\n").encode())
            answer = connection.receive()
            assert answer.status == 200 and answer.headers["connection"] == "close", answer
            assert connection.closed()


class Crowd:
    """Clients that keep the project's share of the append queue full."""

    def __init__(self, project):
        self.project, self.left, self.unexpected = project, threading.Event(), []
        self.body = json.dumps({"events": [event("crowd.came", metadata={"big": "x" * 20_000})] * 20})
        self.threads = [threading.Thread(target=self._post) for _ in range(6)]

    def _post(self):
        while not self.left.is_set():
            answer = self.project.post("/v1/audit/events", self.body)
            if answer.status not in (201, 429):
                self.unexpected.append(answer)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.left.set()
        for thread in self.threads:
            thread.join()
        assert not self.unexpected, self.unexpected[0]


def refused(call, tries=200):
    """The first 429 of calls that get through otherwise; each is told its number, which the answer has then."""
    for number in range(tries):
        answer = call(number)
        if answer.status == 429:
            answer.number = number
            return answer
        assert answer.status < 300, answer
    raise AssertionError(f"none of {tries} was refused")


@pytest.fixture
def crowded(make_server):
    """A project of a server that lets it have one request in the queue."""
    return make_server(settings="limits:\n  project_queue_bytes: 1KiB\n").start().client().new_project()


def test_a_full_queue_is_429_for_all_that_writes_and_nothing_for_what_reads(crowded):
    """The cleanup of porta's API is one that writes, too: see test_retention.py. AuthPI's API has none."""
    events = [receipt["id"] for receipt in crowded.ingest(*(event() for _ in range(400)))]
    with Crowd(crowded):
        native, logging_api = APIS["native"], APIS["logging"]
        native.expect(refused(lambda n: crowded.post("/v1/audit/events", event())), 429)
        native.expect(refused(lambda n: crowded.post("/v1/audit/events", json.dumps(event()) + "\n", headers={
            "Content-Type": "application/x-ndjson"})), 429)
        native.expect(refused(lambda n: crowded.delete(f"/v1/audit/events/{events[n]}")), 429)
        native.expect(refused(lambda n: crowded.post("/v1/audit/erasures", {"user_id": f"usr_{n}"})), 429)
        native.expect(refused(lambda n: crowded.post("/v1/audit/subjects/export", {"user_id": f"usr_{n}"})), 429)
        native.expect(refused(lambda n: crowded.put("/v1/config/audit_retention_days", str(n + 1))), 429)
        native.expect(refused(lambda n: crowded.post("/v1/api-keys", {"name": "n", "scopes": ["audit:read"]})), 429)
        answer = refused(lambda n: crowded.delete(f"/api/logging/audit/{events[200 + n]}"))
        logging_api.expect(answer, 429)
        assert "share of the append queue" in answer.json()["detail"]
        kept = f"/api/logging/audit/{events[200 + answer.number]}"
        for api in APIS.values():
            for path in api.paths(crowded.project):
                assert crowded.get(path).status == 200, path
    assert crowded.get(kept).status == 200, "nothing was done"
    assert crowded.delete(kept).status == 204, "and then there is room"


class Outage:
    """A store that can't be read, in a part of it at least."""

    def __init__(self, server):
        self.server = server

    def begin(self):
        if STORE == "postgres":
            self.name = re.search(r"///([^?]+)", self.server.database)[1]
            self._admit(False)
            return
        self.server.terminate()
        first = next(self.server.data_dir.glob("segments/*/00000001.db"))
        whole = first.read_bytes()
        first.write_bytes(whole[:100] + b"\xff" * 20_000 + whole[20_100:])
        self.server.start()

    def end(self):
        if STORE == "postgres":
            self._admit(True)

    def _admit(self, admitted):
        cluster = postgres_cluster.shared()
        cluster.sql("postgres", f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS {str(admitted).lower()}")
        cluster.sql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.name}'")


def test_a_store_that_can_not_be_read_is_503_everywhere(make_server):
    server = make_server(settings="sqlite:\n  segment_events: 300\n" if STORE == "sqlite" else None).start()
    project = server.client().new_project()
    for _ in range(10):
        project.ingest(*(event(external_id=str(n)) for n in range(100)))
    if STORE == "sqlite":
        wait_until(lambda: len(list(server.data_dir.glob("segments/*/*.search"))) >= 2, 120, "sealed segments")
    early = project.walk("?external_id=50")[-1]["created_at"]
    outage = Outage(server)
    outage.begin()
    client = server.client(project.secret, project.project)
    try:
        for api in APIS.values():
            for path in api.paths(project.project):
                api.expect(client.get(f"{path}?{api.before(early)}"), 503)
    finally:
        outage.end()
    if STORE == "postgres":
        wait_until(lambda: client.get("/v1/audit/events").status == 200, 60, "reads")
