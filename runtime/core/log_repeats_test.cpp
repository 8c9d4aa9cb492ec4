#include "runtime/core/log_repeats.h"

#include <gtest/gtest.h>

namespace annal::log {
namespace {

using namespace std::chrono_literals;

TEST(Repeats, AReasonIsToldAtFirstAndOnceAMinute) {
    Repeats repeats;
    Repeats::Time now{};
    int told = 0;
    for (int second = 0; second < 180; ++second, now += 1s)
        told += repeats.is_due("away", now) ? 1 : 0;
    EXPECT_EQ(told, 3);
}

TEST(Repeats, AnotherReasonIsToldAtOnce) {
    Repeats repeats;
    Repeats::Time now{};
    EXPECT_TRUE(repeats.is_due("away", now));
    EXPECT_TRUE(repeats.is_due("full", now += 1s));
    EXPECT_TRUE(repeats.is_due("", now)) << "none is one, too";
}

// As the threads of a pool that all fail, each for its own reason.
TEST(Repeats, ReasonsThatTakeTurnsAreNoNews) {
    Repeats repeats;
    Repeats::Time now{};
    int told = 0;
    for (int i = 0; i < 100; ++i, now += 100ms)
        told += repeats.is_due(i % 2 == 0 ? "away" : "full", now) ? 1 : 0;
    EXPECT_EQ(told, 2);
}

TEST(Repeats, ManyReasonsDoNotFillTheMemory) {
    Repeats repeats;
    Repeats::Time now{};
    for (int i = 0; i < 1'000; ++i) EXPECT_TRUE(repeats.is_due(std::to_string(i), now += 1ms));
    EXPECT_FALSE(repeats.is_due("999", now));
}

}  // namespace
}  // namespace annal::log
