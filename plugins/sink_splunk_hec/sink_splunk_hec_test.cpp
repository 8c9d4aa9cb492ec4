#include <gtest/gtest.h>

#include <functional>
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
using Answer = MiniHost::Answer;
using Fetched = MiniHost::Fetched;

Answer says(std::uint32_t status, std::string body) {
    return {status, std::move(body), {}, ANNAL_OK, ""};
}
const char* const kSuccess = R"({"text":"Success","code":0})";

/// The host answers at once, and later on a thread of its own.
class SplunkHecTest : public testing::TestWithParam<bool> {
protected:
    SplunkHecTest() {
        host.answer = [this](const Fetched& sent) {
            return sent.url.find("/ack?") == std::string::npos ? taken(sent) : asked(sent);
        };
    }
    std::unique_ptr<Instance> open(const std::string& more = "") {
        return std::make_unique<Instance>(
            host,
            *annal_module_v1()->components[0],
            R"({"url":"https://in.example:8088","token":"t0ken")" + more + "}"
        );
    }
    static const annal_sink_v1& table(const Instance& sink) { return sink.table<annal_sink_v1>(); }
    static Encoded encode(const Instance& sink, const std::vector<StoredEvent>& events) {
        const RawBatch batch(events);
        return annal::test::encode(table(sink), sink.self(), batch.get());
    }
    SinkReply deliver(
        const Instance& sink, std::size_t count = 2, std::int64_t deadline_us = in_ms(30'000)
    ) {
        const auto list = events(count);
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
    /// The requests to the event and to the ack endpoint.
    std::vector<Fetched> posts() const { return to("/services/collector/event"); }
    std::vector<Fetched> queries() const { return to("/services/collector/ack"); }
    std::vector<Fetched> to(const std::string& path) const {
        std::vector<Fetched> out;
        for (const Fetched& one : host.fetched)
            if (one.url.find(path) != std::string::npos) out.push_back(one);
        return out;
    }

    std::function<Answer(const Fetched&)> taken = [](const Fetched&) {
        return says(200, kSuccess);
    };
    std::function<Answer(const Fetched&)> asked = [](const Fetched&) { return says(500, ""); };
    MiniHost host{GetParam()};
    std::string payload;
};

TEST_P(SplunkHecTest, EncodesOneObjectForEachEvent) {
    auto list = events(2);
    list[0].set("metadata", R"({"time":0,"fields":{"a":{}}})");
    list[1].deleted = true;
    const Encoded got = encode(*open(R"(,"host":"h1","index":"audit")"), list);
    ASSERT_EQ(got.status, ANNAL_OK) << got.error;
    const std::string first =
        R"({"time":1779999999.007,"host":"h1","source":"annal","sourcetype":"annal:audit","index":"audit",)"
        R"("fields":{"event_id":"evt_0","seq":"0"},"event":{"id":"evt_0","action":"user.signin",)"
        R"("created_at":"2026-05-28T20:26:39.007999Z","project_id":"proj_1","target_id":"usr_9",)"
        R"("metadata":{"time":0,"fields":{"a":{}}},"seq":0}})";
    const std::string second =
        R"({"time":1779999999.008,"host":"h1","source":"annal","sourcetype":"annal:audit","index":"audit",)"
        R"("fields":{"event_id":"evt_1","seq":"1"},"event":{"id":"evt_1","seq":1,"deleted":true}})";
    EXPECT_EQ(got.bytes, first + second);
    EXPECT_EQ(got.ends, (std::vector<std::uint64_t>{first.size(), first.size() + second.size()}));
}

TEST_P(SplunkHecTest, LeavesOutWhatIsNotConfigured) {
    auto list = events(1);
    list[0].created_at_us = 1'000'000;
    const Encoded got = encode(*open(R"(,"source":"","sourcetype":"")"), list);
    EXPECT_TRUE(got.bytes.starts_with(R"({"time":1.000,"fields":{"event_id")")) << got.bytes;
}

TEST_P(SplunkHecTest, KeepsTheLimitOfARequest) {
    const std::size_t size = encode(*open(), events(3)).bytes.size();
    const auto limit = [](std::size_t bytes) { return ",\"max_bytes\":" + std::to_string(bytes); };
    auto list = events(3);
    for (auto& event : list) event.set("metadata", R"({"p":")" + std::string(1'000, 'x') + "\"}");
    const std::size_t padded = encode(*open(), list).bytes.size();
    ASSERT_GT(padded, size);
    EXPECT_EQ(encode(*open(limit(padded)), list).status, ANNAL_OK);
    const Encoded over = encode(*open(limit(padded - 1)), list);
    EXPECT_EQ(over.status, ANNAL_TOO_LARGE);
    EXPECT_NE(over.error.find("the batch has"), std::string::npos) << over.error;
    list.resize(1);
    const std::size_t one = encode(*open(), list).bytes.size();
    EXPECT_EQ(encode(*open(limit(one)), list).status, ANNAL_OK);
    const Encoded single = encode(*open(limit(one - 1)), list);
    EXPECT_EQ(single.status, ANNAL_TOO_LARGE);
    EXPECT_NE(single.error.find("the event evt_0 has"), std::string::npos) << single.error;
}

TEST_P(SplunkHecTest, SendsTheSameBytesEachTime) {
    auto sink = open(R"(,"host":"h")");
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host.fetched.size(), 2U);
    const Fetched& sent = host.fetched[0];
    EXPECT_EQ(sent.method, "POST");
    EXPECT_EQ(sent.url, "https://in.example:8088/services/collector/event");
    EXPECT_EQ(
        sent.headers,
        (std::map<std::string, std::string>{
            {"Authorization", "Splunk t0ken"},
            {"Content-Encoding", "gzip"},
            {"Content-Type", "application/json"}})
    );
    EXPECT_EQ(gunzip(sent.body), payload);
    EXPECT_EQ(sent.body, host.fetched[1].body);
    EXPECT_TRUE(host.slept_ms.empty());
}

TEST_P(SplunkHecTest, RejectsOnlyTheEventThatIsNamed) {
    taken = [](const Fetched&) {
        return says(
            400, R"({"text":"Event field is required","code":12,"invalid-event-number":1})"
        );
    };
    const SinkReply reply = deliver(*open(), 3);
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_EQ(
        reply.exceptions, (std::vector<std::pair<std::uint32_t, std::uint32_t>>{{1U, ANNAL_REJECT}})
    );
}

TEST_P(SplunkHecTest, HandsRetryAfterOn) {
    taken = [](const Fetched&) {
        Answer answer = says(429, R"({"text":"slow down","code":26})");
        answer.headers = {
            {"retry-after", "Thu, 28 May 2026 20:27:10 GMT"}};  // 30 s after the host's clock
        return answer;
    };
    EXPECT_EQ(deliver(*open()).retry_after_ms, 30'000U);
}

TEST_P(SplunkHecTest, WarnsOfACollectorNearItsCapacity) {
    taken = [](const Fetched&) { return says(200, R"({"text":"approaching","code":24})"); };
    auto sink = open();
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_NE(host.logged("splunk_hec.near_capacity"), nullptr);
    EXPECT_EQ(host.logs.size(), 1U);
}

// --- Indexer acknowledgement

TEST_P(SplunkHecTest, CountsAsDeliveredOnlyWhatIsIndexed) {
    taken = [](const Fetched&) { return says(200, R"({"text":"Success","code":0,"ackId":3})"); };
    int polls = 0;
    asked = [&](const Fetched&) {
        return says(200, ++polls < 4 ? R"({"acks":{"3":false}})" : R"({"acks":{"3":true}})");
    };
    EXPECT_EQ(deliver(*open(R"(,"ack":true)")).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(host.slept_ms, (std::vector<std::uint32_t>{1'000, 1'000, 1'000, 1'000}));
    ASSERT_EQ(posts().size(), 1U);
    ASSERT_EQ(queries().size(), 4U);
    const std::string channel = posts()[0].headers.at("X-Splunk-Request-Channel");
    for (const Fetched& query : queries()) {
        EXPECT_EQ(query.method, "POST");
        EXPECT_EQ(query.url, "https://in.example:8088/services/collector/ack?channel=" + channel);
        EXPECT_EQ(query.body, R"({"acks":[3]})");
        EXPECT_EQ(query.headers.at("Authorization"), "Splunk t0ken");
    }
}

TEST_P(SplunkHecTest, RetriesWhatIsNotConfirmedInTime) {
    taken = [](const Fetched&) { return says(200, R"({"text":"Success","code":0,"ackId":0})"); };
    asked = [](const Fetched&) { return says(200, R"({"acks":{"0":false}})"); };
    auto sink = open(R"(,"ack":true,"ack_interval_ms":500)");
    const SinkReply reply = deliver(*sink, 2, in_ms(5'000));
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_NE(reply.text.find("it is not indexed yet"), std::string::npos) << reply.text;
    EXPECT_GE(queries().size(), 8U);
    EXPECT_LE(queries().size(), 10U);
    deliver(*sink, 2, in_ms(5'000) + 5'000'000);
    ASSERT_EQ(posts().size(), 2U);
    EXPECT_NE(
        posts()[0].headers.at("X-Splunk-Request-Channel"),
        posts()[1].headers.at("X-Splunk-Request-Channel")
    );
}

TEST_P(SplunkHecTest, AWaitThatIsCutShortLeavesTheChannelToo) {
    taken = [](const Fetched&) { return says(200, R"({"text":"Success","code":0,"ackId":0})"); };
    auto sink = open(R"(,"ack":true)");
    for (const annal_status over : {ANNAL_CANCELLED, ANNAL_TIMEOUT}) {
        host.refuse_after = over;
        const SinkReply reply = deliver(*sink);
        EXPECT_EQ(reply.verdict, ANNAL_RETRY);
        EXPECT_NE(reply.text.find("was not waited for"), std::string::npos) << reply.text;
    }
    EXPECT_TRUE(queries().empty());
    ASSERT_EQ(posts().size(), 2U);
    EXPECT_NE(
        posts()[0].headers.at("X-Splunk-Request-Channel"),
        posts()[1].headers.at("X-Splunk-Request-Channel")
    );
}

TEST_P(SplunkHecTest, AQueryThatFailsConfirmsNothing) {
    taken = [](const Fetched&) { return says(200, R"({"text":"Success","code":0,"ackId":0})"); };
    const std::vector<Answer> failures{
        says(404, ""),  // pauses, but is no confirmation either
        says(400, R"({"text":"?","code":6})"),
        says(500, R"({"acks":{"0":true}})"),
        says(200, "<html>"),
        says(200, R"({"text":"Success","code":0})"),
        says(200, R"({"acks":{"0":"true"}})"),
        says(200, R"({"acks":{"1":true}})"),
        {0, "", {}, ANNAL_UNAVAILABLE, "reset"}};
    for (const Answer& failure : failures) {
        asked = [&](const Fetched&) { return failure; };
        auto sink = open(R"(,"ack":true)");
        const SinkReply reply = deliver(*sink, 2, in_ms(5'000) + 1'000'000'000);
        EXPECT_NE(reply.verdict, ANNAL_DELIVERED) << failure.status << failure.body;
        EXPECT_NE(reply.verdict, ANNAL_REJECT) << failure.status << failure.body;
    }
}

TEST_P(SplunkHecTest, GoesOnAskingAfterAQueryThatFailed) {
    taken = [](const Fetched&) { return says(200, R"({"text":"Success","code":0,"ackId":0})"); };
    int polls = 0;
    asked = [&](const Fetched&) {
        ++polls;
        return polls == 1   ? says(503, R"({"text":"busy","code":9})")
               : polls == 2 ? Answer{0, "", {}, ANNAL_TIMEOUT, "slow"}
                            : says(200, R"({"acks":{"0":true}})");
    };
    EXPECT_EQ(deliver(*open(R"(,"ack":true)")).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(polls, 3);
}

TEST_P(SplunkHecTest, PausesWhereAcknowledgementIsOff) {
    const SinkReply none = deliver(*open(R"(,"ack":true)"));
    EXPECT_EQ(none.verdict, ANNAL_PAUSE);
    EXPECT_NE(none.text.find("enable indexer acknowledgement"), std::string::npos) << none.text;
    taken = [](const Fetched&) { return says(200, R"({"text":"Success","code":0,"ackId":0})"); };
    asked = [](const Fetched&) { return says(400, R"({"text":"ACK is disabled","code":14})"); };
    EXPECT_EQ(deliver(*open(R"(,"ack":true)")).verdict, ANNAL_PAUSE);
    EXPECT_EQ(queries().size(), 1U);
}

TEST_P(SplunkHecTest, SendsAgainOnANewChannelWhenAnotherIndexerAnswers) {
    std::string backend = "one";
    const auto from_backend = [&](std::string body) {
        Answer answer = says(200, std::move(body));
        answer.headers = {{"set-cookie", "hec=" + backend + "; Path=/"}};
        return answer;
    };
    taken = [&](const Fetched&) {
        return from_backend(R"({"text":"Success","code":0,"ackId":0})");
    };
    asked = [&](const Fetched&) {
        backend = "two";
        return from_backend(R"({"acks":{"0":false}})");
    };
    auto sink = open(R"(,"ack":true)");
    const SinkReply moved = deliver(*sink);
    EXPECT_EQ(moved.verdict, ANNAL_RETRY);
    EXPECT_NE(moved.text.find("another indexer"), std::string::npos) << moved.text;
    EXPECT_EQ(queries().size(), 1U);
    EXPECT_EQ(queries()[0].headers.at("Cookie"), "hec=one");
    asked = [&](const Fetched&) { return from_backend(R"({"acks":{"0":true}})"); };
    EXPECT_EQ(deliver(*sink, 2, in_ms(60'000)).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(posts().size(), 2U);
    EXPECT_EQ(posts()[0].headers.count("Cookie"), 0U);
    EXPECT_EQ(posts()[1].headers.at("Cookie"), "hec=two");
    EXPECT_NE(
        posts()[0].headers.at("X-Splunk-Request-Channel"),
        posts()[1].headers.at("X-Splunk-Request-Channel")
    );
    EXPECT_EQ(posts()[0].body, posts()[1].body);
}

TEST_P(SplunkHecTest, AConfirmationCountsWhoeverBringsIt) {
    taken = [](const Fetched&) {
        Answer answer = says(200, R"({"text":"Success","code":0,"ackId":0})");
        answer.headers = {{"set-cookie", "hec=one"}};
        return answer;
    };
    asked = [](const Fetched&) {
        Answer answer = says(200, R"({"acks":{"0":true}})");
        answer.headers = {{"set-cookie", "hec=two"}};
        return answer;
    };
    EXPECT_EQ(deliver(*open(R"(,"ack":true)")).verdict, ANNAL_DELIVERED);
}

TEST_P(SplunkHecTest, CantWaitOnAHostThatIsTooOld) {
    host.withhold_after = true;
    taken = [](const Fetched&) { return says(200, R"({"text":"Success","code":0,"ackId":0})"); };
    const SinkReply reply = deliver(*open(R"(,"ack":true)"));
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_NE(reply.text.find("annal.clock/1 of ABI 1.1"), std::string::npos) << reply.text;
}

// --- Probe and configuration

TEST_P(SplunkHecTest, ProbesTheCollectorsHealth) {
    auto sink = open();
    taken = [](const Fetched&) { return says(200, R"({"text":"HEC is healthy","code":17})"); };
    EXPECT_FALSE(annal::test::probe(host, table(*sink), sink->self()).has_value());
    EXPECT_EQ(host.fetched.at(0).method, "GET");
    EXPECT_EQ(host.fetched.at(0).url, "https://in.example:8088/services/collector/health/1.0");
    taken = [](const Fetched& sent) {
        return sent.url.ends_with("/1.0") ? says(404, "") : says(200, R"({"code":17})");
    };
    EXPECT_FALSE(annal::test::probe(host, table(*sink), sink->self()).has_value());
    EXPECT_EQ(host.fetched.back().url, "https://in.example:8088/services/collector/health");
    taken = [](const Fetched&) { return says(503, R"({"code":18})"); };
    EXPECT_EQ(annal::test::probe(host, table(*sink), sink->self())->code, ANNAL_UNAVAILABLE);
    taken = [](const Fetched&) { return says(404, ""); };
    EXPECT_EQ(annal::test::probe(host, table(*sink), sink->self())->code, ANNAL_DENIED);
}

TEST_P(SplunkHecTest, RefusesConfigurationsThatCantWork) {
    EXPECT_EQ(open()->status(), ANNAL_OK) << open()->error();
    EXPECT_NE(open(R"(,"ack_interval_ms":1)")->status(), ANNAL_OK);
    const Instance bare(host, *annal_module_v1()->components[0], "{}");
    EXPECT_EQ(bare.error(), "configuration: /url: missing; /token: missing");
    host.withheld = {ANNAL_SERVICE_HTTP_CLIENT};
    EXPECT_EQ(open()->status(), ANNAL_UNAVAILABLE);
}

INSTANTIATE_TEST_SUITE_P(AtOnceAndLater, SplunkHecTest, testing::Bool());

}  // namespace
