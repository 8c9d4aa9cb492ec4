#pragma once

#include <optional>

#include "runtime/core/clock.h"

namespace annal {

/// Watches a wall clock against the monotonic one of this process. A step forward of more than
/// `kJumpMaxUs` would stamp the log with a future that it could never leave (created_at only
/// rises), so it needs a person's word. A step back is harmless: stamps go on from the last one.
///
/// Not thread-safe.
class ClockGuard {
public:
    static constexpr std::int64_t kJumpMaxUs = 60 * kSecondUs;

    ClockGuard(TimeUs wall_us, std::int64_t monotonic_us)
        : wall_us_(wall_us), monotonic_us_(monotonic_us) {}
    /// How far the wall clock has jumped ahead, when that is too far and has not been confirmed.
    /// Both clocks read at one moment.
    [[nodiscard]] std::optional<std::int64_t> check(TimeUs wall_us, std::int64_t monotonic_us);
    /// Takes the wall clock as it is now for right.
    void confirm(TimeUs wall_us, std::int64_t monotonic_us);

private:
    TimeUs wall_us_;
    std::int64_t monotonic_us_;
};

}  // namespace annal
