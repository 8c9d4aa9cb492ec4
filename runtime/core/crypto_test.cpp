#include "runtime/core/crypto.h"

#include <gtest/gtest.h>

#include <set>

namespace annal {
namespace {

std::string hex(const Digest& digest) {
    return to_hex(digest);
}

TEST(CryptoTest, Sha256HasItsPublishedValues) {
    EXPECT_EQ(hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(
        hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

TEST(CryptoTest, Sha256TakesPartsAndCanBeUsedAgain) {
    Sha256 hash;
    EXPECT_EQ(hash.update("a").update("bc").finish(), sha256("abc"));
    EXPECT_EQ(hash.finish(), sha256(""));
    EXPECT_EQ(hash.update("abc").finish(), sha256("abc"));
}

TEST(CryptoTest, HmacHasTheValuesOfRfc4231) {
    EXPECT_EQ(
        hex(hmac_sha256(std::string(20, '\x0b'), "Hi There")),
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
    );
    EXPECT_EQ(
        hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    EXPECT_EQ(
        hex(hmac_sha256("", "")), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"
    );
}

TEST(CryptoTest, HexGoesBothWays) {
    const std::string bytes = "\x00\x7f\xff";
    EXPECT_EQ(from_hex("00"), std::string(1, '\0'));
    EXPECT_EQ(from_hex("DEADbeef"), "\xde\xad\xbe\xef");
    EXPECT_EQ(from_hex(""), "");
    EXPECT_FALSE(from_hex("0"));
    EXPECT_FALSE(from_hex("0g"));
    EXPECT_FALSE(from_hex("@0"));
}

TEST(CryptoTest, Base64GoesBothWaysAtEveryLength) {
    std::string bytes;
    for (int i = 0; i < 70; ++i) {
        const std::string text = to_base64url(bytes);
        EXPECT_EQ(text.find_first_of("+/="), std::string::npos);
        EXPECT_EQ(from_base64url(text), bytes) << text;
        bytes += static_cast<char>(i * 37 + 200);
    }
}

TEST(CryptoTest, Base64KnowsItsAlphabets) {
    EXPECT_EQ(to_base64url("\xfb\xef\xbe"), "----");
    EXPECT_EQ(from_base64("++++"), "\xfb\xef\xbe");
    EXPECT_EQ(from_base64("Zg=="), "f");
    EXPECT_EQ(from_base64("Zg"), "f");
    EXPECT_EQ(from_base64("Zm8="), "fo");
    EXPECT_FALSE(from_base64("----"));
    EXPECT_FALSE(from_base64("Zg="));
    EXPECT_FALSE(from_base64("Zg==="));
    EXPECT_FALSE(from_base64("===="));
    EXPECT_FALSE(from_base64url("Zg=="));
    EXPECT_FALSE(from_base64url("Zm9v Zm9v"));
    EXPECT_FALSE(from_base64url("Z"));
}

TEST(CryptoTest, Base64RefusesBitsThatNoEncoderWrites) {
    EXPECT_EQ(from_base64url("Zg"), "f");
    EXPECT_FALSE(from_base64url("Zh"));
    EXPECT_FALSE(from_base64url("Zm9"));
}

TEST(CryptoTest, ComparesInConstantTimeByContent) {
    EXPECT_TRUE(equal_constant_time("abc", "abc"));
    EXPECT_FALSE(equal_constant_time("abc", "abd"));
    EXPECT_FALSE(equal_constant_time("abc", "ab"));
    EXPECT_TRUE(equal_constant_time("", ""));
}

TEST(CryptoTest, TokensAreCrockfordDigitsAndDiffer) {
    std::set<std::string> seen;
    for (int i = 0; i < 100; ++i) {
        const std::string token = random_token("sk_live_", 24);
        ASSERT_TRUE(token.starts_with("sk_live_"));
        EXPECT_EQ(token.size(), 8 + (24 * 8 + 4) / 5);
        EXPECT_EQ(
            token.substr(8).find_first_not_of("0123456789abcdefghjkmnpqrstvwxyz"), std::string::npos
        );
        seen.insert(token);
    }
    EXPECT_EQ(seen.size(), 100U);
    EXPECT_NE(random_u64(), random_u64());
}

}  // namespace
}  // namespace annal
