#include "runtime/delivery/backoff.h"

#include <algorithm>

namespace annal {

std::chrono::milliseconds backoff(std::uint32_t attempt, std::uint64_t random) {
    constexpr std::int64_t kFirstMs = 500, kMaxMs = 60'000;
    const std::uint32_t doublings = std::min<std::uint32_t>(attempt == 0 ? 0 : attempt - 1, 7);
    const std::int64_t base = std::min(kFirstMs << doublings, kMaxMs);
    const auto spread =
        static_cast<std::int64_t>(random % static_cast<std::uint64_t>(base / 2 + 1));
    return std::chrono::milliseconds(base - base / 4 + spread);
}

}  // namespace annal
