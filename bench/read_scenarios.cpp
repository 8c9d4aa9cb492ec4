#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

constexpr double kLoadEventsPerSecond = 12'000;  // 30 % of the ingest budget
constexpr int kBatch = 100;

/// Ingest in the background for as long as it lives.
class Load {
public:
    Load(const Setting& setting, const ServerProcess& server)
        : thread_([this, &setting, &server] {
              EventSource source(setting.seed + 3);
              LoadPlan plan;
              plan.connections = 4;
              plan.rate = kLoadEventsPerSecond / kBatch;
              plan.until = [this] { return stop_.load(); };
              plan.write = [&source, body = std::string()](std::string& out) mutable {
                  body.clear();
                  source.append_batch(body, kBatch);
                  out +=
                      request_head("POST", "/v1/audit/events", ServerProcess::key(), body.size());
                  out += body;
              };
              result_ = run_load(server.address(), plan);
          }) {}
    LoadResult end() {
        stop_ = true;
        thread_.join();
        return std::move(result_);
    }

private:
    std::atomic<bool> stop_{false};
    LoadResult result_;
    std::thread thread_;
};

/// Value of a string member, the first of its name.
std::string member(const std::string& json, const std::string& name) {
    const std::string begin = "\"" + name + "\":\"";
    const std::size_t at = json.find(begin);
    if (at == std::string::npos) return {};
    return json.substr(at + begin.size(), json.find('"', at + begin.size()) - at - begin.size());
}

std::string list(const std::string& query) {
    return request_head("GET", "/v1/audit/events?limit=50" + query, ServerProcess::key());
}

std::time_t seconds_of(const std::string& created_at) {
    std::tm parts{};
    ::strptime(created_at.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
    return ::timegm(&parts);
}

/// The newest page before `time`, and the way on from it.
std::string before(std::time_t time) {
    std::tm parts{};
    ::gmtime_r(&time, &parts);
    char text[32];
    std::strftime(text, sizeof text, "&to=%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

/// Requests that go on from cursors all over the log.
std::vector<std::string> deep_pages(const ServerProcess& server) {
    constexpr int kPages = 40;
    const std::time_t newest = seconds_of(member(fetch(server.address(), list("")), "created_at"));
    std::time_t age = 1;  // until nothing is that old
    while (!member(fetch(server.address(), list(before(newest - age))), "id").empty()) age *= 2;
    std::vector<std::string> pages;
    for (int i = 1; i <= kPages; ++i) {
        const std::string filter = before(newest - age * i / (kPages * 2));
        const std::string page = fetch(server.address(), list(filter));
        const std::string cursor = member(page, "next_cursor");
        if (!cursor.empty()) pages.push_back(list(filter + "&cursor=" + cursor));
    }
    return pages;
}

struct Read {
    const char* name;
    std::vector<std::string> requests;
    double rate;
    double budget_ms;
};

void measure_read(const Setting& setting, const ServerProcess& server, const Read& read) {
    LoadPlan plan;
    plan.connections = 8;
    plan.rate = read.rate;
    plan.seconds = 8;
    plan.write = [&read, n = std::size_t{0}](std::string& out) mutable {
        out += read.requests[n++ % read.requests.size()];
    };
    const LoadResult result = run_load(server.address(), plan);
    Line line(read.name);
    line.add("requests_per_s", result.per_second())
        .add("p50_ms", result.percentile(0.5))
        .add("p99_ms", result.percentile(0.99))
        .add("failed_requests", static_cast<double>(result.failed));
    if (auto times = setting.store->select_times(read.name)) {
        LoadResult reference;
        reference.latencies_ms = std::move(times->ms);
        line.add("reference", times->what)
            .add("reference_p50_ms", reference.percentile(0.5))
            .add("reference_p99_ms", reference.percentile(0.99));
    }
    if (read.budget_ms > 0)
        line.budget(
            "p99 <= " + std::to_string(static_cast<int>(read.budget_ms)) + " ms",
            result.percentile(0.99) <= read.budget_ms && result.failed == 0
        );
}

}  // namespace

void reads(const Setting& setting, const ServerProcess& server) {
    const auto deep = deep_pages(server);
    const std::string rare(EventSource::kRareUser);
    const double page = setting.store->page_budget_ms();
    const std::vector<Read> all{
        {"http_floor", {request_head("GET", "/healthz", ServerProcess::key())}, 200, 0},
        {"newest_page", {list("")}, 200, page},
        {"deep_page", deep, 200, page},
        {"rare_user", {list("&user=" + rare)}, 200, page},
        {"absent_user", {list("&user=usr_nobody")}, 200, page},
        {"busy_user", {list("&user=" + EventSource::user(0))}, 200, page},
        {"namespace", {list("&type=auth.*")}, 200, page},
        {"organization_and_action",
         {list("&organization=" + EventSource::organization(7) + "&type=user.updated")},
         50,
         0},
        {"q_common", {list("&q=second%20factor")}, 50, 200},
        {"q_rare", {list("&q=tgt_00ab"), list("&q=tgt_7fe1"), list("&q=tgt_c0de")}, 4, 200},
        {"q_absent", {list("&q=nowhere%20to%20be%20found")}, 4, 200},
    };
    const double cpu_before = server.cpu_seconds();
    Load load(setting, server);
    for (const Read& read : all) measure_read(setting, server, read);
    const LoadResult ingest = load.end();
    Line line("ingest_beside_reads");
    line.add("events_per_s", ingest.per_second() * kBatch)
        .add("p50_ms", ingest.percentile(0.5))
        .add("p99_ms", ingest.percentile(0.99))
        .add("failed_requests", static_cast<double>(ingest.failed))
        .add("server_cpu_share", (server.cpu_seconds() - cpu_before) / ingest.seconds);
}

void exports(const Setting& setting, const ServerProcess& server) {
    constexpr int kRows = 100'000;
    const auto reference = setting.store->export_rate(kRows);
    for (const std::string format : {"csv", "jsonl"}) {
        LoadPlan plan;
        plan.requests = 3;
        plan.write = [&format](std::string& out) {
            out += request_head("GET", "/v1/audit/events." + format, ServerProcess::key());
        };
        const std::uint64_t resident = server.resident_bytes();
        server.reset_peak();
        const double cpu_before = server.cpu_seconds();
        const LoadResult result = run_load(server.address(), plan);
        const double grown =
            static_cast<double>(server.peak_bytes() - std::min(resident, server.peak_bytes())) /
            (1U << 20U);
        const double rate = kRows / (result.percentile(0.5) / 1e3);
        Line line("export_" + format);
        line.add("rows", kRows)
            .add("rows_per_s", rate)
            .add("reference", reference.what)
            .add("reference_per_s", reference.per_second)
            .add("ratio", rate / reference.per_second)
            .add("server_cpu_us_per_event", (server.cpu_seconds() - cpu_before) * 1e6 / 3 / kRows)
            .add("resident_grown_mib", grown)
            .add("failed_requests", static_cast<double>(result.failed))
            .budget(
                "ratio >= 0.5 and <= 32 MiB", rate / reference.per_second >= 0.5 && grown <= 32
            );
    }
}

}  // namespace annal::bench
