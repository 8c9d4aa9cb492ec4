#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "annal/abi.h"

namespace annal {

/// What a destination makes of an event. Whatever a sink says that is not understood is `retry`.
enum class Verdict { delivered, retry, reject, pause };
[[nodiscard]] const char* word(Verdict verdict);

/// A sink's report on one attempt: a verdict for all events, and those that fared otherwise.
struct Report {
    struct Exception {
        Verdict verdict = Verdict::retry;
        std::string detail;
    };
    Verdict fallback = Verdict::retry;
    std::string detail;  ///< why; empty when all is well
    std::uint32_t retry_after_ms = 0;
    std::map<std::size_t, Exception> exceptions;  ///< by index in the batch

    /// From what crossed the boundary; never trusts it. An index outside the batch makes the whole
    /// a retry.
    [[nodiscard]] static Report of(
        std::uint32_t fallback,
        const annal_verdict* exceptions,
        std::uint32_t count,
        const annal_error* error,
        std::size_t events
    );
    [[nodiscard]] static Report retry(std::string why);
};

/// What follows from a report for a batch in order.
///
/// Events are over with from the front: those that were taken, and those that the destination
/// refuses by name. The first that is neither decides what happens next. What the destination has
/// said already of events behind that one is kept, so that none of them is sent again.
struct Settlement {
    struct Rejected {
        std::size_t index = 0;
        std::string why;
    };
    std::size_t settled = 0;         ///< leading events that are over with
    std::vector<Rejected> rejected;  ///< those of them that the destination refused

    enum class Next {
        go_on,   ///< all are over with
        retry,   ///< the rest again, later
        bisect,  ///< the rest holds an event that is refused; which one is not known
        fail,    ///< nothing until somebody mends the destination or the configuration
    };
    Next next = Next::go_on;
    std::string why;
    std::uint32_t retry_after_ms = 0;
    std::map<std::size_t, Report::Exception> foretold;  ///< verdicts beyond `settled`, by index
};

/// @param events  how many the batch has; at least 1. A batch of one that is refused as a whole is
/// that event's refusal.
[[nodiscard]] Settlement settle(const Report& report, std::size_t events);

}  // namespace annal
