#include "runtime/store/postgres/watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <thread>
#include <vector>

namespace annal::postgres {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

class WatchdogTest : public testing::Test {
protected:
    struct Pair {
        Pair() { EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0); }
        ~Pair() {
            ::close(ends[0]);
            ::close(ends[1]);
        }
        /// Waits for bytes that never come. @return  what read(2) gives in the end
        ssize_t wait() {
            char byte = 0;
            return ::read(ends[0], &byte, 1);
        }
        bool is_open() {
            char byte = 'x';
            return ::send(ends[1], &byte, 1, MSG_NOSIGNAL) == 1 && wait() == 1;
        }
        int ends[2];
    };
    Watchdog dog_;
};

TEST_F(WatchdogTest, EndsACallAtItsDeadline) {
    Pair pair;
    const auto begin = Clock::now();
    const Watchdog::Guard guard(dog_, pair.ends[0], begin + 100ms);
    EXPECT_EQ(pair.wait(), 0);
    EXPECT_GE(Clock::now() - begin, 100ms);
    EXPECT_LT(Clock::now() - begin, 10s);
}

TEST_F(WatchdogTest, LeavesACallAloneThatHasEnded) {
    Pair pair, other;
    { const Watchdog::Guard guard(dog_, pair.ends[0], Clock::now() + 20ms); }
    const Watchdog::Guard later(dog_, other.ends[0], Clock::now() + 60ms);
    EXPECT_EQ(other.wait(), 0) << "the dog has looked since";
    EXPECT_TRUE(pair.is_open());
}

// It sleeps until the earliest deadline that it knows of; an earlier one that comes later counts.
TEST_F(WatchdogTest, WakesForAnEarlierDeadline) {
    Pair slow, fast;
    const auto begin = Clock::now();
    const Watchdog::Guard patient(dog_, slow.ends[0], begin + 1h);
    std::this_thread::sleep_for(20ms);
    const Watchdog::Guard hasty(dog_, fast.ends[0], begin + 50ms);
    EXPECT_EQ(fast.wait(), 0);
    EXPECT_TRUE(slow.is_open());
}

TEST_F(WatchdogTest, WatchesManyAtOnce) {
    std::vector<Pair> pairs(20);
    std::vector<std::unique_ptr<Watchdog::Guard>> guards;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
        const Watchdog::Deadline deadline =
            Clock::now() + (i % 2 == 0 ? 10ms * static_cast<int>(20 - i) : 1h);
        guards.push_back(std::make_unique<Watchdog::Guard>(dog_, pairs[i].ends[0], deadline));
    }
    for (std::size_t i = 0; i < pairs.size(); ++i)
        EXPECT_TRUE(i % 2 == 0 ? pairs[i].wait() == 0 : pairs[i].is_open()) << i;
}

TEST_F(WatchdogTest, NoCallOutlivesTheLimit) {
    EXPECT_EQ(dog_.left(), std::nullopt);
    Pair before, hasty, after;
    const auto begin = Clock::now();
    const Watchdog::Guard patient(dog_, before.ends[0], begin + 1h);
    const Watchdog::Guard first(dog_, hasty.ends[0], begin + 50ms);
    dog_.expire_at(begin + 700ms);
    EXPECT_LE(dog_.left().value(), 700ms);
    const Watchdog::Guard later(dog_, after.ends[0], begin + 1h);
    EXPECT_EQ(hasty.wait(), 0);
    EXPECT_TRUE(before.is_open()) << "an earlier deadline stays one";
    EXPECT_EQ(before.wait(), 0);
    EXPECT_EQ(after.wait(), 0);
    EXPECT_GE(Clock::now() - begin, 500ms);
    EXPECT_LT(Clock::now() - begin, 30s);
}

// A server that answers can still be told what is to be known.
TEST_F(WatchdogTest, ACallBeyondTheLimitHasAMomentStill) {
    dog_.expire_at(Clock::now() - 1s);
    EXPECT_EQ(dog_.left(), 0ms);
    Pair pair;
    const auto begin = Clock::now();
    const Watchdog::Guard last(dog_, pair.ends[0], begin + 1h);
    EXPECT_EQ(pair.wait(), 0);
    EXPECT_GE(Clock::now() - begin, 400ms);
    EXPECT_LT(Clock::now() - begin, 30s);
}

}  // namespace
}  // namespace annal::postgres
