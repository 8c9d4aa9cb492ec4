#include <gtest/gtest.h>

#include <cstring>
#include <set>

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
using Ids = std::vector<std::string>;

class LoggingTest : public testing::TestWithParam<bool> {
protected:
    Reply ask(const std::string& trigger, Query query = {}, Query params = {}) {
        const Instance plugin(host_, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_OK) << plugin.error();
        RequestSpec spec;
        spec.method = trigger == "delete" ? "DELETE" : "GET";
        spec.path = "/api/logging/audit";
        spec.trigger = trigger;
        spec.query = std::move(query);
        spec.params = std::move(params);
        const Reply reply = host_.request(plugin.table<annal_http_v1>(), plugin.self(), spec);
        EXPECT_FALSE(reply.error);
        EXPECT_TRUE(reply.finished);
        if (reply.status != 204) {
            EXPECT_EQ(reply.headers.at("content-type"), "application/json");
        }
        return reply;
    }
    Json list(Query query = {}) {
        const Reply reply = ask("list", std::move(query));
        EXPECT_EQ(reply.status, 200U) << reply.body;
        return parse(reply.body);
    }
    static Ids ids(const Json& page) {
        Ids out;
        for (const Json& item : page.find("items")->items())
            out.push_back(item.find("id")->string());
        return out;
    }
    Ids list_ids(Query query) { return ids(list(std::move(query))); }
    /// The one form of this product's errors: an object of `detail` alone.
    static void expect_refused(
        const Reply& reply, std::uint32_t status, const std::vector<std::string>& words = {}
    ) {
        EXPECT_EQ(reply.status, status) << reply.body;
        const Json problem = parse(reply.body);
        ASSERT_EQ(problem.members().size(), 1U) << reply.body;
        const std::string detail = problem.find("detail")->string();
        EXPECT_FALSE(detail.empty());
        for (const std::string& word : words)
            EXPECT_NE(detail.find(word), std::string::npos) << word << " is not in: " << detail;
    }

    MiniHost host_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Hosts, LoggingTest, testing::Bool());

TEST_P(LoggingTest, ListsPagesNewestFirst) {
    host_.fill(3);
    const Reply first = ask("list", {{"limit", "2"}});
    EXPECT_TRUE(first.body.ends_with(
        R"(],"next_cursor":"c1","next_page":true,"limit":2,"collection_total":3})"
    )) << first.body;
    EXPECT_EQ(ids(parse(first.body)), (Ids{"evt_2", "evt_1"}));
    const Reply last = ask("list", {{"cursor", "c1"}});
    EXPECT_EQ(ids(parse(last.body)), Ids{"evt_0"});
    EXPECT_TRUE(last.body.ends_with(
        R"(],"next_cursor":null,"next_page":false,"limit":50,"collection_total":3})"
    )) << last.body;
    host_.events.clear();
    EXPECT_EQ(
        ask("list").body,
        R"({"items":[],"next_cursor":null,"next_page":false,"limit":50,"collection_total":0})"
    );
}

TEST_P(LoggingTest, ListsOldestFirst) {
    host_.fill(3);
    EXPECT_EQ(list_ids({{"sort_order", "asc"}}), (Ids{"evt_0", "evt_1", "evt_2"}));
    const Json page = list({{"sort_order", "asc"}, {"sort_by", "id"}, {"limit", "2"}});
    EXPECT_EQ(ids(page), (Ids{"evt_0", "evt_1"}));
    EXPECT_EQ(
        list_ids({{"sort_order", "asc"}, {"cursor", page.find("next_cursor")->string()}}),
        Ids{"evt_2"}
    );
    EXPECT_EQ(
        list_ids({{"sort_order", "desc"}, {"sort_by", "timestamp"}}),
        (Ids{"evt_2", "evt_1", "evt_0"})
    );
}

TEST_P(LoggingTest, DefaultsTo50AndTakes250) {
    host_.fill(255);
    EXPECT_EQ(list_ids({}).size(), 50U);
    EXPECT_EQ(list_ids({{"limit", "1"}}).size(), 1U);
    EXPECT_EQ(list_ids({{"limit", "250"}}).size(), 250U);
    for (const char* limit : {"0", "251", "-1", "+1", "1.0", "0x10", "ten", "99999999999999999999"})
        expect_refused(ask("list", {{"limit", limit}}), 400, {"limit", "from 1 to 250"});
}

TEST_P(LoggingTest, AnEntryHasAllKeys) {
    host_.fill(1, "user.created");
    EXPECT_EQ(
        ask("get", {}, {{"id", "evt_0"}}).body,
        R"({"id":"evt_0","timestamp":"2026-05-28T20:26:41.000000Z","action":"user.created",)"
        R"("actor_type":"user","actor_id":"usr_0","actor_email":null,"user_id":null,)"
        R"("organization_id":null,"target_type":null,"target_id":null,"ip":null,)"
        R"("user_agent":null,"description":null,"metadata":{}})"
    );
    host_.events[0]
        .set("actor_email", "a@b.c")
        .set("user_id", "u")
        .set("organization_id", "o")
        .set("target_type", "tt")
        .set("target_id", "ti")
        .set("ip", "::1")
        .set("user_agent", "")
        .set("description", "said \"no\"\n")
        .set("metadata", "{ \"b\":1.00, \"a\" : \"\\u0041\" }");
    const std::string whole =
        R"({"id":"evt_0","timestamp":"2026-05-28T20:26:41.000000Z","action":"user.created",)"
        R"("actor_type":"user","actor_id":"usr_0","actor_email":"a@b.c","user_id":"u",)"
        R"("organization_id":"o","target_type":"tt","target_id":"ti","ip":"::1",)"
        R"("user_agent":"","description":"said \"no\"\n",)"
        R"("metadata":{ "b":1.00, "a" : "\u0041" }})";
    EXPECT_EQ(ask("get", {}, {{"id", "evt_0"}}).body, whole);
    EXPECT_TRUE(ask("list").body.starts_with(R"({"items":[)" + whole + "],"));
}

TEST_P(LoggingTest, CountsWhatTheFilterSelects) {
    host_.fill(4);
    host_.fill(3, "risk.updated");
    EXPECT_EQ(list({{"limit", "1"}}).find("collection_total")->integer(), 7);
    EXPECT_EQ(
        list({{"limit", "1"}, {"action", "risk.updated"}}).find("collection_total")->integer(), 3
    );
    EXPECT_EQ(list({{"cursor", "c2"}}).find("collection_total")->integer(), 7);
    host_.events[0].deleted = true;
    EXPECT_EQ(list({{"include_total", "true"}}).find("collection_total")->integer(), 6);
    EXPECT_EQ(list({{"include_total", "false"}}).find("collection_total")->integer(), 0);
}

TEST_P(LoggingTest, SaysWhenATotalIsALowerBound) {
    host_.fill(1);
    EXPECT_EQ(ask("list").headers.count("Annal-Total"), 0U);
    host_.count_at_least = true;
    EXPECT_EQ(ask("list").headers.at("Annal-Total"), "at-least");
    EXPECT_EQ(ask("list", {{"include_total", "false"}}).headers.count("Annal-Total"), 0U);
}

TEST_P(LoggingTest, AShortPageGoesOn) {
    host_.fill(1, "rare.one");
    host_.fill(20);
    host_.scan_budget_rows = 7;
    const Json page = list({{"action", "rare.one"}});
    EXPECT_TRUE(page.find("items")->items().empty());
    EXPECT_TRUE(page.find("next_page")->boolean());
    EXPECT_EQ(page.find("next_cursor")->string(), "c14");
}

TEST_P(LoggingTest, TurnsEachFilterIntoItsTerm) {
    struct Case {
        const char* name;
        const char* value;
        std::uint32_t field, op;
        std::int64_t time_us;
    };
    constexpr const char* kTime = "1970-01-01T00:00:01Z";
    const Case cases[] = {
        {"action", "x", ANNAL_FIELD_ACTION, ANNAL_OP_EQ, 0},
        {"action__eq", "x", ANNAL_FIELD_ACTION, ANNAL_OP_EQ, 0},
        {"action__in", "a.b,c.d", ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, 0},
        {"action__startswith", "au", ANNAL_FIELD_ACTION, ANNAL_OP_PREFIX, 0},
        {"actor_type", "x", ANNAL_FIELD_ACTOR_TYPE, ANNAL_OP_EQ, 0},
        {"actor_id__eq", "x", ANNAL_FIELD_ACTOR_ID, ANNAL_OP_EQ, 0},
        {"actor_email", "x", ANNAL_FIELD_ACTOR_EMAIL, ANNAL_OP_EQ, 0},
        {"user_id", "x", ANNAL_FIELD_USER_ID, ANNAL_OP_EQ, 0},
        {"organization_id", "x", ANNAL_FIELD_ORGANIZATION_ID, ANNAL_OP_EQ, 0},
        {"target_type", "x", ANNAL_FIELD_TARGET_TYPE, ANNAL_OP_EQ, 0},
        {"target_id", "x", ANNAL_FIELD_TARGET_ID, ANNAL_OP_EQ, 0},
        {"ip", "2001:db8::1", ANNAL_FIELD_IP, ANNAL_OP_EQ, 0},
        {"ip__eq", "192.0.2.1", ANNAL_FIELD_IP, ANNAL_OP_EQ, 0},
        {"search", "x", ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS, 0},
        {"search__contains", "x", ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS, 0},
        {"timestamp__gt", kTime, ANNAL_FIELD_CREATED_AT, ANNAL_OP_AFTER, 1'000'000},
        {"timestamp__gte", kTime, ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM, 1'000'000},
        {"timestamp__lt", kTime, ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE, 1'000'000},
        {"timestamp__lte", kTime, ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE, 1'000'001},
    };
    for (const Case& c : cases) {
        ASSERT_EQ(ask("list", {{c.name, c.value}}).status, 200U) << c.name;
        ASSERT_EQ(host_.last_terms.size(), 1U) << c.name;
        const annal_term& term = host_.last_terms[0];
        EXPECT_EQ(term.field, c.field) << c.name;
        EXPECT_EQ(term.op, c.op) << c.name;
        EXPECT_EQ(term.text.len, c.time_us == 0 ? std::strlen(c.value) : 0U) << c.name;
        EXPECT_EQ(term.time_us, c.time_us) << c.name;
    }
}

TEST_P(LoggingTest, AllTermsMustHold) {
    host_.fill(4);
    host_.fill(2, "risk.updated");
    EXPECT_EQ(list_ids({{"action__in", "risk.updated,no.such"}}), (Ids{"evt_5", "evt_4"}));
    EXPECT_EQ(list_ids({{"action__startswith", "risk"}, {"actor_id", "usr_1"}}), Ids{"evt_4"});
    EXPECT_EQ(list_ids({{"search", "SIGN"}, {"actor_id", "usr_0"}}), (Ids{"evt_3", "evt_0"}));
    EXPECT_EQ(
        list_ids(
            {{"timestamp__gt", "2026-05-28T20:26:42Z"}, {"timestamp__lte", "2026-05-28T20:26:44Z"}}
        ),
        (Ids{"evt_3", "evt_2"})
    );
    EXPECT_EQ(list_ids({{"timestamp__lt", "2026-05-28T20:26:42.000000Z"}}), Ids{"evt_0"});
}

TEST_P(LoggingTest, TheMetadataIsWhatTheListTakes) {
    const Reply reply = ask("filters");
    EXPECT_EQ(reply.status, 200U);
    const Json metadata = parse(reply.body);
    std::set<std::string> sortable;
    for (const Json& field : metadata.find("filters")->items()) {
        const std::string name = field.find("field")->string();
        const bool is_time = field.find("type")->string() == "datetime";
        const std::string value = is_time ? "2030-01-01T00:00:00Z" : (name == "ip" ? "::1" : "a.b");
        for (const Json& op : field.find("operators")->items()) {
            const std::string full = name + "__" + op.string();
            EXPECT_EQ(ask("list", {{full, value}}).status, 200U) << full;
        }
        const bool has_default = field.find("default_operator")->kind() == Json::Kind::string;
        EXPECT_EQ(ask("list", {{name, value}}).status, has_default ? 200U : 400U) << name;
        if (field.find("sortable")->boolean()) sortable.insert(name);
        EXPECT_EQ(ask("list", {{"sort_by", name}}).status, sortable.count(name) == 1 ? 200U : 400U);
    }
    EXPECT_EQ(sortable, (std::set<std::string>{"timestamp", "id"}));
    EXPECT_TRUE(reply.body.ends_with(
        R"("sort":{"fields":["timestamp","id"],"default":"timestamp","orders":["asc","desc"],)"
        R"("default_order":"desc"},"limit":{"min":1,"max":250,"default":50}})"
    )) << reply.body;
    EXPECT_NE(
        reply.body.find(R"({"field":"action","type":"string","operators":["eq","in","startswith"],)"
                        R"("default_operator":"eq","sortable":false})"),
        std::string::npos
    ) << reply.body;
}

TEST_P(LoggingTest, RefusesWhatItDoesNotKnow) {
    const auto refuse = [&](const char* name, const std::vector<std::string>& words) {
        expect_refused(ask("list", {{name, "x"}}), 400, words);
    };
    refuse("colour", {"colour", "cursor, limit, sort_by", "action", "/api/logging/audit/filters"});
    refuse("Limit", {"Limit"});
    refuse("q", {"q", "search"});
    refuse("action__gt", {"action__gt", "action, action__eq, action__in, action__startswith"});
    refuse("action__", {"action__"});
    refuse("actor_id__in", {"actor_id__in", "actor_id, actor_id__eq"});
    refuse("timestamp", {"timestamp__gt, timestamp__gte, timestamp__lt, timestamp__lte"});
    refuse("timestamp__eq", {"timestamp__eq", "timestamp__gt"});
    refuse("id", {"id", "is no filter"});
    refuse("limit__eq", {"limit__eq"});
    refuse("metadata", {"metadata"});
    for (const char* trigger : {"filters", "get", "delete"}) {
        expect_refused(ask(trigger, {{"limit", "1"}}, {{"id", "evt_0"}}), 400, {"limit", "takes"});
    }
    expect_refused(ask("get", {{"reason", "x"}}, {{"id", "evt_0"}}), 400, {"reason", "none"});
}

TEST_P(LoggingTest, RefusesBadValuesByName) {
    for (const char* name :
         {"cursor",
          "limit",
          "sort_by",
          "sort_order",
          "include_total",
          "action",
          "action__in",
          "action__startswith",
          "actor_id",
          "ip",
          "search",
          "timestamp__gt",
          "timestamp__lte"}) {
        expect_refused(ask("list", {{name, ""}}), 400, {std::string(name) + " is empty"});
    }
    expect_refused(ask("list", {{"user_id", "a"}, {"user_id", "a"}}), 400, {"user_id", "once"});
    expect_refused(ask("list", {{"user_id", "a"}, {"user_id__eq", "a"}}), 400, {"user_id", "once"});
    expect_refused(
        ask("list", {{"search__contains", "a"}, {"search", "a"}}), 400, {"search", "once"}
    );
    for (const char* field : {"action", "Timestamp", "-timestamp", "timestamp,id"})
        expect_refused(ask("list", {{"sort_by", field}}), 400, {"sort_by", "timestamp, id"});
    for (const char* order : {"ASC", "up", "1"})
        expect_refused(ask("list", {{"sort_order", order}}), 400, {"sort_order", "asc or desc"});
    for (const char* flag : {"1", "True", "yes"})
        expect_refused(ask("list", {{"include_total", flag}}), 400, {"include_total", "true or"});
    for (const char* actions : {",", "a.b,", "auth.*", "*", "a.b, c.d", "A.b", "a..b", ".a", "a"})
        expect_refused(ask("list", {{"action__in", actions}}), 400, {"action__in", "this is none"});
    for (const char* ip : {"1.2.3", "localhost", "1.2.3.4:80", "::g"})
        expect_refused(ask("list", {{"ip", ip}}), 400, {"ip", "IPv4 or IPv6"});
    for (const char* op : {"gt", "gte", "lt", "lte"}) {
        const std::string name = std::string("timestamp__") + op;
        expect_refused(ask("list", {{name, "2026-05-14T18:42:13"}}), 400, {name, "with a zone"});
        expect_refused(ask("list", {{name, "0"}}), 400, {name, "with a zone"});
    }
    const std::string longest(1024, 'x');
    for (const char* name : {"action", "action__startswith", "user_id__eq", "search"}) {
        EXPECT_EQ(ask("list", {{name, longest}}).status, 200U) << name;
        expect_refused(ask("list", {{name, longest + "x"}}), 400, {name, "at most 1024 bytes"});
    }
    std::string actions = "a.b";
    for (int i = 1; i < 100; ++i) actions += ",a.b";
    EXPECT_EQ(ask("list", {{"action__in", actions}}).status, 200U);
    expect_refused(ask("list", {{"action__in", actions + ",a.b"}}), 400, {"action__in", "100"});
    expect_refused(ask("list", {{"cursor", "bad"}}), 400, {"cursor"});
    expect_refused(
        ask("delete", {{"reason", std::string(1025, 'x')}}, {{"id", "evt_0"}}),
        400,
        {"reason", "1024"}
    );
}

TEST_P(LoggingTest, PassesOnWhatTheStoreSays) {
    const std::pair<annal_status, std::uint32_t> cases[] = {
        {ANNAL_INVALID, 400},
        {ANNAL_UNPROCESSABLE, 400},
        {ANNAL_BUSY, 429},
        {ANNAL_UNAVAILABLE, 503},
        {ANNAL_TIMEOUT, 503},
        {ANNAL_INTERNAL, 500}};
    for (const auto& [code, status] : cases) {
        host_.refuse_store = [c = code] { return c; };
        expect_refused(ask("list"), status, {"the store says no"});
    }
    host_.refuse_store = [] { return ANNAL_UNAVAILABLE; };
    expect_refused(ask("get", {}, {{"id", "evt_0"}}), 503, {"the store says no"});
    // The page was read; the total can't be.
    host_.refuse_store = [calls = 0]() mutable { return calls++ == 0 ? ANNAL_OK : ANNAL_BUSY; };
    expect_refused(ask("list"), 429);
    host_.refuse_store = [calls = 0]() mutable { return calls++ == 0 ? ANNAL_OK : ANNAL_BUSY; };
    EXPECT_EQ(ask("list", {{"include_total", "false"}}).status, 200U);
}

TEST_P(LoggingTest, GetsAndDeletesOneEntry) {
    host_.fill(2);
    EXPECT_EQ(parse(ask("get", {}, {{"id", "evt_1"}}).body).find("id")->string(), "evt_1");
    expect_refused(ask("get", {}, {{"id", "evt_9"}}), 404, {"no audit log entry"});
    const Reply reply = ask("delete", {{"reason", "asked to"}}, {{"id", "evt_1"}});
    EXPECT_EQ(reply.status, 204U);
    EXPECT_TRUE(reply.body.empty());
    EXPECT_EQ(host_.last_reason, "asked to");
    expect_refused(ask("delete", {}, {{"id", "evt_1"}}), 404, {"no audit log entry"});
    EXPECT_EQ(host_.last_reason, "");
    expect_refused(ask("get", {}, {{"id", "evt_1"}}), 404);
    EXPECT_EQ(list_ids({}), Ids{"evt_0"});
    host_.withhold_erase = true;
    expect_refused(ask("delete", {}, {{"id", "evt_0"}}), 503, {"permissions"});
}

TEST_P(LoggingTest, RendersTheHostsErrors) {
    const Instance plugin(host_, *annal_module_v1()->components[0]);
    const auto render = [&](std::string_view title, std::string_view detail) {
        annal_problem problem{};
        problem.struct_size = sizeof(problem);
        problem.status = 403;
        problem.code = annal::to_str("insufficient_scope");
        problem.title = annal::to_str(title);
        problem.detail = detail.empty() ? annal::kNull : annal::to_str(detail);
        annal::test::TextWriter text;
        const annal_writer writer = text.writer();
        const auto& table = plugin.table<annal_http_v1>();
        EXPECT_EQ(
            annal::view(table.render_problem(plugin.self(), &problem, &writer)), "application/json"
        );
        return text.text;
    };
    EXPECT_EQ(render("Forbidden", "say \"please\""), R"({"detail":"say \"please\""})");
    EXPECT_EQ(render("No", ""), R"({"detail":"No"})");
    EXPECT_EQ(render("", ""), R"({"detail":"Forbidden"})");
}

TEST_P(LoggingTest, SaysWhichTriggersItHas) {
    expect_refused(ask("liste"), 500, {"liste", "list, filters, get, delete"});
}

TEST(LoggingCreate, NamesTheServiceThatIsMissing) {
    for (const char* service : {ANNAL_SERVICE_STORE, ANNAL_SERVICE_CODEC}) {
        MiniHost host;
        host.withheld = {service};
        const Instance plugin(host, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_UNAVAILABLE);
        EXPECT_NE(plugin.error().find(service), std::string::npos);
    }
}

}  // namespace
