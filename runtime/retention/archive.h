#pragma once

#include <boost/json/object.hpp>
#include <functional>
#include <string>

#include "runtime/core/result.h"
#include "runtime/core/task.h"
#include "runtime/store/event_store.h"

namespace annal {

/// What is to be kept: the events [first, last] of a project.
struct ArchiveRange {
    std::string project;
    Seq first = 0, last = 0;
    std::int64_t events = 0;  ///< that can be read; tombstones are not kept
};

/// Keeps what the store will not keep any longer.
///
/// Threads: one range at a time of each project.
class Archive {
public:
    virtual ~Archive() = default;
    /// The range is durable in the archive on return, read back from there, and has as many events
    /// as it should.
    /// @return  what tells people where it is, with "events" and "sha256" of its lines
    /// @error Errc::unavailable  The archive can't be written, or does not hold what was written.
    /// @error Errc::conflict     The store has not as many events there as it says.
    [[nodiscard]] virtual Task<Result<boost::json::object>> keep(ArchiveRange range) = 0;
};

/// Reads a range in its order, in pages; an event that is missing is an error.
class ArchiveReader {
public:
    /// @param is_over  asked before each page: whether to give up, Errc::cancelled
    ArchiveReader(EventStore& store, const ArchiveRange& range, std::function<bool()> is_over);
    /// What can be read of the next page; empty behind the last.
    [[nodiscard]] Task<Result<EventBatch>> next();
    /// The next page begins behind this event.
    void go_back_to(Seq seq);

private:
    [[nodiscard]] Error missing(Seq seq) const;

    EventStore& store_;
    const Seq last_;
    const std::function<bool()> is_over_;
    ScanRequest request_;
};

/// Errc::conflict where an archive has another number of events than the log.
[[nodiscard]] Result<void> check_count(const ArchiveRange& range, std::int64_t kept);

}  // namespace annal
