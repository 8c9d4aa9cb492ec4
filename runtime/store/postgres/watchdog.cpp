#include "runtime/store/postgres/watchdog.h"

#include <sys/socket.h>

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

Watchdog::Guard::Guard(Watchdog& dog, int socket, Deadline deadline) : dog_(dog) {
    const std::lock_guard lock(dog_.mutex_);
    if (dog_.expired_) deadline = Deadline::min();
    entry_ = dog_.watched_.emplace(deadline, socket);
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
        for (auto& [deadline, socket] : watched_) {
            if (deadline > now && !expired_) {
                next_ = deadline;
                break;
            }
            // With the lock held, so that the number is still that of this connection.
            if (socket >= 0) ::shutdown(socket, SHUT_RDWR);
            socket = -1;
        }
        if (next_ == Deadline::max()) {
            wake_.wait(lock);
        } else {
            wake_.wait_until(lock, next_);
        }
    }
}

}  // namespace annal::postgres
