#include "runtime/webhooks/signatures.h"

#include <gtest/gtest.h>

#include <map>

#include "runtime/core/crypto.h"

namespace annal {
namespace {

constexpr const char* kSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
constexpr const char* kBody = "{\"test\": 2432232314}";

std::map<std::string, std::string> headers(const SigningSecrets& secrets, SignatureScheme scheme) {
    std::map<std::string, std::string> map;
    for (const auto& [name, value] :
         signature_headers(secrets, scheme, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1'614'265'330, kBody))
        map[name] = value;
    return map;
}

// One secret, keyed as text and as the bytes behind it.
TEST(Signatures, AreThoseOfThePublishedVectors) {
    const auto found = headers({kSecret, ""}, SignatureScheme::body);
    EXPECT_EQ(
        found.at("Authio-Signature"),
        "v1=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"
    );
    EXPECT_EQ(found.at("webhook-signature"), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    EXPECT_EQ(found.at("webhook-id"), "msg_p5jXN8AQM9LWM0D4loKWxJek");
    EXPECT_EQ(found.at("webhook-timestamp"), "1614265330");
}

// Computed with: printf '1614265330.{"test": 2432232314}' | openssl dgst -sha256 -hmac whsec_…
TEST(Signatures, MayCoverTheTime) {
    const auto found = headers({kSecret, ""}, SignatureScheme::timestamped);
    EXPECT_EQ(
        found.at("Authio-Signature"),
        "t=1614265330,v1=2e37df5d4a028c51a7f3133d64ae1e300d2c2c900f1b1d49d4369ad2530f8964"
    );
}

TEST(Signatures, OfBothSecretsDuringARotation) {
    const std::string before = "whsec_" + to_base64("another key of 24 bytes!");
    const auto found = headers({kSecret, before}, SignatureScheme::body);
    const auto alone = headers({before, ""}, SignatureScheme::body);
    EXPECT_EQ(
        found.at("webhook-signature"),
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= " + alone.at("webhook-signature")
    );
    EXPECT_EQ(
        found.at("Authio-Signature"),
        "v1=80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c"
    ) << "exactly one, of the new secret";
}

TEST(Signatures, SecretsAreFreshAndOfTheStandardsForm) {
    const std::string one = make_signing_secret(), other = make_signing_secret();
    EXPECT_NE(one, other);
    ASSERT_TRUE(one.starts_with("whsec_"));
    EXPECT_EQ(from_base64(one.substr(6)).value().size(), 32U);
}

}  // namespace
}  // namespace annal
