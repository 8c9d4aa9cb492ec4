#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "runtime/plugin/transfer.h"

namespace annal {

/// Which request goes next: one of each host in turn, and no host takes what others need.
///
/// A host and port may have `host_max` requests under way while nobody else has any; the more of
/// all places others use, the fewer: of what they leave free it gets the share that `host_max` is
/// of `total_max`, but always one. So some hundred hosts that hang leave room for those that
/// answer.
///
/// Threads: one. Pure: no clock, no sockets.
class OutboundQueue {
public:
    using Time = std::chrono::steady_clock::time_point;
    struct Limits {
        std::size_t total_max, host_max;  ///< under way
        std::size_t host_waiting_max;
    };
    struct Host {
        std::string key;   ///< Destination::key
        std::string name;  ///< Destination::name; empty: its address is known
        std::deque<std::unique_ptr<OutboundJob>> waiting;
        std::size_t active = 0;
        bool in_turn = false;
        // What is known of its name.
        std::vector<Address> addresses;
        std::optional<Time> resolved_at;
        Time lookup_began{};
        bool looked_up = false;  ///< a lookup is under way
        bool told_to_curl = false;
    };
    /// Whether the addresses that `host` has will do for `job`.
    using IsResolved = std::function<bool(const Host& host, const OutboundJob& job)>;

    explicit OutboundQueue(Limits limits) : limits_(limits) {}

    /// Takes the job, or leaves it where it is when its host has too many waiting.
    [[nodiscard]] bool push(std::unique_ptr<OutboundJob>& job);
    struct Next {
        Host* host;
        std::unique_ptr<OutboundJob> job;
    };
    /// The next job to begin, counted as under way; none: nothing can begin now. Hosts that wait
    /// for their addresses lose their turn, and `resolve` is called for them.
    [[nodiscard]] std::optional<Next> next(
        const IsResolved& is_resolved, const std::function<void(Host&)>& resolve
    );
    /// A host that was waiting for its addresses may go on.
    void resume(Host& host);
    void ended(const std::string& key);
    [[nodiscard]] Host* find(const std::string& key);

    /// Takes out every waiting job that `is_over` says is.
    std::vector<std::unique_ptr<OutboundJob>> remove_if(
        const std::function<bool(const Host&, const OutboundJob&)>& is_over
    );
    std::vector<std::unique_ptr<OutboundJob>> take_all(Host& host);
    /// Forgets hosts without jobs that `is_stale` says are.
    void forget_if(const std::function<bool(const Host&)>& is_stale);

    [[nodiscard]] std::size_t waiting() const { return waiting_; }
    [[nodiscard]] std::size_t active() const { return active_; }
    [[nodiscard]] std::size_t hosts() const { return hosts_.size(); }

private:
    [[nodiscard]] bool has_room(const Host& host) const;

    const Limits limits_;
    std::unordered_map<std::string, Host> hosts_;
    std::deque<Host*> turns_;  ///< hosts with waiting jobs, but for those without addresses
    std::size_t waiting_ = 0, active_ = 0;
};

}  // namespace annal
