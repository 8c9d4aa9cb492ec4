#include "runtime/control/health.h"

#include <boost/json.hpp>
#include <mutex>
#include <span>

#include "runtime/control/body.h"
#include "runtime/core/process_metrics.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/version.h"

namespace annal::control {
namespace json = boost::json;
namespace {

json::object to_json(const Instance& instance) {
    const Manifest& manifest = instance.manifest();
    json::array routes;
    for (const HttpTrigger& t : manifest.http) {
        json::object route;
        route["methods"] = json::array(t.methods.begin(), t.methods.end());
        route["route"] = t.route;
        route["scope"] = t.scope;
        routes.push_back(std::move(route));
    }
    json::object object;
    object["instance"] = manifest.instance;
    object["type"] = instance.component().type;
    object["component"] = instance.component().name;
    object["library"] = manifest.library;
    object["id"] = instance.module().descriptor->id;
    object["version"] = instance.module().descriptor->version;
    object["sha256"] = instance.module().sha256;
    object["manifest"] = manifest.file.string() + ":" + std::to_string(manifest.line);
    object["routes"] = std::move(routes);
    return object;
}

json::object to_json(const StreamStatus& status) {
    json::object object;
    object["id"] = status.id;
    object["name"] = status.name;
    object["project_id"] = status.project;
    object["state"] = status.state;
    object["cursor_seq"] = status.cursor_seq;
    object["lag_events"] = status.lag_events;
    object["lag_seconds"] = status.lag_seconds;
    object["last_error"] =
        status.last_error.empty() ? json::value(nullptr) : json::value(status.last_error);
    return object;
}

class NodeRoutes {
public:
    explicit NodeRoutes(NodeView view) : view_(std::move(view)) {}

    Task<Result<void>> healthz(std::shared_ptr<http::Exchange> exchange) {
        json::object body;
        body["status"] = "ok";
        const json::value value(std::move(body));
        co_return co_await respond_json(*exchange, 200, value);
    }

    Task<Result<void>> readyz(std::shared_ptr<http::Exchange> exchange) {
        const std::vector<std::string> reasons = reasons_not_to_append();
        json::object body;
        body["status"] = reasons.empty() ? "ready" : "not ready";
        body["reasons"] = json::array(reasons.begin(), reasons.end());
        const auto degraded = view_.degraded ? view_.degraded() : std::vector<std::string>();
        body["degraded"] = json::array(degraded.begin(), degraded.end());
        const json::value value(std::move(body));
        co_return co_await respond_json(*exchange, reasons.empty() ? 200 : 503, value);
    }

    Task<Result<void>> metrics(std::shared_ptr<http::Exchange> exchange) {
        std::string type = "text/plain; version=0.0.4; charset=utf-8";
        std::string text = scrape();
        co_return co_await http::respond(*exchange, 200, std::move(type), std::move(text));
    }

    Task<Result<void>> plugins(std::shared_ptr<http::Exchange> exchange) {
        json::array data, streams;
        for (const auto& instance : view_.instances()) data.push_back(to_json(*instance));
        for (const StreamStatus& status : view_.streams()) streams.push_back(to_json(status));
        json::object body;
        body["data"] = std::move(data);
        body["streams"] = std::move(streams);
        const json::value value(std::move(body));
        co_return co_await respond_json(*exchange, 200, value);
    }

    Task<Result<void>> confirm_clock(std::shared_ptr<http::Exchange> exchange) {
        view_.appender->confirm_clock();
        co_return co_await healthz(exchange);
    }

private:
    std::vector<std::string> reasons_not_to_append() const {
        std::vector<std::string> reasons = view_.not_ready();
        if (view_.appender != nullptr)
            if (std::string refusal = view_.appender->refusal(); !refusal.empty())
                reasons.push_back(std::move(refusal));
        return reasons;
    }

    std::string scrape() {
        const std::lock_guard lock(scraping_);
        ready_.record(reasons_not_to_append().empty() ? 1 : 0);
        process_.refresh();
        return view_.metrics->render();
    }

    NodeView view_;
    std::mutex scraping_;
    Metric& ready_ = view_.metrics->define(
        MetricKind::gauge, "annal_ready", "1 while the node takes appends, as /readyz says."
    );
    ProcessMetrics process_{*view_.metrics, std::string(version())};
};

/// A route of the node.
struct Entry {
    const char *method, *pattern, *scope;
    Task<Result<void>> (NodeRoutes::*serve)(std::shared_ptr<http::Exchange>);
};

Result<void> add(
    http::Router& router, const std::shared_ptr<NodeRoutes>& routes, std::span<const Entry> entries
) {
    for (const Entry& entry : entries) {
        auto serve = entry.serve;
        auto handler = make_handler([routes, serve](std::shared_ptr<http::Exchange> e) {
            return ((*routes).*serve)(std::move(e));
        });
        http::Route route{
            {entry.method}, entry.pattern, entry.scope, entry.pattern, "node", std::move(handler)};
        BOOST_OUTCOME_TRYV(router.add(std::move(route)));
    }
    return ok();
}

constexpr Entry kWatch[] = {
    {"GET", "/healthz", "", &NodeRoutes::healthz},
    {"GET", "/readyz", "", &NodeRoutes::readyz},
    {"GET", "/metrics", "", &NodeRoutes::metrics}};
constexpr Entry kSteer[] = {
    {"GET", "/v1/plugins", "admin", &NodeRoutes::plugins},
    {"POST", "/v1/clock/confirm", "platform", &NodeRoutes::confirm_clock}};

}  // namespace

Result<void> add_watch_routes(http::Router& router, NodeView view) {
    return add(router, std::make_shared<NodeRoutes>(std::move(view)), kWatch);
}

Result<void> add_node_routes(http::Router& router, NodeView view) {
    const auto routes = std::make_shared<NodeRoutes>(std::move(view));
    BOOST_OUTCOME_TRYV(add(router, routes, kWatch));
    return add(router, routes, kSteer);
}

}  // namespace annal::control
