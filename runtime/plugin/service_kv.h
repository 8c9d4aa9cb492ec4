#pragma once

#include <vector>

#include "annal/abi.h"
#include "runtime/plugin/services.h"
#include "runtime/store/event_store.h"

namespace annal {

class Call;

/// The contract's operations as the store's, in the instance's own space and the call's project,
/// preconditions first.
/// @error Errc::invalid    An unknown kind, an empty or too long key, too many operations.
/// @error Errc::too_large  A value above 64 KiB, or all of them above 8 MiB.
[[nodiscard]] Result<std::vector<KvOp>> to_kv_ops(
    const annal_ctx& ctx, const Call& call, const annal_kv_ops& ops
);

}  // namespace annal
