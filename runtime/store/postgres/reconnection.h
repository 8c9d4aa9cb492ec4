#pragma once

#include <chrono>
#include <mutex>
#include <optional>

#include "runtime/core/result.h"

namespace annal::postgres {

/// When threads without a connection try for one, together: after a failure all of them wait, the
/// longer the more often it failed; as soon as one gets in, all may try.
///
/// Threads: any.
class Reconnection {
public:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds kFirst{100}, kMost{1'000};

    /// What the last attempt failed with, while it is too soon for another one.
    [[nodiscard]] std::optional<Error> refusal() const;
    /// @param begun  when the attempt began: one from before the last success says nothing new
    void note_failure(const Error& error, Clock::time_point begun);
    void note_success();

private:
    mutable std::mutex mutex_;
    Clock::time_point succeeded_ = Clock::time_point::min(), next_ = Clock::time_point::min();
    std::chrono::milliseconds delay_ = kFirst;
    Error failure_;
};

}  // namespace annal::postgres
