#include "runtime/event/event.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace annal {
namespace {

TEST(TextTest, NullDiffersFromEmpty) {
    EXPECT_TRUE(Text().is_null());
    EXPECT_FALSE(Text("").is_null());
    EXPECT_FALSE(Text(std::string_view()).is_null());
    EXPECT_FALSE(Text() == Text(""));
    EXPECT_TRUE(Text() == Text());
    EXPECT_TRUE(Text("a") == Text(std::string("a")));
    EXPECT_EQ(Text().view(), "");
}

TEST(ColumnTest, EveryColumnHasItsOwnNameAndALimit) {
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < kColumns; ++i) {
        names.insert(name(static_cast<Column>(i)));
        EXPECT_GT(size_max(static_cast<Column>(i)), 0U);
    }
    EXPECT_EQ(names.size(), kColumns);
    EXPECT_EQ(name(Column::external_id), "external_id");
    EXPECT_EQ(name(Column::organization_id), "organization_id");
    EXPECT_EQ(name(Column::metadata), "metadata");
    EXPECT_EQ(size_max(Column::metadata), 65'536U);
    EXPECT_EQ(size_max(Column::external_id), 128U);
}

TEST(EventDraftTest, WeighsAllItsText) {
    EventDraft draft;
    const std::size_t empty = draft.weight();
    draft[Column::metadata] = "12345";
    draft.idempotency_key = "678";
    EXPECT_EQ(draft.weight(), empty + 8);
}

TEST(ArenaTest, CopiesStayWhereTheyAre) {
    Arena arena;
    std::vector<std::pair<std::string, std::string_view>> copies;
    for (std::size_t size = 0; size < 3000; size += 7) {
        std::string text(size, static_cast<char>('a' + size % 26));
        const std::string_view copy = arena.copy(std::string_view(text));
        copies.emplace_back(std::move(text), copy);
    }
    for (const auto& [text, copy] : copies) {
        ASSERT_EQ(text, copy);
    }
    EXPECT_GT(arena.bytes(), 3000U * 3000 / 14);
}

TEST(ArenaTest, KeepsNullNullAndEmptyEmpty) {
    Arena arena;
    EXPECT_TRUE(arena.copy(Text()).is_null());
    EXPECT_FALSE(arena.copy(Text("")).is_null());
}

TEST(ArenaTest, AlignsAndTakesLargeRequests) {
    Arena arena;
    for (const std::size_t align : {1U, 2U, 8U, 16U}) {
        (void)arena.allocate(1, 1);
        auto* const p = arena.allocate(24, align);
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % align, 0U);
    }
    auto* const large = static_cast<char*>(arena.allocate(1 << 20, 8));
    large[0] = large[(1 << 20) - 1] = 'x';
    const std::string_view small = arena.copy(std::string_view("still in the first block"));
    EXPECT_EQ(small, "still in the first block");
}

TEST(ArenaTest, AMovedFromArenaIsEmptyAndUsable) {
    Arena first;
    const std::string_view text = first.copy(std::string_view("kept"));
    Arena second = std::move(first);
    EXPECT_EQ(first.bytes(), 0U);  // NOLINT(bugprone-use-after-move): that is what is promised
    const std::string_view other = first.copy(std::string_view("other"));
    EXPECT_EQ(text, "kept");
    second = Arena();
    EXPECT_EQ(other, "other");
    EXPECT_EQ(second.bytes(), 0U);
}

}  // namespace
}  // namespace annal
