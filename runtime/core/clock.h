#pragma once

#include <atomic>
#include <cstdint>

namespace annal {

/// Microseconds since 1970-01-01T00:00:00Z.
using TimeUs = std::int64_t;
inline constexpr TimeUs kNoTime = INT64_MIN;
inline constexpr TimeUs kSecondUs = 1'000'000;
inline constexpr TimeUs kDayUs = 86'400 * kSecondUs;

/// Source of time; a test substitutes `ManualClock`. Thread-safe.
class Clock {
public:
    virtual ~Clock() = default;
    /// UTC; may step in either direction.
    [[nodiscard]] virtual TimeUs wall_us() const = 0;
    /// Never steps; its origin means nothing.
    [[nodiscard]] virtual std::int64_t monotonic_us() const = 0;
};

class SystemClock final : public Clock {
public:
    [[nodiscard]] TimeUs wall_us() const override;
    [[nodiscard]] std::int64_t monotonic_us() const override;
};

/// A clock that a test moves by hand.
class ManualClock final : public Clock {
public:
    explicit ManualClock(TimeUs wall_us) : wall_us_(wall_us) {}
    [[nodiscard]] TimeUs wall_us() const override { return wall_us_; }
    [[nodiscard]] std::int64_t monotonic_us() const override { return monotonic_us_; }
    /// Both clocks go on by `us`.
    void advance(std::int64_t us) { wall_us_ += us, monotonic_us_ += us; }
    /// Only the wall clock changes, as when an operator or NTP steps it.
    void step_to(TimeUs wall_us) { wall_us_ = wall_us; }

private:
    std::atomic<TimeUs> wall_us_;
    std::atomic<std::int64_t> monotonic_us_{0};
};

/// The day that `at` lies in, counted from 1970-01-01, and the time within it, [0, kDayUs).
struct DayTime {
    std::int64_t day = 0;
    std::int64_t us = 0;
};
[[nodiscard]] constexpr DayTime day_time_of(TimeUs at) {
    const std::int64_t rest = at % kDayUs;
    return rest < 0 ? DayTime{at / kDayUs - 1, rest + kDayUs} : DayTime{at / kDayUs, rest};
}

/// A UTC calendar month, counted from year 0: `year * 12 + (month - 1)`.
struct Month {
    std::int32_t index = 0;
    friend auto operator<=>(const Month&, const Month&) = default;
};
[[nodiscard]] Month month_of(TimeUs at);
/// First microsecond of the month.
[[nodiscard]] TimeUs start_of(Month month);
[[nodiscard]] inline Month next(Month m) {
    return {m.index + 1};
}

}  // namespace annal
