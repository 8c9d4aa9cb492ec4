#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <map>
#include <string>
#include <thread>

#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kRate = 2'000;  // single events a second, well below what either store takes
constexpr int kConnections = 64;
constexpr double kWarmSeconds = 3, kSeconds = 10, kLead = 1;
constexpr int kMonthsAgo = 5;
constexpr const char* kMonthsKept = "3";
constexpr std::int64_t kReferenceRows = 1'000'000;
constexpr double kPatienceSeconds = 300;

double since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

void pause(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

/// How far back the tenth of that month is: its end is too far for a fill to reach.
std::int64_t seconds_back() {
    using namespace std::chrono;
    const auto now = floor<seconds>(system_clock::now());
    const year_month_day today{floor<days>(now)};
    const auto month = today.year() / today.month() - months(kMonthsAgo);
    return (now - sys_days{month / day(10)}).count();
}

std::string call(
    const ServerProcess& server,
    const std::string& method,
    const std::string& target,
    const std::string& body = ""
) {
    return fetch(
        server.address(), request_head(method, target, ServerProcess::key(), body.size()) + body
    );
}

/// The member `name`, which is text; ends the process where there is none.
std::string text_of(const std::string& json, const std::string& name) {
    const std::string before = '"' + name + R"(":")";
    const std::size_t at = json.find(before);
    if (at == std::string::npos) {
        std::fprintf(stderr, "month_drop: no %s in %s\n", name.c_str(), json.c_str());
        std::exit(1);
    }
    const std::size_t from = at + before.size();
    return json.substr(from, json.find('"', from) - from);
}

double number_of(const std::string& json, const std::string& name) {
    const std::string before = '"' + name + R"(":)";
    const std::size_t at = json.find(before);
    if (at == std::string::npos) {
        std::fprintf(stderr, "month_drop: no %s in %s\n", name.c_str(), json.c_str());
        std::exit(1);
    }
    return std::strtod(json.c_str() + at + before.size(), nullptr);
}

/// As the server writes them: 2026-05-14T18:42:13.001002Z.
double ms_of(const std::string& time) {
    std::tm parts{};
    const char* rest = ::strptime(time.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
    if (rest == nullptr) return 0;
    return static_cast<double>(::timegm(&parts)) * 1e3 + std::strtod(rest, nullptr) * 1e3;
}

double ms_between(const std::string& from, const std::string& to) {
    return ms_of(to) - ms_of(from);
}

std::string logged(const std::filesystem::path& log, const std::string& event) {
    std::ifstream in(log);
    for (std::string line; std::getline(in, line);)
        if (line.find(R"("event":")" + event + '"') != std::string::npos) return line;
    return "";
}

LoadResult singles(
    const ServerProcess& server,
    EventSource& source,
    double seconds,
    std::function<bool()> until = nullptr
) {
    LoadPlan plan;
    plan.connections = kConnections;
    plan.rate = kRate;
    plan.seconds = seconds;
    plan.until = std::move(until);
    plan.write = [&source, body = std::string()](std::string& out) mutable {
        body.clear();
        source.append_json(body);
        out += request_head("POST", "/v1/audit/events", ServerProcess::key(), body.size()) + body;
    };
    return run_load(server.address(), plan);
}

/// Until neither the server nor what is below it has had anything to do for five seconds: a month
/// that is over gets its indexes then.
void quiet(const ComparedStore& store, const ServerProcess& server) {
    (void)settle(server);
    const auto cpu = [&] { return server.cpu_seconds() + store.cpu_seconds(); };
    double before = cpu();
    for (int calm = 0; calm < 10;) {
        pause(0.5);
        const double now = cpu();
        calm = now - before < 0.05 && !store.is_busy() ? calm + 1 : 0;
        before = now;
    }
}

/// Stores the events in a month that is over. A hold keeps them there when the server starts with
/// the true clock and lets go of what has outlived its time.
void fill_month(const Setting& setting) {
    const std::map<std::string, std::string> clock{
        {"LD_PRELOAD", BENCH_SHIFTED_CLOCK}, {"SHIFTED_CLOCK_S", std::to_string(-seconds_back())}};
    setting.store->restart_with(clock);
    auto environment = setting.store->environment();
    environment.insert(clock.begin(), clock.end());
    {
        const ServerProcess server(setting.program, setting.data_dir(), environment);
        (void)call(server, "PUT", "/v1/config/legal_hold", "true");
        fill(setting, server, "month_fill");
    }
    setting.store->restart_with({});
}

/// What a run did, and what those who appended meanwhile saw of it.
struct Run {
    std::string answer;
    double freed_s = 0;  ///< from its beginning until the disk had half of the month back
    std::uint64_t bytes_before = 0, bytes_after = 0;
    LoadResult load, narrow;  ///< of all the time; from its beginning until then
};

/// Requests begin at a fixed rate, so their numbers tell when they were.
LoadResult part_of(const LoadResult& load, double from_s, double to_s) {
    const auto at = [&](double seconds) {
        const auto n = static_cast<std::size_t>(seconds * kRate);
        return load.latencies_ms.begin() +
               static_cast<std::ptrdiff_t>(std::min(n, load.latencies_ms.size()));
    };
    LoadResult part;
    part.latencies_ms.assign(at(from_s), at(to_s));
    return part;
}

/// As one: a disk that is slow for a while is in it.
LoadResult together(LoadResult first, const LoadResult& second) {
    first.failed += second.failed;
    first.latencies_ms.insert(
        first.latencies_ms.end(), second.latencies_ms.begin(), second.latencies_ms.end()
    );
    return first;
}

Run run_retention(
    const ComparedStore& store,
    const ServerProcess& server,
    EventSource& source,
    std::uint64_t month_bytes
) {
    Run run;
    run.bytes_before = store.bytes();
    std::atomic<bool> over{false};
    auto load = std::async(std::launch::async, [&] {
        return singles(server, source, 0, [&over] { return over.load(); });
    });
    const auto begin = Clock::now();
    pause(kLead);
    const auto start = Clock::now();
    run.answer = call(server, "POST", "/v1/jobs/job-retention/runs", R"({"trigger":"daily"})");
    while (store.bytes() + month_bytes / 2 > run.bytes_before && since(start) < kPatienceSeconds)
        pause(0.2);
    run.freed_s = since(start);
    pause(std::max(0.0, kLead + kSeconds - since(begin)));
    over = true;
    run.load = load.get();
    run.narrow = part_of(run.load, kLead, kLead + run.freed_s);
    return run;
}

void print(
    const Setting& setting, const std::filesystem::path& log, const LoadResult& calm, const Run& run
) {
    const std::string dropped = logged(log, "retention.month_dropped");
    const double drop_ms = dropped.empty() ? 0 : number_of(dropped, "ms");
    const double ratio = run.load.percentile(0.99) / calm.percentile(0.99);
    const auto failed = static_cast<double>(calm.failed + run.load.failed);
    const std::int64_t rows = std::min(setting.events, kReferenceRows);
    const auto reference = setting.store->delete_rate(rows);
    const double reference_ms = static_cast<double>(setting.events) / reference.per_second * 1e3;
    const auto mib = [](std::uint64_t bytes) { return static_cast<double>(bytes) / (1U << 20U); };
    Line("month_drop")
        .add("events", static_cast<double>(setting.events))
        .add("months_dropped", dropped.empty() ? 0 : 1)
        .add(
            "run_ms", ms_between(text_of(run.answer, "started_at"), text_of(run.answer, "ended_at"))
        )
        .add("drop_ms", drop_ms)
        .add("freed_s", run.freed_s)
        .add("mib_before", mib(run.bytes_before))
        .add("mib_after", mib(run.bytes_after))
        .add("reference", reference.what + "; of " + std::to_string(rows) + ", scaled")
        .add("reference_ms", reference_ms)
        .add("ratio", drop_ms / reference_ms)
        .add("ingest_per_s", kRate)
        .add("p50_ms_without", calm.percentile(0.5))
        .add("p50_ms_meanwhile", run.load.percentile(0.5))
        .add("p99_ms_without", calm.percentile(0.99))
        .add("p99_ms_meanwhile", run.load.percentile(0.99))
        .add("p99_ms_until_freed", run.narrow.percentile(0.99))
        .add("longest_ms_without", calm.percentile(1))
        .add("longest_ms_meanwhile", run.load.percentile(1))
        .add("p99_ratio", ratio)
        .add("failed_requests", failed)
        .budget(
            "drop <= 100 ms, ingest p99 <= 2 x",
            !dropped.empty() && drop_ms <= 100 && ratio <= 2 && failed == 0
        );
}

}  // namespace

void month_drop(const Setting& setting) {
    Setting own = setting;
    own.folder = setting.folder / "month";
    std::filesystem::remove_all(own.folder);
    std::filesystem::create_directories(own.folder);
    const auto store = setting.store->another(own.folder);
    own.store = store.get();
    fill_month(own);
    const std::uint64_t month_bytes = store->bytes();
    auto environment = store->environment();
    environment["AUTHIO_AUDIT_RETENTION_MONTHS"] = kMonthsKept;
    environment["ANNAL_LOG_LEVEL"] = "info";
    const auto log = own.folder / "server.log";
    {
        const ServerProcess server(own.program, own.data_dir(), environment, log);
        quiet(*store, server);
        store->rest();
        (void)call(server, "PUT", "/v1/config/legal_hold", "false");
        EventSource source(own.seed + 7);
        (void)singles(server, source, kWarmSeconds);
        const LoadResult before = singles(server, source, kSeconds);
        Run run = run_retention(*store, server, source, month_bytes);
        quiet(*store, server);
        run.bytes_after = store->bytes();
        const LoadResult after = singles(server, source, kSeconds);
        print(own, log, together(before, after), run);
    }
    std::filesystem::remove_all(own.folder);
}

}  // namespace annal::bench
