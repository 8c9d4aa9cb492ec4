#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "runtime/core/clock.h"
#include "runtime/core/limits.h"
#include "runtime/core/metrics.h"
#include "runtime/http/router.h"
#include "runtime/http/tls.h"

namespace annal::http {

/// Decides who asks. Thread-safe.
class Authenticator {
public:
    virtual ~Authenticator() = default;
    /// From Authorization (Bearer sk_…, or Basic key id : secret) or X-API-Key.
    /// @error Errc::unauthenticated  Missing, unknown, revoked, expired, or two credentials that
    /// differ.
    [[nodiscard]] virtual Task<Result<Principal>> authenticate(const Request& request) = 0;
    /// Whether there is a project that the node's owner names at the Unix socket.
    /// @error Errc::not_found
    [[nodiscard]] virtual Task<Result<void>> check_project(std::string project);
};

struct ServerOptions {
    std::string listen = "127.0.0.1:8080";  ///< address:port, [v6]:port; port 0 picks a free one;
                                            ///< empty: no TCP listener
    std::filesystem::path
        unix_socket;  ///< mode 0600; who can open it is the node's owner; empty: none
    std::shared_ptr<const TlsIdentity> tls = nullptr;  ///< for TCP; null: plain
};

/// Whether these can be listened on as they are written; whether they are free shows at start.
/// @error Errc::invalid  Not an address, or too long for a Unix socket.
[[nodiscard]] Result<void> check(const ServerOptions& options);

/// HTTP/1.1 over TCP (plain, or TLS) and over a Unix socket: keep-alive, pipelining, chunked bodies
/// both ways with back-pressure, gzip request bodies, the limits and deadlines of `Limits`, a
/// request id on every answer.
///
/// Threads: one strand per connection on `executor`. Lifetime: `stop` must have finished before
/// destruction.
class Server {
public:
    Server(
        const Router& router,
        Authenticator& authenticator,
        const Clock& clock,
        const Limits& limits,
        Metrics& metrics,
        boost::asio::any_io_executor executor
    );
    ~Server();

    /// Binds and starts to accept; returns the bound "address:port" ("" without TCP).
    /// @error Errc::conflict  The port is in use; the detail names it. @error Errc::invalid  Not an
    /// address.
    [[nodiscard]] Result<std::string> start(const ServerOptions& options);
    /// Serves other routes from the next requests on. Those before are left to the old ones, which
    /// must live as long as the server.
    void exchange(const Router& router, Authenticator& authenticator);
    /// Stops accepting, lets requests in flight end, closes idle connections after a moment and the
    /// rest after the grace.
    [[nodiscard]] Task<void> stop();

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace annal::http
