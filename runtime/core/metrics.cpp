#include "runtime/core/metrics.h"

#include <prometheus/check_names.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <mutex>
#include <utility>
#include <variant>

#include "runtime/core/fatal.h"

namespace annal {
namespace {

using Labels = std::map<std::string, std::string>;

/// Series of one name that `try_define` makes; a plugin that puts ids into labels must not fill the
/// memory.
constexpr std::size_t kForeignSeriesMax = 1'000;

/// Seconds, from a commit on a fast disk to a request that is given up.
const prometheus::Histogram::BucketBoundaries kSecondBuckets = {
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    30};

/// Names that do not end in _seconds: events, requests, from one to what a request may hold.
const prometheus::Histogram::BucketBoundaries kSizeBuckets = {
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1'000, 2'000, 5'000, 10'000};

const prometheus::Histogram::BucketBoundaries& buckets_of(std::string_view name) {
    return name.ends_with("_seconds") ? kSecondBuckets : kSizeBuckets;
}

class CounterMetric final : public Metric {
public:
    explicit CounterMetric(prometheus::Counter& counter) : counter_(counter) {}
    void record(double value) override {
        if (value > 0) {
            counter_.Increment(value);
        }
    }

private:
    prometheus::Counter& counter_;
};

class GaugeMetric final : public Metric {
public:
    explicit GaugeMetric(prometheus::Gauge& gauge) : gauge_(gauge) {}
    void record(double value) override { gauge_.Set(value); }

private:
    prometheus::Gauge& gauge_;
};

class HistogramMetric final : public Metric {
public:
    explicit HistogramMetric(prometheus::Histogram& histogram) : histogram_(histogram) {}
    void record(double value) override { histogram_.Observe(value); }

private:
    prometheus::Histogram& histogram_;
};

bool are_label_names(const Labels& labels) {
    for (const auto& [label, value] : labels) {
        if (!prometheus::CheckLabelName(label) || label == "le") {
            return false;
        }
    }
    return true;
}

}  // namespace

struct Metrics::State {
    struct Family {
        MetricKind kind;
        std::variant<
            prometheus::Family<prometheus::Counter>*,
            prometheus::Family<prometheus::Gauge>*,
            prometheus::Family<prometheus::Histogram>*>
            made;
        std::map<Labels, std::unique_ptr<Metric>> series;
    };

    Family make_family(MetricKind kind, const std::string& name, const std::string& help) {
        switch (kind) {
            case MetricKind::counter:
                return {
                    kind, &prometheus::BuildCounter().Name(name).Help(help).Register(registry), {}};
            case MetricKind::gauge:
                return {
                    kind, &prometheus::BuildGauge().Name(name).Help(help).Register(registry), {}};
            case MetricKind::histogram:
                break;
        }
        return {kind, &prometheus::BuildHistogram().Name(name).Help(help).Register(registry), {}};
    }

    static std::unique_ptr<Metric> make_series(
        const std::string& name, Family& family, const Labels& labels
    ) {
        switch (family.kind) {
            case MetricKind::counter:
                return std::make_unique<CounterMetric>(std::get<0>(family.made)->Add(labels));
            case MetricKind::gauge:
                return std::make_unique<GaugeMetric>(std::get<1>(family.made)->Add(labels));
            case MetricKind::histogram:
                break;
        }
        return std::make_unique<HistogramMetric>(
            std::get<2>(family.made)->Add(labels, buckets_of(name))
        );
    }

    /// Null when the name or a label is malformed, belongs to another kind, or the family is full.
    Metric* find_or_make(
        MetricKind kind,
        const std::string& name,
        const std::string& help,
        const Labels& labels,
        std::size_t series_max
    ) {
        if (!prometheus::CheckMetricName(name) || !are_label_names(labels)) {
            return nullptr;
        }
        const std::lock_guard lock(mutex);
        auto found = families.find(name);
        if (found == families.end()) {
            found = families.emplace(name, make_family(kind, name, help)).first;
        }
        Family& family = found->second;
        if (family.kind != kind) {
            return nullptr;
        }
        if (const auto known = family.series.find(labels); known != family.series.end()) {
            return known->second.get();
        }
        if (family.series.size() >= series_max) {
            return nullptr;
        }
        return family.series.emplace(labels, make_series(name, family, labels)).first->second.get();
    }

    mutable std::mutex mutex;
    prometheus::Registry registry;
    std::map<std::string, Family> families;
};

Metrics::Metrics() : state_(std::make_unique<State>()) {}

Metrics::~Metrics() = default;

Metric& Metrics::define(
    MetricKind kind, const std::string& name, const std::string& help, const Labels& labels
) {
    Metric* metric = state_->find_or_make(kind, name, help, labels, SIZE_MAX);
    if (metric == nullptr) {
        fatal("metrics.bad_definition", name);
    }
    return *metric;
}

Metric* Metrics::try_define(
    MetricKind kind, const std::string& name, const std::string& help, const Labels& labels
) {
    return state_->find_or_make(kind, name, help, labels, kForeignSeriesMax);
}

std::string Metrics::render() const {
    return prometheus::TextSerializer().Serialize(state_->registry.Collect());
}

}  // namespace annal
