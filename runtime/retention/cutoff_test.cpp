#include "runtime/retention/cutoff.h"

#include <gtest/gtest.h>

#include "runtime/core/time_text.h"

namespace annal {
namespace {

TimeUs at(const char* text) {
    return parse_time(text).value();
}

TEST(Cutoff, KeepsWholeMonthsBesideTheCurrentOne) {
    for (const char* now : {"2026-11-01T00:00:00Z", "2026-11-22T12:00:00Z", "2026-11-30T23:59:59Z"})
        EXPECT_EQ(format_time(month_cutoff(at(now), 3)), "2026-08-01T00:00:00.000000Z") << now;
    EXPECT_EQ(
        format_time(month_cutoff(at("2026-10-31T23:59:59Z"), 3)), "2026-07-01T00:00:00.000000Z"
    );
    EXPECT_EQ(
        format_time(month_cutoff(at("2026-02-10T00:00:00Z"), 12)), "2025-02-01T00:00:00.000000Z"
    );
    EXPECT_EQ(
        format_time(month_cutoff(at("2026-01-10T00:00:00Z"), 1)), "2025-12-01T00:00:00.000000Z"
    );
}

TEST(Cutoff, DaysEndAtMidnight) {
    EXPECT_EQ(
        format_time(day_cutoff(at("2026-04-21T17:30:00Z"), 365)), "2025-04-21T00:00:00.000000Z"
    );
    EXPECT_EQ(
        format_time(day_cutoff(at("2026-04-21T00:00:00Z"), 1)), "2026-04-20T00:00:00.000000Z"
    );
    EXPECT_EQ(
        format_time(day_cutoff(at("2024-03-01T23:59:59Z"), 1)), "2024-02-29T00:00:00.000000Z"
    );
}

TEST(Cutoff, DaysAreCountedFromMidnight) {
    EXPECT_EQ(days_since(at("2026-08-01T00:00:00Z"), at("2026-11-22T17:00:00Z")), 113U);
    EXPECT_EQ(days_since(at("2026-11-22T00:00:00Z"), at("2026-11-22T17:00:00Z")), 0U);
}

}  // namespace
}  // namespace annal
