#pragma once

#include <map>
#include <memory>
#include <string>

namespace annal {

/// A counter, gauge or histogram with its labels bound. Thread-safe, lock-free on the way.
class Metric {
public:
    virtual ~Metric() = default;
    /// Counter: adds. Gauge: sets. Histogram: observes.
    virtual void record(double value) = 0;
};

enum class MetricKind { counter, gauge, histogram };

/// The node's metrics, rendered at GET /metrics in the Prometheus text format.
class Metrics {
public:
    Metrics();
    ~Metrics();
    /// The same name with other labels is another series of one family. Aborts when a name is
    /// reused with another kind; `try_define` gives null instead (for names that come from
    /// plugins).
    Metric& define(
        MetricKind kind,
        const std::string& name,
        const std::string& help,
        const std::map<std::string, std::string>& labels = {}
    );
    Metric* try_define(
        MetricKind kind,
        const std::string& name,
        const std::string& help,
        const std::map<std::string, std::string>& labels = {}
    );
    [[nodiscard]] std::string render() const;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace annal
