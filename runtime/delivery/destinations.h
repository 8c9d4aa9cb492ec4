#pragma once

#include <boost/json/object.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/secret_box.h"
#include "runtime/plugin/instance.h"

namespace annal {

/// What streams may name as a destination: a manifest with a `destination` trigger, and the
/// sink behind it.
struct SinkOffer {
    std::string name;
    std::string scope;  ///< that a key needs beside streams:write; empty: none
    Manifest manifest;  ///< the pattern; its config is what the operator has decided
    const Module* module = nullptr;
    const annal_component* component = nullptr;
};

/// What may be configured over REST, and the sinks that come of it.
///
/// A stream's configuration is the operator's part, from the manifest, and its owner's part. The
/// owner can't change what the operator has set, nor name secrets of the node.
///
/// Threads: `add` before all else; then any. Lifetime: modules outlive it.
class Destinations {
public:
    explicit Destinations(HostEnvironment& environment) : environment_(environment) {}

    /// @error Errc::invalid   The manifest's component is no sink, or the operator's part breaks
    /// its schema by itself.
    /// @error Errc::conflict  The name is taken.
    [[nodiscard]] Result<void> add(const Manifest& manifest, const Module& module);
    void clear() { all_.clear(); }
    [[nodiscard]] const SinkOffer* find(const std::string& name) const;
    /// For people: "a, b, c".
    [[nodiscard]] std::string list() const;

    /// Whether `config`, the owner's part, gives a whole configuration.
    /// @error Errc::unprocessable  It does not; every error is in the detail.
    [[nodiscard]] Result<void> check(
        const SinkOffer& destination, const boost::json::object& config
    ) const;
    /// A sink at work for one stream, called `id` in logs and metrics. May block.
    /// @error  As `check`, and whatever the component says.
    [[nodiscard]] Result<std::shared_ptr<Instance>> create(
        const SinkOffer& destination, const std::string& id, const boost::json::object& config
    ) const;
    /// What is wrong with the operator's part of a configuration, as far as it goes.
    [[nodiscard]] static ConfigResult check_operators_part(
        const Manifest& manifest, const annal_component& component, const SecretLookup& secrets
    );
    /// Keys of a configuration that hold secrets, as the component's schema marks them.
    [[nodiscard]] static std::vector<std::string> secret_keys(const SinkOffer& destination);

private:
    [[nodiscard]] Result<std::string> merged(
        const SinkOffer& destination, const boost::json::object& config
    ) const;

    [[nodiscard]] Result<void> check_urls(
        const SinkOffer& destination, const boost::json::object& config
    ) const;

    HostEnvironment& environment_;
    std::map<std::string, SinkOffer> all_;
};

}  // namespace annal
