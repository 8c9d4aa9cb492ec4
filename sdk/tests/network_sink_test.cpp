#include <gtest/gtest.h>

#include <annal/sdk.hpp>
#include <stdexcept>

#include "tests/support/mini_host.h"

namespace {

using annal::test::Encoded;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::SinkReply;

/// A sink all of whose calls are coroutines.
struct NetworkSink : annal::Sink {
    static constexpr auto kName = "network";
    std::string mode;
    static auto config() { return std::tuple{annal::optional("mode", &NetworkSink::mode, "")}; }

    annal::Task<annal::Outcome> send(const annal::Call& call, const annal::Delivery& delivery) {
        if (mode == "throw") throw std::runtime_error("no such luck");
        annal::ClientRequest request("POST", "https://in.example/events");
        request.body(delivery.payload()).header("Stream", delivery.stream());
        const annal::ClientResponse answer = co_await call.fetch(request);
        if (mode == "throw_late") throw std::runtime_error("too late");
        co_return annal::judge(answer, host().wall_us());
    }
    annal::Task<annal::Status> pause(const annal::Call& call) {
        for (int i = 0; i < 3; ++i) {
            const annal::Status slept = co_await call.sleep_ms(1'000);
            if (!slept.ok()) co_return slept;
        }
        co_return annal::Status();
    }
    annal::Task<annal::Position> position(const annal::Call& call, std::string_view stream) {
        if (mode == "throw") throw std::runtime_error("no such luck");
        const std::string url = "https://in.example/" + std::string(stream);
        const annal::ClientRequest request("GET", url);
        const annal::ClientResponse answer = co_await call.fetch(request);
        annal::Position found;
        found.status = annal::judge_probe(answer);
        if (found.status.ok()) found.seq = std::stoll(answer.body);
        co_return found;
    }
    annal::Task<annal::Status> probe(const annal::Call& call) {
        const annal::ClientRequest request("GET", "https://in.example/health");
        const annal::ClientResponse answer = co_await call.fetch(request);
        if (mode == "throw_late") throw std::runtime_error("too late");
        if (mode == "sleep") {
            annal::Status slept = co_await pause(call);
            co_return slept;
        }
        co_return annal::judge_probe(answer);
    }
};

const annal_component kNetwork{
    sizeof(annal_component),
    0,
    ANNAL_COMPONENT_SINK,
    "network",
    "{}",
    &annal::detail::ComponentTraits<NetworkSink>::kTable,
    nullptr};

/// Both ways in which the host can answer: at once, and later on a thread of its own.
class NetworkSinkTest : public testing::TestWithParam<bool> {
protected:
    NetworkSinkTest() {
        host.fill(2);
        host.answer = [this](const auto&) { return answer; };
    }
    SinkReply deliver(const std::string& mode = "") {
        Instance sink(host, kNetwork, R"({"mode":")" + mode + R"("})");
        const RawBatch batch(host.events);
        Encoded encoded;
        encoded.bytes = "two lines";
        return annal::test::deliver(
            host, sink.table<annal_sink_v1>(), sink.self(), batch.get(), encoded, "aud_7"
        );
    }
    MiniHost::Answer answer;
    MiniHost host{GetParam()};
};

TEST_P(NetworkSinkTest, ReportsWhatTheCoroutineReturns) {
    EXPECT_EQ(deliver().verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host.fetched.size(), 1U);
    EXPECT_EQ(host.fetched[0].body, "two lines");
    EXPECT_EQ(host.fetched[0].headers.at("Stream"), "aud_7");
    answer = {503, "", {{"retry-after", "7"}}, ANNAL_OK, ""};
    const SinkReply reply = deliver();
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_EQ(reply.retry_after_ms, 7'000U);
    EXPECT_EQ(reply.text, "the destination answered 503");
}

TEST_P(NetworkSinkTest, RetriesAfterAnExceptionBeforeAndAfterTheAnswer) {
    for (const char* mode : {"throw", "throw_late"}) {
        const SinkReply reply = deliver(mode);
        EXPECT_EQ(reply.verdict, ANNAL_RETRY) << mode;
        EXPECT_EQ(reply.reports, 1) << mode;
        EXPECT_NE(reply.text.find("the sink threw: "), std::string::npos) << reply.text;
    }
}

TEST_P(NetworkSinkTest, AsksForItsPosition) {
    answer.body = "41";
    Instance sink(host, kNetwork);
    const auto& table = sink.table<annal_sink_v1>();
    EXPECT_EQ(table.position, nullptr);
    const auto found = annal::test::find_position(host, table, sink.self(), "aud_7");
    EXPECT_EQ(found.seq, 41);
    EXPECT_FALSE(found.error.has_value());
    EXPECT_EQ(host.fetched[0].url, "https://in.example/aud_7");
    answer.status = 401;
    const auto denied = annal::test::find_position(host, table, sink.self());
    EXPECT_EQ(denied.seq, -1);
    ASSERT_TRUE(denied.error.has_value());
    EXPECT_EQ(denied.error->code, ANNAL_DENIED);
    Instance broken(host, kNetwork, R"({"mode":"throw"})");
    EXPECT_TRUE(annal::test::find_position(host, table, broken.self()).error.has_value());
}

TEST_P(NetworkSinkTest, Probes) {
    Instance sink(host, kNetwork);
    const auto& table = sink.table<annal_sink_v1>();
    EXPECT_FALSE(annal::test::probe(host, table, sink.self()).has_value());
    answer.status = 503;
    EXPECT_EQ(annal::test::probe(host, table, sink.self())->code, ANNAL_UNAVAILABLE);
    Instance broken(host, kNetwork, R"({"mode":"throw_late"})");
    EXPECT_EQ(annal::test::probe(host, table, broken.self())->code, ANNAL_INTERNAL);
}

TEST_P(NetworkSinkTest, SleepsWithoutAThread) {
    Instance sink(host, kNetwork, R"({"mode":"sleep"})");
    const auto& table = sink.table<annal_sink_v1>();
    EXPECT_FALSE(annal::test::probe(host, table, sink.self()).has_value());
    EXPECT_EQ(host.slept_ms, (std::vector<std::uint32_t>{1'000, 1'000, 1'000}));
    host.withhold_after = true;
    const auto error = annal::test::probe(host, table, sink.self());
    ASSERT_TRUE(error.has_value());
    EXPECT_EQ(error->code, ANNAL_UNAVAILABLE);
    EXPECT_NE(std::string(error->text).find("annal.clock/1 of ABI 1.1"), std::string::npos);
    EXPECT_EQ(host.slept_ms.size(), 3U);
}

INSTANTIATE_TEST_SUITE_P(AtOnceAndLater, NetworkSinkTest, testing::Bool());

annal::ClientResponse answered(std::uint32_t status) {
    annal::ClientResponse answer;
    answer.http_status = status;
    return answer;
}

TEST(Judge, SortsAnswersIntoThreeOutcomes) {
    const auto verdict = [](std::uint32_t status) {
        return annal::judge(answered(status), 0).verdict();
    };
    for (const std::uint32_t status : {200U, 201U, 202U, 204U})
        EXPECT_EQ(verdict(status), ANNAL_DELIVERED) << status;
    for (const std::uint32_t status : {408U, 425U, 429U, 500U, 502U, 503U, 504U, 599U})
        EXPECT_EQ(verdict(status), ANNAL_RETRY) << status;
    for (const std::uint32_t status : {400U, 413U, 415U, 422U})
        EXPECT_EQ(verdict(status), ANNAL_REJECT) << status;
    for (const std::uint32_t status : {301U, 307U, 401U, 403U, 404U, 405U, 410U})
        EXPECT_EQ(verdict(status), ANNAL_PAUSE) << status;
    annal::ClientResponse none;
    none.status = {ANNAL_TIMEOUT, "too slow"};
    EXPECT_EQ(annal::judge(none, 0).verdict(), ANNAL_RETRY);
    none.status = {ANNAL_DENIED, "127.0.0.1 is in 127.0.0.0/8"};
    EXPECT_EQ(annal::judge(none, 0).verdict(), ANNAL_PAUSE);
}

TEST(Judge, SaysWhatTheDestinationSaid) {
    annal::ClientResponse answer = answered(302);
    answer.headers = {{"location", "http://169.254.169.254/"}};
    answer.body = "a\nb" + std::string(500, 'x');
    const std::string text = annal::judge(answer, 0).reason().text();
    EXPECT_EQ(text.find("the destination answered 302 to http://169.254.169.254/: a bxx"), 0U);
    EXPECT_LT(text.size(), 300U);
}

TEST(RetryAfter, IsReadInBothForms) {
    const auto wait = [](const char* text, std::int64_t now_us = 0) {
        annal::ClientResponse answer = answered(429);
        answer.headers = {{"retry-after", text}};
        return annal::retry_after_ms(answer, now_us);
    };
    EXPECT_EQ(wait("0"), 0U);
    EXPECT_EQ(wait("120"), 120'000U);
    EXPECT_EQ(wait("-5"), 0U);
    EXPECT_EQ(wait("99999999"), 86'400'000U);
    EXPECT_EQ(wait("99999999999999999999999"), 86'400'000U);
    EXPECT_EQ(wait("soon"), 0U);
    EXPECT_EQ(wait("5 s"), 0U);
    EXPECT_EQ(wait(""), 0U);
    constexpr std::int64_t k1994 = 784'111'777LL * 1'000'000;
    EXPECT_EQ(wait("Sun, 06 Nov 1994 08:49:47 GMT", k1994), 10'000U);
    EXPECT_EQ(wait("Sun, 06 Nov 1994 08:49:37 GMT", k1994 + 1'000'000), 0U);
    EXPECT_EQ(wait("Sun, 06 Nov 2094 08:49:37 GMT", k1994), 86'400'000U);
    EXPECT_EQ(annal::retry_after_ms(answered(429), 0), 0U);
}

}  // namespace
