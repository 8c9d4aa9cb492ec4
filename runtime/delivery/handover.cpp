#include "runtime/delivery/handover.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>

#include "runtime/core/crypto.h"
#include "runtime/core/task_impl.h"
#include "runtime/delivery/backoff.h"

namespace annal {
namespace asio = boost::asio;
namespace {

constexpr std::uint32_t kAttemptsMax = 5;
constexpr std::uint32_t kRetryAfterMsMax = 60'000;
constexpr std::chrono::milliseconds kLook{100};

Error cancelled() {
    return {Errc::cancelled, "the node stops"};
}

/// Of a report that is not "delivered" for all events.
std::string reason(const Settlement& settlement) {
    if (!settlement.why.empty()) return settlement.why;
    return settlement.rejected.empty() ? "the destination refuses it"
                                       : settlement.rejected.front().why;
}

}  // namespace

Handover::Handover(
    HostEnvironment& host,
    asio::thread_pool& sink_pool,
    SinkCalls::Strand strand,
    Addressee to,
    std::function<bool()> is_over
)
    : host_(host),
      strand_(std::move(strand)),
      calls_({std::move(to.sink), nullptr}, sink_pool, strand_),
      is_over_(std::move(is_over)) {
    definition_.project = std::move(to.project);
    definition_.id = definition_.known_as = std::move(to.known_as);
}

bool Handover::can_verify(const annal_component& sink) {
    const auto* table = static_cast<const annal_sink_v1*>(sink.vtable);
    return ANNAL_HAS(table, annal_sink_v1, encode) && ANNAL_HAS(table, annal_sink_v1, verify);
}

Task<Result<std::shared_ptr<const Shipment>>> Handover::hand_over(EventBatch events) {
    BOOST_OUTCOME_CO_TRY(
        std::shared_ptr<Shipment> shipment,
        co_await calls_.pack(definition_, std::move(events), false)
    );
    BOOST_OUTCOME_CO_TRYV(co_await insist(shipment, &SinkCalls::send));
    BOOST_OUTCOME_CO_TRYV(co_await insist(shipment, &SinkCalls::verify));
    co_return std::shared_ptr<const Shipment>(std::move(shipment));
}

Task<Result<void>> Handover::insist(std::shared_ptr<Shipment> shipment, Step step) {
    for (std::uint32_t number = 1;; ++number) {
        if (is_over_()) co_return cancelled();
        const Report report = co_await attempt(shipment, number, step);
        const Settlement settlement = settle(report, shipment->events().size());
        const bool taken =
            settlement.next == Settlement::Next::go_on && settlement.rejected.empty();
        if (taken) co_return ok();
        const bool may_pass = settlement.next == Settlement::Next::retry;
        if (!may_pass || number == kAttemptsMax)
            co_return Error{Errc::unavailable, reason(settlement)};
        const std::chrono::milliseconds asked{
            std::min(settlement.retry_after_ms, kRetryAfterMsMax)};
        co_await pause(std::max(backoff(number, random_u64()), asked));
    }
}

Task<Report> Handover::attempt(
    std::shared_ptr<Shipment> shipment, std::uint32_t number, Step step
) {
    auto signal = std::make_shared<asio::steady_timer>(strand_);
    Shipment::Attempt attempt;
    attempt.number = number;
    attempt.deadline_us = host_.clock->monotonic_us() + calls_.sink().manifest().timeout_us;
    attempt.cancelled = is_over_;
    attempt.reported = [signal] {
        asio::post(signal->get_executor(), [signal] { signal->cancel(); });
    };
    shipment->begin(std::move(attempt));
    (calls_.*step)(shipment, [over = is_over_] { return !over(); });
    // A sink that misses its deadline still holds the batch: nothing else may be sent before it
    // lets go.
    while (!shipment->is_reported()) {
        signal->expires_after(kLook);
        boost::system::error_code ignored;
        co_await signal->async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
    co_return shipment->report();
}

Task<void> Handover::pause(std::chrono::milliseconds time) {
    asio::steady_timer timer(strand_);
    const auto until = std::chrono::steady_clock::now() + time;
    while (!is_over_() && std::chrono::steady_clock::now() < until) {
        timer.expires_at(std::min(until, std::chrono::steady_clock::now() + kLook));
        boost::system::error_code ignored;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

}  // namespace annal
