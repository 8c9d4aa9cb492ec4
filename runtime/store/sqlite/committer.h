#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/metrics.h"
#include "runtime/store/lease_table.h"
#include "runtime/store/sqlite/checkpointer.h"
#include "runtime/store/sqlite/control.h"
#include "runtime/store/sqlite/idempotency.h"
#include "runtime/store/sqlite/segment_file.h"
#include "runtime/store/sqlite/staging.h"

namespace annal::sqlite {

/// One unit to append, and where its outcome goes.
struct AppendWork {
    const AppendUnit* unit = nullptr;
    AppendOutcome* outcome = nullptr;
};

/// Everything that changes the store, one step after the other: appends, the roll to a new segment,
/// drops.
///
/// A commit is one transaction of the open segment. What it does to control.db and to the
/// idempotency keys is in it as redo records, applied right after; memory (catalog, postings)
/// follows last, so readers see only what is durable. Threads: the writer's.
class Committer {
public:
    /// Tells the keeper what there is to do.
    struct Hooks {
        std::function<void(std::shared_ptr<Segment>)> closed;
        std::function<void(ControlChanges::Erasure)> erased;
        std::function<void()> dropped;
        std::function<void()> floor_raised;
    };

    Committer(
        const Directory& directory,
        const Clock& clock,
        Metrics& metrics,
        Catalog& catalog,
        Control control,
        std::uint32_t segment_events_max
    );

    void set_hooks(Hooks hooks) { hooks_ = std::move(hooks); }
    /// Continues the newest segment, or a month without one. For recovery, before any append.
    [[nodiscard]] Result<void> resume(
        std::shared_ptr<Segment> open, SegmentNumber last_number, std::optional<Month> floor
    );
    /// Applies redo records of `file` that are in no other file yet.
    [[nodiscard]] Result<void> replay(SegmentFile& file, const Segment& segment);

    void append(std::span<AppendWork> work);
    [[nodiscard]] Result<void> drop_month(Month month);
    /// See EventStore::raise_floor. The newest segment takes no more events when some of its own
    /// are hidden: content is taken away from closed ones only.
    [[nodiscard]] Result<void> raise_floor(const std::string& project, Seq first_seq);
    /// Makes everything that the redo of `segment` says durable elsewhere.
    [[nodiscard]] Result<void> settle(SegmentNumber segment);
    /// Forgets redo records and empties the logs of the open segment and of control.db, which hold
    /// what was erased. False: somebody is reading them.
    [[nodiscard]] Result<bool> purge_erased();
    [[nodiscard]] Control& control() { return control_; }
    /// They change hands here, between two commits, so that the fences of a commit hold.
    [[nodiscard]] LeaseTable& leases() { return leases_; }
    /// What can be put off until nobody waits.
    void tidy();
    /// Why the last attempt to write failed; empty: it did not. From any thread.
    [[nodiscard]] std::string refusal() const;
    /// Tries, after a failure, whether writing works again.
    void probe();
    /// control.db lacks something that is committed; reads of it must wait.
    [[nodiscard]] bool is_behind() const { return behind_; }

private:
    Result<void> ready();
    Result<void> try_writing();
    void set_refusal(std::string why);
    Result<void> catch_up();
    AppendOutcome append_one(const AppendUnit& unit, TimeUs now);
    Result<void> check_fences(const AppendUnit& unit);
    Result<Seq> cursor_before(const AppendUnit& unit, const CursorMove& move);
    [[nodiscard]] std::vector<Erased> locate_erased(const PlannedUnit& plan) const;
    [[nodiscard]] std::uint32_t columns_to_go(const Erased& event) const;
    Result<void> write(const PlannedUnit& plan, const std::vector<Erased>& erased);
    Result<void> write_events(const PlannedUnit& plan);
    Result<void> write_erasures(const std::vector<Erased>& erased);
    Result<ProjectNumber> project_number(const std::string& project, Seq first_seq);
    Result<void> make_room(const PlannedUnit& plan);
    Result<void> commit();
    void publish();
    void abandon(const Error& error);
    Result<void> open_segment(Month month);
    Result<void> close_segment();
    Result<void> forget_redo();
    [[nodiscard]] Result<bool> is_live(const std::shared_ptr<Segment>& segment, std::int64_t key);
    [[nodiscard]] TimeUs floor() const;
    void watch_wal(Connection& db, const std::filesystem::path& path);

    const Directory& directory_;
    const Clock& clock_;
    Catalog& catalog_;
    const std::uint32_t segment_events_max_;
    Control control_;
    KeyBook keys_;
    LeaseTable leases_;
    Hooks hooks_;
    Checkpointer checkpointer_;
    Metric& commits_;
    Metric& commit_seconds_;
    Metric& failures_;

    std::shared_ptr<Segment> open_;
    std::optional<SegmentFile> file_;
    std::map<std::string, ProjectNumber> pids_;
    ProjectNumber last_pid_ = 0;
    SegmentNumber last_number_ = 0;
    std::optional<Month> floor_month_;
    std::int64_t next_redo_ = 1;
    std::size_t redo_bytes_ = 0;
    std::atomic<bool> behind_{false};
    mutable std::mutex refusal_mutex_;
    std::string refusal_;
    /// The open segment's log has the text of erased events still; after a crash it may.
    bool wal_holds_erased_ = true;

    Staged staged_;
    std::map<std::string, Seq> staged_cursors_;  ///< by row; what the open transaction moved
    std::vector<std::string> new_projects_;      ///< numbered by the open transaction
    std::vector<AppendWork*> in_transaction_;
};

}  // namespace annal::sqlite
