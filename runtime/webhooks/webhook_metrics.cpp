#include "runtime/webhooks/webhook_metrics.h"

#include "runtime/core/clock.h"

namespace annal {
namespace {

constexpr const char* kAttempts = "annal_webhook_attempts_total";
constexpr const char* kAttemptsHelp = "Webhook attempts by outcome.";

}  // namespace

WebhookMetrics::WebhookMetrics(Metrics& metrics, const std::string& project)
    : delivered_(metrics.define(
          MetricKind::counter,
          kAttempts,
          kAttemptsHelp,
          {{"project", project}, {"outcome", "delivered"}}
      )),
      failed_(metrics.define(
          MetricKind::counter,
          kAttempts,
          kAttemptsHelp,
          {{"project", project}, {"outcome", "failed"}}
      )),
      seconds_(metrics.define(
          MetricKind::histogram,
          "annal_webhook_attempt_seconds",
          "Time until an endpoint had answered, or not.",
          {{"project", project}}
      )),
      given_up_(metrics.define(
          MetricKind::counter,
          "annal_webhook_deliveries_failed_total",
          "Webhook deliveries that were given up.",
          {{"project", project}}
      )),
      disabled_(metrics.define(
          MetricKind::counter,
          "annal_webhook_endpoints_disabled_total",
          "Endpoints that were disabled because they failed for too long or said that they are "
          "gone.",
          {{"project", project}}
      )),
      under_way_(metrics.define(
          MetricKind::gauge,
          "annal_webhook_attempts_under_way",
          "Webhook attempts that wait for an answer.",
          {{"project", project}}
      )),
      lag_(metrics.define(
          MetricKind::gauge,
          "annal_webhook_fan_out_lag_events",
          "Events that have not been shared out among the endpoints yet.",
          {{"project", project}}
      )),
      standby_(metrics.define(
          MetricKind::gauge,
          "annal_webhook_standby",
          "1 while another node delivers the project's webhooks.",
          {{"project", project}}
      )) {}

void WebhookMetrics::attempted(bool succeeded, std::int64_t latency_us) {
    (succeeded ? delivered_ : failed_).record(1);
    seconds_.record(static_cast<double>(latency_us) / kSecondUs);
}
void WebhookMetrics::given_up() {
    given_up_.record(1);
}
void WebhookMetrics::disabled() {
    disabled_.record(1);
}
void WebhookMetrics::under_way(std::size_t attempts) {
    under_way_.record(static_cast<double>(attempts));
}
void WebhookMetrics::lags(std::int64_t events) {
    lag_.record(static_cast<double>(events));
}
void WebhookMetrics::stands_by(bool standby) {
    standby_.record(standby ? 1 : 0);
}

}  // namespace annal
