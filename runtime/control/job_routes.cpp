#include "runtime/control/job_routes.h"

#include <boost/json.hpp>

#include "runtime/control/body.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr std::size_t kNameBytesMax = 63;

json::object to_json(const JobRun& run) {
    json::object object;
    object["instance"] = run.instance;
    object["trigger"] = run.trigger;
    object["node"] = run.node;
    object["scheduled_at"] = format_time(run.scheduled);
    object["started_at"] = format_time(run.started);
    object["ended_at"] = format_time(run.ended);
    object["error"] = text_or_null(run.error);
    object["report"] = run.report.empty() ? json::value() : json::parse(run.report);
    return object;
}

json::object to_json(const Jobs::Schedule& schedule) {
    json::object object;
    object["instance"] = schedule.instance;
    object["trigger"] = schedule.trigger;
    object["every_seconds"] =
        schedule.every_us == 0 ? json::value() : json::value(schedule.every_us / kSecondUs);
    object["at_start"] = schedule.at_start;
    object["running"] = schedule.running;
    object["last_run"] = schedule.last ? json::value(to_json(*schedule.last)) : json::value();
    return object;
}

class JobRoutes {
public:
    explicit JobRoutes(Jobs& jobs) : jobs_(jobs) {}

    Task<Result<void>> list(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(const auto schedules, co_await jobs_.list());
        json::array data;
        for (const Jobs::Schedule& schedule : schedules) data.push_back(to_json(schedule));
        json::object body;
        body["data"] = std::move(data);
        const json::value document(std::move(body));
        co_return co_await respond_json(*exchange, 200, document);
    }

    Task<Result<void>> run(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"trigger"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string trigger, string_member(body, "trigger", kNameBytesMax));
        std::string instance(exchange->request().param("instance"));
        BOOST_OUTCOME_CO_TRY(
            const JobRun run, co_await jobs_.run(std::move(instance), std::move(trigger))
        );
        const json::value document(to_json(run));
        co_return co_await respond_json(*exchange, 200, document);
    }

private:
    Jobs& jobs_;
};

}  // namespace

Result<void> add_job_routes(http::Router& router, Jobs& jobs) {
    const auto routes = std::make_shared<JobRoutes>(jobs);
    static constexpr RouteEntry<JobRoutes> kEntries[] = {
        {"GET", "/v1/jobs", "platform", &JobRoutes::list},
        {"POST", "/v1/jobs/{instance}/runs", "platform", &JobRoutes::run},
    };
    return add_routes<JobRoutes>(router, routes, kEntries, "jobs");
}

}  // namespace annal::control
