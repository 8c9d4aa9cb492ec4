#include "runtime/bus/noticeboard.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <mutex>

#include "tests/support/fake_store.h"
#include "tests/support/io_threads.h"

namespace annal {
namespace {

struct NoticeboardTest : testing::Test {
    SystemClock clock;
    test::FakeStore store{clock};
    test::IoThreads threads;
    Noticeboard here{store, clock, Noticeboard::Nodes::many, threads.executor()};
    Noticeboard there{store, clock, Noticeboard::Nodes::many, threads.executor()};
    std::mutex mutex;
    std::vector<std::string> read;

    void SetUp() override {
        here.add_reader([this](std::string project) -> Task<Result<void>> {
            const std::lock_guard lock(mutex);
            read.push_back(std::move(project));
            co_return ok();
        });
    }
    void change(const Noticeboard& board, const std::string& project) {
        AppendUnit unit;
        unit.project = project;
        board.put_up(unit, project);
        const auto outcomes = threads.run(store.append({&unit, 1}));
        ASSERT_TRUE(outcomes.front().has_value()) << outcomes.front().error().detail;
    }
    std::vector<std::string> catch_up() {
        read.clear();
        const auto done = threads.run(here.catch_up());
        EXPECT_TRUE(done.has_value()) << done.error().detail;
        std::sort(read.begin(), read.end());
        return read;
    }
};

TEST_F(NoticeboardTest, ReadsAnewWhatAnotherNodeHasChanged) {
    ASSERT_TRUE(threads.run(here.begin()).has_value());
    EXPECT_TRUE(catch_up().empty());
    change(there, "p");
    EXPECT_EQ(catch_up(), (std::vector<std::string>{"p"}));
    EXPECT_TRUE(catch_up().empty());
    change(there, "p");
    change(there, "q");
    EXPECT_EQ(catch_up(), (std::vector<std::string>{"p", "q"}));
}

TEST_F(NoticeboardTest, WhatWasThereBeforeIsNotReadAnew) {
    for (int i = 0; i < 300; ++i) change(there, "p" + std::to_string(i));
    ASSERT_TRUE(threads.run(here.begin()).has_value());
    EXPECT_TRUE(catch_up().empty());
    change(there, "p7");  // beside others in its bucket
    EXPECT_EQ(catch_up(), (std::vector<std::string>{"p7"}));
}

TEST_F(NoticeboardTest, EveryoneWhoAsksSeesWhatWasCommittedBefore) {
    ASSERT_TRUE(threads.run(here.begin()).has_value());
    store.hop = true;
    for (int i = 0; i < 20; ++i) {
        const std::string project = "p" + std::to_string(i);
        change(there, project);
        EXPECT_EQ(catch_up(), (std::vector<std::string>{project}));
    }
}

TEST_F(NoticeboardTest, AFailureIsToldAndTheNextLookMakesUpForIt) {
    ASSERT_TRUE(threads.run(here.begin()).has_value());
    change(there, "p");
    store.fail_reads({Errc::unavailable, "gone"});
    const auto failed = threads.run(here.catch_up());
    ASSERT_FALSE(failed.has_value());
    EXPECT_EQ(failed.error().detail, "gone");
    EXPECT_EQ(catch_up(), (std::vector<std::string>{"p"}));
}

TEST_F(NoticeboardTest, AReaderThatFailsReadsAgain) {
    bool fails = true;
    here.add_reader([&fails](std::string) -> Task<Result<void>> {
        if (std::exchange(fails, false)) co_return Error{Errc::unavailable, "not now"};
        co_return ok();
    });
    ASSERT_TRUE(threads.run(here.begin()).has_value());
    change(there, "p");
    EXPECT_FALSE(threads.run(here.catch_up()).has_value());
    EXPECT_EQ(catch_up(), (std::vector<std::string>{"p"}));
}

TEST_F(NoticeboardTest, GrowsStaleWithoutLooks) {
    ManualClock manual{1'780'000'000 * kSecondUs};
    Noticeboard board(store, manual, Noticeboard::Nodes::many, threads.executor());
    ASSERT_TRUE(threads.run(board.begin()).has_value());
    EXPECT_FALSE(board.is_stale());
    manual.advance(Noticeboard::kFresh.count() * 1'000 + 1'000);
    EXPECT_TRUE(board.is_stale());
    store.fail_reads({Errc::unavailable, "gone"});
    EXPECT_FALSE(threads.run(board.catch_up()).has_value());
    EXPECT_TRUE(board.is_stale());
    EXPECT_TRUE(threads.run(board.catch_up()).has_value());
    EXPECT_FALSE(board.is_stale());
}

TEST_F(NoticeboardTest, IsGoneWithANodeThatEndsWhileSomebodyWaits) {
    const auto known = std::make_shared<int>();
    {
        boost::asio::io_context io;
        ManualClock still{1'780'000'000 * kSecondUs};  // the time of the second look never comes
        Noticeboard board(store, still, Noticeboard::Nodes::many, io.get_executor());
        board.add_reader([known](std::string) -> Task<Result<void>> { co_return ok(); });
        int answered = 0;
        const auto ask = [](Noticeboard& asked, int& count) -> Task<void> {
            (void)co_await asked.catch_up();
            ++count;
        };
        for (int i = 0; i < 2; ++i) {
            boost::asio::co_spawn(io, ask(board, answered), boost::asio::detached);
            io.restart();
            io.poll();
        }
        ASSERT_EQ(answered, 1);
        ASSERT_GT(known.use_count(), 1);
    }
    EXPECT_EQ(known.use_count(), 1);
}

TEST_F(NoticeboardTest, ANodeAloneNeitherPutsUpNorLooks) {
    Noticeboard alone(store, clock, Noticeboard::Nodes::one, threads.executor());
    AppendUnit unit;
    alone.put_up(unit, "p");
    EXPECT_TRUE(unit.kv.empty());
    store.fail_reads({Errc::unavailable, "must not be asked"});
    EXPECT_TRUE(threads.run(alone.begin()).has_value());
    EXPECT_TRUE(threads.run(alone.catch_up()).has_value());
    EXPECT_FALSE(alone.is_stale());
}

TEST_F(NoticeboardTest, WhatWasChangedPastItsKeeperIsReadAnewByOneNodeAndByMany) {
    for (const auto nodes : {Noticeboard::Nodes::one, Noticeboard::Nodes::many}) {
        Noticeboard board(store, clock, nodes, threads.executor());
        std::vector<std::string> told;
        board.add_reader([&told](std::string project) -> Task<Result<void>> {
            told.push_back(std::move(project));
            co_return ok();
        });
        ASSERT_TRUE(threads.run(board.begin()).has_value());
        change(board, "p");
        std::vector<std::string> projects{"p"};
        ASSERT_TRUE(threads.run(board.read_anew(std::move(projects))).has_value());
        EXPECT_EQ(told, (std::vector<std::string>{"p"}));
    }
}

}  // namespace
}  // namespace annal
