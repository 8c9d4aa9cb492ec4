#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/core/limits.h"
#include "runtime/core/metrics.h"
#include "runtime/http/router.h"
#include "runtime/http/server.h"

namespace annal::http {

class Session;

/// What the connections of one server share: collaborators, limits, counters, and the list of the
/// connections themselves. Thread-safe. Lifetime: held by the server, its sessions and their
/// exchanges.
class SessionHub {
public:
    SessionHub(
        const Router& router,
        Authenticator& authenticator,
        const Clock& clock,
        const Limits& limits,
        Metrics& metrics
    );

    const Clock& clock;
    const Limits limits;

    [[nodiscard]] const Router& router() const { return *router_.load(); }
    [[nodiscard]] Authenticator& authenticator() const { return *authenticator_.load(); }
    /// For requests from now on.
    void exchange(const Router& router, Authenticator& authenticator) {
        authenticator_ = &authenticator;  // first: who sees the new routes must ask the new one
        router_ = &router;
    }

    std::atomic<bool> stopping{false};  ///< no new requests; those in flight may end
    std::atomic<bool> cut{false};       ///< the grace is over

    /// Takes `bytes` of the node's memory for request bodies. False: not available; nothing was
    /// taken.
    [[nodiscard]] bool take_memory(std::uint64_t bytes);
    void give_back(std::uint64_t bytes);

    enum class Welcome {
        served,
        refused,  ///< `connections_max` are there already: the session is to say so and end
        dropped   ///< even that is too much now: not counted, to be closed
    };
    /// The Unix socket has a few connections more than `connections_max`, so that the operator gets
    /// in when strangers have used them up.
    [[nodiscard]] Welcome enter(const std::shared_ptr<Session>& session);
    void leave(const Session* session);
    void handshake_failed() { handshake_failures_.record(1); }
    /// Those that are served and those that are being refused.
    [[nodiscard]] std::vector<std::shared_ptr<Session>> sessions() const;

    void handler_began() { ++handlers_; }
    void handler_ended();
    /// Nothing is being served: no connection, no handler at work.
    [[nodiscard]] bool quiet() const;
    /// No connection is left, not even one that is being refused.
    [[nodiscard]] bool deserted() const;
    /// Called, on any thread, whenever `quiet` may have become true.
    void on_change(std::function<void()> changed);

    [[nodiscard]] std::string new_request_id();
    void record(
        std::string_view method, int status, std::int64_t duration_us, std::uint64_t bytes_in
    );

private:
    static constexpr std::size_t kMethods = 8;
    static constexpr std::size_t kStatuses = 600;
    void changed();

    std::atomic<const Router*> router_;
    std::atomic<Authenticator*> authenticator_;
    Metrics& metrics_;
    Metric& seconds_;
    Metric& bytes_;
    Metric& connections_;
    Metric& handshake_failures_;
    std::vector<std::atomic<Metric*>> requests_;  // by method and status, defined when first seen

    std::atomic<std::uint64_t> memory_{0};
    std::atomic<std::uint32_t> handlers_{0};
    std::atomic<std::uint64_t> request_number_{0};
    std::uint64_t seed_;

    mutable std::mutex mutex_;
    using Sessions = std::unordered_map<const Session*, std::weak_ptr<Session>>;
    Sessions sessions_, refused_;
    std::function<void()> on_change_;
};

}  // namespace annal::http
