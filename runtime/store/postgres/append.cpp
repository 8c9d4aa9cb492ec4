#include "runtime/store/postgres/append.h"

#include <algorithm>

#include "runtime/core/json_text.h"
#include "runtime/core/log.h"
#include "runtime/store/lease_table.h"
#include "runtime/store/postgres/append_rows.h"

namespace annal::postgres {
namespace {

constexpr int kAttemptsMax = 8;
constexpr std::chrono::milliseconds kGrace{5'000};  // for the network, on top of the server's limit

std::string settings_of(const AppendTimes& times) {
    const auto ms = [](std::chrono::milliseconds time) { return std::to_string(time.count()); };
    // A database whose default is not to wait for the disk must wait here.
    return "SET LOCAL statement_timeout = " + ms(times.statement) +
           ";SET LOCAL lock_timeout = " + ms(times.lock) +
           ";SET LOCAL idle_in_transaction_session_timeout = " + ms(times.idle) +
           ";SELECT set_config('synchronous_commit', 'on', true) WHERE "
           "current_setting('synchronous_commit') = 'off';";
}

bool is_text(std::string_view text) {
    return text.find('\0') == std::string_view::npos && is_utf8(text);
}

Error no_text(std::string_view what) {
    return {
        Errc::unprocessable,
        std::string(what) + " holds U+0000 or malformed UTF-8, which text may not"};
}

/// What PostgreSQL could not store must not reach it: it would fail the units beside it.
std::optional<Error> unstorable(const AppendUnit& unit) {
    if (!is_text(unit.project)) return no_text("the project");
    for (const EventDraft& draft : unit.events)
        for (std::size_t c = 0; c < kColumns; ++c)
            if (!is_text(draft.columns[c].view())) return no_text(name(static_cast<Column>(c)));
    for (const KvOp& op : unit.kv)
        if (!is_text(op.space) || !is_text(op.project) || !is_text(op.key)) return no_text("a key");
    for (const CursorMove& move : unit.cursors)
        if (!is_text(move.subscription)) return no_text("a subscription");
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

/// Units that share a transaction, and how far they have come.
struct Append::Work {
    std::vector<const AppendUnit*> units;
    std::vector<AppendOutcome*> outcomes;
    AppendNeeds needs;
    std::vector<AppendRows::Batch> batches;  ///< what COMMIT would make visible
    std::string transaction;
    Error failure;

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
    Work work{std::move(units), std::move(outcomes), {}, {}, {}, {}};
    for (const AppendUnit* unit : work.units) work.needs.add(*unit);
    End end = End::again;
    for (int i = 0; i < kAttemptsMax && end == End::again; ++i) {
        end = attempt(work);
        if (end == End::unknown) end = resolve(work);
    }
    if (end == End::committed) return;
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
    work.fail(work.failure);
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
    static const std::string settings = settings_of(shared_.times);
    if (auto begun = committed.begin(db, work.needs, settings); begun.has_error())
        return failed(db, work, begun.error());
    AppendRows rows(committed);
    StagedUnits staged;
    Cursors moved;
    const Month key_month = month_of(std::max(committed.now(), committed.floor()));
    for (std::size_t i = 0; i < work.units.size(); ++i) {
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
    auto written = rows.write(db, shared_.actions);
    if (!written) return failed(db, work, written.error());
    work.batches = rows.batches();
    work.transaction = std::move(written.value());
    if (auto done = db.run("COMMIT"); done.has_error()) {
        if (!db.is_lost()) return failed(db, work, done.error());
        work.failure = done.error();
        return End::unknown;
    }
    shared_.actions.add(rows.actions());
    return End::committed;
}

Append::End Append::failed(Connection& db, Work& work, const Error& error) {
    const std::string state = db.state();
    db.rollback();
    work.failure = error;
    // Before COMMIT nothing is written: another connection may do it, unless this one was silent.
    if (db.is_lost()) return db.is_overdue() ? End::failed : End::again;
    // Serialization and deadlocks are nobody's fault; another node may have dropped the month.
    if (state.starts_with("40")) return End::again;
    return is_about_data(state) ? End::split : End::failed;
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
    while (std::chrono::steady_clock::now() < end) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            end - std::chrono::steady_clock::now()
        );
        auto connection = seat_.connection_within(left);
        if (!connection) break;
        Connection& db = *connection.value();
        db.set_deadline(end);
        const auto committed = was_committed(db, work.needs, work.batches, work.transaction);
        db.rollback();
        if (committed.has_value()) return committed.value() ? End::committed : End::again;
    }
    work.failure = unknown;
    return End::failed;
}

}  // namespace annal::postgres
