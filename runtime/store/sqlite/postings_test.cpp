#include "runtime/store/sqlite/postings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <thread>

namespace annal::sqlite {
namespace {

struct Row {
    ProjectNumber pid;
    Seq seq;
    TimeUs at;
    std::string user, action;
    bool erased = false;
};

class PostingsTest : public testing::Test {
protected:
    void add(ProjectNumber pid, const std::string& user, const std::string& action) {
        const Seq seq =
            static_cast<Seq>(std::count_if(rows_.begin(), rows_.end(), [&](const Row& row) {
                return row.pid == pid;
            }));
        const TimeUs at = 1'000 + static_cast<TimeUs>(rows_.size()) * 10;
        rows_.push_back({pid, seq, at, user, action});
        std::array<Text, kColumns> columns;
        columns[static_cast<std::size_t>(Column::user_id)] = Text(user);
        columns[static_cast<std::size_t>(Column::action)] = Text(action);
        const Postings::Entry entry{row_key(pid, seq), at, columns};
        postings_.add(std::span(&entry, 1));
    }

    [[nodiscard]] std::vector<Seq> expect(
        ProjectNumber pid, Column column, const std::string& value, const SeqRange& range
    ) const {
        std::vector<Seq> seqs;
        for (const Row& row : rows_) {
            const std::string& own = column == Column::action ? row.action : row.user;
            if (row.pid == pid && own == value && !row.erased && row.seq >= range.first &&
                row.seq <= range.last) {
                seqs.push_back(row.seq);
            }
        }
        if (range.newest_first) {
            std::reverse(seqs.begin(), seqs.end());
        }
        return seqs;
    }

    std::vector<Row> rows_;
    Postings postings_;
};

TEST_F(PostingsTest, FindsWhatABruteForceFinds) {
    std::mt19937 random(3);
    for (int i = 0; i < 3'000; ++i) {
        add(1 + random() % 3,
            "u" + std::to_string(random() % 400),
            "a." + std::to_string(random() % 7));
    }
    for (int i = 0; i < 50; ++i) {
        Row& row = rows_[random() % rows_.size()];
        row.erased = true;
        postings_.erase(row_key(row.pid, row.seq));
    }
    for (int round = 0; round < 500; ++round) {
        const ProjectNumber pid = 1 + random() % 3;
        const bool by_action = random() % 2 == 0;
        const Column column = by_action ? Column::action : Column::user_id;
        const std::string value =
            by_action ? "a." + std::to_string(random() % 8) : "u" + std::to_string(random() % 410);
        const Seq first = static_cast<Seq>(random() % 1'000);
        const SeqRange range{first, first + static_cast<Seq>(random() % 900), random() % 2 == 0};
        const std::size_t limit = 1 + random() % 40;
        const auto expected = expect(pid, column, value, range);
        const SeqList list = postings_.find(pid, column, value, range, limit);
        EXPECT_EQ(list.complete, expected.size() <= limit);
        ASSERT_EQ(list.seqs.size(), std::min(limit, expected.size()));
        EXPECT_TRUE(std::equal(list.seqs.begin(), list.seqs.end(), expected.begin()));
    }
}

TEST_F(PostingsTest, ListsActionsByPrefixWithinALimit) {
    for (const char* action : {"b.x", "a.y", "a.x", "a_.x", "c.z"}) {
        add(1, "u", action);
        add(2, "u", "a.other");
    }
    using Names = std::vector<std::string>;
    EXPECT_EQ(postings_.actions(1, "a.", 10), (Names{"a.x", "a.y"}));
    EXPECT_EQ(postings_.actions(1, "", 10), (Names{"a.x", "a.y", "a_.x", "b.x", "c.z"}));
    EXPECT_EQ(postings_.actions(1, "", 4), std::nullopt);
    EXPECT_EQ(postings_.actions(3, "", 4), Names{});
}

TEST_F(PostingsTest, CountsActionsWithoutTombstones) {
    for (int i = 0; i < 10; ++i) {
        add(1, "u", i % 2 == 0 ? "a.even" : "a.odd");
    }
    postings_.erase(row_key(1, 8));
    postings_.add_tombstone(row_key(1, 10), 5'000);
    std::map<std::string, ActionCount> counts;
    postings_.count_actions(1, 1'030, 0, 10, counts);
    EXPECT_EQ(counts["a.even"].count, 2);  // 4 and 6
    EXPECT_EQ(counts["a.even"].last_seen, 1'060);
    EXPECT_EQ(counts["a.odd"].count, 4);
    EXPECT_EQ(postings_.tombstones(1, 0, 100), (std::vector<Seq>{8, 10}));
    EXPECT_EQ(postings_.tombstones(1, 9, 9), std::vector<Seq>{});
}

TEST_F(PostingsTest, ReadersSeeWholeChainsWhileTheWriterAdds) {
    std::atomic<bool> stop{false};
    std::thread reader([&] {
        while (!stop) {
            const auto list = postings_.find(1, Column::user_id, "u", {0, 1'000'000, true}, 10'000);
            for (std::size_t i = 1; i < list.seqs.size(); ++i) {
                EXPECT_EQ(list.seqs[i], list.seqs[i - 1] - 1);
            }
        }
    });
    for (int i = 0; i < 2'000; ++i) {
        add(1, "u", "a.b");
    }
    stop = true;
    reader.join();
    EXPECT_EQ(postings_.estimate(1, Column::user_id, "u"), 2'000U);
}

}  // namespace
}  // namespace annal::sqlite
