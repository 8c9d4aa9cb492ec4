#include "runtime/plugin/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/json.hpp>
#include <fstream>
#include <iostream>
#include <random>

#include "runtime/core/json_text.h"
#include "runtime/plugin/manifest_node.h"

namespace annal {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ManifestTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-manifest-XXXXXX").string();
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { fs::remove_all(folder_); }

    fs::path write(const std::string& name, const std::string& text) {
        std::ofstream(folder_ / name, std::ios::binary) << text;
        return folder_ / name;
    }
    ManifestSet read() { return read_manifests({folder_}); }
    ManifestSet read(const std::string& text) {
        write("a.yaml", text);
        return read();
    }
    /// "LINE: POINTER: MESSAGE" of each error.
    std::vector<std::string> errors_of(const std::string& text) {
        std::vector<std::string> out;
        for (const auto& error : read(text).errors) {
            out.push_back(std::to_string(error.line) + ": " + error.pointer + ": " + error.message);
        }
        return out;
    }

    fs::path folder_;
};

constexpr const char* kHead =
    "apiVersion: annal.dev/v1\n"
    "kind: Plugin\n"
    "metadata: {name: one}\n";

std::string with_spec(const std::string& rest) {
    return std::string(kHead) + "spec:\n  library: {name: sink_file}\n" + rest;
}

std::string with_trigger(const std::string& trigger) {
    return with_spec("  triggers:\n    - " + trigger + "\n");
}

TEST_F(ManifestTest, ReadsEveryField) {
    const auto set = read(R"(
apiVersion: annal.dev/v1
kind: Plugin
metadata:
  name: acme-eu
  labels: {team: secops, tier: "1"}
spec:
  library:
    name: sink_acme
    component: acme
    sha256: 0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef
  config:
    url: https://in.acme.example/v2
    token: {secretRef: acme/token}
  triggers:
    - name: list
      http: {methods: [GET, POST], route: "/v1/things/{id}", scope: "audit:read"}
    - name: status
      http: {method: GET, route: /status, scope: none}
    - name: iam
      events:
        project: acme
        patterns: ["user.*", "*", api_key.created]
        from: latest
        batch: {maxEvents: 250, maxBytes: 64KiB}
    - name: sweep
      schedule: {every: 24h, atStart: true}
  limits: {timeout: 2500ms}
  permissions:
    append: true
    store: [read, delete]
    export: true
    kv: true
    config: true
    secrets: [acme/token, "shared/*"]
    http: ["in.acme.example:443", "[::1]:8080"]
)");
    ASSERT_THAT(set.errors, IsEmpty()) << set.errors[0].text();
    ASSERT_THAT(set.manifests, SizeIs(1));
    const auto& m = set.manifests[0];
    EXPECT_EQ(m.instance, "acme-eu");
    EXPECT_EQ(m.labels.at("tier"), "1");
    EXPECT_EQ(m.library, "sink_acme");
    EXPECT_EQ(m.component, "acme");
    EXPECT_EQ(m.sha256, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    EXPECT_EQ(
        m.config_json, R"({"url":"https://in.acme.example/v2","token":{"secretRef":"acme/token"}})"
    );
    EXPECT_EQ(m.file, folder_ / "a.yaml");
    EXPECT_EQ(m.line, 2);
    EXPECT_EQ(m.config_line, 13);
    ASSERT_THAT(m.http, SizeIs(2));
    EXPECT_EQ(m.http[0].name, "list");
    EXPECT_THAT(m.http[0].methods, ElementsAre("GET", "POST"));
    EXPECT_EQ(m.http[0].route, "/v1/things/{id}");
    EXPECT_EQ(m.http[0].scope, "audit:read");
    EXPECT_EQ(m.http[0].line, 17);
    EXPECT_EQ(m.http[1].scope, "");
    ASSERT_THAT(m.events, SizeIs(1));
    EXPECT_EQ(m.events[0].project, "acme");
    ASSERT_THAT(m.events[0].patterns, SizeIs(3));
    EXPECT_EQ(m.events[0].patterns[0], (ActionPattern{ActionPattern::Kind::prefix, "user."}));
    EXPECT_EQ(m.events[0].from, EventsTrigger::From::latest);
    EXPECT_EQ(m.events[0].batch_events_max, 250U);
    EXPECT_EQ(m.events[0].batch_bytes_max, 65'536U);
    ASSERT_THAT(m.schedules, SizeIs(1));
    EXPECT_EQ(m.schedules[0].every_us, 86'400'000'000);
    EXPECT_TRUE(m.schedules[0].at_start);
    EXPECT_EQ(m.timeout_us, 2'500'000);
    const auto& p = m.permissions;
    EXPECT_TRUE(p.append && p.store_read && p.store_delete && p.export_ && p.kv && p.config);
    EXPECT_THAT(p.secrets, ElementsAre("acme/token", "shared/*"));
    EXPECT_THAT(p.http, ElementsAre("in.acme.example:443", "[::1]:8080"));
}

TEST_F(ManifestTest, DefaultsGrantNothing) {
    const auto set = read(with_trigger("{name: all, events: {project: acme}}"));
    ASSERT_THAT(set.errors, IsEmpty()) << set.errors[0].text();
    const auto& m = set.manifests.at(0);
    const auto& p = m.permissions;
    EXPECT_FALSE(p.append || p.store_read || p.store_delete || p.export_ || p.kv || p.config);
    EXPECT_THAT(p.secrets, IsEmpty());
    EXPECT_THAT(p.http, IsEmpty());
    EXPECT_EQ(m.config_json, "{}");
    EXPECT_EQ(m.component, "");
    EXPECT_EQ(m.timeout_us, 10'000'000);
    EXPECT_THAT(m.events.at(0).patterns, ElementsAre(ActionPattern{ActionPattern::Kind::any, ""}));
    EXPECT_EQ(m.events[0].from, EventsTrigger::From::earliest);
    EXPECT_EQ(m.events[0].batch_events_max, 500U);
}

TEST_F(ManifestTest, SectionsWithEveryLineCommentedOutAreAbsent) {
    const auto set =
        read(with_spec("  config:\n    # path: x\n  triggers:\n  permissions:\n  limits:\n"));
    EXPECT_THAT(set.errors, IsEmpty()) << set.errors[0].text();
    EXPECT_EQ(set.manifests.at(0).config_json, "{}");
}

TEST_F(ManifestTest, SeveralDocumentsAFileAndAliases) {
    const auto set = read(
        "# first\n---\napiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: a}\n"
        "spec: {library: {name: x}, config: {one: &shared {k: 1}, two: *shared}}\n"
        "---\napiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: b}\nspec: {library: {name: "
        "x}}\n---\n"
    );
    ASSERT_THAT(set.errors, IsEmpty()) << set.errors[0].text();
    ASSERT_THAT(set.manifests, SizeIs(2));
    EXPECT_EQ(set.manifests[0].config_json, R"({"one":{"k":1},"two":{"k":1}})");
    EXPECT_EQ(set.manifests[1].line, 8);
}

TEST_F(ManifestTest, ConfigHasTheTypesOfYaml12) {
    const auto set = read(with_spec(R"(  config:
    truth: [true, True, FALSE]
    nothing: [null, ~, Null]
    text: [yes, no, on, "true", '1', 1.2.3, 12h, 0b1, 1_000, "null", !!str 12, "", 2024-01-01]
    integers: [0, -17, +5, 0o17, 0xFf, 007, !!int 3]
    numbers: [1.5, -2e3, .5, 6., !!float 3]
    block: |
      two
      lines
)"));
    ASSERT_THAT(set.errors, IsEmpty()) << set.errors[0].text();
    const auto config = boost::json::parse(set.manifests.at(0).config_json);
    EXPECT_EQ(config.at("truth"), boost::json::parse("[true,true,false]"));
    EXPECT_EQ(config.at("nothing"), boost::json::parse("[null,null,null]"));
    EXPECT_EQ(
        config.at("text"),
        boost::json::parse(
            R"(["yes","no","on","true","1","1.2.3","12h","0b1","1_000","null","12","","2024-01-01"])"
        )
    );
    EXPECT_EQ(config.at("integers"), boost::json::parse("[0,-17,5,15,255,7,3]"));
    EXPECT_EQ(config.at("numbers"), boost::json::parse("[1.5,-2000.0,0.5,6.0,3]"));
    EXPECT_EQ(config.at("block"), "two\nlines\n");
}

TEST_F(ManifestTest, SettingsKnowTheirLines) {
    const auto set = read(with_spec("  config:\n    a:\n      b: 1\n      c: [1,\n        2]\n"));
    ASSERT_THAT(set.errors, IsEmpty()) << set.errors[0].text();
    const auto& m = set.manifests.at(0);
    EXPECT_EQ(m.config_line, 7);
    EXPECT_EQ(m.config_line_of("/spec/config"), 7);
    EXPECT_EQ(m.config_line_of("/spec/config/a/b"), 8);
    EXPECT_EQ(m.config_line_of("/spec/config/a/c/1"), 10);
    EXPECT_EQ(m.config_line_of("/spec/config/a/b/x/y"), 8);
    EXPECT_EQ(m.config_line_of("/spec/config/gone"), 7);
    EXPECT_EQ(m.config_line_of(""), 7);
}

struct Fault {
    std::string text;
    std::string place;    ///< "LINE: POINTER: "
    std::string message;  ///< a part of it

    friend void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.text; }
};

class ManifestFault : public ManifestTest, public ::testing::WithParamInterface<Fault> {};

TEST_P(ManifestFault, IsReportedOnceWithItsPlace) {
    const auto& fault = GetParam();
    const auto set = read(fault.text);
    EXPECT_THAT(set.manifests, IsEmpty());
    const auto errors = errors_of(fault.text);
    ASSERT_THAT(errors, SizeIs(1));
    EXPECT_THAT(errors[0], ::testing::StartsWith(fault.place));
    EXPECT_THAT(errors[0], HasSubstr(fault.message));
}

const std::string kSpec = "spec: {library: {name: x}}\n";
const std::string kTriggerOne = "/spec/triggers/0";

INSTANTIATE_TEST_SUITE_P(
    Document,
    ManifestFault,
    ::testing::Values(
        Fault{
            "just text\n",
            "1: : ",
            "expected a mapping with apiVersion, kind, metadata or spec, found a string"},
        Fault{"- a\n- b\n", "1: : ", "found a sequence"},
        Fault{
            "kind: Plugin\nmetadata: {name: a}\n" + kSpec,
            "1: /apiVersion: ",
            "missing: must be annal.dev/v1"},
        Fault{
            "apiVersion: annal.dev/v2\nkind: Plugin\nmetadata: {name: a}\n" + kSpec,
            "1: /apiVersion: ",
            "expected annal.dev/v1, found \"annal.dev/v2\" (did you mean \"annal.dev/v1\"?)"},
        Fault{
            "apiVersion: annal.dev/v1\nkind: plugin\nmetadata: {name: a}\n" + kSpec,
            "2: /kind: ",
            "did you mean \"Plugin\"?"},
        Fault{"apiVersion: annal.dev/v1\nkind: Plugin\n" + kSpec, "1: /metadata: ", "missing"},
        Fault{
            "apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {}\n" + kSpec,
            "3: /metadata/name: ",
            "missing: the name of this instance"},
        Fault{
            "apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: Big_One}\n" + kSpec,
            "3: /metadata/name: ",
            "lower-case"},
        Fault{
            "apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: 12}\n" + kSpec,
            "3: /metadata/name: ",
            "expected a string, found an integer: write \"12\" in quotes"},
        Fault{
            "apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: a, lables: {}}\n" + kSpec,
            "3: /metadata/lables: ",
            "unknown key \"lables\" (did you mean \"labels\"?); the keys here are name or labels"},
        Fault{
            "apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: a, labels: {n: 1}}\n" + kSpec,
            "3: /metadata/labels/n: ",
            "expected a string"},
        Fault{
            "apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: a, labels: {n: x, n: y}}\n" +
                kSpec,
            "3: /metadata/labels/n: ",
            "twice"},
        Fault{
            std::string(kHead) + "kind: Plugin\n" + kSpec,
            "4: /kind: ",
            "is given twice in this mapping"},
        Fault{std::string(kHead) + kSpec + "? [a]\n: b\n", "5: : ", "has a key that is no text"},
        Fault{kHead, "1: /spec: ", "missing"},
        Fault{std::string(kHead) + "spec: {}\n", "4: /spec/library: ", "missing"},
        Fault{
            std::string(kHead) + "spec: {library: {component: x}}\n",
            "4: /spec/library/name: ",
            "missing"},
        Fault{
            std::string(kHead) + "spec: {library: {name: ../evil}}\n",
            "4: /spec/library/name: ",
            "is a path"},
        Fault{
            std::string(kHead) + "spec: {library: {name: x.so}}\n",
            "4: /spec/library/name: ",
            "leave out \".so\""},
        Fault{
            std::string(kHead) + "spec: {library: {name: \"\"}}\n",
            "4: /spec/library/name: ",
            "is no library name"},
        Fault{
            std::string(kHead) + "spec: {library: {name: x, sha256: abc}}\n",
            "4: /spec/library/sha256: ",
            "64 hex digits"},
        Fault{
            std::string(kHead) + "spec: {library: {name: x, sha256: }}\n",
            "4: /spec/library/sha256: ",
            "expected a string, found nothing"}
    )
);

INSTANTIATE_TEST_SUITE_P(
    Spec,
    ManifestFault,
    ::testing::Values(
        Fault{
            with_spec("  limit: {timeout: 1s}\n"), "6: /spec/limit: ", "did you mean \"limits\"?"},
        Fault{
            with_spec("  limits: {timeout: 10}\n"),
            "6: /spec/limits/timeout: ",
            "expected a duration like 250ms, 10s, 5m, 24h or 30d, found an integer"},
        Fault{
            with_spec("  limits: {timeout: 10 s}\n"),
            "6: /spec/limits/timeout: ",
            "found \"10 s\""},
        Fault{
            with_spec("  limits: {timeout: 2h}\n"),
            "6: /spec/limits/timeout: ",
            "must be from 10ms to 1h"},
        Fault{
            with_spec("  limits: {timeout: 99999999999999999d}\n"),
            "6: /spec/limits/timeout: ",
            "expected a duration"},
        Fault{
            with_spec("  config: [1]\n"),
            "6: /spec/config: ",
            "expected a mapping of the component's settings"},
        Fault{
            with_spec("  config:\n    a: 1\n    b: {c: 1, c: 2}\n"),
            "8: /spec/config/b/c: ",
            "twice"},
        Fault{
            with_spec("  config:\n    a: {<<: {b: 1}}\n"), "7: /spec/config/a/<<: ", "merge keys"},
        Fault{
            with_spec("  config: {n: 99999999999999999999}\n"),
            "6: /spec/config/n: ",
            "beyond 64 bits"},
        Fault{with_spec("  config: {n: .inf}\n"), "6: /spec/config/n: ", "JSON can't hold"},
        Fault{with_spec("  config: {n: 1e999}\n"), "6: /spec/config/n: ", "JSON can't hold"},
        Fault{with_spec("  config: {n: !custom 3}\n"), "6: /spec/config/n: ", "tag \"!custom\""},
        Fault{with_spec("  config: {n: !!int x}\n"), "6: /spec/config/n: ", "does not fit"},
        Fault{with_spec("  config: {n: \"a\\0b\"}\n"), "6: /spec/config/n: ", "U+0000"},
        Fault{
            with_spec("  config: {a/b: {x~y: .nan}}\n"),
            "6: /spec/config/a~1b/x~0y: ",
            "JSON can't hold"},
        Fault{
            with_spec("  config: &a {b: *a}\n"), "6: /spec/config/b", "nested more than 32 levels"},
        Fault{
            with_spec("  permissions: {append: yes}\n"),
            "6: /spec/permissions/append: ",
            "expected true or false, found a string \"yes\""},
        Fault{
            with_spec("  permissions: {apend: true}\n"),
            "6: /spec/permissions/apend: ",
            "did you mean \"append\"?"},
        Fault{
            with_spec("  permissions: {store: read}\n"),
            "6: /spec/permissions/store: ",
            "expected a sequence"},
        Fault{
            with_spec("  permissions: {store: [read, raed]}\n"),
            "6: /spec/permissions/store/1: ",
            "expected read or delete, found \"raed\" (did you mean \"read\"?)"},
        Fault{
            with_spec("  permissions: {store: [read, read]}\n"),
            "6: /spec/permissions/store/1: ",
            "listed twice"},
        Fault{
            with_spec("  permissions: {http: [acme.example]}\n"),
            "6: /spec/permissions/http/0: ",
            "host:port"},
        Fault{
            with_spec("  permissions: {http: [\"a.example:70000\"]}\n"),
            "6: /spec/permissions/http/0: ",
            "host:port"},
        Fault{
            with_spec("  permissions: {secrets: [\"a*\"]}\n"),
            "6: /spec/permissions/secrets/0: ",
            "is no secret"},
        Fault{
            with_spec("  triggers: {name: x}\n"),
            "6: /spec/triggers: ",
            "expected a sequence, found a mapping"}
    )
);

INSTANTIATE_TEST_SUITE_P(
    Trigger,
    ManifestFault,
    ::testing::Values(
        Fault{
            with_trigger("{http: {method: GET, route: /x, scope: none}}"),
            "7: /spec/triggers/0/name: ",
            "missing"},
        Fault{
            with_trigger("{name: a}"),
            "7: /spec/triggers/0: ",
            "exactly one of http, events, schedule and destination"},
        Fault{
            with_trigger("{name: a, schedule: {every: 1h}, events: {project: p}}"),
            "7: /spec/triggers/0: ",
            "exactly one"},
        Fault{
            with_trigger("{name: a, schedule: {every: 1h}}\n    - {name: a, schedule: {every: 2h}}"
            ),
            "8: /spec/triggers/1/name: ",
            "taken"},
        Fault{
            with_trigger("{name: a, schedule: {}}"),
            "7: /spec/triggers/0/schedule/every: ",
            "missing"},
        Fault{
            with_trigger("{name: a, schedule: {every: 10ms}}"),
            "7: /spec/triggers/0/schedule/every: ",
            "1s to 366d"},
        Fault{
            with_trigger("{name: a, schedule: {every: 1h, atStart: 1}}"),
            "7: /spec/triggers/0/schedule/atStart: ",
            "true or false"},
        Fault{
            with_trigger("{name: a, http: {route: /x, scope: none}}"),
            "7: /spec/triggers/0/http/methods: ",
            "missing: one or more of GET, POST, PUT, PATCH or DELETE"},
        Fault{
            with_trigger("{name: a, http: {methods: [], route: /x, scope: none}}"),
            "7: /spec/triggers/0/http/methods: ",
            "one or more"},
        Fault{
            with_trigger("{name: a, http: {methods: [GET], method: GET, route: /x, scope: none}}"),
            "7: /spec/triggers/0/http/method: ",
            "not both"},
        Fault{
            with_trigger("{name: a, http: {methods: [GET, GET], route: /x, scope: none}}"),
            "7: /spec/triggers/0/http/methods/1: ",
            "twice"},
        Fault{
            with_trigger("{name: a, http: {method: get, route: /x, scope: none}}"),
            "7: /spec/triggers/0/http/method: ",
            "did you mean \"GET\"?"},
        Fault{
            with_trigger("{name: a, http: {method: GET, scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "missing"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: \"\", scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "begin with /"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: x, scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "begin with /"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: /x/, scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "must not end with /"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: /x//y, scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "empty segment"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: /x/../y, scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "segment \"..\""},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: \"/x?y=1\", scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "character"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: \"/x/{id}y\", scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "at its end"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: \"/{a}/{a}\", scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "twice"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: \"/{A}\", scope: none}}"),
            "7: /spec/triggers/0/http/route: ",
            "must match"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: /x}}"),
            "7: /spec/triggers/0/http/scope: ",
            "missing: the scope that a key needs, audit:read, audit:write, audit:ingest, "
            "streams:read, streams:write, "
            "webhooks:read, webhooks:write, risk:read, risk:write, keys:read, keys:write, admin, "
            "platform or none"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: /x, scope: \"audit:raed\"}}"),
            "7: /spec/triggers/0/http/scope: ",
            "did you mean \"audit:read\"?"},
        Fault{
            with_trigger("{name: a, http: {method: GET, route: /x, scope: none}}\n    - {name: b, "
                         "http: {method: GET, route: /x, scope: none}}"),
            "8: /spec/triggers: ",
            "GET /x of trigger \"b\" is answered by one ("},
        Fault{
            with_trigger("{name: a, events: {}}"),
            "7: /spec/triggers/0/events/project: ",
            "missing"},
        Fault{
            with_trigger("{name: a, events: {project: a b}}"),
            "7: /spec/triggers/0/events/project: ",
            "no project id"},
        Fault{
            with_trigger("{name: a, events: {project: p, patterns: []}}"),
            "7: /spec/triggers/0/events/patterns: ",
            "one or more patterns"},
        Fault{
            with_trigger("{name: a, events: {project: p, patterns: [\"user*\"]}}"),
            "7: /spec/triggers/0/events/patterns/0: ",
            "is no pattern"},
        Fault{
            with_trigger("{name: a, events: {project: p, from: newest}}"),
            "7: /spec/triggers/0/events/from: ",
            "expected earliest or latest"},
        Fault{
            with_trigger("{name: a, events: {project: p, batch: {maxEvents: 10001}}}"),
            "7: /spec/triggers/0/events/batch/maxEvents: ",
            "from 1 to 10000"},
        Fault{
            with_trigger("{name: a, events: {project: p, batch: {maxEvents: -1}}}"),
            "7: /spec/triggers/0/events/batch/maxEvents: ",
            "from 1 to 10000"},
        Fault{
            with_trigger("{name: a, events: {project: p, batch: {maxEvents: ten}}}"),
            "7: /spec/triggers/0/events/batch/maxEvents: ",
            "found a string"},
        Fault{
            with_trigger("{name: a, events: {project: p, batch: {maxBytes: 1MB}}}"),
            "7: /spec/triggers/0/events/batch/maxBytes: ",
            "like 65536"},
        Fault{
            with_trigger("{name: a, events: {project: p, batch: {maxBytes: 1GiB}}}"),
            "7: /spec/triggers/0/events/batch/maxBytes: ",
            "1KiB to 64MiB"},
        Fault{
            with_trigger("{name: a, events: {project: p, batch: {maxBytes: [1]}}}"),
            "7: /spec/triggers/0/events/batch/maxBytes: ",
            "expected a size"}
    )
);

TEST_F(ManifestTest, EveryErrorOfEveryFileAtOnce) {
    write("1.yaml", with_spec("  limits: {timeout: x}\n  permissions: {kv: 3}\n"));
    write(
        "2.yml",
        "apiVersion: annal.dev/v1\nkind: Plugin\nmetadata: {name: ONE}\nspec: {library: {nam: a}}\n"
    );
    write("3.yaml", with_spec("  config: {a: [}\n"));
    write("4.yaml", std::string(kHead) + kSpec);
    write("notes.txt", "not a manifest: [");
    fs::create_directory(folder_ / "sub.yaml");
    const auto set = read();
    std::vector<std::string> texts;
    for (const auto& error : set.errors) texts.push_back(error.text());
    ASSERT_THAT(texts, SizeIs(7)) << ::testing::PrintToString(texts);
    const auto at = [&](const std::string& rest) { return (folder_ / rest).string(); };
    EXPECT_THAT(texts[0], ::testing::StartsWith(at("1.yaml:6: /spec/limits/timeout: ")));
    EXPECT_THAT(texts[1], ::testing::StartsWith(at("1.yaml:7: /spec/permissions/kv: ")));
    EXPECT_THAT(texts[2], ::testing::StartsWith(at("2.yml:3: /metadata/name: ")));
    EXPECT_THAT(texts[3], ::testing::StartsWith(at("2.yml:4: /spec/library/")));
    EXPECT_THAT(texts[5], ::testing::StartsWith(at("3.yaml:6: is no YAML: ")));
    // Its twin in 1.yaml has faults of its own, and still holds the name.
    EXPECT_THAT(
        texts[6],
        ::testing::AllOf(
            ::testing::StartsWith(at("4.yaml:1: /metadata/name: ")), HasSubstr(at("1.yaml:1"))
        )
    );
    EXPECT_THAT(set.manifests, IsEmpty());
}

TEST_F(ManifestTest, DocumentsBeforeASyntaxErrorAreStillRead) {
    const auto errors = errors_of(with_spec("  limits: {timeout: x}\n") + "---\nkind: [\n");
    ASSERT_THAT(errors, SizeIs(2));
    EXPECT_THAT(errors[0], ::testing::StartsWith("6: /spec/limits/timeout: "));
    EXPECT_THAT(errors[1], HasSubstr("is no YAML"));
}

TEST_F(ManifestTest, SoundManifestsAreReadBesideFaultyOnes) {
    write("good.yaml", std::string(kHead) + kSpec);
    write("bad.yaml", "kind: Nothing\n");
    const auto set = read();
    EXPECT_THAT(set.errors, SizeIs(4));
    ASSERT_THAT(set.manifests, SizeIs(1));
    EXPECT_EQ(set.manifests[0].instance, "one");
}

TEST_F(ManifestTest, RoutesThatDifferOnlyInParameterNamesCollideAcrossFiles) {
    write(
        "1.yaml",
        with_trigger("{name: a, http: {methods: [GET, POST], route: \"/v1/x/{id}\", scope: none}}")
    );
    auto other =
        with_trigger("{name: b, http: {method: GET, route: \"/v1/x/{name}\", scope: none}}");
    other.replace(other.find("name: one"), 9, "name: two");
    write("2.yaml", other);
    const auto set = read();
    ASSERT_THAT(set.errors, SizeIs(1));
    EXPECT_THAT(
        set.errors[0].text(), HasSubstr("answered by one (" + (folder_ / "1.yaml:7").string() + ")")
    );
    EXPECT_THAT(set.manifests, SizeIs(1));
}

TEST_F(ManifestTest, MissingAndUnreadablePathsAreErrors) {
    const auto absent = read_manifests({folder_ / "nowhere"});
    ASSERT_THAT(absent.errors, SizeIs(1));
    EXPECT_THAT(absent.errors[0].text(), HasSubstr("no such file or folder"));
    fs::create_symlink("/nonexistent/target", folder_ / "dangling.yaml");
    const auto dangling = read();
    ASSERT_THAT(dangling.errors, SizeIs(1));
    EXPECT_THAT(
        dangling.errors[0].text(), HasSubstr("dangling.yaml: can't read this file: No such file")
    );
    if (::geteuid() != 0) {
        fs::permissions(write("b.yaml", "x"), fs::perms::none);
        EXPECT_THAT(read().errors, SizeIs(2));
    }
}

TEST_F(ManifestTest, AFileNamedTwiceIsReadOnce) {
    const auto file = write("a.yaml", std::string(kHead) + kSpec);
    const auto set = read_manifests({file, folder_, folder_ / "." / "a.yaml"});
    EXPECT_THAT(set.errors, IsEmpty());
    EXPECT_THAT(set.manifests, SizeIs(1));
}

TEST_F(ManifestTest, AnEmptyFileIsNoError) {
    EXPECT_THAT(errors_of(""), IsEmpty());
    EXPECT_THAT(errors_of("# all of it is a comment\n"), IsEmpty());
    EXPECT_THAT(errors_of("---\n---\n"), IsEmpty());
}

TEST_F(ManifestTest, BytesThatNoManifestHolds) {
    EXPECT_THAT(errors_of("\xEF\xBB\xBF" + std::string(kHead) + kSpec), IsEmpty());
    EXPECT_THAT(errors_of("a: b\nc: \xFF\n"), ElementsAre("2: : is not UTF-8"));
    EXPECT_THAT(
        errors_of(std::string("a: b\n\0", 6)), ElementsAre(HasSubstr("2: : holds a zero byte"))
    );
    const std::string head = std::string(kHead) + kSpec + "#";
    EXPECT_THAT(errors_of(head + std::string(kManifestBytesMax - head.size(), 'x')), IsEmpty());
    EXPECT_THAT(
        errors_of(head + std::string(kManifestBytesMax - head.size() + 1, 'x')),
        ElementsAre(HasSubstr("1 MiB"))
    );
}

TEST_F(ManifestTest, DeepAndExplodingDocumentsAreRefused) {
    for (const char* open : {"[", "{a: ", "- "}) {
        std::string text;
        for (int i = 0; i < 100'000; ++i) text += open;
        EXPECT_THAT(errors_of(text), SizeIs(1)) << open;
    }
    std::string bomb = "  config:\n    a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n";
    for (int i = 1; i < 12; ++i) {
        const auto last = "*a" + std::to_string(i - 1) + " ";
        bomb += "    a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
        for (int j = 0; j < 10; ++j) bomb += (j > 0 ? "," : "") + last;
        bomb += "]\n";
    }
    EXPECT_THAT(
        errors_of(with_spec(bomb)), ElementsAre(HasSubstr("too big once its aliases are expanded"))
    );
}

/// On these yaml-cpp's own LoadAll does not end.
TEST_F(ManifestTest, StrayTokensAreErrors) {
    EXPECT_THAT(errors_of("#\n,"), ElementsAre(HasSubstr("2: : is no YAML")));
    for (const char* text :
         {",",
          "- !+(.,.)",
          "a: b\n---\n,\n",
          "[:",
          "{:",
          "{foo:",
          "bad: [",
          "a: 'b",
          "? ",
          "*a",
          "|",
          "%YAML"}) {
        const auto errors = errors_of(text);
        EXPECT_THAT(errors, ::testing::Not(IsEmpty())) << text;
    }
}

TEST_F(ManifestTest, NestingOfConfigIsBoundedAtTheEdge) {
    const auto nested = [](int depth) {
        return with_spec(
            "  config: " + std::string(1, '{') +
            "a: " + std::string(static_cast<std::size_t>(depth - 1), '[') +
            std::string(static_cast<std::size_t>(depth - 1), ']') + "}\n"
        );
    };
    EXPECT_THAT(errors_of(nested(kManifestDepthMax + 1)), IsEmpty());
    EXPECT_THAT(errors_of(nested(kManifestDepthMax + 2)), ElementsAre(HasSubstr("levels deep")));
}

TEST_F(ManifestTest, ErrorsOfOneFileAreBounded) {
    std::string text = kHead;
    for (int i = 0; i < 5000; ++i) text += "key" + std::to_string(i) + ": 1\n";
    const auto set = read(text);
    ASSERT_THAT(set.errors, SizeIs(kManifestErrorsMax + 1));
    EXPECT_EQ(set.errors.back().message, "4801 more errors are not shown");
}

TEST_F(ManifestTest, ErrorsPrintNoControlCharacters) {
    const std::string two_routes =
        with_spec("  triggers: [{name: a, http: {method: GET, route: \"/a\\rb\", scope: none}}]\n");
    for (const std::string& text :
         {std::string("\"a\\e[31m\\nb\": 1\n"),
          "\"" + std::string(80, 'a') + "\\r\\n\": 1\n",
          std::string("a: \"\\\xc3\xa9\"\n"),
          two_routes + "---\n" + two_routes}) {
        const auto set = read(text);
        EXPECT_THAT(set.errors, ::testing::Not(IsEmpty())) << text;
        for (const auto& error : set.errors) {
            EXPECT_TRUE(is_utf8(error.text())) << error.text();
            for (const char c : error.text())
                EXPECT_GE(static_cast<unsigned char>(c), 0x20) << error.text();
        }
    }
}

TEST_F(ManifestTest, EveryShippedManifestIsSound) {
    const fs::path shipped = fs::path(ANNAL_SOURCE_DIR) / "manifests";
    const auto set = read_manifests({shipped});
    for (const auto& error : set.errors) ADD_FAILURE() << error.text();
    EXPECT_GE(set.manifests.size(), 4U);
    const auto examples = read_manifests({shipped / "examples"});
    for (const auto& error : examples.errors) ADD_FAILURE() << error.text();
    EXPECT_GE(examples.manifests.size(), 2U);
}

/// The comments of the examples show further options: every option a comment shows must be one that
/// the reader takes.
TEST_F(ManifestTest, TheOptionsThatExamplesCommentOutAreSound) {
    for (const auto& entry :
         fs::directory_iterator(fs::path(ANNAL_SOURCE_DIR) / "manifests" / "examples")) {
        std::ifstream in(entry.path());
        std::string text, line;
        int options = 0;
        while (std::getline(in, line)) {
            const auto mark = line.find("#| ");
            if (mark != std::string::npos) {
                line.erase(mark, 3);
                ++options;
            }
            text += line + "\n";
        }
        write(entry.path().filename().string(), text);
        EXPECT_GT(options, 0) << entry.path();
    }
    for (const auto& error : read().errors) ADD_FAILURE() << error.text();
}

/// Whatever the bytes are, reading ends with manifests or errors.
TEST_F(ManifestTest, MutatedManifestsNeverEndTheProcess) {
    const auto seed = std::random_device()();
    std::cout << "seed " << seed << std::endl;
    std::mt19937 random(seed);
    std::vector<std::string> texts;
    for (const auto& entry :
         fs::recursive_directory_iterator(fs::path(ANNAL_SOURCE_DIR) / "manifests")) {
        if (entry.path().extension() != ".yaml") continue;
        std::ifstream in(entry.path(), std::ios::binary);
        texts.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    }
    ASSERT_FALSE(texts.empty());
    const std::string alphabet = "{}[]:,-#&*!|>'\"%@`?\n \t0aZ~<\\\xC3\xA9";
    for (int round = 0; round < 600; ++round) {
        auto text = texts[random() % texts.size()];
        for (auto edits = 1 + random() % 8; edits > 0 && !text.empty(); --edits) {
            const auto at = random() % text.size();
            switch (random() % 4) {
                case 0:
                    text[at] = alphabet[random() % alphabet.size()];
                    break;
                case 1:
                    text.insert(at, 1, alphabet[random() % alphabet.size()]);
                    break;
                case 2:
                    text.erase(at, 1 + random() % 20);
                    break;
                default:
                    text.insert(at, text.substr(random() % text.size(), random() % 60));
                    break;
            }
        }
        const auto set = read(text);
        for (const auto& manifest : set.manifests) {
            boost::system::error_code error;
            (void)boost::json::parse(manifest.config_json, error);
            ASSERT_FALSE(error) << manifest.config_json;
        }
        for (const auto& error : set.errors) ASSERT_FALSE(error.message.empty());
    }
}

}  // namespace
}  // namespace annal
