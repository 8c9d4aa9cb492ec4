#include "runtime/delivery/backoff.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(Backoff, DoublesFromHalfASecondToAMinute) {
    for (std::uint32_t attempt = 1; attempt <= 20; ++attempt) {
        const std::int64_t base =
            std::min<std::int64_t>(500LL << std::min(attempt - 1, 7U), 60'000);
        for (std::uint64_t random : {0ULL, 1ULL, 12'345ULL, ~0ULL}) {
            const std::int64_t ms = backoff(attempt, random).count();
            EXPECT_GE(ms, base - base / 4) << attempt;
            EXPECT_LE(ms, base + base / 4 + 1) << attempt;
        }
    }
}

TEST(Backoff, SpreadsEqualAttempts) {
    EXPECT_NE(backoff(5, 1), backoff(5, 4'000));
}

}  // namespace
}  // namespace annal
