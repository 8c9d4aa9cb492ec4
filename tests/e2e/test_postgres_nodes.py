"""Several nodes on one database: any of them serves any request, and what one changes the others know."""

import concurrent.futures
import json
import threading
import time

import pytest
from annal_server import PROJECT, Server, event, expect_problem
from posting import Load

KNOWN_WITHIN_S = 1.0  # what docs/operations.md promises


@pytest.fixture(scope="module")
def nodes(postgres_cluster):
    """Two nodes on one database."""
    url = postgres_cluster.create_database()
    with Server(database=url) as a, Server(database=url) as b:
        yield a, b


def spread(nodes, client):
    return [node.client(client.secret, client.project) for node in nodes]


def test_what_one_stores_the_other_reads(both):
    here, there = both
    stored = here.ingest(event("a.first"), event("a.second"))
    stored += there.ingest(event("b.third"))
    stored += here.ingest(event("a.fourth"))
    for client in both:
        found = client.walk()
        # The key of the project is its first event.
        assert [e["id"] for e in reversed(found)][1:] == [receipt["id"] for receipt in stored]
        assert [e["seq"] for e in reversed(found)] == list(range(len(found)))
        assert client.get(f"/v1/audit/events/{stored[2]['id']}").json()["action"] == "b.third"


def test_pages_go_on_at_the_other_node(both):
    here, there = both
    here.ingest(*(event(f"n.e{i}") for i in range(9)))
    first = here.page("?limit=4")
    second = there.page(f"?limit=4&cursor={first['next_cursor']}")
    assert [e["seq"] for e in first["data"] + second["data"]] == [9, 8, 7, 6, 5, 4, 3, 2]


def test_an_idempotency_key_holds_on_every_node(both):
    here, there = both
    first = here.ingest(event("once.only", idempotency_key="k1"))
    again = there.post("/v1/audit/events", {"events": [event("once.only", idempotency_key="k1")]})
    assert again.status == 200 and again.json()["data"][0]["id"] == first[0]["id"]
    expect_problem(there.post("/v1/audit/events", {"events": [event("another.one", idempotency_key="k1")]}), 409)


def test_a_key_made_on_one_works_on_the_other_at_once(nodes):
    a, b = nodes
    for here, there in ((a, b), (b, a)):
        for _ in range(5):
            made = here.client().make_key(["audit:read"])
            assert there.client(made.secret).get("/v1/audit/events?limit=1").status == 200


def test_a_project_made_on_one_is_there_on_the_other_at_once(nodes):
    a, b = nodes
    for here, there in ((a, b), (b, a)):
        project = here.client().post("/v1/projects", {"name": "New"}).json()["id"]
        key = there.client().make_key(["audit:ingest"], project_id=project)
        assert key.ingest(event())[0]["seq"] == 1
        assert project in [p["id"] for p in there.client().get("/v1/projects").json()["data"]]


def test_a_project_is_made_once(nodes):
    a, b = nodes
    assert a.client().post("/v1/projects", {"id": "only_one", "name": "x"}).status == 201
    expect_problem(b.client().post("/v1/projects", {"id": "only_one", "name": "x"}), 409, "only_one")


def test_a_revoked_key_is_refused_by_the_other_within_a_second(nodes):
    """Also when it was used there all the time."""
    a, b = nodes
    for here, there in ((a, b), (b, a)):
        made = here.client().make_key(["audit:read"])
        used = there.client(made.secret)
        assert used.get("/v1/audit/events?limit=1").status == 200
        assert here.client().delete(f"/v1/api-keys/{made.key_id}").status == 204
        revoked = time.monotonic()
        refused = None
        while refused is None:
            asked = time.monotonic()
            answer = used.get("/v1/audit/events?limit=1")
            if answer.status == 401:
                refused = asked
            else:
                # Who asks later than that must not get in.
                assert answer.status == 200 and asked - revoked < KNOWN_WITHIN_S, answer
        assert here.client(made.secret).get("/v1/audit/events?limit=1").status == 401


def test_a_key_can_be_revoked_on_a_node_that_did_not_make_it(nodes):
    a, b = nodes
    made = a.client().make_key(["audit:read"])
    assert b.client().delete(f"/v1/api-keys/{made.key_id}").status == 204
    assert b.client(made.secret).get("/v1/audit/events").status == 401


def test_keys_are_listed_by_every_node(nodes):
    a, b = nodes
    made = a.client().make_key(["audit:read"])
    assert made.key_id in [k["id"] for k in b.client().get("/v1/api-keys").json()["data"]]
    b.client().delete(f"/v1/api-keys/{made.key_id}")
    listed = {k["id"]: k for k in a.client().get("/v1/api-keys").json()["data"]}
    assert listed[made.key_id]["revoked_at"]


def test_there_is_one_bootstrap_key(nodes):
    for node in nodes:
        keys = node.client().get("/v1/api-keys").json()["data"]
        assert len([k for k in keys if k["name"] == "bootstrap"]) == 1


def test_settings_are_known_to_the_other_within_a_second(both):
    here, there = both
    assert there.post("/v1/audit/events", event("never.heard.of")).status == 201
    assert here.put("/v1/config/catalog", '"strict"').status == 200
    changed = time.monotonic()
    assert there.get("/v1/config/catalog").json()["value"] == "strict"
    asked = changed
    while there.post("/v1/audit/events", event("never.heard.of")).status != 422:
        assert asked - changed < KNOWN_WITHIN_S, "the other node still takes what the catalog does not know"
        asked = time.monotonic()
    assert there.put("/v1/config/catalog", '"open"').status == 200
    assert here.get("/v1/config/catalog").json()["value"] == "open"


def test_changes_from_both_sides_do_not_conflict(both):
    """Each node knows what the other has just set."""
    for days in range(1, 8):
        client = both[days % 2]
        assert client.put("/v1/config/audit_retention_days", str(days)).status == 200
        assert both[(days + 1) % 2].get("/v1/config/audit_retention_days").json()["value"] == days


def test_a_deletion_shows_everywhere(both):
    here, there = both
    receipt = here.ingest(event("to.be.deleted"))[0]
    assert there.delete(f"/v1/audit/events/{receipt['id']}", headers={"Annal-Reason": "test"}).status in (200, 204)
    assert here.get(f"/v1/audit/events/{receipt['id']}").status == 404


def test_many_wrong_keys_leave_the_right_ones_alone(nodes):
    """Who tries keys makes the node look, but not for each of them."""
    a, _ = nodes
    stop = threading.Event()

    def attack():
        while not stop.is_set():
            assert a.client("sk_live_nobody_ever_made_this_one").get("/v1/audit/events").status == 401

    attackers = [threading.Thread(target=attack) for _ in range(4)]
    for thread in attackers:
        thread.start()
    try:
        for _ in range(20):
            assert a.client().ingest(event())
    finally:
        stop.set()
        for thread in attackers:
            thread.join()


@pytest.mark.parametrize("round_number", range(2))
def test_a_killed_node_takes_nothing_with_it(postgres_cluster, make_server, round_number):
    """Both ingest into one project; one dies in the middle; the other goes on, and nothing acknowledged is lost."""
    url = postgres_cluster.create_database()
    a, b = make_server(database=url).start(), make_server(database=url).start()
    client = a.client().new_project()
    here, there = spread((a, b), client)
    with Load(here, here, name="dying") as dying, Load(there, there, name="living") as living:
        dying.await_progress(20)
        living.await_progress(20)
        a.kill()
        living.await_progress(20)
    assert [p.refusals for p in living.posters] == [[], []]
    dying.expect_no_surprise()
    found = {e["seq"]: e["id"] for e in there.walk()}
    assert sorted(found) == list(range(len(found)))
    for receipt in [r for load in (dying, living) for p in load.posters for r in p.acknowledged]:
        assert found[receipt["seq"]] == receipt["id"]
    a.start()
    assert a.client(client.secret, client.project).ingest(event())[0]["seq"] == len(found)


def test_a_busy_node_has_twelve_connections_at_most(postgres_cluster, make_server):
    """4 to append, 4 to read, 2 for deliveries and keys, one that listens, one that keeps the months."""
    url = postgres_cluster.create_database()
    server = make_server(database=url)
    server.start()
    client = server.client().new_project()
    most = 0
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        work = [pool.submit(client.ingest, event(f"busy.e{i}")) for i in range(200)]
        work += [pool.submit(client.page, "?type=busy.*") for _ in range(100)]
        while not all(w.done() for w in work):
            open_now = postgres_cluster.sql(
                url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
            most = max(most, int(open_now))
        for w in work:
            w.result()
    assert 8 <= most <= 12


def test_two_nodes_can_not_share_a_data_directory(nodes, make_server):
    a, _ = nodes
    other = make_server(database=a.env["ANNAL_POSTGRES_URL"], env={"ANNAL_DATA_DIR": str(a.data_dir)})
    other.spawn()
    assert other.wait_exit() == 1
    assert f"{a.data_dir} is in use by the process with pid {a.process.pid}" in other.stderr()


def test_the_command_line_speaks_to_its_node(nodes):
    a, b = nodes
    run = a.cli("keys", "create", "--project", PROJECT, "--name", "by hand", "--scopes", "audit:read")
    assert run.returncode == 0, run.stderr
    assert b.client(json.loads(run.stdout)["secret"]).get("/v1/audit/events?limit=1").status == 200
