#include <string>

#include "runtime/plugin/call.h"
#include "runtime/plugin/services.h"

namespace annal {
namespace {

/// A permission is a name, or "prefix/*" for every name below the prefix.
bool permits(const std::string& permission, std::string_view name) {
    if (!permission.ends_with("/*")) return permission == name;
    const std::string_view prefix = std::string_view(permission).substr(0, permission.size() - 1);
    return name.size() > prefix.size() && name.starts_with(prefix);
}

annal_status get(annal_ctx* ctx, annal_call* handle, annal_str name, annal_str* out) noexcept {
    *out = {nullptr, 0};
    const auto call = Call::share(handle);
    if (!call) return ANNAL_INVALID;
    const std::string wanted(to_view(name));
    bool permitted = false;
    for (const std::string& permission : ctx->permissions.secrets) {
        permitted = permitted || permits(permission, wanted);
    }
    if (!permitted) return ANNAL_DENIED;
    const auto value = ctx->environment.secrets(wanted);
    if (!value) return ANNAL_NOT_FOUND;
    *out = call->copy(*value);
    return out->ptr == nullptr ? ANNAL_TOO_LARGE : ANNAL_OK;
}

}  // namespace

const annal_secrets_v1 kSecretsService{sizeof(annal_secrets_v1), 0, &get};

}  // namespace annal
