#include <gtest/gtest.h>

#include <annal/sdk/json.hpp>

#include <memory>

#include "tests/support/gunzip.h"
#include "tests/support/mini_host.h"

namespace {

using annal::test::Encoded;
using annal::test::gunzip;
using annal::test::in_ms;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::SinkReply;
using annal::test::StoredEvent;

constexpr std::size_t kRecordBytesMax = 1'000'000, kPayloadBytesMax = 5'000'000;

/// The host answers at once, and later on a thread of its own.
class DatadogTest : public testing::TestWithParam<bool> {
protected:
    DatadogTest() {
        host.answer = [this](const auto&) { return answer; };
    }
    std::unique_ptr<Instance> open(const std::string& more = "") {
        return std::make_unique<Instance>(
            host, *annal_module_v1()->components[0], R"({"api_key":"k3y")" + more + "}"
        );
    }
    static const annal_sink_v1& table(const Instance& sink) { return sink.table<annal_sink_v1>(); }
    static Encoded encode(const Instance& sink, const std::vector<StoredEvent>& events) {
        const RawBatch batch(events);
        return annal::test::encode(table(sink), sink.self(), batch.get());
    }
    SinkReply deliver(
        const Instance& sink,
        const std::vector<StoredEvent>& events,
        std::int64_t deadline_us = INT64_MAX
    ) {
        const RawBatch batch(events);
        const Encoded encoded = annal::test::encode(table(sink), sink.self(), batch.get());
        EXPECT_EQ(encoded.status, ANNAL_OK) << encoded.error;
        payload = encoded.bytes;
        return annal::test::deliver(
            host, table(sink), sink.self(), batch.get(), encoded, "aud_1", deadline_us
        );
    }
    /// Events of a size that `fill_to` can be exact about.
    static std::vector<StoredEvent> events(std::size_t count) {
        std::vector<StoredEvent> out(count);
        for (std::size_t i = 0; i < count; ++i) {
            out[i].seq = static_cast<std::int64_t>(i);
            out[i].id = "evt_" + std::to_string(i);
            out[i].project = "proj_1";
            out[i].created_at_us = 1'779'999'999'123'456 + static_cast<std::int64_t>(i);
            out[i].set("action", "user.signin").set("target_id", "usr_9");
        }
        return out;
    }
    /// Makes the payload's part that belongs to `event` longer by `bytes`.
    static void pad(StoredEvent& event, std::size_t bytes) {
        const std::string before = R"({"p":""})";
        event.set("metadata", R"({"p":")" + std::string(bytes + 2 - before.size(), 'x') + R"("})");
    }

    MiniHost::Answer answer{202, "{}", {}, ANNAL_OK, ""};
    MiniHost host{GetParam()};
    std::string payload;
};

TEST_P(DatadogTest, EncodesOneLogForEachEvent) {
    auto list = events(3);
    list[0]
        .set("metadata", R"({"date":"1999-01-01","message":"x"})")
        .set("description", R"({"timestamp":0})");
    list[1].deleted = true;
    const Encoded got =
        encode(*open(R"(,"service":"auth","hostname":"h1","tags":["env:test","a:b"])"), list);
    ASSERT_EQ(got.status, ANNAL_OK) << got.error;
    const std::string head =
        R"({"ddsource":"annal","ddtags":"env:test,a:b","hostname":"h1","service":"auth","timestamp":1779999999123,)";
    const std::vector<std::string> parts{
        "[" + head +
            R"("message":"user.signin","event_id":"evt_0","seq":0,"project_id":"proj_1","recorded_at":"2026-05-28T20:26:39.123456Z",)"
            R"("audit":{"id":"evt_0","action":"user.signin","created_at":"2026-05-28T20:26:39.123456Z","project_id":"proj_1","target_id":"usr_9",)"
            R"("metadata":{"date":"1999-01-01","message":"x"},"seq":0}},)",
        head +
            R"("message":"erased","event_id":"evt_1","seq":1,"project_id":"proj_1","recorded_at":"2026-05-28T20:26:39.123457Z",)"
            R"("audit":{"id":"evt_1","seq":1,"deleted":true}},)",
        head +
            R"("message":"user.signin","event_id":"evt_2","seq":2,"project_id":"proj_1","recorded_at":"2026-05-28T20:26:39.123458Z",)"
            R"("audit":{"id":"evt_2","action":"user.signin","created_at":"2026-05-28T20:26:39.123458Z","project_id":"proj_1","target_id":"usr_9",)"
            R"("metadata":{},"seq":2}}])"};
    std::size_t begin = 0;
    ASSERT_EQ(got.ends.size(), parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
        EXPECT_EQ(got.bytes.substr(begin, got.ends[i] - begin), parts[i]);
        begin = got.ends[i];
    }
    EXPECT_EQ(begin, got.bytes.size());
}

TEST_P(DatadogTest, LeavesOutWhatIsNotConfigured) {
    const Encoded got = encode(*open(R"(,"service":"","source":"")"), events(1));
    EXPECT_TRUE(got.bytes.starts_with(R"([{"timestamp":1779999999123,"message":)")) << got.bytes;
    annal::Json json;
    annal::Json::Failure failure;
    EXPECT_TRUE(annal::Json::parse(got.bytes, json, failure)) << failure.text();
}

TEST_P(DatadogTest, RefusesARecordThatDatadogWouldCut) {
    auto sink = open();
    auto one = events(1);
    // The brackets around it count as its own.
    const std::size_t bare = encode(*sink, one).bytes.size();
    pad(one[0], kRecordBytesMax - bare);
    const Encoded fits = encode(*sink, one);
    EXPECT_EQ(fits.status, ANNAL_OK) << fits.error;
    EXPECT_EQ(fits.bytes.size(), kRecordBytesMax);
    pad(one[0], kRecordBytesMax - bare + 1);
    const Encoded over = encode(*sink, one);
    EXPECT_EQ(over.status, ANNAL_TOO_LARGE);
    EXPECT_EQ(
        over.error,
        "the event evt_0 has 1000001 bytes in the destination's form, which takes 1000000"
    );
}

TEST_P(DatadogTest, RefusesAPayloadOfMoreThanFiveMegabytes) {
    auto sink = open();
    auto list = events(6);
    for (auto& event : list) pad(event, 800'000);
    const std::size_t bare = encode(*sink, list).bytes.size();
    ASSERT_LT(bare, kPayloadBytesMax);
    pad(list[5], 800'000 + kPayloadBytesMax - bare);
    const Encoded fits = encode(*sink, list);
    EXPECT_EQ(fits.status, ANNAL_OK) << fits.error;
    EXPECT_EQ(fits.bytes.size(), kPayloadBytesMax);
    pad(list[5], 800'000 + kPayloadBytesMax - bare + 1);
    const Encoded over = encode(*sink, list);
    EXPECT_EQ(over.status, ANNAL_TOO_LARGE);
    EXPECT_EQ(
        over.error, "the batch has 5000001 bytes in the destination's form, which takes 5000000"
    );
}

TEST_P(DatadogTest, RefusesMoreThanAThousandRecords) {
    auto sink = open();
    EXPECT_EQ(encode(*sink, events(1000)).status, ANNAL_OK);
    const Encoded over = encode(*sink, events(1001));
    EXPECT_EQ(over.status, ANNAL_TOO_LARGE);
    EXPECT_EQ(over.error, "the batch has 1001 events in the destination's form, which takes 1000");
}

TEST_P(DatadogTest, SendsTheSameBytesEachTime) {
    auto sink = open(R"(,"site":"datadoghq.eu")");
    EXPECT_EQ(deliver(*sink, events(20)).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(deliver(*sink, events(20)).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host.fetched.size(), 2U);
    const auto& sent = host.fetched[0];
    EXPECT_EQ(sent.method, "POST");
    EXPECT_EQ(sent.url, "https://http-intake.logs.datadoghq.eu/api/v2/logs");
    EXPECT_EQ(
        sent.headers,
        (std::map<std::string, std::string>{
            {"Content-Encoding", "gzip"},
            {"Content-Type", "application/json"},
            {"DD-API-KEY", "k3y"}})
    );
    EXPECT_EQ(gunzip(sent.body), payload);
    EXPECT_EQ(sent.body, host.fetched[1].body);
    EXPECT_EQ(sent.timeout_ms, 60'000U);
}

TEST_P(DatadogTest, SendsPlainToAProxyWhenToldTo) {
    auto sink = open(R"(,"url":"http://127.0.0.1:9","gzip":false)");
    EXPECT_EQ(deliver(*sink, events(1), in_ms(2'000)).verdict, ANNAL_DELIVERED);
    const auto& sent = host.fetched.at(0);
    EXPECT_EQ(sent.url, "http://127.0.0.1:9/api/v2/logs");
    EXPECT_EQ(sent.body, payload);
    EXPECT_EQ(sent.headers.count("Content-Encoding"), 0U);
    EXPECT_LE(sent.timeout_ms, 1'900U);  // it leaves time to report
    EXPECT_GT(sent.timeout_ms, 1'000U);
}

TEST_P(DatadogTest, JudgesAnswers) {
    auto sink = open();
    const auto verdict = [&](std::uint32_t status) {
        answer.status = status;
        return deliver(*sink, events(1)).verdict;
    };
    EXPECT_EQ(verdict(202), ANNAL_DELIVERED);
    for (const std::uint32_t status : {400U, 413U}) EXPECT_EQ(verdict(status), ANNAL_REJECT);
    for (const std::uint32_t status : {401U, 403U, 404U, 307U})
        EXPECT_EQ(verdict(status), ANNAL_PAUSE);
    for (const std::uint32_t status : {408U, 429U, 500U, 503U})
        EXPECT_EQ(verdict(status), ANNAL_RETRY);
    answer.error = ANNAL_UNAVAILABLE;
    EXPECT_EQ(verdict(0), ANNAL_RETRY);
    answer.error = ANNAL_DENIED;
    EXPECT_EQ(verdict(0), ANNAL_PAUSE);
}

TEST_P(DatadogTest, HandsRetryAfterOn) {
    auto sink = open();
    answer.status = 429;
    answer.headers = {{"retry-after", "17"}};
    EXPECT_EQ(deliver(*sink, events(1)).retry_after_ms, 17'000U);
    answer.headers = {
        {"retry-after", "Thu, 28 May 2026 20:27:10 GMT"}};  // 30 s after the host's clock
    EXPECT_EQ(deliver(*sink, events(1)).retry_after_ms, 30'000U);
}

TEST_P(DatadogTest, WarnsOfLateEventsNowAndThen) {
    auto sink = open();
    constexpr std::int64_t kHour = 3'600'000'000;
    auto list = events(2);
    list[0].created_at_us = host.wall_us - 18 * kHour;
    deliver(*sink, list);
    EXPECT_EQ(host.logged("datadog.late_events"), nullptr);
    list[0].created_at_us -= 1;
    deliver(*sink, list);
    deliver(*sink, list);
    ASSERT_NE(host.logged("datadog.late_events"), nullptr);
    EXPECT_EQ(
        host.logged("datadog.late_events")->fields.at("oldest"), "2026-05-28T02:26:39.999999Z"
    );
    EXPECT_EQ(host.logs.size(), 1U);
    host.wall_us += kHour;
    deliver(*sink, list);
    EXPECT_EQ(host.logs.size(), 2U);
}

TEST_P(DatadogTest, ProbesWhetherTheKeyIsValid) {
    auto sink = open(R"(,"site":"us5.datadoghq.com")");
    answer.status = 200;
    EXPECT_FALSE(annal::test::probe(host, table(*sink), sink->self()).has_value());
    EXPECT_EQ(host.fetched.at(0).method, "GET");
    EXPECT_EQ(host.fetched.at(0).url, "https://api.us5.datadoghq.com/api/v1/validate");
    EXPECT_EQ(host.fetched.at(0).headers.at("DD-API-KEY"), "k3y");
    answer.status = 403;
    EXPECT_EQ(annal::test::probe(host, table(*sink), sink->self())->code, ANNAL_DENIED);
    answer.status = 503;
    EXPECT_EQ(annal::test::probe(host, table(*sink), sink->self())->code, ANNAL_UNAVAILABLE);
}

TEST_P(DatadogTest, RefusesConfigurationsThatCantWork) {
    EXPECT_EQ(open()->status(), ANNAL_OK) << open()->error();
    EXPECT_NE(
        open(R"(,"site":"example.com")")->error().find("/site: must be one of"), std::string::npos
    );
    EXPECT_NE(open(R"(,"tags":["a,b"])")->error().find("a comma"), std::string::npos);
    EXPECT_NE(open(R"(,"tags":[""])")->status(), ANNAL_OK);
    const Instance keyless(host, *annal_module_v1()->components[0], "{}");
    EXPECT_EQ(keyless.error(), "configuration: /api_key: missing");
    host.withheld = {ANNAL_SERVICE_CODEC};
    EXPECT_EQ(open()->status(), ANNAL_UNAVAILABLE);
    host.withheld = {ANNAL_SERVICE_HTTP_CLIENT};
    EXPECT_EQ(open()->status(), ANNAL_UNAVAILABLE);
    EXPECT_NE(
        std::string(annal_module_v1()->components[0]->config_schema).find(R"("x-secret":true)"),
        std::string::npos
    );
}

INSTANTIATE_TEST_SUITE_P(AtOnceAndLater, DatadogTest, testing::Bool());

}  // namespace
