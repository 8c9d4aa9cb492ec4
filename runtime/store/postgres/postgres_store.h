#pragma once

#include <chrono>
#include <memory>
#include <string>

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
    int months_ahead = 3;           ///< partitions made before they are needed
    const Clock* stamps = nullptr;  ///< stamps events instead of the database's clock; for tests
};

/// The store for production: one PostgreSQL database for one node or many.
///
/// Returns at once when the database can't be reached: the store then tries again and again, and
/// `health` says why nothing works yet.
/// @error Errc::invalid   The URL can't be read.
/// @error Errc::conflict  The database is not for this version of the program; the detail says why.
[[nodiscard]] Result<std::unique_ptr<EventStore>> open_postgres_store(
    const PostgresOptions& options, Metrics& metrics
);

namespace postgres {

/// Waits until the store has looked after its months once more: those that are over are sealed. For
/// tests. False: not within `patience`, or it failed.
[[nodiscard]] bool settle(EventStore& store, std::chrono::milliseconds patience);

}  // namespace postgres
}  // namespace annal
