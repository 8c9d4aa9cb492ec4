#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/mini_host.h"
#include "tests/support/parsed_json.h"

namespace {

using annal::Json;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::parse;
using annal::test::Reply;
using annal::test::RequestSpec;
using Query = std::vector<std::pair<std::string, std::string>>;

class QueryTest : public testing::TestWithParam<bool> {
protected:
    Reply ask(const std::string& trigger, Query query = {}, Query params = {}, Query headers = {}) {
        const Instance plugin(host_, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_OK) << plugin.error();
        RequestSpec spec;
        spec.method = trigger == "delete" ? "DELETE" : "GET";
        spec.path = "/v1/audit/events";
        spec.trigger = trigger;
        spec.query = std::move(query);
        spec.params = std::move(params);
        spec.headers = std::move(headers);
        const Reply reply = host_.request(plugin.table<annal_http_v1>(), plugin.self(), spec);
        EXPECT_FALSE(reply.error);
        EXPECT_TRUE(reply.finished);
        if (reply.status >= 400) {
            EXPECT_EQ(reply.headers.at("content-type"), "application/problem+json");
        }
        return reply;
    }
    std::vector<std::int64_t> seqs(const Reply& reply) {
        EXPECT_EQ(reply.status, 200U) << reply.body;
        const Json json = parse(reply.body);
        std::vector<std::int64_t> out;
        for (const Json& event : json.find("data")->items())
            out.push_back(event.find("seq")->integer());
        return out;
    }
    void expect_problem(
        const Reply& reply, std::uint32_t status, const char* code, const std::string& word = ""
    ) {
        EXPECT_EQ(reply.status, status) << reply.body;
        const Json problem = parse(reply.body);
        EXPECT_EQ(problem.find("code")->string(), code) << reply.body;
        EXPECT_NE(reply.body.find(word), std::string::npos) << reply.body;
    }

    MiniHost host_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Hosts, QueryTest, testing::Bool());

TEST_P(QueryTest, ListsPagesNewestFirst) {
    host_.fill(5);
    const Reply first = ask("list", {{"limit", "2"}});
    EXPECT_EQ(first.headers.at("content-type"), "application/json");
    EXPECT_EQ(seqs(first), (std::vector<std::int64_t>{4, 3}));
    EXPECT_TRUE(first.body.ends_with(R"(],"next_cursor":"c3","has_more":true})"));
    EXPECT_EQ(
        seqs(ask("list", {{"limit", "2"}, {"cursor", "c3"}})), (std::vector<std::int64_t>{2, 1})
    );
    const Reply last = ask("list", {{"cursor", "c1"}});
    EXPECT_EQ(seqs(last), std::vector<std::int64_t>{0});
    EXPECT_TRUE(last.body.ends_with(R"(],"next_cursor":null,"has_more":false})"));
    host_.events.clear();
    EXPECT_EQ(ask("list").body, R"({"data":[],"next_cursor":null,"has_more":false})");
}

TEST_P(QueryTest, DefaultsTo50AndTakes200) {
    host_.fill(205);
    EXPECT_EQ(seqs(ask("list")).size(), 50U);
    EXPECT_EQ(seqs(ask("list", {{"limit", "200"}})).size(), 200U);
}

TEST_P(QueryTest, TurnsEachParameterIntoItsTerm) {
    struct Case {
        const char* name;
        const char* value;
        std::uint32_t field, op;
    };
    const Case cases[] = {
        {"type", "auth.*,a.b,*", ANNAL_FIELD_ACTION, ANNAL_OP_MATCH},
        {"user", "x", ANNAL_FIELD_USER_ID, ANNAL_OP_EQ},
        {"actor", "x", ANNAL_FIELD_ACTOR_ID, ANNAL_OP_EQ},
        {"organization", "x", ANNAL_FIELD_ORGANIZATION_ID, ANNAL_OP_EQ},
        {"client", "x", ANNAL_FIELD_CLIENT_ID, ANNAL_OP_EQ},
        {"issuer", "x", ANNAL_FIELD_ISSUER_ID, ANNAL_OP_EQ},
        {"agent", "x", ANNAL_FIELD_AGENT_ID, ANNAL_OP_EQ},
        {"auth_type", "x", ANNAL_FIELD_AUTH_TYPE, ANNAL_OP_EQ},
        {"target_type", "x", ANNAL_FIELD_TARGET_TYPE, ANNAL_OP_EQ},
        {"target", "x", ANNAL_FIELD_TARGET_ID, ANNAL_OP_EQ},
        {"external_id", "x", ANNAL_FIELD_EXTERNAL_ID, ANNAL_OP_EQ},
        {"ip", "2001:db8::1", ANNAL_FIELD_IP, ANNAL_OP_EQ},
        {"from", "1970-01-01T00:00:01Z", ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM},
        {"to", "1970-01-01T00:00:01Z", ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE},
        {"occurred_from", "1970-01-01T00:00:01Z", ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_FROM},
        {"occurred_to", "1970-01-01T00:00:01Z", ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_BEFORE},
        {"q", "x", ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS},
    };
    Query all;
    for (const Case& c : cases) {
        ASSERT_EQ(ask("list", {{c.name, c.value}}).status, 200U) << c.name;
        ASSERT_EQ(host_.last_terms.size(), 1U) << c.name;
        const annal_term& term = host_.last_terms[0];
        EXPECT_EQ(term.field, c.field) << c.name;
        EXPECT_EQ(term.op, c.op) << c.name;
        if (c.op == ANNAL_OP_EQ || c.op == ANNAL_OP_CONTAINS || c.op == ANNAL_OP_MATCH) {
            EXPECT_EQ(term.text.len, std::strlen(c.value));
        } else {
            EXPECT_EQ(term.time_us, 1'000'000);
        }
        all.emplace_back(c.name, c.value);
    }
    EXPECT_EQ(ask("list", all).status, 200U);
    EXPECT_EQ(host_.last_terms.size(), std::size(cases));
}

TEST_P(QueryTest, Filters) {
    host_.fill(4);
    host_.fill(2, "risk.policy.updated");
    EXPECT_EQ(seqs(ask("list", {{"type", "risk.*"}})), (std::vector<std::int64_t>{5, 4}));
    EXPECT_EQ(seqs(ask("list", {{"actor", "usr_0"}})), (std::vector<std::int64_t>{3, 0}));
    EXPECT_EQ(
        seqs(ask("list", {{"q", "POLICY"}, {"actor", "usr_1"}})), std::vector<std::int64_t>{4}
    );
    EXPECT_TRUE(seqs(ask("list", {{"from", "2030-01-01T00:00:00Z"}, {"to", "2020-01-01T00:00:00Z"}})
    ).empty());
}

TEST_P(QueryTest, RefusesWhatItDoesNotKnow) {
    expect_problem(ask("list", {{"colour", "red"}}), 400, "unknown_parameter", "colour");
    expect_problem(ask("list", {{"Limit", "1"}}), 400, "unknown_parameter", "Limit");
    expect_problem(
        ask("list", {{"before", "2030-01-01T00:00:00Z"}}), 400, "unknown_parameter", "before"
    );
    expect_problem(ask("legacy", {{"cursor", "c1"}}), 400, "unknown_parameter", "cursor");
    expect_problem(ask("types", {{"limit", "1"}}), 400, "unknown_parameter", "takes none");
    expect_problem(ask("get", {{"limit", "1"}}, {{"id", "evt_0"}}), 400, "unknown_parameter");
    expect_problem(ask("export", {{"after", "1"}}, {{"format", "csv"}}), 400, "unknown_parameter");
    expect_problem(
        ask("export", {{"csv_safe", "true"}}, {{"format", "jsonl"}}), 400, "unknown_parameter"
    );
}

TEST_P(QueryTest, RefusesBadValuesByName) {
    for (const char* name :
         {"type",
          "user",
          "actor",
          "organization",
          "client",
          "issuer",
          "agent",
          "auth_type",
          "target_type",
          "target",
          "external_id",
          "ip",
          "from",
          "to",
          "occurred_from",
          "occurred_to",
          "q",
          "cursor",
          "limit"}) {
        expect_problem(
            ask("list", {{name, ""}}),
            400,
            "invalid_parameter",
            std::string("parameter ") + name + " is empty"
        );
    }
    expect_problem(
        ask("list", {{"user", "a"}, {"user", "a"}}),
        400,
        "invalid_parameter",
        "user is given more than once"
    );
    for (const char* limit :
         {"0", "201", "-1", "+1", "1.0", "0x10", "ten", "99999999999", " 1", "1 "}) {
        expect_problem(
            ask("list", {{"limit", limit}}),
            400,
            "invalid_parameter",
            "limit must be a number from 1 to 200"
        );
        expect_problem(ask("legacy", {{"limit", limit}}), 400, "invalid_parameter", "limit");
    }
    for (const char* name : {"from", "to", "occurred_from", "occurred_to"}) {
        expect_problem(
            ask("list", {{name, "2026-05-14T18:42:13"}}), 400, "invalid_parameter", name
        );
    }
    for (const char* type :
         {",", "a.b,", "auth", "*.b", "a*", "A.b", "a..b", ".a", "a.", "auth.*.x", " a.b", "**"}) {
        expect_problem(ask("list", {{"type", type}}), 400, "invalid_parameter", "type");
    }
    for (const char* ip : {"1.2.3", "localhost", "1.2.3.4:80", "::g"}) {
        expect_problem(ask("list", {{"ip", ip}}), 400, "invalid_parameter", "ip");
    }
    expect_problem(ask("list", {{"cursor", "bad"}}), 400, "invalid_cursor");
    expect_problem(
        ask("delete", {{"reason", std::string(1025, 'x')}}, {{"id", "evt_0"}}),
        400,
        "invalid_parameter",
        "reason"
    );
}

TEST_P(QueryTest, PassesOnWhatTheStoreSays) {
    const std::pair<annal_status, std::uint32_t> cases[] = {
        {ANNAL_INVALID, 400},
        {ANNAL_UNPROCESSABLE, 400},
        {ANNAL_BUSY, 429},
        {ANNAL_UNAVAILABLE, 503},
        {ANNAL_TIMEOUT, 503},
        {ANNAL_INTERNAL, 500},
        {77, 500}};
    for (const auto& [code, status] : cases) {
        host_.refuse_store = [c = code] { return c; };
        EXPECT_EQ(ask("list").status, status);
        EXPECT_EQ(ask("legacy").status, status);
    }
    host_.refuse_store = [] { return ANNAL_UNAVAILABLE; };
    EXPECT_EQ(ask("types").status, 503U);
    EXPECT_EQ(ask("get", {}, {{"id", "evt_0"}}).status, 503U);
}

TEST_P(QueryTest, GetsOneEvent) {
    host_.fill(2);
    const Reply reply = ask("get", {}, {{"id", "evt_1"}});
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(parse(reply.body).find("seq")->integer(), 1);
    expect_problem(ask("get", {}, {{"id", "evt_9"}}), 404, "not_found");
}

TEST_P(QueryTest, DeletesOneEvent) {
    host_.fill(2);
    const Reply reply = ask("delete", {{"reason", "asked to"}}, {{"id", "evt_1"}});
    EXPECT_EQ(reply.status, 204U);
    EXPECT_TRUE(reply.body.empty());
    EXPECT_EQ(host_.last_reason, "asked to");
    expect_problem(ask("delete", {}, {{"id", "evt_1"}}), 404, "not_found");
    expect_problem(ask("get", {}, {{"id", "evt_1"}}), 404, "not_found");
    host_.withhold_erase = true;
    expect_problem(ask("delete", {}, {{"id", "evt_0"}}), 503, "unavailable", "permissions");
}

TEST_P(QueryTest, CountsTheTypesOf30Days) {
    host_.fill(1, "old.one");
    host_.wall_us += std::int64_t{30} * 24 * 3600 * 1'000'000;
    host_.fill(1, "a.b");
    host_.fill(2, "c.d");
    EXPECT_EQ(
        ask("types").body,
        R"({"data":[{"action":"c.d","count":2,"last_seen":"2026-06-27T20:26:44.000000Z"},)"
        R"({"action":"a.b","count":1,"last_seen":"2026-06-27T20:26:42.000000Z"}]})"
    );
}

TEST_P(QueryTest, AggregatesInTheShapeAsked) {
    const std::int64_t hour = 1'780'002'000'000'000;
    host_.counted = {
        {hour, "a.b", 5, {2, 1}},
        {hour, "c.d", 5, {0, 1}},
        {hour + 3'600'000'000, "a.b", 1, {1, 1}}};
    const Reply full =
        ask("aggregate",
            {{"group_by", "action"}, {"interval", "hour"}, {"count_unique", "user_id,ip,user_id"}});
    EXPECT_EQ(
        full.body,
        R"({"interval":"hour","group_by":"action","buckets":[)"
        R"({"start":"2026-05-28T21:00:00.000000Z","rows":[)"
        R"({"key":"a.b","count":5,"uniques":{"user_id":2,"ip":1}},)"
        R"({"key":"c.d","count":5,"uniques":{"user_id":0,"ip":1}}]},)"
        R"({"start":"2026-05-28T22:00:00.000000Z","rows":[)"
        R"({"key":"a.b","count":1,"uniques":{"user_id":1,"ip":1}}]}]})"
    );
    const auto& seen = host_.aggregations.back();
    EXPECT_EQ(seen.group_by, static_cast<std::uint32_t>(ANNAL_FIELD_ACTION));
    EXPECT_EQ(seen.interval, static_cast<std::uint32_t>(ANNAL_INTERVAL_HOUR));
    EXPECT_EQ(seen.unique, (std::vector<std::uint32_t>{ANNAL_FIELD_USER_ID, ANNAL_FIELD_IP}));
    host_.counted = {{ANNAL_TIME_NONE, std::nullopt, 6, {}}};
    EXPECT_EQ(
        ask("aggregate", {{"user", "usr_1"}}).body,
        R"({"interval":null,"group_by":null,"buckets":[{"rows":[{"count":6}]}]})"
    );
    EXPECT_EQ(host_.last_terms.size(), 1U);
}

TEST_P(QueryTest, AnEmptyAggregateHasOneBucketWithoutIntervalAndNoneWithOne) {
    EXPECT_EQ(
        ask("aggregate", {{"group_by", "ip"}}).body,
        R"({"interval":null,"group_by":"ip","buckets":[{"rows":[]}]})"
    );
    EXPECT_EQ(
        ask("aggregate", {{"interval", "week"}}).body,
        R"({"interval":"week","group_by":null,"buckets":[]})"
    );
}

TEST_P(QueryTest, RefusesAggregatesThatItDoesNotKnow) {
    const auto refused = [&](const std::string& name, const std::string& value, const char* word) {
        expect_problem(ask("aggregate", {{name, value}}), 400, "invalid_parameter", word);
    };
    refused("group_by", "type", "must be one of action, actor_type");
    refused("group_by", "metadata", "must be one of");
    refused("interval", "month", "must be hour, day or week");
    refused("count_unique", "user_id,", "this is none: \\\"\\\"");
    refused("count_unique", "when", "this is none: \\\"when\\\"");
    expect_problem(ask("aggregate", {{"limit", "5"}}), 400, "unknown_parameter", "count_unique");
    host_.refuse_store = [] { return ANNAL_TOO_LARGE; };
    expect_problem(ask("aggregate"), 413, "too_large");
    host_.refuse_store = [] { return ANNAL_UNAVAILABLE; };
    expect_problem(ask("aggregate"), 503, "unavailable");
}

TEST_P(QueryTest, PagesTheLegacyListByTime) {
    host_.fill(5);
    host_.fill(1, "risk.x");
    const Reply first = ask("legacy", {{"limit", "2"}, {"action_prefix", "auth."}});
    EXPECT_EQ(seqs(first), (std::vector<std::int64_t>{4, 3}));
    const std::string before = parse(first.body).find("next_before")->string();
    EXPECT_EQ(before, "2026-05-28T20:26:44.000000Z");
    const Reply second =
        ask("legacy", {{"limit", "2"}, {"action_prefix", "auth."}, {"before", before}});
    EXPECT_EQ(seqs(second), (std::vector<std::int64_t>{2, 1}));
    const Reply last =
        ask("legacy", {{"before", parse(second.body).find("next_before")->string()}});
    EXPECT_EQ(seqs(last), std::vector<std::int64_t>{0});
    EXPECT_TRUE(last.body.ends_with(R"(],"next_before":null})"));
}

// A page that the time budget cut off before the first hit has no row to go on from.
TEST_P(QueryTest, TheLegacyListLooksOnPastEmptyPages) {
    host_.fill(2, "rare.one");
    host_.fill(50);
    host_.scan_budget_rows = 7;
    EXPECT_EQ(
        seqs(ask("legacy", {{"action_prefix", "rare."}, {"limit", "1"}})),
        std::vector<std::int64_t>{1}
    );
    EXPECT_EQ(
        ask("legacy", {{"action_prefix", "none."}}).body, R"({"data":[],"next_before":null})"
    );
    const Reply list = ask("list", {{"type", "rare.*"}});
    EXPECT_EQ(list.body, R"({"data":[],"next_cursor":"c45","has_more":true})");
}

TEST_P(QueryTest, HandsExportsToTheHost) {
    const Reply reply =
        ask("export",
            {{"type", "auth.*"}, {"cursor", "c9"}, {"csv_safe", "false"}, {"user", "a b&c=é"}},
            {{"format", "csv"}});
    EXPECT_EQ(reply.status, 200U);
    ASSERT_EQ(host_.exports.size(), 1U);
    const auto& seen = host_.exports[0];
    EXPECT_EQ(seen.format, "csv");
    EXPECT_EQ(seen.cursor, "c9");
    EXPECT_EQ(seen.rows_max, 100'000U);
    EXPECT_EQ(seen.terms, 2U);
    EXPECT_EQ(seen.options, (Query{{"csv_safe", "false"}}));
    EXPECT_EQ(
        seen.next_path, "/v1/audit/events?type=auth.*&csv_safe=false&user=a%20b%26c%3D%C3%A9"
    );
    EXPECT_EQ(ask("export", {}, {{"format", "jsonl"}}).status, 200U);
    EXPECT_TRUE(host_.exports[1].options.empty());
    EXPECT_EQ(host_.exports[1].next_path, "/v1/audit/events");
    expect_problem(
        ask("export", {{"csv_safe", "maybe"}}, {{"format", "csv"}}),
        400,
        "invalid_parameter",
        "csv_safe"
    );
}

TEST_P(QueryTest, FailsTheExportThatTheHostRefuses) {
    const auto refuse = [&](annal_status code) {
        host_.refuse_export = [code](std::string_view) { return code; };
    };
    refuse(ANNAL_NOT_FOUND);
    expect_problem(ask("export", {}, {{"format", "xml"}}), 404, "not_found", "the export says no");
    refuse(ANNAL_INVALID);
    expect_problem(ask("export", {{"cursor", "x"}}, {{"format", "csv"}}), 400, "invalid_cursor");
    refuse(ANNAL_UNAVAILABLE);
    expect_problem(ask("export", {}, {{"format", "csv"}}), 503, "unavailable");
    host_.withheld = {ANNAL_SERVICE_EXPORT};
    expect_problem(ask("export", {}, {{"format", "csv"}}), 503, "unavailable", "annal.export/1");
}

TEST_P(QueryTest, AnExportMayBeOfFewerRows) {
    EXPECT_EQ(ask("export", {{"limit", "7"}}, {{"format", "csv"}}).status, 200U);
    EXPECT_EQ(host_.exports.at(0).rows_max, 7U);
    EXPECT_EQ(host_.exports.at(0).next_path, "/v1/audit/events?limit=7");
    for (const char* limit : {"0", "100001", "x", "-1"}) {
        expect_problem(
            ask("export", {{"limit", limit}}, {{"format", "csv"}}),
            400,
            "invalid_parameter",
            "from 1 to 100000"
        );
    }
}

TEST_P(QueryTest, HandsTailsToTheHost) {
    EXPECT_EQ(ask("tail").status, 200U);
    EXPECT_EQ(host_.tails.at(0).after, ANNAL_SEQ_NONE);
    EXPECT_EQ(ask("tail", {{"type", "auth.*"}, {"user", "u"}, {"after", "41"}}).status, 200U);
    EXPECT_EQ(host_.tails.at(1).after, 41);
    EXPECT_EQ(host_.tails.at(1).terms, 2U);
    EXPECT_EQ(ask("tail", {{"last_event_id", "-1"}}).status, 200U);
    EXPECT_EQ(host_.tails.at(2).after, -1);
}

TEST_P(QueryTest, TheHeaderOfAReconnectingTailWinsOverItsUrl) {
    EXPECT_EQ(ask("tail", {{"after", "41"}}, {}, {{"last-event-id", "57"}}).status, 200U);
    EXPECT_EQ(host_.tails.at(0).after, 57);
    EXPECT_EQ(ask("tail", {{"after", "41"}}, {}, {{"last-event-id", ""}}).status, 200U);
    EXPECT_EQ(host_.tails.at(1).after, 41);
}

TEST_P(QueryTest, RefusesATailThatCannotBeResumed) {
    for (const char* seq : {"x", "-2", "1.0", " 1", "99999999999999999999"}) {
        expect_problem(ask("tail", {{"after", seq}}), 400, "invalid_parameter", "after");
        expect_problem(
            ask("tail", {}, {}, {{"last-event-id", seq}}), 400, "invalid_parameter", "Last-Event-ID"
        );
    }
    expect_problem(
        ask("tail", {{"after", "1"}, {"last_event_id", "1"}}),
        400,
        "invalid_parameter",
        "one of them"
    );
    expect_problem(ask("tail", {{"limit", "1"}}), 400, "unknown_parameter", "last_event_id");
    expect_problem(ask("tail", {{"cursor", "1"}}), 400, "unknown_parameter");
    EXPECT_TRUE(host_.tails.empty());
}

TEST_P(QueryTest, FailsTheTailThatTheHostRefuses) {
    host_.refuse_tail = ANNAL_UNAVAILABLE;
    expect_problem(ask("tail"), 503, "unavailable", "the tail says no");
    host_.refuse_tail = ANNAL_INVALID;
    expect_problem(ask("tail", {{"after", "9"}}), 400, "invalid_parameter", "the tail says no");
    host_.withhold_tail = true;
    expect_problem(ask("tail"), 503, "unavailable", "annal.export/1");
}

TEST_P(QueryTest, SaysWhichTriggersItHas) {
    expect_problem(ask("liste"), 500, "internal", "legacy");
}

TEST(QueryCreate, NamesTheServiceThatIsMissing) {
    for (const char* service : {ANNAL_SERVICE_STORE, ANNAL_SERVICE_CODEC}) {
        MiniHost host;
        host.withheld = {service};
        const Instance plugin(host, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_UNAVAILABLE);
        EXPECT_NE(plugin.error().find(service), std::string::npos);
    }
}

}  // namespace
