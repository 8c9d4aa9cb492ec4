#include <algorithm>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

constexpr int kConnections = 16;  // of each node
constexpr double kTogether = 60, kRound = 4;
constexpr int kRounds = 6;

LoadPlan singles(EventSource& source, double seconds) {
    LoadPlan plan;
    plan.connections = kConnections;
    plan.seconds = seconds;
    plan.write = [&source, body = std::string()](std::string& out) mutable {
        body.clear();
        source.append_json(body);
        out += request_head("POST", "/v1/audit/events", ServerProcess::key(), body.size()) + body;
    };
    return plan;
}

}  // namespace

void two_nodes(const Setting& setting, const ServerProcess& server) {
    if (!setting.store->is_shared()) return;
    const ServerProcess second(
        setting.program, setting.folder / "data2", setting.store->environment()
    );
    LoadResult results[2];
    std::thread other([&] {
        EventSource source(setting.seed + 12);
        results[1] = run_load(second.address(), singles(source, kTogether));
    });
    EventSource source(setting.seed + 11);
    results[0] = run_load(server.address(), singles(source, kTogether));
    other.join();
    const double p99[] = {results[0].percentile(0.99), results[1].percentile(0.99)};
    const double ratio = std::max(p99[0], p99[1]) / std::min(p99[0], p99[1]);
    Line line("two_nodes");
    line.add("events_per_s", results[0].per_second() + results[1].per_second())
        .add("first_events_per_s", results[0].per_second())
        .add("second_events_per_s", results[1].per_second())
        .add("first_p99_ms", p99[0])
        .add("second_p99_ms", p99[1])
        .add("failed_requests", static_cast<double>(results[0].failed + results[1].failed))
        .add("ratio", ratio)
        .budget("the slower p99 <= 3 x the faster", ratio <= 3);
}

void held_snapshot(const Setting& setting, const ServerProcess& server) {
    if (!setting.store->is_shared()) return;
    EventSource source(setting.seed + 13);
    const auto rate = [&] {
        return run_load(server.address(), singles(source, kRound)).per_second();
    };
    std::vector<double> ratios;
    double free = 0;
    for (int round = 0; round < kRounds; ++round) {
        const double before = rate();
        const auto held = setting.store->hold_snapshot();
        ratios.push_back(rate() / before);
        free += before / kRounds;
    }
    std::sort(ratios.begin(), ratios.end());
    const double median = (ratios[kRounds / 2 - 1] + ratios[kRounds / 2]) / 2;
    Line line("held_snapshot");
    line.add("events_per_s", free * median)
        .add("reference", "the same without the snapshot, in rounds that alternate")
        .add("reference_per_s", free)
        .add("ratio", median)
        .budget("ratio >= 0.9", median >= 0.9);
}

}  // namespace annal::bench
