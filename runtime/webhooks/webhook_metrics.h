#pragma once

#include <cstdint>
#include <string>

#include "runtime/core/metrics.h"

namespace annal {

/// What the webhooks of a project tell Prometheus. Thread-safe.
class WebhookMetrics {
public:
    WebhookMetrics(Metrics& metrics, const std::string& project);

    void attempted(bool succeeded, std::int64_t latency_us);
    void given_up();
    void disabled();
    void under_way(std::size_t attempts);
    void lags(std::int64_t events);
    void stands_by(bool standby);

private:
    Metric &delivered_, &failed_, &seconds_, &given_up_, &disabled_, &under_way_, &lag_, &standby_;
};

}  // namespace annal
