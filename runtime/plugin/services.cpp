#include "runtime/plugin/services.h"

namespace annal {
namespace {

struct Entry {
    std::string_view id;
    bool (*permitted)(const annal_ctx& ctx);
    const void* table;
};

bool always(const annal_ctx&) {
    return true;
}
bool may_read(const annal_ctx& ctx) {
    return ctx.permissions.store_read && !ctx.permissions.store_delete;
}
bool may_erase(const annal_ctx& ctx) {
    return ctx.permissions.store_read && ctx.permissions.store_delete;
}
bool may_append(const annal_ctx& ctx) {
    return ctx.permissions.append;
}
bool may_keep(const annal_ctx& ctx) {
    return ctx.permissions.kv;
}
bool may_call_out(const annal_ctx& ctx) {
    return !ctx.permissions.http.empty() && ctx.environment.http_client != nullptr;
}
bool has_secrets(const annal_ctx& ctx) {
    return !ctx.permissions.secrets.empty() && ctx.environment.secrets != nullptr;
}
bool may_retain(const annal_ctx& ctx) {
    return ctx.permissions.retention && ctx.environment.retention != nullptr;
}
bool may_configure(const annal_ctx& ctx) {
    return ctx.permissions.config;
}
// The other end of exports is wired after the instances are made: asked for at the call, not here.
bool may_export(const annal_ctx& ctx) {
    return ctx.permissions.export_;
}

constexpr Entry kEntries[] = {
    {ANNAL_SERVICE_LOG, always, &kLogService},
    {ANNAL_SERVICE_METRICS, always, &kMetricsService},
    {ANNAL_SERVICE_CLOCK, always, &kClockService},
    {ANNAL_SERVICE_CODEC, always, &kCodecService},
    {ANNAL_SERVICE_STORE, may_read, &kStoreService},
    {ANNAL_SERVICE_STORE, may_erase, &kStoreServiceErasing},
    {ANNAL_SERVICE_BUS, may_append, &kBusService},
    {ANNAL_SERVICE_KV, may_keep, &kKvService},
    {ANNAL_SERVICE_HTTP_CLIENT, may_call_out, &kHttpClientService},
    {ANNAL_SERVICE_SECRETS, has_secrets, &kSecretsService},
    {ANNAL_SERVICE_CONFIG, may_configure, &kConfigService},
    {ANNAL_SERVICE_EXPORT, may_export, &kExportService},
    {ANNAL_SERVICE_RETENTION, may_retain, &kRetentionService},
};

}  // namespace

const void* find_service(const annal_ctx& ctx, std::string_view id) {
    for (const Entry& entry : kEntries) {
        if (entry.id == id && entry.permitted(ctx)) return entry.table;
    }
    return nullptr;
}

}  // namespace annal
