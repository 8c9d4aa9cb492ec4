#include "runtime/store/postgres/watchdog.h"

#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace annal::postgres {

Watchdog::Watchdog() : thread_([this] { run(); }) {}

Watchdog::~Watchdog() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

void Watchdog::expire_all() {
    {
        const std::lock_guard lock(mutex_);
        expired_ = true;
    }
    wake_.notify_all();
}

void Watchdog::expire_at(Deadline at) {
    {
        const std::lock_guard lock(mutex_);
        limit_ = at;
        for (const auto& [deadline, guard] : std::exchange(watched_, {}))
            guard->entry_ = watched_.emplace(bounded(deadline), guard);
    }
    wake_.notify_all();
}

std::optional<std::chrono::milliseconds> Watchdog::left() const {
    const std::lock_guard lock(mutex_);
    if (limit_ == Deadline::max()) return std::nullopt;
    const auto left = limit_ - std::chrono::steady_clock::now();
    return std::max(
        std::chrono::milliseconds(0), std::chrono::duration_cast<std::chrono::milliseconds>(left)
    );
}

/// With the mutex held.
Watchdog::Deadline Watchdog::bounded(Deadline deadline) const {
    if (expired_) return Deadline::min();
    if (limit_ == Deadline::max()) return deadline;
    const auto last = std::chrono::steady_clock::now() + kLastPatience;
    return std::min(deadline, std::max(limit_, last));
}

Watchdog::Guard::Guard(Watchdog& dog, int socket, Deadline deadline) : dog_(dog), socket_(socket) {
    const std::lock_guard lock(dog_.mutex_);
    deadline = dog_.bounded(deadline);
    entry_ = dog_.watched_.emplace(deadline, this);
    // The thread looks at the latest when the earliest deadline that it knew of is over: calls that
    // come and go wake nobody.
    if (deadline < dog_.next_) dog_.wake_.notify_all();
}

Watchdog::Guard::~Guard() {
    const std::lock_guard lock(dog_.mutex_);
    dog_.watched_.erase(entry_);
}

void Watchdog::run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        const auto now = std::chrono::steady_clock::now();
        next_ = Deadline::max();
        for (const auto& [deadline, guard] : watched_) {
            if (deadline > now && !expired_) {
                next_ = deadline;
                break;
            }
            // With the lock held, so that the number is still that of this connection.
            if (guard->socket_ >= 0) ::shutdown(guard->socket_, SHUT_RDWR);
            guard->socket_ = -1;
        }
        if (next_ == Deadline::max()) {
            wake_.wait(lock);
        } else {
            wake_.wait_until(lock, next_);
        }
    }
}

}  // namespace annal::postgres
