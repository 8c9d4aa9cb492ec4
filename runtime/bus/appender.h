#pragma once

#include <functional>
#include <memory>
#include <string>

#include "runtime/core/clock.h"
#include "runtime/core/limits.h"
#include "runtime/core/metrics.h"
#include "runtime/store/event_store.h"

namespace annal {

/// The one way into the logs: bounded queues in front of the store's group commit, and wake-ups
/// behind it.
///
/// Requests that arrive while a commit is under way share the next one; an idle appender commits at
/// once. Nothing waits on a timer.
///
/// Threads: any. Lifetime: outlives every caller; `drain` before the store closes.
class Appender {
public:
    Appender(
        EventStore& store,
        const Clock& clock,
        const Limits& limits,
        Metrics& metrics,
        boost::asio::any_io_executor executor
    );
    ~Appender();

    /// Returns once the unit is durable, or has failed as a whole.
    ///
    /// @error Errc::busy         The project's share of the queue is full; nothing was written.
    /// @error Errc::unavailable  The node's queue is full, the wall clock jumped forward (see
    /// `confirm_clock`), or the store
    ///                           can't write; nothing was written.
    /// and what `EventStore::append` says. Not cancellable: the outcome of an accepted unit is
    /// always reported.
    [[nodiscard]] Task<AppendOutcome> append(AppendUnit unit);

    /// Calls `wake` after each commit that appended to `project` (empty: to any). Called on the
    /// appender's strand: must only post. The subscription ends with the returned handle.
    [[nodiscard]] std::shared_ptr<void> subscribe(std::string project, std::function<void()> wake);

    /// Accepts the wall clock as it is now, after it jumped forward by more than a minute against
    /// the monotonic clock.
    void confirm_clock();
    /// Why appends are refused right now; empty when they are not.
    [[nodiscard]] std::string refusal() const;

    /// Waits until everything accepted so far has been committed.
    [[nodiscard]] Task<void> drain();

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace annal
