#include <gtest/gtest.h>

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

constexpr std::size_t kMessageBytesMax = 64'000, kPayloadBytesMax = 1'000'000;
const std::string kKey = "ZaVnC4dhaV3xBo8kLm9qRtSecret";
const std::string kPath = "/receiver/v1/http/" + kKey + "==";
const std::string kUrl = "https://endpoint4.collection.sumologic.com" + kPath;

/// The host answers at once, and later on a thread of its own.
class SumoLogicTest : public testing::TestWithParam<bool> {
protected:
    SumoLogicTest() {
        host.answer = [this](const auto&) { return answer; };
    }
    std::unique_ptr<Instance> open(const std::string& more = "") {
        return std::make_unique<Instance>(
            host, *annal_module_v1()->components[0], R"({"url":")" + kUrl + "\"" + more + "}"
        );
    }
    static const annal_sink_v1& table(const Instance& sink) { return sink.table<annal_sink_v1>(); }
    static Encoded encode(const Instance& sink, const std::vector<StoredEvent>& events) {
        const RawBatch batch(events);
        return annal::test::encode(table(sink), sink.self(), batch.get());
    }
    SinkReply deliver(const Instance& sink, std::int64_t deadline_us = INT64_MAX) {
        const auto list = events(3);
        const RawBatch batch(list);
        const Encoded encoded = annal::test::encode(table(sink), sink.self(), batch.get());
        EXPECT_EQ(encoded.status, ANNAL_OK) << encoded.error;
        payload = encoded.bytes;
        return annal::test::deliver(
            host, table(sink), sink.self(), batch.get(), encoded, "aud_1", deadline_us
        );
    }
    static std::vector<StoredEvent> events(std::size_t count) {
        std::vector<StoredEvent> out(count);
        for (std::size_t i = 0; i < count; ++i) {
            out[i].seq = static_cast<std::int64_t>(i);
            out[i].id = "evt_" + std::to_string(i);
            out[i].project = "proj_1";
            out[i].created_at_us = 1'779'999'999'007'999 + static_cast<std::int64_t>(i) * 1'000;
            out[i].set("action", "user.signin").set("target_id", "usr_9");
        }
        return out;
    }
    static void pad(StoredEvent& event, std::size_t bytes) {
        const std::string before = R"({"p":""})";
        event.set("metadata", R"({"p":")" + std::string(bytes + 2 - before.size(), 'x') + R"("})");
    }

    MiniHost::Answer answer{200, "", {}, ANNAL_OK, ""};
    MiniHost host{GetParam()};
    std::string payload;
};

TEST_P(SumoLogicTest, EncodesOneLineForEachEvent) {
    auto list = events(2);
    list[0].set("metadata", R"({"timestamp":"1999-01-01T00:00:00Z","t":"a\nb"})");
    list[1].deleted = true;
    const Encoded got = encode(*open(), list);
    ASSERT_EQ(got.status, ANNAL_OK) << got.error;
    const std::string first =
        R"({"timestamp":"2026-05-28T20:26:39.007Z","event_id":"evt_0","seq":0,"audit":{"id":"evt_0",)"
        R"("action":"user.signin","created_at":"2026-05-28T20:26:39.007999Z","project_id":"proj_1",)"
        R"("target_id":"usr_9","metadata":{"timestamp":"1999-01-01T00:00:00Z","t":"a\nb"},"seq":0}})"
        "\n";
    const std::string second =
        R"({"timestamp":"2026-05-28T20:26:39.008Z","event_id":"evt_1","seq":1,"audit":{"id":"evt_1",)"
        R"("seq":1,"deleted":true}})"
        "\n";
    EXPECT_EQ(got.bytes, first + second);
    EXPECT_EQ(got.ends, (std::vector<std::uint64_t>{first.size(), first.size() + second.size()}));
}

TEST_P(SumoLogicTest, RefusesAMessageThatSumoWouldCut) {
    auto list = events(1);
    const std::size_t bare = encode(*open(), list).bytes.size();
    pad(list[0], kMessageBytesMax - bare);
    const Encoded fits = encode(*open(), list);
    EXPECT_EQ(fits.status, ANNAL_OK) << fits.error;
    EXPECT_EQ(fits.bytes.size(), kMessageBytesMax);
    pad(list[0], kMessageBytesMax - bare + 1);
    const Encoded over = encode(*open(), list);
    EXPECT_EQ(over.status, ANNAL_TOO_LARGE);
    EXPECT_EQ(
        over.error, "the event evt_0 has 64001 bytes in the destination's form, which takes 64000"
    );
    EXPECT_EQ(encode(*open(R"(,"allow_sliced":true)"), list).status, ANNAL_OK);
}

TEST_P(SumoLogicTest, RefusesAPayloadOfMoreThanAMegabyte) {
    auto sink = open();
    auto list = events(20);
    for (auto& event : list) pad(event, 49'000);
    const std::size_t bare = encode(*sink, list).bytes.size();
    ASSERT_LT(bare, kPayloadBytesMax);
    pad(list[19], 49'000 + 8'000);
    pad(list[18], 49'000 + kPayloadBytesMax - bare - 8'000);
    const Encoded fits = encode(*sink, list);
    EXPECT_EQ(fits.status, ANNAL_OK) << fits.error;
    EXPECT_EQ(fits.bytes.size(), kPayloadBytesMax);
    pad(list[19], 49'000 + 8'001);
    const Encoded over = encode(*sink, list);
    EXPECT_EQ(over.status, ANNAL_TOO_LARGE);
    EXPECT_EQ(
        over.error, "the batch has 1000001 bytes in the destination's form, which takes 1000000"
    );
}

TEST_P(SumoLogicTest, SendsTheSameBytesEachTime) {
    auto sink = open();
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host.fetched.size(), 2U);
    const auto& sent = host.fetched[0];
    EXPECT_EQ(sent.method, "POST");
    EXPECT_EQ(sent.url, kUrl);
    EXPECT_EQ(
        sent.headers,
        (std::map<std::string, std::string>{
            {"Content-Encoding", "gzip"},
            {"Content-Type", "application/json"},
            {"X-Sumo-Client", "annal"}})
    );
    EXPECT_EQ(gunzip(sent.body), payload);
    EXPECT_EQ(sent.body, host.fetched[1].body);
}

TEST_P(SumoLogicTest, SaysWhoseTheMessagesAre) {
    auto sink = open(
        R"(,"name":"n","host":"h","category":"audit/annal","fields":["env=prod","team=a b"],"gzip":false)"
    );
    EXPECT_EQ(deliver(*sink, in_ms(2'000)).verdict, ANNAL_DELIVERED);
    const auto& sent = host.fetched.at(0);
    EXPECT_EQ(sent.headers.at("X-Sumo-Name"), "n");
    EXPECT_EQ(sent.headers.at("X-Sumo-Host"), "h");
    EXPECT_EQ(sent.headers.at("X-Sumo-Category"), "audit/annal");
    EXPECT_EQ(sent.headers.at("X-Sumo-Fields"), "env=prod,team=a b");
    EXPECT_EQ(sent.body, payload);
    EXPECT_LE(sent.timeout_ms, 1'900U);
}

TEST_P(SumoLogicTest, JudgesAnswers) {
    auto sink = open();
    const auto verdict = [&](std::uint32_t status) {
        answer.status = status;
        return deliver(*sink).verdict;
    };
    EXPECT_EQ(verdict(200), ANNAL_DELIVERED);
    for (const std::uint32_t status : {201U, 202U, 204U}) EXPECT_EQ(verdict(status), ANNAL_RETRY);
    for (const std::uint32_t status : {400U, 413U}) EXPECT_EQ(verdict(status), ANNAL_REJECT);
    for (const std::uint32_t status : {401U, 403U, 404U, 301U})
        EXPECT_EQ(verdict(status), ANNAL_PAUSE);
    for (const std::uint32_t status : {408U, 429U, 500U, 503U, 504U})
        EXPECT_EQ(verdict(status), ANNAL_RETRY);
    answer.error = ANNAL_UNAVAILABLE;
    EXPECT_EQ(verdict(0), ANNAL_RETRY);
}

TEST_P(SumoLogicTest, HandsRetryAfterOn) {
    auto sink = open();
    answer.status = 429;
    answer.headers = {{"retry-after", "7"}};
    EXPECT_EQ(deliver(*sink).retry_after_ms, 7'000U);
    answer.headers = {
        {"retry-after", "Thu, 28 May 2026 20:27:10 GMT"}};  // 30 s after the host's clock
    EXPECT_EQ(deliver(*sink).retry_after_ms, 30'000U);
}

TEST_P(SumoLogicTest, NeverSaysItsUrl) {
    auto sink = open();
    const auto expect_silence = [&](const char* also) {
        const SinkReply reply = deliver(*sink);
        EXPECT_EQ(reply.text.find(kKey.substr(0, 8)), std::string::npos) << reply.text;
        EXPECT_NE(reply.text.find(also), std::string::npos) << reply.text;
    };
    answer = {401, "no such source: " + kUrl, {}, ANNAL_OK, ""};
    expect_silence("no such source: https://endpoint4.collection.sumologic.com[secret]");
    answer = {401, "no such source: " + kKey + "%3D%3D", {}, ANNAL_OK, ""};
    expect_silence("no such source: [secret]%3D%3D");
    answer = {302, "", {{"location", "https://elsewhere.example" + kPath}}, ANNAL_OK, ""};
    expect_silence("302 to https://elsewhere.example[secret]");
    // Where what is said of an answer ends, half of the key may not stand either.
    answer = {500, std::string(185, '.') + kUrl, {}, ANNAL_OK, ""};
    expect_silence("...https://endpoin");
    answer = {500, std::string(150, '.') + kUrl, {}, ANNAL_OK, ""};
    expect_silence("500");
    answer = {204, kUrl, {}, ANNAL_OK, ""};
    expect_silence("204");
    answer = {0, "", {}, ANNAL_UNAVAILABLE, "no route to " + kUrl};
    expect_silence("no route to https://endpoint4.collection.sumologic.com[secret]");
    EXPECT_TRUE(host.logs.empty());
}

TEST_P(SumoLogicTest, RefusesConfigurationsThatCantWork) {
    EXPECT_EQ(open()->status(), ANNAL_OK) << open()->error();
    for (const char* field : {"novalue", "=v", "k=", "a=b=c", "a=b,c=d", "a=b\\n"}) {
        const auto sink = open(R"(,"fields":[")" + std::string(field) + "\"]");
        EXPECT_NE(sink->error().find("must be key=value"), std::string::npos) << field;
        EXPECT_EQ(sink->error().find(kKey), std::string::npos);
    }
    const auto fields = [](int count) {
        std::string list;
        for (int i = 0; i < count; ++i) list += std::string(i > 0 ? "," : "") + R"("a=b")";
        return ",\"fields\":[" + list + "]";
    };
    EXPECT_EQ(open(fields(30))->status(), ANNAL_OK);
    EXPECT_EQ(open(fields(31))->error(), "fields: Sumo Logic takes at most 30");
    EXPECT_NE(open(R"(,"category":"a\u000ab")")->status(), ANNAL_OK);
    const Instance bare(host, *annal_module_v1()->components[0], "{}");
    EXPECT_EQ(bare.error(), "configuration: /url: missing");
    EXPECT_EQ(table(bare).probe, nullptr);
    host.withheld = {ANNAL_SERVICE_CODEC};
    EXPECT_EQ(open()->status(), ANNAL_UNAVAILABLE);
}

INSTANTIATE_TEST_SUITE_P(AtOnceAndLater, SumoLogicTest, testing::Bool());

}  // namespace
