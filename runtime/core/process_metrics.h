#pragma once

#include <string>

#include "runtime/core/metrics.h"

namespace annal {

/// The process as Prometheus's own client libraries show theirs, and the build.
class ProcessMetrics {
public:
    ProcessMetrics(Metrics& metrics, const std::string& version);
    /// Reads the process's state anew, from /proc; call it before a rendering.
    void refresh();

private:
    Metric &resident_, &virtual_, &cpu_seconds_, &open_fds_, &threads_;
    double cpu_seen_ = 0;
};

}  // namespace annal
