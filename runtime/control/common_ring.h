#pragma once

#include <string>
#include <vector>

#include "runtime/store/event_store.h"

namespace annal::control {

/// What the nodes of one store have to agree on about their key rings: which key every ring has to
/// hold. The store keeps that key's fingerprint, in a row of no project.
///
/// It is the first node's first key, until every secret is sealed under another one: so rings may
/// differ while keys are exchanged, and none can lack a key that is still needed.
class CommonRing {
public:
    /// @param fingerprints  of this node's keys, the one that seals first; none: the store is this
    /// node's alone, and nothing is compared or kept
    CommonRing(EventStore& store, std::vector<std::string> fingerprints)
        : store_(store), fingerprints_(std::move(fingerprints)) {}

    /// Whether this ring holds the key. @error Errc::conflict  It does not.
    [[nodiscard]] Task<Result<void>> compare();
    /// Whether the node may go on with the ring that it compared: not when secrets have come to be
    /// sealed under a key that it does not seal with. @error Errc::conflict  It may not.
    [[nodiscard]] Task<Result<void>> look_again();
    /// From now on every ring has to hold this ring's first key, and needs no other.
    [[nodiscard]] Task<Result<void>> move_on();

    static constexpr const char *kSpace = "host.key_ring", *kKey = "fingerprint";

private:
    [[nodiscard]] Task<Result<std::string>> stored();
    [[nodiscard]] Task<Result<void>> replace(std::string before);

    EventStore& store_;
    std::vector<std::string> fingerprints_;
    std::string compared_with_;
};

}  // namespace annal::control
