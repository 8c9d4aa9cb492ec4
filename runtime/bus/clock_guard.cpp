#include "runtime/bus/clock_guard.h"

namespace annal {

ClockGuard::ClockGuard(const Clock& clock)
    : clock_(clock), wall_us_(clock.wall_us()), monotonic_us_(clock.monotonic_us()) {}

std::optional<std::int64_t> ClockGuard::check() {
    const TimeUs wall = clock_.wall_us();
    const std::int64_t monotonic = clock_.monotonic_us();
    const std::int64_t jump = (wall - wall_us_) - (monotonic - monotonic_us_);
    if (jump > kJumpMaxUs) return jump;
    wall_us_ = wall;
    monotonic_us_ = monotonic;
    return std::nullopt;
}

void ClockGuard::confirm() {
    wall_us_ = clock_.wall_us();
    monotonic_us_ = clock_.monotonic_us();
}

}  // namespace annal
