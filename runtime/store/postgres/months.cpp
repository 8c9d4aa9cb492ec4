#include "runtime/store/postgres/months.h"

#include <algorithm>

#include "runtime/core/log.h"
#include "runtime/store/idempotency_key.h"
#include "runtime/store/postgres/locks.h"
#include "runtime/store/postgres/selection.h"

namespace annal::postgres {
namespace {

constexpr TimeUs kGrace = 600 * kSecondUs;

constexpr const char* kList =
    "WITH parts AS (SELECT project_id, month, first_seq, lead(first_seq) OVER (PARTITION BY "
    "project_id ORDER BY month) AS next_seq FROM project_months), "
    "counts AS (SELECT p.month, sum(coalesce(p.next_seq, h.last_seq + 1) - p.first_seq)::bigint AS "
    "events FROM parts p LEFT JOIN event_batches h ON h.project_id = p.project_id AND p.next_seq "
    "IS NULL AND h.first_seq = (SELECT max(b.first_seq) FROM event_batches b WHERE b.project_id = "
    "p.project_id) GROUP BY p.month) "
    "SELECT e.month, coalesce(c.events, 0), coalesce(pg_total_relation_size(to_regclass("
    "'audit_events_' || to_char(e.month, 'YYYY_MM'))), 0) FROM event_months e LEFT JOIN counts c "
    "ON c.month = e.month WHERE e.state <> 'dropped' ORDER BY e.month";
constexpr const char* kStates =
    "SELECT month, state, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM "
    "event_months ORDER BY month";
constexpr const char* kBegin =
    "BEGIN ISOLATION LEVEL READ COMMITTED;SET LOCAL lock_timeout = '2s';"
    "SET LOCAL statement_timeout = '60s';SET LOCAL idle_in_transaction_session_timeout = '5s'";
constexpr const char* kDropped =
    "SELECT month FROM event_months WHERE state = 'dropped' AND to_regclass('audit_events_' || "
    "to_char(month, 'YYYY_MM')) IS NOT NULL ORDER BY month";
// Of the session: indexes are built outside of transactions.
const std::string kTakeTurn = call_lock("pg_try_advisory_lock", kSealingLock);
const std::string kEndTurn = call_lock("pg_advisory_unlock", kSealingLock);

/// What the readers of each log see, in one transaction.
std::string hide_statements(const std::string& month) {
    return "INSERT INTO project_log (project_id, first_seq) SELECT m.project_id, coalesce((SELECT "
           "min(n.first_seq) FROM project_months n WHERE n.project_id = m.project_id AND n.month > "
           "m.month), (SELECT max(b.last_seq) + 1 FROM event_batches b WHERE b.project_id = "
           "m.project_id AND b.first_seq = (SELECT max(e.first_seq) FROM event_batches e WHERE "
           "e.project_id = m.project_id))) FROM project_months m WHERE m.month = " +
           month +
           " ON CONFLICT (project_id) DO UPDATE SET first_seq = greatest(project_log.first_seq, "
           "excluded.first_seq);"
           "UPDATE event_months SET state = 'dropped' WHERE month = " +
           month + ";DELETE FROM project_months WHERE month = " + month;
}

/// Rows that nobody reads once the month is hidden.
std::string prune_actions(const std::string& month) {
    return "DELETE FROM project_actions d USING (SELECT project_id, month, action FROM "
           "project_actions WHERE month = " +
           month +
           " LIMIT 10000) a WHERE d.project_id = a.project_id AND d.month = a.month AND d.action = "
           "a.action";
}
std::string prune_counts(const std::string& month) {
    return "DELETE FROM month_counts d USING (SELECT project_id, month, filter FROM month_counts "
           "WHERE month = " +
           month +
           " LIMIT 10000) a WHERE d.project_id = a.project_id AND d.month = a.month AND d.filter = "
           "a.filter";
}

// The last batch of each log stays: it is its head. By keys: a ctid means something in one table
// only.
constexpr const char* kPruneBatches =
    "DELETE FROM event_batches d USING (SELECT b.project_id, b.first_seq FROM project_log l JOIN "
    "event_batches b ON b.project_id = l.project_id AND b.first_seq < l.first_seq AND b.last_seq < "
    "l.first_seq WHERE EXISTS (SELECT 1 FROM event_batches n WHERE n.project_id = b.project_id AND "
    "n.first_seq > b.first_seq) LIMIT 10000) a WHERE d.project_id = a.project_id AND d.first_seq = "
    "a.first_seq";
constexpr const char* kPruneTombstones =
    "DELETE FROM tombstones d USING (SELECT t.project_id, t.seq FROM project_log l JOIN tombstones "
    "t ON t.project_id = l.project_id AND t.seq < l.first_seq LIMIT 10000) a WHERE d.project_id = "
    "a.project_id AND d.seq = a.seq";

constexpr const char* kPruneRollup =
    "DELETE FROM rollup_hourly d USING (SELECT r.project_id, r.first_seq, r.hour, r.action FROM "
    "project_log l JOIN rollup_hourly r ON r.project_id = l.project_id AND r.first_seq < "
    "l.first_seq LIMIT 10000) a WHERE d.project_id = a.project_id AND d.first_seq = a.first_seq "
    "AND d.hour = a.hour AND d.action = a.action";
constexpr const char* kPruneBlocks =
    "DELETE FROM rollup_blocks d USING (SELECT b.project_id, b.first_seq FROM project_log l JOIN "
    "rollup_blocks b ON b.project_id = l.project_id AND b.first_seq < l.first_seq LIMIT 10000) a "
    "WHERE d.project_id = a.project_id AND d.first_seq = a.first_seq";

// Nobody appends below the head, so what these find stays as it is. $1 is the project, $2 the
// floor.
constexpr const char* kRaise =
    "INSERT INTO project_log (project_id, first_seq) SELECT $1::text, $2::bigint FROM (SELECT "
    "last_seq FROM event_batches WHERE project_id = $1::text ORDER BY first_seq DESC LIMIT 1) h "
    "WHERE h.last_seq + 1 >= $2::bigint ON CONFLICT (project_id) DO UPDATE SET first_seq = "
    "greatest(project_log.first_seq, excluded.first_seq) RETURNING first_seq";
constexpr const char* kForgetMonths =
    "DELETE FROM project_months m WHERE m.project_id = $1::text AND EXISTS (SELECT 1 FROM "
    "project_months n WHERE n.project_id = $1::text AND n.month > m.month AND n.first_seq <= "
    "$2::bigint)";
constexpr const char* kCutMonth =
    "UPDATE project_months SET first_seq = $2::bigint, epoch = epoch + 1 WHERE project_id = "
    "$1::text AND first_seq < $2::bigint";
constexpr const char* kEnd =
    "SELECT last_seq FROM event_batches WHERE project_id = $1::text ORDER BY first_seq DESC LIMIT "
    "1";
constexpr const char* kExpired =
    "SELECT x.project_id, x.first_seq, x.oldest FROM (SELECT l.project_id, l.first_seq, (SELECT "
    "min(e.seq) FROM audit_events e WHERE e.project_id = l.project_id AND e.seq < l.first_seq) AS "
    "oldest FROM project_log l WHERE l.first_seq > 0) x WHERE x.oldest IS NOT NULL";
constexpr const char* kPurge =
    "DELETE FROM audit_events WHERE project_id = $1::text AND seq >= $2::bigint AND seq < "
    "$3::bigint";
constexpr Seq kPurgedAtOnce = 2'000;

struct MonthState {
    Month month;
    std::string state;
};
struct Months {
    std::vector<MonthState> list;
    TimeUs now = 0;
};

Result<Months> read_states(Connection& db, TimeUs now) {
    BOOST_OUTCOME_TRY(const auto rows, db.run(kStates));
    Months months;
    months.now = now;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        months.list.push_back(
            {parse_month(rows.text(i, 0).view()), std::string(rows.text(i, 1).view())}
        );
        if (now == kNoTime) months.now = rows.integer(i, 2);
    }
    return months;
}

/// The state of a month that may be hidden.
/// @param again  a month that is hidden is no error
Result<std::string> state_to_hide(const Months& months, Month month, bool again) {
    const auto& list = months.list;
    const auto is_there = [](const MonthState& known) { return known.state != "dropped"; };
    const auto found = std::find_if(list.begin(), list.end(), [&](const MonthState& known) {
        return known.month == month;
    });
    if (found == list.end() || (!is_there(*found) && !again))
        return Error{Errc::not_found, "there are no events of that month"};
    if (std::any_of(list.begin(), found, is_there))
        return Error{Errc::conflict, "an older month is still there; drop the oldest first"};
    if (months.now < start_of(next(month)) + kGrace)
        return Error{Errc::conflict, "the month is still open for appends"};
    return found->state;
}

std::string literal(Month month) {
    return "'" + month_text(month) + "'";
}

/// Deletes in pieces, so that no transaction is long.
Result<void> prune(Connection& db, const std::string& statement) {
    for (;;) {
        BOOST_OUTCOME_TRY(const auto rows, db.run(statement));
        if (rows.changed() == 0) return ok();
    }
}

void set_patience(Connection& db, std::chrono::seconds patience) {
    db.set_deadline(std::chrono::steady_clock::now() + patience);
}

/// Waits until the appends that are under way have ended: later ones stamp no event into the month.
/// In one round trip, since whoever appends meanwhile waits behind us.
Result<void> close_to_appends(Connection& db, Month month) {
    const auto closed = db.run(
        kBegin + (";" + call_lock("pg_advisory_xact_lock", kMonthBarrier)) +
        ";UPDATE event_months SET state = 'closed' WHERE state = 'open' AND month = " +
        literal(month) + ";COMMIT"
    );
    if (closed.has_error()) {
        db.rollback();
        return closed.error();
    }
    log::info("postgres.month_closed", {{"month", month_text(month)}});
    return ok();
}

Result<void> hide_closed(Connection& db, Month month, TimeUs now, bool again) {
    // Once more: another node may have hidden it while this one waited for the row.
    BOOST_OUTCOME_TRY(const auto months, read_states(db, now));
    BOOST_OUTCOME_TRY(const auto state, state_to_hide(months, month, again));
    if (state == "dropped") return ok();
    BOOST_OUTCOME_TRYV(db.run(hide_statements(literal(month))));
    return ok();
}

/// Builds an index of a month beside its readers and writers. One that was cut short is made anew.
Result<void> make_index(
    Connection& db, Month month, const std::string& name, const std::string& definition
) {
    set_patience(db, std::chrono::hours(6));
    const std::string table = partition_name(month), index = table + "_" + name;
    BOOST_OUTCOME_TRY(
        const auto rows,
        db.run("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('" + index + "')")
    );
    if (rows.size() == 1 && rows.boolean(0, 0)) return ok();
    if (rows.size() == 1) {
        BOOST_OUTCOME_TRYV(db.run("DROP INDEX CONCURRENTLY " + index));
    }
    BOOST_OUTCOME_TRYV(
        db.run("CREATE INDEX CONCURRENTLY " + index + " ON " + table + " " + definition)
    );
    return ok();
}

Result<void> make_indexes(Connection& db, Month month) {
    for (std::size_t c = 0; c < kColumns; ++c) {
        const auto column = static_cast<Column>(c);
        if (is_indexed(column, false) || !is_indexed(column, true)) continue;
        const std::string word(name(column));
        BOOST_OUTCOME_TRYV(make_index(
            db, month, word, "(project_id, " + word + ", seq) WHERE " + word + " IS NOT NULL"
        ));
    }
    const std::string table = partition_name(month);
    BOOST_OUTCOME_TRYV(
        make_index(db, month, "search", "USING gin (" + searched_text(table) + " gin_trgm_ops)")
    );
    BOOST_OUTCOME_TRYV(db.run("VACUUM (ANALYZE) " + table));
    BOOST_OUTCOME_TRYV(db.run(
        "UPDATE event_months SET state = 'sealed' WHERE state = 'closed' AND month = '" +
        month_text(month) + "'"
    ));
    return ok();
}

Result<void> seal(Connection& db, const MonthState& month) {
    set_patience(db, std::chrono::seconds(90));
    if (month.state == "open") {
        BOOST_OUTCOME_TRYV(close_to_appends(db, month.month));
    }
    return make_indexes(db, month.month);
}

/// Months that are over and not sealed.
Result<std::vector<MonthState>> finished(Connection& db, TimeUs now) {
    set_patience(db, std::chrono::seconds(30));
    BOOST_OUTCOME_TRY(auto months, read_states(db, now));
    std::erase_if(months.list, [&](const MonthState& month) {
        const bool over = months.now >= start_of(next(month.month)) + kGrace;
        return !over || (month.state != "open" && month.state != "closed");
    });
    return std::move(months.list);
}

Result<void> seal_all(Connection& db, TimeUs now) {
    BOOST_OUTCOME_TRY(const auto months, finished(db, now));
    for (const MonthState& month : months) {
        BOOST_OUTCOME_TRYV(seal(db, month));
    }
    return ok();
}

}  // namespace

Result<std::vector<MonthInfo>> list_months(Connection& db) {
    set_patience(db, std::chrono::seconds(30));
    BOOST_OUTCOME_TRY(const auto rows, db.run(kList));
    std::vector<MonthInfo> months;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        months.push_back(
            {parse_month(rows.text(i, 0).view()),
             rows.integer(i, 1),
             static_cast<std::uint64_t>(rows.integer(i, 2))}
        );
    }
    return months;
}

Result<void> hide_month(Connection& db, Month month, TimeUs now, bool again) {
    set_patience(db, std::chrono::seconds(70));
    BOOST_OUTCOME_TRY(const auto months, read_states(db, now));
    BOOST_OUTCOME_TRY(const auto state, state_to_hide(months, month, again));
    if (state == "open") {
        BOOST_OUTCOME_TRYV(close_to_appends(db, month));
    }
    const std::string begin = std::string(kBegin) +
                              ";SELECT 1 FROM event_months WHERE month = " + literal(month) +
                              " FOR UPDATE";
    return transact(db, begin, [&] { return hide_closed(db, month, now, again); });
}

Result<void> raise_floor(Connection& db, const std::string& project, Seq first_seq) {
    if (!is_storable(project))
        return Error{Errc::not_found, "no event has been recorded in project " + project};
    set_patience(db, std::chrono::seconds(30));
    Params one, both;
    one.text(project);
    both.text(project).number(first_seq);
    return transact(db, kBegin, [&]() -> Result<void> {
        BOOST_OUTCOME_TRY(const auto end, db.run(kEnd, one));
        if (end.size() == 0)
            return Error{Errc::not_found, "no event has been recorded in project " + project};
        BOOST_OUTCOME_TRY(const auto raised, db.run(kRaise, both));
        if (raised.size() == 0)
            return Error{
                Errc::conflict,
                "the log of project " + project + " ends at " + std::to_string(end.integer(0, 0))};
        BOOST_OUTCOME_TRYV(db.run(kForgetMonths, both));
        BOOST_OUTCOME_TRYV(db.run(kCutMonth, both));
        return ok();
    });
}

Result<void> purge_expired(Connection& db, const std::function<bool()>& stop) {
    set_patience(db, std::chrono::minutes(1));
    BOOST_OUTCOME_TRY(const auto rows, db.run(kExpired));
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::string project(rows.text(i, 0).view());
        const Seq end = rows.integer(i, 1);
        for (Seq first = rows.integer(i, 2); first < end && !stop(); first += kPurgedAtOnce) {
            set_patience(db, std::chrono::minutes(1));
            Params params;
            params.text(project).number(first).number(std::min(first + kPurgedAtOnce, end));
            BOOST_OUTCOME_TRYV(db.run(kPurge, params));
        }
    }
    return ok();
}

Result<bool> purge_dropped(Connection& db, Partitions& partitions) {
    set_patience(db, std::chrono::minutes(10));
    BOOST_OUTCOME_TRY(const auto rows, db.run(kDropped));
    bool clean = true;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const Month month = parse_month(rows.text(i, 0).view());
        // The partition goes last: it says that there is something left.
        set_patience(db, std::chrono::minutes(10));
        BOOST_OUTCOME_TRYV(prune(db, prune_actions(literal(month))));
        BOOST_OUTCOME_TRYV(prune(db, prune_counts(literal(month))));
        const auto dropped = partitions.drop(db, month);
        if (db.is_lost()) return dropped.error();
        clean = clean && dropped.has_value();
    }
    set_patience(db, std::chrono::minutes(10));
    BOOST_OUTCOME_TRYV(prune(db, kPruneBatches));
    BOOST_OUTCOME_TRYV(prune(db, kPruneTombstones));
    BOOST_OUTCOME_TRYV(prune(db, kPruneRollup));
    BOOST_OUTCOME_TRYV(prune(db, kPruneBlocks));
    return clean;
}

Result<bool> drop_old_keys(Connection& db) {
    set_patience(db, std::chrono::seconds(30));
    BOOST_OUTCOME_TRY(const auto months, read_states(db, kNoTime));
    if (months.list.empty()) return true;
    const TimeUs stamped_from = start_of(months.list.back().month);
    const Month oldest{month_of(stamped_from - kKeyLifetime).index - 1};
    BOOST_OUTCOME_TRY(const auto kept, Partitions::list_keys(db));
    bool clean = true;
    for (const Month month : kept) {
        if (month >= oldest) break;
        const auto dropped = Partitions::drop_keys(db, month);
        if (db.is_lost()) return dropped.error();
        clean = clean && dropped.has_value();
    }
    return clean;
}

Result<void> seal_finished(Connection& db, TimeUs now) {
    BOOST_OUTCOME_TRY(const auto waiting, finished(db, now));
    if (waiting.empty()) return ok();
    BOOST_OUTCOME_TRY(const auto turn, db.run(kTakeTurn));
    if (!turn.boolean(0, 0)) return ok();
    auto sealed = seal_all(db, now);
    if (sealed.has_error()) db.rollback();
    set_patience(db, std::chrono::seconds(30));
    // A connection that is lost has given its turn back.
    if (!db.is_lost()) {
        BOOST_OUTCOME_TRYV(db.run(kEndTurn));
    }
    return sealed;
}

}  // namespace annal::postgres
