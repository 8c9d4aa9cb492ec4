#include "runtime/store/filter.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

namespace annal {
namespace {

Event some_event() {
    Event event;
    event.seq = 7;
    event.created_at = 1000;
    event.project_id = "proj_a";
    event[Column::action] = "organization.member.added";
    event[Column::actor_type] = "user";
    event[Column::actor_id] = "usr_Alice";
    event[Column::target_id] = "org_%1";
    event[Column::description] = "Added Bob to Ärzte";
    event[Column::user_agent] = "curl";
    return event;
}

Filter filter_with(const std::function<void(Filter&)>& set) {
    Filter filter;
    set(filter);
    return filter;
}

bool matches(const std::function<void(Filter&)>& set, const Event& event = some_event()) {
    return filter_with(set).matches(event);
}

std::optional<std::string>& equals(Filter& filter, Column column) {
    return filter.equals[static_cast<std::size_t>(column)];
}

TEST(FilterTest, NothingSetMatchesEverything) {
    EXPECT_TRUE(Filter().matches_all());
    EXPECT_TRUE(Filter().matches(some_event()));
    Event tombstone;
    tombstone.deleted = true;
    EXPECT_TRUE(Filter().matches(tombstone));
}

TEST(FilterTest, ATombstoneMatchesNoPart) {
    Event tombstone = some_event();
    tombstone.deleted = true;
    EXPECT_FALSE(matches([](Filter& f) { f.from = 0; }, tombstone));
    EXPECT_FALSE(matches([](Filter& f) { f.actions = parse_patterns("*").value(); }, tombstone));
}

TEST(FilterTest, ActionsAreAnyOfThePatterns) {
    EXPECT_TRUE(matches([](Filter& f) { f.actions = parse_patterns("a.b,organization.*").value(); })
    );
    EXPECT_FALSE(matches([](Filter& f) { f.actions = parse_patterns("a.b,user.*").value(); }));
}

TEST(FilterTest, APrefixIsLiteral) {
    EXPECT_TRUE(matches([](Filter& f) { f.action_prefix = "organization.mem"; }));
    EXPECT_FALSE(matches([](Filter& f) { f.action_prefix = "organization_mem"; }));
    EXPECT_FALSE(matches([](Filter& f) { f.action_prefix = "%"; }));
    EXPECT_TRUE(matches([](Filter& f) { f.action_prefix = ""; }));
}

TEST(FilterTest, ColumnsAreComparedExactly) {
    EXPECT_TRUE(matches([](Filter& f) { equals(f, Column::actor_id) = "usr_Alice"; }));
    EXPECT_FALSE(matches([](Filter& f) { equals(f, Column::actor_id) = "usr_alice"; }));
    EXPECT_FALSE(matches([](Filter& f) { equals(f, Column::user_id) = ""; }));
    Event event = some_event();
    event[Column::user_id] = "";
    EXPECT_TRUE(matches([](Filter& f) { equals(f, Column::user_id) = ""; }, event));
}

TEST(FilterTest, TimesIncludeTheirStartAndExcludeTheirEnd) {
    EXPECT_TRUE(matches([](Filter& f) { f.from = 1000; }));
    EXPECT_FALSE(matches([](Filter& f) { f.from = 1001; }));
    EXPECT_TRUE(matches([](Filter& f) { f.before = 1001; }));
    EXPECT_FALSE(matches([](Filter& f) { f.before = 1000; }));
}

TEST(FilterTest, OccurredAtFallsBackToCreatedAt) {
    const auto occurred = [](TimeUs from, TimeUs before) {
        return [=](Filter& f) { f.occurred_from = from, f.occurred_before = before; };
    };
    EXPECT_TRUE(matches(occurred(1000, 1001)));
    Event event = some_event();
    event.occurred_at = -5;
    EXPECT_TRUE(matches(occurred(-5, -4), event));
    EXPECT_FALSE(matches(occurred(1000, 1001), event));
}

TEST(FilterTest, TextIsFoundInFourColumns) {
    for (const char* text : {"MEMBER.added", "usr_al", "G_%1", "bob TO", "Ärzte", ""}) {
        EXPECT_TRUE(matches([&](Filter& f) { f.text = text; })) << text;
    }
    for (const char* text : {"curl", "proj_a", "ärzte", "org_x1", "addedBob", "user\n"}) {
        EXPECT_FALSE(matches([&](Filter& f) { f.text = text; })) << text;
    }
}

TEST(FilterTest, EveryPartMustHold) {
    const auto both = [](const char* actor) {
        return [=](Filter& f) {
            f.action_prefix = "organization.";
            equals(f, Column::actor_id) = actor;
        };
    };
    EXPECT_TRUE(matches(both("usr_Alice")));
    EXPECT_FALSE(matches(both("usr_Eve")));
}

/// One filter for each part alone, and neighbours that are easily confused with it.
std::vector<Filter> different_filters() {
    std::vector<Filter> filters = {
        {},
        filter_with([](Filter& f) { f.actions = parse_patterns("a.b").value(); }),
        filter_with([](Filter& f) { f.actions = parse_patterns("a.b,a.c").value(); }),
        filter_with([](Filter& f) { f.actions = parse_patterns("a.*").value(); }),
        filter_with([](Filter& f) { f.actions = parse_patterns("*").value(); }),
        filter_with([](Filter& f) { f.action_prefix = "a."; }),
        filter_with([](Filter& f) { f.action_prefix = ""; }),
        filter_with([](Filter& f) { f.text = "a."; }),
        filter_with([](Filter& f) { f.text = ""; }),
        filter_with([](Filter& f) { f.from = 0; }),
        filter_with([](Filter& f) { f.from = 1; }),
        filter_with([](Filter& f) { f.before = 0; }),
        filter_with([](Filter& f) { f.occurred_from = 0; }),
        filter_with([](Filter& f) { f.occurred_before = 0; }),
    };
    for (std::size_t i = 0; i < kColumns; ++i) {
        for (const char* value : {"", "x"}) {
            filters.push_back(filter_with([&](Filter& f) { f.equals[i] = value; }));
        }
    }
    return filters;
}

TEST(FilterTest, EveryPartCountsForMatchesAllAndForTheDigest) {
    const auto filters = different_filters();
    std::set<Digest> digests;
    for (const Filter& filter : filters) {
        EXPECT_TRUE(digests.insert(filter.digest()).second);
        EXPECT_EQ(filter.digest(), filter.digest());
    }
    for (std::size_t i = 1; i < filters.size(); ++i) {
        EXPECT_FALSE(filters[i].matches_all()) << i;
    }
}

TEST(FilterTest, TheOrderOfActionsDoesNotCount) {
    const auto digest = [](const char* list) {
        return filter_with([&](Filter& f) { f.actions = parse_patterns(list).value(); }).digest();
    };
    EXPECT_EQ(digest("a.b,c.*,a.b"), digest("c.*,a.b"));
    EXPECT_NE(digest("a.b,c.*"), digest("a.b"));
}

TEST(ContainsAsciiCiTest, FoldsAsciiLettersAlone) {
    EXPECT_TRUE(contains_ascii_ci("Hello World", "o w"));
    EXPECT_TRUE(contains_ascii_ci("Hello World", "WORLD"));
    EXPECT_TRUE(contains_ascii_ci("abc", "abc"));
    EXPECT_TRUE(contains_ascii_ci("", ""));
    EXPECT_TRUE(contains_ascii_ci("aaab", "AAB"));
    EXPECT_FALSE(contains_ascii_ci("abc", "abcd"));
    EXPECT_FALSE(contains_ascii_ci("", "a"));
    EXPECT_FALSE(contains_ascii_ci("a[b", "a{b"));
    EXPECT_FALSE(contains_ascii_ci("a@b", "a`b"));
    EXPECT_FALSE(contains_ascii_ci("É", "é"));
}

}  // namespace
}  // namespace annal
