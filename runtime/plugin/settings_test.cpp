#include "runtime/plugin/settings.h"

#include <gtest/gtest.h>

#include "tests/support/test_host.h"

namespace annal {
namespace {

class SettingsTest : public testing::Test {
protected:
    Result<void> put(
        const std::string& key, const std::string& json, const std::string& project = "proj_a"
    ) {
        return host.run(host.settings.put(host.appender, project, key, json, "api_key", "apikey_1")
        );
    }
    std::string get(const std::string& key, const std::string& project = "proj_a") {
        return host.settings.get(project, key).value();
    }
    EventBatch events() {
        ScanRequest request;
        request.project = "proj_a";
        return std::move(host.run(host.store.scan(request)).value().batch);
    }

    test::TestHost host;
};

TEST_F(SettingsTest, HaveDefaults) {
    EXPECT_EQ(get("audit_retention_days"), "null");
    EXPECT_EQ(get("catalog"), "\"open\"");
    EXPECT_EQ(get("audit_reads"), "\"access_log\"");
    EXPECT_EQ(
        Settings::names(),
        (std::vector<std::string>{"audit_reads", "audit_retention_days", "catalog", "legal_hold"})
    );
}

TEST_F(SettingsTest, TakeWhatIsInTheirRangeOnly) {
    const std::pair<const char*, std::vector<const char*>> good[] = {
        {"audit_retention_days", {"1", "36500", "null", " 365 "}},
        {"catalog", {"\"strict\"", "\"open\""}},
        {"audit_reads", {"\"own_log\"", "\"access_log\""}},
        {"legal_hold", {"true", "false"}},
    };
    for (const auto& [key, values] : good) {
        for (const char* value : values) EXPECT_TRUE(put(key, value)) << key << " " << value;
    }
    const std::pair<const char*, std::vector<const char*>> bad[] = {
        {"audit_retention_days",
         {"0",
          "36501",
          "-1",
          "1.5",
          "365.0",
          "\"365\"",
          "true",
          "[]",
          "{}",
          "",
          "nonsense",
          "1 2"}},
        {"catalog", {"\"Strict\"", "null", "1", "strict"}},
        {"audit_reads", {"\"\"", "null"}},
        {"legal_hold", {"\"true\"", "null", "1", "0"}},
    };
    for (const auto& [key, values] : bad) {
        for (const char* value : values) {
            const auto outcome = put(key, value);
            ASSERT_FALSE(outcome) << key << " " << value;
            EXPECT_EQ(outcome.error().code, Errc::unprocessable);
            EXPECT_NE(outcome.error().detail.find("must be"), std::string::npos);
        }
    }
    EXPECT_FALSE(put("audit_retention_days", std::string(2000, ' ') + "1"));
}

TEST_F(SettingsTest, NameThemselvesWhenOneIsUnknown) {
    const auto got = host.settings.get("proj_a", "retention");
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Errc::not_found);
    EXPECT_NE(got.error().detail.find("audit_retention_days"), std::string::npos);
    EXPECT_EQ(put("retention", "1").error().code, Errc::not_found);
}

TEST_F(SettingsTest, RecordEachChangeAsAnEvent) {
    ASSERT_TRUE(put("audit_retention_days", "365"));
    ASSERT_TRUE(put("audit_retention_days", "90"));
    ASSERT_TRUE(put("audit_retention_days", "null"));
    const EventBatch log = events();
    ASSERT_EQ(log.events.size(), 3U);
    const Event& newest = log.events[0];
    EXPECT_EQ(newest[Column::action].view(), "project.setting.updated");
    EXPECT_EQ(newest[Column::actor_type].view(), "api_key");
    EXPECT_EQ(newest[Column::actor_id].view(), "apikey_1");
    EXPECT_EQ(newest[Column::target_type].view(), "setting");
    EXPECT_EQ(newest[Column::target_id].view(), "audit_retention_days");
    EXPECT_EQ(newest[Column::metadata].view(), R"({"from":90,"to":null})");
    EXPECT_EQ(log.events[2][Column::metadata].view(), R"({"from":null,"to":365})");
}

TEST_F(SettingsTest, DoNotRecordWhatChangesNothing) {
    ASSERT_TRUE(put("catalog", "\"open\""));
    ASSERT_TRUE(put("catalog", "\"strict\""));
    ASSERT_TRUE(put("catalog", "\"strict\""));
    EXPECT_EQ(events().events.size(), 1U);
}

TEST_F(SettingsTest, SurviveARestart) {
    ASSERT_TRUE(put("catalog", "\"strict\""));
    ASSERT_TRUE(put("audit_retention_days", "30", "proj_b"));
    Settings again(host.store);
    ASSERT_TRUE(host.run(again.load()));
    EXPECT_EQ(again.get("proj_a", "catalog").value(), "\"strict\"");
    EXPECT_EQ(again.get("proj_b", "audit_retention_days").value(), "30");
    EXPECT_EQ(again.get("proj_b", "catalog").value(), "\"open\"");
}

TEST_F(SettingsTest, ReadMoreRowsThanOneReadHolds) {
    for (int i = 0; i < 1'500; ++i) {
        AppendUnit unit;
        unit.project = "proj_" + std::to_string(i);
        unit.kv.push_back({KvOp::Kind::put, "host.settings", unit.project, "catalog", "\"strict\""}
        );
        ASSERT_TRUE(host.run(host.appender.append(unit)));
    }
    ASSERT_TRUE(host.run(host.settings.load()));
    for (int i = 0; i < 1'500; ++i)
        ASSERT_EQ(get("catalog", "proj_" + std::to_string(i)), "\"strict\"") << i;
}

TEST_F(SettingsTest, AreNotChangedWhenTheStoreFails) {
    host.store.fail_appends(Error{Errc::unavailable, "the disk is full", {}, 0}, 1000);
    EXPECT_EQ(put("catalog", "\"strict\"").error().code, Errc::unavailable);
    EXPECT_EQ(get("catalog"), "\"open\"");
}

TEST_F(SettingsTest, RefuseAChangeThatAnotherOneOvertook) {
    Settings other(host.store);
    ASSERT_TRUE(host.run(other.load()));
    ASSERT_TRUE(put("catalog", "\"strict\""));
    const auto late =
        host.run(other.put(host.appender, "proj_a", "catalog", "\"strict\"", "api_key", "apikey_2")
        );
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code, Errc::conflict);
}

}  // namespace
}  // namespace annal
