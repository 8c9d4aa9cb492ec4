#include "runtime/core/clock_guard.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

constexpr TimeUs kStart = 1'780'000'000 * kSecondUs;

/// A guard and the clock that it watches.
struct Watched {
    ManualClock clock{kStart};
    ClockGuard guard{kStart, 0};
    std::optional<std::int64_t> check() {
        return guard.check(clock.wall_us(), clock.monotonic_us());
    }
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
    watched.guard.confirm(watched.clock.wall_us(), watched.clock.monotonic_us());
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

}  // namespace
}  // namespace annal
