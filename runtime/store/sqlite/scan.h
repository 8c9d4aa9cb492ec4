#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "runtime/store/event_store.h"
#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/reader.h"

namespace annal::sqlite {

using Deadline = std::chrono::steady_clock::time_point;

/// A bounded read over a project's log, in order.
struct Walk {
    const std::string& project;
    const Filter& filter;
    SeqRange range;
    bool tombstones = false;  ///< they are visited too, whatever the filter
    Deadline deadline;
    std::function<bool(const Event&)> visit;  ///< called with each match; false ends the walk

    // How it went.
    Seq scanned = kNoSeq;    ///< last seq looked at
    bool ended = false;      ///< nothing of the range is left
    std::uint32_t rows = 0;  ///< looked at one by one
};
/// Looks at one row or one chunk of candidates at least, so that a walk without time moves on all
/// the same.
/// @error Errc::unavailable  A segment in the range can't be read; the detail names it.
[[nodiscard]] Result<void> walk(Reader& reader, const LogView& log, Walk& walk);

/// The seqs whose created_at is in [from, before), within the readable log.
[[nodiscard]] Result<SeqRange> range_of(
    Reader& reader,
    const std::string& project,
    const LogView& log,
    std::optional<TimeUs> from,
    std::optional<TimeUs> before
);
/// First seq of `span` created at `at` or later; last_seq + 1 when there is none.
[[nodiscard]] Result<Seq> first_from(Reader& reader, const Span& span, TimeUs at);
/// Of an event of the span, erased or not. @error  damage: it is not there.
[[nodiscard]] Result<TimeUs> created_at(Reader& reader, const Span& span, Seq seq);
/// Erased events of a span, also those whose content has still to go, ascending.
[[nodiscard]] Result<std::vector<Seq>> tombstones_of(
    Reader& reader, const Span& span, Seq first, Seq last
);

[[nodiscard]] Result<ScanPage> scan_page(Reader& reader, const ScanRequest& request);
[[nodiscard]] Result<EventBatch> get_event(
    Reader& reader, const std::string& project, const EventId& id
);

}  // namespace annal::sqlite
