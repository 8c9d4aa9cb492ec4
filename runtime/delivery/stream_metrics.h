#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "runtime/core/metrics.h"
#include "runtime/delivery/settlement.h"

namespace annal {

/// What a stream tells Prometheus, under its name and project. Thread-safe.
class StreamMetrics {
public:
    StreamMetrics(Metrics& metrics, const std::string& stream, const std::string& project);

    void attempted(Verdict worst, std::int64_t took_us);
    void delivered(std::size_t events);
    void dead_lettered();
    void at(std::int64_t cursor_seq);
    void lags(std::int64_t events, double seconds);
    void show(const std::string& state);

private:
    Metric &cursor_, &lag_events_, &lag_seconds_, &blocked_, &standby_, &delivered_, &dead_letters_,
        &attempt_seconds_;
    std::array<Metric*, 4> outcomes_{};
};

}  // namespace annal
