#pragma once

#include <chrono>
#include <map>
#include <string>
#include <utility>

#include "runtime/store/event_store.h"

namespace annal {

/// The leases of a store that one process has to itself: in memory, by the monotonic clock, as
/// `EventStore::lease` describes them.
///
/// Threads: one at a time, in turn with the commits, or a lease could change hands between the
/// check of a fence and the commit that relies on it.
class LeaseTable {
public:
    using Time = std::chrono::steady_clock::time_point;

    /// Fences are above `last_fence`.
    explicit LeaseTable(std::int64_t last_fence = 0) : last_fence_(last_fence) {}

    [[nodiscard]] Lease lease(
        const LeaseRequest& request, Time now = std::chrono::steady_clock::now()
    );
    void release(const std::string& project, const std::string& name, const std::string& owner);
    /// @error Errc::conflict  The fence of `move` is not the current one of its lease.
    [[nodiscard]] Result<void> check(const std::string& project, const CursorMove& move) const;

private:
    struct Held {
        std::string owner;
        std::int64_t fence = 0;
        Time until;
    };
    std::map<std::pair<std::string, std::string>, Held> held_;
    std::int64_t last_fence_;
};

/// @param current  the fence of the lease that `move` is under; 0: nobody holds it
/// @error Errc::conflict  It is not that of `move`.
[[nodiscard]] Result<void> check_fence(const CursorMove& move, std::int64_t current);
/// @error Errc::conflict  A fenced `move` goes below `stored`, where its subscription is.
[[nodiscard]] Result<void> check_forward(const CursorMove& move, Seq stored);

}  // namespace annal
