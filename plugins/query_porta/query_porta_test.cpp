#include <gtest/gtest.h>

#include "parameters.h"
#include "problem_words.h"
#include "tests/support/mini_host.h"
#include "tests/support/parsed_json.h"

namespace {

using annal::Json;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::parse;
using annal::test::Reply;
using annal::test::RequestSpec;
using annal::test::StoredEvent;
using Query = std::vector<std::pair<std::string, std::string>>;
using Rows = std::vector<std::string>;

constexpr std::int64_t kSampleTime = 1'705'314'600'000'000;  // 2024-01-15T10:30:00Z

class PortaTest : public testing::TestWithParam<bool> {
protected:
    Reply ask(Query query = {}, const std::string& trigger = "list") {
        const Instance plugin(host_, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_OK) << plugin.error();
        RequestSpec spec;
        spec.path = "/api/admin/audit";
        spec.trigger = trigger;
        spec.query = std::move(query);
        const Reply reply = host_.request(plugin.table<annal_http_v1>(), plugin.self(), spec);
        EXPECT_FALSE(reply.error);
        EXPECT_TRUE(reply.finished);
        EXPECT_EQ(reply.headers.at("content-type"), "application/json");
        return reply;
    }

    /// Appends `count` events whose entityId is their seq.
    void add(std::size_t count, const std::string& action = "user.updated") {
        for (std::size_t i = 0; i < count; ++i) {
            add_one(action);
        }
    }
    StoredEvent& add_one(const std::string& action = "user.updated") {
        StoredEvent event;
        event.seq = static_cast<std::int64_t>(host_.events.size());
        event.created_at_us = kSampleTime + event.seq * 1'000'000;
        const std::string number = std::to_string(event.seq);
        event.id = "evt_" + std::string(26 - number.size(), '0') + number;
        event.project = "proj_1";
        event.set("action", action).set("target_id", number).set("metadata", "{}");
        return host_.events.emplace_back(std::move(event));
    }

    static Rows entities(const Reply& reply) {
        EXPECT_EQ(reply.status, 200U) << reply.body;
        const Json json = parse(reply.body);
        Rows out;
        for (const Json& event : json.find("data")->items()) {
            out.push_back(event.find("entityId")->string());
        }
        return out;
    }
    /// total, page, pageSize, totalPages
    static std::vector<std::int64_t> pagination(const Reply& reply) {
        EXPECT_EQ(reply.status, 200U) << reply.body;
        const Json json = parse(reply.body);
        std::vector<std::int64_t> out;
        for (const auto& [name, value] : json.find("pagination")->members()) {
            out.push_back(value.integer());
        }
        return out;
    }
    static void expect_error(
        const Reply& reply,
        std::uint32_t status,
        const std::string& error,
        const std::string& phrase = ""
    ) {
        EXPECT_EQ(reply.status, status) << reply.body;
        const Json json = parse(reply.body);
        ASSERT_EQ(json.members().size(), 3U) << reply.body;
        EXPECT_EQ(json.members()[0].first, "error");
        EXPECT_EQ(json.members()[1].first, "message");
        EXPECT_EQ(json.members()[2].first, "statusCode");
        EXPECT_EQ(json.find("error")->string(), error) << reply.body;
        EXPECT_EQ(json.find("statusCode")->integer(), status);
        EXPECT_FALSE(json.find("message")->string().empty());
        EXPECT_NE(json.find("message")->string().find(phrase), std::string::npos) << reply.body;
    }

    MiniHost host_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Hosts, PortaTest, testing::Bool());

// --- The answer

TEST_P(PortaTest, AnswersInTheFormOfTheDocumentation) {
    StoredEvent& event = add_one("organization.created");
    event.id = "evt_01KRKWQQW9EFKR28T5CY4TQKFF";
    event.set("target_type", "organization")
        .set("target_id", "org-uuid")
        .set("actor_id", "user-uuid")
        .set("actor_email", "admin@example.com")
        .set("organization_id", "org-uuid")
        .set("metadata", R"({"name":"Acme Corp","slug":"acme-corp"})");
    EXPECT_EQ(
        ask().body,
        R"({"data":[{"id":"019e27cb-df89-73e7-8123-456789abcdef","action":"organization.created",)"
        R"("entityType":"organization","entityId":"org-uuid","actorId":"user-uuid",)"
        R"("actorEmail":"admin@example.com","organizationId":"org-uuid",)"
        R"("metadata":{"name":"Acme Corp","slug":"acme-corp"},)"
        R"("createdAt":"2024-01-15T10:30:00.000Z"}],)"
        R"("pagination":{"total":1,"page":1,"pageSize":20,"totalPages":1}})"
    );
}

TEST_P(PortaTest, ShowsWhatIsNotSetAsNull) {
    StoredEvent& event = add_one();
    event.text.clear();
    event.set("action", "user.locked");
    EXPECT_TRUE(ask().body.starts_with(
        R"({"data":[{"id":"00000000-0000-0000-0000-000000000000","action":"user.locked",)"
        R"("entityType":null,"entityId":null,"actorId":null,"actorEmail":null,)"
        R"("organizationId":null,"metadata":{},"createdAt":")"
    ));
}

TEST_P(PortaTest, PassesMetadataOnAsItIs) {
    const std::string metadata = "{ \"b\" :1.50e0,\n\"a\":\"\\u00e9\",\"n\":{\"x\":[ ]} }";
    add_one().set("metadata", metadata);
    EXPECT_NE(ask().body.find("\"metadata\":" + metadata + ",\"createdAt\""), std::string::npos);
}

TEST_P(PortaTest, CutsTimesToMilliseconds) {
    add_one().created_at_us = kSampleTime + 123'999;
    add_one().created_at_us = kSampleTime + 999'999;
    const std::string body = ask().body;
    EXPECT_NE(body.find(R"("createdAt":"2024-01-15T10:30:00.123Z")"), std::string::npos) << body;
    EXPECT_NE(body.find(R"("createdAt":"2024-01-15T10:30:00.999Z")"), std::string::npos) << body;
}

TEST_P(PortaTest, FailsRatherThanShowAnIdThatIsNoUuid) {
    add_one().id = "evt_1";
    expect_error(ask(), 500, "InternalServerError", "UUID");
}

// --- Pages

TEST_P(PortaTest, NumbersItsPages) {
    add(45);
    const Reply first = ask();
    EXPECT_EQ(entities(first).size(), 20U);
    EXPECT_EQ(entities(first).front(), "44");
    EXPECT_EQ(pagination(first), (std::vector<std::int64_t>{45, 1, 20, 3}));
    EXPECT_EQ(host_.last_skip, 0);

    const Reply second = ask({{"page", "2"}});
    EXPECT_EQ(entities(second).front(), "24");
    EXPECT_EQ(host_.last_skip, 20);

    const Reply last = ask({{"page", "3"}});
    EXPECT_EQ(entities(last), (Rows{"4", "3", "2", "1", "0"}));
    EXPECT_EQ(pagination(last), (std::vector<std::int64_t>{45, 3, 20, 3}));
    EXPECT_EQ(host_.last_skip, 40);

    const Reply past = ask({{"page", "4"}});
    EXPECT_EQ(
        past.body, R"({"data":[],"pagination":{"total":45,"page":4,"pageSize":20,"totalPages":3}})"
    );
    EXPECT_EQ(first.headers.count("Annal-Total"), 0U);
}

TEST_P(PortaTest, FillsItsPagesExactly) {
    add(40);
    EXPECT_EQ(pagination(ask()), (std::vector<std::int64_t>{40, 1, 20, 2}));
    EXPECT_EQ(entities(ask({{"page", "2"}})).size(), 20U);
    EXPECT_TRUE(entities(ask({{"page", "3"}})).empty());
}

TEST_P(PortaTest, HoldsPagesToAHundred) {
    add(150);
    const std::pair<const char*, std::size_t> sizes[] = {
        {"1", 1},
        {"7", 7},
        {"007", 7},
        {"100", 100},
        {"101", 100},
        {"9223372036854775807", 100},
        {"9223372036854775808", 100},
        {"99999999999999999999999999", 100}};
    for (const auto& [text, size] : sizes) {
        const Reply reply = ask({{"pageSize", text}});
        EXPECT_EQ(entities(reply).size(), size) << text;
        EXPECT_EQ(pagination(reply)[2], static_cast<std::int64_t>(size)) << text;
    }
    EXPECT_EQ(pagination(ask({{"pageSize", "101"}})), (std::vector<std::int64_t>{150, 1, 100, 2}));
}

TEST_P(PortaTest, AnEmptyListHasNoPages) {
    EXPECT_EQ(
        ask().body, R"({"data":[],"pagination":{"total":0,"page":1,"pageSize":20,"totalPages":0}})"
    );
    add(3);
    EXPECT_EQ(
        ask({{"action", "none.such"}, {"page", "2"}, {"pageSize", "5"}}).body,
        R"({"data":[],"pagination":{"total":0,"page":2,"pageSize":5,"totalPages":0}})"
    );
}

TEST_P(PortaTest, TakesPageNumbersUpToTheLargest) {
    add(3);
    const std::string largest = std::to_string(porta::kPageMax);
    const Reply reply = ask({{"page", largest}, {"pageSize", "100"}, {"actor_id", "nobody"}});
    EXPECT_TRUE(entities(reply).empty());
    EXPECT_EQ(pagination(reply)[1], porta::kPageMax);
    host_.count_at_least = true;
    EXPECT_TRUE(entities(ask({{"page", largest}, {"pageSize", "100"}})).empty());
    EXPECT_EQ(host_.last_skip, (porta::kPageMax - 1) * 100);
    EXPECT_GT(host_.last_skip, 0);
}

TEST_P(PortaTest, SaysWhichPageLiesTooDeep) {
    add(3);
    host_.count_at_least = true;
    int call = 0;
    host_.refuse_store = [&] { return call++ == 0 ? ANNAL_OK : ANNAL_TOO_LARGE; };
    const Reply reply = ask({{"page", "1002"}, {"pageSize", "100"}, {"actor_id", "x"}});
    expect_error(reply, 400, "BadRequest", "page 1002 of pageSize 100");
    EXPECT_NE(reply.body.find("100000"), std::string::npos);
}

TEST_P(PortaTest, MarksATotalThatIsALowerBound) {
    add(45);
    host_.count_at_least = true;
    const Reply reply = ask({{"page", "2"}});
    EXPECT_EQ(reply.headers.at("Annal-Total"), "at-least");
    EXPECT_EQ(entities(reply).size(), 20U);
    EXPECT_EQ(pagination(reply), (std::vector<std::int64_t>{45, 2, 20, 3}));
}

// --- Reads that end early

TEST_P(PortaTest, GoesOnUntilThePageIsFull) {
    for (int i = 0; i < 10; ++i) {
        add_one("rare.event");
        add(6);
    }
    for (const bool at_least : {false, true}) {
        host_.count_at_least = at_least;
        for (const std::uint32_t budget : {1U, 7U, 11U}) {
            host_.scan_budget_rows = budget;
            const Reply reply = ask({{"action", "rare.event"}, {"pageSize", "4"}});
            EXPECT_EQ(entities(reply), (Rows{"63", "56", "49", "42"})) << budget;
            EXPECT_EQ(pagination(reply), (std::vector<std::int64_t>{10, 1, 4, 3}));
        }
        host_.scan_budget_rows = 11;
        EXPECT_EQ(entities(ask({{"action", "rare.event"}, {"pageSize", "20"}})).size(), 10U);
    }
    host_.scan_budget_rows = 30;  // enough to pass over the first page, not to fill the second
    EXPECT_EQ(
        entities(ask({{"action", "rare.event"}, {"pageSize", "4"}, {"page", "2"}})),
        (Rows{"35", "28", "21", "14"})
    );
}

TEST_P(PortaTest, FailsWhenTheSearchDoesNotMoveOn) {
    add(3);
    host_.scan_budget_rows = 0;
    expect_error(ask(), 503, "ServiceUnavailable", "narrow the list");
}

TEST_P(PortaTest, ShowsNoTombstones) {
    add(5);
    host_.events[2].deleted = true;
    const Reply reply = ask({{"pageSize", "3"}});
    EXPECT_EQ(entities(reply), (Rows{"4", "3", "1"}));
    EXPECT_EQ(pagination(reply), (std::vector<std::int64_t>{4, 1, 3, 2}));
}

// --- Filters

TEST_P(PortaTest, TurnsEachParameterIntoItsTerm) {
    struct Case {
        const char* name;
        std::string value;
        std::uint32_t field, op;
    };
    const Case cases[] = {
        {"action", "user.created", ANNAL_FIELD_ACTION, ANNAL_OP_EQ},
        {"entity_type", "organization", ANNAL_FIELD_TARGET_TYPE, ANNAL_OP_EQ},
        {"entity_id", "any text, even *", ANNAL_FIELD_TARGET_ID, ANNAL_OP_EQ},
        {"actor_id", std::string(1024, 'x'), ANNAL_FIELD_ACTOR_ID, ANNAL_OP_EQ},
        {"organization_id", "ORG-1", ANNAL_FIELD_ORGANIZATION_ID, ANNAL_OP_EQ},
        {"from", "1970-01-01T00:00:01.000Z", ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM},
        {"to", "1970-01-01T00:00:01Z", ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE},
    };
    host_.count_at_least = true;  // so that the store is asked for rows
    Query all;
    for (const Case& c : cases) {
        ASSERT_EQ(ask({{c.name, c.value}}).status, 200U) << c.name;
        ASSERT_EQ(host_.last_terms.size(), 1U) << c.name;
        const annal_term& term = host_.last_terms[0];
        EXPECT_EQ(term.field, c.field) << c.name;
        EXPECT_EQ(term.op, c.op) << c.name;
        if (c.op == ANNAL_OP_EQ) {
            EXPECT_EQ(term.text.len, c.value.size()) << c.name;
        } else {
            EXPECT_EQ(term.time_us, 1'000'000) << c.name;
        }
        all.emplace_back(c.name, c.value);
    }
    EXPECT_EQ(ask(all).status, 200U);
    EXPECT_EQ(host_.last_terms.size(), std::size(cases));
}

TEST_P(PortaTest, FiltersRowsAndTotalAlike) {
    add(3, "user.created");
    add(2, "user.role_assigned");
    add(4, "role.created");
    const Reply reply = ask({{"action", "user.*"}, {"pageSize", "2"}});
    EXPECT_EQ(entities(reply), (Rows{"4", "3"}));
    EXPECT_EQ(pagination(reply), (std::vector<std::int64_t>{5, 1, 2, 3}));
    EXPECT_EQ(pagination(ask({{"action", "user.created"}}))[0], 3);
    EXPECT_EQ(pagination(ask({{"action", "*"}}))[0], 9);
    EXPECT_EQ(entities(ask({{"action", "user.*"}, {"entity_id", "1"}})), Rows{"1"});
    EXPECT_TRUE(entities(ask({{"action", "role.*"}, {"entity_id", "1"}})).empty());
}

TEST_P(PortaTest, TheBeginningIsInTheEndIsNot) {
    add(5);
    EXPECT_EQ(
        entities(ask({{"from", "2024-01-15T10:30:01.000Z"}, {"to", "2024-01-15T10:30:03.000Z"}})),
        (Rows{"2", "1"})
    );
    EXPECT_EQ(entities(ask({{"from", "2024-01-15T10:30:04.000001Z"}})), Rows{});
    EXPECT_EQ(entities(ask({{"to", "2024-01-15T10:30:00.000001Z"}})), Rows{"0"});
    EXPECT_TRUE(entities(ask({{"from", "2024-01-16T00:00:00Z"}, {"to", "2024-01-14T00:00:00Z"}})
    ).empty());
}

TEST_P(PortaTest, ADateBeginsAtMidnight) {
    add(1);
    ASSERT_EQ(ask({{"from", "2024-01-15"}}).status, 200U);
    EXPECT_EQ(host_.last_terms.at(0).time_us, 1'705'276'800'000'000);
    EXPECT_EQ(entities(ask({{"from", "2024-01-15"}, {"to", "2024-01-16"}})), Rows{"0"});
    EXPECT_TRUE(entities(ask({{"from", "2024-01-16"}})).empty());
    EXPECT_TRUE(entities(ask({{"to", "2024-01-15"}})).empty());
}

TEST_P(PortaTest, PassesOverWhatItDoesNotKnowAndWhatIsEmpty) {
    add(3);
    const Reply plain = ask();
    EXPECT_EQ(ask({{"sort", "asc"}, {"limit", "1"}, {"sort", "desc"}}).body, plain.body);
    for (const char* name :
         {"page",
          "pageSize",
          "action",
          "entity_type",
          "entity_id",
          "actor_id",
          "organization_id",
          "from",
          "to"}) {
        EXPECT_EQ(ask({{name, ""}}).body, plain.body) << name;
        EXPECT_EQ(ask({{name, "null"}}).body, plain.body) << name;
        EXPECT_TRUE(host_.last_terms.empty()) << name;
    }
}

// --- Errors

TEST_P(PortaTest, RefusesBadValuesByName) {
    const auto refused = [&](const char* name, const std::string& value) {
        const Reply reply = ask({{name, value}});
        const std::string phrase = "query parameter " + std::string(name) + " ";
        expect_error(reply, 400, "BadRequest", phrase);
    };
    for (const char* number :
         {"0", "-1", "-9223372036854775809", "+1", "1.0", "0x10", "abc", " 1", "1 ", "1,2"}) {
        refused("page", number);
        refused("pageSize", number);
    }
    refused("pageSize", "99999999999999999999x");
    for (const char* page : {"9007199254740992", "99999999999999999999"}) {
        refused("page", page);
    }
    for (const char* action :
         {"user.*,role.*",
          "user.created,user.updated",
          "user*",
          "*.created",
          "user.*.x",
          "**",
          ".*",
          "User.*",
          "user..*",
          "_a.*"}) {
        refused("action", action);
    }
    for (const char* name : {"action", "entity_type", "entity_id", "actor_id", "organization_id"}) {
        refused(name, std::string(1025, 'x'));
    }
    for (const char* name : {"from", "to"}) {
        for (const char* time :
             {"yesterday",
              "2024-01-15T10:30:00",
              "2024-01-15T10:30:00 02:00",
              "2024-1-15",
              "2024-01-1x",
              "1705314600000"}) {
            refused(name, time);
        }
    }
}

TEST_P(PortaTest, RefusesAParameterThatIsRepeated) {
    const Reply reply = ask({{"actor_id", "a"}, {"actor_id", "b"}});
    expect_error(reply, 400, "BadRequest", "actor_id is given more than once");
}

TEST_P(PortaTest, PassesOnWhatTheStoreSays) {
    struct Case {
        annal_status code;
        std::uint32_t status;
        const char* error;
    };
    const Case cases[] = {
        {ANNAL_INVALID, 400, "BadRequest"},
        {ANNAL_UNPROCESSABLE, 400, "BadRequest"},
        {ANNAL_BUSY, 429, "TooManyRequests"},
        {ANNAL_UNAVAILABLE, 503, "ServiceUnavailable"},
        {ANNAL_TIMEOUT, 503, "ServiceUnavailable"},
        {ANNAL_INTERNAL, 500, "InternalServerError"},
        {77, 500, "InternalServerError"}};
    add(1);
    for (const Case& c : cases) {
        host_.refuse_store = [&] { return c.code; };
        expect_error(ask(), c.status, c.error, "the store says no");
        int call = 0;  // the count goes well, the read does not
        host_.refuse_store = [&] { return call++ == 0 ? ANNAL_OK : c.code; };
        expect_error(ask(), c.status, c.error, "the store says no");
    }
}

TEST_P(PortaTest, SaysWhichTriggersItHas) {
    add(1);
    expect_error(ask({}, "lists"), 500, "InternalServerError", "this plugin knows list");
    EXPECT_NE(host_.logged("plugin.unknown_trigger"), nullptr);
}

TEST_P(PortaTest, RendersTheErrorsOfTheHost) {
    const Instance plugin(host_, *annal_module_v1()->components[0]);
    const auto& table = plugin.table<annal_http_v1>();
    const auto render = [&](std::uint32_t status, const char* title, const char* detail) {
        annal_problem problem{};
        problem.struct_size = sizeof(problem);
        problem.status = status;
        problem.title = title != nullptr ? annal::to_str(title) : annal::kNull;
        problem.detail = detail != nullptr ? annal::to_str(detail) : annal::kNull;
        annal::test::TextWriter out;
        const annal_writer writer = out.writer();
        EXPECT_EQ(
            annal::view(table.render_problem(plugin.self(), &problem, &writer)), "application/json"
        );
        return out.text;
    };
    EXPECT_EQ(
        render(404, "Not Found", "nothing is \"here\""),
        R"({"error":"NotFound","message":"nothing is \"here\"","statusCode":404})"
    );
    EXPECT_EQ(
        render(401, "Unauthorized", nullptr),
        R"({"error":"Unauthorized","message":"Unauthorized","statusCode":401})"
    );
    EXPECT_EQ(
        render(413, nullptr, nullptr),
        R"({"error":"PayloadTooLarge","message":"Content Too Large","statusCode":413})"
    );
}

TEST_P(PortaTest, ACleanupIsAnsweredAsTheDocumentShows) {
    host_.cleanup.cutoff_us = 1'745'193'600'000'000;
    const Reply reply = ask({}, "cleanup");
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(
        reply.body,
        R"({"deleted":1542,"retentionDays":365,"cutoffDate":"2025-04-21T00:00:00.000Z"})"
    );
}

TEST_P(PortaTest, ACleanupUnderLegalHoldIsAConflict) {
    host_.is_held = true;
    expect_error(ask({}, "cleanup"), 409, "Conflict", "legal hold");
}

TEST(PortaErrors, HaveAWordForEachStatus) {
    const std::pair<std::uint32_t, const char*> words[] = {
        {400, "BadRequest"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "NotFound"},
        {405, "MethodNotAllowed"},
        {408, "RequestTimeout"},
        {409, "Conflict"},
        {413, "PayloadTooLarge"},
        {415, "UnsupportedMediaType"},
        {418, "BadRequest"},
        {422, "UnprocessableEntity"},
        {429, "TooManyRequests"},
        {431, "RequestHeaderFieldsTooLarge"},
        {500, "InternalServerError"},
        {501, "InternalServerError"},
        {503, "ServiceUnavailable"}};
    for (const auto& [status, word] : words) {
        EXPECT_EQ(porta::error_word(status), word);
    }
}

TEST(PortaCreate, NamesTheServiceThatIsMissing) {
    for (const char* service : {ANNAL_SERVICE_STORE, ANNAL_SERVICE_CODEC}) {
        MiniHost host;
        host.withheld = {service};
        const Instance plugin(host, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_UNAVAILABLE);
        EXPECT_NE(plugin.error().find(service), std::string::npos);
    }
}

}  // namespace
