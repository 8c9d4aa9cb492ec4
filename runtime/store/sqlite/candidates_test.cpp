#include "runtime/store/sqlite/candidates.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "runtime/store/sqlite/segment_file.h"

namespace annal::sqlite {
namespace fs = std::filesystem;
namespace {

TEST(Trigrams, CoverTheNeedle) {
    EXPECT_EQ(trigrams_of(""), "");
    EXPECT_EQ(trigrams_of("ab"), "");
    EXPECT_EQ(trigrams_of("äö"), "");
    EXPECT_EQ(trigrams_of("abc"), "\"abc\"");
    EXPECT_EQ(trigrams_of("abcd"), "\"abc\" AND \"bcd\"");
    EXPECT_EQ(trigrams_of("a\"b"), "\"a\"\"b\"");
    EXPECT_EQ(trigrams_of("日本語"), "\"日本語\"");
    EXPECT_EQ(trigrams_of("abcdefg"), "\"abc\" AND \"def\" AND \"efg\"");
    EXPECT_LT(trigrams_of(std::string(4'000, 'x')).size(), 200U);
}

class PlanTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-plan-XXXXXX").string();
        root_ = ::mkdtemp(pattern.data());
        Segment segment(1, Month{2026 * 12}, root_ / "s.db", root_ / "s.search");
        auto file = SegmentFile::open(segment);
        ASSERT_TRUE(file.has_value()) << file.error().detail;
        ASSERT_TRUE(file.value().seal().has_value());
        file_.emplace(std::move(file.value()));
    }
    void TearDown() override {
        file_.reset();
        fs::remove_all(root_);
    }

    std::string plan(const std::string& sql) {
        auto rows = file_->connection().query("EXPLAIN QUERY PLAN " + sql);
        EXPECT_TRUE(rows.has_value()) << rows.error().detail;
        std::string steps;
        while (rows.value().next().value()) {
            steps += std::string(rows.value().text(3).view()) + "; ";
        }
        return steps;
    }

    fs::path root_;
    std::optional<SegmentFile> file_;
};

// Each column's index finds one value's events in seq order within a range: no sort, no look at the
// rows.
TEST_F(PlanTest, EveryIndexServesARangeOfSeqsInOrder) {
    for (std::size_t c = 0; c < kIndexedColumns; ++c) {
        const std::string column(name(static_cast<Column>(c)));
        for (const char* order : {"", " DESC"}) {
            const std::string steps = plan(
                "SELECT key FROM events INDEXED BY events_" + column + " WHERE " + column +
                " = ?1 AND key BETWEEN ?2 AND ?3 ORDER BY key" + order + " LIMIT ?4"
            );
            EXPECT_EQ(
                steps,
                "SEARCH events USING COVERING INDEX events_" + column + " (" + column +
                    "=? AND rowid>? AND rowid<?); "
            );
        }
    }
}

TEST_F(PlanTest, TombstonesComeFromTheirIndex) {
    EXPECT_EQ(
        plan("SELECT key FROM events INDEXED BY events_deleted WHERE deleted = 1 AND key BETWEEN ? "
             "AND ?"),
        "SEARCH events USING COVERING INDEX events_deleted (deleted=? AND rowid>? AND rowid<?); "
    );
}

}  // namespace
}  // namespace annal::sqlite
