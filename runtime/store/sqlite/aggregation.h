#pragma once

#include "runtime/store/sqlite/scan.h"

namespace annal::sqlite {

/// See EventStore::aggregate. Counts by action alone come from the hourly rollups of sealed
/// segments; for everything else each matching row is read.
[[nodiscard]] Result<std::vector<AggregateRow>> aggregate_events(
    Reader& reader, const AggregateRequest& request
);

}  // namespace annal::sqlite
