#include <cstdint>
#include <cstring>
#include <iterator>

#include "testing_plugin.h"

namespace authpi {
namespace {

class ParametersTest : public PluginTest {};
INSTANTIATE_TEST_SUITE_P(Hosts, ParametersTest, testing::Bool());

TEST_P(ParametersTest, TurnsEachParameterIntoItsTerm) {
    struct Case {
        const char* name;
        const char* value;
        std::uint32_t field, op;
        std::int64_t time_us;
    };
    const Case cases[] = {
        {"issuer_id", "x", ANNAL_FIELD_ISSUER_ID, ANNAL_OP_EQ, 0},
        {"user_id", "x", ANNAL_FIELD_USER_ID, ANNAL_OP_EQ, 0},
        {"client_id", "x", ANNAL_FIELD_CLIENT_ID, ANNAL_OP_EQ, 0},
        {"event_types", "user.created,a.b", ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, 0},
        {"after", "1000", ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM, 1'001'000},
        {"before", "1000", ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE, 1'000'000},
    };
    for (const char* trigger : {"list", "aggregate"}) {
        Pairs all;
        for (const Case& c : cases) {
            ASSERT_EQ(ask(trigger, {{c.name, c.value}}).status, 200U) << c.name;
            ASSERT_EQ(host_.last_terms.size(), 1U) << c.name;
            const annal_term& term = host_.last_terms[0];
            EXPECT_EQ(term.field, c.field) << c.name;
            EXPECT_EQ(term.op, c.op) << c.name;
            EXPECT_EQ(term.time_us, c.time_us) << c.name;
            EXPECT_EQ(term.text.len, c.time_us != 0 ? 0 : std::strlen(c.value)) << c.name;
            all.emplace_back(c.name, c.value);
        }
        EXPECT_EQ(ask(trigger, all).status, 200U);
        EXPECT_EQ(host_.last_terms.size(), std::size(cases));
    }
}

TEST_P(ParametersTest, Filters) {
    host_.fill(4);
    host_.fill(2, "user.created");
    host_.events[1].set("user_id", "usr_1").set("client_id", "cli_1");
    host_.events[2].set("user_id", "usr_1").set("issuer_id", "iss_1");
    EXPECT_EQ(ids(ask("list", {{"event_types", "user.created,user.x"}})), (Ids{"evt_5", "evt_4"}));
    EXPECT_EQ(ids(ask("list", {{"user_id", "usr_1"}})), (Ids{"evt_2", "evt_1"}));
    EXPECT_EQ(ids(ask("list", {{"user_id", "usr_1"}, {"client_id", "cli_1"}})), Ids{"evt_1"});
    EXPECT_EQ(ids(ask("list", {{"issuer_id", "iss_1"}})), Ids{"evt_2"});
    EXPECT_EQ(ids(ask("list", {{"issuer_id", "iss_2"}})), Ids{});
}

// Both bounds are strict on the millisecond that an event shows.
TEST_P(ParametersTest, BoundsAreStrictAtTheMillisecond) {
    host_.fill(4);
    const std::int64_t times[] = {999'999, 1'000'000, 1'000'999, 1'001'000};
    for (std::size_t i = 0; i < 4; ++i) host_.events[i].created_at_us = times[i];
    const auto listed = [&](Pairs query) { return ids(ask("list", std::move(query))); };
    EXPECT_EQ(listed({{"after", "1000"}}), Ids{"evt_3"});
    EXPECT_EQ(listed({{"after", "999"}}), (Ids{"evt_3", "evt_2", "evt_1"}));
    EXPECT_EQ(listed({{"before", "1000"}}), Ids{"evt_0"});
    EXPECT_EQ(listed({{"before", "1001"}}), (Ids{"evt_2", "evt_1", "evt_0"}));
    EXPECT_EQ(listed({{"after", "999"}, {"before", "1001"}}), (Ids{"evt_2", "evt_1"}));
    EXPECT_EQ(listed({{"after", "1000"}, {"before", "1001"}}), Ids{});
    EXPECT_EQ(listed({{"after", "5"}, {"before", "2"}}), Ids{});
}

TEST_P(ParametersTest, TimesAreNumbers) {
    struct Case {
        const char* value;
        std::int64_t after_us, before_us;
    };
    const Case cases[] = {
        {"0", 1000, 0},
        {"-1", 0, -1000},
        {"1745779200000", 1'745'779'200'001'000, 1'745'779'200'000'000},
        {"1745779200000.0", 1'745'779'200'001'000, 1'745'779'200'000'000},
        {"1745779200000.5", 1'745'779'200'001'000, 1'745'779'200'001'000},
        {"1.7457792e12", 1'745'779'200'001'000, 1'745'779'200'000'000},
        {"-0.5", 0, 0},
        {"9223372036854774", 9'223'372'036'854'775'000, 9'223'372'036'854'774'000},
        {"-9223372036854775", -9'223'372'036'854'774'000, -9'223'372'036'854'775'000},
    };
    for (const Case& c : cases) {
        ASSERT_EQ(ask("list", {{"after", c.value}}).status, 200U) << c.value;
        EXPECT_EQ(host_.last_terms.at(0).time_us, c.after_us) << c.value;
        ASSERT_EQ(ask("list", {{"before", c.value}}).status, 200U) << c.value;
        EXPECT_EQ(host_.last_terms.at(0).time_us, c.before_us) << c.value;
    }
    ASSERT_EQ(ask("list", {{"before", "9223372036854775"}}).status, 200U);
    EXPECT_EQ(host_.last_terms.at(0).time_us, 9'223'372'036'854'775'000);
}

TEST_P(ParametersTest, RefusesBadTimesByName) {
    for (const char* name : {"after", "before"}) {
        for (const char* value :
             {"x",
              "2026-05-14T18:42:13Z",
              "+1",
              " 1",
              "1 ",
              "1,5",
              "0x10",
              "inf",
              "nan",
              "-inf",
              "-",
              ".5",
              "5.",
              "1e",
              "1e400",
              "1e17",
              "-1e17",
              "9223372036854776",
              "-9223372036854776",
              "99999999999999999999",
              "1.5.2",
              "true"}) {
            for (const char* trigger : {"list", "aggregate"}) {
                expect_error(
                    ask(trigger, {{name, value}}),
                    400,
                    "invalid_request",
                    std::string("query parameter ") + name + " must be a time"
                );
            }
        }
    }
    // The first millisecond after this one has no microseconds any more.
    expect_error(ask("list", {{"after", "9223372036854775"}}), 400, "invalid_request", "after");
}

TEST_P(ParametersTest, RefusesBadValuesByName) {
    for (const char* limit : {"0", "101", "-1", "+1", "1.0", "0x10", "ten", "99999999999", " 1"}) {
        expect_error(
            ask("list", {{"limit", limit}}),
            400,
            "invalid_request",
            "query parameter limit must be a number from 1 to 100"
        );
    }
    for (const char* name : {"issuer_id", "user_id", "client_id"}) {
        EXPECT_EQ(ask("list", {{name, std::string(1024, 'x')}}).status, 200U);
        expect_error(ask("list", {{name, std::string(1025, 'x')}}), 400, "invalid_request", name);
        expect_error(
            ask("list", {{name, "a"}, {name, "a"}}),
            400,
            "invalid_request",
            std::string(name) + " is given more than once"
        );
    }
    expect_error(
        ask("list", {{"cursor", "bad"}}), 400, "invalid_request", "query parameter cursor"
    );
    host_.refuse_store = [] { return ANNAL_UNPROCESSABLE; };
    for (const char* trigger : {"list", "aggregate"}) {
        expect_error(
            ask(trigger, {{"event_types", "Nonsense"}}),
            400,
            "invalid_request",
            "query parameter event_types: the store says no"
        );
    }
}

TEST_P(ParametersTest, AnEmptyOrNullParameterIsAbsent) {
    host_.fill(60);
    for (const char* absent : {"", "null"}) {
        Pairs all;
        for (const char* name :
             {"limit",
              "cursor",
              "issuer_id",
              "user_id",
              "client_id",
              "event_types",
              "after",
              "before"}) {
            all.emplace_back(name, absent);
        }
        EXPECT_EQ(ids(ask("list", all)).size(), 50U);
        EXPECT_TRUE(host_.last_terms.empty());
    }
}

TEST_P(ParametersTest, IgnoresParametersThatItDoesNotKnow) {
    host_.fill(2);
    const Pairs strange{
        {"colour", "red"}, {"colour", "blue"}, {"Limit", "0"}, {"group_by", "colour"}, {"", ""}};
    EXPECT_EQ(ids(ask("list", strange)).size(), 2U);
    EXPECT_TRUE(host_.last_terms.empty());
}

}  // namespace
}  // namespace authpi
