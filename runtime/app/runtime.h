#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/app/node_settings.h"
#include "runtime/core/result.h"

namespace annal {

/// A node: store, append path, plugins, server and streams, put together by a list of steps and
/// taken apart by the same list backwards.
class Runtime {
public:
    struct Role {
        bool listen =
            true;  ///< serve over TCP; false: only the Unix socket (a command's own runtime)
        bool streams = true;  ///< deliver to the sinks of the manifests
    };
    Runtime(NodeSettings settings, Role role);
    ~Runtime();

    /// Runs the steps. On an error the steps done so far have been undone.
    ///
    /// A database that can't be reached is waited for: the server says so meanwhile, and everything
    /// else of it is 503.
    /// @param listening  told the bound "address:port" when the node serves there, or waits for its
    ///                   database; not without TCP
    /// @error Errc::cancelled  SIGTERM or SIGINT came while it waited.
    [[nodiscard]] Result<void> start(const std::function<void(const std::string&)>& listening = {});
    /// The bound "address:port"; empty without TCP.
    [[nodiscard]] const std::string& address() const;
    /// Blocks until SIGTERM or SIGINT. SIGHUP meanwhile reads the TLS certificate and key again.
    void wait_for_signal();
    /// Stops accepting, ends what is in flight, commits, closes. Idempotent.
    void stop();

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace annal
