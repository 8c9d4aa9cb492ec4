#include "runtime/store/postgres/reconnection.h"

#include <algorithm>

namespace annal::postgres {

std::optional<Error> Reconnection::refusal() const {
    const std::lock_guard lock(mutex_);
    if (Clock::now() >= next_) return std::nullopt;
    return failure_;
}

void Reconnection::note_failure(const Error& error, Clock::time_point begun) {
    const std::lock_guard lock(mutex_);
    if (begun <= succeeded_) return;
    failure_ = error;
    const auto now = Clock::now();
    if (now < next_) return;  // another thread's attempt, at the same time
    next_ = now + delay_;
    delay_ = std::min(delay_ * 2, kMost);
}

void Reconnection::note_success() {
    const std::lock_guard lock(mutex_);
    next_ = succeeded_ = Clock::now();
    delay_ = kFirst;
}

}  // namespace annal::postgres
