#include <gtest/gtest.h>

#include <annal/sdk/json.hpp>

#include "tests/support/mini_host.h"
#include "tests/support/parsed_json.h"

namespace {

using annal::Json;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::parse;
using annal::test::Reply;
using annal::test::RequestSpec;

constexpr const char* kOne = R"({"action":"auth.signin","actor":{"type":"user","id":"usr_1"}})";
constexpr const char* kBad = R"({"action":"auth.signin","colour":"red"})";

std::int64_t number(const Json& json, std::string_view name) {
    const Json* value = json.find(name);
    return value != nullptr ? value->integer() : -99;
}

class IngestTest : public testing::TestWithParam<bool> {
protected:
    Reply post(RequestSpec spec) {
        const Instance plugin(host_, *annal_module_v1()->components[0], config_);
        EXPECT_EQ(plugin.status(), ANNAL_OK) << plugin.error();
        spec.method = "POST";
        spec.path = "/v1/audit/events";
        spec.trigger = "ingest";
        const Reply reply = host_.request(plugin.table<annal_http_v1>(), plugin.self(), spec);
        EXPECT_FALSE(reply.error);
        EXPECT_TRUE(reply.finished);
        if (reply.status >= 400) {
            EXPECT_EQ(reply.headers.at("content-type"), "application/problem+json");
            EXPECT_EQ(number(parse(reply.body), "status"), reply.status);
            EXPECT_EQ(parse(reply.body).find("request_id")->string(), "req_1");
        }
        return reply;
    }
    Reply post_json(std::string body, RequestSpec spec = {}) {
        spec.headers.emplace_back("content-type", "application/json");
        spec.chunks = {std::move(body)};
        return post(std::move(spec));
    }
    Reply post_lines(const std::string& body, RequestSpec spec = {}, std::size_t piece = 50'000) {
        spec.headers.emplace_back("content-type", "application/x-ndjson");
        for (std::size_t at = 0; at < body.size(); at += piece)
            spec.chunks.push_back(body.substr(at, piece));
        return post(std::move(spec));
    }
    static RequestSpec with_header(const std::string& name, const std::string& value) {
        RequestSpec spec;
        spec.headers.emplace_back(name, value);
        return spec;
    }
    static RequestSpec with_query(const std::string& name, const std::string& value) {
        RequestSpec spec;
        spec.query.emplace_back(name, value);
        return spec;
    }
    static std::string lines(std::size_t count) {
        std::string out;
        for (std::size_t i = 0; i < count; ++i) out += std::string(kOne) + "\n";
        return out;
    }

    MiniHost host_{GetParam()};
    std::string config_ = "{}";
};
INSTANTIATE_TEST_SUITE_P(Hosts, IngestTest, testing::Bool());

TEST_P(IngestTest, StoresOneEvent) {
    const Reply reply = post_json(kOne);
    EXPECT_EQ(reply.status, 201U);
    EXPECT_EQ(reply.headers.at("content-type"), "application/json");
    EXPECT_EQ(reply.body, R"({"id":"evt_0","seq":0,"created_at":"2026-05-28T20:26:40.001000Z"})");
    ASSERT_EQ(host_.events.size(), 1U);
    EXPECT_EQ(host_.request_keys, std::vector<std::string>{"(null)"});
}

TEST_P(IngestTest, JoinsABodyThatArrivesInPieces) {
    RequestSpec spec;
    for (const char* c = kOne; *c != 0; ++c) spec.chunks.emplace_back(1, *c);
    EXPECT_EQ(post(spec).status, 201U);  // and without a content type it is JSON
    EXPECT_EQ(host_.events[0].text.at("actor_id"), "usr_1");
}

TEST_P(IngestTest, StoresABatchInOrder) {
    const Reply reply = post_json(R"({"events":[)" + std::string(kOne) + "," + kOne + "]}");
    EXPECT_EQ(reply.status, 201U);
    const Json answer = parse(reply.body);
    ASSERT_EQ(answer.find("data")->items().size(), 2U);
    EXPECT_EQ(number(answer.find("data")->items()[1], "seq"), 1);
    EXPECT_EQ(answer.find("data")->items()[0].find("replayed"), nullptr);
    EXPECT_EQ(answer.find("errors"), nullptr);
    EXPECT_EQ(host_.append_sizes, std::vector<std::size_t>{2});
}

TEST_P(IngestTest, StoresSmallNdjsonAsOneUnit) {
    const Reply reply = post_lines(lines(3) + "\n  \n" + kOne);
    EXPECT_EQ(reply.status, 201U);
    EXPECT_EQ(parse(reply.body).find("data")->items().size(), 4U);
    EXPECT_EQ(host_.append_sizes, std::vector<std::size_t>{4});
}

TEST_P(IngestTest, AnswersAReplayLikeTheFirstTime) {
    const Reply first = post_json(kOne, with_header("idempotency-key", "key 1"));
    const Reply again = post_json(kOne, with_header("idempotency-key", "key 1"));
    EXPECT_EQ(first.status, 201U);
    EXPECT_EQ(again.status, 200U);
    EXPECT_EQ(first.body, again.body);
    EXPECT_EQ(host_.request_keys, (std::vector<std::string>{"key 1", "key 1"}));
    EXPECT_EQ(host_.events.size(), 1U);
}

TEST_P(IngestTest, MarksReplaysWithinABatch) {
    const std::string keyed = R"({"action":"a.b","actor":{"type":"user"},"idempotency_key":"k"})";
    post_json(keyed);
    const Reply mixed = post_json(R"({"events":[)" + keyed + "," + kOne + "]}");
    EXPECT_EQ(mixed.status, 201U);
    const Json answer = parse(mixed.body);
    EXPECT_TRUE(answer.find("data")->items()[0].find("replayed")->boolean());
    EXPECT_EQ(answer.find("data")->items()[1].find("replayed"), nullptr);
    EXPECT_EQ(post_json(R"({"events":[)" + keyed + "]}").status, 200U);
}

TEST_P(IngestTest, RefusesBadIdempotencyKeys) {
    for (const std::string& key :
         {std::string(), std::string(257, 'x'), std::string("a\tb"), std::string("é")}) {
        const Reply reply = post_json(kOne, with_header("idempotency-key", key));
        EXPECT_EQ(reply.status, 400U);
        EXPECT_EQ(parse(reply.body).find("code")->string(), "invalid_idempotency_key");
    }
    EXPECT_EQ(post_json(kOne, with_header("idempotency-key", std::string(256, 'x'))).status, 201U);
}

TEST_P(IngestTest, RefusesOtherContentTypes) {
    for (const char* type : {"text/plain", "application/xml", "application/jsonx"}) {
        RequestSpec spec = with_header("content-type", type);
        spec.chunks = {kOne};
        EXPECT_EQ(post(spec).status, 415U) << type;
    }
    RequestSpec spec = with_header("content-type", " Application/JSON ; charset=utf-8");
    spec.chunks = {kOne};
    EXPECT_EQ(post(spec).status, 201U);
}

TEST_P(IngestTest, RefusesOtherParameters) {
    const Reply unknown = post_json(kOne, with_query("dry_run", "1"));
    EXPECT_EQ(unknown.status, 400U);
    EXPECT_NE(unknown.body.find("dry_run"), std::string::npos);
    for (const char* value : {"", "maybe", "TRUE"})
        EXPECT_EQ(post_json(kOne, with_query("partial", value)).status, 400U);
    RequestSpec twice = with_query("partial", "true");
    twice.query.emplace_back("partial", "true");
    EXPECT_EQ(post_json(kOne, twice).status, 400U);
    EXPECT_TRUE(host_.events.empty());
}

TEST_P(IngestTest, NamesThePlaceOfMalformedJson) {
    const Reply reply = post_json("{\"action\":\"a.b\",\n \"actor\":}");
    EXPECT_EQ(reply.status, 400U);
    EXPECT_NE(reply.body.find("at byte 26 (line 2, column 10)"), std::string::npos) << reply.body;
    EXPECT_EQ(number(parse(reply.body).find("errors")->items().at(0), "offset"), 26);
}

TEST_P(IngestTest, NamesEveryIssueAndStoresNothing) {
    const Reply reply =
        post_json(R"({"events":[)" + std::string(kOne) + "," + kBad + "," + kBad + "]}");
    EXPECT_EQ(reply.status, 422U);
    const Json problem = parse(reply.body);
    const auto& errors = problem.find("errors")->items();
    ASSERT_EQ(errors.size(), 4U);
    EXPECT_EQ(number(errors[0], "index"), 1);
    EXPECT_EQ(errors[0].find("code")->string(), "unknown_field");
    EXPECT_EQ(errors[1].find("pointer")->string(), "/actor");
    EXPECT_EQ(number(errors[3], "index"), 2);
    EXPECT_TRUE(host_.events.empty());
    EXPECT_TRUE(host_.append_sizes.empty());
}

TEST_P(IngestTest, StoresTheValidEventsOnRequest) {
    const Reply reply = post_json(
        R"({"events":[)" + std::string(kBad) + "," + kOne + "]}", with_query("partial", "true")
    );
    EXPECT_EQ(reply.status, 201U);
    const Json answer = parse(reply.body);
    EXPECT_EQ(number(answer.find("data")->items().at(0), "index"), 1);
    EXPECT_EQ(number(answer.find("errors")->items().at(0), "index"), 0);
    EXPECT_EQ(host_.events.size(), 1U);
    EXPECT_EQ(post_json(kBad, with_query("partial", "true")).status, 422U);
    EXPECT_EQ(post_json("{", with_query("partial", "true")).status, 400U);
    EXPECT_EQ(post_json(kBad, with_query("partial", "false")).status, 422U);
}

TEST_P(IngestTest, RefusesEmptyAndOversizedBatches) {
    const Reply empty = post_json(R"({"events":[]})");
    EXPECT_EQ(empty.status, 422U);
    EXPECT_NE(empty.body.find("empty_batch"), std::string::npos);
    EXPECT_EQ(post_lines("\n\n").status, 422U);
    EXPECT_EQ(post({}).status, 400U);
    std::string body = R"({"events":[)" + std::string(kOne);
    for (int i = 0; i < 10'000; ++i) body += std::string(",") + kOne;
    const Reply many = post_json(body + "]}");
    EXPECT_EQ(many.status, 413U);
    EXPECT_NE(many.body.find("10000 events"), std::string::npos);
    config_ = R"({"body_bytes_max":1024})";
    EXPECT_EQ(post_json(std::string(1024, ' ') + kOne).status, 413U);
    EXPECT_EQ(post_json(std::string(1024 - std::string(kOne).size(), ' ') + kOne).status, 201U);
}

TEST_P(IngestTest, ReportsABodyThatCannotBeRead) {
    RequestSpec spec;
    spec.read_end = ANNAL_TOO_LARGE;
    EXPECT_EQ(post_json(kOne, spec).status, 413U);
    spec.read_end = ANNAL_INVALID;
    EXPECT_EQ(post_json(kOne, spec).status, 400U);
    EXPECT_TRUE(host_.events.empty());
}

TEST_P(IngestTest, PassesOnWhatTheBusSays) {
    const std::pair<annal_status, std::uint32_t> cases[] = {
        {ANNAL_UNPROCESSABLE, 422},
        {ANNAL_CONFLICT, 409},
        {ANNAL_BUSY, 429},
        {ANNAL_UNAVAILABLE, 503},
        {ANNAL_TIMEOUT, 503}};
    host_.retry_after_ms = 2'500;
    for (const auto& [code, status] : cases) {
        host_.refuse_append = [c = code](std::size_t) { return c; };
        const Reply reply = post_json(kOne);
        EXPECT_EQ(reply.status, status);
        EXPECT_EQ(reply.headers.at("retry-after"), "3");
        EXPECT_NE(reply.body.find("the bus says no"), std::string::npos);
    }
}

TEST_P(IngestTest, AnswersBeforeTheWriteWhenAskedTo) {
    const Reply reply =
        post_json(kOne, with_header("prefer", "return=minimal, Respond-Async; wait=5"));
    EXPECT_EQ(reply.status, 202U);
    EXPECT_EQ(reply.body, R"({"status":"accepted"})");
    EXPECT_EQ(reply.headers.at("preference-applied"), "respond-async");
    EXPECT_EQ(host_.events.size(), 1U);
    EXPECT_EQ(post_json(kBad, with_header("prefer", "respond-async")).status, 422U);
    EXPECT_EQ(post_json(kOne, with_header("prefer", "respond-asynchronously")).status, 201U);
    EXPECT_EQ(host_.metrics["annal_ingest_async_failures_total"], 0);
}

TEST_P(IngestTest, CountsAndLogsAsyncWritesThatFail) {
    host_.refuse_append = [](std::size_t) { return ANNAL_UNAVAILABLE; };
    EXPECT_EQ(post_json(kOne, with_header("prefer", "respond-async")).status, 202U);
    EXPECT_EQ(host_.metrics["annal_ingest_async_failures_total"], 1);
    const auto* line = host_.logged("ingest.async_write_failed");
    ASSERT_NE(line, nullptr);
    EXPECT_EQ(line->level, ANNAL_LOG_WARN);
    EXPECT_EQ(line->fields.at("request_id"), "req_1");
    EXPECT_EQ(line->fields.at("project"), "proj_1");
    EXPECT_EQ(line->fields.at("code"), "unavailable");
}

TEST_P(IngestTest, StoresLongNdjsonInChunks) {
    const Reply limit = post_lines(lines(10'000));
    EXPECT_EQ(limit.status, 201U);
    EXPECT_EQ(host_.append_sizes, std::vector<std::size_t>{10'000});
    host_.append_sizes.clear();
    host_.request_keys.clear();
    const Reply reply = post_lines("\n" + lines(12'345), with_header("idempotency-key", "big"));
    EXPECT_EQ(reply.status, 201U);
    const Json totals = parse(reply.body);
    EXPECT_EQ(number(totals, "last_durable_line"), 12'346);
    EXPECT_EQ(number(totals, "stored"), 12'345);
    EXPECT_EQ(number(totals, "first_seq"), 10'000);
    EXPECT_EQ(number(totals, "last_seq"), 22'344);
    ASSERT_EQ(host_.append_sizes.size(), 13U);
    EXPECT_EQ(host_.append_sizes.front(), 1'000U);
    EXPECT_EQ(host_.append_sizes.back(), 345U);
    EXPECT_EQ(host_.request_keys.front(), "big#1");
    EXPECT_EQ(host_.request_keys.back(), "big#13");
    const Reply again =
        post_lines("\n" + lines(12'345), with_header("idempotency-key", "big"), 777);
    EXPECT_EQ(again.status, 200U);
    EXPECT_EQ(number(parse(again.body), "replayed"), 12'345);
    EXPECT_EQ(host_.events.size(), 22'345U);
    EXPECT_EQ(
        post_lines(lines(10'001), with_header("idempotency-key", std::string(241, 'k'))).status,
        400U
    );
}

TEST_P(IngestTest, StoresMoreThan8MiBOfNdjsonInChunks) {
    const std::string big = R"({"action":"a.b","actor":{"type":"user"},"description":")" +
                            std::string(60'000, 'x') + "\"}\n";
    std::string body;
    for (int i = 0; i < 150; ++i) body += big;
    const Reply reply = post_lines(body, {}, 65'536);
    EXPECT_EQ(reply.status, 201U);
    EXPECT_EQ(number(parse(reply.body), "stored"), 150);
    EXPECT_GT(host_.append_sizes.size(), 1U);
    EXPECT_EQ(host_.events.back().text.at("description").size(), 60'000U);
}

TEST_P(IngestTest, SaysWhatIsDurableWhenAStreamBreaks) {
    const Reply invalid = post_lines(lines(11'200) + kBad + "\n" + lines(5));
    EXPECT_EQ(invalid.status, 422U);
    const Json problem = parse(invalid.body);
    EXPECT_EQ(number(problem, "last_durable_line"), 11'000);
    EXPECT_EQ(number(problem, "stored"), 11'000);
    EXPECT_EQ(number(problem.find("errors")->items().at(0), "index"), 11'200);
    EXPECT_EQ(number(problem.find("errors")->items().at(0), "line"), 11'201);
    EXPECT_EQ(host_.events.size(), 11'000U);

    host_.refuse_append = [](std::size_t append) {
        return append == 11 + 3 ? ANNAL_UNAVAILABLE : ANNAL_OK;
    };
    const Reply refused = post_lines(lines(11'000));
    EXPECT_EQ(refused.status, 503U);
    EXPECT_EQ(refused.headers.at("retry-after"), "1");
    EXPECT_EQ(number(parse(refused.body), "last_durable_line"), 3'000);
    host_.refuse_append = nullptr;

    RequestSpec cut;
    cut.read_end = ANNAL_TIMEOUT;
    const Reply late = post_lines(lines(10'500), cut);
    EXPECT_EQ(late.status, 503U);
    EXPECT_EQ(number(parse(late.body), "last_durable_line"), 10'000);
}

TEST_P(IngestTest, StreamsTheValidLinesOnRequest) {
    const Reply reply =
        post_lines(kBad + ("\n" + lines(10'500)) + kBad, with_query("partial", "true"));
    EXPECT_EQ(reply.status, 201U);
    const Json totals = parse(reply.body);
    EXPECT_EQ(number(totals, "stored"), 10'500);
    EXPECT_EQ(number(totals, "rejected"), 2);
    EXPECT_EQ(number(totals, "last_durable_line"), 10'502);
    EXPECT_EQ(number(totals.find("errors")->items().back(), "line"), 10'502);
    EXPECT_EQ(number(totals.find("errors")->items().back(), "index"), 10'501);
}

TEST_P(IngestTest, BoundsALineOfAStream) {
    config_ = R"({"body_bytes_max":100000})";
    const Reply reply = post_lines(lines(10'001) + "\"" + std::string(5'000'000, 'x'));
    EXPECT_EQ(reply.status, 413U);
    EXPECT_EQ(number(parse(reply.body), "last_durable_line"), 10'000);
}

TEST_P(IngestTest, GoesOnWhenTheClientDoesNot) {
    RequestSpec spec;
    spec.client_gone_at = 3;
    spec.chunks = {kOne};
    const Instance plugin(host_, *annal_module_v1()->components[0]);
    const Reply reply = host_.request(plugin.table<annal_http_v1>(), plugin.self(), spec);
    EXPECT_EQ(host_.events.size(), 1U);
    EXPECT_FALSE(reply.error);
}

TEST(IngestCreate, NamesTheServiceThatIsMissing) {
    for (const char* service : {ANNAL_SERVICE_BUS, ANNAL_SERVICE_CODEC}) {
        MiniHost host;
        host.withheld = {service};
        const Instance plugin(host, *annal_module_v1()->components[0]);
        EXPECT_EQ(plugin.status(), ANNAL_UNAVAILABLE);
        EXPECT_NE(plugin.error().find(service), std::string::npos);
    }
}

TEST(IngestCreate, WorksWithoutLogAndMetrics) {
    MiniHost host;
    host.withheld = {ANNAL_SERVICE_LOG, ANNAL_SERVICE_METRICS, ANNAL_SERVICE_CLOCK};
    const Instance plugin(host, *annal_module_v1()->components[0]);
    ASSERT_EQ(plugin.status(), ANNAL_OK);
    RequestSpec spec;
    spec.headers = {{"prefer", "respond-async"}};
    spec.chunks = {kOne};
    host.refuse_append = [](std::size_t) { return ANNAL_BUSY; };
    EXPECT_EQ(host.request(plugin.table<annal_http_v1>(), plugin.self(), spec).status, 202U);
}

TEST(IngestMemory, RefusesWhatTheCallCannotHold) {
    MiniHost host;
    host.arena_bytes_max = 600;
    const Instance plugin(host, *annal_module_v1()->components[0]);
    RequestSpec spec;
    spec.chunks = {std::string(700, ' ')};
    EXPECT_EQ(host.request(plugin.table<annal_http_v1>(), plugin.self(), spec).status, 413U);
}

}  // namespace
