#pragma once

#include <cstdint>
#include <deque>

namespace annal {

/// How fast an endpoint is sent to: as fast as it takes it, and no faster.
///
/// - Under way at once: 1, then one more for every few successes up to 32; half as many after a
///   failure, and one while nothing succeeds.
/// - After 5 failures in a row it rests, from 1 s doubling up to a minute, and then one attempt
///   shows whether it is there again. Those that were under way when it began to rest double
///   nothing.
/// - An endpoint that says that it is too much (429, or 503 with Retry-After) is left alone for as
///   long as it asks, and then sent to a little slower than it had taken; half a minute later that
///   is raised again, slowly, for its limit may have been raised, too.
///
/// Times are monotonic microseconds. Not thread-safe. No I/O.
class Pace {
public:
    static constexpr double kWindowMax = 32;

    /// When the next attempt may begin: at most `now_us` when now, kWhenOneEnds when one that is
    /// under way has to end first.
    [[nodiscard]] std::int64_t next_us(std::int64_t now_us) const;
    static constexpr std::int64_t kWhenOneEnds = INT64_MAX;

    void began(std::int64_t now_us);
    /// Every attempt that began ends with one of these.
    void succeeded(std::int64_t now_us);
    /// @param random  any 64 random bits
    void failed(std::int64_t now_us, std::uint64_t random);
    /// @param wait_us  what it asks for; 0: nothing
    void overloaded(std::int64_t now_us, std::int64_t wait_us);
    /// It ended without saying anything of the endpoint.
    void cancelled();

    [[nodiscard]] int under_way() const { return under_way_; }
    /// The last attempt failed.
    [[nodiscard]] bool is_suspect() const { return failures_ > 0; }
    /// Attempts a second; 0: not limited.
    [[nodiscard]] double rate() const { return rate_; }

private:
    void grow(std::int64_t now_us);
    void slow_down(std::int64_t now_us);

    int under_way_ = 0;
    double window_ = 1;
    std::uint32_t failures_ = 0;  // in a row
    std::int64_t rest_until_us_ = 0;
    double rate_ = 0;
    std::int64_t turn_us_ = 0;  // with a rate: not before
    std::int64_t slowed_us_ = 0, grown_us_ = 0;
    std::deque<std::int64_t> successes_;  // of the last second
};

}  // namespace annal
