#include "runtime/core/clock_guard.h"

namespace annal {

ClockReading ClockReading::of(const Clock& clock) {
    ClockReading reading{};
    reading.before_us = clock.monotonic_us();
    reading.wall_us = clock.wall_us();
    reading.after_us = clock.monotonic_us();
    return reading;
}

std::optional<std::int64_t> ClockGuard::check(const ClockReading& now) {
    // The most time that can have passed between the two readings.
    const std::int64_t passed = now.after_us - last_.before_us;
    const std::int64_t jump = now.wall_us - last_.wall_us - passed;
    if (jump > kJumpMaxUs) return jump;
    confirm(now);
    return std::nullopt;
}

}  // namespace annal
