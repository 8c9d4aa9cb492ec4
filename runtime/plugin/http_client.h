#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/plugin/address_policy.h"

namespace annal {

struct OutboundRequest {
    std::string method = "GET", url;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string_view body;              ///< borrowed until done
    std::uint32_t timeout_ms = 15'000;  ///< everything: queue, name resolution, connection, body
    std::size_t response_bytes_max = 64U << 10;
    /// "host:port", "*:port" for any host at that port, or "*:*"; everything else is denied.
    std::vector<std::string> allowed;
    std::function<bool()> cancelled;   ///< asked now and then from the worker; may be empty
};

struct OutboundResponse {
    int status = 0;
    std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case
    std::string body;
    bool truncated = false;  ///< the body was longer than asked for; the rest was not read
};

/// Outbound HTTP/1.1 on threads of its own: no redirects, no proxy, TLS 1.2 and up with the peer
/// and its name verified, every socket address checked before it is connected to and again before a
/// kept connection is used.
///
/// Threads:  `send` from any; `done` is called from a worker (or from `send` itself, when the queue
/// is full). Lifetime: the destructor gives up what is queued or under way and waits for the
/// workers. Limits:   `threads` requests at once, `queue_max` waiting; header block 64 KiB;
/// response bodies as asked for.
class HttpClient {
public:
    struct Options {
        unsigned threads = 4;
        std::size_t queue_max = 256;
        std::string ca_file;  ///< empty: the system's
    };
    HttpClient(AddressPolicy policy, Options options);
    ~HttpClient();
    HttpClient(const HttpClient&) = delete;
    HttpClient& operator=(const HttpClient&) = delete;

    using Done = std::function<void(Result<OutboundResponse>)>;
    /// Calls `done` exactly once. A 3xx is an answer like any other.
    /// @error Errc::invalid      URL, method, header or limit that can't be.
    /// @error Errc::denied       Host and port are not in `allowed`, or the address policy forbids
    /// the address.
    /// @error Errc::unavailable  Not sent (queue full, stopping), or connect, TLS, reset, broken
    /// answer.
    /// @error Errc::timeout, Errc::cancelled
    void send(OutboundRequest request, Done done);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace annal
