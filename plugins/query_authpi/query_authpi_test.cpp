#include <cstdint>
#include <cstring>
#include <iterator>

#include "testing_plugin.h"

namespace authpi {
namespace {

using annal::Json;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::parse;
using annal::test::Reply;
using annal::test::StoredEvent;
using Ids = std::vector<std::string>;

class QueryTest : public PluginTest {
protected:
    Ids ids(const Reply& reply) {
        EXPECT_EQ(reply.status, 200U) << reply.body;
        const Json json = parse(reply.body);
        Ids out;
        for (const Json& event : json.find("data")->items())
            out.push_back(event.find("id")->string());
        return out;
    }
    /// What `get` shows of one event with this metadata.
    std::string shown(const std::string& metadata) {
        host_.events.clear();
        host_.fill(1);
        host_.events[0].set("metadata", metadata);
        const Reply reply = get("evt_0");
        EXPECT_EQ(reply.status, 200U) << reply.body;
        return reply.body;
    }
};
INSTANTIATE_TEST_SUITE_P(Hosts, QueryTest, testing::Bool());

TEST_P(QueryTest, ListsPagesNewestFirst) {
    host_.fill(5);
    const Reply first = ask("list", {{"limit", "2"}});
    EXPECT_EQ(ids(first), (Ids{"evt_4", "evt_3"}));
    EXPECT_TRUE(first.body.ends_with(R"(],"next_cursor":"c3","has_more":true})"));
    EXPECT_EQ(ids(ask("list", {{"limit", "2"}, {"cursor", "c3"}})), (Ids{"evt_2", "evt_1"}));
    const Reply last = ask("list", {{"cursor", "c1"}});
    EXPECT_EQ(ids(last), Ids{"evt_0"});
    EXPECT_TRUE(last.body.ends_with(R"(],"next_cursor":null,"has_more":false})"));
}

TEST_P(QueryTest, AnEmptyListHasNoCursor) {
    EXPECT_EQ(ask("list").body, R"({"data":[],"next_cursor":null,"has_more":false})");
}

// A page that the time budget cut off before the first hit.
TEST_P(QueryTest, AnEmptyPageMayHaveMore) {
    host_.fill(50);
    host_.scan_budget_rows = 7;
    EXPECT_EQ(
        ask("list", {{"event_types", "rare.one"}}).body,
        R"({"data":[],"next_cursor":"c43","has_more":true})"
    );
}

TEST_P(QueryTest, DefaultsTo50AndTakes100) {
    host_.fill(105);
    EXPECT_EQ(ids(ask("list")).size(), 50U);
    EXPECT_EQ(ids(ask("list", {{"limit", "100"}})).size(), 100U);
    EXPECT_EQ(ids(ask("list", {{"limit", "1"}})).size(), 1U);
}

TEST_P(QueryTest, ShowsEveryKeyOfABareEvent) {
    StoredEvent event;
    event.id = "evt_0";
    event.project = kAccount;
    event.created_at_us = 1'745'779'200'000'999;
    event.set("action", "user.created").set("actor_type", "system");
    host_.events = {event};
    const std::string bare =
        R"({"id":"evt_0","type":"user.created","timestamp":1745779200000,"account_id":"proj_1",)"
        R"("issuer_id":null,"user_id":null,"client_id":null,"org_id":null,"agent_id":null,)"
        R"("auth_type":null,"actor":{"type":"system","id":null,"email":null},)"
        R"("resource":{"type":null,"id":null},"ip":null,"user_agent":null,"request":null,)"
        R"("response":null,"duration_ms":null,"metadata":{}})";
    EXPECT_EQ(get("evt_0").body, bare);
    EXPECT_EQ(
        ask("list").body, R"({"data":[)" + bare + R"(],"next_cursor":null,"has_more":false})"
    );
}

TEST_P(QueryTest, ShowsEveryColumnUnderItsName) {
    host_.fill(1, "client.updated");
    const std::string metadata = R"({ "request" : {"method":"PUT"}, "duration_ms":1.10,"x":[1] })";
    host_.events[0]
        .set("issuer_id", "iss_1")
        .set("user_id", "usr_1")
        .set("client_id", "cli_1")
        .set("organization_id", "org_1")
        .set("agent_id", "agt_1")
        .set("auth_type", "token")
        .set("actor_type", "user")
        .set("actor_id", "usr_1")
        .set("actor_email", "a@b.example")
        .set("target_type", "client")
        .set("target_id", "cli_9")
        .set("ip", "203.0.113.7")
        .set("user_agent", "curl \"8\"")
        .set("metadata", metadata);
    EXPECT_EQ(
        get("evt_0").body,
        R"({"id":"evt_0","type":"client.updated","timestamp":1780000001000,"account_id":"proj_1",)"
        R"("issuer_id":"iss_1","user_id":"usr_1","client_id":"cli_1","org_id":"org_1",)"
        R"("agent_id":"agt_1","auth_type":"token",)"
        R"("actor":{"type":"user","id":"usr_1","email":"a@b.example"},)"
        R"("resource":{"type":"client","id":"cli_9"},"ip":"203.0.113.7",)"
        R"("user_agent":"curl \"8\"","request":{"method":"PUT"},"response":null,)"
        R"("duration_ms":1.10,"metadata":)" +
            metadata + "}"
    );
}

TEST_P(QueryTest, PassesMetadataAndWhatItLiftsByteForByte) {
    const std::string metadata =
        "{\"a\\u0062\":12345678901234567890, \"re\\u0071uest\":{ \"x\" : 1.50 ,\n\"y\":\"\\/\"},"
        "\"response\":\"{\\\"\",\"duration_ms\":0.10e1\t}";
    const std::string body = shown(metadata);
    EXPECT_NE(
        body.find(
            "\"request\":{ \"x\" : 1.50 ,\n\"y\":\"\\/\"},\"response\":\"{\\\"\","
            "\"duration_ms\":0.10e1,\"metadata\":" +
            metadata + "}"
        ),
        std::string::npos
    ) << body;
}

TEST_P(QueryTest, LiftsTopLevelKeysAlone) {
    const std::string body = shown(R"({"a":{"request":1},"b":["response"],"c":"duration_ms"})");
    EXPECT_NE(
        body.find(R"("request":null,"response":null,"duration_ms":null,"metadata")"),
        std::string::npos
    ) << body;
}

TEST_P(QueryTest, GetsOneEvent) {
    host_.fill(2);
    const Reply reply = get("evt_1");
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(parse(reply.body).find("id")->string(), "evt_1");
    expect_error(get("evt_9"), 404, "not_found", "no event with this id");
    host_.events[1].deleted = true;
    expect_error(get("evt_1"), 404, "not_found");
    host_.refuse_store = [] { return ANNAL_INVALID; };  // not an id at all
    expect_error(get("x"), 404, "not_found");
}

TEST_P(QueryTest, GetIgnoresParameters) {
    host_.fill(1);
    const Pairs params{{"account_id", kAccount}, {"event_id", "evt_0"}};
    EXPECT_EQ(ask("get", {{"limit", "0"}, {"x", "y"}}, params).status, 200U);
}

TEST_P(QueryTest, AnotherAccountIsDeniedBeforeAnythingElse) {
    host_.fill(1);
    for (const char* trigger : {"list", "aggregate", "get", "unheard of"}) {
        for (const char* account : {"proj_2", "", "proj_", "proj_11", "PROJ_1"}) {
            const Pairs params{{"account_id", account}, {"event_id", "evt_0"}};
            const Pairs bad{{"limit", "0"}, {"cursor", "bad"}, {"group_by", "x"}};
            expect_error(ask(trigger, bad, params), 403, "access_denied", "proj_1");
        }
    }
}

TEST_P(QueryTest, TurnsEachParameterIntoItsTerm) {
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

TEST_P(QueryTest, Filters) {
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
TEST_P(QueryTest, BoundsAreStrictAtTheMillisecond) {
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

TEST_P(QueryTest, TimesAreNumbers) {
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

TEST_P(QueryTest, RefusesBadTimesByName) {
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

TEST_P(QueryTest, RefusesBadValuesByName) {
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

TEST_P(QueryTest, AnEmptyOrNullParameterIsAbsent) {
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

TEST_P(QueryTest, IgnoresParametersThatItDoesNotKnow) {
    host_.fill(2);
    const Pairs strange{
        {"colour", "red"}, {"colour", "blue"}, {"Limit", "0"}, {"group_by", "colour"}, {"", ""}};
    EXPECT_EQ(ids(ask("list", strange)).size(), 2U);
    EXPECT_TRUE(host_.last_terms.empty());
}

TEST_P(QueryTest, PassesOnWhatTheStoreSays) {
    struct Case {
        annal_status code;
        std::uint32_t status;
        const char* error;
    };
    const Case cases[] = {
        {ANNAL_INVALID, 400, "invalid_request"},
        {ANNAL_TOO_LARGE, 400, "invalid_request"},
        {ANNAL_UNAUTHENTICATED, 401, "unauthorized_client"},
        {ANNAL_DENIED, 403, "access_denied"},
        {ANNAL_BUSY, 429, "rate_limit_exceeded"},
        {ANNAL_UNAVAILABLE, 503, "temporarily_unavailable"},
        {ANNAL_TIMEOUT, 503, "temporarily_unavailable"},
        {ANNAL_INTERNAL, 500, "server_error"},
        {77, 500, "server_error"},
    };
    host_.retry_after_ms = 1500;
    for (const Case& c : cases) {
        host_.refuse_store = [code = c.code] { return code; };
        for (const char* trigger : {"list", "aggregate"}) {
            const Reply reply = ask(trigger);
            expect_error(reply, c.status, c.error, "the store says no");
            if (c.status == 429 || c.status == 503) {
                EXPECT_EQ(reply.headers.at("retry-after"), "2");
            }
        }
    }
    host_.refuse_store = [] { return ANNAL_UNAVAILABLE; };
    expect_error(get("evt_0"), 503, "temporarily_unavailable");
}

TEST_P(QueryTest, RendersTheProblemsOfTheHost) {
    struct Case {
        std::uint32_t status;
        const char* code;
        const char* error;
    };
    const Case cases[] = {
        {400, "invalid", "invalid_request"},
        {401, "unauthenticated", "unauthorized_client"},
        {403, "insufficient_scope", "insufficient_scope"},
        {403, "denied", "access_denied"},
        {404, "not_found", "not_found"},
        {405, "method_not_allowed", "method_not_allowed"},
        {408, "timeout", "invalid_request"},
        {413, "too_large", "request_too_large"},
        {415, "unsupported", "invalid_request"},
        {429, "busy", "rate_limit_exceeded"},
        {431, "too_large", "invalid_request"},
        {500, "internal", "server_error"},
        {503, "unavailable", "temporarily_unavailable"},
    };
    const Instance plugin(host_, *annal_module_v1()->components[0]);
    const auto rendered = [&](const annal_problem& problem) {
        annal::test::TextWriter text;
        const annal_writer writer = text.writer();
        const annal_str type =
            plugin.table<annal_http_v1>().render_problem(plugin.self(), &problem, &writer);
        EXPECT_EQ(annal::view(type), "application/json");
        return text.text;
    };
    for (const Case& c : cases) {
        annal_problem problem{};
        problem.struct_size = sizeof(problem);
        problem.status = c.status;
        problem.code = annal::to_str(c.code);
        problem.detail = annal::to_str("why \"so\"");
        problem.request_id = annal::to_str("req_7");
        EXPECT_EQ(
            rendered(problem),
            std::string(R"({"error":")") + c.error +
                R"(","error_description":"why \"so\"","request_id":"req_7"})"
        );
    }
    annal_problem bare{};
    bare.struct_size = sizeof(bare);
    bare.status = 404;
    EXPECT_EQ(
        rendered(bare), R"({"error":"not_found","error_description":"Not Found","request_id":null})"
    );
}

TEST_P(QueryTest, SaysWhichTriggersItHas) {
    expect_error(ask("liste"), 500, "server_error", "list, aggregate or get");
    ASSERT_NE(host_.logged("query.unknown_trigger"), nullptr);
}

TEST(QueryCreate, NamesTheServiceThatIsMissing) {
    MiniHost host;
    host.withheld = {ANNAL_SERVICE_STORE};
    const Instance plugin(host, *annal_module_v1()->components[0]);
    EXPECT_EQ(plugin.status(), ANNAL_UNAVAILABLE);
    EXPECT_NE(plugin.error().find(ANNAL_SERVICE_STORE), std::string::npos);
}

}  // namespace
}  // namespace authpi
