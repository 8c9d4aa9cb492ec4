#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/metrics.h"
#include "runtime/store/event_store.h"

namespace annal {

struct PostgresOptions {
    std::string url;  ///< URI or key=value words, as libpq reads them; a pooler in transaction mode
                      ///< may stand there
    std::string direct_url;  ///< for migrations and LISTEN, which poolers can't serve; empty: `url`
    bool migrate = true;     ///< false: the database must be migrated already
    std::size_t append_connections = 4;
    std::size_t read_connections = 4;
    std::size_t delivery_connections = 2;                 ///< cursors, leases, key space
    std::chrono::milliseconds statement_timeout{20'000};  ///< of an append's statement
    int months_ahead = 3;                              ///< partitions made before they are needed
    std::chrono::milliseconds start_patience{60'000};  ///< for the first attempt to get it ready
    std::int64_t rollup_seqs = 50'000;                 ///< events of one block of a rollup
    const Clock* stamps = nullptr;  ///< stamps events instead of the database's clock; for tests

    /// Where nothing is pooled.
    [[nodiscard]] const std::string& direct() const {
        return direct_url.empty() ? url : direct_url;
    }
};

/// The store for production: one PostgreSQL database for one node or many.
///
/// Returns when the first attempt to get the database ready is over, or `start_patience`. Where it
/// did not work the store tries again and again, and `health` says why nothing works yet.
/// @error Errc::invalid   The URL can't be read.
/// @error Errc::conflict  The database is not for this version of the program; the detail says why.
///                        Found out later, that is a refusal for good.
[[nodiscard]] Result<std::unique_ptr<EventStore>> open_postgres_store(
    const PostgresOptions& options, Metrics& metrics
);

/// Whether libpq can read it. @error Errc::invalid  Why not, without anything of the URL, which may
/// hold a password.
[[nodiscard]] Result<void> check_postgres_url(const std::string& url);

struct PostgresMigration {
    std::vector<std::string> applied;  ///< names, by this call
    std::vector<std::string> missing;  ///< names, still
    int version = 0;                   ///< the newest that this program knows
};
/// Brings the database to the newest version that this program knows, through the direct URL, or
/// only looks. Any number of programs may do so at once, also beside running nodes.
/// @error Errc::conflict     The database is not for this version of the program.
/// @error Errc::unavailable  It can't be reached.
[[nodiscard]] Result<PostgresMigration> migrate_postgres(
    const PostgresOptions& options, bool only_look
);

namespace postgres {

/// Waits until the store has looked after its months once more: those that are over are sealed. For
/// tests. False: not within `patience`, or it failed.
[[nodiscard]] bool settle(EventStore& store, std::chrono::milliseconds patience);

}  // namespace postgres
}  // namespace annal
