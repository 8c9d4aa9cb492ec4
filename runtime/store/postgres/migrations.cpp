#include "runtime/store/postgres/migrations.h"

#include <map>
#include <thread>

#include "runtime/core/crypto.h"
#include "runtime/core/log.h"
#include "runtime/store/postgres/locks.h"

namespace annal::postgres {
namespace {

const std::string kBegin =
    "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = 0;"
    "SET LOCAL idle_in_transaction_session_timeout = '60s'; SET LOCAL lock_timeout = '60s';" +
    call_lock("pg_advisory_xact_lock", kMigrationLock) +
    // Whoever wants a table that a migration waits for queues behind it.
    ";SET LOCAL lock_timeout = '2s'";
constexpr std::string_view kLockNotAvailable = "55P03";
constexpr int kAttemptsMax = 10;
constexpr std::chrono::seconds kPause{1};
constexpr const char* kTables =
    "CREATE TABLE IF NOT EXISTS schema_migrations (version int PRIMARY KEY, name text NOT NULL, "
    "checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());"
    "CREATE TABLE IF NOT EXISTS schema_compatibility (one boolean PRIMARY KEY DEFAULT true CHECK "
    "(one), oldest_runtime int NOT NULL);"
    "INSERT INTO schema_compatibility VALUES (true, 1) ON CONFLICT DO NOTHING";
constexpr const char* kExist = "SELECT to_regclass('schema_migrations') IS NOT NULL";
constexpr const char* kApplied = "SELECT version, name, checksum FROM schema_migrations";
constexpr const char* kOldest = "SELECT oldest_runtime FROM schema_compatibility";

std::string checksum(const Migration& migration) {
    return to_hex(sha256(migration.sql));
}

/// Those of `known` that are missing.
Result<std::vector<const Migration*>> missing(Connection& db, std::span<const Migration> known) {
    BOOST_OUTCOME_TRY(const auto rows, db.run(kApplied));
    std::map<int, std::string> applied;
    for (std::size_t i = 0; i < rows.size(); ++i)
        applied[static_cast<int>(rows.integer(i, 0))] = rows.text(i, 2).view();
    std::vector<const Migration*> out;
    for (const Migration& migration : known) {
        const auto found = applied.find(migration.version);
        if (found == applied.end()) {
            out.push_back(&migration);
        } else if (found->second != checksum(migration)) {
            return Error{
                Errc::conflict,
                "migration " + std::string(migration.name) +
                    " was applied to the database with another content: it was changed after its "
                    "release, or the database belongs to another program"};
        }
    }
    return out;
}

Result<MigrationReport> apply(Connection& db, std::span<const Migration> known) {
    BOOST_OUTCOME_TRYV(db.run(kTables));
    BOOST_OUTCOME_TRYV(check_generation(db));
    BOOST_OUTCOME_TRY(const auto todo, missing(db, known));
    MigrationReport report;
    for (const Migration* migration : todo) {
        if (auto done = db.run(std::string(migration->sql)); done.has_error()) {
            Error error = done.error();
            error.detail = std::string(migration->name) + ": " + error.detail;
            return error;
        }
        Params row;
        row.text(std::to_string(migration->version))
            .text(migration->name)
            .text(checksum(*migration));
        BOOST_OUTCOME_TRYV(db.run(
            "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1::text::int, "
            "$2::text, $3::text)",
            row
        ));
        report.applied.push_back(migration->version);
    }
    BOOST_OUTCOME_TRY(const auto newest, db.run("SELECT max(version) FROM schema_migrations"));
    report.version = static_cast<int>(newest.integer(0, 0));
    return report;
}

}  // namespace

Result<void> check_generation(Connection& db) {
    BOOST_OUTCOME_TRY(const auto rows, db.run(kOldest));
    if (rows.size() == 1 && rows.integer(0, 0) > kRuntimeGeneration) {
        return Error{
            Errc::conflict,
            "the database serves runtimes of generation " + std::to_string(rows.integer(0, 0)) +
                " and newer, this one is of generation " + std::to_string(kRuntimeGeneration) +
                ": install a newer version"};
    }
    return ok();
}

Result<MigrationReport> migrate(Connection& db, std::span<const Migration> known) {
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::minutes(30));
    for (int attempt = 1;; ++attempt) {
        if (auto begun = db.run(kBegin); begun.has_error()) {
            db.rollback();
            return begun.error();
        }
        auto report = apply(db, known);
        if (report) {
            BOOST_OUTCOME_TRYV(db.run("COMMIT"));
            return report;
        }
        const bool in_use = db.state() == kLockNotAvailable;
        db.rollback();
        if (!in_use || attempt == kAttemptsMax) return report;
        log::warn("postgres.migration_waits", {{"error", report.error().detail}});
        std::this_thread::sleep_for(kPause);
    }
}

Result<std::vector<std::string_view>> missing_migrations(Connection& db) {
    db.set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(30));
    BOOST_OUTCOME_TRY(const auto exist, db.run(kExist));
    std::vector<std::string_view> names;
    if (!exist.boolean(0, 0)) {
        for (const Migration& migration : migrations()) names.push_back(migration.name);
        return names;
    }
    BOOST_OUTCOME_TRYV(check_generation(db));
    BOOST_OUTCOME_TRY(const auto todo, missing(db, migrations()));
    for (const Migration* migration : todo) names.push_back(migration->name);
    return names;
}

Result<void> check_schema(Connection& db) {
    BOOST_OUTCOME_TRY(const auto names, missing_migrations(db));
    if (names.empty()) return ok();
    return Error{
        Errc::conflict,
        "the database lacks " + std::string(names.front()) + ": run `annal migrate`"};
}

}  // namespace annal::postgres
