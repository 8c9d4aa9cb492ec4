#include "runtime/core/clock_guard.h"

namespace annal {

std::optional<std::int64_t> ClockGuard::check(TimeUs wall_us, std::int64_t monotonic_us) {
    const std::int64_t jump = (wall_us - wall_us_) - (monotonic_us - monotonic_us_);
    if (jump > kJumpMaxUs) return jump;
    confirm(wall_us, monotonic_us);
    return std::nullopt;
}

void ClockGuard::confirm(TimeUs wall_us, std::int64_t monotonic_us) {
    wall_us_ = wall_us;
    monotonic_us_ = monotonic_us;
}

}  // namespace annal
