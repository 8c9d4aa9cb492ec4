#include <boost/json.hpp>
#include <string>

#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

namespace {

Result<json::value> jobs_of(const Node& node) {
    LocalClient::Call call;
    call.target = "/v1/jobs";
    BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
    return answer.at("data");
}

constexpr std::string_view kDryRun = "dry-run";

/// A run of the job that keeps retention: of the one that has a dry run, its other schedule or
/// that.
struct RetentionRun {
    std::string instance, trigger;
};
Result<RetentionRun> retention_run_of(const json::array& jobs, bool dry_run) {
    RetentionRun run;
    for (const json::value& job : jobs) {
        if (job.at("trigger").as_string() == kDryRun) run.instance = job.at("instance").as_string();
    }
    for (const json::value& job : jobs) {
        const bool own = job.at("instance").as_string() == std::string_view(run.instance);
        const bool is_dry_run = job.at("trigger").as_string() == kDryRun;
        if (own && is_dry_run == dry_run && run.trigger.empty())
            run.trigger = job.at("trigger").as_string();
    }
    if (!run.trigger.empty()) return run;
    return Error{
        Errc::not_found,
        "the node has no retention job with a schedule and a trigger dry-run; is "
        "manifests/job_retention.yaml among its manifests?"};
}

}  // namespace

int jobs_list(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(const json::value jobs, jobs_of(node));
        for (const json::value& job : jobs.get_array()) print(job);
        return kDone;
    });
}

int retention_run(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(const json::value jobs, jobs_of(node));
        BOOST_OUTCOME_TRY(
            const RetentionRun wanted, retention_run_of(jobs.get_array(), arguments.dry_run)
        );
        json::object body;
        body["trigger"] = wanted.trigger;
        LocalClient::Call call;
        call.method = "POST";
        call.target = "/v1/jobs/" + percent_encode(wanted.instance) + "/runs";
        call.content_type = "application/json";
        call.body = json::serialize(body);
        BOOST_OUTCOME_TRY(const json::value run, node.ask(call));
        if (!run.at("report").is_null()) print(run.at("report"));
        if (run.at("error").is_null()) return kDone;
        return Error{Errc::unavailable, std::string(run.at("error").as_string())};
    });
}

}  // namespace annal::cli
