#include "runtime/store/sqlite/counting.h"

#include <algorithm>
#include <map>

#include "runtime/core/limits.h"
#include "runtime/store/aggregate.h"
#include "runtime/store/passing.h"
#include "runtime/store/sqlite/candidates.h"

namespace annal::sqlite {
namespace {

using Counts = std::map<std::string, ActionCount>;

constexpr const char* kRollup =
    "SELECT action, sum(count), max(last_at) FROM rollup_hourly WHERE pid = ? AND hour >= ? "
    "GROUP BY action";
constexpr const char* kRows =
    "SELECT key, action, created_at FROM events WHERE key BETWEEN ? AND ? AND deleted = 0";

void add(Counts& counts, std::string_view action, std::int64_t count, TimeUs last_seen) {
    auto found = counts.find(std::string(action));
    if (found == counts.end()) {
        found = counts.emplace(std::string(action), ActionCount{std::string(action)}).first;
    }
    found->second.count += count;
    found->second.last_seen = std::max(found->second.last_seen, last_seen);
}

Result<void> add_rows(Reader& reader, const Span& span, Seq first, Seq last, Counts& counts) {
    const auto erasing = span.segment->erasing();
    BOOST_OUTCOME_TRY(auto* db, reader.events(span.segment));
    BOOST_OUTCOME_TRY(auto rows, db->query(kRows));
    rows.bind_all(row_key(span.pid, first), row_key(span.pid, last));
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return ok();
        }
        if (!Segment::is_whole(erasing.get(), rows.integer(0))) {
            add(counts, rows.text(1).view(), 1, rows.integer(2));
        }
    }
}

/// Whole hours from the rollup, what comes before the first whole hour from its rows.
Result<void> add_rollup(Reader& reader, const Span& span, Seq first, Counts& counts) {
    std::int64_t hour = 0;
    if (first > span.first_seq) {
        BOOST_OUTCOME_TRY(const TimeUs before, created_at(reader, span, first - 1));
        hour = before / kHourUs + 1;
        BOOST_OUTCOME_TRY(const auto end, first_from(reader, span, hour * kHourUs));
        BOOST_OUTCOME_TRY(add_rows(reader, span, first, end - 1, counts));
    }
    BOOST_OUTCOME_TRY(auto* db, reader.events(span.segment));
    BOOST_OUTCOME_TRY(auto rows, db->query(kRollup));
    rows.bind_all(span.pid, hour);
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return ok();
        }
        add(counts, rows.text(0).view(), rows.integer(1), rows.integer(2));
    }
}

Result<void> add_span(
    Reader& reader,
    const std::string& project,
    const Span& span,
    TimeUs since,
    Seq floor,
    Counts& counts
) {
    if (const auto postings = span.segment->postings()) {
        Counts found;
        postings->count_actions(
            span.pid, since, std::max(floor, span.first_seq), span.last_seq, found
        );
        for (const auto& [action, count] : found) {
            add(counts, action, count.count, count.last_seen);
        }
        return ok();
    }
    BOOST_OUTCOME_TRY(reader.identify(project, span));
    BOOST_OUTCOME_TRY(const auto begin, first_from(reader, span, since));
    const Seq first = std::max(begin, floor);
    // The rollup still counts what is being erased.
    if (span.segment->indexed && span.segment->erasing() == nullptr) {
        return add_rollup(reader, span, first, counts);
    }
    return add_rows(reader, span, first, span.last_seq, counts);
}

Result<std::int64_t> count_tombstones(Reader& reader, const LogView& log, const SeqRange& range) {
    std::int64_t count = 0;
    for (std::size_t i = 0; i < log.spans(); ++i) {
        const Span& span = log.span(i);
        const Seq first = std::max(range.first, span.first_seq);
        const Seq last = std::min(range.last, span.last_seq);
        if (first > last || span.tombstones == 0) {
            continue;
        }
        if (first == span.first_seq && last == span.last_seq) {
            count += span.tombstones;
            continue;
        }
        BOOST_OUTCOME_TRY(const auto seqs, tombstones_of(reader, span, first, last));
        count += static_cast<std::int64_t>(seqs.size());
    }
    return count;
}

/// Exact within one span, or what the deadline allowed.
Result<bool> count_span(
    Reader& reader,
    const std::string& project,
    const LogView& log,
    const Span& span,
    const Filter& filter,
    const SeqRange& range,
    Deadline deadline,
    std::int64_t& count
) {
    BOOST_OUTCOME_TRY(reader.identify(project, span));
    if (span.segment->erasing() == nullptr) {
        BOOST_OUTCOME_TRY(auto candidates, Candidates::choose(reader, span, filter, range));
        if (candidates.exact()) {
            BOOST_OUTCOME_TRY(const auto found, candidates.count(range));
            count += found;
            return true;
        }
    }
    SeqRange left = range;
    while (!left.empty()) {
        Walk walking{project, filter, left, false, deadline, [&](const Event&) {
                         ++count;
                         return true;
                     }};
        BOOST_OUTCOME_TRY(walk(reader, log, walking));
        if (!walking.ended && std::chrono::steady_clock::now() >= deadline) {
            return false;
        }
        left.last = walking.ended ? left.first - 1 : walking.scanned - 1;
    }
    return true;
}

}  // namespace

Result<std::vector<ActionCount>> count_actions(
    Reader& reader, const std::string& project, TimeUs since
) {
    Counts counts;
    const auto log = reader.catalog.view(project);
    for (std::size_t i = 0; log && i < log->spans(); ++i) {
        const Span& span = log->span(i);
        if (span.last_at < since) {
            continue;
        }
        auto added = add_span(reader, project, span, since, log->first_seq, counts);
        if (added.has_error()) {
            if (!span.segment->dropped) {
                return reader.unreadable(project, span, added.error());
            }
        }
    }
    std::vector<ActionCount> sorted;
    for (auto& [action, count] : counts) {
        sorted.push_back(std::move(count));
    }
    std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
        return a.count > b.count;
    });
    return sorted;
}

Result<Total> count_events(
    Reader& reader,
    const std::string& project,
    const Filter& filter,
    std::chrono::milliseconds budget
) {
    Total total;
    const Deadline deadline = std::chrono::steady_clock::now() + budget;
    const auto log = reader.catalog.view(project);
    if (!log || log->head.seq == kNoSeq) {
        return total;
    }
    BOOST_OUTCOME_TRY(
        const auto range, range_of(reader, project, *log, filter.from, filter.before)
    );
    if (filter.only_created_at()) {
        BOOST_OUTCOME_TRY(const auto erased, count_tombstones(reader, *log, range));
        total.count = std::max<Seq>(0, range.last - range.first + 1) - erased;
        return total;
    }
    for (std::size_t i = log->spans(); i-- > 0;) {
        const Span& span = log->span(i);
        const SeqRange part{
            std::max(range.first, span.first_seq), std::min(range.last, span.last_seq)};
        if (part.empty()) {
            continue;
        }
        auto exact = count_span(reader, project, *log, span, filter, part, deadline, total.count);
        if (exact.has_error()) {
            return reader.unreadable(project, span, exact.error());
        }
        total.exact = exact.value();
        const bool late = std::chrono::steady_clock::now() >= deadline;
        if (!total.exact || (late && part.first > range.first)) {
            total.exact = false;
            return total;
        }
    }
    return total;
}

Result<Seq> seek_by_time(
    Reader& reader, const std::string& project, const Filter& filter, std::int64_t skip
) {
    const auto log = reader.catalog.view(project);
    if (!log || log->head.seq == kNoSeq) {
        return kNoSeq;
    }
    BOOST_OUTCOME_TRY(
        const auto range, range_of(reader, project, *log, filter.from, filter.before)
    );
    return seq_behind(range.first, range.last, skip, [&](Seq first, Seq last) {
        return count_tombstones(reader, *log, {first, last});
    });
}

}  // namespace annal::sqlite
