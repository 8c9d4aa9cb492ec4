#include "runtime/jobs/job_run.h"

#include <boost/json.hpp>

namespace annal {
namespace json = boost::json;

std::string to_row(const JobRun& run) {
    json::object row;
    row["instance"] = run.instance;
    row["trigger"] = run.trigger;
    row["node"] = run.node;
    row["scheduled"] = run.scheduled;
    row["started"] = run.started;
    row["ended"] = run.ended;
    row["error"] = run.error;
    row["report"] = run.report;
    return json::serialize(row);
}

Result<JobRun> job_run_of(std::string_view row) {
    try {
        const json::value value = json::parse(row);
        const json::object& object = value.as_object();
        const auto text = [&](const char* key) { return std::string(object.at(key).as_string()); };
        return JobRun{
            text("instance"),
            text("trigger"),
            text("node"),
            object.at("scheduled").as_int64(),
            object.at("started").as_int64(),
            object.at("ended").as_int64(),
            text("error"),
            text("report")};
    } catch (const std::exception& error) {
        return Error{Errc::internal, std::string("the record of a job's run: ") + error.what()};
    }
}

}  // namespace annal
