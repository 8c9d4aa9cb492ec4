#include "runtime/store/postgres/selection.h"

#include <gtest/gtest.h>

namespace annal::postgres {
namespace {

/// Filters that carry `text` wherever there is a place for it.
std::vector<Filter> filters_with(const std::string& text) {
    std::vector<Filter> filters;
    for (std::size_t c = 0; c < kColumns; ++c) filters.emplace_back().equals[c] = text;
    filters.emplace_back().actions = {{ActionPattern::Kind::exact, text}};
    filters.emplace_back().actions = {
        {ActionPattern::Kind::exact, text}, {ActionPattern::Kind::prefix, text}};
    filters.emplace_back().action_prefix = text;
    filters.emplace_back().text = text;
    return filters;
}

std::string all_of(const Selection& selection) {
    return selection.driver + selection.rest + selection.time;
}

// Whatever callers ask for goes as a parameter.
TEST(SelectionTest, TextOfCallersIsNoPartOfAStatement) {
    for (const std::string text :
         {"x'; DROP TABLE kv; --", "$$hostile$$", "hostile\\", "%hostile_"}) {
        for (const Filter& filter : filters_with(text)) {
            for (const bool sealed : {false, true}) {
                for (const bool tombstones : {false, true}) {
                    Params params;
                    params.text("project");
                    const auto selection = select(filter, {sealed, tombstones}, params);
                    EXPECT_EQ(all_of(selection).find("hostile"), std::string::npos);
                    EXPECT_EQ(all_of(selection).find("DROP"), std::string::npos);
                    EXPECT_GT(params.size(), 1U);
                    EXPECT_FALSE(selection.nothing);
                }
            }
        }
    }
}

TEST(SelectionTest, TextThatCanNotBeStoredIsNotSent) {
    for (const std::string& text :
         {std::string("a\0b", 3), std::string("\xff"), std::string("\xc3")}) {
        for (const Filter& filter : filters_with(text)) {
            Params params;
            params.text("project");
            EXPECT_TRUE(select(filter, {}, params).nothing);
            EXPECT_EQ(params.size(), 1U);
            // A stream still has to see what was deleted.
            const auto stream = select(filter, {false, true}, params);
            EXPECT_FALSE(stream.nothing);
            EXPECT_EQ(stream.rest, "t.deleted");
            EXPECT_EQ(params.size(), 1U);
        }
    }
}

TEST(SelectionTest, APatternThatCanNotBeStoredTakesNoOtherWithIt) {
    for (const std::string& text : {std::string("a\0b", 3), std::string("\xff")}) {
        Filter filter;
        for (const auto kind : {ActionPattern::Kind::exact, ActionPattern::Kind::prefix}) {
            filter.actions = {{kind, text}, {ActionPattern::Kind::exact, "a.b"}};
            Params params;
            params.text("project");
            const auto selection = select(filter, {}, params);
            EXPECT_FALSE(selection.nothing);
            EXPECT_NE(all_of(selection).find("action = "), std::string::npos);
            ASSERT_EQ(params.size(), 2U);
            EXPECT_EQ(params.values()[1], "a.b");
        }
    }
}

}  // namespace
}  // namespace annal::postgres
