#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace annal::bench {

struct Address {
    std::string ip;
    std::uint16_t port = 0;
    [[nodiscard]] static Address parse(const std::string& text);
};

/// What to send, and how fast.
struct LoadPlan {
    int connections = 1;
    /// Requests per second, begun at fixed times whatever the server does: a request that has to
    /// wait for a free connection is timed from when it was due, so that a stall of the server is
    /// in the figures of every request that it held up. 0: as fast as the connections get answers.
    double rate = 0;
    double seconds = 0;           ///< ends then, or …
    std::uint64_t requests = 0;   ///< … after so many; 0: no such bound
    std::function<bool()> until;  ///< … or when it says so
    /// Appends one whole HTTP/1.1 request.
    std::function<void(std::string& out)> write;
};

struct LoadResult {
    std::uint64_t answered = 0, failed = 0;
    std::uint64_t bytes = 0;  ///< received
    double seconds = 0;
    std::vector<double> latencies_ms;
    std::string first_failure;  ///< status line and the start of the body
    std::string last_answer;    ///< body of the last answer, at most 1 MiB of it

    [[nodiscard]] double per_second() const { return static_cast<double>(answered) / seconds; }
    [[nodiscard]] double percentile(double p) const;
};

/// Keep-alive HTTP clients on one thread. Blocks until the plan is done; a connection that breaks
/// is a programmer's or a server's error and ends the process with a message.
[[nodiscard]] LoadResult run_load(const Address& server, const LoadPlan& plan);

/// One request, its body; ends the process unless the answer is 2xx.
std::string fetch(const Address& server, const std::string& request);

/// Head of a request with a body of `content_length`.
[[nodiscard]] std::string request_head(
    const std::string& method,
    const std::string& target,
    const std::string& key,
    std::size_t content_length = 0
);

}  // namespace annal::bench
