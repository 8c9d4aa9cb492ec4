#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <annal/sdk/digest.hpp>
#include <annal/sdk/json.hpp>

#include <fstream>
#include <iterator>
#include <string>

#include "signatures.h"
#include "tests/support/mini_host.h"

namespace {

using annal::test::Encoded;
using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::SinkReply;
using sink_webhook::Signatures;
using testing::HasSubstr;
using testing::Not;

constexpr auto kSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

Signatures signatures(const std::string& secret) {
    return Signatures::of(secret).value();
}

// Of the Standard Webhooks libraries' own tests: python test_sign_function, rust test_sign.
TEST(Signatures, AreThoseOfTheStandardsLibraries) {
    EXPECT_EQ(
        signatures(kSecret).standard(
            "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, R"({"test": 2432232314})"
        ),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    );
    EXPECT_EQ(
        signatures("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
            .standard(
                "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
                1649367553,
                R"({"email":"test@example.com","username":"test_user"})"
            ),
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
    );
}

TEST(Signatures, OfAuthioAreKeyedWithTheSecretsText) {
    EXPECT_EQ(
        signatures(kSecret).authio(R"({"test": 2432232314})"),
        "v1=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"
    );
}

TEST(Signatures, OfAPlainSecretAreKeyedWithItsText) {
    for (const char* secret : {"plain", "WHSEC_YWJj", "YWJj"}) {
        EXPECT_EQ(
            signatures(secret).standard("i", 7, "b"),
            "v1," + annal::to_base64(annal::view(annal::hmac_sha256(secret, "i.7.b")))
        ) << secret;
    }
    EXPECT_EQ(
        signatures("whsec_YWJj").standard("i", 7, "b"), signatures("abc").standard("i", 7, "b")
    );
}

TEST(Signatures, TakeBase64WithItsPaddingOrWithout) {
    EXPECT_EQ(
        signatures("whsec_YWI").standard("i", 7, "b"),
        signatures("whsec_YWI=").standard("i", 7, "b")
    );
    EXPECT_NE(signatures("whsec_YWI").authio("b"), signatures("whsec_YWI=").authio("b"));
    for (const char* bad : {"", "no base64", "=", "===", "====", "YQ=", "YWJj\n"})
        EXPECT_FALSE(Signatures::of(std::string("whsec_") + bad)) << bad;
}

TEST(Signatures, AreRefusedTheSecretsThatVerifiersRefuse) {
    std::ifstream file(ANNAL_SOURCE_DIR "/sdk/webhooks/tests/vectors.json");
    const std::string text(std::istreambuf_iterator<char>(file), {});
    annal::Json vectors;
    annal::Json::Failure failure;
    ASSERT_TRUE(annal::Json::parse(text, vectors, failure)) << failure.text();
    std::size_t taken = 0, refused = 0;
    for (const annal::Json& vector : vectors.items()) {
        const auto& secrets = vector.find("secrets")->items();
        // What base64 is matters to the standard's signature alone.
        if (!vector.find("name")->string().starts_with("standard: ") || secrets.size() != 1 ||
            !secrets[0].string().starts_with("whsec_"))
            continue;
        const annal::Json* error = vector.find("expect")->find("error");
        const bool good = error == nullptr || error->string() != "invalid_secret";
        EXPECT_EQ(Signatures::of(secrets[0].string()).has_value(), good)
            << vector.find("name")->string();
        ++(good ? taken : refused);
    }
    EXPECT_GT(taken, 3U);
    EXPECT_GT(refused, 7U);
}

TEST(Digest, Base64IsRead) {
    EXPECT_EQ(annal::from_base64(""), "");
    EXPECT_EQ(annal::from_base64("YQ=="), "a");
    EXPECT_EQ(annal::from_base64("YWI="), "ab");
    EXPECT_EQ(annal::from_base64("+/8="), "\xfb\xff");
    for (const char* bad : {"YQ=", "YQ", "Y===", "====", "YQ==YQ==", "Y Q=", "_-8="})
        EXPECT_EQ(annal::from_base64(bad), std::nullopt) << bad;
    std::string all;
    for (int c = 0; c < 256; ++c) {
        all += static_cast<char>(c);
        EXPECT_EQ(annal::from_base64(annal::to_base64(all)), all);
    }
    EXPECT_EQ(annal::to_hex(std::string("\x00\x9f\xff", 3)), "009fff");
}

/// Both ways in which the host can answer: at once, and later on a thread of its own.
class SinkWebhookTest : public testing::TestWithParam<bool> {
protected:
    SinkWebhookTest() {
        host_.fill(3);
        host_.answer = [this](const auto&) { return answer_; };
    }
    static const annal_component& component() { return *annal_module_v1()->components[0]; }
    static std::string config(const std::string& more = "") {
        return R"({"url":"https://in.example/hook?a=b")" + more + "}";
    }
    std::string refused(const std::string& json) {
        return Instance(host_, component(), json).error();
    }
    SinkReply deliver(const std::string& more = "") {
        Instance sink(host_, component(), config(more));
        EXPECT_EQ(sink.status(), ANNAL_OK) << sink.error();
        const auto& table = sink.table<annal_sink_v1>();
        const RawBatch batch(host_.events);
        encoded_ = annal::test::encode(table, sink.self(), batch.get());
        EXPECT_EQ(encoded_.status, ANNAL_OK) << encoded_.error;
        return annal::test::deliver(host_, table, sink.self(), batch.get(), encoded_, "aud_7");
    }

    MiniHost::Answer answer_;
    MiniHost host_{GetParam()};
    Encoded encoded_;
};
INSTANTIATE_TEST_SUITE_P(AtOnceAndLater, SinkWebhookTest, testing::Bool());

TEST_P(SinkWebhookTest, PostsLinesWithWhatIdentifiesThem) {
    EXPECT_EQ(deliver().verdict, ANNAL_DELIVERED);
    ASSERT_EQ(host_.fetched.size(), 1U);
    const auto& sent = host_.fetched[0];
    EXPECT_EQ(sent.method, "POST");
    EXPECT_EQ(sent.url, "https://in.example/hook?a=b");
    EXPECT_EQ(sent.body, encoded_.bytes);
    EXPECT_EQ(std::count(sent.body.begin(), sent.body.end(), '\n'), 3);
    EXPECT_EQ(sent.headers.at("Content-Type"), "application/x-ndjson");
    EXPECT_EQ(sent.headers.at("Stream-Seq"), "0-2");
    EXPECT_EQ(sent.headers.at("Stream-Fence"), "1");
    EXPECT_EQ(sent.headers.at("Idempotency-Key"), "aud_7/0-2");
    EXPECT_EQ(sent.headers.at("webhook-id"), "aud_7:0-2");
    EXPECT_EQ(sent.headers.at("webhook-timestamp"), "1780000003");
    EXPECT_EQ(sent.headers.count("webhook-signature"), 0U);
    EXPECT_EQ(sent.headers.count("Authio-Signature"), 0U);
}

TEST_P(SinkWebhookTest, PostsAnArray) {
    host_.events[1].deleted = true;
    EXPECT_EQ(deliver(R"(,"format":"json")").verdict, ANNAL_DELIVERED);
    const auto& sent = host_.fetched.at(0);
    EXPECT_EQ(sent.headers.at("Content-Type"), "application/json");
    annal::Json json;
    annal::Json::Failure failure;
    ASSERT_TRUE(annal::Json::parse(sent.body, json, failure)) << failure.text();
    ASSERT_EQ(json.items().size(), 3U);
    for (std::size_t i = 0; i < 3; ++i)
        EXPECT_EQ(json.items()[i].find("seq")->integer(), static_cast<std::int64_t>(i));
    ASSERT_EQ(encoded_.ends.size(), 3U);
    EXPECT_EQ(encoded_.ends.back(), encoded_.bytes.size());
    EXPECT_EQ(encoded_.bytes[encoded_.ends[0] - 1], ',');
}

TEST_P(SinkWebhookTest, SignsWhatItSends) {
    deliver(std::string(R"(,"secret":")") + kSecret + "\"");
    host_.wall_us += 90'000'000;
    deliver(std::string(R"(,"secret":")") + kSecret + "\"");
    ASSERT_EQ(host_.fetched.size(), 2U);
    const Signatures of_secret = signatures(kSecret);
    const auto &first = host_.fetched[0], &second = host_.fetched[1];
    EXPECT_EQ(
        first.headers.at("webhook-signature"),
        of_secret.standard("aud_7:0-2", 1'780'000'003, first.body)
    );
    EXPECT_EQ(
        second.headers.at("webhook-signature"),
        of_secret.standard("aud_7:0-2", 1'780'000'093, first.body)
    );
    EXPECT_EQ(first.headers.at("Authio-Signature"), of_secret.authio(first.body));
    EXPECT_EQ(first.body, second.body);
    for (const char* same : {"webhook-id", "Idempotency-Key", "Authio-Signature", "Stream-Seq"})
        EXPECT_EQ(first.headers.at(same), second.headers.at(same)) << same;
}

TEST_P(SinkWebhookTest, SendsTheHeadersOfItsConfiguration) {
    deliver(R"(,"headers":{"Authorization":"Bearer x","X-Empty":""})");
    EXPECT_EQ(host_.fetched.at(0).headers.at("Authorization"), "Bearer x");
    EXPECT_EQ(host_.fetched.at(0).headers.at("X-Empty"), "");
}

TEST_P(SinkWebhookTest, TellsThreeOutcomesApart) {
    const auto reply_to = [&](std::uint32_t status) {
        answer_.status = status;
        return deliver();
    };
    for (const std::uint32_t status : {408U, 425U, 429U, 500U, 503U})
        EXPECT_EQ(reply_to(status).verdict, ANNAL_RETRY) << status;
    for (const std::uint32_t status : {400U, 413U, 422U})
        EXPECT_EQ(reply_to(status).verdict, ANNAL_REJECT) << status;
    for (const std::uint32_t status : {401U, 403U, 404U, 410U})
        EXPECT_EQ(reply_to(status).verdict, ANNAL_PAUSE) << status;
    answer_.headers = {{"retry-after", "3"}};
    EXPECT_EQ(reply_to(429).retry_after_ms, 3'000U);
    answer_.headers = {{"location", "https://elsewhere.example/"}};
    for (const std::uint32_t status : {301U, 302U, 307U, 308U}) {
        const SinkReply reply = reply_to(status);
        EXPECT_EQ(reply.verdict, ANNAL_PAUSE) << status;
        EXPECT_THAT(reply.text, HasSubstr("https://elsewhere.example/"));
    }
    answer_ = {0, "", {}, ANNAL_UNAVAILABLE, "connection refused"};
    EXPECT_EQ(deliver().verdict, ANNAL_RETRY);
    answer_ = {0, "", {}, ANNAL_DENIED, "127.0.0.1 is denied"};
    EXPECT_EQ(deliver().verdict, ANNAL_PAUSE);
}

TEST_P(SinkWebhookTest, WaitsNoLongerThanItMay) {
    Instance sink(host_, component(), config());
    const auto& table = sink.table<annal_sink_v1>();
    const RawBatch batch(host_.events);
    const Encoded encoded = annal::test::encode(table, sink.self(), batch.get());
    const auto timeout_of = [&](std::int64_t deadline_us) {
        annal::test::deliver(host_, table, sink.self(), batch.get(), encoded, "aud_7", deadline_us);
        return host_.fetched.back().timeout_ms;
    };
    EXPECT_EQ(timeout_of(INT64_MAX), 60'000U);
    EXPECT_EQ(timeout_of(0), 1U);
    const auto soon = timeout_of(annal::test::in_ms(5'000));
    EXPECT_GT(soon, 1'000U);
    EXPECT_LE(soon, 5'000U);
}

TEST_P(SinkWebhookTest, RefusesConfigurationsThatCannotWork) {
    EXPECT_THAT(refused("{}"), HasSubstr("/url: missing"));
    EXPECT_THAT(refused(R"({"url":"ftp://in.example"})"), HasSubstr("/url: must begin with"));
    EXPECT_THAT(refused(config(R"(,"secret":"")")), HasSubstr("/secret: length must be"));
    const std::string said = refused(config(R"(,"secret":"whsec_no/base64!")"));
    EXPECT_THAT(said, HasSubstr("/secret: is not base64 behind whsec_"));
    EXPECT_THAT(said, Not(HasSubstr("no/base64")));
    EXPECT_THAT(refused(config(R"(,"format":"xml")")), HasSubstr("/format"));
    EXPECT_THAT(
        refused(config(R"(,"headers":["A: b"])")), HasSubstr("/headers: must be an object")
    );
    EXPECT_THAT(refused(config(R"(,"headers":{"A":1})")), HasSubstr("/headers: must be"));
    for (const char* name : {"Webhook-ID", "content-type", "HOST", "Stream-Seq"}) {
        EXPECT_THAT(
            refused(config(R"(,"headers":{")" + std::string(name) + R"(":"x"})")),
            HasSubstr("is set by the sink itself")
        ) << name;
    }
    host_.withheld = {ANNAL_SERVICE_HTTP_CLIENT};
    EXPECT_EQ(Instance(host_, component(), config()).status(), ANNAL_UNAVAILABLE);
    host_.withheld = {ANNAL_SERVICE_CODEC};
    EXPECT_EQ(Instance(host_, component(), config()).status(), ANNAL_UNAVAILABLE);
}

}  // namespace
