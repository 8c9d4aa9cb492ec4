#include <algorithm>
#include <chrono>
#include <thread>

#include "bench/hook_receiver.h"
#include "bench/reference.h"
#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kDeliveries = 60'000;      // of a round that measures how many a second
constexpr double kPacedSeconds = 8;      // of one that measures how late they are
constexpr int kPacedDeliveries = 1'000;  // a second; far from saturation
constexpr std::int64_t kBacklog = 1'000'000;
constexpr int kAllowed = 50;
constexpr double kRecoverySeconds = 90;

double since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string member(const std::string& json, const std::string& name) {
    const std::string key = "\"" + name + "\":\"";
    const auto at = json.find(key) + key.size();
    return json.substr(at, json.find('"', at) - at);
}

/// A project of a round's own, with a key.
class Project {
public:
    explicit Project(const ServerProcess& server) : server_(server) {
        id_ = "hooks_" + std::to_string(Clock::now().time_since_epoch().count());
        post(ServerProcess::key(), "/v1/projects", R"({"id":")" + id_ + R"(","name":"bench"})");
        key_ = member(
            post(
                ServerProcess::key(),
                "/v1/api-keys",
                R"({"name":"bench","scopes":["admin"],"project_id":")" + id_ + R"("})"
            ),
            "secret"
        );
    }

    /// Its id.
    std::string subscribe(const std::string& url) {
        const std::string body = R"({"url":")" + url + R"(","events":["bench.*"]})";
        return member(post(key_, "/v1/webhooks/endpoints", body), "id");
    }
    void revoke(const std::string& endpoint) {
        (void)fetch(
            server_.address(), request_head("DELETE", "/v1/webhooks/endpoints/" + endpoint, key_)
        );
    }
    void ingest(int events) {
        std::string body = R"({"events":[)";
        for (int i = 0; i < events; ++i) {
            if (i > 0) body += ',';
            body += R"({"action":"bench.happened","actor":{"type":"user","id":"usr_1"},)"
                    R"("target_type":"document","target_id":"doc_1","metadata":{"filler":")" +
                    std::string(300, 'x') + R"("}})";
        }
        post(key_, "/v1/audit/events", body + "]}");
    }

private:
    std::string post(const std::string& key, const std::string& path, const std::string& body) {
        return fetch(server_.address(), request_head("POST", path, key, body.size()) + body);
    }

    const ServerProcess& server_;
    std::string id_, key_;
};

double percentile(std::vector<double> values, double p) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const auto at = static_cast<std::size_t>(p * static_cast<double>(values.size() - 1));
    return values[at];
}

bool wait_for(const HookReceiver& receiver, std::uint64_t taken, double seconds) {
    const auto start = Clock::now();
    while (receiver.taken() < taken && since(start) < seconds)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return receiver.taken() >= taken;
}

struct Round {
    double per_second = 0, p99_ms = 0, cpu_us = 0;
    bool whole = false;
};

Round deliver(const ServerProcess& server, int endpoints, int hanging) {
    HookReceiver receiver(endpoints, hanging);
    Project project(server);
    std::vector<std::string> made;
    for (int i = 0; i < endpoints; ++i) made.push_back(project.subscribe(receiver.url(i)));
    const int healthy = endpoints - hanging;
    Round round;
    // How late they are, at a rate that leaves room.
    const double events_per_second = std::max(1.0, static_cast<double>(kPacedDeliveries) / healthy);
    const int paced = static_cast<int>(kPacedSeconds * events_per_second);
    auto start = Clock::now();
    for (int i = 0; i < paced; ++i) {
        std::this_thread::sleep_until(
            start + std::chrono::duration_cast<Clock::duration>(
                        std::chrono::duration<double>(i / events_per_second)
                    )
        );
        project.ingest(1);
    }
    auto expected = static_cast<std::uint64_t>(paced) * static_cast<std::uint64_t>(healthy);
    round.whole = wait_for(receiver, expected, 30);
    round.p99_ms = percentile(receiver.latencies_ms(), 0.99);
    // How many there can be.
    const int events = std::max(1, kDeliveries / healthy);
    const double cpu = server.cpu_seconds();
    start = Clock::now();
    for (int left = events; left > 0; left -= 1'000) project.ingest(std::min(left, 1'000));
    const std::uint64_t more =
        static_cast<std::uint64_t>(events) * static_cast<std::uint64_t>(healthy);
    round.whole = wait_for(receiver, expected + more, 120) && round.whole;
    round.per_second = static_cast<double>(receiver.taken() - expected) / since(start);
    round.cpu_us = (server.cpu_seconds() - cpu) * 1e6 / static_cast<double>(more);
    for (const std::string& endpoint : made) project.revoke(endpoint);
    return round;
}

void throughput(const ServerProcess& server, double sync_rate) {
    for (const int endpoints : {1, 50, 1'000}) {
        const Round calm = deliver(server, endpoints, 0);
        Line line("webhooks_" + std::to_string(endpoints));
        line.add("deliveries_per_s", calm.per_second)
            .add("reference", "fdatasync of the same disk, one after the other")
            .add("reference_per_s", sync_rate)
            .add("p99_ms", calm.p99_ms)
            .add("server_cpu_us_per_delivery", calm.cpu_us)
            .add("all_arrived", calm.whole ? 1 : 0)
            .budget(">= 5000 deliveries/s", endpoints == 1 || calm.per_second >= 5'000);
        if (endpoints == 1) continue;
        const Round hung = deliver(server, endpoints, endpoints * 3 / 10);
        Line other("webhooks_" + std::to_string(endpoints) + "_30_percent_hang");
        other.add("deliveries_per_s", hung.per_second)
            .add("reference", "the same without endpoints that hang")
            .add("reference_per_s", calm.per_second)
            .add("p99_ms", hung.p99_ms)
            .add("p99_ratio", hung.p99_ms / calm.p99_ms)
            .add("all_arrived", hung.whole ? 1 : 0)
            .budget("p99 of the healthy <= 2 x", hung.p99_ms <= 2 * calm.p99_ms);
    }
}

void recovery(const ServerProcess& server) {
    HookReceiver receiver(1, 0, kAllowed);
    Project project(server);
    const std::string endpoint = project.subscribe(receiver.url(0));
    for (std::int64_t left = kBacklog; left > 0; left -= 5'000) project.ingest(5'000);
    const std::uint64_t taken = receiver.taken(), refused = receiver.refused();
    const auto start = Clock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(kRecoverySeconds));
    const double delivered = static_cast<double>(receiver.taken() - taken) / since(start);
    const auto tries = static_cast<double>(receiver.taken() - taken + receiver.refused() - refused);
    const double refusals = static_cast<double>(receiver.refused() - refused) / tries;
    project.revoke(endpoint);
    Line("webhooks_recovery_of_a_million")
        .add("deliveries_per_s", delivered)
        .add("reference", "what the destination allows")
        .add("reference_per_s", kAllowed)
        .add("ratio", delivered / kAllowed)
        .add("refused_share", refusals)
        .budget(
            ">= 90 % of what is allowed, <= 1 % refused",
            delivered >= 0.9 * kAllowed && refusals <= 0.01
        );
}

}  // namespace

void webhooks(const Setting& setting) {
    auto environment = setting.store->environment();
    environment["ANNAL_ALLOW_CIDRS"] = "127.0.0.0/8";
    const auto data = setting.folder / "webhooks";
    std::filesystem::create_directories(data);
    const ServerProcess server(setting.program, data, environment);
    throughput(server, sync_rate(setting.folder));
    recovery(server);
}

}  // namespace annal::bench
