#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/core/log_repeats.h"
#include "runtime/store/postgres/append.h"
#include "runtime/store/postgres/postgres_store.h"

namespace annal::postgres {

/// The thread that makes the database ready (migrations, partitions ahead) and then tidies it from
/// time to time: months that are over are sealed, what was dropped is freed. Only the former can be
/// a reason to refuse, and once the node serves only that the database is not for it any more. It
/// has a connection of its own, the direct one.
class Keeper {
public:
    Keeper(const PostgresOptions& options, Partitions& partitions);
    ~Keeper() { stop(); }

    /// Returns when the first attempt to make it ready is over, or the options' patience.
    /// @error Errc::invalid, Errc::conflict  There is no use in trying again.
    [[nodiscard]] Result<void> start();
    /// Why the database can't be used yet; empty: it can.
    [[nodiscard]] std::string refusal() const;
    /// The refusal does not end by itself: the database is not for this program.
    [[nodiscard]] bool is_hopeless() const;
    /// Looks after the database soon.
    void wake();
    /// Waits until a round that began after this call is over. For tests. False: it failed.
    [[nodiscard]] bool settle(std::chrono::milliseconds patience);
    /// Ends what is under way, as `Watchdog::expire_at` says.
    void give_up_at(Watchdog::Deadline deadline) { watchdog_.expire_at(deadline); }
    /// Ends what is under way.
    void stop();

private:
    Result<void> open();
    Result<void> prepare();
    void note(const Result<void>& prepared);
    Result<void> tidy();
    [[nodiscard]] TimeUs stamp() const;
    [[nodiscard]] bool is_stopping() const;
    void round(std::unique_lock<std::mutex>& lock);
    void run();

    const PostgresOptions& options_;
    Partitions& partitions_;
    Watchdog watchdog_;
    std::unique_ptr<Connection> db_;
    bool in_use_ = false;  ///< somebody reads what shall go

    mutable std::mutex mutex_;
    std::condition_variable wake_, ended_;
    std::string refusal_ = "the database is being got ready";
    log::Repeats repeats_;  ///< why a round failed
    bool woken_ = false, stopping_ = false;
    bool tried_ = false, ready_ = false, sound_ = false, hopeless_ = false;
    std::uint64_t rounds_begun_ = 0, rounds_ended_ = 0;
    std::thread thread_;
};

}  // namespace annal::postgres
