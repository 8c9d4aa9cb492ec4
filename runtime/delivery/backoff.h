#pragma once

#include <chrono>
#include <cstdint>

namespace annal {

/// Delay before attempt `attempt` + 1, after `attempt` ≥ 1 failures: 500 ms doubling up to 60 s,
/// spread by ±25 % so that many streams do not come back at the same moment. `random` is any 64
/// random bits.
[[nodiscard]] std::chrono::milliseconds backoff(std::uint32_t attempt, std::uint64_t random);

}  // namespace annal
