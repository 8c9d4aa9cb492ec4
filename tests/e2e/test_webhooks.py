"""Webhooks over REST: endpoints, what reaches them and how it is signed, and what is recorded of it."""

import base64
import hashlib
import hmac
import json
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from annal_server import STORE, event, expect_problem
from postgres_cluster import programs  # noqa: F401  (the cluster's own dump)
from scripted_receiver import Receiver
from test_audit_streams import SAMPLE_KEYS, until
from test_stream_outcomes import dump

ENDPOINTS, DELIVERIES = "/v1/webhooks/endpoints", "/v1/webhooks/deliveries"

# The envelope as published, for an organization that is created.
SAMPLE = {
    "id": "evt_01HXAMPL", "action": "organization.created", "created_at": "2026-05-14T18:42:13.001Z",
    "organization_id": "org_1", "user_id": None, "target_type": "organization", "target_id": "org_1",
    "metadata": {"name": "Acme Co", "slug": "acme"}, "actor": {"type": "api_key", "id": "apikey_1"},
}


def create(project, receiver, events=("*",), **more):
    answer = project.post(ENDPOINTS, {"url": receiver.url, "events": list(events)} | more)
    assert answer.status == 201, answer
    return answer.json()


def get(project, endpoint):
    answer = project.get(f"{ENDPOINTS}/{endpoint['id']}")
    assert answer.status == 200, answer
    return answer.json()


def steer(project, endpoint, verb, body=None):
    return project.post(f"{ENDPOINTS}/{endpoint['id']}/{verb}", body)


def patch(project, endpoint, body):
    return project.request("PATCH", f"{ENDPOINTS}/{endpoint['id']}", body)


def deliveries(project, query=""):
    answer = project.get(DELIVERIES + query)
    assert answer.status == 200, answer
    return answer.json()["data"]


def delivery(project, identifier):
    answer = project.get(f"{DELIVERIES}/{identifier}")
    assert answer.status == 200, answer
    return answer.json()


def recorded(project, endpoint):
    """Actions and metadata of what was recorded of an endpoint, oldest first."""
    return [(e["action"], e["metadata"]) for e in project.walk(f"?target={endpoint['id']}")[::-1]]


def bodies(requests):
    return [json.loads(request.body) for request in requests]


def actions(requests):
    return [body["action"] for body in bodies(requests)]


def ids(requests):
    return [request.headers["webhook-id"] for request in requests]


def expected_authio(secret, body):
    return "v1=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def expected_standard(secret, request):
    text = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()


def with_status(project, identifier, status):
    return until(lambda: (lambda d: d if d["status"] == status else None)(delivery(project, identifier)))


# --- endpoints


def test_an_endpoint_is_made_and_recorded_as_sampled(project, receiver):
    made = create(project, receiver, ["organization.*"], description="mirror")
    assert made["id"].startswith("web_") and made["status"] == "active" and made["secret"].startswith("whsec_")
    assert len(base64.b64decode(made["secret"][6:])) == 32
    assert (made["url"], made["events"], made["description"]) == (receiver.url, ["organization.*"], "mirror")
    (entry,) = project.page(f"?target={made['id']}")["data"]
    assert SAMPLE_KEYS <= set(entry)
    assert entry["action"] == "webhook.endpoint.created" and entry["target_type"] == "webhook_endpoint"
    assert entry["metadata"] == {"url": receiver.url, "events": ["organization.*"]}
    assert entry["actor"] == {"type": "api_key", "id": project.key_id}
    assert entry["organization_id"] is None and entry["user_id"] is None
    shown = get(project, made)
    assert "secret" not in shown and shown["secret_fingerprint"] == hashlib.sha256(made["secret"].encode()).hexdigest()[:12]
    (listed,) = project.get(ENDPOINTS).json()["data"]
    assert "secret" not in listed and listed["id"] == made["id"]


def test_what_is_wrong_with_a_request_is_said(project, receiver):
    def refused(body, status, *words):
        return expect_problem(project.post(ENDPOINTS, body), status, *words)

    refused({"events": ["*"]}, 422, "/url")
    refused({"url": receiver.url}, 422, "/events")
    refused({"url": receiver.url, "events": []}, 422, "/events", "1 to 100 patterns")
    refused({"url": receiver.url, "events": ["*", "no pattern"]}, 422, "/events/1")
    refused({"url": receiver.url, "events": ["*"], "secret": "mine"}, 422, "unknown field", "signature_scheme")
    refused({"url": receiver.url, "events": ["*"], "signature_scheme": "v2"}, 422, "authio or timestamped")
    for url in ("ftp://example.com/", "https://user:word@example.com/", "not a url", "http://[::1]/", "http://10.0.0.1/",
                "http://169.254.169.254/latest/meta-data", "http://0x0a.1/"):
        refused({"url": url, "events": ["*"]}, 422, "/url")
    made = create(project, receiver)
    expect_problem(patch(project, made, {"url": "http://192.168.1.1/"}), 422, "/url")
    expect_problem(patch(project, made, {"status": "revoked"}), 422, "/status", "DELETE")
    expect_problem(steer(project, made, "rotate-secret", {"grace_seconds": -1}), 422, "/grace_seconds")
    expect_problem(steer(project, made, "recover", {"since": "yesterday"}), 422, "/since")
    expect_problem(steer(project, made, "recover", {}), 422, "/since")
    for query in ("?status=lost", "?limit=0", "?limit=201", "?cursor=abc", "?event_id=5"):
        expect_problem(project.get(DELIVERIES + query), 400)
    for path in (f"{ENDPOINTS}/web_none", f"{DELIVERIES}/del_none-1", f"{DELIVERIES}/nonsense",
                 f"{DELIVERIES}?endpoint=web_none"):
        expect_problem(project.get(path), 404)
    expect_problem(project.post(f"{DELIVERIES}/del_none-1/replay"), 404)


def test_scopes_and_projects_keep_apart(server, root, project, receiver):
    made = create(project, receiver)
    other = root.new_project()
    for answer in (other.get(f"{ENDPOINTS}/{made['id']}"), patch(other, made, {"description": "x"}),
                   other.delete(f"{ENDPOINTS}/{made['id']}"), steer(other, made, "rotate-secret"), steer(other, made, "test"),
                   steer(other, made, "recover", {"since": "2026-01-01T00:00:00Z"}),
                   other.get(f"{DELIVERIES}?endpoint={made['id']}")):
        expect_problem(answer, 404)
    reader = project.make_key(["webhooks:read"])
    assert reader.get(ENDPOINTS).status == 200 and reader.get(DELIVERIES).status == 200
    expect_problem(reader.post(ENDPOINTS, {"url": receiver.url, "events": ["*"]}), 403, "webhooks:write")
    expect_problem(steer(reader, made, "rotate-secret"), 403)
    expect_problem(project.make_key(["audit:read"]).get(DELIVERIES), 403, "webhooks:read")
    assert project.get(ENDPOINTS, key=False).status == 401


# --- what is sent


def test_a_body_is_the_published_envelope_and_nothing_else(project, receiver):
    made = create(project, receiver, ["organization.*"])
    answer = project.post("/v1/audit/events", SAMPLE | {"project_id": project.project})
    assert answer.status == 201, answer
    receiver.wait_for(lambda requests: requests)
    (request,) = receiver.requests
    sent = json.loads(request.body)
    assert list(sent) == ["id", "action", "created_at", "project_id", "organization_id", "user_id", "target_type", "target_id",
                          "metadata", "actor"], "the sample's keys in its order"
    assert sent | {"id": None, "created_at": None} == SAMPLE | {
        "id": None, "created_at": None, "project_id": project.project}
    assert sent["id"] == answer.json()["id"] and sent["created_at"] == answer.json()["created_at"]
    headers = request.headers
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == sent["id"] and headers["authio-event"] == "organization.created"
    assert headers["authio-webhook-endpoint"] == made["id"]
    assert headers["authio-webhook-id"] == f"del_{made['id'][4:]}-{answer.json()['seq']}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert headers["authio-signature"] == expected_authio(made["secret"], request.body)
    assert headers["webhook-signature"] == expected_standard(made["secret"], request)


def test_an_endpoint_may_ask_for_a_signature_that_covers_the_time(project, receiver):
    made = create(project, receiver, ["a.*"], signature_scheme="timestamped")
    project.ingest(event("a.b"))
    receiver.wait_for(lambda requests: requests)
    request = receiver.requests[0]
    stamp = request.headers["webhook-timestamp"]
    mac = hmac.new(made["secret"].encode(), stamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["authio-signature"] == f"t={stamp},v1={mac}"
    assert request.headers["webhook-signature"] == expected_standard(made["secret"], request)
    assert patch(project, made, {"signature_scheme": "authio"}).status == 200
    project.ingest(event("a.c"))
    receiver.wait_for(lambda requests: len(requests) == 2)
    assert receiver.requests[1].headers["authio-signature"] == expected_authio(made["secret"], receiver.requests[1].body)


def test_each_endpoint_gets_what_it_subscribes_to_from_its_creation_on(project, receiver):
    project.ingest(event("auth.before"))
    everything, some = Receiver(), Receiver()
    try:
        first = create(project, everything)
        create(project, some, ["auth.*", "session.created"])
        project.ingest(event("auth.a"), event("session.revoked"), event("session.created"), event("authority.x"))
        everything.wait_for(lambda requests: len(requests) == 5)
        some.wait_for(lambda requests: len(requests) == 2)
        assert sorted(actions(some.requests)) == ["auth.a", "session.created"]
        assert sorted(actions(everything.requests)) == sorted(
            ["webhook.endpoint.created", "auth.a", "session.revoked", "session.created", "authority.x"]), \
            "the other's creation, not its own"
        assert first["id"] not in [body["target_id"] for body in bodies(everything.requests)]
        page = deliveries(project, f"?endpoint={first['id']}")
        until(lambda: all(d["status"] == "delivered" for d in deliveries(project)))
        assert len(page) == 5 and len(deliveries(project)) == 7
    finally:
        everything.close()
        some.close()


def test_a_change_of_patterns_holds_from_then_on(project, receiver):
    made = create(project, receiver, ["a.*"])
    project.ingest(event("a.one"), event("b.one"))
    receiver.wait_for(lambda requests: len(requests) == 1)
    changed = patch(project, made, {"events": ["b.*"], "description": "now b"})
    assert changed.status == 200 and changed.json()["events"] == ["b.*"]
    project.ingest(event("a.two"), event("b.two"))
    receiver.wait_for(lambda requests: len(requests) == 2)
    assert actions(receiver.requests) == ["a.one", "b.two"]
    action, metadata = recorded(project, made)[-1]
    assert action == "webhook.endpoint.updated" and metadata["fields"] == ["events", "description"]


# --- attempts


def test_attempts_are_recorded_with_what_the_endpoint_answered(project, receiver):
    said = iter([(500, {"Content-Type": "text/plain"}, b"first \xff" + b"x" * 9_000), 200])
    receiver.answer = lambda _: next(said)
    create(project, receiver, ["a.*"])
    begun = datetime.now(timezone.utc)
    project.ingest(event("a.b"))
    receiver.wait_for(lambda requests: len(requests) == 1)
    (pending,) = until(lambda: [d for d in deliveries(project, "?status=pending") if d["attempts"] == 1])
    assert pending["last_http_status"] == 500 and "500" in pending["last_error"]
    next_at = datetime.fromisoformat(pending["next_attempt_at"].replace("Z", "+00:00"))
    five, quarter = timedelta(seconds=5), timedelta(seconds=1.25)
    assert begun + five - quarter <= next_at <= datetime.now(timezone.utc) + five + quarter
    receiver.wait_for(lambda requests: len(requests) == 2)
    done = with_status(project, pending["id"], "delivered")
    first, second = receiver.requests
    assert 3.7 < second.at - first.at < 9
    assert first.body == second.body and ids([first]) == ids([second])
    assert first.headers["authio-webhook-id"] == second.headers["authio-webhook-id"] == pending["id"]
    one, two = done["attempt_log"]
    assert (one["attempt"], one["status"], one["http_status"]) == (1, "failed", 500)
    assert one["response_body"].startswith("first ?xxx") and len(one["response_body"]) == 4_096
    assert (two["attempt"], two["status"], two["http_status"], two["error"]) == (2, "succeeded", 200, None)
    assert 0 < one["latency_ms"] < 5_000 and done["attempts"] == 2 and done["next_attempt_at"] is None
    assert deliveries(project, "?status=pending") == [] and deliveries(project, "?status=failed") == []


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(project, receiver, form):
    def wait():
        at = datetime.now(timezone.utc) + timedelta(seconds=9)
        return "9" if form == "seconds" else at.strftime("%a, %d %b %Y %H:%M:%S GMT")

    receiver.answer = lambda _: (429, {"Retry-After": wait()}, b"") if len(receiver.requests) == 1 else 200
    create(project, receiver, ["a.*"])
    project.ingest(event("a.b"), event("a.c"))
    receiver.wait_for(lambda requests: len(requests) == 3)
    first = receiver.requests[0].at
    assert all(request.at - first > 7.5 for request in receiver.requests[1:]), "neither the one nor any other before that"


def test_redirects_are_failures_that_say_where_to(project, receiver):
    receiver.answer = lambda _: (302, {"Location": "http://169.254.169.254/latest"}, b"")
    create(project, receiver, ["a.*"])
    project.ingest(event("a.b"))
    (tried,) = until(lambda: [d for d in deliveries(project) if d["attempts"] == 1])
    assert "302" in tried["last_error"] and "169.254.169.254" in tried["last_error"]
    assert len(receiver.requests) == 1


def test_an_endpoint_that_says_it_is_gone_is_disabled(project, receiver):
    receiver.answer = lambda _: 410
    made = create(project, receiver, ["a.*"])
    project.ingest(event("a.b"))
    until(lambda: get(project, made)["status"] == "disabled")
    assert "410" in get(project, made)["reason"]
    action, metadata = recorded(project, made)[-1]
    assert action == "webhook.endpoint.disabled" and "410" in metadata["reason"]
    expect_problem(steer(project, made, "test"), 409, "disabled")
    project.ingest(event("a.missed"))
    receiver.answer = lambda _: 200
    assert patch(project, made, {"status": "active"}).json()["status"] == "active"
    receiver.wait_for(lambda requests: len(requests) == 2, timeout=30)
    assert actions(receiver.requests) == ["a.b", "a.b"], "what was pending goes on"
    assert [a for a, _ in recorded(project, made)][-1] == "webhook.endpoint.enabled"


def test_an_endpoint_that_watches_everything_and_fails_does_not_feed_itself(project, receiver):
    receiver.answer = lambda _: 500
    create(project, receiver)
    project.ingest(event("a.b"))
    receiver.wait_for(lambda requests: len(requests) >= 2, timeout=30)
    before = project.count()
    time.sleep(7)  # the next retries
    assert project.count() == before, "failures record no events"
    assert {body["action"] for body in bodies(receiver.requests)} == {"a.b"}


def test_a_deleted_event_is_not_sent_any_more(project, receiver):
    receiver.answer = lambda _: 500
    create(project, receiver, ["a.*"])
    posted = project.post("/v1/audit/events", event("a.b", description="very private")).json()
    (tried,) = until(lambda: [d for d in deliveries(project) if d["attempts"] == 1])
    assert project.delete(f"/v1/audit/events/{posted['id']}").status == 204
    gone = with_status(project, tried["id"], "failed")
    assert "not in the log any more" in gone["last_error"] and len(receiver.requests) == 1


# --- secrets


def test_a_rotated_secret_signs_the_next_attempt(project, receiver):
    receiver.answer = lambda _: 500 if len(receiver.requests) == 1 else 200
    made = create(project, receiver, ["a.*"])
    project.ingest(event("a.b"))
    receiver.wait_for(lambda requests: len(requests) == 1)
    rotated = steer(project, made, "rotate-secret")
    assert rotated.status == 200
    new = rotated.json()["secret"]
    assert new != made["secret"] and new.startswith("whsec_")
    receiver.wait_for(lambda requests: len(requests) == 2)
    first, second = receiver.requests
    assert first.headers["authio-signature"] == expected_authio(made["secret"], first.body)
    assert second.headers["authio-signature"] == expected_authio(new, second.body), "older deliveries, too"
    assert second.headers["webhook-signature"] == expected_standard(new, second)
    assert recorded(project, made)[-1] == ("webhook.endpoint.secret_rotated", {})


def test_a_rotation_may_leave_a_grace_to_the_old_secret(project, receiver):
    made = create(project, receiver, ["a.*"])
    rotated = steer(project, made, "rotate-secret", {"grace_seconds": 4}).json()
    new = rotated["secret"]
    assert get(project, made)["secret_grace_until"] == rotated["secret_grace_until"]
    project.ingest(event("a.b"))
    receiver.wait_for(lambda requests: len(requests) == 1)
    request = receiver.requests[0]
    assert request.headers["authio-signature"] == expected_authio(new, request.body), "exactly one, of the new one"
    assert request.headers["webhook-signature"].split(" ") == [
        expected_standard(new, request), expected_standard(made["secret"], request)]
    time.sleep(4.1)
    project.ingest(event("a.c"))
    receiver.wait_for(lambda requests: len(requests) == 2)
    request = receiver.requests[1]
    assert request.headers["webhook-signature"] == expected_standard(new, request)


def test_no_secret_ever_shows(make_server, receiver):
    server = make_server().start()
    project = server.client().new_project()
    receiver.answer = lambda _: 500
    made = create(project, receiver)
    secrets = [made["secret"]]
    project.ingest(event())
    until(lambda: deliveries(project))
    secrets.append(steer(project, made, "rotate-secret", {"grace_seconds": 3_600}).json()["secret"])
    until(lambda: deliveries(project, "?status=pending"))
    texts = [project.get(p).text for p in (ENDPOINTS, f"{ENDPOINTS}/{made['id']}", DELIVERIES,
                                           f"{DELIVERIES}/{deliveries(project)[0]['id']}", "/v1/plugins")]
    texts.append(patch(project, made, {"description": "x"}).text)
    texts.append(json.dumps(project.walk()))
    texts.append(project.get("/metrics", key=False).text)
    server.terminate()
    texts += [server.stderr(), server.stdout()]
    held = dump(server, b"host.webhooks")
    for secret in secrets:
        for form in (secret, secret.removeprefix("whsec_")):
            assert all(form not in text for text in texts)
            assert form.encode() not in held
    server.start()
    receiver.answer = lambda _: 200
    before = len(receiver.requests)
    project.ingest(event())
    receiver.wait_for(lambda requests: len(requests) > before)
    request = receiver.requests[-1]
    assert request.headers["authio-signature"] == expected_authio(secrets[1], request.body), "it is there all the same"


# --- by hand


def test_a_test_event_reaches_the_endpoint_whatever_it_subscribes_to(project, receiver):
    made = create(project, receiver, ["nothing.happens"])
    bystander = Receiver()
    try:
        create(project, bystander, ["nothing.either"])
        answer = steer(project, made, "test")
        assert answer.status == 202
        receiver.wait_for(lambda requests: len(requests) == 1)
        request = receiver.requests[0]
        assert request.headers["authio-event"] == "webhook.endpoint.tested"
        assert request.headers["authio-webhook-id"] == answer.json()["delivery_id"]
        assert request.headers["authio-signature"] == expected_authio(made["secret"], request.body)
        with_status(project, answer.json()["delivery_id"], "delivered")
        assert bystander.requests == []
    finally:
        bystander.close()


def test_an_event_that_only_looks_like_a_test_reaches_nobody(project, receiver):
    made = create(project, receiver, ["a.*"])
    project.ingest(event("webhook.endpoint.tested", target_type="webhook_endpoint", target_id=made["id"]), event("a.b"))
    receiver.wait_for(lambda requests: len(requests) == 1)
    assert [r.headers["authio-event"] for r in receiver.requests] == ["a.b"]
    until(lambda: deliveries(project, "?status=pending") == [])
    assert len(receiver.requests) == 1


def test_a_test_of_an_endpoint_that_subscribes_to_it_comes_once(project, receiver):
    made = create(project, receiver, ["webhook.endpoint.tested"])
    asked = steer(project, made, "test").json()["delivery_id"]
    until(lambda: [d["id"] for d in deliveries(project, "?status=delivered")] == [asked])
    until(lambda: deliveries(project, "?status=pending") == [])
    assert [r.headers["authio-webhook-id"] for r in receiver.requests] == [asked]


def test_one_delivery_is_replayed_and_recorded_as_sampled(project, receiver):
    made = create(project, receiver, ["a.*"])
    project.ingest(event("a.b"), event("a.c"))
    receiver.wait_for(lambda requests: len(requests) == 2)
    until(lambda: len(deliveries(project, "?status=delivered")) == 2)
    chosen = deliveries(project)[1]
    answer = project.post(f"{DELIVERIES}/{chosen['id']}/replay")
    assert answer.status == 202 and answer.json()["status"] == "pending"
    receiver.wait_for(lambda requests: len(requests) == 3)
    original = next(r for r in receiver.requests if r.headers["authio-webhook-id"] == chosen["id"])
    again = receiver.requests[2]
    assert again.body == original.body and again.headers["webhook-id"] == original.headers["webhook-id"]
    done = until(lambda: (lambda d: d if d["status"] == "delivered" else None)(delivery(project, chosen["id"])))
    assert done["attempts"] == 2 and done["replays"] == 1 and answer.json()["replays"] == 1
    assert [(a["attempt"], a["status"]) for a in done["attempt_log"]] == [(1, "succeeded"), (2, "succeeded")]
    entry = project.page("?type=webhook.delivery.replayed")["data"][0]
    assert (entry["target_type"], entry["target_id"]) == ("webhook_delivery", made["id"])
    assert entry["metadata"] == {"delivery_id": chosen["id"], "original_attempts": 1}
    assert entry["actor"] == {"type": "api_key", "id": project.key_id}


def test_a_replay_does_not_wait_for_the_schedule(project, receiver):
    receiver.answer = lambda _: 500 if len(receiver.requests) <= 2 else 200
    create(project, receiver, ["a.*"])
    project.ingest(event("a.b"))
    (second,) = until(lambda: [d for d in deliveries(project) if d["attempts"] == 2])  # the next in half a minute
    assert project.post(f"{DELIVERIES}/{second['id']}/replay").status == 202
    receiver.wait_for(lambda requests: len(requests) == 3, timeout=10)
    assert with_status(project, second["id"], "delivered")["attempts"] == 3


def test_recover_sends_what_the_endpoint_lacks(project, receiver):
    made = create(project, receiver, ["a.*"])
    project.ingest(event("a.early"))
    receiver.wait_for(lambda requests: len(requests) == 1)
    until(lambda: deliveries(project, "?status=delivered"))
    assert patch(project, made, {"status": "disabled"}).json()["reason"] == "by request"
    time.sleep(0.01)
    since = datetime.now(timezone.utc).isoformat()
    project.ingest(*[event(f"a.m{n}") for n in range(250)], event("b.other"))
    time.sleep(1)
    expect_problem(steer(project, made, "recover", {"since": since}), 409, "enable it first")
    patch(project, made, {"status": "active"})
    project.ingest(event("a.live"))
    receiver.wait_for(lambda requests: len(requests) == 2)
    answer = steer(project, made, "recover", {"since": since})
    assert answer.status == 202, answer
    receiver.wait_for(lambda requests: len(requests) == 252, timeout=60)
    time.sleep(1.5)
    assert sorted(actions(receiver.requests)) == sorted(["a.early", "a.live"] + [f"a.m{n}" for n in range(250)]), \
        "nothing twice, nothing older"
    until(lambda: get(project, made)["recovery"] is None)
    told = dict(recorded(project, made))
    assert told["webhook.endpoint.recovered"] == {"deliveries": 250}
    assert "webhook.endpoint.recovering" in told


def test_after_revocation_no_attempt_begins(project, receiver):
    hanging = threading.Event()
    receiver.answer = lambda _: (hanging.wait(20), 200)[1]
    made = create(project, receiver, ["a.*"])
    try:
        project.ingest(*[event("a.b") for _ in range(2_000)])
        receiver.wait_for(lambda requests: requests)
        begun = time.monotonic()
        assert project.delete(f"{ENDPOINTS}/{made['id']}").status == 204
        assert time.monotonic() - begun < 8, "what is under way is given up"
        seen = len(receiver.requests)
    finally:
        hanging.set()
    time.sleep(2)
    assert len(receiver.requests) == seen
    assert recorded(project, made)[-1] == ("webhook.endpoint.revoked", {})
    assert project.get(ENDPOINTS).json()["data"] == []
    assert get(project, made)["status"] == "revoked"
    until(lambda: deliveries(project, f"?endpoint={made['id']}&status=pending") == [])
    assert all(d["last_error"] == "the endpoint was revoked" for d in deliveries(project, "?status=failed"))
    for answer in (steer(project, made, "rotate-secret"), steer(project, made, "test"), patch(project, made, {"description": "x"}),
                   project.post(f"{DELIVERIES}/{deliveries(project)[0]['id']}/replay")):
        expect_problem(answer, 409, "revoked")
    assert project.delete(f"{ENDPOINTS}/{made['id']}").status == 204, "again is no fault"


# --- the delivery log


def test_deliveries_are_found_by_endpoint_status_and_event(project, receiver):
    broken = Receiver(lambda _: 500)
    try:
        good = create(project, receiver, ["a.*"])
        bad = create(project, broken, ["a.*"])
        posted = [project.post("/v1/audit/events", event(f"a.n{n}")).json() for n in range(7)]
        until(lambda: len(deliveries(project, "?status=delivered")) == 7)
        broken.wait_for(lambda requests: requests)
        everything = deliveries(project)
        assert [d["event_id"] for d in everything] == [p["id"] for p in posted[::-1] for _ in range(2)], "newest first"
        assert {d["endpoint_id"] for d in everything} == {good["id"], bad["id"]}
        for query, wanted in ((f"?endpoint={good['id']}", lambda d: d["endpoint_id"] == good["id"]),
                              ("?status=delivered", lambda d: d["endpoint_id"] == good["id"]),
                              ("?status=pending", lambda d: d["endpoint_id"] == bad["id"]),
                              (f"?event_id={posted[3]['id']}", lambda d: d["event_id"] == posted[3]["id"]),
                              (f"?event_id={posted[3]['id']}&status=delivered&endpoint={bad['id']}", lambda _: False)):
            wanted_ids = [d["id"] for d in everything if wanted(d)]
            assert [d["id"] for d in deliveries(project, query)] == wanted_ids, query
            walked, cursor = [], ""
            for _ in range(20):
                page = project.get(f"{DELIVERIES}{query}&limit=2{cursor}").json()
                assert len(page["data"]) <= 2
                walked += [d["id"] for d in page["data"]]
                assert page["has_more"] == (page["next_cursor"] is not None)
                if not page["has_more"]:
                    break
                cursor = f"&cursor={page['next_cursor']}"
            assert walked == wanted_ids, query
        cursor = project.get(f"{DELIVERIES}?limit=1").json()["next_cursor"]
        expect_problem(project.get(f"{DELIVERIES}?status=failed&cursor={cursor}"), 400)
        expect_problem(project.get(f"{DELIVERIES}?cursor={cursor[:-1]}x"), 400)
        assert deliveries(project, "?event_id=evt_01ARZ3NDEKTSV4RRFFQ69G5FAV") == []
    finally:
        broken.close()


# --- the command line


def of_cli(server, project, *arguments, code=0):
    """Standard output of an `annal webhooks …`, or standard error when it is to fail."""
    done = server.cli("webhooks", *arguments, "--project", project.project)
    assert done.returncode == code, done
    assert code == 0 or (done.stdout == "" and done.stderr.startswith("annal: ")), done
    return done.stderr if code else done.stdout


def test_the_command_line_does_all_of_it(server, project, receiver):
    def annal(*arguments):
        return json.loads(of_cli(server, project, *arguments))

    made = annal("create", "--url", receiver.url, "--events", "a.*,b.c", "--description", "mirror",
                 "--signature-scheme", "timestamped")
    endpoint = made["id"]
    assert made["events"] == ["a.*", "b.c"] and made["description"] == "mirror" and made["secret"].startswith("whsec_")
    assert made["signature_scheme"] == "timestamped"
    listed = annal("list")
    assert listed == {key: value for key, value in made.items() if key != "secret"}
    shown = annal("get", endpoint)
    assert shown == listed | {"failing_since": None, "recovery": None}
    changed = annal("change", endpoint, "--events", "a.*", "--description", "", "--signature-scheme", "authio")
    assert (changed["events"], changed["description"], changed["signature_scheme"]) == (["a.*"], None, "authio")

    tested = annal("test", endpoint)["delivery_id"]
    receiver.wait_for(lambda requests: requests)
    assert actions(receiver.requests) == ["webhook.endpoint.tested"]
    with_status(project, tested, "delivered")
    delivered = annal("delivery", tested)
    assert [(a["attempt"], a["http_status"]) for a in delivered["attempt_log"]] == [(1, 200)]
    assert annal("replay", tested)["replays"] == 1
    receiver.wait_for(lambda requests: len(requests) == 2)
    assert ids(receiver.requests) == [delivered["event_id"]] * 2

    rotated = annal("rotate-secret", endpoint, "--grace-seconds", "600")
    assert rotated["secret"].startswith("whsec_") and rotated["secret"] != made["secret"]
    assert rotated["secret_grace_until"] == annal("get", endpoint)["secret_grace_until"] is not None
    assert annal("rotate-secret", endpoint)["secret_grace_until"] is None

    assert annal("disable", endpoint)["status"] == "disabled"
    project.ingest(event("a.missed"))
    assert annal("enable", endpoint)["status"] == "active"
    assert annal("recover", endpoint, "--since", "2026-01-01T00:00:00Z")["since"] == "2026-01-01T00:00:00.000000Z"
    receiver.wait_for(lambda requests: "a.missed" in actions(requests))
    assert of_cli(server, project, "revoke", endpoint) == f"revoked {endpoint}\n"
    assert of_cli(server, project, "list") == ""
    assert annal("get", endpoint)["status"] == "revoked"


def test_the_command_line_says_once_that_it_shows_a_secret_once(server, project, receiver):
    def said(*arguments):
        done = server.cli("webhooks", *arguments, "--project", project.project)
        assert done.returncode == 0, done
        assert ("whsec_" in done.stdout, "whsec_" in done.stderr) == ("this once" in done.stderr, False)
        return done

    made = said("create", "--url", receiver.url, "--events", "*")
    endpoint = json.loads(made.stdout)["id"]
    rotated = said("rotate-secret", endpoint)
    assert "this once" in made.stderr and "this once" in rotated.stderr
    for arguments in (["list"], ["get", endpoint], ["change", endpoint, "--events", "a.*"], ["disable", endpoint]):
        assert said(*arguments).stderr == ""


def test_the_command_line_lists_deliveries_page_after_page(server, project, receiver):
    def annal(*arguments):
        return [json.loads(line) for line in of_cli(server, project, "deliveries", *arguments).splitlines()]

    broken = Receiver(lambda _: 500)
    try:
        good, bad = create(project, receiver, ["a.*"]), create(project, broken, ["a.last"])
        posted = project.ingest(*[event("a.b") for _ in range(450)])
        posted += project.ingest(event("a.last"))
        until(lambda: len(deliveries(project, "?status=delivered&limit=200")) == 200)
        receiver.wait_for(lambda requests: len(requests) == 451)
        until(lambda: deliveries(project, f"?status=pending&endpoint={good['id']}") == [])
        newest = [p["id"] for p in posted[::-1]]
        assert [d["event_id"] for d in annal("--endpoint", good["id"])] == newest, "every page"
        assert len(annal()) == 452
        assert [d["event_id"] for d in annal("--status", "delivered", "--limit", "201")] == newest[:201]
        assert [d["event_id"] for d in annal("--endpoint", good["id"], "--limit", "3")] == newest[:3]
        (failing,) = annal("--status", "pending")
        assert failing["endpoint_id"] == bad["id"]
        assert {d["endpoint_id"] for d in annal("--event-id", newest[0])} == {good["id"], bad["id"]}
        assert annal("--status", "failed") == []
    finally:
        broken.close()


def test_the_command_line_says_what_is_wrong(server, project, receiver):
    def refused(*arguments, code=1):
        return of_cli(server, project, *arguments, code=code)

    url = ("--url", receiver.url)
    assert "events/0" in refused("create", *url, "--events", "no pattern")
    assert "/url" in refused("create", "--url", "ftp://example.com/", "--events", "*")
    assert "/url" in refused("create", "--url", "http://10.0.0.1/", "--events", "*")
    assert "authio or timestamped" in refused("create", *url, "--events", "*", "--signature-scheme", "v2")
    assert of_cli(server, project, "list") == "", "nothing was made"
    endpoint = create(project, receiver)["id"]
    assert "/grace_seconds" in refused("rotate-secret", endpoint, "--grace-seconds", "604801")
    assert "/since" in refused("recover", endpoint, "--since", "yesterday")
    assert "events/1" in refused("change", endpoint, "--events", "a.*,no pattern")
    assert "/url" in refused("change", endpoint, "--url", "")
    of_cli(server, project, "disable", endpoint)
    assert "disabled" in refused("test", endpoint)
    assert "disabled" in refused("recover", endpoint, "--since", "2026-01-01T00:00:00Z")
    of_cli(server, project, "revoke", endpoint)
    assert "revoked" in refused("enable", endpoint)
    for arguments in (["get"], ["change", "--events", "*"], ["enable"], ["disable"], ["revoke"], ["rotate-secret"], ["test"],
                      ["recover", "--since", "2026-01-01T00:00:00Z"]):
        assert "web_none" in refused(arguments[0], "web_none", *arguments[1:])
    for command in ("delivery", "replay"):
        assert "del_none-1" in refused(command, "del_none-1")
        assert "a/b?c" in refused(command, "a/b?c"), "an id is a part of the path, whatever is in it"
    assert "web_none" in refused("deliveries", "--endpoint", "web_none")
    assert "pending, delivered or failed" in refused("deliveries", "--status", "lost")
    assert "event_id" in refused("deliveries", "--event-id", "5")


@pytest.mark.parametrize("arguments", [
    ["create", "--url", "https://example.com/"], ["create", "--events", "*"], ["get"], ["recover", "web_1"], ["replay"],
    ["rotate-secret", "web_1", "--grace-seconds", "long"], ["deliveries", "--limit", "0"], ["lose", "web_1"], []])
def test_the_command_line_refuses_what_it_does_not_understand(server, project, arguments):
    done = server.cli("webhooks", *arguments, *(["--project", project.project] if arguments else []))
    assert done.returncode == 2 and done.stderr, done


def test_the_command_line_needs_no_running_server(make_server, receiver):
    server = make_server().start()
    project = server.client().new_project()
    server.terminate()
    endpoint = json.loads(of_cli(server, project, "create", "--url", receiver.url, "--events", "a.*"))["id"]
    assert json.loads(of_cli(server, project, "list"))["id"] == endpoint
    made = json.loads(of_cli(server, project, "test", endpoint))["delivery_id"]
    assert receiver.requests == [], "a command does not deliver"
    server.start()
    receiver.wait_for(lambda requests: requests)
    assert receiver.requests[0].headers["authio-webhook-id"] == made
    with_status(project, made, "delivered")
    server.terminate()
    assert json.loads(of_cli(server, project, "deliveries"))["id"] == made


# --- faults


def test_a_crash_loses_no_delivery(make_server, receiver):
    server = make_server().start()
    project = server.client().new_project()
    made = create(project, receiver, ["a.*"])
    posted = []
    for _ in range(4):
        posted += [r["id"] for r in project.ingest(*[event("a.b") for _ in range(400)])]
        receiver.wait_for(lambda requests: len(set(ids(requests))) > len(posted) - 350)
        server.kill()
        server.start()
    receiver.wait_for(lambda requests: set(ids(requests)) >= set(posted))
    until(lambda: deliveries(project, "?status=pending") == [])
    assert set(ids(receiver.requests)) == set(posted)
    by_id = {}
    for request in receiver.requests:
        assert by_id.setdefault(request.headers["webhook-id"], request.body) == request.body
    assert len(receiver.requests) < len(posted) + 4 * 600, "again only what a crash left open"
    assert all(d["status"] == "delivered" for d in deliveries(project, f"?endpoint={made['id']}&limit=200"))


def test_a_stop_finishes_what_is_under_way(make_server, receiver):
    server = make_server().start()
    project = server.client().new_project()
    receiver.answer = lambda _: (time.sleep(1), 200)[1]
    create(project, receiver, ["a.*"])
    project.ingest(event("a.b"))
    receiver.wait_for(lambda requests: requests)
    server.terminate()
    server.start()
    until(lambda: deliveries(project, "?status=delivered"))
    assert len(receiver.requests) == 1, "it was recorded before the end"
