#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <thread>

#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

constexpr double kRate = 500;  // single events a second
constexpr double kSeconds = 5;

std::string request(const std::string& method, const std::string& target, const std::string& body) {
    return request_head(method, target, ServerProcess::key(), body.size()) + body;
}

/// Debian puts libfaketime into the folder of the machine's architecture.
std::string faketime_library() {
    for (const auto& folder : std::filesystem::directory_iterator("/usr/lib")) {
        const auto library = folder.path() / "faketime/libfaketime.so.1";
        std::error_code none;
        if (std::filesystem::exists(library, none)) return library.string();
    }
    std::fprintf(stderr, "month_drop: the package libfaketime is missing: ./dev setup\n");
    std::exit(1);
}

LoadResult singles(const ServerProcess& server, EventSource& source) {
    LoadPlan plan;
    plan.connections = 16;
    plan.rate = kRate;
    plan.seconds = kSeconds;
    plan.write = [&source](std::string& out) {
        std::string body;
        source.append_json(body);
        out += request("POST", "/v1/audit/events", body);
    };
    return run_load(server.address(), plan);
}

double run_retention(const ServerProcess& server, std::string& report) {
    const auto start = std::chrono::steady_clock::now();
    report = fetch(
        server.address(), request("POST", "/v1/jobs/job-retention/runs", R"({"trigger":"daily"})")
    );
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

}  // namespace

void month_drop(const Setting& setting) {
    if (setting.store->is_shared()) return;  // a database stamps by a clock of its own
    Setting own = setting;
    own.folder = setting.folder / "month";
    std::filesystem::remove_all(own.folder);
    std::filesystem::create_directories(own.folder);
    const auto compared = compared_sqlite(own.folder);
    own.store = compared.get();
    auto environment = own.store->environment();
    auto past = environment;
    past["LD_PRELOAD"] = faketime_library();
    past["FAKETIME"] = "-150d";
    past["DONT_FAKE_MONOTONIC"] = "1";
    {
        const ServerProcess server(setting.program, own.data_dir(), past);
        // So that the run at the next start leaves it alone.
        (void)fetch(server.address(), request("PUT", "/v1/config/legal_hold", "true"));
        fill(own, server);
    }
    const ServerProcess server(setting.program, own.data_dir(), environment);
    EventSource source(setting.seed + 7);
    const LoadResult before = singles(server, source);
    (void)fetch(server.address(), request("PUT", "/v1/config/legal_hold", "false"));
    auto meanwhile = std::async(std::launch::async, [&] { return singles(server, source); });
    std::this_thread::sleep_for(std::chrono::seconds(1));
    std::string report;
    const double took = run_retention(server, report);
    const LoadResult during = meanwhile.get();
    const bool dropped = report.find("\"months\":[\"") != std::string::npos;
    const double ratio = during.percentile(0.99) / before.percentile(0.99);
    Line line("month_drop");
    line.add("events", static_cast<double>(own.events))
        .add("run_ms", took)
        .add("dropped", dropped ? 1 : 0)
        .add("ingest_p99_ms_before", before.percentile(0.99))
        .add("ingest_p99_ms_meanwhile", during.percentile(0.99))
        .add("ratio", ratio)
        .budget("run <= 100 ms, ingest p99 <= 2x", dropped && took <= 100 && ratio <= 2);
    std::filesystem::remove_all(own.folder);
}

}  // namespace annal::bench
