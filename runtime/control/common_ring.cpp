#include "runtime/control/common_ring.h"

#include <algorithm>

#include "runtime/core/task_impl.h"

namespace annal::control {

Task<Result<void>> CommonRing::compare() {
    if (fingerprints_.empty()) co_return ok();
    BOOST_OUTCOME_CO_TRY(const std::string common, co_await stored());
    compared_with_ = common;
    if (std::find(fingerprints_.begin(), fingerprints_.end(), common) != fingerprints_.end())
        co_return ok();
    co_return Error{
        Errc::conflict,
        "is not the one that this database's other nodes have: copy theirs here, and keep a key "
        "that was replaced until `annal secrets rekey` has done its work"};
}

Task<Result<void>> CommonRing::look_again() {
    if (fingerprints_.empty()) co_return ok();
    BOOST_OUTCOME_CO_TRY(const std::string common, co_await stored());
    if (common == compared_with_ || common == fingerprints_.front()) co_return ok();
    co_return Error{
        Errc::conflict,
        "secrets are sealed under another key than this node's first: copy the other nodes' key "
        "ring and start it anew"};
}

Task<Result<void>> CommonRing::move_on() {
    if (fingerprints_.empty()) co_return ok();
    for (;;) {
        BOOST_OUTCOME_CO_TRY(std::string common, co_await stored());
        if (common == fingerprints_.front()) co_return ok();
        const auto replaced = co_await replace(std::move(common));
        if (replaced || replaced.error().code != Errc::conflict) co_return replaced;
    }
}

/// The first node's becomes it.
Task<Result<std::string>> CommonRing::stored() {
    for (;;) {
        BOOST_OUTCOME_CO_TRY(const auto found, co_await store_.kv_get(kSpace, "", kKey));
        if (found) co_return *found;
        const auto made = co_await replace({});
        if (!made && made.error().code != Errc::conflict) co_return made.error();
    }
}

Task<Result<void>> CommonRing::replace(std::string before) {
    AppendUnit unit;
    const auto guard = before.empty() ? KvOp::Kind::require_absent : KvOp::Kind::require_equals;
    unit.kv.push_back({guard, kSpace, "", kKey, std::move(before)});
    unit.kv.push_back({KvOp::Kind::put, kSpace, "", kKey, fingerprints_.front()});
    const std::span<const AppendUnit> units(&unit, 1);
    const auto outcomes = co_await store_.append(units);
    if (!outcomes.front()) co_return outcomes.front().error();
    co_return ok();
}

}  // namespace annal::control
