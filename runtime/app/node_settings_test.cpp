#include "runtime/app/node_settings.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <map>

namespace annal {
namespace {

namespace fs = std::filesystem;

struct NodeSettingsTest : testing::Test {
    fs::path file =
        fs::path(testing::TempDir()) / ("annal-settings-" + std::to_string(::getpid()) + ".yaml");
    std::map<std::string, std::string> variables;
    void TearDown() override { fs::remove(file); }

    Result<NodeSettings> read(const std::string& yaml) {
        std::ofstream(file) << yaml;
        return read_node_settings(file, environment());
    }
    Environment environment() {
        return [this](const char* name) -> std::optional<std::string> {
            auto found = variables.find(name);
            return found == variables.end() ? std::nullopt : std::optional(found->second);
        };
    }
    std::string errors(const std::string& yaml) {
        auto settings = read(yaml);
        return settings ? "" : settings.error().detail;
    }
};

TEST_F(NodeSettingsTest, HasTheDocumentedDefaults) {
    auto settings = read_node_settings("", environment());
    ASSERT_TRUE(settings.has_value());
    EXPECT_EQ(settings.value().listen, "127.0.0.1:8080");
    EXPECT_EQ(settings.value().data_dir, "./var");
    EXPECT_EQ(settings.value().limits.body_bytes_max, 8U << 20);
    EXPECT_EQ(settings.value().master_key_file, "./var/keyring");
}

TEST_F(NodeSettingsTest, ReadsTheFileAndLetsTheEnvironmentWin) {
    variables["ANNAL_LISTEN"] = "0.0.0.0:9";
    auto settings = read(
        "listen: 127.0.0.1:1\ndata_dir: /data\nmanifests: [a, b]\nallow_cidrs: [127.0.0.0/8, "
        "10.0.0.0/8]\noutbound_ports: [9000, 65535]\nlimits:\n"
        "  body_bytes: 1MiB\n  idle_timeout: 5s\n  connections: 10\nsqlite: {segment_events: "
        "1000}\n"
    );
    ASSERT_TRUE(settings.has_value()) << settings.error().detail;
    const NodeSettings& s = settings.value();
    EXPECT_EQ(s.listen, "0.0.0.0:9");
    EXPECT_EQ(s.data_dir, "/data");
    EXPECT_EQ(s.master_key_file, "/data/keyring");
    EXPECT_EQ(s.manifests, (std::vector<fs::path>{"a", "b"}));
    EXPECT_EQ(s.allow_cidrs, (std::vector<std::string>{"127.0.0.0/8", "10.0.0.0/8"}));
    EXPECT_EQ(s.outbound_ports, (std::vector<std::uint16_t>{9000, 65535}));
    EXPECT_EQ(s.limits.body_bytes_max, 1U << 20);
    EXPECT_EQ(s.limits.idle_timeout_ms, 5'000U);
    EXPECT_EQ(s.limits.connections_max, 10U);
    EXPECT_EQ(s.segment_events_max, 1'000U);
}

TEST_F(NodeSettingsTest, OutboundPortsAreNumbers) {
    variables["ANNAL_OUTBOUND_PORTS"] = "9000,9443";
    auto settings = read("outbound_ports: 25\n");
    ASSERT_TRUE(settings.has_value()) << settings.error().detail;
    EXPECT_EQ(settings.value().outbound_ports, (std::vector<std::uint16_t>{9000, 9443}));
    for (const char* bad : {"0", "65536", "http", "80,x", "80:443", "-1", "80, 443"}) {
        variables["ANNAL_OUTBOUND_PORTS"] = bad;
        const std::string text = errors("");
        EXPECT_NE(text.find("ANNAL_OUTBOUND_PORTS: `"), std::string::npos) << bad << ": " << text;
    }
}

TEST_F(NodeSettingsTest, StreamsHaltAfterAFailoverUnlessTheyAreToldOtherwise) {
    EXPECT_FALSE(read("").value().go_on_after_failover);
    EXPECT_TRUE(read("after_failover: go_on\n").value().go_on_after_failover);
    variables["ANNAL_AFTER_FAILOVER"] = "halt";
    EXPECT_FALSE(read("after_failover: go_on\n").value().go_on_after_failover);
    EXPECT_NE(errors("after_failover: always\n").find("must be halt or go_on"), std::string::npos);
}

TEST_F(NodeSettingsTest, ReportsEveryErrorAtOnceWithItsLine) {
    variables["ANNAL_STORE"] = "oracle";
    const std::string text =
        errors("listen: 127.0.0.1:1\nlisten_on: x\nlimits:\n  connections: many\n  nonsense: 1\n");
    EXPECT_NE(text.find(".yaml:2: unknown setting `listen_on`"), std::string::npos) << text;
    EXPECT_NE(text.find(".yaml:4: limits.connections: must be a number"), std::string::npos)
        << text;
    EXPECT_NE(text.find(".yaml:5: unknown setting `limits.nonsense`"), std::string::npos) << text;
    EXPECT_NE(text.find("ANNAL_STORE: `oracle`"), std::string::npos) << text;
}

TEST_F(NodeSettingsTest, ReportsBrokenYamlAndMissingFiles) {
    EXPECT_NE(errors("listen: [1\n").find(".yaml:"), std::string::npos);
    EXPECT_NE(errors("- a\n").find("must be a mapping"), std::string::npos);
    auto missing = read_node_settings("/nowhere/annal.yaml", environment());
    EXPECT_NE(missing.error().detail.find("can't be read"), std::string::npos);
}

TEST_F(NodeSettingsTest, WantsBothBootstrapVariablesOrNone) {
    variables["ANNAL_BOOTSTRAP_KEY"] = "sk_live_0123456789abcdef0123456789";
    EXPECT_NE(errors("").find("both must be given"), std::string::npos);
    variables["ANNAL_BOOTSTRAP_PROJECT"] = "p";
    EXPECT_EQ(errors(""), "");
    variables["ANNAL_BOOTSTRAP_KEY"] = "short";
    EXPECT_NE(errors("").find("at least 24"), std::string::npos);
}

TEST_F(NodeSettingsTest, EveryLimitIsRead) {
    auto settings = read(
        "limits:\n  body_bytes: 1\n  bodies_in_memory: 2\n  queue_bytes: 3\n  project_queue_bytes: "
        "4\n"
        "  connections: 5\n  header_bytes: 2048\n  export_rows: 7\n  header_timeout: 8ms\n"
        "  body_timeout: 9ms\n  body_rate: 10\n  write_timeout: 11ms\n  write_rate: 12\n"
        "  idle_timeout: 13ms\n  scan_budget: 14ms\n  drain_timeout: 15ms\n"
        "  lease_ms: 160\n"
    );
    ASSERT_TRUE(settings.has_value()) << settings.error().detail;
    const Limits& l = settings.value().limits;
    EXPECT_EQ(l.body_bytes_max, 1U);
    EXPECT_EQ(l.bodies_in_memory_max, 2U);
    EXPECT_EQ(l.queue_bytes_max, 3U);
    EXPECT_EQ(l.project_queue_bytes_max, 4U);
    EXPECT_EQ(l.connections_max, 5U);
    EXPECT_EQ(l.header_bytes_max, 2048U);
    EXPECT_EQ(l.export_rows_max, 7U);
    EXPECT_EQ(l.header_timeout_ms, 8U);
    EXPECT_EQ(l.body_timeout_ms, 9U);
    EXPECT_EQ(l.body_rate_min_bytes_per_s, 10U);
    EXPECT_EQ(l.write_timeout_ms, 11U);
    EXPECT_EQ(l.write_rate_min_bytes_per_s, 12U);
    EXPECT_EQ(l.idle_timeout_ms, 13U);
    EXPECT_EQ(l.scan_budget_ms, 14U);
    EXPECT_EQ(l.drain_timeout_ms, 15U);
    EXPECT_EQ(l.lease_ms, 160U);
}

TEST_F(NodeSettingsTest, ALeaseLastsFromATenthOfASecondToAnHour) {
    for (const char* good : {"100", "3600000"}) {
        EXPECT_TRUE(read(std::string("limits: {lease_ms: ") + good + "}\n").has_value()) << good;
    }
    for (const char* bad : {"99", "3600001", "15s", "-1", "''"}) {
        const std::string text = errors(std::string("limits: {lease_ms: ") + bad + "}\n");
        EXPECT_NE(text.find("limits.lease_ms: must be a number from 100"), std::string::npos)
            << bad << ": " << text;
    }
}

TEST_F(NodeSettingsTest, ARateOfZeroAsksForNone) {
    auto settings = read("limits: {body_rate: 0, write_rate: 0}\n");
    ASSERT_TRUE(settings.has_value()) << settings.error().detail;
    EXPECT_EQ(settings.value().limits.body_rate_min_bytes_per_s, 0U);
    EXPECT_EQ(settings.value().limits.write_rate_min_bytes_per_s, 0U);
}

TEST_F(NodeSettingsTest, ReadsPostgres) {
    auto settings = read(
        "store: postgres\npostgres:\n  url: postgresql://annal@db/audit\n  direct_url: "
        "host=db dbname=audit\n  migrate: false\n  append_connections: 5\n  "
        "read_connections: 6\n  delivery_connections: 7\n"
    );
    ASSERT_TRUE(settings.has_value()) << settings.error().detail;
    EXPECT_TRUE(settings.value().shares_store());
    const PostgresOptions& p = settings.value().postgres;
    EXPECT_EQ(p.url, "postgresql://annal@db/audit");
    EXPECT_EQ(p.direct_url, "host=db dbname=audit");
    EXPECT_FALSE(p.migrate);
    EXPECT_EQ(p.append_connections, 5U);
    EXPECT_EQ(p.read_connections, 6U);
    EXPECT_EQ(p.delivery_connections, 7U);

    variables["ANNAL_STORE"] = "postgres";
    variables["ANNAL_POSTGRES_URL"] = "postgresql:///other";
    variables["ANNAL_POSTGRES_DIRECT_URL"] = "postgresql:///direct";
    auto overridden = read("postgres: {url: postgresql:///audit}\n");
    ASSERT_TRUE(overridden.has_value()) << overridden.error().detail;
    EXPECT_EQ(overridden.value().postgres.url, "postgresql:///other");
    EXPECT_EQ(overridden.value().postgres.direct_url, "postgresql:///direct");
    EXPECT_TRUE(overridden.value().postgres.migrate);
    EXPECT_EQ(overridden.value().postgres.append_connections, 4U);
    EXPECT_EQ(overridden.value().postgres.read_connections, 4U);
    EXPECT_EQ(overridden.value().postgres.delivery_connections, 2U);
}

TEST_F(NodeSettingsTest, WantsTheUrlWithTheStoreAndTheStoreWithTheUrl) {
    EXPECT_NE(errors("store: postgres\n").find("ANNAL_POSTGRES_URL: must be"), std::string::npos);
    EXPECT_NE(
        errors("postgres: {url: postgresql:///a}\n").find("the store is not named"),
        std::string::npos
    );
    EXPECT_EQ(errors("store: sqlite\npostgres: {url: postgresql:///a}\n"), "");
    EXPECT_NE(
        errors("postgres:\n  migrate: perhaps\n").find(":2: postgres.migrate: must be true"),
        std::string::npos
    );
    EXPECT_NE(
        errors("postgres: {read_connections: 0}\n").find("a number from 1 to 100"),
        std::string::npos
    );
}

TEST_F(NodeSettingsTest, NeverRepeatsThePasswordOfAUrl) {
    variables["ANNAL_STORE"] = "postgres";
    for (const char* url :
         {"postgresql://annal:sesame@[::1/audit",
          "postgresql://annal:%zzsesame@db/audit",
          "postgresql://annal:sesame/open@db/audit",
          "postgresql://annal:open@sesame@db/audit",
          "postgresql://annal:sesame@db/audit?colour=sesame",
          "postgresql://db/audit?password=sesame&sesame",
          "password=sesame open host=db",
          "password=a sesame=b",
          "password='sesame",
          "sesame"}) {
        variables["ANNAL_POSTGRES_URL"] = url;
        const std::string text = errors("");
        EXPECT_NE(text.find("ANNAL_POSTGRES_URL: "), std::string::npos) << url << "\n" << text;
        EXPECT_EQ(text.find("sesame"), std::string::npos) << text;
        EXPECT_EQ(text.find("open"), std::string::npos) << text;
    }
}

TEST_F(NodeSettingsTest, TlsIsBothFilesOrNone) {
    auto settings = read("tls:\n  certificate_file: /c\n  key_file: /k\n  min_version: '1.3'\n");
    ASSERT_TRUE(settings.has_value()) << settings.error().detail;
    EXPECT_EQ(settings.value().tls.certificate_file, "/c");
    EXPECT_EQ(settings.value().tls.key_file, "/k");
    EXPECT_EQ(settings.value().tls.min_version, http::TlsVersion::v1_3);
    EXPECT_NE(
        errors("tls: {key_file: /k}\n").find("both must be given, or none"), std::string::npos
    );
    EXPECT_NE(
        errors("tls: {min_version: '1.1'}\n").find(":1: tls.min_version: must be"),
        std::string::npos
    );
    variables["ANNAL_TLS_CERTIFICATE_FILE"] = "/other";
    EXPECT_EQ(
        read("tls: {certificate_file: /c, key_file: /k}\n").value().tls.certificate_file, "/other"
    );
}

}  // namespace
}  // namespace annal
