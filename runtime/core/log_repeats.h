#pragma once

#include <array>
#include <chrono>
#include <string>
#include <string_view>

namespace annal::log {

/// What is wrong again and again, and now and then from several threads at once: a reason is worth
/// a line when it is new, and once a minute while it comes back. What went well in between changes
/// nothing.
///
/// Threads: one at a time. Limits: remembers the last kReasons; with more of them at work they are
/// told more often.
class Repeats {
public:
    using Time = std::chrono::steady_clock::time_point;

    /// Whether to tell `reason` at `now`; then it counts as told.
    [[nodiscard]] bool is_due(std::string_view reason, Time now = std::chrono::steady_clock::now());

private:
    static constexpr std::size_t kReasons = 8;
    static constexpr std::chrono::minutes kAgain{1};
    struct Told {
        std::string reason;
        Time at = Time::min();
    };
    std::array<Told, kReasons> told_;
};

}  // namespace annal::log
