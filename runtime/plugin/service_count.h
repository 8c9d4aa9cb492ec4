#pragma once

#include "annal/abi.h"

namespace annal {

// The counting functions of the store service.

void count_events(
    annal_ctx* ctx, annal_call* call, const annal_filter* filter, void* user, annal_total_done done
) noexcept;
void aggregate_events(
    annal_ctx* ctx,
    annal_call* call,
    const annal_aggregation* what,
    void* user,
    annal_aggregate_done done
) noexcept;

}  // namespace annal
