#include <cstdint>
#include <string>

#include "testing_plugin.h"

namespace authpi {
namespace {

using annal::test::Reply;

constexpr std::int64_t kHourUs = std::int64_t{3600} * 1'000'000;

class AggregateTest : public PluginTest {
protected:
    std::string counted(Pairs query) {
        const Reply reply = ask("aggregate", std::move(query));
        EXPECT_EQ(reply.status, 200U) << reply.body;
        return reply.body;
    }
};
INSTANTIATE_TEST_SUITE_P(Hosts, AggregateTest, testing::Bool());

/// As the API's reference prints it.
constexpr const char* kSample = R"({
  "interval": "hour",
  "group_by": "type",
  "buckets": [
    {
      "ts": 1745779200000,
      "rows": [
        { "key": "user.verification.succeeded", "count": 200, "uniques": { "user_id": 142 } }
      ]
    }
  ]
})";

std::string without_space(std::string text) {
    std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
    return text;
}

TEST_P(AggregateTest, AnswersTheSampleOfTheReference) {
    host_.counted = {{1'745'779'200'000'000, "user.verification.succeeded", 200, {142}}};
    EXPECT_EQ(
        counted({{"interval", "hour"}, {"group_by", "type"}, {"count_unique", "user_id"}}),
        without_space(kSample)
    );
}

TEST_P(AggregateTest, WithoutShapeIsOneCount) {
    host_.counted = {{ANNAL_TIME_NONE, std::nullopt, 7, {}}};
    EXPECT_EQ(
        counted({}), R"({"interval":null,"group_by":null,"buckets":[{"rows":[{"count":7}]}]})"
    );
    ASSERT_EQ(host_.aggregations.size(), 1U);
    EXPECT_EQ(host_.aggregations[0].group_by, 0U);
    EXPECT_EQ(host_.aggregations[0].interval, unsigned{ANNAL_INTERVAL_NONE});
    EXPECT_TRUE(host_.aggregations[0].unique.empty());
}

TEST_P(AggregateTest, AnEmptyResultWithoutIntervalIsOneEmptyBucket) {
    const std::string buckets = R"("buckets":[{"rows":[]}]})";
    EXPECT_EQ(counted({}), R"({"interval":null,"group_by":null,)" + buckets);
    EXPECT_EQ(
        counted({{"group_by", "type"}, {"count_unique", "user_id"}}),
        R"({"interval":null,"group_by":"type",)" + buckets
    );
}

TEST_P(AggregateTest, AnEmptyResultWithAnIntervalHasNoBuckets) {
    EXPECT_EQ(counted({{"interval", "day"}}), R"({"interval":"day","group_by":null,"buckets":[]})");
    EXPECT_EQ(
        counted({{"interval", "week"}, {"group_by", "org_id"}}),
        R"({"interval":"week","group_by":"org_id","buckets":[]})"
    );
}

TEST_P(AggregateTest, GroupsWithoutIntervalShareTheOneBucket) {
    host_.counted = {{ANNAL_TIME_NONE, "a \"b\"", 9, {3, 0}}, {ANNAL_TIME_NONE, "c", 2, {1, 2}}};
    EXPECT_EQ(
        counted({{"group_by", "client_id"}, {"count_unique", "user_id,type"}}),
        R"({"interval":null,"group_by":"client_id","buckets":[{"rows":[)"
        R"({"key":"a \"b\"","count":9,"uniques":{"user_id":3,"type":0}},)"
        R"({"key":"c","count":2,"uniques":{"user_id":1,"type":2}}]}]})"
    );
}

TEST_P(AggregateTest, RowsOfOneStartShareABucket) {
    host_.counted = {
        {0, "a", 5, {}}, {0, "b", 1, {}}, {kHourUs, "b", 4, {}}, {9 * kHourUs, "a", 1, {}}};
    EXPECT_EQ(
        counted({{"interval", "hour"}, {"group_by", "user_id"}}),
        R"({"interval":"hour","group_by":"user_id","buckets":[)"
        R"({"ts":0,"rows":[{"key":"a","count":5},{"key":"b","count":1}]},)"
        R"({"ts":3600000,"rows":[{"key":"b","count":4}]},)"
        R"({"ts":32400000,"rows":[{"key":"a","count":1}]}]})"
    );
}

TEST_P(AggregateTest, AnIntervalAloneCountsABucketEach) {
    host_.counted = {{0, std::nullopt, 5, {2}}, {kHourUs, std::nullopt, 4, {1}}};
    EXPECT_EQ(
        counted({{"interval", "hour"}, {"count_unique", "agent_id"}}),
        R"({"interval":"hour","group_by":null,"buckets":[)"
        R"({"ts":0,"rows":[{"count":5,"uniques":{"agent_id":2}}]},)"
        R"({"ts":3600000,"rows":[{"count":4,"uniques":{"agent_id":1}}]}]})"
    );
}

TEST_P(AggregateTest, AsksForEachDimensionAndInterval) {
    const std::pair<const char*, std::uint32_t> dimensions[] = {
        {"type", ANNAL_FIELD_ACTION},
        {"auth_type", ANNAL_FIELD_AUTH_TYPE},
        {"issuer_id", ANNAL_FIELD_ISSUER_ID},
        {"user_id", ANNAL_FIELD_USER_ID},
        {"client_id", ANNAL_FIELD_CLIENT_ID},
        {"org_id", ANNAL_FIELD_ORGANIZATION_ID},
        {"agent_id", ANNAL_FIELD_AGENT_ID},
    };
    const std::pair<const char*, std::uint32_t> intervals[] = {
        {"hour", ANNAL_INTERVAL_HOUR}, {"day", ANNAL_INTERVAL_DAY}, {"week", ANNAL_INTERVAL_WEEK}};
    std::string every;
    std::vector<std::uint32_t> fields;
    for (const auto& [name, field] : dimensions) {
        for (const auto& [interval_name, interval] : intervals) {
            counted({{"group_by", name}, {"interval", interval_name}, {"count_unique", name}});
            const auto& seen = host_.aggregations.back();
            EXPECT_EQ(seen.group_by, field) << name;
            EXPECT_EQ(seen.interval, interval) << interval_name;
            EXPECT_EQ(seen.unique, std::vector<std::uint32_t>{field}) << name;
        }
        every += (every.empty() ? "" : ",") + std::string(name);
        fields.push_back(field);
    }
    counted({{"count_unique", every}});
    EXPECT_EQ(host_.aggregations.back().unique, fields);
}

TEST_P(AggregateTest, DuplicatesInCountUniqueCollapse) {
    host_.counted = {{ANNAL_TIME_NONE, std::nullopt, 3, {2, 1}}};
    EXPECT_EQ(
        counted({{"count_unique", "user_id,type,user_id,type,type"}}),
        R"({"interval":null,"group_by":null,"buckets":[{"rows":[)"
        R"({"count":3,"uniques":{"user_id":2,"type":1}}]}]})"
    );
    EXPECT_EQ(host_.aggregations.back().unique.size(), 2U);
}

TEST_P(AggregateTest, RefusesBadShapesByName) {
    for (const char* value : {"types", "Type", "ip", " type", "type,user_id", "*"}) {
        expect_error(
            ask("aggregate", {{"group_by", value}}),
            400,
            "invalid_request",
            "query parameter group_by must be one of type, "
        );
    }
    for (const char* value : {"minute", "Hour", "month", "1", "hour,day"}) {
        expect_error(
            ask("aggregate", {{"interval", value}}),
            400,
            "invalid_request",
            "query parameter interval must be one of hour, day or week"
        );
    }
    for (const char* value : {"x", ",", "user_id,", ",user_id", "user_id,,type", "user_id,ip"}) {
        expect_error(
            ask("aggregate", {{"count_unique", value}}),
            400,
            "invalid_request",
            "query parameter count_unique must be a comma-separated list of type, "
        );
    }
    for (const char* name : {"group_by", "interval", "count_unique"}) {
        const char* const value = name == std::string("interval") ? "day" : "type";
        expect_error(
            ask("aggregate", {{name, value}, {name, value}}),
            400,
            "invalid_request",
            std::string(name) + " is given more than once"
        );
    }
    EXPECT_TRUE(host_.aggregations.empty());
}

TEST_P(AggregateTest, AnEmptyOrNullShapeIsAbsent) {
    for (const char* absent : {"", "null"}) {
        EXPECT_EQ(
            counted({{"group_by", absent}, {"interval", absent}, {"count_unique", absent}}),
            R"({"interval":null,"group_by":null,"buckets":[{"rows":[]}]})"
        );
    }
}

TEST_P(AggregateTest, TheParametersOfPagesMeanNothingToIt) {
    counted({{"limit", "0"}, {"cursor", "bad"}, {"colour", "red"}});
    EXPECT_TRUE(host_.last_terms.empty());
}

TEST_P(AggregateTest, TooManyRowsAreTheClientsToNarrow) {
    host_.refuse_store = [] { return ANNAL_TOO_LARGE; };
    expect_error(ask("aggregate"), 400, "invalid_request", "the store says no");
    host_.refuse_store = [] { return ANNAL_UNAVAILABLE; };
    expect_error(ask("aggregate"), 503, "temporarily_unavailable", "the store says no");
}

TEST_P(AggregateTest, AnAnswerBeyondTheBufferIsTheClientsToNarrow) {
    for (int i = 0; i < 65; ++i) {
        host_.counted.push_back({ANNAL_TIME_NONE, std::string(1U << 20, 'k'), 1, {}});
    }
    expect_error(ask("aggregate", {{"group_by", "user_id"}}), 400, "invalid_request", "too large");
}

}  // namespace
}  // namespace authpi
