"""Errors in the form of the API that was asked, whoever makes them: the plugin, the host, or the store."""

import http.client
import re
from datetime import datetime
from urllib.parse import quote

import pytest
from annal_server import STORE, event, wait_until

if STORE == "postgres":
    import postgres_cluster


def native(document, status):
    title = http.client.responses[status]
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
        if status == 503:
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
