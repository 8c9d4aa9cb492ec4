#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/store/postgres/connection.h"

namespace annal::postgres {

/// One file of migrations/postgres.
struct Migration {
    int version = 0;
    std::string_view name, sql;
};
/// Those that this program holds, by version.
[[nodiscard]] std::span<const Migration> migrations();

/// The generation of runtimes: raised by a release that reads or writes the database in a way that
/// older ones can't live with.
inline constexpr int kRuntimeGeneration = 1;

struct MigrationReport {
    std::vector<int> applied;  ///< by this call
    int version = 0;           ///< of the database now
};

/// Brings the database to the newest version that this program knows: all that is missing in one
/// transaction, or nothing. Several nodes may call it at once: they take turns. A database that is
/// newer than the program is left as it is: it says itself which runtimes it can serve. A table
/// that is in use is waited for in short attempts, so that nobody queues behind them for long.
///
/// @error Errc::conflict     The database serves only newer runtimes; or what was applied is not
///                           what this program holds under the same number.
/// @error Errc::timeout      A table was in use all the time, or other nodes took long.
/// @error Errc::unavailable  As `Connection::run`.
[[nodiscard]] Result<MigrationReport> migrate(
    Connection& db, std::span<const Migration> known = migrations()
);

/// @error Errc::conflict  The database serves only newer runtimes, perhaps since another program's
///                        `migrate`.
[[nodiscard]] Result<void> check_generation(Connection& db);
/// Names of those that `migrate` would apply, without writing. Errors as there.
[[nodiscard]] Result<std::vector<std::string_view>> missing_migrations(Connection& db);
/// @error Errc::conflict  As above, and when something is missing.
[[nodiscard]] Result<void> check_schema(Connection& db);

}  // namespace annal::postgres
