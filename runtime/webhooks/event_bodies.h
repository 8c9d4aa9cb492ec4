#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <string>

#include "runtime/core/clock.h"
#include "runtime/store/event_store.h"

namespace annal {

/// What is sent of an event: the same bytes to every endpoint.
struct EventBody {
    std::string event_id, action, text;
};

/// The bodies of a project's events, rendered from the store when they are wanted, and kept for a
/// moment since many endpoints want the same one.
///
/// Nothing is kept for longer than kKeptFor: what was deleted or erased in the log is not sent any
/// more after that. Limits: kBytesMax. Threads: one at a time.
class EventBodies {
public:
    static constexpr std::int64_t kKeptForUs = 2 * kSecondUs;
    static constexpr std::size_t kBytesMax = 16U << 20;
    using Shared = std::shared_ptr<const EventBody>;

    EventBodies(EventStore& store, const Clock& clock, std::string project)
        : store_(store), clock_(clock), project_(std::move(project)) {}

    /// Forgets all: the log may be another one now.
    void clear();
    /// Of an event that was just read.
    void add(const Event& event);
    /// Null: there is no such event (any more).
    /// @param through  up to this seq events will be wanted next
    [[nodiscard]] Task<Result<Shared>> get(Seq seq, Seq through);

private:
    struct Kept {
        Seq seq;
        std::int64_t at_us;
    };
    void forget_old();

    EventStore& store_;
    const Clock& clock_;
    const std::string project_;
    std::map<Seq, Shared> bodies_;
    std::list<Kept> order_;  // oldest first
    std::size_t bytes_ = 0;
};

}  // namespace annal
