#include "runtime/store/sqlite/aggregation.h"

#include <algorithm>
#include <array>

#include "runtime/store/aggregate.h"

namespace annal::sqlite {
namespace {

constexpr std::uint32_t kRowsBetweenClocks = 4'096;
constexpr const char* kRollup =
    "SELECT hour, action, count FROM rollup_hourly WHERE pid = ? AND hour >= ? AND hour < ?";

/// Key, time, and what is grouped and counted, in the request's order.
std::string narrow_rows(const AggregateRequest& request) {
    std::string columns = "SELECT key, created_at";
    if (request.group_by) columns += ", " + std::string(name(*request.group_by));
    for (const Column column : request.unique) columns += ", " + std::string(name(column));
    return columns + " FROM events WHERE key BETWEEN ? AND ? AND deleted = 0";
}

class Aggregation {
public:
    Aggregation(Reader& reader, const AggregateRequest& request)
        : reader_(reader),
          request_(request),
          deadline_(std::chrono::steady_clock::now() + request.budget),
          by_action_alone_(
              request.unique.empty() && request.filter.only_created_at() &&
              (!request.group_by || request.group_by == Column::action)
          ),
          narrow_rows_(narrow_rows(request)),
          counts_(request) {}

    Result<std::vector<AggregateRow>> run() {
        const auto log = reader_.catalog.view(request_.project);
        if (!log || log->head.seq == kNoSeq) return std::vector<AggregateRow>();
        const Filter& filter = request_.filter;
        BOOST_OUTCOME_TRY(
            const auto range, range_of(reader_, request_.project, *log, filter.from, filter.before)
        );
        for (std::size_t i = 0; i < log->spans() && !counts_.failed(); ++i) {
            const Span& span = log->span(i);
            const SeqRange part{
                std::max(range.first, span.first_seq), std::min(range.last, span.last_seq), false};
            if (part.empty()) continue;
            auto added = add(*log, span, part);
            if (added.has_error() && !span.segment->dropped)
                return reader_.unreadable(request_.project, span, added.error());
            if (is_late_) return aggregate_ran_out_of_time();
        }
        return counts_.rows();
    }

private:
    Result<void> add(const LogView& log, const Span& span, const SeqRange& part) {
        // Before any row is read: see Segment::erasing.
        const auto erasing = span.segment->erasing();
        // Rows that are losing columns have to be read as they will be.
        const bool losing = erasing != nullptr && !by_action_alone_;
        if (!request_.filter.only_created_at() || losing) return add_matches(log, part);
        if (const auto postings = span.segment->postings(); postings && by_action_alone_) {
            postings->count_hours(
                span.pid,
                part.first,
                part.last,
                [this](auto hour, auto action, auto count) {
                    counts_.add_counted(hour * kHourUs, action, count);
                }
            );
            return ok();
        }
        BOOST_OUTCOME_TRYV(reader_.identify(request_.project, span));
        // The rollup still counts what is being erased.
        if (by_action_alone_ && span.segment->indexed && erasing == nullptr)
            return add_rollup(span, part);
        return add_rows(span, part.first, part.last, erasing.get());
    }

    Result<void> add_matches(const LogView& log, SeqRange left) {
        while (!left.empty() && !counts_.failed()) {
            Walk walking{
                request_.project, request_.filter, left, false, deadline_, [this](auto& e) {
                    counts_.add(e);
                    return true;
                }};
            BOOST_OUTCOME_TRYV(walk(reader_, log, walking));
            if (walking.ended) break;
            left.first = walking.scanned + 1;
            if (note_time()) break;
        }
        return ok();
    }

    Result<void> add_rows(const Span& span, Seq first, Seq last, const Segment::Keys* erasing) {
        BOOST_OUTCOME_TRY(auto* db, reader_.events(span.segment));
        BOOST_OUTCOME_TRY(auto rows, db->query(narrow_rows_));
        rows.bind_all(row_key(span.pid, first), row_key(span.pid, last));
        const int first_unique = request_.group_by ? 3 : 2;
        std::array<std::string_view, kColumns> uniques;
        for (std::uint32_t n = 1; !counts_.failed(); ++n) {
            BOOST_OUTCOME_TRY(const bool row, rows.next());
            if (!row || (n % kRowsBetweenClocks == 0 && note_time())) break;
            if (Segment::is_whole(erasing, rows.integer(0))) continue;
            for (std::size_t i = 0; i < request_.unique.size(); ++i)
                uniques.at(i) = rows.text(first_unique + static_cast<int>(i)).view();
            const std::string_view key = request_.group_by ? rows.text(2).view() : "";
            counts_.add(rows.integer(1), key, uniques.data());
        }
        return ok();
    }

    /// Whole hours of `part` from the rollup, what is beside them from its rows.
    Result<void> add_rollup(const Span& span, const SeqRange& part) {
        std::int64_t first_hour = 0, end_hour = INT64_MAX;
        if (part.first > span.first_seq) {
            BOOST_OUTCOME_TRY(const TimeUs at, created_at(reader_, span, part.first - 1));
            first_hour = at / kHourUs + 1;
        }
        if (part.last < span.last_seq) {
            BOOST_OUTCOME_TRY(const TimeUs at, created_at(reader_, span, part.last + 1));
            end_hour = at / kHourUs;
        }
        if (first_hour >= end_hour) return add_rows(span, part.first, part.last, nullptr);
        if (first_hour > 0) {
            BOOST_OUTCOME_TRY(const Seq whole, first_from(reader_, span, first_hour * kHourUs));
            BOOST_OUTCOME_TRYV(add_rows(span, part.first, std::min(whole - 1, part.last), nullptr));
        }
        if (end_hour < INT64_MAX) {
            BOOST_OUTCOME_TRY(const Seq end, first_from(reader_, span, end_hour * kHourUs));
            BOOST_OUTCOME_TRYV(add_rows(span, std::max(end, part.first), part.last, nullptr));
        }
        BOOST_OUTCOME_TRY(auto* db, reader_.events(span.segment));
        BOOST_OUTCOME_TRY(auto rows, db->query(kRollup));
        rows.bind_all(span.pid, first_hour, end_hour);
        while (true) {
            BOOST_OUTCOME_TRY(const bool row, rows.next());
            if (!row) return ok();
            counts_.add_counted(rows.integer(0) * kHourUs, rows.text(1).view(), rows.integer(2));
        }
    }

    bool note_time() {
        is_late_ =
            is_late_ || reader_.is_stopping() || std::chrono::steady_clock::now() >= deadline_;
        return is_late_;
    }

    Reader& reader_;
    const AggregateRequest& request_;
    const Deadline deadline_;
    const bool by_action_alone_;  ///< hourly counts of actions answer it
    const std::string narrow_rows_;
    AggregateCounts counts_;
    bool is_late_ = false;
};

}  // namespace

Result<std::vector<AggregateRow>> aggregate_events(
    Reader& reader, const AggregateRequest& request
) {
    return Aggregation(reader, request).run();
}

}  // namespace annal::sqlite
