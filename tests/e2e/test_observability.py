"""What docs/operations.md says about metrics and log lines is what the sources hold and a server shows, and the reverse."""

import re
import shutil
import subprocess

import pytest
import yaml
from annal_server import PROJECT, SOURCE, STORE, event, wait_until
from prometheus_client.parser import text_string_to_metric_families

OPERATIONS = SOURCE / "docs" / "operations.md"
ALERTS = SOURCE / "docs" / "alerts.yaml"

STREAM = """\
apiVersion: annal.dev/v1
kind: Plugin
metadata: {{name: observed}}
spec:
  library: {{name: sink_file}}
  config: {{path: {path}}}
  triggers: [{{name: all, events: {{project: {project}}}}}]
"""

# Shown by a server with TLS, or with an instance that may call out, which this file's is not and has not.
NOT_SHOWN_AT_ONCE = {"annal_tls_certificate_expires_seconds", "annal_tls_handshake_failures_total",
                     "annal_outbound_requests_total", "annal_outbound_in_flight", "annal_outbound_waiting"}
# How the table of metrics begins what it says of those of one store.
ONLY_ON = {"sqlite": "on SQLite: ", "postgres": "on PostgreSQL: "}

METRIC = r"(?:annal|process)_[a-z_]+[a-z]"
EVENT = r"[a-z_]+\.[a-z_]+"
# The first argument of these is an event's name.
LOGS = re.compile(r"(?:\blog::(?:debug|info|warn|error|write)|\btell|\bfatal|\bgive_up|\bhost(?:\(\)|_)?\.(?:debug|info|warn|error))\(")


def sources():
    for folder in ("runtime", "plugins", "sdk/include"):
        for path in sorted((SOURCE / folder).rglob("*")):
            if path.suffix in (".cpp", ".h", ".hpp") and not path.stem.endswith(("_test", "_bench")):
                yield path, re.sub(r"^\s*//.*$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


def table(title):
    """The rows of the table below a heading of docs/operations.md, as lists of cells."""
    section = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert section, f"docs/operations.md has no section {title}"
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in section[1].splitlines() if line.startswith("| `")]
    assert rows, f"the section {title} has no table"
    return [[cell.strip() for cell in row] for row in rows]


def documented(title, form):
    names = []
    for row in table(title):
        for name, labels in re.findall(rf"`({form})(?:\{{([a-z_,]+)\}})?`", row[0]):
            names.append((name, frozenset(labels.split(",")) if labels else frozenset()))
        assert all(row), f"an empty cell in the row of {row[0]}"
    assert len(names) == len({name for name, _ in names}), "a name stands in the table twice"
    return dict(names)


def of_other_stores():
    """The documented metrics that the store under test does not have."""
    others = tuple(words for store, words in ONLY_ON.items() if store != STORE)
    return {name for row in table("Metrics") if row[1].startswith(others) for name in re.findall(METRIC, row[0])}


def first_argument(text, begin):
    depth, quoted = 0, False
    for at in range(begin, len(text)):
        c = text[at]
        if c == '"' and text[at - 1] != "\\":
            quoted = not quoted
        elif quoted:
            continue
        elif c in "([{":
            depth += 1
        elif c in ")]}" or (c == "," and depth == 0):
            if depth == 0:
                return text[begin:at]
            depth -= 1
    raise AssertionError("a call without end")


def logged():
    events = set()
    for path, text in sources():
        for call in LOGS.finditer(text):
            begin = call.end()
            if call[0] == "log::write(":  # its first argument is the level
                begin += len(first_argument(text, begin)) + 1
            events |= set(re.findall(rf'"({EVENT})"', first_argument(text, begin)))
    return events


@pytest.fixture(scope="module")
def scrape(server_with_stream):
    client = server_with_stream.client()
    client.ingest(event(), event())
    client.post("/v1/audit/events", {"action": "Not An Action"})
    client.get("/v1/audit/events")
    made = client.post("/v1/webhooks/endpoints", {"url": "https://example.com/", "events": ["never.happens"]})
    assert made.status == 201, made
    head = client.count() - 1
    wait_until(lambda: client.metric("annal_stream_cursor_seq", project=PROJECT) == head
               and client.metric("annal_stream_lag_events", project=PROJECT) == 0, what="the stream")
    if STORE == "sqlite":
        wait_until(lambda: client.metric("annal_store_segments", state="open") == 1
                   and client.metric("annal_store_bytes", kind="events"), what="the store's measure")
    return client.get("/metrics", key=False).text


@pytest.fixture(scope="module")
def server_with_stream(tmp_path_factory):
    from annal_server import Server

    folder = tmp_path_factory.mktemp("stream")
    manifest = folder / "stream.yaml"
    manifest.write_text(STREAM.format(path=folder / "out.jsonl", project=PROJECT))
    with Server(manifests=[str(manifest)]) as server:
        yield server


def families(text):
    """Each family of a scrape by its name on the wire."""
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        assert name not in found, f"{name} is there twice"
        found[name] = family
    return found


def test_every_metric_of_the_sources_is_documented_and_the_reverse():
    defined = {name for path, text in sources() for name in re.findall(rf'"({METRIC})"', text)
               if path.name not in ("check_module.cpp", "loader.cpp", "http.hpp")}
    defined = {name for name in defined if not re.fullmatch(r"annal_(?:.*_v\d*|component|module|problem|appends)", name)}
    assert len(defined) > 30, "the scan finds too little"
    assert defined - documented("Metrics", METRIC).keys() == set(), "metrics that docs/operations.md does not explain"
    assert documented("Metrics", METRIC).keys() - defined == set(), "metrics that nothing defines"


def test_a_scrape_shows_what_is_documented_with_its_labels(scrape):
    shown, expected = families(scrape), documented("Metrics", METRIC)
    assert expected.keys() - shown.keys() - NOT_SHOWN_AT_ONCE - of_other_stores() == set(), "documented, but not shown"
    assert shown.keys() & of_other_stores() == set(), "shown, though documented for another store"
    assert shown.keys() - expected.keys() == set(), "shown, but not documented"
    for name, family in shown.items():
        labels = {label for sample in family.samples for label in sample.labels} - {"le", "instance"}
        assert labels == expected[name], f"labels of {name}"


def test_a_scrape_keeps_the_conventions_of_prometheus(scrape):
    for name, family in families(scrape).items():
        assert family.type in ("counter", "gauge", "histogram"), f"{name} has no type"
        assert family.documentation.strip(), f"{name} has no help"
        assert name.endswith("_total") == (family.type == "counter"), f"{name} is a {family.type}"
        assert not re.search(r"_(?:ms|us|milliseconds|minutes|hours|kb|mb|kilobytes|megabytes|percent|count|sum|bucket)(?:_|$)", name)
        samples = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in family.samples]
        assert len(samples) == len(set(samples)), f"a series of {name} is there twice"
        if family.type == "histogram":
            check_histogram(family)


def check_histogram(family):
    by_series = {}
    for sample in family.samples:
        labels = frozenset((k, v) for k, v in sample.labels.items() if k != "le")
        by_series.setdefault(labels, {}).setdefault(sample.name.removeprefix(family.name), []).append(sample)
    for parts in by_series.values():
        buckets = [(float(sample.labels["le"]), sample.value) for sample in parts["_bucket"]]
        assert buckets == sorted(buckets) and buckets[-1][0] == float("inf"), family.name
        assert [value for _, value in buckets] == sorted(value for _, value in buckets), family.name
        assert buckets[-1][1] == parts["_count"][0].value and len(parts["_sum"]) == 1, family.name


def test_counts_are_right(scrape):
    value = {(sample.name, *(text for label, text in sorted(sample.labels.items()) if label != "instance")): sample.value
             for family in families(scrape).values() for sample in family.samples}
    assert value["annal_ingest_invalid_events_total",] == 1
    assert value["annal_ingest_valid_events_total",] == 2
    assert value["annal_ingest_bytes_total",] > 50
    assert value["annal_append_commit_events_count",] >= 1
    assert value["annal_append_queue_units",] == 0 and value["annal_append_queue_bytes",] == 0
    assert value["annal_store_commits_total",] >= 1 and value["annal_ready",] == 1
    if STORE == "sqlite":
        assert value["annal_store_scans_total", "log"] >= 1
        assert value["annal_store_scanned_rows_total",] >= 2
        assert value["annal_store_bytes", "events"] > 0 and value["annal_store_bytes", "control"] > 0
    else:
        assert value["annal_postgres_connections", "append"] >= 1
    assert value["annal_stream_delivered_events_total", PROJECT, "observed/all"] >= 2
    assert value["annal_stream_blocked", PROJECT, "observed/all"] == 0
    assert value["annal_stream_lag_seconds", PROJECT, "observed/all"] == 0
    assert value["annal_stream_delivery_seconds_count", PROJECT, "observed/all"] >= 1
    assert 1 << 20 < value["process_resident_memory_bytes",] < 1 << 40
    assert 3 < value["process_open_fds",] <= value["process_max_fds",]
    assert value["process_threads",] > 1


def test_the_build_says_its_version(server_with_stream, scrape):
    version = server_with_stream.cli("--version").stdout.split()[-1]
    build = families(scrape)["annal_build_info"].samples[0]
    assert (build.labels, build.value) == ({"version": version}, 1)
    assert f"VERSION {version} " in (SOURCE / "CMakeLists.txt").read_text()


def test_every_log_event_of_the_sources_is_documented_and_the_reverse():
    events = logged()
    assert len(events) > 30, "the scan finds too little"
    assert events - documented("Log events", EVENT).keys() == set(), "events that docs/operations.md does not explain"
    assert documented("Log events", EVENT).keys() - events == set(), "events that nothing logs"


def test_what_a_server_logs_is_documented(server_with_stream):
    seen = {line["event"] for line in server_with_stream.logs()}
    assert "stream.started" in seen
    assert seen <= documented("Log events", EVENT).keys()


def test_alerts_are_about_metrics_that_exist():
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 8
    assert [f"`{rule['alert']}`" for rule in rules] == [row[0] for row in table("Alerts")], "docs/operations.md says what to do"
    known = documented("Metrics", METRIC)
    for rule in rules:
        assert {"alert", "expr", "labels", "annotations"} <= rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"] and rule["annotations"]["description"]
        names = {re.sub(r"_(?:bucket|count|sum)$", "", name) if name not in known else name
                 for name in re.findall(METRIC, rule["expr"])}
        assert names and names <= known.keys(), f"{rule['alert']} asks for {names - known.keys()}"
        labels = {"instance", "le"}.union(*(known[name] for name in names))
        used = {label for group in re.findall(r"(?:by|without) \(([^)]*)\)", rule["expr"]) for label in re.split(r",\s*", group)}
        used |= set(re.findall(r"[{,]\s*(\w+)(?:=~|!~|!=|=)", rule["expr"]))
        used |= set(re.findall(r"\$labels\.(\w+)", "".join(rule["annotations"].values())))
        assert used <= labels, f"{rule['alert']} names labels that its metrics do not have: {used - labels}"


@pytest.mark.parametrize("arguments", [["check", "metrics"], ["check", "rules", str(ALERTS)]], ids=["metrics", "rules"])
def test_promtool_agrees(arguments, scrape):
    """Where Prometheus is installed; the tests above check the same without it."""
    promtool = shutil.which("promtool")
    if promtool:
        done = subprocess.run([promtool, *arguments], input=scrape, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
