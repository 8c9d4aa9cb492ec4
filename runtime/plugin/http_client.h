#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/plugin/address_policy.h"
#include "runtime/plugin/resolver.h"

namespace annal {

class Metrics;

struct OutboundRequest {
    std::string method = "GET", url;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string_view body;              ///< at most 64 MiB; borrowed until done
    std::uint32_t timeout_ms = 15'000;  ///< everything: queue, name resolution, connection, body
    std::size_t response_bytes_max = 64U << 10;  ///< of the body, kept; 64 KiB at most
    /// "host:port", "*:port" for any host at that port, or "*:*" for any at the ports that
    /// AddressPolicy leaves; everything else is denied.
    std::vector<std::string> allowed;
    /// Asked every tenth of a second from the worker; may be empty.
    std::function<bool()> cancelled;
};

struct OutboundResponse {
    int status = 0;
    std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case
    std::string body;
    bool truncated = false;  ///< the body was longer than asked for; the rest was not read
    /// From when the request left the queue, its host's addresses known, to the answer's end: what
    /// the destination is responsible for.
    std::chrono::microseconds latency = {};
};

/// Outbound HTTP/1.1 to thousands of places from one thread: no redirects, no proxy, TLS 1.2 and up
/// with the peer and its name verified, connections kept, every socket address checked before it is
/// connected to and again before a kept connection is used.
///
/// Names are resolved on other threads. All of a name's addresses are judged before any of them is
/// connected to: one that is forbidden condemns the name. What is judged at the end is the address
/// of the socket, so nothing is gained by answering differently the next time.
///
/// Threads:  `send` and `set_policy` from any; `done` is called from the worker, or from `send`
/// itself when nothing can be queued. It must be quick, for everybody's transfers wait meanwhile,
/// and may call `send`.
/// Lifetime: the destructor gives up what is queued or under way, calls every `done` and waits for
/// the worker; for lookups under way a second at most.
/// Limits:   see Options; header block 64 KiB; response bodies as asked for; 2 s to resolve a name,
/// 5 s to connect, TLS included, both within the request's own time. What waits or hangs is
/// given up at most 0.1 s behind its deadline.
class HttpClient {
public:
    struct Options {
        std::size_t transfers_max = 1'024;  ///< under way at once
        std::size_t queue_max = 4'096;      ///< waiting
        /// Under way at once to one host and port while others leave room, and fewer the less they
        /// leave (OutboundQueue). One host may have half of those waiting.
        std::size_t host_max = 64;
        std::size_t connections_max = 2'048;  ///< used and kept
        unsigned resolvers_max = 256;         ///< names being resolved at once, a thread each
        std::chrono::milliseconds name_cache{30'000};  ///< how long a name's addresses are used
        std::string ca_file = {};                      ///< empty: the system's
        Metrics* metrics = nullptr;                    ///< outlives the client; may be null
        Resolver::Lookup lookup = {};                  ///< empty: the system's resolver. For tests.
    };
    HttpClient(AddressPolicy policy, Options options);
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    /// Holds for every request that begins afterwards, also on connections that were kept.
    void set_policy(AddressPolicy policy);

    using Done = std::function<void(Result<OutboundResponse>)>;
    /// Calls `done` exactly once. A 3xx is an answer like any other.
    /// @error Errc::invalid      URL, method, header or limit that can't be.
    /// @error Errc::denied       Host and port are not in `allowed`, the address policy forbids an
    /// address or port, or the peer's certificate can't be verified: a person has to mend it.
    /// @error Errc::unavailable  Not sent (queue full, stopping, no such name), or connect, TLS,
    /// reset, broken answer.
    /// @error Errc::timeout      Also when the name could not be resolved within its 2 s.
    /// @error Errc::cancelled
    void send(OutboundRequest request, Done done);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace annal
