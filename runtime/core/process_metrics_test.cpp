#include "runtime/core/process_metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <vector>

#include "runtime/core/version.h"

namespace annal {
namespace {

double value(const Metrics& metrics, const std::string& name) {
    const std::string page = metrics.render();
    const std::size_t at = page.find("\n" + name + " ");
    EXPECT_NE(at, std::string::npos) << name;
    return at == std::string::npos ? -1 : std::stod(page.substr(at + name.size() + 2));
}

TEST(ProcessMetricsTest, AreThoseOfThisProcess) {
    Metrics metrics;
    ProcessMetrics process(metrics, "1.2.3");
    EXPECT_NE(metrics.render().find("annal_build_info{version=\"1.2.3\"} 1"), std::string::npos);
    EXPECT_GT(value(metrics, "process_resident_memory_bytes"), 1'000'000);
    EXPECT_GT(
        value(metrics, "process_virtual_memory_bytes"),
        value(metrics, "process_resident_memory_bytes")
    );
    EXPECT_GE(value(metrics, "process_threads"), 1);
    EXPECT_GT(value(metrics, "process_max_fds"), value(metrics, "process_open_fds"));
    const double now =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    const double start = value(metrics, "process_start_time_seconds");
    EXPECT_LE(start, now + 2);
    EXPECT_GT(start, now - 3'600);
}

TEST(ProcessMetricsTest, RefreshReadsAnew) {
    Metrics metrics;
    ProcessMetrics process(metrics, "1");
    const double before = value(metrics, "process_open_fds");
    const std::ifstream one("/dev/null"), two("/dev/null");
    process.refresh();
    EXPECT_EQ(value(metrics, "process_open_fds"), before + 2);
}

TEST(VersionTest, HasThreeNumbers) {
    EXPECT_NE(version().find_first_of("0123456789"), std::string_view::npos);
    EXPECT_EQ(std::count(version().begin(), version().end(), '.'), 2);
}

}  // namespace
}  // namespace annal
