#pragma once

#include <functional>
#include <memory>
#include <string>

#include "annal/abi.h"
#include "runtime/bus/appender.h"
#include "runtime/core/clock.h"
#include "runtime/core/limits.h"
#include "runtime/core/metrics.h"
#include "runtime/plugin/address_policy.h"
#include "runtime/plugin/loader.h"
#include "runtime/plugin/manifest.h"
#include "runtime/plugin/settings.h"
#include "runtime/store/event_store.h"
#include "runtime/store/page_cursor.h"

namespace boost::asio {
class any_io_executor;
}

namespace annal {

class Call;
class HttpClient;
class RetentionPort;

/// What host services reach. One per runtime; outlives every instance.
struct HostEnvironment {
    /// This process among all that share its store: the owner of its leases. Made at start.
    std::string node;
    EventStore* store = nullptr;
    Appender* appender = nullptr;
    Settings* settings = nullptr;
    const CursorCodec* cursors = nullptr;
    const Clock* clock = nullptr;
    Metrics* metrics = nullptr;
    const Limits* limits = nullptr;
    const boost::asio::any_io_executor* executor = nullptr;
    SecretLookup secrets;
    std::vector<std::string> allow_cidrs;  ///< outbound addresses allowed beyond the public ones
    /// Of public addresses, for those who may call any host at any port; beyond the usual ones.
    std::vector<std::uint16_t> outbound_ports;
    /// Streams go on by themselves after the store went back in time, in place of halting.
    bool go_on_after_failover = false;
    std::size_t outbound_connections = 2'048;  ///< that the node has descriptors for
    std::uint16_t own_port = 0;                ///< where this node listens; 0: nowhere
    /// Made with the first instance that may use it; ends with the environment.
    std::shared_ptr<HttpClient> http_client;
    /// Set before instances are made; outlives them.
    RetentionPort* retention = nullptr;
    /// annal.export/1, whose other end is in runtime/http; NULL until it is set.
    std::function<
        void(Call&, const annal_export&, const annal_response&, void* user, annal_done done)>
        run_export;
    /// Likewise for its live tails.
    std::function<
        void(Call&, const annal_tail&, const annal_response&, void* user, annal_done done)>
        run_tail;
};

/// One component at work for one manifest document: `create`d with its completed configuration,
/// `destroy`ed with this object.
///
/// Services that the manifest does not permit are NULL to it.
/// Threads:  create and destroy instances on one thread (start and end of the process); their calls
/// come from any. Lifetime: no call may be in flight when it ends.
class Instance {
public:
    /// @error Errc::unprocessable  The configuration breaks the schema; every error with its
    /// pointer is in the detail.
    /// @error Errc::not_found      The module has no such component (its components are named).
    /// and whatever the component's `create` reports.
    [[nodiscard]] static Result<std::unique_ptr<Instance>> create(
        const Manifest& manifest, const Module& module, HostEnvironment& environment
    );
    ~Instance();
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;

    [[nodiscard]] const Manifest& manifest() const;
    [[nodiscard]] const annal_component& component() const;
    [[nodiscard]] const Module& module() const;
    [[nodiscard]] void* self() const;
    /// The component's table; `V` must fit its type.
    template <class V>
    [[nodiscard]] const V& table() const {
        return *static_cast<const V*>(component().vtable);
    }

private:
    struct State;
    explicit Instance(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Makes `environment.http_client` if `manifest` may call out and there is none yet. Not from two
/// threads at once; `Instance::create` does it by itself where instances are made one by one.
[[nodiscard]] Result<void> provide_http_client(
    const Manifest& manifest, HostEnvironment& environment
);
/// Likewise, for what the host itself sends.
[[nodiscard]] Result<void> provide_http_client(HostEnvironment& environment);

/// What the node's settings say of outbound addresses. @error  As `AddressPolicy::create`.
[[nodiscard]] Result<AddressPolicy> outbound_policy(const HostEnvironment& environment);

/// The component that `manifest` names, or the module's only one. Without running any of its code.
[[nodiscard]] Result<const annal_component*> find_component(
    const Manifest& manifest, const Module& module
);

}  // namespace annal
