#pragma once

#include "runtime/store/postgres/log_view.h"

namespace annal::postgres {

/// See EventStore::aggregate. Counts by action alone come from rollups, everything else is one
/// statement of the database's.
/// @param block_seqs  see add_from_rollup
[[nodiscard]] Result<std::vector<AggregateRow>> aggregate_events(
    Connection& db, const AggregateRequest& request, Seq block_seqs
);

}  // namespace annal::postgres
