#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace annal::bench {

/// Webhook endpoints on 127.0.0.1, each with a port of its own, all served by one thread: it takes
/// requests and answers 204, or never.
class HookReceiver {
public:
    /// @param hanging     the last so many endpoints never answer
    /// @param per_second  above 0: the first endpoint takes so many requests a second and answers
    /// the others 429, with a second's Retry-After
    HookReceiver(int endpoints, int hanging, int per_second = 0);
    ~HookReceiver();
    HookReceiver(const HookReceiver&) = delete;
    HookReceiver& operator=(const HookReceiver&) = delete;

    [[nodiscard]] std::string url(int endpoint) const;
    /// Requests that were answered 204, so far.
    [[nodiscard]] std::uint64_t taken() const { return taken_; }
    [[nodiscard]] std::uint64_t refused() const { return refused_; }
    /// From an event's created_at to its arrival, of all that were taken since the last call.
    [[nodiscard]] std::vector<double> latencies_ms();

private:
    struct Connection;
    void run();
    bool serve(Connection& connection);
    void answer(Connection& connection, std::size_t body_begin);

    const int hanging_, per_second_;
    std::vector<int> listeners_;
    std::vector<std::uint16_t> ports_;
    std::atomic<std::uint64_t> taken_{0}, refused_{0};
    std::atomic<bool> stopping_{false};
    std::mutex mutex_;
    std::vector<double> latencies_ms_;
    std::vector<std::int64_t> window_us_;  // of the first endpoint: when it took one
    std::thread thread_;
};

}  // namespace annal::bench
