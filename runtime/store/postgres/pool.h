#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/log_repeats.h"
#include "runtime/core/metrics.h"
#include "runtime/store/postgres/connection.h"
#include "runtime/store/postgres/reconnection.h"

namespace annal::postgres {

/// Threads with one connection each, made when it is first needed and again after it was lost. Jobs
/// wait in one queue.
///
/// Limits: kJobsMax jobs wait, kLengthyMax of them lengthy; `post` refuses more. A job does not
/// wait for the server to come back unless it wants to: between two attempts to connect it is told
/// at once why there is no connection.
class Pool {
public:
    /// What a job works with: the connection of its thread.
    class Seat {
    public:
        /// Good until the job ends or the connection is lost; asked again it is another one.
        [[nodiscard]] virtual Result<Connection*> connection() = 0;
        /// Tries again and again, at most for `patience` and until the watchdog expires.
        [[nodiscard]] virtual Result<Connection*> connection_within(
            std::chrono::milliseconds patience
        ) = 0;

    protected:
        ~Seat() = default;
    };
    using Job = std::function<void(Seat&)>;
    /// Of the lengthy jobs one runs at a time, so that it leaves threads to the brief ones.
    enum class Length { brief, lengthy };

    /// @param admit  asked before a connection is given to a job: whether the database may be used
    /// @param reconnection  that of all pools of the server
    /// @param replaced  told when another connection takes the place of one that was lost: another
    /// server may be behind it
    Pool(
        std::string name,
        std::size_t threads,
        Connection::Options options,
        std::function<Result<void>(Connection&)> admit,
        Watchdog& watchdog,
        Reconnection& reconnection,
        Metrics& metrics,
        std::function<void()> replaced = [] {}
    );
    ~Pool() { stop(); }
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    /// False: the queue is full, or the pool has stopped; the job will not run.
    [[nodiscard]] bool post(Job job, Length length = Length::brief);
    /// From now on nothing is taken; what is queued is finished. Calls under way have their own
    /// deadlines.
    void begin_stop();
    /// The same, and waits for it.
    void stop();

private:
    static constexpr std::size_t kJobsMax = 16'384, kLengthyMax = 64;
    using Clock = std::chrono::steady_clock;

    class ThreadSeat;
    void run();
    void tell(const std::string& failure);

    const std::string name_;
    const Connection::Options options_;
    const std::function<Result<void>(Connection&)> admit_;
    const std::function<void()> replaced_;
    Watchdog& watchdog_;
    Reconnection& reconnection_;
    Metric &connected_, &waiting_, &lost_;
    std::atomic<int> connections_{0};
    std::mutex mutex_;
    log::Repeats repeats_;  ///< why there was no connection
    std::condition_variable wake_;
    struct Waiting {
        Job job;
        Clock::time_point since;
    };
    [[nodiscard]] bool lengthy_is_due() const;
    [[nodiscard]] Job take();

    std::deque<Waiting> jobs_, lengthy_;
    bool lengthy_runs_ = false;
    bool stopping_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace annal::postgres
