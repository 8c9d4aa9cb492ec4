"""job_retention with an archive in S3 (moto): nothing goes that is not there, read back."""

import gzip
import hashlib
import http.client
import json
import re
import threading

import pytest
from annal_server import MANIFESTS, event
from fault_proxy import FaultProxy, hang, lost_answer, rewrite, status
from s3_moto import MotoS3
from shifted_clock import shifted

BUCKET = "acme-archive"
EVENTS = 2_300  # more than two deliveries


@pytest.fixture(scope="module")
def s3():
    with MotoS3() as s3:
        s3.client.create_bucket(BUCKET)
        yield s3, s3.demand_signatures(BUCKET)


class Archiving:
    """A server with a log that is three days old, of which its project wants one."""

    def __init__(self, make_server, port, keys):
        self.server = make_server(defaults=False)
        self.server.env |= {"ANNAL_SECRET_ID": keys[0], "ANNAL_SECRET_KEY": keys[1]}
        self.own = self.server.folder / "retention.yaml"
        paths = [str(path) for path in sorted(MANIFESTS.glob("*.yaml")) if path.name != "job_retention.yaml"]
        self.server.env["ANNAL_MANIFESTS"] = ":".join([*paths, str(self.own)])
        self.destination = {
            "library": {"name": "sink_s3"}, "limits": {"timeout": "2s"}, "permissions": {"http": [f"127.0.0.1:{port}"]},
            "config": {
                "bucket": BUCKET, "endpoint": f"http://127.0.0.1:{port}", "access_key_id": {"secretRef": "id"},
                "secret_access_key": {"secretRef": "key"}},
            "triggers": [{"name": "archive", "destination": {"name": "archive", "scope": "admin"}}]}
        self.job = {
            "library": {"name": "job_retention"}, "config": {"months": 12, "archive_to": "archive"},
            "triggers": [{"name": "daily", "schedule": {"every": "never"}}],
            "limits": {"timeout": "5m"}, "permissions": {"retention": True}}
        self.write()
        plain = dict(self.server.env)
        self.server.env |= shifted(days=-3)
        self.server.start()
        self.project = self.server.client().new_project()
        for _ in range(0, EVENTS, 100):
            self.project.ingest(*(event("a.b", metadata={"i": i, "text": "ü\n\u2028"}) for i in range(100)))
        self.lines = self.project.export_lines()[::-1]
        self.server.terminate()
        self.server.env = plain
        self.server.start()
        assert self.project.put("/v1/config/audit_retention_days", "1").status == 200

    def write(self):
        documents = [
            {"apiVersion": "annal.dev/v1", "kind": "Plugin", "metadata": {"name": name}, "spec": spec}
            for name, spec in [("destination-archive", self.destination), ("job-retention", self.job)]]
        self.own.write_text("---\n".join(json.dumps(document) + "\n" for document in documents))

    def run(self):
        answer = self.server.client().post("/v1/jobs/job-retention/runs", {"trigger": "daily"}, timeout=120)
        assert answer.status == 200, answer
        return answer.json()

    def run_in_vain(self):
        """Nobody answers: the server is killed meanwhile."""
        with pytest.raises((OSError, http.client.HTTPException)):
            self.run()

    def of_project(self, run):
        return next(one for one in run["report"]["projects"] if one["project_id"] == self.project.project)

    def old_events(self):
        return sum(1 for stored in self.project.walk() if stored["action"] == "a.b")

    def objects(self, client, stream):
        """Keys and contents of an archive, in the order of the keys."""
        assert re.fullmatch(rf"retention-{self.project.project}/\d{{8}}T\d{{6}}\.\d{{6}}Z", stream)
        keys = [key for key in client.keys(BUCKET) if key.startswith(f"{stream}/")]
        return {key: gzip.decompress(client.get(BUCKET, key)[0]) for key in keys}

    def expect_gone(self, run, client):
        """The log's old part is in the archive as the record says, and nowhere else."""
        archive = self.of_project(run)["archive"]
        objects = self.objects(client, archive["stream"])
        text = b"".join(objects.values())
        assert text.decode() == "".join(line + "\n" for line in self.lines)
        assert archive == {
            "destination": "archive", "stream": archive["stream"], "deliveries": len(objects),
            "events": len(self.lines), "sha256": hashlib.sha256(text).hexdigest()}
        assert self.old_events() == 0
        (record,) = [e for e in self.project.walk() if e["action"] == "audit_log.expired"]
        assert record["metadata"]["archive"] == archive
        return objects


@pytest.fixture
def archiving(make_server, s3):
    with FaultProxy("127.0.0.1", s3[0].port) as proxy:
        archiving = Archiving(make_server, proxy.port, s3[1][0])
        archiving.proxy = proxy
        yield archiving


def test_what_goes_is_in_the_bucket(archiving, s3):
    run = archiving.run()
    assert run["error"] is None and not run["report"]["failed"]
    objects = archiving.expect_gone(run, s3[0].client)
    assert len(objects) == 3
    first = next(iter(objects))
    assert first.startswith(archiving.of_project(run)["archive"]["stream"] + "/dt=")
    assert first.endswith("/00000000000000000000-00000000000000000999.ndjson.gz")
    reads = [r for r in archiving.proxy.requests() if r.method == "GET"]
    assert {r.path for r in reads} == {f"/{BUCKET}/{key.replace('=', '%3D')}" for key in objects}, "each is read back"


def test_a_damaged_object_keeps_the_log(archiving, s3):
    def damage(answer):
        answer.body = answer.body[:-9] + bytes([answer.body[-9] ^ 1]) + answer.body[-8:]

    archiving.proxy.plan([rewrite(answer=damage)], where=lambda r: r.method == "GET")
    run = archiving.run()
    one = archiving.of_project(run)
    assert run["report"]["failed"] and one["archive"] is None
    assert "archive archive: ALARM: the object retention-" in one["error"]
    assert "does not hold what was written to it" in one["error"]
    assert archiving.old_events() == EVENTS
    assert not [e for e in archiving.project.walk() if e["action"] == "audit_log.expired"]
    archiving.expect_gone(archiving.run(), s3[0].client)


def test_what_passes_is_tried_again(archiving, s3):
    archiving.proxy.plan([status(503), lost_answer(), hang(forward=True)], where=lambda r: r.method == "PUT")
    archiving.proxy.plan([status(503), hang()], where=lambda r: r.method == "GET")
    archiving.expect_gone(archiving.run(), s3[0].client)


def test_a_kill_in_mid_archive(archiving, s3):
    archiving.proxy.plan([hang(forward=True)], where=lambda r: r.method == "PUT" and "1000-" in r.path)
    lost = threading.Thread(target=archiving.run_in_vain)
    lost.start()
    archiving.proxy.wait_for(1, where=lambda r: r.fault == "hang")
    archiving.server.kill()
    lost.join()
    archiving.server.start()
    assert archiving.old_events() == EVENTS
    archiving.expect_gone(archiving.run(), s3[0].client)


def test_what_was_erased_between_two_attempts_is_in_no_archive_that_counts(archiving, s3):
    archiving.proxy.plan([status(403)], where=lambda r: r.method == "PUT" and "1000-" in r.path)
    assert archiving.run()["report"]["failed"]
    gone = json.loads(archiving.lines[500])
    assert archiving.project.delete(f"/v1/audit/events/{gone['id']}").status == 204
    archiving.lines.pop(500)
    archiving.expect_gone(archiving.run(), s3[0].client)


def test_a_bucket_that_refuses_keeps_the_log(archiving, s3):
    nobody = s3[1][1]
    archiving.server.env |= {"ANNAL_SECRET_ID": nobody[0], "ANNAL_SECRET_KEY": nobody[1]}
    archiving.server.restart()
    run = archiving.run()
    assert "S3 answered 403 AccessDenied" in archiving.of_project(run)["error"]
    assert archiving.old_events() == EVENTS


def test_a_cleanup_is_archived_too(archiving, s3):
    answer = archiving.project.delete("/api/admin/audit/cleanup")
    assert answer.status == 200 and answer.json()["deleted"] == len(archiving.lines), answer
    (record,) = [e for e in archiving.project.walk() if e["action"] == "audit_log.cleaned_up"]
    archive = record["metadata"]["archive"]
    text = b"".join(archiving.objects(s3[0].client, archive["stream"]).values())
    assert archive["sha256"] == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("change, words", [
    (lambda a: a.job["config"].update(archive_to="nowhere"), "archive_to: there is no destination nowhere; there are archive, datadog"),
    (lambda a: a.job["config"].update(archive_to="file"), "archive_to: the destination file can't show what it holds"),
    (lambda a: a.destination["config"].pop("bucket"), "must set all that it needs"),
    (lambda a: a.job["config"].update(archive="/tmp/x"), "archive and archive_to exclude each other"),
])
def test_an_archive_that_can_not_be_one_stops_the_start(archiving, change, words):
    archiving.server.terminate()
    change(archiving)
    archiving.write()
    archiving.server.spawn()
    assert archiving.server.wait_exit(60) != 0
    assert words in archiving.server.stderr()
    archiving.server.process = None
