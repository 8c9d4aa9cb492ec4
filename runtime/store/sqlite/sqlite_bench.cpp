// Measures the embedded store alone: sqlite_bench DIRECTORY [EVENTS]. Prints one figure a line.
#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "runtime/core/metrics.h"
#include "runtime/core/task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"

namespace annal {
namespace {

namespace asio = boost::asio;
using Steady = std::chrono::steady_clock;

double seconds_since(Steady::time_point start) {
    return std::chrono::duration<double>(Steady::now() - start).count();
}

/// Events of about 500 bytes; ids from a few thousand users, one rare.
AppendUnit make_unit(const std::string& project, std::size_t count, std::uint64_t salt) {
    AppendUnit unit;
    unit.project = project;
    auto arena = std::make_shared<Arena>();
    static const char* const actions[] = {
        "auth.login.succeeded",
        "auth.login.failed",
        "session.created",
        "user.updated",
        "organization.member.added",
        "api_key.created",
        "billing.invoice.paid",
        "scim.user.provisioned"};
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t n = (salt * 1'000'003 + i) * 0x9E3779B97F4A7C15 >> 20;
        const auto id = [&](const char* prefix, std::uint64_t of) {
            char text[64];
            std::snprintf(
                text, sizeof text, "%s_01HX%012llu", prefix, static_cast<unsigned long long>(of)
            );
            return Text(arena->copy(std::string_view(text)));
        };
        EventDraft draft;
        draft[Column::action] = actions[n % 8];
        draft[Column::actor_type] = "user";
        draft[Column::actor_id] = id("usr", n % 5'000);
        draft[Column::actor_email] = "someone@example.com";
        draft[Column::auth_type] = "session";
        draft[Column::user_id] = n % 200'000 == 7 ? Text("usr_rare") : id("usr", n % 5'000);
        draft[Column::organization_id] = id("org", n % 300);
        draft[Column::target_type] = "session";
        draft[Column::target_id] = id("ses", n);
        draft[Column::ip] = "203.0.113.77";
        draft[Column::user_agent] =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 "
            "Safari/537.36";
        draft[Column::description] = "A user signed in with a password and a second factor";
        draft[Column::metadata] =
            R"({"method":"password","mfa":true,"country":"DE","request_id":"req_8f2c1d0e9b7a","attempt":1})";
        unit.events.push_back(draft);
    }
    unit.memory = std::move(arena);
    return unit;
}

struct Callers {
    EventStore& store;
    std::string project;
    std::size_t batch;
    std::atomic<std::int64_t> left;
    std::atomic<std::uint64_t> salt{1};
    std::vector<double> latencies;
};

Task<void> caller(Callers& all) {
    while (all.left.fetch_sub(static_cast<std::int64_t>(all.batch)) > 0) {
        std::vector<AppendUnit> units;
        units.push_back(make_unit(all.project, all.batch, all.salt++));
        const auto start = Steady::now();
        const auto outcomes = co_await all.store.append(units);
        if (outcomes[0].has_error()) {
            std::fprintf(stderr, "%s\n", outcomes[0].error().detail.c_str());
            std::_Exit(1);
        }
        all.latencies.push_back(seconds_since(start));
    }
}

double percentile(std::vector<double> values, double p) {
    std::sort(values.begin(), values.end());
    return values.empty()
               ? 0
               : values[static_cast<std::size_t>(p * static_cast<double>(values.size() - 1))] * 1e3;
}

void ingest(
    EventStore& store, const char* what, std::size_t batch, int callers, std::int64_t events
) {
    Callers all{
        store,
        "bench",
        batch,
        events,
        static_cast<std::uint64_t>(Steady::now().time_since_epoch().count()),
        {}};
    asio::io_context io;
    const auto start = Steady::now();
    for (int i = 0; i < callers; ++i) {
        asio::co_spawn(io, caller(all), asio::detached);
    }
    io.run();
    std::printf(
        "%-44s %9.0f events/s   p50 %.2f ms  p99 %.2f ms\n",
        what,
        static_cast<double>(events) / seconds_since(start),
        percentile(all.latencies, 0.5),
        percentile(all.latencies, 0.99)
    );
    std::fflush(stdout);
}

template <class T>
Task<void> keep_result(Task<T> task, std::optional<T>& result) {
    result.emplace(co_await std::move(task));
}

template <class T>
T run(Task<T> task) {
    std::optional<T> result;
    asio::io_context io;
    asio::co_spawn(io, keep_result(std::move(task), result), asio::detached);
    io.run();
    return std::move(*result);
}

void read(
    EventStore& store, const char* what, const Filter& filter, Seq head, bool deep, int times
) {
    std::vector<double> latencies;
    std::size_t rows = 0;
    for (int i = 0; i < times; ++i) {
        ScanRequest request;
        request.project = "bench";
        request.filter = filter;
        if (deep) {
            request.after = head * (i % 97 + 1) / 100;
        }
        const auto start = Steady::now();
        const auto page = run(store.scan(request));
        latencies.push_back(seconds_since(start));
        rows = page.has_value() ? page.value().batch.events.size() : 0;
    }
    std::printf(
        "%-44s %9zu rows       p50 %.2f ms  p99 %.2f ms\n",
        what,
        rows,
        percentile(latencies, 0.5),
        percentile(latencies, 0.99)
    );
    std::fflush(stdout);
}

void reads(EventStore& store, int times) {
    const Seq head = run(store.log_state("bench")).value().head_seq;
    Filter none, rare, hot, space, pair, absent, text, text_rare;
    rare.equals[static_cast<std::size_t>(Column::user_id)] = "usr_rare";
    absent.equals[static_cast<std::size_t>(Column::user_id)] = "usr_nobody";
    hot.equals[static_cast<std::size_t>(Column::actor_type)] = "user";
    space.actions = {{ActionPattern::Kind::prefix, "auth."}};
    pair.equals[static_cast<std::size_t>(Column::organization_id)] = "org_01HX000000000007";
    pair.actions = {{ActionPattern::Kind::exact, "user.updated"}};
    text.text = "second factor";
    text_rare.text = "ses_01HX00000000000";
    read(store, "newest page", none, head, false, times);
    read(store, "deep page", none, head, true, times);
    read(store, "rare user", rare, head, false, times);
    read(store, "absent user", absent, head, false, times);
    read(store, "hot actor_type, deep", hot, head, true, times);
    read(store, "auth.*", space, head, false, times);
    read(store, "auth.*, deep", space, head, true, times);
    read(store, "organization and action", pair, head, false, times);
    read(store, "q= common", text, head, false, times / 10 + 1);
    read(store, "q= rare", text_rare, head, false, 5);
    const auto start = Steady::now();
    const auto counts = run(store.action_counts("bench", 0));
    std::printf(
        "%-44s %9zu actions    %.2f ms\n",
        "types",
        counts.value().size(),
        seconds_since(start) * 1e3
    );
}

int main_of(int argc, char** argv) {
    if (argc < 2) {
        std::fprintf(stderr, "usage: sqlite_bench DIRECTORY [EVENTS]\n");
        return 2;
    }
    const std::int64_t events = argc > 2 ? std::atoll(argv[2]) : 1'000'000;
    SystemClock clock;
    Metrics metrics;
    SqliteOptions options;
    options.directory = argv[1];
    auto start = Steady::now();
    auto opened = open_sqlite_store(options, clock, metrics);
    if (opened.has_error()) {
        std::fprintf(stderr, "%s\n", opened.error().detail.c_str());
        return 1;
    }
    EventStore& store = *opened.value();
    std::printf("open                                         %.3f s\n", seconds_since(start));
    ingest(store, "batches of 100, 1 caller", 100, 1, events / 10);
    ingest(store, "batches of 100, 8 callers", 100, 8, events);
    ingest(store, "single events, 64 callers", 1, 64, std::min<std::int64_t>(events / 10, 200'000));
    std::printf("-- reads while segments are being sealed\n");
    reads(store, 300);
    std::this_thread::sleep_for(std::chrono::seconds(argc > 3 ? std::atoi(argv[3]) : 0));
    std::printf("-- reads under 12 000 events/s\n");
    std::atomic<bool> stop{false};
    std::thread load([&] {
        for (std::uint64_t i = 0; !stop; ++i) {
            std::vector<AppendUnit> units;
            units.push_back(make_unit("bench", 100, i << 32));
            (void)run(store.append(units));
            std::this_thread::sleep_for(std::chrono::microseconds(8'300));
        }
    });
    reads(store, 1'000);
    stop = true;
    load.join();
    start = Steady::now();
    store.close();
    std::printf("close                                        %.3f s\n", seconds_since(start));
    return 0;
}

}  // namespace
}  // namespace annal

int main(int argc, char** argv) {
    return annal::main_of(argc, argv);
}
