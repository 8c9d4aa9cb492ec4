#pragma once

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/store/postgres/append.h"
#include "runtime/store/postgres/event_rows.h"

namespace annal::postgres {

/// A row of commit_marks: it tells whether a transaction without events was committed. Numbers of
/// transactions can't: a crash that loses one lets its number be given again.
struct CommitMark {
    std::string project;
    std::array<std::uint8_t, 16> id{};
};

/// The rows that the planned units of one transaction write.
class AppendRows {
public:
    explicit AppendRows(Committed& committed) : committed_(committed) {}

    /// `month`: of keys of units without events.
    void add(PlannedUnit&& plan, Month month);
    /// Months that get events.
    [[nodiscard]] const std::set<Month>& months() const { return months_; }
    [[nodiscard]] const std::set<KnownActions::Entry>& actions() const { return actions_; }
    [[nodiscard]] bool empty() const;

    /// Writes everything within the open transaction.
    [[nodiscard]] Result<void> write(Connection& db, const KnownActions& known);

    /// The first of each project: it tells whether the transaction was committed.
    struct Batch {
        std::string project;
        Seq first_seq = 0, last_seq = 0;
        TimeUs last_at = 0;
        Digest digest{}, prev_digest{};
    };
    [[nodiscard]] const std::vector<Batch>& batches() const { return sealed_; }
    /// Written when there is no batch.
    [[nodiscard]] const CommitMark& mark() const { return mark_; }

private:
    class Inserts;
    /// Events of a project that share a row of event_batches.
    struct Open {
        Batch batch;
        std::vector<SealedEvent> events;
        Month month;
    };
    void add_events(const PlannedUnit& plan);
    void seal(const std::string& project, Open& open);
    void seal_all();
    void insert_log(Inserts& inserts);
    void insert_months(Inserts& inserts) const;
    void insert_actions(Inserts& inserts, const KnownActions& known) const;
    void insert_keys(Inserts& inserts) const;
    void insert_cursors(Inserts& inserts) const;
    void insert_kv(Inserts& inserts) const;
    [[nodiscard]] Result<void> erase_kv(Connection& db) const;
    [[nodiscard]] Result<void> erase_events(Connection& db) const;
    [[nodiscard]] Result<void> scrub_events(Connection& db) const;

    Committed& committed_;
    CommitMark mark_;
    EventRows events_;
    std::map<std::string, Open> open_;
    std::map<std::string, LogHead> heads_;  ///< after the batches that are sealed
    std::vector<Batch> sealed_;
    std::map<std::pair<std::string, Month>, Seq> begins_;  ///< months that a log enters
    std::set<Month> months_;
    std::set<KnownActions::Entry> actions_;
    struct Key {
        std::string project;
        Month month;
        KeyRecord record;
    };
    std::map<KeyName, Key> keys_;
    KvStage kv_;
    std::map<std::pair<std::string, std::string>, Seq> cursors_;
    std::set<std::pair<std::string, Seq>> erased_;
    std::map<std::pair<std::string, Seq>, std::uint32_t> scrubbed_;
};

/// Those that nobody will look for any more. By time, whatever the project.
[[nodiscard]] Result<void> delete_old_marks(Connection& db);

/// Whether a transaction whose COMMIT had no answer was committed: takes the append lock of its
/// first batch, which waits until it has ended, and looks for the batch; for its mark when it had
/// none. Who writes another of its logs meanwhile is not waited for.
/// Leaves a transaction open. @error  It could not be found out now.
[[nodiscard]] Result<bool> was_committed(
    Connection& db, const std::vector<AppendRows::Batch>& batches, const CommitMark& mark
);

}  // namespace annal::postgres
