#include "runtime/core/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace annal {
namespace {

namespace fs = std::filesystem;

Metric& gauge(Metrics& metrics, const char* name, const char* help) {
    return metrics.define(MetricKind::gauge, name, help);
}

/// /proc/self/stat from the state on (man 5 proc counts that one as field 3); the name before it
/// may hold blanks.
std::vector<double> stat_fields() {
    std::ifstream file("/proc/self/stat");
    std::string line;
    std::getline(file, line);
    std::istringstream rest(line.substr(std::min(line.rfind(')') + 3, line.size())));
    std::vector<double> fields{0, 0, 0, 0};
    for (double field = 0; rest >> field;) fields.push_back(field);
    fields.resize(32);
    return fields;
}

double ticks(double count) {
    return count / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double boot_time() {
    std::ifstream file("/proc/stat");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("btime ")) return std::stod(line.substr(6));
    }
    return 0;
}

double count_open_fds() {
    std::error_code error;
    double count = 0;
    for (fs::directory_iterator i("/proc/self/fd", error); !error && i != fs::directory_iterator();
         i.increment(error))
        ++count;
    return count;
}

}  // namespace

ProcessMetrics::ProcessMetrics(Metrics& metrics, const std::string& version)
    : resident_(gauge(metrics, "process_resident_memory_bytes", "Resident memory.")),
      virtual_(gauge(metrics, "process_virtual_memory_bytes", "Virtual memory.")),
      cpu_seconds_(metrics.define(
          MetricKind::counter, "process_cpu_seconds_total", "User and system CPU time."
      )),
      open_fds_(gauge(metrics, "process_open_fds", "Open file descriptors.")),
      threads_(gauge(metrics, "process_threads", "Threads.")) {
    metrics
        .define(
            MetricKind::gauge,
            "annal_build_info",
            "Always 1; the labels say what runs.",
            {{"version", version}}
        )
        .record(1);
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    gauge(metrics, "process_max_fds", "File descriptors that the process may have.")
        .record(static_cast<double>(files.rlim_cur));
    gauge(metrics, "process_start_time_seconds", "When the process began, in Unix time.")
        .record(boot_time() + ticks(stat_fields()[22]));
    refresh();
}

void ProcessMetrics::refresh() {
    // Numbers as man 5 proc gives them.
    constexpr std::size_t kUserTime = 14, kSystemTime = 15, kThreads = 20, kVirtual = 23,
                          kResident = 24;
    const std::vector<double> fields = stat_fields();
    const double cpu = ticks(fields[kUserTime] + fields[kSystemTime]);
    cpu_seconds_.record(cpu - cpu_seen_);
    cpu_seen_ = cpu;
    resident_.record(fields[kResident] * static_cast<double>(::sysconf(_SC_PAGESIZE)));
    virtual_.record(fields[kVirtual]);
    threads_.record(fields[kThreads]);
    open_fds_.record(count_open_fds());
}

}  // namespace annal
