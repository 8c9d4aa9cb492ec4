#include "runtime/store/postgres/append.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "runtime/core/log.h"
#include "runtime/store/lease_table.h"
#include "runtime/store/postgres/append_rows.h"

namespace annal::postgres {
namespace {

constexpr int kAttemptsMax = 8;
constexpr std::string_view kLockNotAvailable = "55P03";
/// For a lock that was waited for already.
constexpr std::chrono::milliseconds kLockAgain{1'000};
constexpr std::chrono::milliseconds kResolvePause{100};
constexpr std::chrono::minutes kMarkLookedFor{5};   // less than marks are kept
constexpr std::chrono::milliseconds kGrace{5'000};  // for the network, on top of the server's limit

/// Settings of the transaction, as columns of one SELECT: each statement costs.
std::string settings_of(const AppendTimes& times, std::chrono::milliseconds lock) {
    const auto set = [](const std::string& name, std::chrono::milliseconds time) {
        return "set_config('" + name + "', '" + std::to_string(time.count()) + "', true), ";
    };
    // What an append looks for it finds by key, whatever the statistics say of a young table. A
    // database whose default is not to wait for the disk must wait here.
    return set("statement_timeout", times.statement) + set("lock_timeout", lock) +
           set("idle_in_transaction_session_timeout", times.idle) +
           "set_config('enable_seqscan', 'off', true), set_config('synchronous_commit', "
           "replace(current_setting('synchronous_commit'), 'off', 'on'), true)";
}

Error no_text(std::string_view what) {
    return {
        Errc::unprocessable,
        std::string(what) + " holds U+0000 or malformed UTF-8, which text may not"};
}

/// What PostgreSQL could not store must not reach it: it would fail the units beside it.
std::optional<Error> unstorable(const AppendUnit& unit) {
    if (!is_storable(unit.project)) return no_text("the project");
    for (const EventDraft& draft : unit.events)
        for (std::size_t c = 0; c < kColumns; ++c)
            if (!is_storable(draft.columns[c].view())) return no_text(name(static_cast<Column>(c)));
    for (const KvOp& op : unit.kv)
        if (!is_storable(op.space) || !is_storable(op.project) || !is_storable(op.key))
            return no_text("a key");
    for (const CursorMove& move : unit.cursors)
        if (!is_storable(move.subscription)) return no_text("a subscription");
    return std::nullopt;
}

using Cursors = std::map<std::pair<std::string, std::string>, Seq>;

/// Checks the fenced moves of a unit and notes where all of its moves lead.
Result<void> move_cursors(const Committed& committed, Cursors& moved, const AppendUnit& unit) {
    Cursors ahead = moved;
    for (const CursorMove& move : unit.cursors) {
        const auto name = std::pair(unit.project, move.subscription);
        if (move.fence != 0) {
            const auto cursor = committed.cursor(unit.project, move.subscription);
            BOOST_OUTCOME_TRY(check_fence(move, cursor.fence));
            const auto before = ahead.find(name);
            BOOST_OUTCOME_TRY(
                check_forward(move, before == ahead.end() ? cursor.seq : before->second)
            );
        }
        ahead[name] = move.to;
    }
    moved = std::move(ahead);
    return ok();
}

/// The units in groups that have no project in common, each in the order given.
std::vector<std::vector<std::size_t>> independent(const std::vector<const AppendUnit*>& units) {
    struct Group {
        std::set<std::string> projects;
        std::vector<std::size_t> units;
    };
    std::vector<Group> groups;
    for (std::size_t i = 0; i < units.size(); ++i) {
        AppendNeeds needs;
        needs.add(*units[i]);
        Group joined{std::move(needs.projects), {}};
        std::erase_if(groups, [&](Group& group) {
            const bool shares = std::any_of(
                group.projects.begin(),
                group.projects.end(),
                [&](const std::string& project) { return joined.projects.contains(project); }
            );
            if (!shares) return false;
            joined.projects.merge(group.projects);
            joined.units.insert(joined.units.end(), group.units.begin(), group.units.end());
            return true;
        });
        joined.units.push_back(i);
        std::sort(joined.units.begin(), joined.units.end());
        groups.push_back(std::move(joined));
    }
    std::vector<std::vector<std::size_t>> out;
    for (Group& group : groups) out.push_back(std::move(group.units));
    return out;
}

Error clock_error(std::int64_t jump_us) {
    return {
        Errc::unavailable,
        "the database's clock jumped forward by " + std::to_string(jump_us / kSecondUs) +
            " s; set it right, or confirm it with `annal clock confirm` on each node",
        {},
        30'000};
}

bool is_about_data(std::string_view state) {
    // Data exceptions, constraints, limits of the program: they belong to one unit, not to all.
    return state.starts_with("22") || state.starts_with("23") || state.starts_with("54");
}

}  // namespace

bool KnownActions::has(const Entry& entry) const {
    const std::lock_guard lock(mutex_);
    return entries_.contains(entry);
}

void KnownActions::add(const std::set<Entry>& entries) {
    const std::lock_guard lock(mutex_);
    if (entries_.size() > kMax) entries_.clear();
    entries_.insert(entries.begin(), entries.end());
}

void KnownActions::clear() {
    const std::lock_guard lock(mutex_);
    entries_.clear();
}

std::optional<Error> DatabaseClock::check(const ClockReading& now) {
    const std::lock_guard lock(mutex_);
    if (!guard_) guard_.emplace(now);
    refusal_.reset();
    if (const auto jump = guard_->check(now)) refusal_ = clock_error(*jump);
    return refusal_;
}

std::optional<Error> DatabaseClock::refusal() const {
    const std::lock_guard lock(mutex_);
    return refusal_;
}

void DatabaseClock::confirm() {
    const std::lock_guard lock(mutex_);
    guard_.reset();
    refusal_.reset();
}

/// Units that share a transaction, and how far they have come.
struct Append::Work {
    std::vector<const AppendUnit*> units;
    std::vector<AppendOutcome*> outcomes;
    AppendNeeds needs;
    std::vector<AppendRows::Batch> batches;  ///< what COMMIT would make visible
    CommitMark mark;                         ///< likewise, when there is no batch
    std::chrono::steady_clock::time_point commit_began{};
    Error failure;
    bool fails_alone = false;  ///< the failure says nothing of other units

    void fail(const Error& error) {
        for (AppendOutcome* outcome : outcomes) *outcome = error;
    }
};

void Append::run(std::span<const AppendUnit> units, std::span<AppendOutcome> outcomes) {
    std::vector<const AppendUnit*> valid;
    std::vector<AppendOutcome*> places;
    for (std::size_t i = 0; i < units.size(); ++i) {
        if (auto error = unstorable(units[i])) {
            outcomes[i] = std::move(*error);
            continue;
        }
        valid.push_back(&units[i]);
        places.push_back(&outcomes[i]);
    }
    if (!valid.empty()) run_valid(std::move(valid), std::move(places));
}

void Append::run_valid(std::vector<const AppendUnit*> units, std::vector<AppendOutcome*> outcomes) {
    Work work;
    work.units = std::move(units);
    work.outcomes = std::move(outcomes);
    for (const AppendUnit* unit : work.units) work.needs.add(*unit);
    End end = End::again;
    for (int i = 0; i < kAttemptsMax && end == End::again; ++i) {
        end = attempt(work);
        if (end == End::unknown) end = resolve(work);
    }
    if (end == End::committed) return;
    if (end == End::apart) return run_apart(work);
    if (end == End::split && work.units.size() > 1) {
        const auto half = static_cast<std::ptrdiff_t>(work.units.size() / 2);
        run_valid(
            {work.units.begin(), work.units.begin() + half},
            {work.outcomes.begin(), work.outcomes.begin() + half}
        );
        return run_valid(
            {work.units.begin() + half, work.units.end()},
            {work.outcomes.begin() + half, work.outcomes.end()}
        );
    }
    shared_.failures.record(1);
    const Errc code = work.failure.code;
    if (!work.fails_alone && (code == Errc::unavailable || code == Errc::timeout))
        outage_ = work.failure.detail;
    work.fail(work.failure);
}

// Somebody has held a lock for long: that must be the loss of its project alone.
void Append::run_apart(const Work& work) {
    const auto patience = std::exchange(lock_patience_, kLockAgain);
    for (const auto& group : independent(work.units)) {
        std::vector<const AppendUnit*> units;
        std::vector<AppendOutcome*> outcomes;
        for (const std::size_t i : group) {
            units.push_back(work.units[i]);
            outcomes.push_back(work.outcomes[i]);
        }
        run_valid(std::move(units), std::move(outcomes));
    }
    lock_patience_ = patience;
}

Append::End Append::attempt(Work& work) {
    auto connection = seat_.connection();
    if (!connection) {
        work.failure = connection.error();
        return End::failed;
    }
    Connection& db = *connection.value();
    const auto begin = std::chrono::steady_clock::now();
    const auto patience = shared_.is_silent ? kGrace : shared_.times.statement + kGrace;
    db.set_deadline(begin + patience);
    const End end = write(db, work);
    if (end == End::committed) {
        const auto took = std::chrono::steady_clock::now() - begin;
        shared_.commits.record(1);
        shared_.commit_seconds.record(std::chrono::duration<double>(took).count());
    }
    return end;
}

Append::End Append::write(Connection& db, Work& work) {
    Committed committed(shared_.stamps);
    const std::string settings = settings_of(shared_.times, lock_patience_);
    const std::int64_t before_us = SystemClock().monotonic_us();
    if (auto begun = committed.begin(db, work.needs, settings, wait_); begun.has_error())
        return failed(db, work, begun.error());
    if (const auto refusal = check_clock(committed.now(), before_us)) {
        const End end = failed(db, work, *refusal);
        work.fails_alone = true;
        return end;
    }
    AppendRows rows(committed);
    StagedUnits staged;
    Cursors moved;
    const Month key_month = month_of(std::max(committed.now(), committed.floor()));
    for (std::size_t i = 0; i < work.units.size(); ++i) {
        if (committed.is_busy(*work.units[i])) {
            shared_.busy.record(1);
            *work.outcomes[i] = Error{Errc::busy, "another node is writing this log"};
            continue;
        }
        UnitPlanner planner(committed, staged, committed.now(), committed.floor());
        auto plan = planner.plan(*work.units[i]);
        if (!plan) {
            *work.outcomes[i] = plan.error();
            continue;
        }
        if (!plan.value().replayed && !work.units[i]->cursors.empty()) {
            if (auto moves = move_cursors(committed, moved, *work.units[i]); moves.has_error()) {
                *work.outcomes[i] = moves.error();
                continue;
            }
        }
        *work.outcomes[i] = plan.value().receipts;
        if (plan.value().changes_nothing()) continue;
        staged.add(plan.value());
        rows.add(std::move(plan.value()), key_month);
    }
    if (rows.empty()) {
        db.rollback();
        return End::committed;
    }
    for (const Month month : rows.months()) {
        if (shared_.partitions.has(month)) continue;
        db.rollback();
        if (auto made = shared_.partitions.make(db, month); made.has_error())
            return failed(db, work, made.error());
        return End::again;
    }
    if (auto written = rows.write(db, shared_.actions); written.has_error())
        return failed(db, work, written.error());
    work.batches = rows.batches();
    work.mark = rows.mark();
    work.commit_began = std::chrono::steady_clock::now();
    if (auto done = db.run("COMMIT"); done.has_error()) {
        // The connection may turn out to be lost only now: then the answer was not the server's.
        const End end = failed(db, work, done.error());
        return db.is_lost() ? End::unknown : end;
    }
    shared_.actions.add(rows.actions());
    has_written_ = true;
    announce(work);
    return End::committed;
}

std::optional<Error> Append::check_clock(TimeUs now, std::int64_t before_us) {
    if (shared_.stamps != nullptr) return std::nullopt;
    return shared_.clock.check({now, before_us, SystemClock().monotonic_us()});
}

Append::End Append::failed(Connection& db, Work& work, const Error& error) {
    const std::string state = db.state();
    db.rollback();
    work.failure = error;
    work.fails_alone = state == kLockNotAvailable;
    // Before COMMIT nothing is written: another connection may do it, unless this one was silent.
    if (db.is_lost()) return db.is_overdue() ? End::failed : End::again;
    if (state == kLockNotAvailable && independent(work.units).size() > 1) return End::apart;
    // Serialization and deadlocks are nobody's fault; another node may have dropped the month.
    if (state.starts_with("40")) return End::again;
    // More projects than the server has room for locks: fewer may fit.
    const bool too_many = state == "53200";
    return too_many || is_about_data(state) ? End::split : End::failed;
}

void Append::announce(const Work& work) const {
    std::set<std::string> projects;
    for (const AppendRows::Batch& batch : work.batches) {
        projects.insert(batch.project);
        if (shared_.grown) shared_.grown(batch.project, batch.first_seq, batch.last_seq);
    }
    if (shared_.appended && !projects.empty()) shared_.appended(projects);
}

// The locks are free again when the server has ended the first transaction, one way or the other.
Append::End Append::resolve(Work& work) {
    shared_.unknown_commits.record(1);
    log::warn("postgres.unknown_commit", {{"error", work.failure.detail}});
    const auto end = std::chrono::steady_clock::now() + shared_.times.resolve;
    const Error unknown{
        Errc::timeout,
        "the connection to PostgreSQL broke while a commit was under way, and it did not come back "
        "in time to tell how it ended; repeat the request with the same idempotency key",
        {},
        1'000};
    // A process that was stopped for longer comes too late to find its mark.
    const auto last = std::min(end, work.commit_began + kMarkLookedFor);
    while (std::chrono::steady_clock::now() < last) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            last - std::chrono::steady_clock::now()
        );
        auto connection = seat_.connection_within(left);
        if (!connection) break;
        Connection& db = *connection.value();
        db.set_deadline(end);
        const auto committed = was_committed(db, work.batches, work.mark);
        db.rollback();
        if (committed.has_value() && committed.value()) announce(work);
        if (committed.has_value()) return committed.value() ? End::committed : End::again;
        std::this_thread::sleep_for(kResolvePause);
    }
    work.failure = unknown;
    return End::failed;
}

}  // namespace annal::postgres
