"""Every route: its success, and every way in which it can refuse."""

import gzip
import json
from datetime import datetime, timedelta, timezone

import pytest
from annal_server import bearer, event, expect_problem, wait_until_past

MIB = 1 << 20
UNKNOWN_ID = "evt_01J0000000000000000000000Z"

# method, pattern as the server names it, scope, a path that serves, a body that is accepted, the success status
ROUTES = [
    ("GET", "/healthz", "", "/healthz", None, 200),
    ("GET", "/readyz", "", "/readyz", None, 200),
    ("GET", "/metrics", "", "/metrics", None, 200),
    ("GET", "/openapi.json", "", "/openapi.json", None, 200),
    ("GET", "/docs", "", "/docs", None, 200),
    ("GET", "/docs/{file}", "", "/docs/docs.js", None, 200),
    ("GET", "/v1/plugins", "admin", "/v1/plugins", None, 200),
    ("POST", "/v1/clock/confirm", "platform", "/v1/clock/confirm", None, 200),
    # What it answers to the right key's fingerprint is test_secrets_rekey's.
    ("POST", "/v1/secrets/rekey", "platform", "/v1/secrets/rekey", {"first_key": "another", "action": "count"}, 409),
    ("POST", "/v1/projects", "platform", "/v1/projects", {"name": "Made"}, 201),
    ("GET", "/v1/projects", "platform", "/v1/projects", None, 200),
    ("POST", "/v1/api-keys", "keys:write", "/v1/api-keys", {"name": "n", "scopes": ["audit:read"]}, 201),
    ("GET", "/v1/api-keys", "keys:read", "/v1/api-keys", None, 200),
    ("DELETE", "/v1/api-keys/{id}", "keys:write", "/v1/api-keys/{key}", None, 204),
    ("GET", "/v1/config/{key}", "admin", "/v1/config/catalog", None, 200),
    ("PUT", "/v1/config/{key}", "admin", "/v1/config/catalog", "open", 200),
    ("GET", "/v1/jobs", "platform", "/v1/jobs", None, 200),
    ("POST", "/v1/jobs/{instance}/runs", "platform", "/v1/jobs/job-retention/runs", {"trigger": "dry-run"}, 200),
    ("POST", "/v1/audit/erasures", "audit:write", "/v1/audit/erasures", {"user_id": "usr_erased"}, 202),
    ("GET", "/v1/audit/erasures", "audit:write", "/v1/audit/erasures", None, 200),
    ("GET", "/v1/audit/erasures/{id}", "audit:write", "/v1/audit/erasures/{erasure}", None, 200),
    ("POST", "/v1/audit/subjects/export", "audit:read", "/v1/audit/subjects/export", {"user_id": "usr_exported"}, 200),
    ("POST", "/v1/audit/events", "audit:ingest", "/v1/audit/events", event(), 201),
    ("GET", "/v1/audit/events", "audit:read", "/v1/audit/events", None, 200),
    ("GET", "/v1/audit/events/{id}", "audit:read", "/v1/audit/events/{event}", None, 200),
    ("DELETE", "/v1/audit/events/{id}", "audit:write", "/v1/audit/events/{event}", None, 204),
    ("GET", "/v1/audit/events/types", "audit:read", "/v1/audit/events/types", None, 200),
    ("GET", "/v1/audit/events/aggregate", "audit:read", "/v1/audit/events/aggregate", None, 200),
    # A tail has no end; one whose position is refused has.
    ("GET", "/v1/audit/events/tail", "audit:read", "/v1/audit/events/tail?after=x", None, 400),
    ("GET", "/v1/audit/events.{format}", "audit:read", "/v1/audit/events.jsonl", None, 200),
    ("GET", "/v1/audit-events", "audit:read", "/v1/audit-events", None, 200),
]
GUARDED = [route for route in ROUTES if route[2]]
OPEN = [route for route in ROUTES if not route[2]]
HOST_ROUTES = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/docs/{file}", "/v1/plugins", "/v1/clock/confirm",
               "/v1/secrets/rekey", "/v1/projects", "/v1/api-keys", "/v1/api-keys/{id}", "/v1/config/{key}", "/v1/jobs",
               "/v1/jobs/{instance}/runs", "/v1/audit/erasures", "/v1/audit/erasures/{id}", "/v1/audit/subjects/export"}
# Their errors have forms of their own, so a file of its own tests all routes of each.
DIALECTS = {
    "query-authpi",
    "query-logging",
    "query-porta",
}


def name_of(route):
    return f"{route[0]} {route[1]}"


def by_route(routes):
    return pytest.mark.parametrize("route", routes, ids=name_of)


def path_of(route, client):
    """The route's path, with objects that exist in the client's project."""
    path = route[3]
    if "{event}" in path:
        path = path.replace("{event}", client.ingest(event())[0]["id"])
    if "{erasure}" in path:
        path = path.replace("{erasure}", client.post("/v1/audit/erasures", {"user_id": "usr_erased"}).json()["id"])
    if "{key}" in path:
        path = path.replace("{key}", client.make_key(["audit:read"]).key_id)
    return path


def call(client, route, path=None, **more):
    body = json.dumps(route[4]).encode() if route[4] is not None else None
    return client.request(route[0], path or path_of(route, client), body=body, **more)


@pytest.fixture(scope="module")
def dead_keys(root):
    """Keys that no longer work, by why."""
    soon = datetime.now(timezone.utc) + timedelta(seconds=3)
    expired = root.make_key(["platform", "admin"], expires_at=soon.isoformat())
    revoked = root.make_key(["platform", "admin"])
    assert root.delete(f"/v1/api-keys/{revoked.key_id}").status == 204
    wait_until_past(soon)
    return {"revoked": revoked.secret, "expired": expired.secret, "unknown": "sk_live_" + "x" * 40, "empty": ""}


def test_the_table_above_names_every_plugin_route(root):
    served = {(method, r["route"], r["scope"]) for plugin in root.get("/v1/plugins").json()["data"]
              if plugin["instance"] not in DIALECTS for r in plugin["routes"] for method in r["methods"]}
    tested = {(r[0], r[1], r[2]) for r in ROUTES if r[1] not in HOST_ROUTES}
    assert served == tested


@pytest.fixture(scope="module")
def rested(server):
    server.await_run_at_start()


@by_route(ROUTES)
@pytest.mark.usefixtures("rested")
def test_success(root, route):
    answer = call(root, route, key=bool(route[2]))
    assert answer.status == route[5], answer
    assert answer.headers["annal-request-id"]
    if route[5] == 204:
        assert answer.body == b""


@by_route(ROUTES)
def test_a_trailing_slash_is_accepted(root, route):
    answer = call(root, route, path_of(route, root) + "/")
    assert answer.status == route[5], answer


@by_route([route for route in ROUTES if route[0] == "GET" and route[5] == 200])
def test_head_is_get_without_a_body(root, server, route):
    path = path_of(route, root)
    with server.raw() as connection:
        for method in ("HEAD", "GET"):
            connection.send(f"{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {root.secret}\r\n\r\n".encode())
            answer = connection.receive(method)
            assert answer.status == 200, answer
            if method == "HEAD":
                head_type = answer.headers["content-type"]
            else:
                assert answer.headers["content-type"] == head_type
                assert answer.body


@by_route(GUARDED)
def test_no_key_is_401_and_says_how(root, route):
    answer = call(root, route, key=False)
    problem = expect_problem(answer, 401)
    assert "Bearer" in answer.headers["www-authenticate"]
    assert problem["detail"]


@pytest.mark.parametrize("why", ["revoked", "expired", "unknown", "empty"])
@by_route(GUARDED)
def test_a_dead_key_is_401(root, dead_keys, route, why):
    answer = call(root, route, headers=bearer(dead_keys[why]), key=False)
    expect_problem(answer, 401)
    assert "Bearer" in answer.headers["www-authenticate"]
    assert len(dead_keys[why]) < 20 or dead_keys[why] not in answer.text


@by_route(GUARDED)
def test_a_missing_scope_is_403_and_named(root, route):
    weak = root.make_key(["risk:read"])
    path = path_of(route, root)
    problem = expect_problem(call(weak, route, path), 403, route[2])
    assert problem["code"]


@by_route([route for route in GUARDED if route[2] == "platform"])
def test_admin_is_not_platform(root, project, route):
    expect_problem(call(project, route, path_of(route, root)), 403, "platform")


@by_route(GUARDED)
def test_the_one_scope_suffices(root, route):
    scopes = [route[2]]
    holder = root.make_key(scopes)
    path = path_of(route, root)
    if route[1] == "/v1/api-keys":  # a key gives away only what it has
        body = json.dumps({"name": "n", "scopes": scopes}).encode()
        answer = holder.request(route[0], path, body=body if route[0] == "POST" else None)
    else:
        answer = call(holder, route, path)
    assert answer.status == route[5], answer


@pytest.mark.parametrize("method", ["PATCH", "PUT", "OPTIONS"])
@by_route(ROUTES)
def test_another_method_is_405_with_allow(root, route, method):
    path = path_of(route, root)
    served = {r[0] for r in ROUTES if r[1] == route[1]}
    if method in served:
        method = "POST"
    answer = root.request(method, path)
    expect_problem(answer, 405)
    allowed = {word.strip() for word in answer.headers["allow"].split(",")}
    assert allowed == served | ({"HEAD"} if "GET" in served else set())


@pytest.mark.parametrize("path", [
    "/", "/v1", "/v1/", "/v2/audit/events", "/v1/audit/eventsx", "/v1/audit/events/a/b", "/healthz/x",
    "/v1/audit//events", "/v1/%61udit2/events"])
def test_an_unknown_path_is_404(root, path):
    expect_problem(root.get(path), 404)


@pytest.mark.parametrize("method,path", [
    ("GET", f"/v1/audit/events/{UNKNOWN_ID}"),
    ("GET", "/v1/audit/events/not-an-id"),
    ("GET", "/v1/audit/events/0197a000-0000-7000-8000-000000000000"),
    ("DELETE", f"/v1/audit/events/{UNKNOWN_ID}"),
    ("DELETE", "/v1/api-keys/apikey_unknown"),
    ("GET", "/v1/config/no_such_setting"),
])
def test_an_unknown_object_is_404(root, method, path):
    expect_problem(root.request(method, path), 404)


def test_an_unknown_setting_names_those_that_exist(root):
    expect_problem(root.put("/v1/config/retention", 5), 404, "audit_retention_days", "catalog")


def test_an_unknown_format_names_those_that_exist(root):
    expect_problem(root.get("/v1/audit/events.xlsx"), 404, "csv", "jsonl")


def test_an_encoded_path_is_the_same_path(root):
    assert root.get("/v1/%61udit/event%73").status == 200


@pytest.mark.parametrize("method,path,limit", [
    ("POST", "/v1/audit/events", 8 * MIB),
    ("POST", "/v1/api-keys", 64 << 10),
    ("POST", "/v1/projects", 64 << 10),
    ("PUT", "/v1/config/catalog", 4096),
])
@pytest.mark.parametrize("chunked", [False, True], ids=["sized", "chunked"])
def test_a_body_beyond_the_limit_is_413(root, method, path, limit, chunked):
    body = b'{"name":"' + b"x" * limit + b'"}'
    if chunked:
        body = iter([body[i:i + 65536] for i in range(0, len(body), 65536)])
        answer = chunked_request(root, method, path, body)
    else:
        answer = root.request(method, path, body=body)
    expect_problem(answer, 413)
    assert root.get("/healthz", key=False).status == 200


def chunked_request(client, method, path, pieces):
    with client.server.raw() as connection:
        connection.send((f"{method} {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {client.secret}\r\n"
                         "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").encode())
        try:
            for piece in pieces:
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            connection.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before all of it was sent
        return connection.receive()


def test_a_small_gzip_body_that_unpacks_beyond_the_limit_is_413(root):
    body = gzip.compress(b'{"action":"' + b"x" * (9 * MIB) + b'"}')
    assert len(body) < 64 << 10
    expect_problem(root.post("/v1/audit/events", body, headers={"Content-Encoding": "gzip"}), 413)


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/x-www-form-urlencoded", "nonsense"])
def test_a_foreign_content_type_is_415(project, content_type):
    before = project.count()
    answer = project.post("/v1/audit/events", event(), headers={"Content-Type": content_type})
    expect_problem(answer, 415, "application/json", "application/x-ndjson")
    assert project.count() == before


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, br"])
def test_a_foreign_content_encoding_is_415(root, encoding):
    answer = root.post("/v1/audit/events", event(), headers={"Content-Encoding": encoding})
    expect_problem(answer, 415, "gzip")


@pytest.mark.parametrize("content_type", [
    "application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json;charset=UTF-8"])
def test_the_content_type_is_read_as_it_may_be_written(project, content_type):
    answer = project.post("/v1/audit/events", event(), headers={"Content-Type": content_type})
    assert answer.status == 201, answer


@by_route(OPEN)
def test_open_routes_need_no_key_and_mind_no_bad_one(root, route):
    assert call(root, route, key=False).status == 200
    assert call(root, route, headers=bearer("sk_live_wrong"), key=False).status == 200


def test_readyz_says_ready(root):
    answer = root.get("/readyz", key=False).json()
    assert answer == {"status": "ready", "reasons": [], "degraded": []}


def test_metrics_are_prometheus_text(root):
    root.ingest(event())
    answer = root.get("/metrics", key=False)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert root.metric("annal_append_events_total") >= 1
    families = [line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


@pytest.mark.parametrize("request_text,status", [
    ("GET /healthz HTTP/1.1\r\n\r\n", 400),                                       # no Host
    ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    ("GET /healthz HTTP/1.1\nHost: a\n\n", 400),                                  # bare LF
    ("GET /healthz HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", 400),
    ("GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n", 400),
    ("\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", 400),                        # a TLS hello
    ("POST /v1/audit/events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("POST /v1/audit/events HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", 400),
    ("POST /v1/audit/events HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
    ("GET /healthz?a=%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
])
def test_a_broken_request_is_400_and_the_server_lives_on(server, root, request_text, status):
    with server.raw() as connection:
        connection.send(request_text.encode("latin-1"))
        answer = connection.receive()
        assert answer.status == status, answer
    assert root.get("/healthz", key=False).status == 200


def test_a_head_beyond_the_limit_is_431(server):
    with server.raw() as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * (17 << 10) + b"\r\n\r\n")
        assert connection.receive().status == 431


def test_pipelined_requests_are_answered_in_order(server, root):
    ids = [receipt["id"] for receipt in root.ingest(*(event() for _ in range(10)))]
    with server.raw() as connection:
        connection.send(b"".join(
            f"GET /v1/audit/events/{i} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {root.secret}\r\n\r\n".encode() for i in ids))
        assert [connection.receive().json()["id"] for _ in ids] == ids


def test_expect_100_continue(server, root):
    body = json.dumps(event()).encode()
    with server.raw(timeout=10) as connection:
        connection.send(
            (f"POST /v1/audit/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {root.secret}\r\n"
             f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n").encode())
        assert connection.receive().status == 100
        connection.send(body)
        assert connection.receive().status == 201


def test_request_ids_are_unique(root):
    ids = {root.get("/healthz", key=False).headers["annal-request-id"] for _ in range(20)}
    assert len(ids) == 20
