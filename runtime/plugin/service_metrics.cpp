#include <algorithm>
#include <string>

#include "runtime/core/log.h"
#include "runtime/core/metrics.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/services.h"

namespace annal {
namespace {

constexpr std::uint32_t kMetricsMax = 100;  // for each instance

bool is_legal(std::string_view name) {
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
    };
    const auto inner = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
    return !name.empty() && name.size() <= 200 && letter(name.front()) &&
           std::all_of(name.begin(), name.end(), inner);
}

annal_metric* refuse(const annal_ctx& ctx, std::string_view name, std::string_view why) {
    log::warn(
        "plugin.metric_refused", {{"instance", ctx.instance}, {"metric", name}, {"detail", why}}
    );
    return nullptr;
}

annal_metric* define(annal_ctx* ctx, std::int32_t kind, annal_str name, annal_str help) noexcept {
    const std::string_view text = to_view(name);
    if (!is_legal(text)) return refuse(*ctx, "", "not a legal Prometheus name");
    if (!ctx->creating) return refuse(*ctx, text, "metrics are defined in create only");
    if (kind < ANNAL_METRIC_COUNTER || kind > ANNAL_METRIC_HISTOGRAM)
        return refuse(*ctx, text, "unknown kind");
    if (ctx->metrics.fetch_add(1) >= kMetricsMax)
        return refuse(*ctx, text, "more than 100 metrics");
    Metric* metric = ctx->environment.metrics->try_define(
        static_cast<MetricKind>(kind),
        std::string(text),
        std::string(to_view(help)),
        {{"instance", ctx->instance}}
    );
    if (metric == nullptr) return refuse(*ctx, text, "the name is taken with another kind");
    return reinterpret_cast<annal_metric*>(metric);
}

void record(annal_metric* metric, double value) noexcept {
    if (metric != nullptr) reinterpret_cast<Metric*>(metric)->record(value);
}

}  // namespace

static_assert(static_cast<int>(MetricKind::counter) == ANNAL_METRIC_COUNTER);
static_assert(static_cast<int>(MetricKind::gauge) == ANNAL_METRIC_GAUGE);
static_assert(static_cast<int>(MetricKind::histogram) == ANNAL_METRIC_HISTOGRAM);

const annal_metrics_v1 kMetricsService{sizeof(annal_metrics_v1), 0, &define, &record};

}  // namespace annal
