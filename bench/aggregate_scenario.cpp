#include <vector>

#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

struct Question {
    const char* name;
    std::string query;
    int times;
    double budget_ms;
};

std::string aggregate(const std::string& query) {
    return request_head("GET", "/v1/audit/events/aggregate?" + query, ServerProcess::key());
}

LoadResult ask(const ServerProcess& server, const std::string& request, int times) {
    LoadPlan plan;
    plan.requests = times;
    plan.write = [&request](std::string& out) { out += request; };
    return run_load(server.address(), plan);
}

}  // namespace

void aggregates(const Setting&, const ServerProcess& server) {
    const std::string organization = EventSource::organization(7);
    const std::vector<Question> all{
        {"aggregate_type_hour", "group_by=action&interval=hour", 20, 100},
        {"aggregate_total", "", 20, 100},
        {"aggregate_filtered",
         "group_by=action&interval=day&organization=" + organization,
         5,
         15'000},
        {"aggregate_users", "group_by=user_id&interval=week", 2, 15'000},
        {"aggregate_unique_users", "group_by=action&count_unique=user_id", 2, 15'000},
    };
    for (const Question& question : all) {
        const std::string request = aggregate(question.query);
        const LoadResult first = ask(server, request, 1);
        const LoadResult result = ask(server, request, question.times);
        const std::size_t failed = first.failed + result.failed;
        Line line(question.name);
        line.add("first_ms", first.percentile(1))
            .add("p50_ms", result.percentile(0.5))
            .add("p99_ms", result.percentile(0.99))
            .add("failed_requests", static_cast<double>(failed))
            .budget(
                "p99 <= " + std::to_string(static_cast<int>(question.budget_ms)) + " ms",
                result.percentile(0.99) <= question.budget_ms && failed == 0
            );
    }
}

}  // namespace annal::bench
