#include <cstdint>

#include "testing_plugin.h"

namespace authpi {
namespace {

using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::parse;
using annal::test::Reply;
using annal::test::StoredEvent;

class QueryTest : public PluginTest {
protected:
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
    expect_error(ask("liste"), 500, "server_error", "list, aggregate, get");
    ASSERT_NE(host_.logged("plugin.unknown_trigger"), nullptr);
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
