#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/log_repeats.h"
#include "runtime/core/metrics.h"
#include "runtime/store/postgres/connection.h"

namespace annal::postgres {

/// Tells other nodes that this one has appended, and hears it from them: LISTEN and NOTIFY on one
/// connection of its own (the direct one), in one thread. Never within an append's transaction,
/// since NOTIFY makes commits wait for each other; and at most once in `kPause`, with all projects
/// that were appended to meanwhile.
///
/// What is lost with a connection is made up for: after each new one every project may have news,
/// for this node, and where there was one before also for the others.
/// Threads: `note` from any thread.
class WakeUps {
public:
    using Appended = std::function<void(const std::vector<std::string>& projects)>;

    WakeUps(Connection::Options options, Watchdog& watchdog, Metrics& metrics);
    ~WakeUps();
    WakeUps(const WakeUps&) = delete;
    WakeUps& operator=(const WakeUps&) = delete;

    /// Before the first `note`.
    void on_appended(Appended appended);
    /// This node has appended to these.
    void note(const std::set<std::string>& projects);
    /// From now on nothing is told.
    void begin_stop();
    /// The same, and waits for it.
    void stop();

private:
    static constexpr std::chrono::milliseconds kPause{20};
    using Time = std::chrono::steady_clock::time_point;

    void run();
    Result<void> serve();
    Result<void> connect();
    Result<void> send(const std::set<std::string>& projects);
    void heard(const std::vector<std::string>& payloads);
    void tell(const std::vector<std::string>& projects);
    void pause(std::chrono::milliseconds time);
    [[nodiscard]] bool is_stopping() const;
    [[nodiscard]] std::set<std::string> take(Time now);
    [[nodiscard]] std::chrono::milliseconds patience(Time now) const;

    const Connection::Options options_;
    const std::string node_;  ///< names this node in what it sends
    Watchdog& watchdog_;
    Metric &sent_, &heard_, &connected_;
    std::unique_ptr<Connection> db_;
    bool was_connected_ = false;
    log::Repeats repeats_;  ///< why the connection was lost
    int signal_ = -1;       ///< an eventfd

    mutable std::mutex mutex_;
    Appended appended_;
    std::set<std::string> projects_;
    Time sent_at_{};
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace annal::postgres
