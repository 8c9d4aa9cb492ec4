#include "runtime/delivery/stream_metrics.h"

#include <map>

#include "runtime/core/clock.h"

namespace annal {
namespace {

using Labels = std::map<std::string, std::string>;

Metric& gauge(Metrics& metrics, const char* name, const char* help, const Labels& labels) {
    return metrics.define(MetricKind::gauge, name, help, labels);
}
Metric& counter(Metrics& metrics, const char* name, const char* help, const Labels& labels) {
    return metrics.define(MetricKind::counter, name, help, labels);
}
Labels labels_of(const std::string& stream, const std::string& project) {
    return {{"stream", stream}, {"project", project}};
}

}  // namespace

StreamMetrics::StreamMetrics(
    Metrics& metrics, const std::string& stream, const std::string& project
)
    : cursor_(gauge(
          metrics,
          "annal_stream_cursor_seq",
          "Newest seq that the destination has acknowledged.",
          labels_of(stream, project)
      )),
      lag_events_(gauge(
          metrics,
          "annal_stream_lag_events",
          "Events behind the head of the log.",
          labels_of(stream, project)
      )),
      lag_seconds_(gauge(
          metrics,
          "annal_stream_lag_seconds",
          "Age of the oldest event that the destination lacks; 0 when it has all.",
          labels_of(stream, project)
      )),
      blocked_(gauge(
          metrics,
          "annal_stream_blocked",
          "1 while the stream waits for somebody to mend its destination.",
          labels_of(stream, project)
      )),
      standby_(gauge(
          metrics,
          "annal_stream_standby",
          "1 while another node delivers the stream.",
          labels_of(stream, project)
      )),
      delivered_(counter(
          metrics,
          "annal_stream_delivered_events_total",
          "Events that the destination has acknowledged.",
          labels_of(stream, project)
      )),
      dead_letters_(counter(
          metrics,
          "annal_stream_dead_letters_total",
          "Events that the destination refused for good and that were put aside.",
          labels_of(stream, project)
      )),
      attempt_seconds_(metrics.define(
          MetricKind::histogram,
          "annal_stream_delivery_seconds",
          "Time until the sink reported on an attempt.",
          labels_of(stream, project)
      )) {
    for (auto v : {Verdict::delivered, Verdict::retry, Verdict::reject, Verdict::pause}) {
        auto labels = labels_of(stream, project);
        labels["outcome"] = word(v);
        outcomes_[static_cast<std::size_t>(v)] =
            &counter(metrics, "annal_stream_deliveries_total", "Attempts by outcome.", labels);
    }
}

void StreamMetrics::attempted(Verdict worst, std::int64_t took_us) {
    attempt_seconds_.record(static_cast<double>(took_us) / kSecondUs);
    outcomes_[static_cast<std::size_t>(worst)]->record(1);
}
void StreamMetrics::delivered(std::size_t events) {
    delivered_.record(static_cast<double>(events));
}
void StreamMetrics::dead_lettered() {
    dead_letters_.record(1);
}
void StreamMetrics::at(std::int64_t cursor_seq) {
    cursor_.record(static_cast<double>(cursor_seq));
}
void StreamMetrics::lags(std::int64_t events, double seconds) {
    lag_events_.record(static_cast<double>(events));
    lag_seconds_.record(seconds);
}
void StreamMetrics::show(const std::string& state) {
    blocked_.record(state == "blocked" || state == "failed" ? 1 : 0);
    standby_.record(state == "standby" ? 1 : 0);
}

}  // namespace annal
