#include "runtime/store/postgres/pool.h"

#include <gtest/gtest.h>

#include <future>

#include "tests/support/postgres_cluster.h"
#include "tests/support/tcp_proxy.h"

namespace annal::postgres {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class PoolTest : public testing::Test {
protected:
    std::unique_ptr<Pool> pool(std::size_t threads, bool through_proxy = false) {
        Connection::Options options;
        options.url =
            through_proxy ? proxy_.url("postgres") : test::shared_cluster().url("postgres");
        return std::make_unique<Pool>(
            "test",
            threads,
            options,
            [this](Connection&) -> Result<void> {
                if (refusal_.empty()) return ok();
                return Error{Errc::unavailable, refusal_, {}, 1'000};
            },
            dog_,
            reconnection_,
            metrics_
        );
    }
    /// Runs `job` in the pool to its end.
    template <class Job>
    auto run(Pool& pool, Job job) {
        using T = decltype(job(std::declval<Pool::Seat&>()));
        auto done = std::make_shared<std::promise<T>>();
        auto result = done->get_future();
        EXPECT_TRUE(pool.post([done, job](Pool::Seat& seat) { done->set_value(job(seat)); }));
        return result.get();
    }
    static std::string backend(Pool::Seat& seat) {
        auto connection = seat.connection();
        if (!connection) return connection.error().detail;
        const auto rows = connection.value()->run("SELECT pg_backend_pid()");
        return rows ? std::string(rows.value().text(0, 0).view()) : "lost";
    }

    test::TcpProxy proxy_{test::shared_cluster().socket_path()};
    Watchdog dog_;
    Reconnection reconnection_;
    Metrics metrics_;
    std::string refusal_;
};

TEST_F(PoolTest, KeepsTheConnectionOfAThread) {
    auto one = pool(1);
    const auto first = run(*one, backend);
    EXPECT_EQ(run(*one, backend), first);
}

TEST_F(PoolTest, ReplacesAConnectionThatIsLost) {
    auto one = pool(1);
    const auto first = run(*one, backend);
    test::shared_cluster().sql("postgres", "SELECT pg_terminate_backend(" + first + ")");
    EXPECT_EQ(run(*one, backend), "lost");
    EXPECT_NE(run(*one, backend), first);
}

TEST_F(PoolTest, SaysAtOnceWhyThereIsNoConnectionBetweenAttempts) {
    auto one = pool(1, true);
    proxy_.refuse();
    for (int i = 0; i < 4; ++i) {
        const auto why = run(*one, [](Pool::Seat& seat) { return seat.connection().error(); });
        EXPECT_EQ(why.code, Errc::unavailable);
        EXPECT_GT(why.retry_after_ms, 0U);
        EXPECT_NE(why.detail.find("can't connect"), std::string::npos) << why.detail;
    }
    const auto begin = Clock::now();
    for (int i = 0; i < 1'000; ++i)
        (void)run(*one, [](Pool::Seat& seat) { return seat.connection().has_value(); });
    EXPECT_LT(Clock::now() - begin, 5s) << "each job has tried for itself";
}

TEST_F(PoolTest, WaitsForTheServerWhenAJobWantsTo) {
    auto one = pool(1, true);
    proxy_.refuse();
    auto done = std::make_shared<std::promise<bool>>();
    auto result = done->get_future();
    std::promise<void> begun;
    EXPECT_TRUE(one->post([&, done](Pool::Seat& seat) {
        EXPECT_TRUE(seat.connection().has_error());
        begun.set_value();
        done->set_value(seat.connection_within(30s).has_value());
    }));
    begun.get_future().wait();
    proxy_.resume();
    EXPECT_TRUE(result.get());
    proxy_.refuse();
    proxy_.cut();
    const auto begin = Clock::now();
    EXPECT_TRUE(run(*one, [](Pool::Seat& seat) {
        (void)seat.connection().value()->run("SELECT 1");
        return seat.connection_within(300ms).has_error();
    }));
    EXPECT_GE(Clock::now() - begin, 300ms);
    EXPECT_LT(Clock::now() - begin, 10s);
}

// Who has waited long would otherwise go on refusing for a second when the server is there again.
TEST_F(PoolTest, TriesAtOnceWhenAnotherPoolGotIn) {
    auto one = pool(1, true), other = pool(1, true);
    proxy_.refuse();
    EXPECT_FALSE(run(*other, [](Pool::Seat& seat) {
        return seat.connection_within(2s).has_value();
    }));
    proxy_.resume();
    EXPECT_TRUE(run(*one, [](Pool::Seat& seat) { return seat.connection_within(30s).has_value(); })
    );
    EXPECT_TRUE(run(*other, [](Pool::Seat& seat) { return seat.connection().has_value(); }));
}

TEST_F(PoolTest, RefusesAConnectionThatIsNotAdmitted) {
    refusal_ = "the tables are not there yet";
    auto one = pool(1);
    EXPECT_EQ(run(*one, backend), refusal_);
}

TEST_F(PoolTest, RefusesAConnectionThatIsNotAdmittedAnyMore) {
    auto one = pool(1);
    const auto first = run(*one, backend);
    refusal_ = "the tables are of a later version";
    EXPECT_EQ(run(*one, backend), refusal_);
    refusal_.clear();
    EXPECT_EQ(run(*one, backend), first);
}

// As where the server has room for some of its connections only.
TEST_F(PoolTest, TellsAReasonOnceThoughOthersSucceedMeanwhile) {
    auto one = pool(1, true);
    testing::internal::CaptureStderr();
    for (int i = 0; i < 4; ++i) {
        refusal_ = "no room";
        EXPECT_TRUE(run(*one, [](Pool::Seat& seat) { return seat.connection().has_error(); }));
        refusal_ = "";
        EXPECT_TRUE(run(*one, [](Pool::Seat& seat) {
            auto connection = seat.connection_within(30s);
            return connection.has_value() && connection.value()->run("SELECT 1").has_value();
        }));
        proxy_.cut();
        EXPECT_EQ(run(*one, backend), "lost");
    }
    const std::string logged = testing::internal::GetCapturedStderr();
    const auto first = logged.find("no room");
    ASSERT_NE(first, std::string::npos) << logged;
    EXPECT_EQ(logged.find("no room", first + 1), std::string::npos) << logged;
}

TEST_F(PoolTest, RefusesMoreJobsThanItsQueueTakes) {
    auto one = pool(1);
    std::promise<void> begun, go_on;
    auto may_go_on = go_on.get_future().share();
    ASSERT_TRUE(one->post([&](Pool::Seat&) {
        begun.set_value();
        may_go_on.wait();
    }));
    begun.get_future().wait();
    int taken = 0, ran = 0;
    while (taken < 100'000 && one->post([&](Pool::Seat&) { ++ran; })) ++taken;
    EXPECT_EQ(taken, 16'384);
    go_on.set_value();
    one->stop();
    EXPECT_EQ(ran, taken) << "what was queued is finished";
    EXPECT_FALSE(one->post([](Pool::Seat&) {}));
}

}  // namespace
}  // namespace annal::postgres
