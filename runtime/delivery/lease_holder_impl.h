#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <functional>
#include <string>

#include "runtime/core/clock.h"
#include "runtime/core/task.h"
#include "runtime/store/event_store.h"

namespace annal {

/// One node's part in a lease that others want, too: asks for it, renews it while it has it, and
/// tells those who rely on it when they may not any more.
///
/// A tenure begins with `begin` and ends when the fence is another's or `drop` is called. Within
/// it the lease may run out, when the store does not answer for that long: nothing may be begun
/// then, but when the renewal comes through and nobody took the lease meanwhile, the tenure goes
/// on.
///
/// Threads: the strand's; `is_valid` and `is_lost` from any.
class LeaseHolder {
public:
    using Strand = boost::asio::strand<boost::asio::any_io_executor>;

    /// @param changed  Called, on the strand, after an answer that changes what this object says.
    LeaseHolder(
        EventStore& store,
        const Clock& clock,
        Strand strand,
        LeaseRequest request,
        std::function<void()> changed
    );

    /// Asks three times within each ttl, more often when the store fails. Ends after `leave`, with
    /// the lease released.
    [[nodiscard]] Task<void> keep();
    void leave();

    /// Begins a tenure. False: the lease is another's, or not known to be this node's.
    [[nodiscard]] bool begin();
    /// Ends the tenure, for the store has refused its fence. The next begins with the next answer.
    void drop();
    /// No tenure, or it is over.
    [[nodiscard]] bool is_lost() const { return lost_; }
    /// Within a tenure, and the lease has not run out: by the monotonic clock, counted from before
    /// the call that renewed it.
    [[nodiscard]] bool is_valid() const { return !lost_ && clock_.monotonic_us() < until_us_; }
    [[nodiscard]] std::int64_t fence() const { return fence_; }
    /// Another node had the lease at the last answer.
    [[nodiscard]] bool is_elsewhere() const { return elsewhere_; }
    /// Why the store did not answer the last time; empty: it did.
    [[nodiscard]] const std::string& trouble() const { return trouble_; }

private:
    Task<void> ask();
    void take_in(const Lease& lease, std::int64_t asked_us);
    Task<void> release();

    EventStore& store_;
    const Clock& clock_;
    const LeaseRequest request_;
    const std::function<void()> changed_;
    boost::asio::steady_timer timer_;
    bool leaving_ = false;
    bool elsewhere_ = false;
    std::int64_t fence_ = 0;
    std::string trouble_;
    std::atomic<bool> lost_{true};
    std::atomic<std::int64_t> until_us_{0};
};

}  // namespace annal
