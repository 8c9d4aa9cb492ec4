#pragma once

#include <optional>

#include "runtime/core/clock.h"

namespace annal {

/// A wall clock, and this process's monotonic one before and after it was read. A process may be
/// stopped in between.
struct ClockReading {
    TimeUs wall_us;
    std::int64_t before_us, after_us;

    [[nodiscard]] static ClockReading of(const Clock& clock);
};

/// Watches a wall clock against the monotonic one of this process. A step forward of more than
/// `kJumpMaxUs` would stamp the log with a future that it could never leave (created_at only
/// rises), so it needs a person's word. A step back is harmless: stamps go on from the last one.
///
/// What could be the time between the two clocks' readings is none: time for which the process was
/// stopped there is no step, and leaves nothing behind that would be taken for one later.
///
/// Not thread-safe.
class ClockGuard {
public:
    static constexpr std::int64_t kJumpMaxUs = 60 * kSecondUs;

    explicit ClockGuard(const ClockReading& now) : last_(now) {}
    /// How far the wall clock has jumped ahead at least, when that is too far and has not been
    /// confirmed.
    [[nodiscard]] std::optional<std::int64_t> check(const ClockReading& now);
    /// Takes the wall clock as it is now for right.
    void confirm(const ClockReading& now) { last_ = now; }

private:
    ClockReading last_;
};

}  // namespace annal
