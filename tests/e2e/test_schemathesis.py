"""Schemathesis asks a server with all shipped APIs whatever its own description lets it think of, and holds each answer against
that description. ANNAL_TEST_SEED is its seed, a number; without it, it asks the same questions each time."""

import json
import os
import re
import subprocess
from collections import defaultdict

import pytest
from annal_server import BOOTSTRAP_KEY, PROJECT, SOURCE, event
from scripted_receiver import Receiver

TOOLS = SOURCE / "build" / "api_checkers" / "bin"
HOOKS = SOURCE / "tests" / "e2e" / "schemathesis_hooks.py"

# Each answer: no 5xx, a status, content type, headers and a body as described; what breaks the description is refused; another
# method is 405 with what Allow must say; a call without a key is 401. Not among them is that whatever fits the description is
# accepted: no schema can tell a cursor that was handed out from one that was made up, nor a URL that may be called.
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
          "response_schema_conformance", "negative_data_rejection", "unsupported_method", "allow_header_conformance", "ignored_auth")

# What is not asked, and why.
LEFT_OUT = {
    "query-authio.tail": "its answer has no end; test_tail is about it",
}
# In a chain of calls these get what others have answered, the key in use for one.
LEFT_OUT_OF_CHAINS = LEFT_OUT | {
    "revoke-key": "a chain from the list of keys would revoke the key that asks; alone it is given a key to spare",
}
# What can't succeed, whatever is asked.
NEVER_SUCCEEDS = {
    "rekey-secrets": "it wants the fingerprint of the node's own key ring; test_secrets_rekey is about it",
}


@pytest.fixture(scope="module")
def known(root):
    """Objects that exist, so that calls about one of them get beyond 404."""
    receiver = Receiver()
    receipts = root.ingest(*(event() for _ in range(5)))
    endpoint = root.post("/v1/webhooks/endpoints", {"url": receiver.url, "events": ["*"]}).json()["id"]
    delivery = root.post(f"/v1/webhooks/endpoints/{endpoint}/test").json()["delivery_id"]
    stream = root.post("/v1/audit/streams", {"name": "known", "destination": "generic_webhook", "config": {"url": receiver.url}})
    assert stream.status == 201, stream
    erasure = root.post("/v1/audit/erasures", {"user_id": "usr_known"}).json()["id"]
    yield {"erasure": erasure, "event": receipts[0]["id"], "event_to_delete": receipts[1]["id"], "entry_to_delete": receipts[2]["id"],
           "endpoint": endpoint, "delivery": delivery, "stream": stream.json()["id"], "spare_key": root.make_key(["audit:read"]).key_id}
    receiver.close()


def configuration(known):
    """schemathesis.toml: the key, and what parameters of paths are."""
    lines = [f'headers = {{ Authorization = "Bearer {BOOTSTRAP_KEY}" }}', "[generation]", "allow-x00 = false  # in no text; test_routes",
             # 413 and 431 besides what it expects by itself.
             "[checks]", 'negative_data_rejection.expected-statuses = ["4xx"]',
             "[parameters]", f'"path.account_id" = "{PROJECT}"', f'"path.event_id" = "{known["event"]}"']
    for operations, parameter, value in [
            (["query-authio.get", "query-logging.get"], "id", known["event"]),
            (["query-authio.delete"], "id", known["event_to_delete"]),
            (["query-logging.delete"], "id", known["entry_to_delete"]),
            (["revoke-key"], "id", known["spare_key"]),
            (["get-delivery", "replay-delivery"], "id", known["delivery"]),
            (["get-erasure"], "id", known["erasure"]),
            (["run-job"], "instance", "job-retention"),
            # A hold or a strict catalog would refuse what others ask for.
            (["put-setting"], "key", "audit_retention_days"),
            (["docs-file"], "file", "docs.js")]:
        for operation in operations:
            lines += ["[[operations]]", f'include-operation-id = "{operation}"', f'parameters = {{ "path.{parameter}" = "{value}" }}']
    return "\n".join(lines) + "\n"


class Run:
    """One run of Schemathesis against the server."""

    def __init__(self, server, folder, document, known, *options):
        address = "http://{}:{}".format(*server.address)
        (folder / "schemathesis.toml").write_text(configuration(known))
        # From a file: where it has fetched the document from it would not ask again.
        (folder / "openapi.json").write_text(json.dumps(document))
        report = folder / "report.ndjson"
        assert (TOOLS / "schemathesis").exists(), "it is not there: tests/install.sh tests/e2e/requirements.txt build/api_checkers"
        self.seed = int(os.environ.get("ANNAL_TEST_SEED", "1"))
        run = subprocess.run(
            [TOOLS / "schemathesis", "--config-file", "schemathesis.toml", "run", "openapi.json",
             "--url", address, "--checks", ",".join(CHECKS), "--workers", "2", "--request-timeout", "30", "--continue-on-failure",
             "--no-color", "--seed", str(self.seed), "--report", "ndjson", "--report-ndjson-path", report, *options],
            cwd=folder, env=server.environment() | {"SCHEMATHESIS_HOOKS": str(HOOKS)}, capture_output=True, text=True, timeout=420,
            check=False)
        self.passed = run.returncode == 0
        self.said = run.stdout + run.stderr
        self.statuses = statuses_in(report)


def statuses_in(report):
    """Which statuses each operation, "GET /v1/projects", has answered."""
    found = defaultdict(set)
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for interaction in recorder.get("interactions", {}).values():
            if interaction["response"]:
                found[recorder["label"]].add(interaction["response"]["status_code"])
    return found


def left_out(operations):
    return [word for operation in operations for word in ("--exclude-operation-id", operation)]


@pytest.fixture(scope="module")
def document(root):
    return root.get("/openapi.json", key=False).json()


@pytest.fixture(scope="module")
def ids(document):
    """The id of each operation, by "GET /v1/projects"."""
    return {f"{method.upper()} {path}": operation["operationId"]
            for path, item in document["paths"].items() for method, operation in item.items()}


def test_what_is_left_out_is_there(ids):
    assert (LEFT_OUT_OF_CHAINS | NEVER_SUCCEEDS).keys() <= set(ids.values())


def test_every_operation_answers_as_it_is_described(server, tmp_path, document, known, ids):
    run = Run(server, tmp_path, document, known, "--phases", "examples,coverage,fuzzing", "--max-examples", "8", *left_out(LEFT_OUT))
    assert run.passed, run.said
    asked = {ids[label]: statuses for label, statuses in run.statuses.items()}
    assert asked.keys() == set(ids.values()) - LEFT_OUT.keys()
    without_success = {name: statuses for name, statuses in asked.items() if not any(200 <= status < 300 for status in statuses)}
    assert without_success.keys() <= NEVER_SUCCEEDS.keys(), (run.seed, without_success)


def test_so_do_chains_of_them(server, tmp_path, document, known):
    run = Run(server, tmp_path, document, known, "--phases", "stateful", "--max-time", "25", *left_out(LEFT_OUT_OF_CHAINS))
    assert run.passed, run.said
    assert int(re.search(r"(\d+) generated", run.said)[1]) > 100, run.said


def spoil_schema(document):
    document["components"]["schemas"]["Health"]["properties"]["status"] = {"type": "string", "const": "fine"}


def spoil_status(document):
    document["paths"]["/healthz"]["get"]["responses"]["204"] = document["paths"]["/healthz"]["get"]["responses"].pop("200")


def spoil_content_type(document):
    answer = document["paths"]["/healthz"]["get"]["responses"]["200"]
    answer["content"] = {"text/plain": {"schema": {"type": "string"}}}


@pytest.mark.parametrize("spoil,says", [
    (spoil_schema, "schema"), (spoil_status, "Undocumented status code"), (spoil_content_type, "Undocumented Content-Type")])
def test_it_finds_what_is_not_as_described(server, tmp_path, known, document, spoil, says):
    spoiled = json.loads(json.dumps(document))
    spoil(spoiled)
    run = Run(server, tmp_path, spoiled, known, "--phases", "coverage", "--include-operation-id", "health")
    assert not run.passed
    assert says in run.said, run.said
