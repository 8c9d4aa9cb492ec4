#pragma once

#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/store/postgres/connection.h"
#include "runtime/store/unit_planner.h"

namespace annal::postgres {

/// What the units of one transaction ask for, so that it can be read at once.
struct AppendNeeds {
    std::set<std::string> projects;       ///< whose append locks are taken
    std::set<std::string> logs;           ///< that may get events
    std::map<KeyName, std::string> keys;  ///< with their project
    std::set<KvName> kv;
    std::set<std::pair<std::string, Seq>> events;           ///< to be erased
    std::set<std::pair<std::string, std::string>> cursors;  ///< (project, subscription), fenced

    void add(const AppendUnit& unit);
};

/// What is committed, read with the append locks held.
class Committed final : public CommittedState {
public:
    /// @param stamps  instead of the database's clock, for tests; null: none
    explicit Committed(const Clock* stamps) : stamps_(stamps) {}

    /// Begins the transaction, takes the locks in an order that all nodes keep, and reads.
    ///
    /// The locks come first and each read has a snapshot of its own after them, so that what it
    /// sees is what the last holder committed.
    /// @param settings  columns of a SELECT: set_config() for this transaction
    /// @param wait      for locks that others hold; else they are left to `is_busy`
    [[nodiscard]] Result<void> begin(
        Connection& db, const AppendNeeds& needs, const std::string& settings, bool wait
    );
    /// Another transaction has the lock of a project that `unit` needs.
    [[nodiscard]] bool is_busy(const AppendUnit& unit) const;

    [[nodiscard]] LogHead head(const std::string& project) override;
    [[nodiscard]] Result<std::optional<KeyRecord>> key(const KeyName& name) override;
    [[nodiscard]] Result<std::optional<std::string>> kv(const KvName& name) override;
    [[nodiscard]] Result<bool> is_live(const std::string& project, Seq seq) override;

    /// The database's clock, after the locks.
    [[nodiscard]] TimeUs now() const { return now_; }
    /// The newest month that ever held an event.
    [[nodiscard]] std::optional<Month> newest_month() const { return newest_month_; }
    /// Nothing is stamped before it.
    [[nodiscard]] TimeUs floor() const { return floor_; }
    struct Cursor {
        std::int64_t fence = 0;
        Seq seq = kNoSeq;
    };
    [[nodiscard]] Cursor cursor(const std::string& project, const std::string& name) const;

private:
    void read_now(const Rows& rows);
    Result<void> read_heads(Connection& db, const AppendNeeds& needs);
    Result<void> read_keys(Connection& db, const AppendNeeds& needs);
    Result<void> read_kv(Connection& db, const AppendNeeds& needs);
    Result<void> read_events(Connection& db, const AppendNeeds& needs);
    Result<void> read_cursors(Connection& db, const AppendNeeds& needs);

    const Clock* const stamps_;
    TimeUs now_ = 0, floor_ = 0;
    std::optional<Month> newest_month_;
    std::set<std::int64_t> busy_;  ///< locks
    std::map<std::string, LogHead> heads_;
    std::map<KeyName, KeyRecord> keys_;
    std::map<KvName, std::string> kv_;
    std::set<std::pair<std::string, Seq>> live_;
    std::map<std::pair<std::string, std::string>, Cursor> cursors_;
};

/// The advisory lock of a project's appends.
[[nodiscard]] std::int64_t append_lock(std::string_view project);
/// "SELECT pg_advisory_xact_lock(…) …" for these projects, in an order that all nodes keep.
[[nodiscard]] std::string take_append_locks(const std::set<std::string>& projects);

}  // namespace annal::postgres
