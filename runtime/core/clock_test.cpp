#include "runtime/core/clock.h"

#include <gtest/gtest.h>

#include "runtime/core/time_text.h"

namespace annal {
namespace {

TimeUs at(std::string_view text) {
    return parse_time(text).value();
}

TEST(ClockTest, MonthsBeginAtTheirFirstMicrosecond) {
    const TimeUs june = at("2026-06-01T00:00:00Z");
    EXPECT_EQ(month_of(june).index, 2026 * 12 + 5);
    EXPECT_EQ(month_of(june - 1).index, 2026 * 12 + 4);
    EXPECT_EQ(start_of(month_of(june)), june);
    EXPECT_EQ(start_of(month_of(june - 1)), at("2026-05-01T00:00:00Z"));
}

TEST(ClockTest, MonthsOfDifferentYearsFollowEachOther) {
    const Month december = month_of(at("2026-12-31T23:59:59.999999Z"));
    EXPECT_EQ(start_of(next(december)), at("2027-01-01T00:00:00Z"));
    EXPECT_EQ(next(december), month_of(at("2027-01-31T00:00:00Z")));
}

TEST(ClockTest, EveryMonthOfFourCenturiesStartsInsideItself) {
    for (std::int32_t index = 1700 * 12; index < 2100 * 12; ++index) {
        const TimeUs start = start_of({index});
        ASSERT_EQ(month_of(start).index, index);
        ASSERT_EQ(month_of(start - 1).index, index - 1);
    }
}

TEST(ClockTest, MonthsBeforeYearZeroAreCountedDown) {
    EXPECT_EQ(month_of(start_of({0}) - 1).index, -1);
    EXPECT_EQ(start_of(month_of(start_of({-13}))), start_of({-13}));
}

TEST(ClockTest, EveryTimeHasADay) {
    for (const TimeUs us :
         {TimeUs{0},
          TimeUs{-1},
          kDayUs - 1,
          kDayUs,
          -kDayUs,
          -kDayUs - 1,
          INT64_MAX,
          INT64_MIN + kDayUs}) {
        const DayTime split = day_time_of(us);
        EXPECT_GE(split.us, 0);
        EXPECT_LT(split.us, kDayUs);
        EXPECT_EQ(split.day * kDayUs + split.us, us);
    }
    EXPECT_EQ(day_time_of(INT64_MIN).day, -106'751'992);
}

TEST(ClockTest, SystemClockIsInThisCenturyAndMonotonic) {
    const SystemClock clock;
    EXPECT_GT(clock.wall_us(), at("2024-01-01T00:00:00Z"));
    EXPECT_LT(clock.wall_us(), at("2100-01-01T00:00:00Z"));
    const auto first = clock.monotonic_us();
    EXPECT_LE(first, clock.monotonic_us());
}

TEST(ClockTest, ManualClockStepsItsWallAlone) {
    ManualClock clock(100);
    clock.advance(5);
    clock.step_to(50);
    EXPECT_EQ(clock.wall_us(), 50);
    EXPECT_EQ(clock.monotonic_us(), 5);
}

}  // namespace
}  // namespace annal
