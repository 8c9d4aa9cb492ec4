#include "runtime/delivery/lease_holder_impl.h"

#include <boost/asio/redirect_error.hpp>
#include <tuple>

#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"

namespace annal {
namespace asio = boost::asio;
namespace {

// Two answers may be lost before the lease is; those that fail at once are asked for again sooner.
constexpr int kAsksPerTtl = 3, kAsksPerTtlInTrouble = 10;

}  // namespace

LeaseHolder::LeaseHolder(
    EventStore& store,
    const Clock& clock,
    Strand strand,
    LeaseRequest request,
    std::function<void()> changed
)
    : store_(store),
      clock_(clock),
      request_(std::move(request)),
      changed_(std::move(changed)),
      timer_(std::move(strand)) {}

Task<void> LeaseHolder::keep() {
    while (!leaving_) {
        co_await ask();
        if (leaving_) break;
        timer_.expires_after(
            request_.ttl / (trouble_.empty() ? kAsksPerTtl : kAsksPerTtlInTrouble)
        );
        boost::system::error_code ignored;
        co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    co_await release();
}

void LeaseHolder::leave() {
    leaving_ = true;
    timer_.cancel();
}

bool LeaseHolder::begin() {
    if (clock_.monotonic_us() >= until_us_) return false;
    lost_ = false;
    return true;
}

void LeaseHolder::drop() {
    lost_ = true;
    until_us_ = 0;
}

Task<void> LeaseHolder::ask() {
    const std::int64_t asked_us = clock_.monotonic_us();
    LeaseRequest request = request_;
    const auto answer = co_await store_.lease(std::move(request));
    const auto look = [this] {
        const bool in_time = clock_.monotonic_us() < until_us_;
        return std::tuple(lost_.load(), in_time, elsewhere_, trouble_);
    };
    const auto before = look();
    if (answer.has_value()) {
        trouble_.clear();
        take_in(answer.value(), asked_us);
    } else {
        if (trouble_.empty()) {
            log::warn(
                "stream.lease_failed", {{"lease", request_.name}, {"error", answer.error().detail}}
            );
        }
        trouble_ = answer.error().detail;
    }
    if (look() != before) changed_();
}

void LeaseHolder::take_in(const Lease& lease, std::int64_t asked_us) {
    elsewhere_ = !lease.mine;
    if (!lease.mine) return drop();
    if (lease.fence != fence_) lost_ = true;
    fence_ = lease.fence;
    until_us_ = asked_us + lease.left.count() * 1'000;
}

Task<void> LeaseHolder::release() {
    const auto released =
        co_await store_.release_lease(request_.project, request_.name, request_.owner);
    if (released.has_error()) {
        log::warn(
            "stream.lease_not_released",
            {{"lease", request_.name}, {"error", released.error().detail}}
        );
    }
}

}  // namespace annal
