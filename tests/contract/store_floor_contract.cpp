// Raising the floor of a log: what lies below is gone from every read at once, and only that.
#include "tests/contract/random_events.h"
#include "tests/support/test_seed.h"

namespace annal::test {
namespace {

constexpr TimeUs kApril = 1'775'001'600'000'000;  // 2026-04-01T00:00:00Z
constexpr std::chrono::milliseconds kBudget{60'000};

class FloorContract : public StoreContract {
protected:
    Result<void> raise(Truth& truth, Seq to) {
        auto raised = run(store_->raise_floor(truth.project, to));
        if (raised.has_value()) truth.raise_floor(to);
        return raised;
    }

    void expect_reads_agree(const Truth& truth, RandomEvents& random) {
        expect_equal(truth);
        expect_equal(truth, true);
        EXPECT_EQ(log(truth.project).first_seq, truth.first_seq);
        EXPECT_EQ(log(truth.project).head_seq, static_cast<Seq>(truth.events.size()) - 1);
        std::vector<Filter> filters(1);
        for (int i = 0; i < 6; ++i) filters.push_back(random.filter(truth));
        for (const Filter& filter : filters) {
            std::vector<Seq> seqs = truth.expect(filter);
            EXPECT_EQ(walk(truth.project, filter, false, 31), seqs);
            const auto count = run(store_->count(truth.project, filter, kBudget)).value();
            EXPECT_EQ(count.count, static_cast<std::int64_t>(seqs.size()));
        }
        std::map<std::string, std::int64_t> actions;
        for (const Seq seq : truth.expect({}))
            ++actions[std::string(truth.events[static_cast<std::size_t>(seq)][Column::action].view()
            )];
        for (const TimeUs since : {TimeUs{0}, kStart}) {
            std::map<std::string, std::int64_t> counted;
            const auto rows = run(store_->action_counts(truth.project, since)).value();
            for (const auto& row : rows) counted[row.action] = row.count;
            EXPECT_EQ(counted, actions);
        }
    }
};

TEST_P(FloorContract, WhatLiesBelowIsGoneAtOnceAndForGood) {
    RandomEvents random(test_seed());
    auto truths = fill(random, 500);
    Truth& truth = truths[0];
    const auto size = static_cast<Seq>(truth.events.size());
    ASSERT_GT(size, 150);
    expect_reads_agree(truth, random);
    for (const Seq to : {Seq{1}, Seq{2}, size / 4, size / 4 + 1, size / 2, size - 3}) {
        SCOPED_TRACE("floor " + std::to_string(to));
        const Event hidden = truth.events[static_cast<std::size_t>(to - 1)];
        ASSERT_TRUE(raise(truth, to).has_value());
        expect_reads_agree(truth, random);
        EXPECT_EQ(run(store_->get(truth.project, hidden.id)).error().code, Errc::not_found);
        EXPECT_EQ(append(Unit(truth.project).erase(to - 1)).error().code, Errc::not_found);
        if (to == size / 4) harness_->settle();
        if (to == size / 2) reopen();
        expect_reads_agree(truth, random);
    }
    for (std::size_t other = 1; other < truths.size(); ++other)
        expect_reads_agree(truths[other], random);
    harness_->settle();
    expect_reads_agree(truth, random);
    reopen();
    for (const Truth& each : truths) expect_reads_agree(each, random);
}

TEST_P(FloorContract, AFloorOnlyRises) {
    for (int i = 0; i < 10; ++i) receipts(Unit("p").action("a.b"));
    EXPECT_EQ(run(store_->raise_floor("nobody", 1)).error().code, Errc::not_found);
    EXPECT_EQ(run(store_->raise_floor("p", 11)).error().code, Errc::conflict);
    EXPECT_EQ(log("p").first_seq, 0);
    for (const Seq to : {Seq{4}, Seq{4}, Seq{0}, Seq{2}}) {
        ASSERT_TRUE(run(store_->raise_floor("p", to)).has_value());
        EXPECT_EQ(log("p").first_seq, 4);
    }
    reopen();
    EXPECT_EQ(walk("p", {}, false, 3), (std::vector<Seq>{4, 5, 6, 7, 8, 9}));
}

TEST_P(FloorContract, ALogGoesOnBehindItsLastEvent) {
    for (int i = 0; i < 10; ++i) receipts(Unit("p").action("a.b"));
    receipts(Unit("q").action("a.other"));
    const LogState before = log("p");
    ASSERT_TRUE(run(store_->raise_floor("p", 10)).has_value());
    for (int round = 0; round < 2; ++round) {
        EXPECT_TRUE(walk("p", {}, true, 3).empty());
        EXPECT_TRUE(run(store_->action_counts("p", 0)).value().empty());
        EXPECT_EQ(run(store_->count("p", {}, kBudget)).value().count, 0);
        EXPECT_EQ(log("p").head_digest, before.head_digest);
        reopen();
    }
    EXPECT_EQ(receipts(Unit("p").action("a.c")).at(0).seq, 10);
    EXPECT_EQ(walk("p", {}, true, 3), std::vector<Seq>{10});
    reopen();
    EXPECT_EQ(walk("p", {}, true, 3), std::vector<Seq>{10});
    EXPECT_EQ(walk("q", {}, true, 3), std::vector<Seq>{0});
}

TEST_P(FloorContract, AMonthThatNobodySeesAnyMoreCanBeDropped) {
    for (int i = 0; i < 150; ++i) receipts(Unit(i % 3 == 0 ? "q" : "p").action("a.march"));
    clock_.step_to(kApril + 3'600 * kSecondUs);
    for (int i = 0; i < 10; ++i) receipts(Unit("p").action("a.april"));
    ASSERT_TRUE(run(store_->raise_floor("p", 104)).has_value());
    ASSERT_TRUE(run(store_->raise_floor("q", 50)).has_value());
    const auto months = run(store_->months()).value();
    ASSERT_EQ(months.size(), 2U) << "its storage is there";
    ASSERT_TRUE(run(store_->drop_month(month_of(kStart))).has_value());
    for (int round = 0; round < 2; ++round) {
        EXPECT_EQ(log("p").first_seq, 104) << "a drop lowers no floor";
        EXPECT_EQ(log("q").first_seq, 50);
        EXPECT_EQ(walk("p", {}, false, 7), (std::vector<Seq>{104, 105, 106, 107, 108, 109}));
        EXPECT_EQ(run(store_->months()).value().size(), 1U);
        reopen();
    }
    EXPECT_EQ(receipts(Unit("q").action("a.b")).at(0).seq, 50);
}

TEST_P(FloorContract, ReadsAndAppendsGoOnMeanwhile) {
    for (int i = 0; i < 300; ++i) receipts(Unit("p").action("a.b"));
    ScanRequest next = request("p");
    next.newest_first = false;
    next.limit = 10;
    ScanPage page = scan(next);
    ASSERT_TRUE(run(store_->raise_floor("p", 200)).has_value());
    next.after = page.scanned;
    page = scan(next);
    ASSERT_FALSE(page.batch.events.empty());
    EXPECT_EQ(page.batch.events.front().seq, 200);
    EXPECT_EQ(receipts(Unit("p").action("a.c")).at(0).seq, 300);
    harness_->settle();
    EXPECT_EQ(walk("p", {}, true, 40).size(), 101U);
}

INSTANTIATE_TEST_SUITE_P(Stores, FloorContract, testing::ValuesIn(store_kinds()), kind_name);

}  // namespace
}  // namespace annal::test
