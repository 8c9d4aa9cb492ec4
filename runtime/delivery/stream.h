#pragma once

#include <memory>
#include <string>

#include "runtime/core/task.h"
#include "runtime/delivery/shipment.h"
#include "runtime/delivery/stream_definition.h"

namespace boost::asio {
class thread_pool;
}

namespace annal {

/// Where a stream stands on this node; a consistent copy.
struct StreamStatus {
    std::string id, name, project;
    /// starting, active, retrying, blocked (somebody has to mend the destination; tried again now
    /// and then), failed (likewise, and not tried until somebody says so), standby, stopped, done
    std::string state;
    Seq cursor_seq = kNoSeq;
    Seq settled_seq = kNoSeq;  ///< nothing up to here is to be sent; the cursor may follow later
    std::int64_t lag_events = 0;
    double lag_seconds = 0;
    std::string last_error;  ///< empty: the last delivery succeeded
};

/// Who keeps a stream's durable state and hears what the stream can't decide. Without one, a stream
/// that can't go on tries again, slowly.
///
/// Threads: called on the stream's strand.
class StreamKeeper {
public:
    virtual ~StreamKeeper() = default;
    /// Makes it durable that the stream has stopped because of `why`, and tells people. The stream
    /// sends nothing more; whoever starts it again makes a new one.
    /// @param fence  of the lease under which it was delivering
    /// @error  It could not be written; the stream will say so again.
    [[nodiscard]] virtual Task<Result<void>> stream_failed(
        StreamDefinition stream, std::int64_t fence, std::string why
    ) = 0;
    /// A replay has sent its last event.
    [[nodiscard]] virtual Task<Result<void>> replay_done(
        StreamDefinition stream, std::int64_t fence
    ) = 0;
    /// This node may not have heard yet that the stream is to stop: no attempt begins meanwhile.
    [[nodiscard]] virtual bool is_out_of_date() const = 0;
};

/// An ordered subscription of one project to one sink instance: scan → encode → plan → send →
/// commit the cursor, one batch in flight.
///
/// Of the nodes that share a store one delivers: the holder of the lease with the subscription's
/// name. The others stand by and take over when it ends. Every commit carries the lease's fence, so
/// a node that lost it without knowing changes nothing; it drops what it has in hand and stands by.
///
/// The cursor is durable and never passes an event that the destination has not acknowledged, a
/// recorded dead letter counting as acknowledged. The plan of a batch is durable before the first
/// attempt: a retry, also after a crash or on another node, sends the identical bytes, unless the
/// events themselves, the encoder or the stream's settings have changed since; that is recorded as
/// audit_stream.replanned. What the destination says it holds already is not sent again. Of a batch
/// that is refused as a whole the refused event is found by halving.
///
/// Threads: `start`, `stop`, `redrive` and `status` from any; sink calls run one at a time on
/// `sink_pool`, where they may block. Lifetime: until `stop` has returned.
class Stream {
public:
    /// @param keeper  outlives the stream; null: see StreamKeeper
    Stream(
        StreamDefinition definition,
        Outlet outlet,
        HostEnvironment& environment,
        boost::asio::thread_pool& sink_pool,
        StreamKeeper* keeper = nullptr
    );
    ~Stream();

    void start();
    /// Asks it to end; `stop` waits for that. No attempt begins afterwards.
    void begin_stop();
    /// Ends after the delivery in flight, whose outcome is still committed, and releases the lease.
    [[nodiscard]] Task<void> stop();
    /// Looks for dead letters that were asked for again.
    void redrive();
    [[nodiscard]] const StreamDefinition& definition() const;
    /// Of an attempt: what it is answered after that counts no more.
    [[nodiscard]] std::chrono::microseconds timeout() const;
    [[nodiscard]] StreamStatus status() const;

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace annal
