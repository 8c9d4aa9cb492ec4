#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

constexpr int kBatch = 100;
constexpr int kBatchConnections = 8;
constexpr int kSingleConnections = 64;
constexpr int kProjects = 64;

double own_cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void append_post(std::string& out, const std::string& key, const std::string& body) {
    out += request_head("POST", "/v1/audit/events", key, body.size());
    out += body;
}

/// What one load cost the server and the generator.
struct Measured {
    LoadResult load;
    double server_cpu_seconds = 0, store_cpu_seconds = 0, own_cpu_seconds = 0;
};

Measured measure(const Setting& setting, const ServerProcess& server, const LoadPlan& plan) {
    Measured measured;
    const double store_before = setting.store->cpu_seconds();
    const double server_before = server.cpu_seconds();
    const double own_before = own_cpu_seconds();
    measured.load = run_load(server.address(), plan);
    measured.server_cpu_seconds = server.cpu_seconds() - server_before;
    measured.store_cpu_seconds = setting.store->cpu_seconds() - store_before;
    measured.own_cpu_seconds = own_cpu_seconds() - own_before;
    return measured;
}

void add_costs(Line& line, const Measured& measured, int events_per_request) {
    const double events = static_cast<double>(measured.load.answered) * events_per_request;
    line.add("p50_ms", measured.load.percentile(0.5))
        .add("p99_ms", measured.load.percentile(0.99))
        .add("server_cpu_us_per_event", measured.server_cpu_seconds * 1e6 / events)
        .add("client_cpu_us_per_event", measured.own_cpu_seconds * 1e6 / events)
        .add("failed_requests", static_cast<double>(measured.load.failed));
    if (measured.store_cpu_seconds > 0)
        line.add("store_cpu_us_per_event", measured.store_cpu_seconds * 1e6 / events);
    if (measured.load.failed > 0) line.add("first_failure", "see standard error");
    if (measured.load.failed > 0)
        std::fprintf(stderr, "bench: %s\n", measured.load.first_failure.c_str());
}

LoadPlan batches(EventSource& source, std::int64_t events) {
    LoadPlan plan;
    plan.connections = kBatchConnections;
    plan.requests = static_cast<std::uint64_t>(events / kBatch);
    plan.write = [&source, body = std::string()](std::string& out) mutable {
        body.clear();
        source.append_batch(body, kBatch);
        append_post(out, ServerProcess::key(), body);
    };
    return plan;
}

/// Keys of `kProjects` projects, made for this.
std::vector<std::string> project_keys(const ServerProcess& server) {
    std::vector<std::string> keys;
    for (int i = 0; i < kProjects; ++i) {
        const std::string id = "proj_bench_" + std::to_string(::getpid()) + "_" + std::to_string(i);
        const auto post = [&](const std::string& target, const std::string& body) {
            return fetch(
                server.address(),
                request_head("POST", target, ServerProcess::key(), body.size()) + body
            );
        };
        (void)post("/v1/projects", R"({"id":")" + id + R"(","name":"bench"})");
        const std::string answer = post(
            "/v1/api-keys",
            R"({"name":"bench","project_id":")" + id + R"(","scopes":["audit:ingest"]})"
        );
        const std::string before = R"("secret":")";
        const std::size_t at = answer.find(before) + before.size();
        keys.push_back(answer.substr(at, answer.find('"', at) - at));
    }
    return keys;
}

LoadPlan singles(EventSource& source, const std::vector<std::string>& keys) {
    LoadPlan plan;
    plan.connections = kSingleConnections;
    plan.seconds = 8;
    plan.write = [&source, &keys, n = std::size_t{0}, body = std::string()](std::string& out
                 ) mutable {
        body.clear();
        source.append_json(body);
        append_post(out, keys[n++ % keys.size()], body);
    };
    return plan;
}

void single_lines(
    const Setting& setting,
    const ServerProcess& server,
    EventSource& source,
    const std::string& spread,
    const std::vector<std::string>& keys,
    double http_rate
) {
    constexpr double kRate = 15'000;
    {
        const Measured fastest = measure(setting, server, singles(source, keys));
        Line line("ingest_single_closed_loop");
        line.add("projects", spread).add("events_per_s", fastest.load.per_second());
        line.add("reference", "GET /healthz, the same clients, requests/s")
            .add("reference_per_s", http_rate)
            .add("ratio", fastest.load.per_second() / http_rate);
        add_costs(line, fastest, 1);
        line.budget(">= 15000 events/s", fastest.load.per_second() >= kRate);
    }
    LoadPlan plan = singles(source, keys);
    plan.rate = kRate;
    const Measured steady = measure(setting, server, plan);
    Line line("ingest_single_open_loop");
    line.add("projects", spread)
        .add("planned_per_s", kRate)
        .add("events_per_s", steady.load.per_second());
    add_costs(line, steady, 1);
    line.budget("p99 <= 10 ms at 15000 events/s", steady.load.percentile(0.99) <= 10);
}

}  // namespace

double settle(const ServerProcess& server) {
    const auto start = std::chrono::steady_clock::now();
    double cpu = server.cpu_seconds();
    while (true) {
        std::this_thread::sleep_for(std::chrono::milliseconds(500));
        const double now = server.cpu_seconds();
        if (server.metric("annal_store_unindexed_segments") == 0 && now - cpu < 0.05) break;
        cpu = now;
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void fill(const Setting& setting, const ServerProcess& server, const std::string& name) {
    EventSource source(setting.seed);
    const Measured measured = measure(setting, server, batches(source, setting.events));
    const double waited = settle(server);
    setting.store->rest();
    Line line(name);
    line.add("events", static_cast<double>(setting.events))
        .add("events_per_s", measured.load.per_second() * kBatch);
    add_costs(line, measured, kBatch);
    line.add("sealing_behind_s", waited)
        .add(
            "bytes_per_event",
            static_cast<double>(setting.store->bytes()) / static_cast<double>(setting.events)
        )
        .add("resident_mib", static_cast<double>(server.resident_bytes()) / (1U << 20U));
}

void ingest_batches(const Setting& setting, const ServerProcess& server) {
    EventSource source(setting.seed + 1);
    const std::int64_t events = std::min<std::int64_t>(setting.events, 1'000'000);
    const double commits_before = server.metric("annal_store_commits_total");
    const Measured measured = measure(setting, server, batches(source, events));
    const double commits = server.metric("annal_store_commits_total") - commits_before;
    const int per_commit = std::max(1, static_cast<int>(static_cast<double>(events) / commits));
    const auto reference = setting.store->insert_rate(events / 2, per_commit);
    const double rate = measured.load.per_second() * kBatch;
    const double ratio = rate / reference.per_second;
    Line line("ingest_batch_100");
    line.add("events_present", static_cast<double>(setting.events)).add("events_per_s", rate);
    line.add("events_per_commit", per_commit)
        .add("reference", reference.what)
        .add("reference_per_s", reference.per_second)
        .add("ratio", ratio);
    add_costs(line, measured, kBatch);
    const auto budget = setting.store->ingest_budget();
    std::string text = "ratio >= " + std::to_string(budget.ratio).substr(0, 3);
    if (budget.per_second > 0)
        text =
            ">= " + std::to_string(static_cast<int>(budget.per_second)) + " events/s and " + text;
    line.budget(text, rate >= budget.per_second && ratio >= budget.ratio);
}

void ingest_singles(const Setting& setting, const ServerProcess& server) {
    EventSource source(setting.seed + 2);
    LoadPlan http;
    http.connections = kSingleConnections;
    http.seconds = 4;
    http.write = [](std::string& out) {
        out += request_head("GET", "/healthz", ServerProcess::key());
    };
    const double http_rate = run_load(server.address(), http).per_second();
    single_lines(setting, server, source, "one", {ServerProcess::key()}, http_rate);
    single_lines(setting, server, source, "64", project_keys(server), http_rate);
}

}  // namespace annal::bench
