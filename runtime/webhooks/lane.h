#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <deque>
#include <memory>
#include <optional>
#include <set>

#include "runtime/core/task_impl.h"
#include "runtime/webhooks/endpoint_state.h"
#include "runtime/webhooks/pace.h"
#include "runtime/webhooks/webhook_delivery.h"
#include "runtime/webhooks/webhook_endpoint.h"

namespace annal {

/// Wakes the one coroutine that waits for it; a wake-up before the wait ends it at once. On a
/// strand.
class WakeUp {
public:
    using Strand = boost::asio::strand<boost::asio::any_io_executor>;
    explicit WakeUp(const Strand& strand) : timer_(strand) {}

    void wake() {
        woken_ = true;
        timer_.cancel();
    }
    Task<void> wait_for(std::chrono::microseconds most) {
        if (!woken_) {
            timer_.expires_after(most);
            boost::system::error_code ignored;
            co_await timer_.async_wait(
                boost::asio::redirect_error(boost::asio::use_awaitable, ignored)
            );
        }
        woken_ = false;
    }

private:
    boost::asio::steady_timer timer_;
    bool woken_ = false;
};

/// What is to be sent next.
struct Place {
    QueuePlace at;
    WebhookDelivery delivery;  ///< as it was before the attempt
};

/// One endpoint of a worker: the beginning of its queue, and how fast it is sent to. On the
/// worker's strand; of one tenure.
struct Lane {
    Lane(const WakeUp::Strand& strand, WebhookEndpoint e) : endpoint(std::move(e)), wake(strand) {}

    WebhookEndpoint endpoint;
    EndpointState state;
    std::optional<SigningSecrets> secrets;  ///< of `endpoint`; empty: not opened yet
    Pace pace;
    std::deque<Place> fresh, due;
    std::set<Seq> held;       ///< in memory: in a deque, under way, or done and not committed
    std::string fresh_after;  ///< how far the fresh ones have been read
    bool fresh_anew = false;  ///< they are to be read from the beginning
    std::set<Seq> settled;    ///< while `reading`: what was committed meanwhile
    bool fresh_more = true;   ///< there may be others behind that
    bool reading = false;
    TimeUs next_due = 0;  ///< when the rest of the queue is to be looked at again
    bool due_turn = false;
    bool runs = false;
    std::shared_ptr<std::atomic<bool>> given_up = std::make_shared<std::atomic<bool>>(false);
    WakeUp wake;

    [[nodiscard]] bool takes(std::string_view action) const {
        return matches_any(endpoint.patterns, action);
    }
    [[nodiscard]] bool is_active() const {
        return endpoint.status == WebhookEndpoint::Status::active;
    }
};

}  // namespace annal
