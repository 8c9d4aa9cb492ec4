#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "bench/reference.h"
#include "bench/report.h"
#include "bench/scenarios.h"

namespace annal::bench {
namespace {

constexpr double kSeconds = 10;

/// A stream of this run's own: in a folder that is used again, an older one is at the end.
void write_manifest(const std::filesystem::path& path, const std::filesystem::path& output) {
    std::ofstream(path) << "apiVersion: annal.dev/v1\n"
                           "kind: Plugin\n"
                           "metadata:\n"
                           "  name: bench-file\n"
                           "spec:\n"
                           "  library: {name: sink_file}\n"
                           "  config:\n"
                           "    path: "
                        << output.string()
                        << "\n"
                           "  triggers:\n"
                           "    - name: run-"
                        << std::chrono::system_clock::now().time_since_epoch().count()
                        << "\n"
                           "      events:\n"
                           "        project: "
                        << ServerProcess::kProject
                        << "\n"
                           "        from: earliest\n"
                           "        batch: {maxEvents: 500}\n";
}

}  // namespace

void stream(const Setting& setting) {
    const auto manifests = setting.folder / "manifests";
    const auto output = setting.folder / "stream.jsonl";
    std::filesystem::create_directories(manifests);
    write_manifest(manifests / "stream.yaml", output);
    const auto shipped = setting.program.parent_path() / "manifests";
    auto environment = setting.store->environment();
    environment["ANNAL_MANIFESTS"] = shipped.string() + ":" + manifests.string();
    const ServerProcess server(setting.program, setting.data_dir(), environment);
    while (server.metric("annal_stream_delivered_events_total") == 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const auto start = std::chrono::steady_clock::now();
    const double cpu_before = server.cpu_seconds();
    const double first = server.metric("annal_stream_delivered_events_total");
    const auto size_before = static_cast<double>(std::filesystem::file_size(output));
    std::this_thread::sleep_for(std::chrono::duration<double>(kSeconds));
    const double events = server.metric("annal_stream_delivered_events_total") - first;
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double bytes =
        (static_cast<double>(std::filesystem::file_size(output)) - size_before) / events;
    const double reference =
        append_lines_rate(setting.folder, static_cast<std::size_t>(std::max(1.0, bytes)), 500);
    Line line("stream_to_file");
    line.add("batch", 500)
        .add("events_per_s", events / seconds)
        .add("reference", "the same bytes appended with fdatasync, 500 lines at a time")
        .add("reference_per_s", reference)
        .add("ratio", events / seconds / reference)
        .add("server_cpu_us_per_event", (server.cpu_seconds() - cpu_before) * 1e6 / events)
        .budget(">= 100000 events/s", events / seconds >= 100'000);
    std::filesystem::remove(output);
}

}  // namespace annal::bench
