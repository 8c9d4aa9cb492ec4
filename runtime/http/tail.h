#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "runtime/http/exchange.h"
#include "runtime/plugin/instance.h"
#include "runtime/store/filter.h"

namespace annal::http {

struct TailRequest {
    Filter filter;
    /// Go on behind this seq; kNoSeq: from the first event. Not set: only what is yet to come.
    std::optional<Seq> after;
};

/// Live tails: the events of a project as Server-Sent Events, as they become durable.
///
/// A client gets each event once and in order; its `id` is the seq, so that a reconnecting client
/// goes on where it was. A message without data carries an id alone: at the start, and with a
/// heartbeat when the filter has passed events over. A tail without a filter shows a deleted event
/// as `event: deleted` with the tombstone, so that its receiver can check that nothing is missing;
/// a tail with one leaves it out, as lists do.
///
/// All tails of a project share one scan (`TailFeed`). A client that falls behind what the feed
/// keeps reads from the store by itself, kCatchUpsMax of all at one time, until it has caught up;
/// one that takes nothing for Limits::write_timeout_ms is cut by its session. So a client costs at
/// most one page beside the feed's buffer, however slow it is.
///
/// Commits wake a feed. Those of another node may go untold, when it dies before it can tell of
/// them; where there are other nodes each feed also looks by itself, once in kPollInterval.
///
/// Threads: any. Lifetime: `close`, then `drain`, before the store closes.
class TailHub {
public:
    /// Whether a key still opens anything: asked a few times a second, so it must not block.
    using KeyCheck = std::function<bool(const Principal&)>;

    /// Who appends to the store.
    enum class Nodes { one, many };

    static constexpr std::uint32_t kCatchUpsMax = 4;
    static constexpr std::chrono::seconds kPollInterval{5};

    TailHub(HostEnvironment& environment, Nodes nodes, KeyCheck in_force);
    ~TailHub();

    /// Answers `exchange` wholly; returns when the tail has ended: the client left, its key lost
    /// its force (within a second), or the hub closes. The last two end the answer cleanly.
    /// @error before the first byte, when nothing has been answered:
    ///        Errc::invalid      `after` lies beyond the newest event.
    ///        Errc::unavailable  There are Limits::tails_max already, or the hub is closed.
    [[nodiscard]] Task<Result<void>> run(
        std::string project, TailRequest request, std::shared_ptr<Exchange> exchange
    );

    /// Ends all tails, and takes no more.
    void close();
    /// Waits until no tail is left, and nothing reads for them.
    [[nodiscard]] Task<void> drain();

private:
    struct State;
    class Tail;
    std::shared_ptr<State> state_;
};

}  // namespace annal::http
