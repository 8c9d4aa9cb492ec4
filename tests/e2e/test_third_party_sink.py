"""The example sink, built against the installed SDK alone, works in a real server, with its manifest as it is shipped."""

import json
import shutil
import subprocess

import pytest
from annal_server import BUILD, MANIFESTS, PLUGINS, SOURCE, event, wait_until

EXAMPLE = SOURCE / "examples" / "third_party_sink"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The folder of the plugin that the example's own script built out of tree."""
    folder = tmp_path_factory.mktemp("acme")
    subprocess.run([EXAMPLE / "test.sh", BUILD, folder], check=True, timeout=240)
    return folder


def acme_server(make_server, library):
    server = make_server(env={"ANNAL_BOOTSTRAP_PROJECT": "acme", "ANNAL_PLUGINS": f"{PLUGINS}:{library}"})
    (server.folder / "var").mkdir(parents=True)
    server.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{EXAMPLE / 'acme_sink.yaml'}"
    server.out = server.folder / "var" / "acme.ndjson"
    return server


def lines_of(path):
    return path.read_text().splitlines() if path.exists() else []


def test_events_arrive_in_order_over_a_restart(make_server, library):
    server = acme_server(make_server, library).start()
    client = server.client()
    client.ingest(*(event("acme.made", metadata={"i": i}) for i in range(700)))
    wait_until(lambda: len(lines_of(server.out)) == 701, what="the sink's file")
    server.restart()
    client.ingest(event("acme.last"))
    wait_until(lambda: len(lines_of(server.out)) == 702, what="the sink's file")
    assert lines_of(server.out) == client.export_lines()[::-1]


def test_it_is_listed_as_what_it_is(make_server, library):
    server = acme_server(make_server, library).start()
    listed = {p["instance"]: p for p in server.client().get("/v1/plugins").json()["data"]}
    acme = listed["acme-sink"]
    assert (acme["id"], acme["version"], acme["type"], acme["component"]) == ("com.acme.audit-sink", "1.0.0", "annal.sink/1", "acme")


def test_its_failures_are_retried(make_server, library):
    server = acme_server(make_server, library)
    shutil.rmtree(server.folder / "var")
    server.start()
    client = server.client()
    client.ingest(event())
    retry = wait_until(lambda: server.logs("stream.retry"), what="the retry")[0]
    assert "can't write to ./var/acme.ndjson" in retry["error"]
    (server.folder / "var").mkdir()
    wait_until(lambda: len(lines_of(server.out)) == 2, what="the sink's file")


def test_validate_knows_it(make_server, library):
    server = acme_server(make_server, library)
    assert server.cli("plugins", "validate").returncode == 0
    bad = server.folder / "bad.yaml"
    bad.write_text((EXAMPLE / "acme_sink.yaml").read_text().replace("path:", "pth:"))
    run = server.cli("plugins", "validate", bad)
    assert run.returncode == 2
    assert "/spec/config/pth" in run.stderr and "path" in run.stderr


def test_it_may_be_pinned_to_this_very_build(make_server, library):
    import hashlib
    digest = hashlib.sha256((library / "acme_sink.so").read_bytes()).hexdigest()
    server = acme_server(make_server, library)
    pinned = server.folder / "pinned.yaml"
    pinned.write_text((EXAMPLE / "acme_sink.yaml").read_text().replace("{name: acme_sink}", f"{{name: acme_sink, sha256: {digest}}}"))
    server.env["ANNAL_MANIFESTS"] = f"{MANIFESTS}:{pinned}"
    server.start()
    assert json.loads(wait_until(lambda: lines_of(server.out), what="the sink's file")[0])["seq"] == 0
