"""GET /openapi.json says what every route is, and GET /docs shows it, with nothing from anywhere else."""

import hashlib
import json
import re
import subprocess

import pytest
import yaml
from annal_server import ANNAL, MANIFESTS, PLUGINS, SOURCE, wait_until

CHECKERS = SOURCE / "build" / "api_checkers" / "bin" / "python"
JUDGE = SOURCE / "tests" / "e2e" / "openapi_judge.py"
SWAGGER_UI = SOURCE / "third_party" / "swagger-ui"

METHODS = {"get", "put", "post", "delete", "patch"}


@pytest.fixture(scope="module")
def document(root):
    answer = root.get("/openapi.json", key=False)
    assert answer.status == 200, answer
    return answer.json()


def operations(document):
    """(method, path): Operation Object."""
    return {(method.upper(), path): operation for path, item in document["paths"].items() for method, operation in item.items()}


def judge(document, folder):
    """What openapi_judge.py finds wrong with it."""
    assert CHECKERS.exists(), "the judges are not there: tests/install.sh tests/e2e/requirements.txt build/api_checkers"
    path = folder / "openapi.json"
    path.write_text(json.dumps(document))
    run = subprocess.run([CHECKERS, JUDGE, path], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode in (0, 1) and not run.stderr, run.stderr
    assert bool(run.stdout.strip()) == bool(run.returncode)
    return run.stdout.strip()


def own_manifest(folder, name, change=lambda manifest: None):
    """A shipped manifest, changed, alone in a folder."""
    manifest = yaml.safe_load((MANIFESTS / f"{name}.yaml").read_text())
    change(manifest)
    folder.mkdir()
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return folder


def said_of_descriptions(server):
    """What the log of a server with the level debug says of them."""
    return [(line["event"], line["instance"], line.get("route") or line.get("operation") or line.get("detail"))
            for line in server.logs() if line["event"].startswith("openapi.")]


# --- Every route, and no other

def test_every_route_is_described_and_every_description_has_a_route(make_server):
    server = make_server(env={"ANNAL_LOG_LEVEL": "debug"}).start()
    server.client().get("/healthz", key=False)
    wait_until(lambda: server.logs("http.request"), what="a line at the level debug")
    assert said_of_descriptions(server) == []


def test_it_would_show_if_one_were_missing_or_too_many(make_server, tmp_path):
    def rename_one(manifest):
        manifest["spec"]["triggers"][0]["name"] = "lists"

    folder = own_manifest(tmp_path / "m", "query_porta", rename_one)
    server = make_server(defaults=False, manifests=[folder], env={"ANNAL_LOG_LEVEL": "debug"}).start()
    assert said_of_descriptions(server) == [("openapi.route_undescribed", "query-porta", "lists (/api/admin/audit)"),
                                            ("openapi.operation_unused", "query-porta", "list")]
    found = operations(server.client().get("/openapi.json").json())[("GET", "/api/admin/audit")]
    assert found["operationId"] == "query-porta.lists" and "default" in found["responses"]
    run = subprocess.run([ANNAL, "plugins", "validate", folder], capture_output=True, text=True, timeout=60, check=False,
                         env=server.environment())
    assert run.returncode != 0
    assert re.search(r"manifest.yaml:\d+: .*describes no route of the trigger lists, but those of list", run.stderr), run.stderr


def test_the_document_has_the_manifests_routes_with_their_scopes(root, document):
    served = {(method, route["route"], route["scope"]) for plugin in root.get("/v1/plugins").json()["data"]
              for route in plugin["routes"] for method in route["methods"]}
    assert served
    described = {(method, path, operation["security"][0]["bearer"][0] if operation["security"] else "")
                 for (method, path), operation in operations(document).items() if "." in operation["operationId"]}
    assert described == served


def test_a_manifest_decides_where_a_route_is_and_who_may_use_it(make_server, tmp_path):
    def move(manifest):
        manifest["metadata"]["name"] = "elsewhere"
        manifest["spec"]["triggers"][0]["http"] |= {"route": "/else/{where}/log", "scope": "admin"}

    server = make_server(defaults=False, manifests=[own_manifest(tmp_path / "m", "query_porta", move)]).start()
    document = server.client().get("/openapi.json").json()
    found = operations(document)[("GET", "/else/{where}/log")]
    assert found["operationId"] == "elsewhere.list"
    assert [way for way in found["security"]] == [{"bearer": ["admin"]}, {"header": ["admin"]}, {"basic": ["admin"]}]
    assert found["parameters"][0] == {"name": "where", "in": "path", "required": True, "schema": {"type": "string"}}
    assert "elsewhere.Event" in document["components"]["schemas"]
    assert judge(document, tmp_path) == ""


def test_two_instances_of_one_component_stand_side_by_side(make_server, tmp_path):
    def second(manifest):
        manifest["metadata"]["name"] = "second"
        for trigger in manifest["spec"]["triggers"]:
            trigger["http"]["route"] = f"/second/{trigger['name']}"

    server = make_server(manifests=[own_manifest(tmp_path / "m", "query_porta", second)]).start()
    document = server.client().get("/openapi.json").json()
    assert judge(document, tmp_path) == ""
    assert {"query-porta.Event", "second.Event"} <= document["components"]["schemas"].keys()


# --- What is in it

def test_it_is_openapi_and_its_examples_fit(document, tmp_path):
    assert judge(document, tmp_path) == ""


@pytest.mark.parametrize("spoil,says", [
    (lambda d: d["info"].pop("version"), '"version" is a required property'),
    (lambda d: d["components"]["schemas"]["query-porta.Error"].update(example={"error": 5}), "does not fit"),
    (lambda d: d["paths"]["/api/admin/audit"]["get"].update(operationId="health"), "not unique"),
])
def test_the_judge_finds_faults(document, tmp_path, spoil, says):
    spoiled = json.loads(json.dumps(document))
    spoil(spoiled)
    assert says in judge(spoiled, tmp_path)


def test_every_operation_says_what_it_does_and_how_it_fails(document):
    ids = set()
    for (method, path), operation in operations(document).items():
        where = f"{method} {path}"
        assert method.lower() in METHODS and operation["summary"] and operation["tags"], where
        assert operation["operationId"] not in ids, where
        ids.add(operation["operationId"])
        answers = operation["responses"]
        assert any(status[0] == "2" for status in answers) and "default" not in answers, where
        assert {"400", "405", "431", "503"} <= answers.keys(), where
        assert ("401" in answers) == ("403" in answers) == bool(operation["security"]), where
        assert ("404" in answers) >= ("{" in path), where
        assert ("413" in answers) >= ("requestBody" in operation), where
        assert {p["name"] for p in operation.get("parameters", ()) if p.get("in") == "path"} == set(re.findall(r"\{(\w+)\}", path))


@pytest.mark.parametrize("path,content_type,members", [
    ("/v1/audit/events", "application/problem+json", {"type", "title", "status", "code", "request_id"}),
    ("/v1/accounts/{account_id}/events", "application/json", {"error", "error_description", "request_id"}),
    ("/api/logging/audit", "application/json", {"detail"}),
    ("/api/admin/audit", "application/json", {"error", "message", "statusCode"}),
])
def test_the_hosts_errors_are_described_in_each_products_form(root, document, path, content_type, members):
    def follow(node):
        if "$ref" not in node:
            return node
        found = document
        for part in node["$ref"].split("/")[1:]:
            found = found[part]
        return found

    schema = follow(follow(document["paths"][path]["get"]["responses"]["401"])["content"][content_type]["schema"])
    assert set(schema["required"]) == members
    answer = root.get(path.replace("{account_id}", "x"), key=False)
    assert answer.status == 401 and answer.headers["content-type"] == content_type
    assert members <= answer.json().keys()


# --- How it is served

def test_it_is_open_and_kept_until_it_changes(server, root):
    first = root.get("/openapi.json", key=False)
    assert first.headers["content-type"] == "application/json" and first.headers["cache-control"] == "no-cache"
    etag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = root.get("/openapi.json", key=False, headers={"If-None-Match": known})
        assert again.status == 304 and again.body == b"" and again.headers["etag"] == etag
    changed = root.get("/openapi.json", key=False, headers={"If-None-Match": '"other"'})
    assert changed.status == 200 and changed.body == first.body
    with server.raw() as connection:
        connection.send(b"HEAD /openapi.json HTTP/1.1\r\nHost: t\r\n\r\n")
        head = connection.receive("HEAD")
        assert head.status == 200 and int(head.headers["content-length"]) == len(first.body)


def test_another_set_of_routes_has_another_tag(make_server, root, tmp_path):
    server = make_server(defaults=False, manifests=[own_manifest(tmp_path / "m", "query_porta")]).start()
    assert server.client().get("/openapi.json").headers["etag"] != root.get("/openapi.json").headers["etag"]


# --- The page

TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


@pytest.fixture(scope="module")
def page(root):
    answer = root.get("/docs", key=False)
    assert answer.status == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer


def loaded_by(page):
    """What the page's tags name."""
    return re.findall(r"(?:src|href)=\"([^\"]*)\"", page.text)


def policy_of(answer):
    return {words[0]: words[1:] for words in (part.split() for part in answer.headers["content-security-policy"].split(";"))}


def test_the_page_loads_from_this_node_alone(root, page):
    assert root.get("/docs/", key=False).body == page.body
    names = loaded_by(page)
    assert len([name for name in names if name.startswith("/docs/")]) == 4
    for name in names:
        assert name.startswith("/docs/") or name in ("/openapi.json", "data:,"), name
    for name in (name for name in names if name.startswith("/")):
        answer = root.get(name, key=False)
        assert answer.status == 200 and answer.body, name
        if name.startswith("/docs/"):
            assert answer.headers["content-type"] == TYPES[name[name.rindex("."):]]
            assert answer.headers["x-content-type-options"] == "nosniff"
    # No scripts or styles in the page itself, which the policy would not run.
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page.text)


def test_the_policy_lets_it_load_from_nowhere_else(root, page):
    for path in ("/docs", "/docs/docs.js", "/docs/swagger-ui-bundle.js"):
        policy = policy_of(root.get(path, key=False))
        assert policy["default-src"] == ["'none'"]
        allowed = {source for directive, sources in policy.items() if directive.endswith("-src") for source in sources}
        assert allowed == {"'none'", "'self'", "data:"}
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == ["'self'"]
        assert policy["img-src"] == ["'self'", "data:"]


def test_nothing_that_it_loads_names_another_host(root):
    style = root.get("/docs/swagger-ui.css", key=False).text + root.get("/docs/docs.css", key=False).text
    assert "@import" not in style
    assert {target[:5] for target in re.findall(r"url\([\"']?([^\"')]{5})", style)} == {"data:"}
    script = root.get("/docs/docs.js", key=False).text
    assert 'url: "/openapi.json"' in script
    assert "validatorUrl: null" in script, "Swagger UI would send the document's address to its makers' validator"
    assert "://" not in script


def test_what_is_shipped_is_what_was_taken_from_its_makers(root):
    sums = dict(reversed(line.split()) for line in (SWAGGER_UI / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == {path.name for path in SWAGGER_UI.iterdir()} - {"SHA256SUMS"}
    for name, wanted in sums.items():
        answer = root.get(f"/docs/{name}", key=False)
        assert answer.status == 200, name
        assert hashlib.sha256(answer.body).hexdigest() == wanted, name


@pytest.mark.parametrize("name", ["nothing.js", "..%2findex.html", "%2e%2e", "SHA256SUMS"])
def test_there_is_nothing_else_to_load(root, name):
    assert root.get(f"/docs/{name}", key=False).status == 404


# --- A component whose description is no good

BAD = """\
#include <annal/abi.h>
#include <string.h>

static annal_status create(const annal_init *init, void **self, annal_error *error) {
    (void)init, (void)error;
    *self = NULL;
    return ANNAL_OK;
}
static void destroy(void *self) { (void)self; }
static void ended(void *call, const annal_error *error);
static void handle(void *self, annal_call *call, const annal_request *request, const annal_response *response) {
    (void)self, (void)call, (void)request;
    response->start(response->r, 204, NULL, 0);
    response->finish(response->r, NULL, 0, call, ended);
}
static const annal_host *host;
static void ended(void *call, const annal_error *error) {
    (void)error;
    host->complete(call, NULL);
}
static annal_status create_with_host(const annal_init *init, void **self, annal_error *error) {
    host = init->host;
    return create(init, self, error);
}
static annal_str render(void *self, const annal_problem *problem, const annal_writer *body) {
    (void)self, (void)problem, (void)body;
    annal_str type = {"text/plain", 10};
    return type;
}
static const annal_http_v1 http = {sizeof http, 0, create_with_host, destroy, handle, render};
static const annal_component component = {
    SIZE, 0, ANNAL_COMPONENT_HTTP, "bad", "{\\"type\\":\\"object\\"}", &http, "operations: [not, a, mapping"};
static const annal_component *const components[] = {&component};
static const annal_module module = {
    sizeof module, ANNAL_ABI_MAJOR, MINOR, "test.bad", "1.0.0", "test", "test", 1, 0, components};
ANNAL_EXPORT const annal_module *annal_module_v1(void) { return &module; }
"""
BAD_MANIFEST = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {name: bad}
spec:
  library: {name: bad}
  triggers:
    - {name: go, http: {method: POST, route: "/go/{where}", scope: none}}
"""


def server_with(make_server, folder, size, minor):
    (folder / "bad.c").write_text(BAD)
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", f"-DSIZE={size}", f"-DMINOR={minor}", "-I", SOURCE / "sdk" / "include",
                    "-o", folder / "bad.so", folder / "bad.c"], check=True, timeout=60)
    (folder / "bad.yaml").write_text(BAD_MANIFEST)
    return make_server(manifests=[folder / "bad.yaml"], env={"ANNAL_PLUGINS": f"{PLUGINS}:{folder}"}).start()


def check_that_its_route_is_served_and_shown(server, folder):
    assert server.client().post("/go/there", key=False).status == 204
    document = server.client().get("/openapi.json").json()
    found = operations(document)[("POST", "/go/{where}")]
    assert found["summary"] == "POST /go/{where}" and found["security"] == []
    assert judge(document, folder) == ""


def test_a_bad_description_costs_the_description_alone(make_server, tmp_path):
    server = server_with(make_server, tmp_path, "sizeof component", "ANNAL_ABI_MINOR")
    check_that_its_route_is_served_and_shown(server, tmp_path)
    assert [(event, instance) for event, instance, _ in said_of_descriptions(server)] == [
        ("openapi.unreadable", "bad"), ("openapi.route_undescribed", "bad")]
    assert "is no YAML" in said_of_descriptions(server)[0][2]
    run = subprocess.run([ANNAL, "plugins", "validate", tmp_path / "bad.yaml"], capture_output=True, text=True, timeout=60, check=False,
                         env=server.environment())
    assert run.returncode != 0 and "description of its routes can't be used" in run.stderr, run.stderr


def test_an_older_module_has_none(make_server, tmp_path):
    server = server_with(make_server, tmp_path, "offsetof(annal_component, openapi)", "2")
    check_that_its_route_is_served_and_shown(server, tmp_path)
    assert [event for event, _, _ in said_of_descriptions(server)] == ["openapi.route_undescribed"]
