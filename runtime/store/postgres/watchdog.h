#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
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

    /// Calls that are watched now end by `at`, those that begin later likewise, or within
    /// `kLastPatience` when that is later: a server that answers may go on, one that does not costs
    /// each connection so much.
    void expire_at(Deadline at);
    /// Until `expire_at`; nothing when that was not said.
    [[nodiscard]] std::optional<std::chrono::milliseconds> left() const;

    /// Watches one call on a socket while it lives.
    class Guard {
    public:
        Guard(Watchdog& dog, int socket, Deadline deadline);
        ~Guard();
        Guard(const Guard&) = delete;
        Guard& operator=(const Guard&) = delete;

    private:
        friend class Watchdog;
        Watchdog& dog_;
        int socket_;  ///< -1: shut down already
        std::multimap<Deadline, Guard*>::iterator entry_;
    };

private:
    static constexpr std::chrono::milliseconds kLastPatience{500};

    [[nodiscard]] Deadline bounded(Deadline deadline) const;
    void run();

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::multimap<Deadline, Guard*> watched_;
    Deadline next_ = Deadline::max();   ///< when the thread looks again
    Deadline limit_ = Deadline::max();  ///< of `expire_at`
    bool expired_ = false, stopping_ = false;
    std::thread thread_;
};

}  // namespace annal::postgres
