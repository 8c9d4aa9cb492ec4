#include <string>

#include "runtime/plugin/call.h"
#include "runtime/plugin/services.h"

namespace annal {
namespace {

annal_status get(annal_ctx* ctx, annal_call* handle, annal_str key, annal_str* out) noexcept {
    *out = {nullptr, 0};
    const auto call = Call::share(handle);
    if (!call) return ANNAL_INVALID;
    const auto value =
        ctx->environment.settings->get(call->options().project, std::string(to_view(key)));
    if (!value) return static_cast<annal_status>(value.error().code);
    *out = call->copy(value.value());
    return out->ptr == nullptr ? ANNAL_TOO_LARGE : ANNAL_OK;
}

}  // namespace

const annal_config_v1 kConfigService{sizeof(annal_config_v1), 0, &get};

}  // namespace annal
