#include "runtime/bus/clock_guard.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

constexpr TimeUs kStart = 1'780'000'000 * kSecondUs;

TEST(ClockGuard, PassesTimeThatFlows) {
    ManualClock clock(kStart);
    ClockGuard guard(clock);
    clock.advance(3'600 * kSecondUs);
    EXPECT_FALSE(guard.check());
}

TEST(ClockGuard, PassesAStepForwardOfAMinute) {
    ManualClock clock(kStart);
    ClockGuard guard(clock);
    clock.step_to(kStart + ClockGuard::kJumpMaxUs);
    EXPECT_FALSE(guard.check());
}

TEST(ClockGuard, ReportsALongerStepUntilItIsConfirmed) {
    ManualClock clock(kStart);
    ClockGuard guard(clock);
    clock.step_to(kStart + 61 * kSecondUs);
    EXPECT_EQ(guard.check(), 61 * kSecondUs);
    EXPECT_TRUE(guard.check());
    guard.confirm();
    EXPECT_FALSE(guard.check());
}

TEST(ClockGuard, ForgetsAStepThatWasTakenBack) {
    ManualClock clock(kStart);
    ClockGuard guard(clock);
    clock.step_to(kStart + 1'000 * kSecondUs);
    EXPECT_TRUE(guard.check());
    clock.step_to(kStart);
    EXPECT_FALSE(guard.check());
}

TEST(ClockGuard, PassesAStepBack) {
    ManualClock clock(kStart);
    ClockGuard guard(clock);
    clock.step_to(kStart - kDayUs);
    EXPECT_FALSE(guard.check());
    clock.step_to(kStart - kDayUs + 61 * kSecondUs);
    EXPECT_TRUE(guard.check());
}

}  // namespace
}  // namespace annal
