#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <annal/sdk/json.hpp>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <functional>
#include <memory>
#include <numeric>
#include <string>

#include "streaming_answers.h"
#include "tests/support/mini_host.h"

namespace {

using annal::test::Encoded;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::SinkReply;
using testing::EndsWith;
using testing::HasSubstr;

/// A key as JSON holds it; made once, it takes a while.
const std::string& key_json() {
    static const std::string text = [] {
        const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
            EVP_RSA_gen(2048), &EVP_PKEY_free
        );
        const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
        PEM_write_bio_PrivateKey(out.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
        char* at = nullptr;
        const long size = BIO_get_mem_data(out.get(), &at);
        std::string json;
        annal::StringOut to(json);
        annal::append_json_string(to, {at, static_cast<std::size_t>(size)});
        return json;
    }();
    return text;
}

/// Both ways in which the host can answer: at once, and later on a thread of its own.
///
/// The host answers as a Snowflake that commits at once; `overrule` may answer in its place.
class SinkSnowflakeTest : public testing::TestWithParam<bool> {
protected:
    SinkSnowflakeTest() {
        host_.fill(5);
        host_.answer = [this](const MiniHost::Fetched& seen) {
            MiniHost::Answer out;
            if (overrule_ && overrule_(seen, out)) return out;
            return usual(seen);
        };
    }
    MiniHost::Answer usual(const MiniHost::Fetched& seen) {
        MiniHost::Answer out;
        const auto end = seen.url.find("endOffsetToken=");
        if (seen.url.ends_with("/hostname")) {
            out.body = "in_gest.example";
        } else if (seen.url.ends_with("/oauth/token")) {
            out.body = "token" + std::to_string(++tokens_);
        } else if (end != std::string::npos) {
            if (commits_) committed_ = "\"" + seen.url.substr(end + 15) + "\"";
            out.body = R"({"next_continuation_token":"c2"})";
        } else if (seen.url.ends_with(":bulk-channel-status")) {
            out.body = R"({"channel_statuses":{"X":)" + status() + "}}";
        } else {
            out.body = R"({"next_continuation_token":"c/1","channel_status":)" + status() + "}";
        }
        return out;
    }
    std::string status() const {
        return R"({"last_committed_offset_token":)" + committed_ + R"(,"rows_error_count":)" +
               std::to_string(errors_) + R"(,"last_error_message":"no such column"})";
    }
    static const annal_component& component() { return *annal_module_v1()->components[0]; }
    static std::string config(const std::string& more = "") {
        return R"({"account":"my_org-acct","user":"ann","database":"d b","schema":"s","table":"T",)"
               R"("private_key":)" +
               key_json() + more + "}";
    }
    std::unique_ptr<Instance> opened(const std::string& more = "") {
        auto out = std::make_unique<Instance>(host_, component(), config(more));
        EXPECT_EQ(out->status(), ANNAL_OK) << out->error();
        return out;
    }
    SinkReply deliver(const Instance& sink, std::size_t from = 0, std::size_t to = 4) {
        const auto& table = sink.table<annal_sink_v1>();
        const std::vector<annal::test::StoredEvent> some(
            host_.events.begin() + static_cast<std::ptrdiff_t>(from),
            host_.events.begin() + static_cast<std::ptrdiff_t>(to) + 1
        );
        const RawBatch batch(some);
        encoded_ = annal::test::encode(table, sink.self(), batch.get());
        EXPECT_EQ(encoded_.status, ANNAL_OK) << encoded_.error;
        return annal::test::deliver(
            host_,
            table,
            sink.self(),
            batch.get(),
            encoded_,
            "aud_7",
            annal::test::in_ms(
                std::accumulate(host_.slept_ms.begin(), host_.slept_ms.end(), std::int64_t{10'000})
            )
        );
    }
    std::vector<MiniHost::Fetched> sent(const std::string& part) const {
        std::vector<MiniHost::Fetched> out;
        for (const auto& one : host_.fetched)
            if (one.url.find(part) != std::string::npos) out.push_back(one);
        return out;
    }
    /// The first `times` requests whose URL holds `part` are answered so.
    void answer_to(const std::string& part, int times, const MiniHost::Answer& with) {
        overrule_ = [=,
                     left = times](const MiniHost::Fetched& seen, MiniHost::Answer& out) mutable {
            if (left == 0 || seen.url.find(part) == std::string::npos) return false;
            --left;
            out = with;
            return true;
        };
    }

    std::function<bool(const MiniHost::Fetched&, MiniHost::Answer&)> overrule_;
    std::string committed_ = "null";
    bool commits_ = true;
    int errors_ = 0, tokens_ = 0;
    MiniHost host_{GetParam()};
    Encoded encoded_;
};
INSTANTIATE_TEST_SUITE_P(AtOnceAndLater, SinkSnowflakeTest, testing::Bool());

TEST_P(SinkSnowflakeTest, GoesThroughTheWholeProtocol) {
    const auto sink = opened(R"(,"role":"LOADER")");
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 5U);
    const auto& [name, token, open, append, look] = std::tie(
        host_.fetched[0], host_.fetched[1], host_.fetched[2], host_.fetched[3], host_.fetched[4]
    );
    EXPECT_EQ(name.url, "https://my-org-acct.snowflakecomputing.com/v2/streaming/hostname");
    EXPECT_EQ(name.headers.at("X-Snowflake-Authorization-Token-Type"), "KEYPAIR_JWT");
    EXPECT_EQ(token.headers.at("Authorization"), name.headers.at("Authorization"));
    EXPECT_EQ(
        token.body,
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&scope=in-gest.example"
        "%20session%3Arole%3ALOADER"
    );
    const std::string pipe = "databases/d%20b/schemas/s/pipes/T-STREAMING";
    EXPECT_EQ(open.method, "PUT");
    EXPECT_EQ(open.url, "https://in-gest.example/v2/streaming/" + pipe + "/channels/aud_7");
    EXPECT_EQ(open.headers.at("Authorization"), "Bearer token1");
    EXPECT_EQ(
        append.url,
        "https://in-gest.example/v2/streaming/data/" + pipe +
            "/channels/aud_7/rows?continuationToken=c%2F1&startOffsetToken=0&endOffsetToken=4"
    );
    EXPECT_EQ(append.body, encoded_.bytes);
    EXPECT_EQ(append.headers.at("Content-Type"), "application/x-ndjson");
    EXPECT_EQ(look.body, R"({"channel_names":["aud_7"]})");
    host_.fill(3);
    host_.fetched.clear();
    EXPECT_EQ(deliver(*sink, 5, 7).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 2U);  // neither a token nor the channel anew
    EXPECT_THAT(host_.fetched[0].url, HasSubstr("continuationToken=c2&startOffsetToken=5"));
}

TEST_P(SinkSnowflakeTest, WritesFlatColumnsAndTheEvent) {
    host_.events[1].deleted = true;
    host_.events[0].set("target_type", "a\"b");
    deliver(*opened());
    annal::Json row;
    annal::Json::Failure failure;
    const std::string first = encoded_.bytes.substr(0, encoded_.ends[0]);
    ASSERT_TRUE(annal::Json::parse(first, row, failure)) << failure.text() << first;
    EXPECT_EQ(row.find("SEQ")->integer(), 0);
    EXPECT_EQ(row.find("EVENT_ID")->string(), host_.events[0].id);
    EXPECT_EQ(row.find("TARGET_TYPE")->string(), "a\"b");
    EXPECT_EQ(row.find("ACTION")->string(), "auth.signin");
    EXPECT_FALSE(row.find("DELETED")->boolean());
    EXPECT_THAT(row.find("CREATED_AT")->string(), EndsWith("Z"));
    EXPECT_EQ(row.find("EVENT")->find("seq")->integer(), 0);
    annal::Json deleted;
    const std::string second =
        encoded_.bytes.substr(encoded_.ends[0], encoded_.ends[1] - encoded_.ends[0]);
    ASSERT_TRUE(annal::Json::parse(second, deleted, failure)) << failure.text();
    EXPECT_TRUE(deleted.find("DELETED")->boolean());
    EXPECT_EQ(deleted.find("ACTION"), nullptr);
}

TEST_P(SinkSnowflakeTest, EncodesNoMoreThanARequestTakes) {
    const auto sink = opened();
    const auto encode = [&](std::size_t events, std::size_t bytes) {
        host_.events.clear();
        host_.fill(events);
        for (auto& event : host_.events) event.set("description", std::string(bytes, 'x'));
        const RawBatch batch(host_.events);
        return annal::test::encode(sink->table<annal_sink_v1>(), sink->self(), batch.get()).status;
    };
    EXPECT_EQ(encode(1, 1'900'000), ANNAL_OK);
    EXPECT_EQ(encode(1, 4'300'000), ANNAL_TOO_LARGE);
    EXPECT_EQ(encode(4, 1'900'000), ANNAL_OK);
    EXPECT_EQ(encode(10, 1'900'000), ANNAL_TOO_LARGE);
}

TEST_P(SinkSnowflakeTest, AnAnswerIsNoCommit) {
    commits_ = false;
    const auto sink = opened();
    const SinkReply reply = deliver(*sink);
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_THAT(reply.text, HasSubstr("committed only to seq -1"));
    EXPECT_GE(host_.slept_ms.size(), 10U);
    EXPECT_EQ(sent("/rows?").size(), 1U);
    committed_ = "\"4\"";
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(sent("/rows?").size(), 1U);  // looked again, not sent again
    EXPECT_EQ(sent("/channels/").size(), 2U);
}

TEST_P(SinkSnowflakeTest, OpensAnewWhenACommitNeverComes) {
    commits_ = false;
    const auto sink = opened();
    for (int i = 0; i < 5; ++i) EXPECT_EQ(deliver(*sink).verdict, ANNAL_RETRY);
    EXPECT_EQ(sent("/rows?").size(), 1U);
    commits_ = true;
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(sent("/rows?").size(), 2U);
}

TEST_P(SinkSnowflakeTest, SendsOnlyWhatIsNotCommitted) {
    committed_ = "\"2\"";
    const auto sink = opened();
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    const auto appends = sent("/rows?");
    ASSERT_EQ(appends.size(), 1U);
    EXPECT_THAT(appends[0].url, HasSubstr("startOffsetToken=3&endOffsetToken=4"));
    EXPECT_EQ(appends[0].body, encoded_.bytes.substr(encoded_.ends[2]));
    EXPECT_EQ(deliver(*opened()).verdict, ANNAL_DELIVERED);  // all of it is there
    EXPECT_EQ(sent("/rows?").size(), 1U);
}

TEST_P(SinkSnowflakeTest, OpensAnewWhenItWasShutOut) {
    MiniHost::Answer stale;
    stale.status = 400;
    stale.body = R"({"code":"STALE_CONTINUATION_TOKEN_SEQUENCER","message":"x"})";
    answer_to("/rows?", 1, stale);
    EXPECT_EQ(deliver(*opened()).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(sent("/rows?").size(), 2U);
    answer_to("/rows?", 9, stale);
    committed_ = "null";
    const SinkReply reply = deliver(*opened());
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_THAT(reply.text, HasSubstr("keeps opening"));
}

TEST_P(SinkSnowflakeTest, AsksTheChannelAfterAnAppendOfUnknownOutcome) {
    const auto sink = opened();
    answer_to("/rows?", 1, {0, "", {}, ANNAL_TIMEOUT, "too slow"});
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_RETRY);
    committed_ = "\"4\"";  // it did get through
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(sent("/rows?").size(), 1U);
    committed_ = "null";
    answer_to("/rows?", 1, {503, "", {{"retry-after", "4"}}, ANNAL_OK, ""});
    const auto other = opened();
    EXPECT_EQ(deliver(*other).retry_after_ms, 4'000U);
    EXPECT_EQ(deliver(*other).verdict, ANNAL_DELIVERED);
}

TEST_P(SinkSnowflakeTest, KeepsTheChannelWhenToldToSlowDown) {
    const auto sink = opened();
    answer_to("/rows?", 1, {429, "", {}, ANNAL_OK, ""});
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_RETRY);
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(sent("/channels/aud_7").size(), 3U);  // opened once, two appends
}

TEST_P(SinkSnowflakeTest, RenewsItsTokenOnce) {
    answer_to("/channels/aud_7", 1, {401, "", {}, ANNAL_OK, ""});
    const auto sink = opened();
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    EXPECT_EQ(tokens_, 2);
    host_.wall_us += 51LL * 60 * 1'000'000;  // it has run out by now
    committed_ = "null";
    deliver(*opened());
    const int before = tokens_;
    answer_to("in-gest", 9, {401, "", {}, ANNAL_OK, ""});
    EXPECT_EQ(deliver(*opened()).verdict, ANNAL_PAUSE);
    EXPECT_EQ(tokens_, before + 2);
}

TEST_P(SinkSnowflakeTest, RejectsABatchWithRowsThatWereNotTaken) {
    const auto sink = opened();
    overrule_ = [this](const MiniHost::Fetched& seen, MiniHost::Answer&) {
        if (seen.url.find("/rows?") != std::string::npos) errors_ += 2;
        return false;
    };
    const SinkReply reply = deliver(*sink);
    EXPECT_EQ(reply.verdict, ANNAL_REJECT);
    EXPECT_EQ(reply.text, "2 of 5 rows were not taken: no such column");
    // The token is behind them all: a part of the batch must not pass for delivered.
    for (const auto& [from, to] : {std::pair{0U, 1U}, {2U, 4U}, {3U, 3U}})
        EXPECT_EQ(deliver(*sink, from, to).verdict, ANNAL_REJECT) << from;
    overrule_ = nullptr;
    host_.fill(2);
    EXPECT_EQ(deliver(*sink, 5, 6).verdict, ANNAL_DELIVERED);
    (void)deliver(*opened(), 5, 6);
    EXPECT_NE(host_.logged("snowflake.rows_not_taken"), nullptr);
}

TEST_P(SinkSnowflakeTest, BlamesNoEventForTheConfiguration) {
    for (const std::uint32_t status : {400U, 403U, 404U}) {
        answer_to("/channels/", 1, {status, "x", {}, ANNAL_OK, ""});
        EXPECT_EQ(deliver(*opened()).verdict, ANNAL_PAUSE) << status;
    }
    answer_to("/channels/", 1, {409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA", {}, ANNAL_OK, ""});
    EXPECT_EQ(deliver(*opened()).verdict, ANNAL_RETRY);
    answer_to("/hostname", 1, {401, "", {}, ANNAL_OK, ""});
    EXPECT_EQ(deliver(*opened()).verdict, ANNAL_PAUSE);
    answer_to("/hostname", 1, {200, "<html>no</html>", {}, ANNAL_OK, ""});
    EXPECT_EQ(deliver(*opened()).verdict, ANNAL_PAUSE);
    committed_ = "\"batch-7\"";
    const SinkReply foreign = deliver(*opened());
    EXPECT_EQ(foreign.verdict, ANNAL_PAUSE);
    EXPECT_THAT(foreign.text, HasSubstr("comes from somebody else"));
}

TEST_P(SinkSnowflakeTest, FindsItsPositionAndProbes) {
    const auto sink = opened();
    const auto& table = sink->table<annal_sink_v1>();
    EXPECT_EQ(annal::test::find_position(host_, table, sink->self(), "aud_7").seq, -1);
    committed_ = "\"41\"";
    const auto found = annal::test::find_position(host_, table, sink->self(), "aud_7");
    EXPECT_EQ(found.seq, 41);
    EXPECT_FALSE(found.error.has_value());
    answer_to("/channels/", 1, {503, "", {}, ANNAL_OK, ""});
    const auto failed = annal::test::find_position(host_, table, sink->self(), "aud_7");
    ASSERT_TRUE(failed.error.has_value());
    EXPECT_EQ(failed.error->code, ANNAL_UNAVAILABLE);
    const std::size_t opens = sent("/channels/").size();
    EXPECT_FALSE(annal::test::probe(host_, table, sink->self()).has_value());
    EXPECT_EQ(sent("/channels/").size(), opens);  // nobody was shut out
}

TEST(StreamingAnswers, ComeInBothForms) {
    using sink_snowflake::text_or_member;
    EXPECT_EQ(text_or_member("h.example\n", "hostname"), "h.example");
    EXPECT_EQ(text_or_member(R"({"hostname":"h.example"})", "hostname"), "h.example");
    EXPECT_EQ(text_or_member(R"("h.example")", "hostname"), "h.example");
    for (const char* none : {"", "{}", "[]", "a b", "<html>", R"({"hostname":7})"})
        EXPECT_EQ(text_or_member(none, "hostname"), "") << none;
    EXPECT_FALSE(sink_snowflake::read_opened("{}").has_value());
    EXPECT_FALSE(sink_snowflake::read_status(R"({"channel_statuses":{}})").has_value());
    const auto opened = sink_snowflake::read_opened(
        R"({"next_continuation_token":"t","channel_status":{"latest_committed_offset_token":"7"}})"
    );
    ASSERT_TRUE(opened.has_value());
    EXPECT_EQ(opened->status.committed_seq, 7);
}

}  // namespace
