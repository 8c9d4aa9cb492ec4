#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <annal/sdk/digest.hpp>
#include <annal/sdk/gzip.hpp>

#include <algorithm>
#include <deque>
#include <random>
#include <string>

#include "sigv4.h"
#include "tests/support/gunzip.h"
#include "tests/support/mini_host.h"

namespace {

using annal::test::Encoded;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::SinkReply;
using testing::HasSubstr;

constexpr auto kKeys =
    R"(,"access_key_id":"AKIAIOSFODNN7EXAMPLE","secret_access_key":"wJalrXUtnFEMI")";
constexpr auto kDigest = "x-amz-meta-annal-sha256";

MiniHost::Answer answered(std::uint32_t status, const std::string& code = "") {
    MiniHost::Answer out;
    out.status = status;
    if (!code.empty()) {
        out.body = "<Error><Code>" + code + "</Code><Message>So it is.</Message></Error>";
    }
    return out;
}

/// Both ways in which the host can answer: at once, and later on a thread of its own.
class SinkS3Test : public testing::TestWithParam<bool> {
protected:
    SinkS3Test() {
        host_.fill(3);
        host_.answer = [this](const auto&) {
            if (answers_.empty()) return answered(200);
            MiniHost::Answer next = answers_.front();
            answers_.pop_front();
            return next;
        };
    }
    static const annal_component& component() { return *annal_module_v1()->components[0]; }
    static std::string config(const std::string& more = "") {
        return R"({"bucket":"acme","region":"eu-central-1")" + std::string(kKeys) + more + "}";
    }
    std::unique_ptr<Instance> opened(const std::string& more = "") {
        auto out = std::make_unique<Instance>(host_, component(), config(more));
        EXPECT_EQ(out->status(), ANNAL_OK) << out->error();
        return out;
    }
    SinkReply deliver(const Instance& sink, const std::string& stream = "aud_7") {
        const auto& table = sink.table<annal_sink_v1>();
        const RawBatch batch(host_.events);
        const Encoded encoded = annal::test::encode(table, sink.self(), batch.get());
        EXPECT_EQ(encoded.status, ANNAL_OK) << encoded.error;
        lines_ = encoded.bytes;
        return annal::test::deliver(host_, table, sink.self(), batch.get(), encoded, stream);
    }
    /// What it says of the last delivery's object.
    SinkReply verify(const Instance& sink) {
        annal_sink_v1 reading = sink.table<annal_sink_v1>();
        reading.send = reading.verify;
        const RawBatch batch(host_.events);
        const Encoded encoded = annal::test::encode(reading, sink.self(), batch.get());
        return annal::test::deliver(host_, reading, sink.self(), batch.get(), encoded, "aud_7");
    }
    std::string lines_digest() const { return annal::to_hex(annal::view(annal::sha256(lines_))); }
    /// What S3 computes, from what it got.
    static std::string expected_authorization(const MiniHost::Fetched& seen) {
        const std::size_t host_at = seen.url.find("://") + 3, path_at = seen.url.find('/', host_at);
        sink_s3::SignedParts parts{seen.method, seen.url.substr(path_at), {}, {}};
        parts.headers["host"] = seen.url.substr(host_at, path_at - host_at);
        for (const auto& [name, value] : seen.headers)
            if (name != "Authorization") parts.headers[name] = value;
        return sink_s3::authorize(
            parts, {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", ""}, "eu-central-1"
        );
    }

    std::deque<MiniHost::Answer> answers_;
    MiniHost host_{GetParam()};
    std::string lines_;
};
INSTANTIATE_TEST_SUITE_P(AtOnceAndLater, SinkS3Test, testing::Bool());

TEST_P(SinkS3Test, PutsOneObjectForABatch) {
    host_.events[0].created_at_us = 1'780'012'799'999'999;  // the last instant of its day
    const auto sink = opened(R"(,"prefix":"audit/ü")");
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 1U);
    const auto& put = host_.fetched[0];
    EXPECT_EQ(put.method, "PUT");
    EXPECT_EQ(
        put.url,
        "https://acme.s3.eu-central-1.amazonaws.com/audit/%C3%BC/aud_7/dt%3D2026-05-28/"
        "00000000000000000000-00000000000000000002.ndjson.gz"
    );
    EXPECT_EQ(annal::test::gunzip(put.body), lines_);
    const annal::Sha256 digest = annal::sha256(put.body);
    EXPECT_EQ(put.headers.at("x-amz-content-sha256"), annal::to_hex(annal::view(digest)));
    EXPECT_EQ(put.headers.at("x-amz-checksum-sha256"), annal::to_base64(annal::view(digest)));
    EXPECT_EQ(put.headers.at(kDigest), lines_digest());
    EXPECT_EQ(put.headers.at("if-none-match"), "*");
    EXPECT_EQ(put.headers.at("content-type"), "application/gzip");
    EXPECT_EQ(put.headers.count("host"), 0U);  // the client's own
    EXPECT_EQ(put.headers.at("Authorization"), expected_authorization(put));
}

TEST_P(SinkS3Test, SignsEachAttemptAnewAndSendsTheSameBytes) {
    answers_ = {answered(503, "SlowDown")};
    const auto sink = opened();
    const SinkReply reply = deliver(*sink);
    EXPECT_EQ(reply.verdict, ANNAL_RETRY);
    EXPECT_EQ(reply.text, "S3 answered 503 SlowDown: So it is.");
    host_.wall_us += 3'600'000'000;
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 2U);
    const auto &first = host_.fetched[0], &second = host_.fetched[1];
    EXPECT_EQ(first.url, second.url);
    EXPECT_EQ(first.body, second.body);
    EXPECT_NE(first.headers.at("Authorization"), second.headers.at("Authorization"));
    EXPECT_EQ(second.headers.at("Authorization"), expected_authorization(second));
}

TEST_P(SinkS3Test, SendsWhatTemporaryKeysAndOwnersAsk) {
    const auto sink = opened(R"(,"session_token":"tok/en==","expected_bucket_owner":"1234")");
    deliver(*sink);
    const auto& put = host_.fetched.at(0);
    EXPECT_EQ(put.headers.at("x-amz-security-token"), "tok/en==");
    EXPECT_EQ(put.headers.at("x-amz-expected-bucket-owner"), "1234");
    EXPECT_THAT(
        put.headers.at("Authorization"),
        HasSubstr("x-amz-expected-bucket-owner;x-amz-meta-annal-sha256;x-amz-security-token")
    );
    EXPECT_EQ(put.headers.at("Authorization"), expected_authorization(put));
}

TEST_P(SinkS3Test, TakesTheObjectThatIsThereForItsOwnWhenItIs) {
    const auto sink = opened();
    deliver(*sink);
    host_.fetched.clear();
    MiniHost::Answer there = answered(200);
    there.headers = {{kDigest, lines_digest()}};
    answers_ = {answered(412, "PreconditionFailed"), there};
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 2U);
    EXPECT_EQ(host_.fetched[1].method, "HEAD");
    EXPECT_EQ(host_.fetched[1].url, host_.fetched[0].url);
    EXPECT_EQ(
        host_.fetched[1].headers.at("Authorization"), expected_authorization(host_.fetched[1])
    );
}

TEST_P(SinkS3Test, StopsAtAForeignObject) {
    const auto sink = opened();
    for (const bool has_digest : {true, false}) {
        MiniHost::Answer there = answered(200);
        if (has_digest) there.headers = {{kDigest, std::string(64, '0')}};
        answers_ = {answered(412, "PreconditionFailed"), there};
        const SinkReply reply = deliver(*sink);
        EXPECT_EQ(reply.verdict, ANNAL_PAUSE);
        EXPECT_THAT(reply.text, HasSubstr("ALARM: the object aud_7/dt="));
        EXPECT_THAT(reply.text, HasSubstr(has_digest ? "0000" : "does not come from this sink"));
        EXPECT_THAT(reply.text, HasSubstr(lines_digest()));
        EXPECT_THAT(reply.text, HasSubstr("Nothing was overwritten"));
    }
}

TEST_P(SinkS3Test, NeverTakesAnObjectThatItCannotSeeForItsOwn) {
    const auto sink = opened();
    const auto after_412 = [&](const MiniHost::Answer& head) {
        answers_ = {answered(412, "PreconditionFailed"), head};
        return deliver(*sink);
    };
    const SinkReply forbidden = after_412(answered(403));
    EXPECT_EQ(forbidden.verdict, ANNAL_PAUSE);
    EXPECT_THAT(forbidden.text, HasSubstr("grant s3:GetObject"));
    EXPECT_EQ(after_412(answered(503)).verdict, ANNAL_RETRY);
    EXPECT_EQ(after_412(answered(404)).verdict, ANNAL_RETRY);
    EXPECT_EQ(after_412({0, "", {}, ANNAL_TIMEOUT, "too slow"}).verdict, ANNAL_RETRY);
}

TEST_P(SinkS3Test, ReadsBackPieceByPieceWhatIsThere) {
    std::string noise(100'000, '\0');  // more than a piece, packed
    std::mt19937 random(7);
    for (char& c : noise) c = static_cast<char>('0' + random() % 64);
    host_.events[0].set("metadata", "{\"noise\":\"" + noise + "\"}");
    const auto sink = opened();
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    const std::string object = host_.fetched.at(0).body;
    ASSERT_GT(object.size(), 64U << 10);
    const auto pieces_of = [](const std::string& whole) {
        std::deque<MiniHost::Answer> pieces;
        for (std::size_t at = 0; at < whole.size(); at += 64U << 10) {
            MiniHost::Answer piece = answered(206);
            piece.body = whole.substr(at, 64U << 10);
            piece.headers = {{"content-range", "bytes x-y/" + std::to_string(whole.size())}};
            pieces.push_back(piece);
        }
        return pieces;
    };
    host_.fetched.clear();
    answers_ = pieces_of(object);
    EXPECT_EQ(verify(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 2U);
    const auto& last = host_.fetched[1];
    EXPECT_EQ(last.method, "GET");
    EXPECT_EQ(last.headers.at("range"), "bytes=65536-131071");
    EXPECT_EQ(last.headers.at("Authorization"), expected_authorization(last));

    answers_ = pieces_of(annal::gzip(lines_, 1));
    EXPECT_EQ(verify(*sink).verdict, ANNAL_DELIVERED) << "packed otherwise";
    std::string damaged = object;
    damaged[70'000] ^= 1;
    for (const std::string& other : {damaged, object.substr(0, 70'000), annal::gzip("others'")}) {
        answers_ = pieces_of(other);
        const SinkReply reply = verify(*sink);
        EXPECT_EQ(reply.verdict, ANNAL_PAUSE);
        EXPECT_THAT(reply.text, HasSubstr("ALARM: the object aud_7/dt="));
        EXPECT_THAT(reply.text, HasSubstr("does not hold what was written to it"));
    }
    answers_ = {answered(404, "NoSuchKey")};
    EXPECT_EQ(verify(*sink).verdict, ANNAL_RETRY);
    answers_ = {answered(403, "AccessDenied")};
    EXPECT_EQ(verify(*sink).verdict, ANNAL_PAUSE);
    answers_ = {answered(503, "SlowDown")};
    EXPECT_EQ(verify(*sink).verdict, ANNAL_RETRY);
    MiniHost::Answer without_ranges = answered(200);
    without_ranges.body = object.substr(0, 64U << 10);
    answers_ = {without_ranges};
    EXPECT_THAT(verify(*sink).text, HasSubstr("gives no ranges"));
}

TEST_P(SinkS3Test, RetriesAConflict) {
    answers_ = {answered(409, "ConditionalRequestConflict")};
    EXPECT_EQ(deliver(*opened()).verdict, ANNAL_RETRY);
}

TEST_P(SinkS3Test, DoesWithoutConditionsWhereThereAreNone) {
    const auto sink = opened();
    answers_ = {answered(501, "NotImplemented")};
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 2U);
    EXPECT_EQ(host_.fetched[1].headers.count("if-none-match"), 0U);
    EXPECT_EQ(host_.fetched[1].body, host_.fetched[0].body);
    EXPECT_EQ(host_.fetched[1].url, host_.fetched[0].url);
    EXPECT_NE(host_.logged("s3.no_conditional_writes"), nullptr);
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 3U);  // remembered
    EXPECT_EQ(host_.fetched[2].headers.count("if-none-match"), 0U);
}

TEST_P(SinkS3Test, PausesWhereEvenAPlainWriteIsNotImplemented) {
    const auto sink = opened();
    answers_ = {answered(501, "NotImplemented"), answered(501, "NotImplemented")};
    const SinkReply reply = deliver(*sink);
    EXPECT_EQ(reply.verdict, ANNAL_PAUSE);
    EXPECT_THAT(reply.text, HasSubstr("501 NotImplemented"));
    EXPECT_EQ(deliver(*sink).verdict, ANNAL_DELIVERED);  // it was not the condition's fault
    EXPECT_EQ(host_.fetched.back().headers.at("if-none-match"), "*");
}

TEST_P(SinkS3Test, PausesWithS3sOwnWords) {
    for (const auto& [status, code] :
         {std::pair{403U, "SignatureDoesNotMatch"},
          {404U, "NoSuchBucket"},
          {301U, "PermanentRedirect"},
          {403U, "RequestTimeTooSkewed"},
          {400U, "ExpiredToken"}}) {
        answers_ = {answered(status, code)};
        const SinkReply reply = deliver(*opened());
        EXPECT_EQ(reply.verdict, ANNAL_PAUSE) << code;
        EXPECT_EQ(reply.text, "S3 answered " + std::to_string(status) + " " + code + ": So it is.");
    }
}

TEST_P(SinkS3Test, RefusesKeysThatAUrlCannotCarry) {
    const SinkReply reply = deliver(*opened(), "a/../b");
    EXPECT_EQ(reply.verdict, ANNAL_PAUSE);
    EXPECT_THAT(reply.text, HasSubstr("can't be used"));
    EXPECT_TRUE(host_.fetched.empty());
}

TEST_P(SinkS3Test, ProbesTheBucket) {
    const auto sink = opened(R"(,"endpoint":"http://127.0.0.1:9000")");
    const auto probe = [&] {
        return annal::test::probe(host_, sink->table<annal_sink_v1>(), sink->self());
    };
    EXPECT_FALSE(probe().has_value());
    EXPECT_EQ(host_.fetched.at(0).method, "HEAD");
    EXPECT_EQ(host_.fetched[0].url, "http://127.0.0.1:9000/acme");
    answers_ = {answered(403), answered(404), answered(503)};
    const auto forbidden = probe();
    ASSERT_TRUE(forbidden.has_value());
    EXPECT_EQ(forbidden->code, ANNAL_DENIED);
    EXPECT_THAT(
        std::string(forbidden->text, forbidden->text_len),
        HasSubstr("with a policy of s3:PutObject alone nothing can be found out")
    );
    EXPECT_EQ(probe()->code, ANNAL_DENIED);
    EXPECT_EQ(probe()->code, ANNAL_UNAVAILABLE);
}

TEST_P(SinkS3Test, RefusesConfigurationsThatCannotWork) {
    const auto error = [&](const std::string& more) {
        return Instance(host_, component(), config(more)).error();
    };
    EXPECT_THAT(error(R"(,"addressing":"dns")"), HasSubstr("/addressing"));
    EXPECT_THAT(error(R"(,"endpoint":"minio:9000")"), HasSubstr("/endpoint"));
    for (const char* prefix : {"/a", "a/", "a//b", "../a"}) {
        EXPECT_THAT(error(R"(,"prefix":")" + std::string(prefix) + "\""), HasSubstr("/prefix"))
            << prefix;
    }
    EXPECT_THAT(Instance(host_, component(), "{}").error(), HasSubstr("/secret_access_key"));
    host_.withheld = {ANNAL_SERVICE_HTTP_CLIENT};
    EXPECT_EQ(Instance(host_, component(), config()).status(), ANNAL_UNAVAILABLE);
}

}  // namespace
