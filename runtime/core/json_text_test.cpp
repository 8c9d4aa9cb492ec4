#include "runtime/core/json_text.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

namespace annal {
namespace {

std::string json_of(std::string_view text) {
    std::string out;
    append_json_string(out, text);
    return out;
}

TEST(JsonTextTest, EscapesOnlyWhatItMust) {
    EXPECT_EQ(json_of(""), R"("")");
    EXPECT_EQ(json_of("a/b é … 😀 \x7f"), "\"a/b é … 😀 \x7f\"");
    EXPECT_EQ(json_of("\"\\\b\f\n\r\t"), R"("\"\\\b\f\n\r\t")");
    EXPECT_EQ(json_of(std::string_view("\0\x1f", 2)), R"("\u0000\u001f")");
}

TEST(JsonTextTest, EveryAsciiCharacterComesBackThroughAParser) {
    for (int c = 0; c < 0x80; ++c) {
        const std::string text = std::string("x") + static_cast<char>(c) + "y";
        EXPECT_EQ(boost::json::parse(json_of(text)).as_string(), text) << c;
    }
}

TEST(JsonTextTest, WritesIntegersOfEverySize) {
    std::string out;
    append_int(out, INT64_MIN);
    append_int(out, 0);
    append_int(out, INT64_MAX);
    EXPECT_EQ(out, "-922337203685477580809223372036854775807");
}

TEST(JsonTextTest, KnowsUtf8) {
    for (const char* good :
         {"",
          "ascii only and longer than eight bytes",
          "é",
          "…",
          "😀",
          "\xed\x9f\xbf",
          "\xee\x80\x80",
          "\xf4\x8f\xbf\xbf",
          "12345678é"}) {
        EXPECT_TRUE(is_utf8(good)) << good;
    }
    EXPECT_TRUE(is_utf8(std::string_view("\0", 1)));
}

TEST(JsonTextTest, KnowsWhatIsNotUtf8) {
    for (const char* bad :
         {"\x80",
          "\xc3",
          "\xc0\xaf",
          "\xc1\xbf",
          "\xe2\x82",
          "\xe0\x9f\xbf",
          "\xed\xa0\x80",
          "\xed\xbf\xbf",
          "\xf0\x8f\xbf\xbf",
          "\xf4\x90\x80\x80",
          "\xf5\x80\x80\x80",
          "\xff",
          "\xc3(",
          "\xe2\x82(",
          "\xf0\x9f\x98(",
          "12345678\xff",
          "1234567\xc3"}) {
        EXPECT_FALSE(is_utf8(bad)) << ::testing::PrintToString(bad);
        EXPECT_FALSE(is_utf8(std::string("before ") + bad + " after"));
    }
}

TEST(JsonTextTest, MeasuresOneCharacter) {
    EXPECT_EQ(utf8_character_size("ab"), 1U);
    EXPECT_EQ(utf8_character_size("éa"), 2U);
    EXPECT_EQ(utf8_character_size("…a"), 3U);
    EXPECT_EQ(utf8_character_size("😀a"), 4U);
    EXPECT_EQ(utf8_character_size(""), 0U);
    EXPECT_EQ(utf8_character_size("\x80"), 0U);
}

TEST(JsonTextTest, CutsBetweenCharacters) {
    EXPECT_EQ(utf8_prefix("abc", 3), "abc");
    EXPECT_EQ(utf8_prefix("abc", 2), "ab");
    EXPECT_EQ(utf8_prefix("a…b", 4), "a…");
    EXPECT_EQ(utf8_prefix("a…b", 3), "a");
    EXPECT_EQ(utf8_prefix("a…b", 1), "a");
    EXPECT_EQ(utf8_prefix("…", 2), "");
    EXPECT_EQ(utf8_prefix("…", 0), "");
}

TEST(JsonTextTest, QuotesForeignTextForMessages) {
    EXPECT_EQ(quote_bounded("user"), "\"user\"");
    EXPECT_EQ(quote_bounded("a\n\xff"), "\"a??\"");
    EXPECT_EQ(quote_bounded(std::string(65, 'x')), "\"" + std::string(64, 'x') + "…\"");
}

}  // namespace
}  // namespace annal
