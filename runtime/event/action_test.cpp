#include "runtime/event/action.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

bool matches(std::string_view pattern, std::string_view action) {
    return parse_pattern(pattern).value().matches(action);
}

TEST(ActionTest, GrammarTakesTwoToEightSegments) {
    for (const char* good : {"user.created", "a.b", "0.1", "a_.b_", "a1_x.b", "a.b.c.d.e.f.g.h"}) {
        EXPECT_TRUE(is_action(good)) << good;
    }
    for (const char* bad :
         {"",
          "user",
          "a.b.c.d.e.f.g.h.i",
          ".a",
          "a.",
          "a..b",
          "_a.b",
          "a._b",
          "A.b",
          "a.B",
          "a-b.c",
          "a b.c",
          "a.b ",
          "a.b\n",
          "*",
          "a.*",
          "é.b"}) {
        EXPECT_FALSE(is_action(bad)) << bad;
    }
    EXPECT_FALSE(is_action(std::string_view("a.b\0", 4)));
}

TEST(ActionTest, GrammarEndsAt128Bytes) {
    const std::string stem = "a.";
    EXPECT_TRUE(is_action(stem + std::string(126, 'b')));
    EXPECT_FALSE(is_action(stem + std::string(127, 'b')));
}

TEST(ActionPatternTest, ExactNamesMatchThemselvesAlone) {
    EXPECT_TRUE(matches("user.created", "user.created"));
    EXPECT_FALSE(matches("user.created", "user.created.twice"));
    EXPECT_FALSE(matches("user.created", "user.create"));
}

TEST(ActionPatternTest, NamespacesMatchAtEveryDepth) {
    EXPECT_TRUE(matches("recovery.*", "recovery.request.approved"));
    EXPECT_TRUE(matches("recovery.*", "recovery.begun"));
    EXPECT_TRUE(matches("recovery.request.*", "recovery.request.approved"));
    EXPECT_FALSE(matches("recovery.request.*", "recovery.requested.x"));
    EXPECT_FALSE(matches("recovery.*", "recovery_code.used"));
    EXPECT_FALSE(matches("recovery.*", "recovery"));
}

TEST(ActionPatternTest, StarMatchesEverything) {
    EXPECT_TRUE(matches("*", "a.b"));
    EXPECT_TRUE(matches("*", ""));
}

TEST(ActionPatternTest, RefusesWhatIsNoPattern) {
    for (const char* bad :
         {"",
          "user",
          "user*",
          "user.*.created",
          "*.created",
          "user.**",
          ".*",
          "User.*",
          "**",
          "a.b.c.d.e.f.g.h.*",
          " user.*",
          "user.%",
          "a..*"}) {
        const auto pattern = parse_pattern(bad);
        ASSERT_FALSE(pattern) << bad;
        EXPECT_EQ(pattern.error().code, Errc::unprocessable);
        EXPECT_NE(pattern.error().detail.find("user.*"), std::string::npos);
    }
}

TEST(ActionPatternTest, ListsAreSeparatedByCommas) {
    const auto patterns = parse_patterns("user.created, session.*,*").value();
    ASSERT_EQ(patterns.size(), 3U);
    EXPECT_EQ(patterns[0].kind, ActionPattern::Kind::exact);
    EXPECT_EQ(patterns[1], (ActionPattern{ActionPattern::Kind::prefix, "session."}));
    EXPECT_EQ(patterns[2].kind, ActionPattern::Kind::any);
}

TEST(ActionPatternTest, ListsAreNeverEmptyNorEndless) {
    for (const char* bad : {"", ",", "user.created,", ",user.created", "user.created,,a.b", " "}) {
        EXPECT_FALSE(parse_patterns(bad)) << bad;
    }
    std::string list = "a.b";
    for (int i = 1; i < 100; ++i) {
        list += ",a.b";
    }
    EXPECT_TRUE(parse_patterns(list));
    EXPECT_EQ(parse_patterns(list + ",a.b").error().code, Errc::unprocessable);
}

TEST(ActionPatternTest, AnyOfAListIsEnough) {
    const auto patterns = parse_patterns("user.created,session.*").value();
    EXPECT_TRUE(matches_any(patterns, "session.ended"));
    EXPECT_FALSE(matches_any(patterns, "user.deleted"));
    EXPECT_FALSE(matches_any({}, "user.created"));
}

}  // namespace
}  // namespace annal
