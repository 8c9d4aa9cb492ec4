#include <boost/json.hpp>
#include <iostream>

#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

namespace {

/// One line of JSON for each of `rows`.
void print_all(const json::value& rows) {
    for (const json::value& row : rows.get_array()) print(row);
}

Result<json::value> jobs_of(const Node& node) {
    LocalClient::Call call;
    call.target = "/v1/jobs";
    BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
    return answer.at("data");
}

/// The instance of the job that keeps retention, by the one trigger that only such a job has.
Result<std::string> retention_instance(const Node& node, const std::string& trigger) {
    BOOST_OUTCOME_TRY(const json::value jobs, jobs_of(node));
    for (const json::value& job : jobs.get_array()) {
        if (job.at("trigger").as_string() == "dry-run")
            return std::string(job.at("instance").as_string());
    }
    return Error{
        Errc::not_found,
        "the node has no retention job with the trigger " + trigger +
            "; is manifests/job_retention.yaml among its manifests?"};
}

/// The first trigger of the job that is no dry run.
Result<std::string> trigger_of(const Node& node, const std::string& instance, bool dry_run) {
    if (dry_run) return std::string("dry-run");
    BOOST_OUTCOME_TRY(const json::value jobs, jobs_of(node));
    for (const json::value& job : jobs.get_array()) {
        const bool own = job.at("instance").as_string() == std::string_view(instance);
        if (own && job.at("trigger").as_string() != "dry-run")
            return std::string(job.at("trigger").as_string());
    }
    return Error{Errc::not_found, "the job " + instance + " has no schedule beside dry-run"};
}

}  // namespace

int jobs_list(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(const json::value jobs, jobs_of(node));
        print_all(jobs);
        return kDone;
    });
}

int retention_run(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(const std::string instance, retention_instance(node, "dry-run"));
        BOOST_OUTCOME_TRY(const std::string trigger, trigger_of(node, instance, arguments.dry_run));
        json::object body;
        body["trigger"] = trigger;
        LocalClient::Call call;
        call.method = "POST";
        call.target = "/v1/jobs/" + percent_encode(instance) + "/runs";
        call.content_type = "application/json";
        call.body = json::serialize(body);
        BOOST_OUTCOME_TRY(const json::value run, node.ask(call));
        if (!run.at("report").is_null()) print(run.at("report"));
        if (run.at("error").is_null()) return kDone;
        return Error{Errc::unavailable, std::string(run.at("error").as_string())};
    });
}

}  // namespace annal::cli
