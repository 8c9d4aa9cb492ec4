#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "runtime/core/clock_guard.h"
#include "runtime/core/metrics.h"
#include "runtime/store/postgres/committed.h"
#include "runtime/store/postgres/partitions.h"
#include "runtime/store/postgres/pool.h"

namespace annal::postgres {

/// How long the parts of an append may take.
struct AppendTimes {
    std::chrono::milliseconds statement{20'000};
    /// For the lock of a project: longer than `idle`, so that a writer that froze with the lock is
    /// outlived.
    std::chrono::milliseconds lock{10'000};
    /// Until the server ends the transaction of a writer that says nothing any more.
    std::chrono::milliseconds idle{5'000};
    /// For a server that comes back to tell what became of a COMMIT.
    std::chrono::milliseconds resolve{15'000};
};

/// Which actions are known to be recorded in project_actions. It only saves writes: to forget some
/// is harmless, and needed where the database may have lost some (a standby that was promoted).
///
/// Threads: any. Limits: kMax entries.
class KnownActions {
public:
    using Entry = std::tuple<std::string, Month, std::string>;  ///< project, month, action
    [[nodiscard]] bool has(const Entry& entry) const;
    void add(const std::set<Entry>& entries);
    void clear();

private:
    static constexpr std::size_t kMax = 100'000;
    mutable std::mutex mutex_;
    std::set<Entry> entries_;
};

/// Watches the database's clock, which stamps the events, against this node's monotonic one.
///
/// Threads: any.
class DatabaseClock {
public:
    /// Why appends are refused: it has jumped forward since it was read before, by more than a
    /// minute, and that has not been confirmed.
    [[nodiscard]] std::optional<Error> check(const ClockReading& now);
    /// What the last `check` said; nothing after `confirm`.
    [[nodiscard]] std::optional<Error> refusal() const;
    /// What it says next is right.
    void confirm();

private:
    mutable std::mutex mutex_;
    std::optional<ClockGuard> guard_;
    std::optional<Error> refusal_;
};

/// What all append connections of a node share.
struct AppendShared {
    AppendTimes times;
    const Clock* stamps = nullptr;  ///< instead of the database's clock, for tests
    Partitions& partitions;
    KnownActions actions;
    DatabaseClock clock;
    std::atomic<bool> is_silent{false};  ///< the server does not answer others: not worth the wait
    Metric &commits, &commit_seconds, &failures, &unknown_commits, &busy;
    /// Told which projects got events, after the commit.
    std::function<void(const std::set<std::string>&)> appended;
    /// Told the first and the last seq of what came into a log, likewise.
    std::function<void(const std::string& project, Seq first, Seq last)> grown;
};

/// Appends units, in as few transactions as can be.
///
/// Order: the append locks of all projects concerned are taken first, in one order on all nodes,
/// and held until the commit is visible. So each log is written by one transaction at a time, and
/// whoever reads a log sees a prefix of it. Events update no row on the way.
/// An unknown outcome (the connection broke at COMMIT) is settled by waiting until the transaction
/// has ended and looking for what it would have written (`was_committed`).
///
/// Threads: one at a time.
class Append {
public:
    /// @param wait  for logs that others are writing; else their units fail with Errc::busy
    Append(Pool::Seat& seat, AppendShared& shared, bool wait)
        : seat_(seat), shared_(shared), wait_(wait), lock_patience_(shared.times.lock) {}
    /// Gives every unit its outcome.
    void run(std::span<const AppendUnit> units, std::span<AppendOutcome> outcomes);
    /// After it: why something was not written, where that is the whole store's. What fails for one
    /// project, such as a lock that is not let go, and what the clock refuses is not told here.
    [[nodiscard]] const std::string& outage() const { return outage_; }
    /// After it: whether something was written.
    [[nodiscard]] bool has_written() const { return has_written_; }

private:
    struct Work;
    enum class End { committed, again, split, apart, unknown, failed };

    void run_valid(std::vector<const AppendUnit*> units, std::vector<AppendOutcome*> outcomes);
    void run_apart(const Work& work);
    End attempt(Work& work);
    End write(Connection& db, Work& work);
    End failed(Connection& db, Work& work, const Error& error);
    End resolve(Work& work);
    void announce(const Work& work) const;
    std::optional<Error> check_clock(TimeUs now, std::int64_t before_us);

    Pool::Seat& seat_;
    AppendShared& shared_;
    const bool wait_;
    std::chrono::milliseconds lock_patience_;
    std::string outage_;
    bool has_written_ = false;
};

}  // namespace annal::postgres
