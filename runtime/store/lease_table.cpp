#include "runtime/store/lease_table.h"

namespace annal {

Lease LeaseTable::lease(const LeaseRequest& request, Time now) {
    const auto [at, is_new] = held_.try_emplace({request.project, request.name});
    Held& held = at->second;
    const bool own = !is_new && held.owner == request.owner;
    if (!is_new && !own && now < held.until) {
        // Rounded up: who waits so long finds it over.
        return {false, held.fence, std::chrono::ceil<std::chrono::milliseconds>(held.until - now)};
    }
    if (!own) {
        held.owner = request.owner;
        held.fence = ++last_fence_;
    }
    held.until = now + request.ttl;
    return {true, held.fence, request.ttl};
}

void LeaseTable::release(
    const std::string& project, const std::string& name, const std::string& owner
) {
    const auto found = held_.find({project, name});
    if (found != held_.end() && found->second.owner == owner) held_.erase(found);
}

Result<void> LeaseTable::check(const std::string& project, const CursorMove& move) const {
    const auto found = held_.find({project, move.subscription});
    return check_fence(move, found == held_.end() ? 0 : found->second.fence);
}

Result<void> check_fence(const CursorMove& move, std::int64_t current) {
    if (move.fence == current) return ok();
    return Error{
        Errc::conflict,
        "the lease on " + move.subscription + " was lost: fence " + std::to_string(move.fence) +
            " is not the current one"};
}

Result<void> check_forward(const CursorMove& move, Seq stored) {
    if (move.to >= stored) return ok();
    return Error{
        Errc::conflict,
        "the cursor of " + move.subscription + " is at " + std::to_string(stored) +
            " already and does not go back to " + std::to_string(move.to)};
}

}  // namespace annal
