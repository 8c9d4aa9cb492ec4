#pragma once

#include <cstdint>
#include <string>

namespace annal::postgres {

// The advisory locks that are of no project, on which all runtimes of a database agree. The numbers
// are arbitrary, and never change their meaning; those of projects are `append_lock`.

inline constexpr std::int64_t kMigrationLock = 4'711'000'000'000'000'001;
inline constexpr std::int64_t kPartitionLock = 4'711'000'000'000'000'002;
/// Held shared by every append, alone by who closes a month.
inline constexpr std::int64_t kMonthBarrier = 4'711'000'000'000'000'003;
/// Of a session: whose turn it is to seal.
inline constexpr std::int64_t kSealingLock = 4'711'000'000'000'000'004;

/// "SELECT pg_advisory_xact_lock(…)": `function` of a lock.
[[nodiscard]] inline std::string call_lock(const char* function, std::int64_t lock) {
    return std::string("SELECT ") + function + "(" + std::to_string(lock) + ")";
}

}  // namespace annal::postgres
