#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

namespace annal {

/// When a delivery that failed is tried again: 5 s, 30 s, 2 m, 10 m, 30 m, 1 h, 2 h, 4 h, 8 h, 12
/// h, 24 h and 24 h after one attempt and the next, each spread by ±25 % so that what failed
/// together does not come back together. About three days; then nothing: it has failed.
///
/// @param tries   attempts that have failed, at least 1
/// @param random  any 64 random bits
[[nodiscard]] std::optional<std::chrono::milliseconds> retry_delay(
    std::int64_t tries, std::uint64_t random
);

}  // namespace annal
