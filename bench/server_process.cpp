#include "bench/server_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace annal::bench {
namespace {

constexpr const char* kListening = "listening on ";

/// Value of a line "name:  value kB".
std::uint64_t status_bytes(pid_t pid, const std::string& name) {
    std::ifstream in("/proc/" + std::to_string(pid) + "/status");
    std::string line;
    while (std::getline(in, line))
        if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1)) << 10U;
    return 0;
}

/// On a slow disk its database takes longer than the server waits before it listens.
bool is_ready(const Address& server) {
    LoadPlan plan;
    plan.requests = 1;
    plan.write = [](std::string& out) {
        out += request_head("GET", "/readyz", ServerProcess::key());
    };
    return run_load(server, plan).failed == 0;
}

}  // namespace

std::string ServerProcess::key() {
    return "sk_live_benchmarkbenchmarkbenchmarkbenchmark0000";
}

ServerProcess::ServerProcess(
    const std::filesystem::path& program,
    const std::filesystem::path& data_dir,
    const std::map<std::string, std::string>& environment,
    const std::filesystem::path& log
) {
    std::array<int, 2> out{};
    if (::pipe(out.data()) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGTERM);
        ::dup2(out[1], STDOUT_FILENO);
        ::close(out[0]);
        ::close(out[1]);
        if (!log.empty())
            ::dup2(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), STDERR_FILENO);
        ::setenv("ANNAL_LISTEN", "127.0.0.1:0", 1);
        ::setenv("ANNAL_DATA_DIR", data_dir.c_str(), 1);
        ::setenv("ANNAL_LOG_LEVEL", "warn", 1);
        ::setenv("ANNAL_BOOTSTRAP_KEY", key().c_str(), 1);
        ::setenv("ANNAL_BOOTSTRAP_PROJECT", kProject, 1);
        for (const auto& [name, value] : environment) ::setenv(name.c_str(), value.c_str(), 1);
        ::execl(program.c_str(), program.c_str(), "serve", nullptr);
        std::perror(program.c_str());
        std::_Exit(1);
    }
    ::close(out[1]);
    std::string text;
    std::array<char, 256> piece{};
    while (text.find('\n') == std::string::npos) {
        const ssize_t n = ::read(out[0], piece.data(), piece.size());
        if (n <= 0) {
            std::fprintf(stderr, "bench: the server did not start\n");
            std::_Exit(1);
        }
        text.append(piece.data(), static_cast<std::size_t>(n));
    }
    const std::size_t at = text.find(kListening) + std::string(kListening).size();
    address_ = Address::parse(text.substr(at, text.find('\n') - at));
    for (int tries = 0; !is_ready(address_); ++tries) {
        if (tries > 600) {
            std::fprintf(stderr, "bench: the server did not get ready\n");
            std::_Exit(1);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

ServerProcess::~ServerProcess() {
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
}

double ServerProcess::cpu_seconds() const {
    std::ifstream in("/proc/" + std::to_string(pid_) + "/stat");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    std::istringstream fields(text.substr(text.rfind(')') + 2));
    std::string skipped;
    for (int i = 0; i < 11; ++i) fields >> skipped;
    double user = 0, system = 0;
    fields >> user >> system;
    return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::uint64_t ServerProcess::resident_bytes() const {
    return status_bytes(pid_, "VmRSS");
}

std::uint64_t ServerProcess::peak_bytes() const {
    return status_bytes(pid_, "VmHWM");
}

void ServerProcess::reset_peak() const {
    std::ofstream("/proc/" + std::to_string(pid_) + "/clear_refs") << "5";
}

double ServerProcess::metric(const std::string& name) const {
    std::istringstream lines(fetch(address_, request_head("GET", "/metrics", key())));
    double sum = 0;
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(name) || line.size() == name.size()) continue;
        if (line[name.size()] == ' ' || line[name.size()] == '{')
            sum += std::stod(line.substr(line.rfind(' ') + 1));
    }
    return sum;
}

}  // namespace annal::bench
