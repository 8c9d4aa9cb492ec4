#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "runtime/event/seal.h"
#include "runtime/store/event_store.h"
#include "runtime/store/postgres/connection.h"

namespace annal::postgres {

using Deadline = std::chrono::steady_clock::time_point;

struct SeqRange {
    Seq first = 0, last = kNoSeq;
    [[nodiscard]] bool empty() const { return first > last; }
};

/// One month of a project's log.
struct MonthPart {
    Month month;
    SeqRange range;       ///< what is readable of it
    bool sealed = false;  ///< takes no more events and has all indexes
    std::int64_t epoch = 0;
};

/// A project's log as it was when a read began. What is within `head` stays visible.
struct LogView {
    Seq first_seq = 0;
    LogHead head;
    std::vector<MonthPart> months;  ///< ascending; those that hold something readable

    [[nodiscard]] SeqRange all() const { return {first_seq, head.seq}; }
};

/// A transaction that only reads, from `begin` to the end of its life. Nothing is sent to a client
/// meanwhile.
class Reading {
public:
    explicit Reading(Connection& db) : db_(db) {}
    ~Reading();
    Reading(const Reading&) = delete;
    Reading& operator=(const Reading&) = delete;

    /// @param patience  for each statement
    [[nodiscard]] Result<void> begin(std::chrono::milliseconds patience);
    [[nodiscard]] Result<LogView> begin(
        const std::string& project, std::chrono::milliseconds patience
    );
    [[nodiscard]] Connection& db() { return db_; }

private:
    Connection& db_;
};

/// The part of `view` that may hold events created in [from, before): tight but for the batches at
/// its ends.
[[nodiscard]] Result<SeqRange> range_of(
    Connection& db,
    const std::string& project,
    const LogView& view,
    std::optional<TimeUs> from,
    std::optional<TimeUs> before
);
/// The readable events created in the filter's [from, before), exactly.
[[nodiscard]] Result<SeqRange> exact_range(
    Connection& db, const std::string& project, const LogView& view, const Filter& filter
);

}  // namespace annal::postgres
