#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

namespace annal::postgres {

/// Ends calls that a frozen server or network never answers, by shutting their socket down: the
/// call then fails in its own thread. One thread of its own.
///
/// Threads: any. Lifetime: outlives every guard.
class Watchdog {
public:
    using Deadline = std::chrono::steady_clock::time_point;

    Watchdog();
    ~Watchdog();
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

    /// Ends every call that is watched, and from now on every one as soon as it is.
    void expire_all();

    /// Watches one call on a socket while it lives.
    class Guard {
    public:
        Guard(Watchdog& dog, int socket, Deadline deadline);
        ~Guard();
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;

    private:
        Watchdog& dog_;
        std::multimap<Deadline, int>::iterator entry_;
    };

private:
    void run();

    std::mutex mutex_;
    std::condition_variable wake_;
    std::multimap<Deadline, int> watched_;  ///< socket -1: shut down already
    Deadline next_ = Deadline::max();       ///< when the thread looks again
    bool expired_ = false, stopping_ = false;
    std::thread thread_;
};

}  // namespace annal::postgres
