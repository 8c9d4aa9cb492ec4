#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

#include "bench/http_load.h"

namespace annal::bench {

/// A server of its own on a data directory, as an operator would start it, watched through /proc.
class ServerProcess {
public:
    static constexpr const char* kProject = "proj_bench";

    /// Returns when it is ready; ends this process when it does not.
    /// @param program      the `annal` binary
    /// @param environment  beside what the benchmark sets itself
    /// @param log          a file for its log; empty: standard error
    ServerProcess(
        const std::filesystem::path& program,
        const std::filesystem::path& data_dir,
        const std::map<std::string, std::string>& environment = {},
        const std::filesystem::path& log = {}
    );
    /// SIGTERM, and waits.
    ~ServerProcess();
    ServerProcess(const ServerProcess&) = delete;
    ServerProcess& operator=(const ServerProcess&) = delete;

    [[nodiscard]] const Address& address() const { return address_; }
    /// Admin and platform key, bound to kProject.
    [[nodiscard]] static std::string key();
    /// User and system time since it began.
    [[nodiscard]] double cpu_seconds() const;
    [[nodiscard]] std::uint64_t resident_bytes() const;
    /// The largest resident size since `reset_peak`.
    [[nodiscard]] std::uint64_t peak_bytes() const;
    void reset_peak() const;
    /// Sum over all label sets of a metric; 0 when it is absent.
    [[nodiscard]] double metric(const std::string& name) const;

private:
    pid_t pid_ = -1;
    Address address_;
};

}  // namespace annal::bench
