#pragma once

#include <memory>
#include <string>

#include "runtime/core/task.h"
#include "runtime/plugin/instance.h"
#include "runtime/plugin/manifest.h"

namespace boost::asio {
class thread_pool;
}

namespace annal {

/// Where a stream stands; a consistent copy.
struct StreamStatus {
    std::string name;  ///< "<instance>/<trigger>"
    std::string project;
    std::string state;  ///< starting, active, retrying, blocked, standby, stopped
    Seq cursor_seq = kNoSeq;
    std::int64_t lag_events = 0;
    std::string last_error;  ///< empty: the last delivery succeeded
};

/// An ordered subscription of one project to one sink instance: scan → encode → send → commit the
/// cursor, one batch in flight.
///
/// Of the nodes that share a store one delivers: the holder of the lease with the subscription's
/// name. The others stand by and take over when it ends. Every move of the cursor carries the
/// lease's fence, so a node that lost it without knowing moves nothing; it drops what it has in
/// hand and stands by.
///
/// The cursor is durable and never passes an event that the destination has not acknowledged. A
/// retry sends the identical bytes. What the destination says it holds already (`position`) is not
/// sent again. A rejected event blocks the stream (it is tried again, slowly, and reported), for
/// skipping it would be silent loss.
///
/// Threads: `start`, `stop` and `status` from any; sink calls run one at a time on `sink_pool`,
/// where they may block. Lifetime: until `stop` has returned.
class Stream {
public:
    Stream(
        const EventsTrigger& trigger,
        std::shared_ptr<Instance> sink,
        HostEnvironment& environment,
        boost::asio::thread_pool& sink_pool
    );
    ~Stream();

    void start();
    /// Asks it to end; `stop` waits for that.
    void begin_stop();
    /// Ends after the delivery in flight, whose outcome is still committed, and releases the lease.
    [[nodiscard]] Task<void> stop();
    [[nodiscard]] StreamStatus status() const;

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace annal
