#include "runtime/core/secret_box.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

const SecretBox::MasterKey kOld{"k1", std::string(32, 'a')}, kNew{"k2", std::string(32, 'b')};

TEST(SecretBox, OpensWhatItSealed) {
    const SecretBox box({kOld});
    for (const std::string& plain :
         {std::string(), std::string("whsec_x"), std::string(9'000, 'z')}) {
        const std::string sealed = box.seal("p", "web_1", plain);
        EXPECT_EQ(box.open("p", "web_1", sealed).value(), plain);
        EXPECT_TRUE(plain.empty() || sealed.find(plain) == std::string::npos);
        EXPECT_NE(sealed, box.seal("p", "web_1", plain)) << "two seals of one secret look alike";
    }
}

TEST(SecretBox, OpensNothingThatWasMovedOrChanged) {
    const SecretBox box({kOld});
    const std::string sealed = box.seal("p", "web_1", "secret");
    EXPECT_EQ(box.open("q", "web_1", sealed).error().code, Errc::internal);
    EXPECT_EQ(box.open("p", "web_2", sealed).error().code, Errc::internal);
    for (std::size_t i = 0; i < sealed.size(); ++i) {
        std::string changed = sealed;
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        const auto opened = box.open("p", "web_1", changed);
        // The last digit of base64 may hold bits that mean nothing.
        if (!opened) continue;
        EXPECT_EQ(opened.value(), "secret") << i;
        EXPECT_TRUE(i + 1 == sealed.size() || sealed[i + 1] == '.') << i;
    }
    for (const char* other : {"", "v1", "v1..", "v1.k1.AAAA.AAAA", "v2.k1.AAAA.AAAA", "secret"})
        EXPECT_EQ(box.open("p", "web_1", other).error().code, Errc::internal) << other;
}

TEST(SecretBox, SealsWithTheFirstKeyAndOpensWithAll) {
    const std::string sealed = SecretBox({kOld}).seal("p", "web_1", "secret");
    const SecretBox both({kNew, kOld});
    EXPECT_EQ(both.open("p", "web_1", sealed).value(), "secret");
    EXPECT_FALSE(both.is_current(sealed));
    const std::string again = both.seal("p", "web_1", "secret");
    EXPECT_TRUE(both.is_current(again));
    EXPECT_EQ(SecretBox({kNew}).open("p", "web_1", again).value(), "secret");
    const auto unknown = SecretBox({kNew}).open("p", "web_1", sealed);
    EXPECT_EQ(unknown.error().code, Errc::unavailable);
    EXPECT_NE(unknown.error().detail.find("k1"), std::string::npos);
}

TEST(SecretBox, AKeyOfTheSameNameButOtherBytesOpensNothing) {
    const std::string sealed = SecretBox({kOld}).seal("p", "web_1", "secret");
    EXPECT_FALSE(SecretBox({{"k1", std::string(32, 'c')}}).open("p", "web_1", sealed));
}

}  // namespace
}  // namespace annal
