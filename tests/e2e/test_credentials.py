"""Every form in which a key can be sent, and those that must not pass."""

import base64

import pytest
from annal_server import basic, bearer, event, expect_problem


@pytest.fixture(scope="module")
def key(root):
    return root.make_key(["audit:read", "audit:ingest"])


@pytest.fixture(scope="module")
def other(root):
    return root.make_key(["audit:read", "audit:ingest"])


def forms(key):
    return {
        "bearer": bearer(key.secret),
        "bearer in lower case": {"Authorization": f"bearer {key.secret}"},
        "bearer in upper case": {"authorization": f"BEARER {key.secret}"},
        "bearer after two spaces": {"Authorization": f"Bearer  {key.secret}"},
        "x-api-key": {"X-API-Key": key.secret},
        "x-api-key in lower case": {"x-api-key": key.secret},
        "basic": basic(key.key_id, key.secret),
        "basic in lower case": {"Authorization": basic(key.key_id, key.secret)["Authorization"].replace("Basic", "basic")},
        "the same key twice": bearer(key.secret) | {"X-API-Key": key.secret},
        "basic and the same x-api-key": basic(key.key_id, key.secret) | {"X-API-Key": key.secret},
    }


@pytest.mark.parametrize("form", list(forms(type("K", (), {"secret": "s", "key_id": "i"}))))
def test_each_form_reads_and_writes(key, form):
    fields = forms(key)[form]
    assert key.get("/v1/audit/events", headers=fields, key=False).status == 200
    assert key.post("/v1/audit/events", event(), headers=fields, key=False).status == 201


def bad_forms(key, other):
    secret = key.secret
    return {
        "two different keys": bearer(secret) | {"X-API-Key": other.secret},
        "basic with another key's id": basic(other.key_id, secret),
        "basic with an unknown id": basic("apikey_nobody", secret),
        "basic with the project as id": basic(key.project, secret),
        "basic with a wrong secret": basic(key.key_id, secret[:-1] + ("a" if secret[-1] != "a" else "b")),
        "basic without a colon": {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()},
        "basic that is no base64": {"Authorization": "Basic !!!!"},
        "basic that is empty": {"Authorization": "Basic "},
        "bearer without a key": {"Authorization": "Bearer"},
        "another scheme": {"Authorization": f"Digest {secret}"},
        "no scheme": {"Authorization": secret},
        "a cut key": bearer(secret[:-1]),
        "a longer key": bearer(secret + "a"),
        "the key in upper case": bearer(secret.upper()),
        "the key's id": bearer(key.key_id),
        "x-api-key with a scheme": {"X-API-Key": f"Bearer {secret}"},
        "an empty x-api-key": {"X-API-Key": ""},
    }


@pytest.mark.parametrize("form", list(bad_forms(*[type("K", (), {"secret": "s", "key_id": "i", "project": "p"})] * 2)))
def test_each_bad_form_is_401(key, other, form):
    answer = key.get("/v1/audit/events", headers=bad_forms(key, other)[form], key=False)
    problem = expect_problem(answer, 401)
    assert problem["code"] == "unauthenticated"
    assert answer.headers["www-authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("field", ["Authorization: Bearer ", "X-API-Key: "])
def test_one_header_with_two_keys_is_401(server, key, other, field):
    with server.raw() as connection:
        for second, status in ((other.secret, 401), (key.secret, 200)):
            connection.send((f"GET /v1/audit/events HTTP/1.1\r\nHost: t\r\n{field}{key.secret}\r\n"
                             f"{field}{second}\r\n\r\n").encode())
            assert connection.receive().status == status


def test_a_key_in_the_query_is_no_credential(key):
    answer = key.get(f"/v1/audit/events?api_key={key.secret}", key=False)
    assert answer.status == 401


def test_the_project_header_moves_nobody_out_of_his_project(root, project):
    project.ingest(event("mine.only"))
    stranger = root.new_project()
    answer = stranger.get("/v1/audit/events?type=mine.only", headers={"Annal-Project": project.project})
    assert answer.status == 200
    assert answer.json()["data"] == []


def test_a_key_works_until_it_is_revoked_and_no_longer(root, project):
    key = project.make_key(["audit:read"])
    with key.server.raw() as connection:  # also on a connection that has been authenticated before
        head = f"GET /v1/audit/events HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key.secret}\r\n\r\n".encode()
        connection.send(head)
        assert connection.receive().status == 200
        assert project.delete(f"/v1/api-keys/{key.key_id}").status == 204
        connection.send(head)
        assert connection.receive().status == 401
