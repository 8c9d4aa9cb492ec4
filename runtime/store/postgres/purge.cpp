#include "runtime/store/postgres/purge.h"

#include "runtime/core/log.h"
#include "runtime/store/postgres/locks.h"
#include "runtime/store/postgres/partitions.h"

namespace annal::postgres {
namespace {

constexpr std::string_view kLockNotAvailable = "55P03";
// Who waits for a table waits behind this, so it must not wait for long itself; autovacuum makes
// way after a second.
constexpr const char* kSettings =
    "SET lock_timeout = '2s'; SET statement_timeout = '15min'; SET synchronous_commit = on";
// What committed before it has a lower number.
constexpr const char* kNow = "SELECT (txid_current() % 4294967296)::text";
constexpr const char* kReaders =
    "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND pid <> "
    "pg_backend_pid() AND age(backend_xmin) > age($1::text::xid)";
constexpr const char* kSize = "SELECT pg_total_relation_size(to_regclass($1::text))";
constexpr const char* kParentIsAnalyzed =
    "SELECT EXISTS (SELECT 1 FROM pg_stats WHERE tablename = 'audit_events')";

// Of the session, which ends: an index that is built beside its table's traffic and a table that is
// written anew would wait for each other.
const std::string kTakeTurn = call_lock("pg_try_advisory_lock", kSealingLock);

/// False: it is locked.
Result<bool> vacuum(Connection& db, const std::string& table, std::int64_t bytes) {
    const bool rewrite = bytes <= kRewriteBytesMax;
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::minutes(16));
    const auto done = db.run(
        (rewrite ? "VACUUM (FULL, ANALYZE) " : "VACUUM (ANALYZE, INDEX_CLEANUP ON) ") + table
    );
    if (done.has_error() && db.state() == kLockNotAvailable) return false;
    BOOST_OUTCOME_TRYV(done);
    log::info("postgres.purged", {{"table", table}, {"bytes", bytes}, {"rewritten", rewrite}});
    return true;
}

}  // namespace

Result<bool> purge_erased(Connection& db, const std::vector<Month>& months) {
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(30));
    BOOST_OUTCOME_TRYV(db.run(kSettings));
    BOOST_OUTCOME_TRY(const auto now, db.run(kNow));
    Params since;
    since.text(now.text(0, 0).view());
    BOOST_OUTCOME_TRY(const auto readers, db.run(kReaders, since));
    if (readers.integer(0, 0) > 0) return false;
    BOOST_OUTCOME_TRY(const auto turn, db.run(kTakeTurn));
    if (!turn.boolean(0, 0)) return false;
    std::vector<std::string> tables{"kv"};
    for (const Month month : months) tables.push_back(partition_name(month));
    for (const std::string& table : tables) {
        db.set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(30));
        Params params;
        params.text(table);
        BOOST_OUTCOME_TRY(const auto size, db.run(kSize, params));
        if (size.is_null(0, 0)) continue;  // dropped
        BOOST_OUTCOME_TRY(const bool done, vacuum(db, table, size.integer(0, 0)));
        if (!done) return false;
    }
    // What the planner remembers of common values.
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::minutes(16));
    BOOST_OUTCOME_TRY(const auto analyzed, db.run(kParentIsAnalyzed));
    if (analyzed.boolean(0, 0)) {
        BOOST_OUTCOME_TRYV(db.run("ANALYZE audit_events"));
    }
    BOOST_OUTCOME_TRYV(db.run("VACUUM pg_statistic"));
    return true;
}

}  // namespace annal::postgres
