#pragma once

#include <functional>

#include "runtime/core/result.h"
#include "runtime/event/event.h"

namespace annal {

/// The seq in [first, last] down to which exactly `skip` events lie that are no tombstones; kNoSeq:
/// there are not so many. What EventStore::seek answers where all events match.
/// @param tombstones  how many there are in [first, last] of its arguments
[[nodiscard]] Result<Seq> seq_behind(
    Seq first,
    Seq last,
    std::int64_t skip,
    const std::function<Result<std::int64_t>(Seq first, Seq last)>& tombstones
);

}  // namespace annal
