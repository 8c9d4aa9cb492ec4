#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "annal/abi.h"
#include "runtime/plugin/instance.h"

/// The host's side of one instance: what services know about who calls them.
struct annal_ctx {
    annal::HostEnvironment& environment;
    const annal::Permissions& permissions;
    std::string instance;
    std::string kv_space;                   ///< "plugin.<instance>"
    std::atomic<bool> creating{true};       ///< `create` has not returned yet
    std::atomic<std::uint32_t> metrics{0};  ///< defined so far
};

namespace annal {

/// The table of service `id`, or null: unknown, of a newer revision, not permitted to this
/// instance, or not built into this runtime.
[[nodiscard]] const void* find_service(const annal_ctx& ctx, std::string_view id);

// One table a file: service_<name>.cpp.
extern const annal_log_v1 kLogService;
extern const annal_metrics_v1 kMetricsService;
extern const annal_clock_v1 kClockService;
extern const annal_store_v1 kStoreService;         ///< without `erase`
extern const annal_store_v1 kStoreServiceErasing;  ///< with it
extern const annal_bus_v1 kBusService;
extern const annal_codec_v1 kCodecService;
extern const annal_kv_v1 kKvService;
extern const annal_http_client_v1 kHttpClientService;
extern const annal_secrets_v1 kSecretsService;
extern const annal_config_v1 kConfigService;
extern const annal_export_v1 kExportService;
extern const annal_retention_v1 kRetentionService;

}  // namespace annal
