#include "runtime/jobs/job_run.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "runtime/core/json_row.h"

namespace annal {

std::string JobRun::to_row() const {
    boost::json::object row;
    row["instance"] = instance;
    row["trigger"] = trigger;
    row["node"] = node;
    row["scheduled"] = scheduled;
    row["started"] = started;
    row["ended"] = ended;
    row["error"] = error;
    row["report"] = report;
    return boost::json::serialize(row);
}

std::optional<JobRun> JobRun::of_row(std::string_view text) {
    const auto row = parse_row(text);
    if (!row) return std::nullopt;
    JobRun run;
    run.instance = text_in(*row, "instance");
    run.trigger = text_in(*row, "trigger");
    run.node = text_in(*row, "node");
    run.scheduled = integer_in(*row, "scheduled", kNoTime);
    run.started = integer_in(*row, "started", kNoTime);
    run.ended = integer_in(*row, "ended", kNoTime);
    run.error = text_in(*row, "error");
    run.report = text_in(*row, "report");
    return run;
}

}  // namespace annal
