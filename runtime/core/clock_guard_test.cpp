#include "runtime/core/clock_guard.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

constexpr TimeUs kStart = 1'780'000'000 * kSecondUs;

/// A guard and the clock that it watches.
struct Watched {
    ManualClock clock{kStart};
    ClockGuard guard{ClockReading::of(clock)};
    std::optional<std::int64_t> check() { return guard.check(ClockReading::of(clock)); }
};

TEST(ClockGuard, PassesTimeThatFlows) {
    Watched watched;
    watched.clock.advance(3'600 * kSecondUs);
    EXPECT_FALSE(watched.check());
}

TEST(ClockGuard, PassesAStepForwardOfAMinute) {
    Watched watched;
    watched.clock.step_to(kStart + ClockGuard::kJumpMaxUs);
    EXPECT_FALSE(watched.check());
}

TEST(ClockGuard, ReportsALongerStepUntilItIsConfirmed) {
    Watched watched;
    watched.clock.step_to(kStart + 61 * kSecondUs);
    EXPECT_EQ(watched.check(), 61 * kSecondUs);
    EXPECT_TRUE(watched.check());
    watched.guard.confirm(ClockReading::of(watched.clock));
    EXPECT_FALSE(watched.check());
}

TEST(ClockGuard, ForgetsAStepThatWasTakenBack) {
    Watched watched;
    watched.clock.step_to(kStart + 1'000 * kSecondUs);
    EXPECT_TRUE(watched.check());
    watched.clock.step_to(kStart);
    EXPECT_FALSE(watched.check());
}

TEST(ClockGuard, PassesAStepBack) {
    Watched watched;
    watched.clock.step_to(kStart - kDayUs);
    EXPECT_FALSE(watched.check());
    watched.clock.step_to(kStart - kDayUs + 61 * kSecondUs);
    EXPECT_TRUE(watched.check());
}

// The process was stopped after it had read the wall clock, or before, and the monotonic one goes
// on: nobody has moved the wall clock.
TEST(ClockGuard, PassesTimeForWhichTheProcessWasStoppedWhileItRead) {
    constexpr std::int64_t kStop = 3'600 * kSecondUs;
    for (const std::int64_t stopped_before : {kStop, std::int64_t{0}}) {
        Watched watched;
        const std::int64_t begin = watched.clock.monotonic_us();
        watched.clock.advance(stopped_before);
        ClockReading late{watched.clock.wall_us(), begin, 0};
        watched.clock.advance(kStop - stopped_before);
        late.after_us = watched.clock.monotonic_us();
        EXPECT_FALSE(watched.guard.check(late));
        watched.clock.advance(kSecondUs);
        EXPECT_FALSE(watched.check()) << "the late reading is no measure of later ones";
        watched.clock.step_to(watched.clock.wall_us() + 61 * kSecondUs);
        EXPECT_TRUE(watched.check());
    }
}

}  // namespace
}  // namespace annal
