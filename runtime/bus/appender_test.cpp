#include "runtime/bus/appender.h"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/support/fake_store.h"
#include "tests/support/io_threads.h"

namespace annal {
namespace {

using test::FakeStore;
using test::IoThreads;

constexpr TimeUs kStart = 1'780'000'000 * kSecondUs;

struct AppenderTest : testing::Test {
    ManualClock clock{kStart};
    Metrics metrics;
    Limits limits;
    FakeStore store{clock};
    IoThreads threads;
    std::unique_ptr<Appender> appender = make();

    std::unique_ptr<Appender> make() {
        return std::make_unique<Appender>(store, clock, limits, metrics, threads.executor());
    }

    static AppendUnit unit(
        const std::string& project, std::size_t padding = 0, const std::string& key = {}
    ) {
        auto memory = std::make_shared<std::string>(padding, 'x');
        EventDraft draft;
        draft[Column::action] = "test.happened";
        draft[Column::actor_type] = "system";
        draft[Column::auth_type] = "system";
        draft[Column::metadata] = "{}";
        draft[Column::user_agent] = Text(*memory);
        AppendUnit result;
        result.project = project;
        result.events.push_back(draft);
        result.memory = memory;
        result.request_key = key;
        return result;
    }

    AppendOutcome append(AppendUnit u) { return threads.run(appender->append(std::move(u))); }

    /// Waits until so many units are accepted and not answered.
    bool queued(int units) {
        const std::string line = "\nannal_append_queue_units " + std::to_string(units) + "\n";
        for (int i = 0; i < 5'000; ++i) {
            if (metrics.render().find(line) != std::string::npos) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
        return false;
    }
};

TEST_F(AppenderTest, ReturnsTheReceiptsOfALoneRequest) {
    const AppendOutcome outcome = append(unit("p"));
    ASSERT_TRUE(outcome.has_value());
    ASSERT_EQ(outcome.value().size(), 1U);
    EXPECT_EQ(outcome.value()[0].seq, 0);
    EXPECT_EQ(outcome.value()[0].created_at, kStart);
}

TEST_F(AppenderTest, SharesACommitAmongThoseWhoArriveDuringOne) {
    store.append_delay_ms = 20;
    std::vector<PendingTask<AppendOutcome>> pending;
    for (int i = 0; i < 100; ++i)
        pending.push_back(threads.start(appender->append(unit("p" + std::to_string(i % 7)))));
    for (auto& p : pending) EXPECT_TRUE(p.get().has_value());
    EXPECT_GE(store.appends, 2);
    EXPECT_LE(store.appends, 10);
}

TEST_F(AppenderTest, KeepsTheOrderOfOneProject) {
    store.append_delay_ms = 5;
    IoThreads one(1);
    Appender ordered(store, clock, limits, metrics, one.executor());
    std::vector<PendingTask<AppendOutcome>> asked;
    for (int i = 0; i < 20; ++i) asked.push_back(one.start(ordered.append(unit("p"))));
    for (int i = 0; i < 20; ++i)
        EXPECT_EQ(asked[static_cast<std::size_t>(i)].get().value()[0].seq, i);
}

TEST_F(AppenderTest, RefusesAProjectWhoseShareIsFullAndServesTheOthers) {
    limits.project_queue_bytes_max = 4'000;
    appender = make();
    store.hold_appends = true;
    auto first = threads.start(appender->append(unit("greedy", 3'000)));
    ASSERT_TRUE(queued(1));
    const AppendOutcome second = append(unit("greedy", 3'000));
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::busy);
    EXPECT_GT(second.error().retry_after_ms, 0U);
    auto modest = threads.start(appender->append(unit("modest", 3'000)));
    ASSERT_TRUE(queued(2));
    store.hold_appends = false;
    EXPECT_TRUE(modest.get().has_value());
    EXPECT_TRUE(first.get().has_value());
    EXPECT_TRUE(append(unit("greedy", 3'000)).has_value()) << "the share is free again";
}

TEST_F(AppenderTest, RefusesEverybodyWhenTheNodesQueueIsFull) {
    limits.queue_bytes_max = 4'000;
    appender = make();
    store.hold_appends = true;
    auto first = threads.start(appender->append(unit("a", 3'000)));
    ASSERT_TRUE(queued(1));
    const AppendOutcome second = append(unit("b", 3'000));
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, Errc::unavailable);
    EXPECT_GT(second.error().retry_after_ms, 0U);
    store.hold_appends = false;
    EXPECT_TRUE(first.get().has_value());
}

TEST_F(AppenderTest, TakesOneRequestHoweverSmallTheShare) {
    limits.project_queue_bytes_max = 1;
    limits.queue_bytes_max = 1;
    appender = make();
    EXPECT_TRUE(append(unit("p", 10'000)).has_value());
}

TEST_F(AppenderTest, FailsOnlyTheRequestThatIsWrong) {
    store.append_delay_ms = 20;
    ASSERT_TRUE(append(unit("p", 1, "key")).has_value());
    auto good = threads.start(appender->append(unit("p", 1)));
    auto conflict = threads.start(appender->append(unit("p", 2, "key")));
    auto replay = threads.start(appender->append(unit("p", 1, "key")));
    EXPECT_TRUE(good.get().has_value());
    EXPECT_EQ(conflict.get().error().code, Errc::conflict);
    const AppendOutcome replayed = replay.get();
    ASSERT_TRUE(replayed.has_value());
    EXPECT_TRUE(replayed.value()[0].replayed);
    EXPECT_EQ(replayed.value()[0].seq, 0);
}

TEST_F(AppenderTest, PassesOnThatTheStoreCannotWriteAndRecovers) {
    store.fail_appends(Error{Errc::unavailable, "disk full"}, 1);
    EXPECT_EQ(append(unit("p")).error().code, Errc::unavailable);
    const AppendOutcome next = append(unit("p"));
    ASSERT_TRUE(next.has_value());
    EXPECT_EQ(next.value()[0].seq, 0) << "the failed request left no hole";
}

TEST_F(AppenderTest, RefusesAClockThatJumpedForwardUntilItIsConfirmed) {
    ASSERT_TRUE(append(unit("p")).has_value());
    EXPECT_EQ(appender->refusal(), "");
    clock.step_to(kStart + 3'600 * kSecondUs);
    const AppendOutcome refused = append(unit("p"));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    EXPECT_NE(refused.error().detail.find("3600 s"), std::string::npos) << refused.error().detail;
    EXPECT_NE(appender->refusal(), "");
    appender->confirm_clock();
    EXPECT_TRUE(append(unit("p")).has_value());
}

TEST_F(AppenderTest, GoesOnWhenTheClockStepsBack) {
    const Receipt before = append(unit("p")).value()[0];
    clock.step_to(kStart - kDayUs);
    const Receipt after = append(unit("p")).value()[0];
    EXPECT_GT(after.created_at, before.created_at);
    EXPECT_GT(after.id, before.id);
    EXPECT_NE(metrics.render().find("annal_clock_behind_seconds 86400"), std::string::npos);
}

TEST_F(AppenderTest, WakesTheSubscribersOfTheProjectOnly) {
    std::atomic<int> mine{0}, other{0}, any{0};
    auto a = appender->subscribe("mine", [&] { ++mine; });
    auto b = appender->subscribe("other", [&] { ++other; });
    auto c = appender->subscribe("", [&] { ++any; });
    ASSERT_TRUE(append(unit("mine")).has_value());
    threads.run(appender->drain());
    EXPECT_EQ(mine, 1);
    EXPECT_EQ(other, 0);
    EXPECT_EQ(any, 1);
    a.reset();
    ASSERT_TRUE(append(unit("mine")).has_value());
    threads.run(appender->drain());
    EXPECT_EQ(mine, 1);
    EXPECT_EQ(any, 2);
}

TEST_F(AppenderTest, DrainsWhatItHasAccepted) {
    store.hold_appends = true;
    auto pending = threads.start(appender->append(unit("p")));
    ASSERT_TRUE(queued(1));
    store.hold_appends = false;
    threads.run(appender->drain());
    EXPECT_EQ(store.appends, 1);
    EXPECT_TRUE(pending.get().has_value());
}

}  // namespace
}  // namespace annal
