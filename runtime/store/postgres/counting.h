#pragma once

#include "runtime/store/postgres/log_view.h"

namespace annal::postgres {

[[nodiscard]] Result<std::vector<ActionCount>> count_actions(
    Connection& db, const std::string& project, TimeUs since
);
/// Counts of whole sealed months are remembered in the database until an event of them is erased.
/// Limits: about 1 000 a project and month; further ones are counted each time.
[[nodiscard]] Result<Total> count_events(
    Connection& db,
    const std::string& project,
    const Filter& filter,
    std::chrono::milliseconds budget
);
/// See EventStore::seek; for filters of created_at alone.
[[nodiscard]] Result<Seq> seek_by_time(
    Connection& db, const std::string& project, const Filter& filter, std::int64_t skip
);

}  // namespace annal::postgres
