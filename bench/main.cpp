// Measures Annal on the machine it runs on, from outside, through HTTP: one JSON line a scenario,
// each beside what the machine does without Annal in the same minutes.
//
//     annal_bench --program build/release/annal --folder DIR [--events N] [--seed N]
//         [--store sqlite|postgres] [SCENARIO…]

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "bench/reference.h"
#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

using Scenario = void (*)(const Setting&, const ServerProcess&);

struct Named {
    const char* name;
    Scenario run;
};
constexpr Named kScenarios[] = {
    {"ingest_batches", ingest_batches},
    {"ingest_singles", ingest_singles},
    {"reads", reads},
    {"aggregates", aggregates},
    {"exports", exports},
    {"two_nodes", two_nodes},
    {"held_snapshot", held_snapshot},
};

void machine(const Setting& setting) {
    Line line("machine");
    line.add("cores", static_cast<double>(std::thread::hardware_concurrency()))
        .add("fdatasync_per_s", sync_rate(setting.folder));
}

int run(const Setting& setting, const std::vector<std::string>& chosen) {
    const auto wanted = [&](const std::string& name) {
        return chosen.empty() || std::find(chosen.begin(), chosen.end(), name) != chosen.end();
    };
    machine(setting);
    const auto needs_nothing = [](const std::string& name) {
        return name == "webhooks" || name == "month_drop";
    };
    if (chosen.empty() || !std::all_of(chosen.begin(), chosen.end(), needs_nothing)) {
        const bool filled = setting.store->has_events();
        const ServerProcess server(
            setting.program, setting.data_dir(), setting.store->environment()
        );
        if (!filled) fill(setting, server);
        for (const Named& scenario : kScenarios) {
            if (!wanted(scenario.name)) continue;
            (void)settle(server);
            scenario.run(setting, server);
        }
        (void)settle(server);
    }
    if (wanted("stream")) stream(setting);
    if (wanted("webhooks")) webhooks(setting);
    if (wanted("month_drop")) month_drop(setting);
    return 0;
}

}  // namespace
}  // namespace annal::bench

int main(int argc, char** argv) {
    CLI::App app("Measures Annal through its REST API; one JSON line a scenario");
    annal::bench::Setting setting;
    std::vector<std::string> scenarios;
    std::string store = "sqlite";
    app.add_option("--program", setting.program, "The annal binary")
        ->required()
        ->check(CLI::ExistingFile);
    app.add_option(
           "--folder", setting.folder, "Where to work; a folder with data in it is used again"
    )
        ->required();
    app.add_option("--store", store, "Below the server: sqlite, or a throw-away PostgreSQL")
        ->check(CLI::IsMember({"sqlite", "postgres"}))
        ->capture_default_str();
    app.add_option("--events", setting.events, "Events that are there before anything is measured")
        ->capture_default_str();
    app.add_option("--seed", setting.seed, "Of the events")->capture_default_str();
    app.add_option(
        "scenarios",
        scenarios,
        "ingest_batches, ingest_singles, reads, aggregates, exports, two_nodes, held_snapshot, "
        "stream, webhooks, month_drop; "
        "default: all"
    );
    CLI11_PARSE(app, argc, argv);
    setting.program = std::filesystem::absolute(setting.program);
    setting.folder = std::filesystem::absolute(setting.folder);
    std::filesystem::create_directories(setting.folder);
    const auto compared = store == "sqlite" ? annal::bench::compared_sqlite(setting.folder)
                                            : annal::bench::compared_postgres(setting.folder);
    setting.store = compared.get();
    return annal::bench::run(setting, scenarios);
}
