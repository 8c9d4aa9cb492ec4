#include "runtime/webhooks/webhook_endpoint.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

using Status = WebhookEndpoint::Status;
constexpr const char* kOld = "whsec_b2xkIG9sZCBvbGQgb2xkIG9sZCBvbGQgb2xk";
constexpr const char* kNew = "whsec_bmV3IG5ldyBuZXcgbmV3IG5ldyBuZXcgbmV3";
constexpr TimeUs kNow = 1'700'000'000'000'000;

const SecretBox& box() {
    static const SecretBox box({{"one", std::string(32, 'k')}});
    return box;
}

WebhookEndpoint endpoint() {
    WebhookEndpoint endpoint;
    endpoint.id = "web_0f1e2d";
    endpoint.project = "p";
    endpoint.url = "https://example.com/hook?a=\"b\"";
    endpoint.description = "zur Übersicht";
    endpoint.patterns = {parse_pattern("user.created").value(), parse_pattern("auth.*").value()};
    endpoint.scheme = SignatureScheme::timestamped;
    endpoint.status = Status::disabled;
    endpoint.reason = "by request";
    endpoint.revision = 5;
    endpoint.created_at = kNow - 2;
    endpoint.updated_at = kNow - 1;
    return endpoint;
}

WebhookEndpoint stored(const WebhookEndpoint& endpoint) {
    return WebhookEndpoint::from_row({endpoint.project, endpoint.id, endpoint.to_row()}).value();
}

TEST(WebhookEndpoint, RoundTripsThroughItsRow) {
    WebhookEndpoint given = endpoint();
    given.take_secret(box(), kOld, kNow, 0);
    given.take_secret(box(), kNew, kNow, 10);
    const WebhookEndpoint read = stored(given);
    EXPECT_EQ(read.id, given.id);
    EXPECT_EQ(read.project, given.project);
    EXPECT_EQ(read.url, given.url);
    EXPECT_EQ(read.description, given.description);
    EXPECT_EQ(read.patterns, given.patterns);
    EXPECT_EQ(read.scheme, given.scheme);
    EXPECT_EQ(read.status, given.status);
    EXPECT_EQ(read.reason, given.reason);
    EXPECT_EQ(read.sealed, given.sealed);
    EXPECT_EQ(read.sealed_before, given.sealed_before);
    EXPECT_EQ(read.before_until, given.before_until);
    EXPECT_EQ(read.fingerprint, given.fingerprint);
    EXPECT_EQ(read.revision, given.revision);
    EXPECT_EQ(read.created_at, given.created_at);
    EXPECT_EQ(read.updated_at, given.updated_at);
    EXPECT_EQ(read.to_row(), given.to_row());
}

TEST(WebhookEndpoint, SaysWhichRowIsDamaged) {
    const std::string good = endpoint().to_row();
    const auto without = [&](const std::string& part, const std::string& instead) {
        std::string row = good;
        const auto at = row.find(part);
        EXPECT_NE(at, std::string::npos) << part;
        return row.replace(at, part.size(), instead);
    };
    for (const std::string& row :
         {std::string(),
          std::string("[]"),
          good.substr(0, good.size() / 2),
          without("\"disabled\"", "\"paused\""),
          without("\"timestamped\"", "\"none\""),
          without("\"auth.*\"", "\"auth.*.x\""),
          without("\"auth.*\"", "7"),
          without("\"events\"", "\"others\"")}) {
        const auto read = WebhookEndpoint::from_row({"p", "web_0f1e2d", row});
        ASSERT_FALSE(read) << row;
        EXPECT_EQ(read.error().code, Errc::internal) << row;
        EXPECT_NE(read.error().detail.find("web_0f1e2d"), std::string::npos);
    }
}

TEST(WebhookEndpoint, HasAWordForEachScheme) {
    for (const auto scheme : {SignatureScheme::body, SignatureScheme::timestamped})
        EXPECT_EQ(scheme_of(word(scheme)), scheme);
    EXPECT_FALSE(scheme_of("body"));
}

TEST(WebhookEndpoint, SignsWithTheNewSecretAloneWithoutAGrace) {
    WebhookEndpoint given = endpoint();
    given.take_secret(box(), kOld, kNow, 10);  // there is none before
    EXPECT_EQ(given.sealed_before, "");
    EXPECT_EQ(given.secrets(box(), kNow).value().current, kOld);
    const std::string fingerprint = given.fingerprint;
    given.take_secret(box(), kNew, kNow, 0);
    const SigningSecrets secrets = given.secrets(box(), kNow).value();
    EXPECT_EQ(secrets.current, kNew);
    EXPECT_EQ(secrets.before, "");
    EXPECT_EQ(given.before_until, kNoTime);
    EXPECT_NE(given.fingerprint, fingerprint);
}

TEST(WebhookEndpoint, SignsWithBothUntilTheGraceIsOver) {
    WebhookEndpoint given = endpoint();
    given.take_secret(box(), kOld, kNow, 0);
    given.take_secret(box(), kNew, kNow, 10);
    given = stored(given);
    for (const TimeUs at : {kNow, kNow + 9}) {
        const SigningSecrets secrets = given.secrets(box(), at).value();
        EXPECT_EQ(secrets.current, kNew);
        EXPECT_EQ(secrets.before, kOld);
    }
    const SigningSecrets after = given.secrets(box(), kNow + 10).value();
    EXPECT_EQ(after.current, kNew);
    EXPECT_EQ(after.before, "");
}

TEST(WebhookEndpoint, KeepsNoMoreThanOneSecretBefore) {
    WebhookEndpoint given = endpoint();
    given.take_secret(box(), kOld, kNow, 0);
    given.take_secret(box(), kNew, kNow, 10);
    given.take_secret(box(), "whsec_dGhpcmQ=", kNow, 10);
    EXPECT_EQ(given.secrets(box(), kNow).value().before, kNew);
}

TEST(WebhookEndpoint, NeverShowsASecret) {
    WebhookEndpoint given = endpoint();
    given.take_secret(box(), kOld, kNow, 0);
    given.take_secret(box(), kNew, kNow, 10);
    const std::string row = given.to_row();
    for (const std::string secret : {kOld, kNew}) {
        EXPECT_EQ(row.find(secret), std::string::npos);
        EXPECT_EQ(row.find(secret.substr(6)), std::string::npos);
        EXPECT_EQ(row.find(secret.substr(6, 12)), std::string::npos);
    }
}

TEST(WebhookEndpoint, OpensItsSecretNowhereElse) {
    WebhookEndpoint given = endpoint();
    given.take_secret(box(), kOld, kNow, 0);
    WebhookEndpoint moved = given;
    moved.id = "web_other";
    EXPECT_FALSE(moved.secrets(box(), kNow));
    moved = given;
    moved.project = "q";
    EXPECT_FALSE(moved.secrets(box(), kNow));
    const SecretBox other({{"two", std::string(32, 'k')}});
    const auto read = given.secrets(other, kNow);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Errc::unavailable);
}

TEST(WebhookEndpoint, ForgetsItsSecretsForGood) {
    WebhookEndpoint given = endpoint();
    given.take_secret(box(), kOld, kNow, 0);
    given.take_secret(box(), kNew, kNow, 10);
    given.forget_secrets();
    EXPECT_EQ(given.to_row().find("sealed"), std::string::npos);
    EXPECT_FALSE(stored(given).secrets(box(), kNow));
}

}  // namespace
}  // namespace annal
