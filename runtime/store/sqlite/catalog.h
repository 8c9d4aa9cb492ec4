#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "runtime/event/seal.h"
#include "runtime/store/event_store.h"
#include "runtime/store/sqlite/segment.h"

namespace annal::sqlite {

/// The events of one project in one segment.
struct Span {
    std::shared_ptr<Segment> segment;
    ProjectNumber pid = 0;
    Seq first_seq = 0, last_seq = kNoSeq;
    TimeUs first_at = 0, last_at = 0;
    Digest digest{};  ///< of its last batch
    std::int64_t tombstones = 0;
};

/// One project's log, as of one moment.
struct LogView {
    Seq first_seq = 0;
    LogHead head;
    std::shared_ptr<const std::vector<Span>> closed;  ///< ascending; never null
    std::optional<Span> open;                         ///< in the newest segment

    /// Oldest span first. `closed`, then `open`.
    [[nodiscard]] std::size_t spans() const { return closed->size() + (open ? 1 : 0); }
    [[nodiscard]] const Span& span(std::size_t i) const {
        return i < closed->size() ? (*closed)[i] : *open;
    }
    /// Null: the log does not reach there (any more).
    [[nodiscard]] const Span* span_of(Seq seq) const;
};

/// Which segments there are and what each holds: in memory, rebuilt when the store opens.
///
/// Threads: the writer changes it, anyone reads.
class Catalog {
public:
    [[nodiscard]] std::optional<LogView> view(const std::string& project) const;
    [[nodiscard]] std::vector<std::shared_ptr<Segment>> segments(
    ) const;  ///< ascending; the newest is the open one
    [[nodiscard]] std::shared_ptr<Segment> segment(SegmentNumber number) const;

    void add_segment(std::shared_ptr<Segment> segment);
    /// Adds a span at the end of a project's log. `open`: of the newest segment.
    void add_span(const std::string& project, Span span, bool open);
    /// A commit: the open span grows (or begins) and the head moves.
    void grow(
        const std::string& project,
        const std::shared_ptr<Segment>& segment,
        ProjectNumber pid,
        Seq first,
        TimeUs first_at,
        const LogHead& head
    );
    void add_tombstone(const std::string& project, Seq seq);
    /// What the newest segment holds of each project.
    [[nodiscard]] std::vector<std::pair<std::string, Span>> open_spans() const;
    /// The newest segment takes no more events.
    void close_open();
    /// What lies wholly below it is forgotten, but not the segment that it is in.
    void set_floor(const std::string& project, Seq first_seq, const LogHead& head);
    /// Of each log that does not begin with its first event.
    [[nodiscard]] std::map<std::string, Seq> floors() const;
    /// Changes with each of them.
    [[nodiscard]] std::uint64_t floors_version() const;
    /// Each project that has events in the month, with its log as it will be without them.
    [[nodiscard]] std::vector<std::pair<std::string, LogView>> without(Month month) const;
    void drop(Month month);

private:
    struct Log {
        Seq first_seq = 0;
        LogHead head;
        std::shared_ptr<const std::vector<Span>> closed = std::make_shared<std::vector<Span>>();
        std::optional<Span> open;
    };
    [[nodiscard]] static LogView view_of(const Log& log);
    static void push(Log& log, Span span);

    mutable std::shared_mutex mutex_;
    std::map<std::string, Log> logs_;
    std::uint64_t floors_version_ = 0;
    std::map<SegmentNumber, std::shared_ptr<Segment>> segments_;
};

}  // namespace annal::sqlite
