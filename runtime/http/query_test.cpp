#include "runtime/http/query.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace annal::http {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

Pairs parsed(std::string_view text) {
    auto result = parse_query(text);
    EXPECT_TRUE(result) << text;
    return result ? std::move(result.value()) : Pairs{};
}

TEST(QueryTest, DecodesAndKeepsOrderAndDuplicates) {
    EXPECT_THAT(
        parsed("type=a.b%2Cc&q=two+words%2B&type=d&empty=&bare&&x=%C3%A9=1"),
        ElementsAre(
            Pair("type", "a.b,c"),
            Pair("q", "two words+"),
            Pair("type", "d"),
            Pair("empty", ""),
            Pair("bare", ""),
            Pair("x", "é=1")
        )
    );
    EXPECT_THAT(parsed(""), IsEmpty());
    EXPECT_THAT(parsed("&&"), IsEmpty());
    EXPECT_THAT(parsed("=v"), ElementsAre(Pair("", "v")));
    EXPECT_THAT(parsed("a%5B%5D=1"), ElementsAre(Pair("a[]", "1")));
}

TEST(QueryTest, RefusesWhatCantBeText) {
    for (const char* text :
         {"a=%", "a=%1", "a=%g1", "%zz=1", "a=%00", "a=%ff", "a=%C3", "a=%ED%A0%80"}) {
        const auto result = parse_query(std::string("ok=1&") + text);
        ASSERT_FALSE(result) << text;
        EXPECT_EQ(result.error().code, Errc::invalid);
        EXPECT_THAT(result.error().detail, HasSubstr("parameter 2")) << text;
    }
}

TEST(QueryTest, PercentDecodeLeavesPlusAlone) {
    EXPECT_EQ(percent_decode("a+b%2b"), "a+b+");
    EXPECT_EQ(percent_decode("%e2%82%ac"), "€");
    EXPECT_FALSE(percent_decode("%"));
    EXPECT_FALSE(percent_decode("%00"));
    EXPECT_FALSE(percent_decode("%fe"));
}

}  // namespace
}  // namespace annal::http
