#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/core/task.h"
#include "runtime/event/event.h"
#include "runtime/event/seal.h"
#include "runtime/store/filter.h"

namespace annal {

/// One operation on the ordered key space beside the events. Rows are addressed by (space, project,
/// key). Spaces that begin with "host." belong to the runtime, "plugin.<instance>" to an instance.
struct KvOp {
    enum class Kind { put, erase, require_absent, require_equals };
    Kind kind = Kind::put;
    std::string space, project, key, value;
};
struct KvRow {
    std::string project, key, value;
};

enum class KvOrder { ascending, descending };

/// Progress of a subscription: the highest seq that its destination has acknowledged. Subscriptions
/// belong to the project of the unit: one name in two projects is two subscriptions.
struct CursorMove {
    std::string subscription;
    Seq to = kNoSeq;
    /// Of the lease with the subscription's name, in the same project, under which the events up to
    /// `to` were delivered. 0: unfenced, anybody moves it anywhere.
    std::int64_t fence = 0;
};

/// Asks to be the one node that does a certain work, for `ttl` from the moment the store grants it.
struct LeaseRequest {
    std::string project, name;         ///< the work; for the deliveries of a subscription: its name
    std::string owner;                 ///< who asks: never empty, never the same for two processes
    std::chrono::milliseconds ttl{0};  ///< more than 0
};

/// Who has the lease now, as the store answers.
struct Lease {
    bool mine = false;       ///< held by the owner who asked
    std::int64_t fence = 0;  ///< of its holder, whoever that is; at least 1
    /// Until it ends, by the store's clock when it answered. Count from before the call: time that
    /// the answer took is gone.
    std::chrono::milliseconds left{0};
};

/// One event that loses personal data and stays in the log: what is named here, what may hold
/// anything (`kAlways`), and its salt. The action stays, and so do seq, id and times.
struct Scrub {
    Seq seq = kNoSeq;
    /// `bit(Column)` of each that becomes null, or {} if it is metadata.
    std::uint32_t columns = 0;

    [[nodiscard]] static constexpr std::uint32_t bit(Column column) {
        return std::uint32_t{1} << static_cast<unsigned>(column);
    }
    /// ip, user_agent, description, metadata.
    static constexpr std::uint32_t kAlways = 0xfU << 13U;
    [[nodiscard]] bool takes(Column column) const { return (columns & bit(column)) != 0; }
    /// What is left of an event's columns.
    void apply(std::array<Text, kColumns>& texts) const;
};

static_assert(
    Scrub::kAlways == (Scrub::bit(Column::ip) | Scrub::bit(Column::user_agent) |
                       Scrub::bit(Column::description) | Scrub::bit(Column::metadata))
);

/// What one caller wants done, all or nothing. May hold no event at all (kv operations or a cursor
/// move alone).
struct AppendUnit {
    std::string project;
    std::vector<EventDraft> events;  ///< at most kBatchEventsMax, validated; borrowed from `memory`
    std::shared_ptr<const void> memory;  ///< keeps the text of `events` alive
    std::string request_key;             ///< idempotency key of the whole unit; empty: none
    std::vector<KvOp> kv;                ///< preconditions first, then changes
    std::vector<CursorMove> cursors;
    std::vector<Seq>
        erase;  ///< events whose content goes; not_found when absent or a tombstone already
    std::vector<Scrub> scrub;  ///< those that are absent or tombstones are passed over
};

struct Receipt {
    EventId id;
    Seq seq = kNoSeq;
    TimeUs created_at = kNoTime;
    bool replayed = false;  ///< the idempotency key was known: this is the original answer
};
using AppendOutcome = Result<std::vector<Receipt>>;  ///< one receipt per event, in order

struct ScanRequest {
    std::string project;
    Filter filter;
    bool newest_first = true;
    std::optional<Seq> after;  ///< go on beyond this seq (exclusive), in the direction of the scan
    std::uint32_t limit = 50;  ///< [1, kPageMax]
    bool tombstones =
        false;  ///< streams: deleted events appear (whatever the filter), content-free
    std::chrono::milliseconds budget{2'000};  ///< a page ends early when it is used up
};

struct ScanPage {
    EventBatch batch;
    Seq scanned = kNoSeq;    ///< last seq that was looked at: the next request's `after`
    bool exhausted = false;  ///< nothing lies beyond `scanned` in this direction, as of this read
};

struct ActionCount {
    std::string action;
    std::int64_t count = 0;
    TimeUs last_seen = 0;
};

struct Total {
    std::int64_t count = 0;
    bool exact = true;  ///< false: the budget ended the count; there are at least this many
};

/// Parts that an aggregate splits time into, UTC. Weeks begin on Monday.
enum class Interval { none, hour, day, week };

struct AggregateRequest {
    std::string project;
    Filter filter;
    Interval interval = Interval::none;
    /// Splits by the values of a column, up to Column::ip; events where it is null or empty are
    /// left out.
    std::optional<Column> group_by;
    std::vector<Column> unique;  ///< columns whose distinct values are counted beside
    std::chrono::milliseconds budget{15'000};
};

/// One group of events within one interval.
struct AggregateRow {
    TimeUs start = kNoTime;             ///< of the interval; kNoTime without one
    std::string key;                    ///< the column's value; empty without group_by
    std::int64_t count = 0;             ///< at least 1
    std::vector<std::int64_t> uniques;  ///< one for each of `unique`; null and empty do not count
};

struct LogState {
    Seq first_seq = 0;      ///< lowest readable seq; what is below has been dropped by retention
    Seq head_seq = kNoSeq;  ///< newest seq
    TimeUs head_at = kNoTime;
    Digest head_digest{};
};

struct MonthInfo {
    Month month;
    std::int64_t events = 0;  ///< tombstones included
    std::uint64_t bytes = 0;
};

/// What keeps a store from doing all that it should, in words for people.
struct StoreHealth {
    std::string refusal;               ///< why appends fail; empty: they do not
    bool for_good = false;             ///< the refusal does not end by itself
    std::vector<std::string> damaged;  ///< parts of the logs that can't be read, found so far
};

/// Durable, append-only logs of audit events, one per project, with the small state that must
/// commit with them: the port that every store implements and that `store_contract` tests.
///
/// Lifetime: built by `open_sqlite_store` (…), owned by the runtime, outlives its callers.
/// Threads:  call from any coroutine; work runs on the store's own threads and the task resumes on
/// its caller's executor.
///           No caller ever blocks an io thread.
/// Order:    per project seq is 0, 1, 2, … without holes; created_at and id strictly increase with
/// it. Errors:   each operation may fail with Errc::unavailable (nothing was written; retry) or
/// Errc::timeout.
class EventStore {
public:
    virtual ~EventStore() = default;

    /// Commits `units` durably (fsync) in the order given, one transaction for as many as the
    /// engine can take at once. Units fail one by one without harm to the others.
    ///
    /// Idempotency: a unit whose request_key is known, or an event whose idempotency_key is known,
    /// with the same content returns the original receipts (`replayed`) and writes nothing for it;
    /// keys live for at least 31 days. Two units of one call may carry the same key.
    /// Fences: a unit with a fenced move commits only while that fence is the current one of its
    /// lease, and only forward; both are decided with the commit, not before it. A unit that
    /// replays moves nothing, so nothing is asked of its fences.
    /// @error Errc::conflict       A known key with other content, a precondition of `kv` does not
    /// hold, the lease of a fenced move was lost, or the move goes below the stored cursor (to the
    /// same seq is fine). The detail says which.
    /// @error Errc::not_found      A seq of `erase` is absent or erased already.
    /// @error Errc::unavailable    The engine can't write now (disk full, …); nothing of the unit
    /// was written. An fsync error does not return: it ends the process, since what is durable is
    /// then unknown.
    [[nodiscard]] virtual Task<std::vector<AppendOutcome>> append(std::span<const AppendUnit> units
    ) = 0;

    /// As `append`, but does not wait for other nodes: a unit whose log another node is writing at
    /// this moment fails, and the others are not delayed by it.
    /// @error Errc::busy  Nothing of the unit was written; `append` would have waited.
    [[nodiscard]] virtual Task<std::vector<AppendOutcome>> append_free(
        std::span<const AppendUnit> units
    );
    /// How many appends can be under way at once with profit. The units of one project must not be
    /// in two of them: which comes first would be left to chance.
    [[nodiscard]] virtual std::size_t append_lanes() const { return 1; }
    /// The store stamps events by a clock of its own and refuses appends (Errc::unavailable) when
    /// that clock has jumped forward by more than a minute, until `confirm_clock`. False: callers
    /// watch the node's clock.
    [[nodiscard]] virtual bool guards_clock() const { return false; }
    /// The time that an event would be stamped with. A node's own clock decides nothing about what
    /// is old.
    [[nodiscard]] virtual Task<Result<TimeUs>> now() = 0;
    /// Takes the store's clock as it is now for right.
    virtual void confirm_clock() {}
    /// Calls `appended` when other nodes have appended to these projects; with none named: perhaps
    /// to any. A hint, late by some milliseconds and now and then missing. Called on a thread of
    /// the store's until it is closed; must only post. At most one, set before the first append.
    virtual void on_foreign_append(
        std::function<void(const std::vector<std::string>& projects)> /*appended*/
    ) {}

    /// Events in seq order, ascending or descending. Bounded: at most kScanWindowSeqs rows are
    /// looked at one by one, and the budget holds; so a page may be short or empty without being
    /// `exhausted`. A page that is not exhausted always has moved `scanned` on.
    [[nodiscard]] virtual Task<Result<ScanPage>> scan(ScanRequest request) = 0;

    /// One event, by the time inside its id; a batch of exactly one. @error Errc::not_found Absent,
    /// deleted or dropped.
    [[nodiscard]] virtual Task<Result<EventBatch>> get(std::string project, EventId id) = 0;

    /// Actions recorded in [since, ∞) with count and last occurrence, by descending count, then
    /// name. Exact.
    [[nodiscard]] virtual Task<Result<std::vector<ActionCount>>> action_counts(
        std::string project, TimeUs since
    ) = 0;

    /// How many events match: arithmetic on seqs and tombstones without a filter; with one, exact
    /// within the budget.
    [[nodiscard]] virtual Task<Result<Total>> count(
        std::string project, Filter filter, std::chrono::milliseconds budget
    ) = 0;

    /// Counts by interval and group, of one moment: by ascending start, then descending count, then
    /// key. Long work: it does not keep other reads waiting.
    /// @error Errc::too_large    More than kAggregateRowsMax rows.
    /// @error Errc::unavailable  Not done within the budget, or more distinct values than the node
    /// keeps at once; the detail says how to ask for less.
    [[nodiscard]] virtual Task<Result<std::vector<AggregateRow>>> aggregate(AggregateRequest request
    ) = 0;

    /// The seq to scan behind, newest first, so that `skip` matches are passed over: of the match
    /// that comes last before them. kNoSeq: there are not so many. By arithmetic where the filter
    /// is of created_at alone, else by scans, within `budget`.
    /// @error Errc::unavailable  The budget was used up.
    [[nodiscard]] virtual Task<Result<Seq>> seek(
        std::string project, Filter filter, std::int64_t skip, std::chrono::milliseconds budget
    );

    [[nodiscard]] virtual Task<Result<LogState>> log_state(std::string project) = 0;

    /// Names the history that all logs of this store belong to: another one after a standby was
    /// promoted or a copy was restored, for commits may be gone then, and the seqs of lost events
    /// are given anew. A lease of the history before is over. Empty: the store can't tell.
    [[nodiscard]] virtual Task<Result<std::string>> epoch();

    /// Months that hold events, ascending.
    [[nodiscard]] virtual Task<Result<std::vector<MonthInfo>>> months() = 0;
    /// Hides all events of `month` at once (first_seq rises), then frees their storage. The log
    /// goes on from its head.
    /// @error Errc::conflict  The month is still open for appends. @error Errc::not_found  No such
    /// month.
    [[nodiscard]] virtual Task<Result<void>> drop_month(Month month) = 0;
    /// Hides the events of `project` below `first_seq` at once and for good, then takes their
    /// content away in the background, in bounded steps beside all other work. Other projects'
    /// events are not touched. A floor that is there already, or a higher one, is fine.
    /// @error Errc::not_found  There is no such log. @error Errc::conflict  It does not reach that
    /// far.
    [[nodiscard]] virtual Task<Result<void>> raise_floor(std::string project, Seq first_seq) = 0;
    /// Makes room for events of this month and of `ahead` more, where a store has to.
    [[nodiscard]] virtual Task<Result<void>> make_months(int ahead);

    /// Whether what `erase` and `scrub` took, and what keys held that were erased, has left the
    /// store's files as well: rows, indexes and logs. Does towards it what can be done at once;
    /// false: not yet, ask again after a moment. Not what copies and archives of the files hold.
    /// @param months  those of the events, for stores that keep months apart
    [[nodiscard]] virtual Task<Result<bool>> purge_erased(std::vector<Month> months);

    [[nodiscard]] virtual Task<Result<std::optional<std::string>>> kv_get(
        std::string space, std::string project, std::string key
    ) = 0;
    /// Rows whose key begins with `prefix` and is greater than `after`, ascending by (project,
    /// key). `project` empty: of all projects (host spaces); `after` then applies to the pair
    /// (project, key) encoded as project + '\0' + key. Descending, of one project only: from the
    /// last key on, or from the one before `after` when that is not empty.
    [[nodiscard]] virtual Task<Result<std::vector<KvRow>>> kv_scan(
        std::string space,
        std::string project,
        std::string prefix,
        std::string after,
        std::uint32_t limit,
        KvOrder order = KvOrder::ascending
    ) = 0;
    /// kNoSeq when the subscription of this project has not moved yet.
    [[nodiscard]] virtual Task<Result<Seq>> cursor(
        std::string project, std::string subscription
    ) = 0;

    /// Takes the lease (project, name) when nobody holds it or its holder's time is over, and
    /// renews it for the owner who has it; else says until when another does, which is no error.
    ///
    /// Time is the store's: one clock for all nodes, which no node's wall clock moves.
    /// Fences: each change of hands raises the fence, also across restarts; what it is otherwise
    /// means nothing. A renewal keeps it, even a late one, as long as nobody took the lease in
    /// between; so a fence stays current until the next owner's, or until it is released.
    /// Order: a lease changes hands before or after a commit, never during one. Who took it reads
    /// cursors that no move under an earlier fence can change any more.
    /// @error Errc::timeout  Unknown whether it was taken or renewed: ask again.
    [[nodiscard]] virtual Task<Result<Lease>> lease(LeaseRequest request) = 0;
    /// Ends the lease at once, so that anybody may take it, and its fence with it. Nothing happens
    /// when `owner` does not hold it, so it can be repeated.
    [[nodiscard]] virtual Task<Result<void>> release_lease(
        std::string project, std::string name, std::string owner
    ) = 0;

    /// As far as it is known; never waits. When appends fail, asking is what makes the store try
    /// again, now and then, whether they would work.
    [[nodiscard]] virtual StoreHealth health() { return {}; }

    /// The caller is about to close and has until `deadline` for it. What a database that does not
    /// answer keeps waiting ends then, as its lack of an answer would have ended it later;
    /// likewise, after a moment, what is asked of it afterwards. A store that waits for nobody has
    /// nothing to do.
    /// @error  of what ends so: Errc::unavailable, or Errc::timeout where it is not known whether
    /// it was written.
    virtual void give_up_at(std::chrono::steady_clock::time_point /*deadline*/) {}

    /// Finishes what runs in the background (sealing, checkpoints), at most until the deadline, and
    /// closes. No call may follow.
    virtual void close() = 0;
};

}  // namespace annal
