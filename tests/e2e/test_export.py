"""Exports: marked when cut, continued without overlap or hole, flat in memory, and deaf to clients that go away."""

import csv
import io
import json
import os
import socket
import time
from pathlib import Path

import pytest
from annal_server import HOLD_LITTLE_BACK, Server, event, expect_problem, wait_until
from test_samples import CSV_COLUMNS

CAP = 100_000
LINE = '{"action":"bulk.row","actor_type":"user","external_id":"%d"}\n'


@pytest.fixture(scope="module")
def server():
    with Server(env=HOLD_LITTLE_BACK) as running:
        yield running


@pytest.fixture(scope="module")
def full(root):
    """A project of exactly 100 000 events, its key's own event included."""
    client = root.new_project()
    have = client.count()
    for first in range(have, CAP, 10_000):
        last = min(first + 10_000, CAP)
        answer = client.ndjson("".join(LINE % i for i in range(first, last)))
        assert answer.status == 201, answer
    assert client.count() == CAP
    return client


def seqs_of(lines):
    return [json.loads(line)["seq"] for line in lines]


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


# The two tests share the expensive project: the first one sees it at the limit, the second one goes one beyond.

def test_exactly_100_000_rows_are_not_marked(full):
    for form in ("jsonl", "csv"):
        answer = full.raw_get(f"/v1/audit/events.{form}")
        assert answer.status == 200
        assert answer.field("Annal-Truncated") is None
        assert answer.field("Annal-Next-Cursor") is None
        assert answer.field("Link") is None
        if form == "jsonl":
            assert seqs_of(answer.text.splitlines()) == list(range(CAP - 1, -1, -1))
        else:
            assert len(rows_of(answer.text)) == CAP + 1


def test_100_001_rows_are_marked_and_go_on_without_overlap_or_hole(full):
    if full.count() == CAP:
        full.ingest(event("bulk.row"))
    assert full.count() == CAP + 1
    for form in ("jsonl", "csv"):
        answer = full.raw_get(f"/v1/audit/events.{form}")
        assert answer.status == 200
        assert answer.field("Annal-Truncated") == "true"
        cursor = answer.field("Annal-Next-Cursor")
        link = answer.field("Link")
        assert cursor and 'rel="next"' in link.replace("rel=next", 'rel="next"')
        target = link[link.index("<") + 1:link.index(">")]
        assert target.startswith(f"/v1/audit/events.{form}?") and cursor in target
        for path in (target, f"/v1/audit/events.{form}?cursor={cursor}"):
            rest = full.raw_get(path)
            assert rest.status == 200
            assert rest.field("Annal-Truncated") is None
            if form == "jsonl":
                assert seqs_of(answer.text.splitlines()) == list(range(CAP, 0, -1))
                assert seqs_of(rest.text.splitlines()) == [0]
            else:
                assert len(rows_of(answer.text)) == CAP + 1
                rows = rows_of(rest.text)
                assert rows[0] == CSV_COLUMNS and len(rows) == 2 and rows[1][2] == "api_key.created"


def test_the_filters_stay_in_the_link(full):
    if full.count() == CAP:
        full.ingest(event("bulk.row"))
    answer = full.raw_get("/v1/audit/events.csv?type=*&csv_safe=false&from=2020-01-01T00:00:00Z")
    link = answer.field("Link")
    target = link[link.index("<") + 1:link.index(">")]
    for part in ("type=", "csv_safe=false", "from="):
        assert part in target
    rest = full.raw_get(target)
    assert rest.status == 200 and len(rows_of(rest.text)) == 2


def test_a_filter_below_the_cap_is_not_marked(full):
    answer = full.raw_get("/v1/audit/events.jsonl?external_id=77777")
    assert answer.field("Annal-Truncated") is None
    assert len(answer.text.splitlines()) == 1


def test_an_export_needs_flat_memory(server, full):
    full.get("/v1/audit/events.jsonl")  # warm
    before = server.rss_bytes()
    for form in ("jsonl", "csv"):
        full.get(f"/v1/audit/events.{form}")
    server.expect_growth_below(32, before)


def test_a_slow_reader_does_not_fill_the_servers_memory(server, full):
    before = server.rss_bytes()
    with server.raw(receive_buffer=4096) as connection:
        connection.send(f"GET /v1/audit/events.jsonl HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {full.secret}\r\n\r\n".encode())
        connection.head()
        time.sleep(1.5)
        server.expect_growth_below(32, before)
        # Others are served meanwhile.
        assert len(full.page("?limit=3")["data"]) == 3


def sockets_of(server):
    """How many sockets the server holds open."""
    count = 0
    for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
        try:
            count += os.readlink(entry).startswith("socket:")
        except FileNotFoundError:
            pass  # closed meanwhile
    return count


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_client_that_goes_away_in_the_middle_harms_nobody(server, full, how):
    before, sockets = server.rss_bytes(), sockets_of(server)
    for _ in range(8):
        connection = server.raw(receive_buffer=4096)
        connection.send(f"GET /v1/audit/events.jsonl HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {full.secret}\r\n\r\n".encode())
        status, _ = connection.head()
        assert status == 200
        if how == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        connection.close()
    assert server.running()
    assert full.raw_get("/v1/audit/events.jsonl?external_id=5").status == 200
    wait_until(lambda: sockets_of(server) <= sockets, what="the end of the abandoned connections")
    server.expect_growth_below(64, before)


def test_the_cli_joins_an_export_beyond_the_cap(server, full, tmp_path):
    if full.count() == CAP:
        full.ingest(event("bulk.row"))
    for form in ("jsonl", "csv"):
        path = tmp_path / f"all.{form}"
        run = server.cli("export", "--project", full.project, "--format", form, "--output", path)
        assert run.returncode == 0, run.stderr
        assert not path.with_name(path.name + ".partial").exists()
        if form == "jsonl":
            assert seqs_of(path.read_text().splitlines()) == list(range(CAP, -1, -1))
        else:
            rows = rows_of(path.read_bytes().decode())
            assert rows[0] == CSV_COLUMNS
            assert len(rows) == CAP + 2
            assert sum(row == CSV_COLUMNS for row in rows) == 1


# --- Content

FORMULAS = ["=1+1", "+1", "-1", "@x", "\tx", "\rx"]


def test_formulas_get_an_apostrophe_unless_turned_off(project):
    project.ingest(*(event(description=text, user_agent="plain", target_id="a=b") for text in FORMULAS))
    safe = rows_of(project.get("/v1/audit/events.csv?type=test.*").text)
    raw = rows_of(project.get("/v1/audit/events.csv?type=test.*&csv_safe=false").text)
    column = CSV_COLUMNS.index("description")
    assert [row[column] for row in safe[:0:-1]] == ["'" + text for text in FORMULAS]
    assert [row[column] for row in raw[:0:-1]] == FORMULAS
    assert {row[CSV_COLUMNS.index("target_id")] for row in safe[1:]} == {"a=b"}
    explicit = project.get("/v1/audit/events.csv?type=test.*&csv_safe=true").text
    assert explicit == project.get("/v1/audit/events.csv?type=test.*").text


def test_csv_quotes_what_must_be_quoted(project):
    texts = ['a,b', 'say "hi"', "two\nlines", "cr\rlf\r\nend", "é😀", " spaces ", "semi;colon", "'apostrophe"]
    project.ingest(*(event(description=text) for text in texts))
    answer = project.get("/v1/audit/events.csv?type=test.*")
    rows = rows_of(answer.text)
    assert [row[-1] for row in rows[:0:-1]] == texts
    assert all(len(row) == len(CSV_COLUMNS) for row in rows)
    assert not answer.body.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("path", [
    "/v1/audit/events.csv?csv_safe=maybe", "/v1/audit/events.csv?csv_unsafe=1", "/v1/audit/events.jsonl?csv_safe=false",
    "/v1/audit/events.jsonl?limit=0", "/v1/audit/events.csv?from=x", "/v1/audit/events.csv?type=a.b&type=a.c"])
def test_bad_export_parameters_are_400(project, path):
    expect_problem(project.get(path), 400)


def test_an_empty_export(project):
    csv_answer = project.get("/v1/audit/events.csv?type=none.such")
    assert csv_answer.text == ",".join(CSV_COLUMNS) + "\r\n"
    jsonl = project.get("/v1/audit/events.jsonl?type=none.such")
    assert (jsonl.status, jsonl.body) == (200, b"")


def test_exports_say_what_they_are(project):
    jsonl = project.get("/v1/audit/events.jsonl")
    assert jsonl.headers["content-type"].split(";")[0] in ("application/x-ndjson", "application/jsonl")
    assert project.get("/v1/audit/events.csv").headers["content-type"].split(";")[0] == "text/csv"


def test_a_lower_cap_of_the_node_is_honoured(make_server):
    server = make_server(settings="limits:\n  export_rows: 5\n").start()
    client = server.client()
    client.ingest(*(event() for _ in range(11)))
    answer = client.raw_get("/v1/audit/events.jsonl")
    assert seqs_of(answer.text.splitlines()) == [11, 10, 9, 8, 7]
    assert answer.field("Annal-Truncated") == "true"
    assert seqs_of(client.export_lines()) == list(range(11, -1, -1))
