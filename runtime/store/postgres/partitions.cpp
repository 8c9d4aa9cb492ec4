#include "runtime/store/postgres/partitions.h"

#include "runtime/store/postgres/locks.h"

namespace annal::postgres {
namespace {

// Whoever stops with a lock is outlived: the server ends his transaction.
const std::string kBegin =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '8s'; SET LOCAL "
    "statement_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '5s'; " +
    call_lock("pg_advisory_xact_lock", kPartitionLock);
// Nobody waits long behind us: whoever wants the parent meanwhile queues behind this lock.
const std::string kBeginDrop =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '200ms'; SET LOCAL "
    "statement_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '5s'; " +
    call_lock("pg_advisory_xact_lock", kPartitionLock);
constexpr const char* kListKeys =
    "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
    "WHERE i.inhparent = 'idempotency_keys'::regclass ORDER BY 1";
constexpr std::string_view kPrefix = "audit_events_", kKeysPrefix = "idempotency_keys_";

std::string exists(const std::string& table) {
    return "SELECT to_regclass('" + table + "') IS NOT NULL";
}

std::string keys_name(Month month) {
    return std::string(kKeysPrefix) + partition_name(month).substr(kPrefix.size());
}

/// Vacuum keeps the visibility map fresh behind the appends, so that counts read indexes alone.
std::string make_events(Month month) {
    const std::string table = partition_name(month);
    return "CREATE TABLE " + table +
           " (LIKE audit_events INCLUDING ALL) WITH (autovacuum_vacuum_insert_scale_factor = 0, "
           "autovacuum_vacuum_insert_threshold = 200000);"
           "ALTER TABLE audit_events ATTACH PARTITION " +
           table + " FOR VALUES FROM (" + timestamp_literal(start_of(month)) + ") TO (" +
           timestamp_literal(start_of(next(month))) + ")";
}

std::string make_keys(Month month) {
    const std::string table = keys_name(month);
    return "CREATE TABLE " + table +
           " (LIKE idempotency_keys INCLUDING ALL);"
           "ALTER TABLE idempotency_keys ATTACH PARTITION " +
           table + " FOR VALUES FROM ('" + month_text(month) + "') TO ('" +
           month_text(next(month)) + "')";
}

Result<void> make_tables(Connection& db, Month month) {
    BOOST_OUTCOME_TRY(const auto events, db.run(exists(partition_name(month))));
    if (!events.boolean(0, 0)) {
        BOOST_OUTCOME_TRYV(db.run(make_events(month)));
    }
    BOOST_OUTCOME_TRY(const auto keys, db.run(exists(keys_name(month))));
    if (!keys.boolean(0, 0)) {
        BOOST_OUTCOME_TRYV(db.run(make_keys(month)));
    }
    return ok();
}

Result<void> drop_table(Connection& db, const std::string& parent, const std::string& table) {
    BOOST_OUTCOME_TRY(const auto found, db.run(exists(table)));
    if (!found.boolean(0, 0)) return ok();
    BOOST_OUTCOME_TRYV(
        db.run("ALTER TABLE " + parent + " DETACH PARTITION " + table + "; DROP TABLE " + table)
    );
    return ok();
}

}  // namespace

bool Partitions::has(Month month) const {
    const std::lock_guard lock(mutex_);
    return known_.contains(month);
}

Result<void> Partitions::make(Connection& db, Month month) {
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(20));
    BOOST_OUTCOME_TRYV(transact(db, kBegin, [&] { return make_tables(db, month); }));
    const std::lock_guard lock(mutex_);
    known_.insert(month);
    return ok();
}

void Partitions::forget() {
    const std::lock_guard lock(mutex_);
    known_.clear();
}

Result<void> Partitions::make_ahead(Connection& db, Month month, int ahead) {
    for (int i = 0; i <= ahead; ++i, month = next(month))
        if (!has(month)) {
            BOOST_OUTCOME_TRYV(make(db, month));
        }
    return ok();
}

Result<void> Partitions::drop(Connection& db, Month month) {
    {
        const std::lock_guard lock(mutex_);
        known_.erase(month);
    }
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(40));
    return transact(db, kBeginDrop, [&] {
        return drop_table(db, "audit_events", partition_name(month));
    });
}

Result<void> Partitions::drop_keys(Connection& db, Month month) {
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(40));
    return transact(db, kBeginDrop, [&] {
        return drop_table(db, "idempotency_keys", keys_name(month));
    });
}

Result<std::vector<Month>> Partitions::list_keys(Connection& db) {
    BOOST_OUTCOME_TRY(const auto rows, db.run(kListKeys));
    std::vector<Month> months;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::string_view name = rows.text(i, 0).view();
        if (name.starts_with(kKeysPrefix))
            months.push_back(parse_month(name.substr(kKeysPrefix.size())));
    }
    return months;
}

}  // namespace annal::postgres
