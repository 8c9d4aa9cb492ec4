#pragma once

#include <optional>
#include <string>

#include "runtime/store/event_store.h"

namespace annal {

/// What delivering has found out of an endpoint, as the node that delivers stores it. In rows of
/// their own, for nobody else writes them.
struct EndpointState {
    /// The seq of its creation event: it gets what comes later. kNoSeq: that was not reached yet.
    Seq start = kNoSeq;
    /// When the oldest attempt failed since which none has succeeded; kNoTime: the last succeeded.
    TimeUs failing_since = kNoTime;

    [[nodiscard]] std::string to_text() const;
    [[nodiscard]] static EndpointState from_text(std::string_view text);
    static constexpr const char* kSpace = "host.webhook_states";
};

/// A recovery under way: what an endpoint lacks of the events [next, until] is put into its queue.
struct Recovery {
    TimeUs since = kNoTime;
    Seq next = 0, until = kNoSeq;
    std::int64_t queued = 0;  ///< so far

    [[nodiscard]] std::string to_text() const;
    [[nodiscard]] static std::optional<Recovery> from_text(std::string_view text);
    static constexpr const char* kSpace = "host.webhook_recoveries";
};

}  // namespace annal
