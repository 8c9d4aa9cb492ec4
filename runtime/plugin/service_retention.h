#pragma once

#include "annal/abi.h"

namespace annal {

/// `clean_up` of annal.store/1.
void clean_up_events(
    annal_ctx* ctx, annal_call* handle, void* user, annal_cleanup_done done
) noexcept;

}  // namespace annal
