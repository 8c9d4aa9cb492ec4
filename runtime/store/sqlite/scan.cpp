#include "runtime/store/sqlite/scan.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/limits.h"
#include "runtime/store/searched_text.h"
#include "runtime/store/sqlite/candidates.h"
#include "runtime/store/sqlite/row.h"

namespace annal::sqlite {
namespace {

constexpr std::uint32_t kRowsBetweenClocks = 64;
constexpr std::size_t kFirstChunk = 64;
constexpr std::size_t kLargestChunk = 4'096;

const std::string kRow = "SELECT " + row_columns() + " FROM events WHERE key = ?";
const std::string kNewestRows =
    "SELECT " + row_columns() + " FROM events WHERE key BETWEEN ? AND ? ORDER BY key DESC";
const std::string kOldestRows =
    "SELECT " + row_columns() + " FROM events WHERE key BETWEEN ? AND ? ORDER BY key";
// kSearchedColumns.
constexpr const char* kNewestTexts =
    "SELECT key, action, actor_id, target_id, description FROM events WHERE key BETWEEN ? AND ? "
    "ORDER BY key DESC";
constexpr const char* kOldestTexts =
    "SELECT key, action, actor_id, target_id, description FROM events WHERE key BETWEEN ? AND ? "
    "ORDER BY key";
constexpr const char* kCreatedAt = "SELECT created_at FROM events WHERE key = ?";
constexpr const char* kTombstones =
    "SELECT key FROM events WHERE key BETWEEN ? AND ? AND deleted = 1";
constexpr const char* kIndexedTombstones =
    "SELECT key FROM events INDEXED BY events_deleted WHERE deleted = 1 AND key BETWEEN ? AND ?";

Error missing(const std::string& project, Seq seq) {
    return damage(
        "event " + std::to_string(seq) + " of project " + project +
        " is missing; restore the data directory from a backup"
    );
}

/// Finds out quickly that a row can't hold a text: both are in lower case, and memmem does the
/// rest.
class TextProbe {
public:
    explicit TextProbe(std::string_view needle) { append_ascii_lower(needle_, needle); }

    bool may_match(const Query& row, int first, int last) {
        for (int column = first; column <= last; ++column) {
            haystack_.clear();
            append_ascii_lower(haystack_, row.text(column).view());
            if (::memmem(haystack_.data(), haystack_.size(), needle_.data(), needle_.size()) !=
                nullptr) {
                return true;
            }
        }
        return needle_.empty();
    }

private:
    std::string needle_, haystack_;
};

/// One segment's part of a walk.
class SpanWalk {
public:
    SpanWalk(Reader& reader, const Span& span, Walk& walk, SeqRange range)
        : reader_(reader),
          span_(span),
          walk_(walk),
          range_(range),
          // Before any row is read: see Segment::erasing.
          erasing_(span.segment->erasing()) {}

    /// Whether the walk goes on beyond this span.
    Result<bool> run() {
        BOOST_OUTCOME_TRY(reader_.identify(walk_.project, span_));
        if (walk_.filter.matches_all()) {
            return all_rows();
        }
        BOOST_OUTCOME_TRY(
            auto candidates, Candidates::choose(reader_, span_, walk_.filter, range_)
        );
        if (candidates.all_rows()) {
            return walk_.filter.text && !walk_.tombstones ? all_texts() : all_rows();
        }
        if (walk_.tombstones) {
            BOOST_OUTCOME_TRY(auto seqs, tombstones_of(reader_, span_, range_.first, range_.last));
            tombstones_ = std::move(seqs);
        }
        return by_candidates(candidates);
    }

private:
    Result<bool> all_rows() {
        BOOST_OUTCOME_TRY(auto* db, reader_.events(span_.segment));
        BOOST_OUTCOME_TRY(auto rows, db->query(range_.newest_first ? kNewestRows : kOldestRows));
        rows.bind_all(row_key(span_.pid, range_.first), row_key(span_.pid, range_.last));
        Seq expected = range_.newest_first ? range_.last : range_.first;
        while (true) {
            BOOST_OUTCOME_TRY(const bool row, rows.next());
            if (!row) {
                return at_end(expected);
            }
            if (seq_of(rows.integer(0)) != expected) {
                return missing(walk_.project, expected);
            }
            expected += range_.newest_first ? -1 : 1;
            if (!look(rows) || (walk_.rows % kRowsBetweenClocks == 0 && used_up())) {
                return false;
            }
        }
    }

    /// The rows have come to an end before `expected`; that must be the end of the range.
    Result<bool> at_end(Seq expected) const {
        const bool all = range_.newest_first ? expected < range_.first : expected > range_.last;
        if (!all) {
            return missing(walk_.project, expected);
        }
        return true;
    }

    // The text is the costly part of such a filter, so only rows that have it are read whole.
    Result<bool> all_texts() {
        TextProbe probe(*walk_.filter.text);
        BOOST_OUTCOME_TRY(auto* db, reader_.events(span_.segment));
        BOOST_OUTCOME_TRY(auto rows, db->query(range_.newest_first ? kNewestTexts : kOldestTexts));
        rows.bind_all(row_key(span_.pid, range_.first), row_key(span_.pid, range_.last));
        Seq expected = range_.newest_first ? range_.last : range_.first;
        while (true) {
            BOOST_OUTCOME_TRY(const bool row, rows.next());
            if (!row) {
                return at_end(expected);
            }
            if (seq_of(rows.integer(0)) != expected) {
                return missing(walk_.project, expected);
            }
            expected += range_.newest_first ? -1 : 1;
            if (probe.may_match(rows, 1, 4)) {
                BOOST_OUTCOME_TRY(const bool more, look_at({seq_of(rows.integer(0))}));
                if (!more) {
                    return false;
                }
            } else {
                ++walk_.rows;
                walk_.scanned = seq_of(rows.integer(0));
            }
            if (walk_.rows % kRowsBetweenClocks == 0 && used_up()) {
                return false;
            }
        }
    }

    Result<bool> by_candidates(Candidates& candidates) {
        SeqRange left = range_;
        for (std::size_t chunk = kFirstChunk; !left.empty();
             chunk = std::min(chunk * 4, kLargestChunk)) {
            BOOST_OUTCOME_TRY(auto list, candidates.next(left, chunk));
            SeqRange covered = left;
            if (!list.complete) {
                (left.newest_first ? covered.first : covered.last) = list.seqs.back();
            }
            add_tombstones(list.seqs, covered);
            BOOST_OUTCOME_TRY(const bool more, look_at(list.seqs));
            if (!more) {
                return false;
            }
            walk_.scanned = left.newest_first ? covered.first : covered.last;
            (left.newest_first ? left.last : left.first) =
                left.newest_first ? covered.first - 1 : covered.last + 1;
            if (used_up()) {
                return false;
            }
        }
        return true;
    }

    void add_tombstones(std::vector<Seq>& seqs, const SeqRange& covered) {
        const auto begin = std::lower_bound(tombstones_.begin(), tombstones_.end(), covered.first);
        const auto end = std::upper_bound(begin, tombstones_.end(), covered.last);
        seqs.insert(seqs.end(), begin, end);
        std::sort(seqs.begin(), seqs.end());
        seqs.erase(std::unique(seqs.begin(), seqs.end()), seqs.end());
        if (covered.newest_first) {
            std::reverse(seqs.begin(), seqs.end());
        }
    }

    Result<bool> look_at(const std::vector<Seq>& seqs) {
        BOOST_OUTCOME_TRY(auto* db, reader_.events(span_.segment));
        for (const Seq seq : seqs) {
            BOOST_OUTCOME_TRY(auto rows, db->query(kRow));
            rows.bind_all(row_key(span_.pid, seq));
            BOOST_OUTCOME_TRY(const bool row, rows.next());
            if (!row) {
                return missing(walk_.project, seq);
            }
            if (!look(rows) || (walk_.rows % kRowsBetweenClocks == 0 && used_up())) {
                return false;
            }
        }
        return true;
    }

    /// Whether to go on.
    bool look(const Query& row) {
        read_row(row, walk_.project, erasing_.get(), event_);
        ++walk_.rows;
        walk_.scanned = event_.seq;
        const bool wanted = event_.deleted ? walk_.tombstones : walk_.filter.matches(event_);
        return !wanted || walk_.visit(event_);
    }

    [[nodiscard]] bool used_up() const {
        return walk_.rows >= kScanWindowSeqs || std::chrono::steady_clock::now() >= walk_.deadline;
    }

    Reader& reader_;
    const Span& span_;
    Walk& walk_;
    const SeqRange range_;
    const std::shared_ptr<const Segment::Keys> erasing_;
    std::vector<Seq> tombstones_;
    Event event_;
};

SeqRange overlap(const SeqRange& range, const Span& span) {
    return {
        std::max(range.first, span.first_seq),
        std::min(range.last, span.last_seq),
        range.newest_first};
}

bool dropped_meanwhile(const Reader& reader, const std::string& project, Seq seq) {
    const auto now = reader.catalog.view(project);
    return !now || seq < now->first_seq;
}

Result<bool> walk_span(Reader& reader, const Span& span, const SeqRange& part, Walk& walk) {
    auto more = SpanWalk(reader, span, walk, part).run();
    if (more.has_error() && dropped_meanwhile(reader, walk.project, part.last)) {
        // Its files went while it was read; what it held is hidden, so there is nothing to find.
        return true;
    }
    if (more.has_error()) {
        return reader.unreadable(walk.project, span, more.error());
    }
    return more;
}

TimeUs bound(std::optional<TimeUs> at, TimeUs fallback) {
    return at.value_or(fallback);
}

/// First seq of the log created at `at` or later; head + 1 when there is none.
Result<Seq> first_in_log(
    Reader& reader, const std::string& project, const LogView& log, TimeUs at
) {
    std::size_t low = 0, high = log.spans();
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (log.span(middle).last_at < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == log.spans()) {
        return log.head.seq + 1;
    }
    auto first = first_from(reader, log.span(low), at);
    if (first.has_error()) {
        return reader.unreadable(project, log.span(low), first.error());
    }
    return first;
}

}  // namespace

Result<void> walk(Reader& reader, const LogView& log, Walk& walk) {
    const bool newest_first = walk.range.newest_first;
    const std::size_t spans = log.spans();
    Seq expected = newest_first ? walk.range.last : walk.range.first;
    for (std::size_t i = 0; i < spans; ++i) {
        const Span& span = log.span(newest_first ? spans - 1 - i : i);
        const SeqRange part = overlap(walk.range, span);
        if (part.empty()) {
            continue;
        }
        if ((newest_first ? part.last : part.first) != expected) {
            return missing(walk.project, expected);
        }
        BOOST_OUTCOME_TRY(const bool more, walk_span(reader, span, part, walk));
        if (!more) {
            walk.ended = walk.scanned == (newest_first ? walk.range.first : walk.range.last);
            return ok();
        }
        walk.scanned = newest_first ? part.first : part.last;
        expected = newest_first ? part.first - 1 : part.last + 1;
        const bool late =
            walk.rows >= kScanWindowSeqs || std::chrono::steady_clock::now() >= walk.deadline;
        if (late && walk.scanned != (newest_first ? walk.range.first : walk.range.last)) {
            return ok();
        }
    }
    const bool all = newest_first ? expected < walk.range.first : expected > walk.range.last;
    if (!all) {
        return missing(walk.project, expected);
    }
    walk.ended = true;
    return ok();
}

Result<TimeUs> created_at(Reader& reader, const Span& span, Seq seq) {
    BOOST_OUTCOME_TRY(auto* db, reader.events(span.segment));
    BOOST_OUTCOME_TRY(auto rows, db->query(kCreatedAt));
    rows.bind_all(row_key(span.pid, seq));
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    if (!row) {
        return damage(
            span.segment->path.string() + " lacks event " + std::to_string(seq) +
            "; restore it from a backup"
        );
    }
    return rows.integer(0);
}

Result<Seq> first_from(Reader& reader, const Span& span, TimeUs at) {
    if (at <= span.first_at) {
        return span.first_seq;
    }
    if (at > span.last_at) {
        return span.last_seq + 1;
    }
    Seq low = span.first_seq, high = span.last_seq;
    while (low < high) {
        const Seq middle = low + (high - low) / 2;
        BOOST_OUTCOME_TRY(const TimeUs created, created_at(reader, span, middle));
        if (created < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

Result<SeqRange> range_of(
    Reader& reader,
    const std::string& project,
    const LogView& log,
    std::optional<TimeUs> from,
    std::optional<TimeUs> before
) {
    SeqRange range{log.first_seq, log.head.seq};
    if (bound(from, INT64_MIN) >= bound(before, INT64_MAX)) {
        range.last = range.first - 1;
        return range;
    }
    if (from && log.head.at != kNoTime) {
        BOOST_OUTCOME_TRY(const auto first, first_in_log(reader, project, log, *from));
        range.first = std::max(range.first, first);
    }
    if (before && log.head.at != kNoTime) {
        BOOST_OUTCOME_TRY(const auto end, first_in_log(reader, project, log, *before));
        range.last = std::min(range.last, end - 1);
    }
    return range;
}

Result<std::vector<Seq>> tombstones_of(Reader& reader, const Span& span, Seq first, Seq last) {
    const auto erasing = span.segment->erasing();
    if (span.tombstones == 0 && erasing == nullptr) {
        return std::vector<Seq>();
    }
    if (const auto postings = span.segment->postings()) {
        return postings->tombstones(span.pid, first, last);
    }
    std::vector<Seq> seqs;
    BOOST_OUTCOME_TRY(auto* db, reader.events(span.segment));
    BOOST_OUTCOME_TRY(
        auto rows, db->query(span.segment->indexed ? kIndexedTombstones : kTombstones)
    );
    const std::int64_t first_key = row_key(span.pid, first), last_key = row_key(span.pid, last);
    rows.bind_all(first_key, last_key);
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            break;
        }
        seqs.push_back(seq_of(rows.integer(0)));
    }
    if (erasing != nullptr) {
        for (auto i = erasing->lower_bound(first_key); i != erasing->end(); ++i) {
            if (i->first > last_key) {
                break;
            }
            if (i->second == Segment::kWhole) {
                seqs.push_back(seq_of(i->first));
            }
        }
    }
    std::sort(seqs.begin(), seqs.end());
    seqs.erase(std::unique(seqs.begin(), seqs.end()), seqs.end());
    return seqs;
}

namespace {

void note_scan(const ReadMetrics& metrics, const Walk& walk, bool has_room) {
    metrics.rows.record(walk.rows);
    Metric& end = walk.ended ? metrics.ended_by_log
                             : (has_room ? metrics.ended_by_budget : metrics.ended_by_limit);
    end.record(1);
}

}  // namespace

Result<ScanPage> scan_page(Reader& reader, const ScanRequest& request) {
    ScanPage page;
    page.scanned = request.after.value_or(kNoSeq);
    page.exhausted = true;
    const auto log = reader.catalog.view(request.project);
    if (!log || log->head.seq == kNoSeq) {
        return page;
    }
    BOOST_OUTCOME_TRY(
        auto range,
        range_of(reader, request.project, *log, request.filter.from, request.filter.before)
    );
    range.newest_first = request.newest_first;
    if (request.after && request.newest_first) {
        range.last = std::min(range.last, *request.after - 1);
    } else if (request.after) {
        range.first = std::max(range.first, *request.after + 1);
    }
    if (range.empty()) {
        return page;
    }
    const std::size_t limit = std::clamp<std::size_t>(request.limit, 1, kPageMax);
    Walk walking{
        request.project,
        request.filter,
        range,
        request.tombstones,
        std::chrono::steady_clock::now() + request.budget,
        [&](const Event& event) {
            keep(event, request.project, page.batch);
            return page.batch.events.size() < limit;
        }};
    BOOST_OUTCOME_TRY(walk(reader, *log, walking));
    page.scanned = walking.scanned;
    page.exhausted = walking.ended;
    note_scan(reader.metrics, walking, page.batch.events.size() < limit);
    return page;
}

Result<EventBatch> get_event(Reader& reader, const std::string& project, const EventId& id) {
    const Error absent{Errc::not_found, "no event " + id.text() + " in this project"};
    const auto log = reader.catalog.view(project);
    const TimeUs at = id.created_at();
    if (!log || log->head.seq == kNoSeq || at > log->head.at) {
        return absent;
    }
    BOOST_OUTCOME_TRY(const auto seq, first_in_log(reader, project, *log, at));
    EventBatch found;
    const Filter everything;
    Walk walking{project, everything, {seq, seq}, false, Deadline::max(), [&](const Event& event) {
                     if (event.id == id) {
                         keep(event, project, found);
                     }
                     return false;
                 }};
    if (seq >= log->first_seq) {
        BOOST_OUTCOME_TRY(walk(reader, *log, walking));
    }
    if (found.events.empty()) {
        return absent;
    }
    return found;
}

}  // namespace annal::sqlite
