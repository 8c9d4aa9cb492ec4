#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/plugin/address_policy.h"

namespace annal {

/// Resolves names on threads of its own, without anybody ever waiting for one of them.
///
/// getaddrinfo can't be given up, and libcurl's own resolver waits for it whenever a transfer ends
/// before its answer, which would hold up all others.
///
/// Threads:  `resolve` from any; `done` is called from a resolving thread, or from `resolve`
/// itself. Limits:   `threads_max` lookups at once, kWaitingMax waiting, 64 addresses a name.
/// Threads are made as they are needed and end after ten idle seconds. Lifetime: the destructor
/// calls no `done` after it has returned. It waits at most a second for lookups under way; what
/// takes longer ends by itself.
class Resolver {
public:
    /// Owns all it uses: it may outlive the resolver.
    using Lookup = std::function<Result<std::vector<Address>>(const std::string& name)>;
    using Done = std::function<void(Result<std::vector<Address>>)>;
    static constexpr std::size_t kWaitingMax = 4'096;
    static constexpr std::size_t kAddressesMax = 64;

    /// @param lookup  empty: the system's resolver
    Resolver(unsigned threads_max, Lookup lookup);
    ~Resolver();
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;

    /// Calls `done` exactly once, unless the resolver ends before.
    /// @param give_up_at  not begun afterwards; a lookup that has begun goes on
    /// @error Errc::unavailable  No such name, no address, too many addresses, too many waiting.
    /// @error Errc::timeout      `give_up_at` came first.
    void resolve(std::string name, std::chrono::steady_clock::time_point give_up_at, Done done);

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace annal
