#pragma once

#include "runtime/store/aggregate.h"
#include "runtime/store/postgres/log_view.h"

namespace annal::postgres {

/// Adds the events of the request's time to `counts`, by hour and action: from the blocks of
/// 0018_create_rollup.sql, which it counts first where they are missing, and what lies beside them
/// from its rows. The request's filter must be of created_at alone.
///
/// A role that may not write counts rows each time.
/// @param block_seqs  of a block; the same on all nodes of a database
/// @error Errc::unavailable  The deadline passed; the blocks that were counted until then stay.
[[nodiscard]] Result<void> add_from_rollup(
    Connection& db,
    const AggregateRequest& request,
    Seq block_seqs,
    Deadline deadline,
    AggregateCounts& counts
);

/// Counts those blocks of a log that are missing or not right any more, as `add_from_rollup` would
/// first. @error Errc::unavailable  As there.
[[nodiscard]] Result<void> complete_rollup(
    Connection& db, const std::string& project, Seq block_seqs, Deadline deadline
);

}  // namespace annal::postgres
