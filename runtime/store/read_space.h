#pragma once

#include <string>
#include <vector>

#include "runtime/store/event_store.h"

namespace annal {

/// Every row of a key space, for what is small enough to be kept in memory.
/// @param project  empty: of all
[[nodiscard]] Task<Result<std::vector<KvRow>>> read_space(
    EventStore& store, std::string space, std::string project = {}
);

}  // namespace annal
