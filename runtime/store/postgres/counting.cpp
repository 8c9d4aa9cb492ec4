#include "runtime/store/postgres/counting.h"

#include <algorithm>

#include "runtime/core/limits.h"
#include "runtime/store/passing.h"
#include "runtime/store/postgres/selection.h"

namespace annal::postgres {
namespace {

constexpr std::chrono::milliseconds kPatience{30'000};
constexpr std::chrono::milliseconds kActionsPatience{10'000};
constexpr Seq kWindowFirst = 256;
constexpr std::int64_t kRememberedMax = 1'000;  // counts of a project's month

/// From the index of actions alone, which no erased event is in. No bounds of time: they would have
/// to be checked in the rows.
constexpr const char* kCountActions =
    "SELECT a.action, c.count, (SELECT (extract(epoch FROM e.created_at) * 1000000)::bigint FROM "
    "audit_events e WHERE e.project_id = $1::text AND e.seq = c.last) FROM (SELECT DISTINCT action "
    "FROM project_actions WHERE project_id = $1::text AND month >= $4::text::date) a "
    "CROSS JOIN LATERAL (SELECT count(*), max(t.seq) AS last FROM audit_events t WHERE "
    "t.project_id = $1::text AND t.action = a.action AND t.seq BETWEEN $2::bigint AND $3::bigint) "
    "c WHERE c.count > 0 ORDER BY c.count DESC, a.action";

Result<std::int64_t> count_tombstones(
    Connection& db, const std::string& project, Seq first, Seq last
) {
    Params params;
    params.text(project).number(first).number(last);
    BOOST_OUTCOME_TRY(
        const auto rows,
        db.run(
            "SELECT count(*) FROM tombstones WHERE project_id = $1::text AND seq BETWEEN "
            "$2::bigint AND $3::bigint",
            params
        )
    );
    return rows.integer(0, 0);
}

Result<Total> count_between(
    Connection& db, const std::string& project, const LogView& view, const Filter& filter
) {
    BOOST_OUTCOME_TRY(const auto range, exact_range(db, project, view, filter));
    if (range.empty()) return Total{};
    BOOST_OUTCOME_TRY(const auto erased, count_tombstones(db, project, range.first, range.last));
    return Total{range.last - range.first + 1 - erased, true};
}

/// A count of a whole month that can be remembered.
struct Counted {
    Month month;
    std::int64_t epoch = 0, count = 0;
};

class Counting {
public:
    Counting(Connection& db, const std::string& project, const Filter& filter, Deadline deadline)
        : db_(db),
          project_(project),
          filter_(filter),
          digest_(filter.digest()),
          deadline_(deadline) {}

    Result<Total> run(const LogView& view, const SeqRange& range) {
        Total total;
        for (auto part = view.months.rbegin(); part != view.months.rend(); ++part) {
            SeqRange own{
                std::max(part->range.first, range.first), std::min(part->range.last, range.last)};
            if (own.empty()) continue;
            const bool whole =
                part->sealed && own.first == part->range.first && own.last == part->range.last;
            BOOST_OUTCOME_TRY(const auto known, whole ? remembered(*part) : std::nullopt);
            if (known) {
                total.count += *known;
                continue;
            }
            const std::int64_t before = total.count;
            BOOST_OUTCOME_TRY(total.exact, count_part(*part, own, total.count));
            if (!total.exact) return total;
            if (whole) counted_.push_back({part->month, part->epoch, total.count - before});
            if (is_late() && own.first > range.first) {
                total.exact = false;
                return total;
            }
        }
        return total;
    }

    /// Outside of the reading transaction. That it can't be written (a read replica) is no matter.
    /// What erasures have made useless makes room.
    void remember() {
        for (const Counted& counted : counted_) {
            Params month;
            month.text(project_).text(month_text(counted.month)).number(counted.epoch);
            (void)db_.run(
                "DELETE FROM month_counts WHERE project_id = $1::text AND month = $2::text::date "
                "AND epoch < $3::bigint",
                month
            );
            Params row;
            row.text(project_).text(month_text(counted.month)).bytes(digest_);
            row.number(counted.epoch).number(counted.count).number(kRememberedMax);
            (void)db_.run(
                "INSERT INTO month_counts SELECT $1::text, $2::text::date, $3::bytea, $4::bigint, "
                "$5::bigint WHERE (SELECT count(*) FROM month_counts WHERE project_id = $1::text "
                "AND month = $2::text::date) < $6::bigint ON CONFLICT (project_id, month, filter) "
                "DO UPDATE SET epoch = excluded.epoch, count = excluded.count",
                row
            );
        }
    }

private:
    [[nodiscard]] bool is_late() const { return std::chrono::steady_clock::now() >= deadline_; }

    Result<std::optional<std::int64_t>> remembered(const MonthPart& part) {
        Params params;
        params.text(project_).text(month_text(part.month)).bytes(digest_).number(part.epoch);
        BOOST_OUTCOME_TRY(
            const auto rows,
            db_.run(
                "SELECT count FROM month_counts WHERE project_id = $1::text AND month = "
                "$2::text::date AND filter = $3::bytea AND epoch = $4::bigint",
                params
            )
        );
        if (rows.size() == 0) return std::nullopt;
        return rows.integer(0, 0);
    }

    /// In windows of seqs, the newest first. False: the time was over before the end.
    Result<bool> count_part(const MonthPart& part, SeqRange left, std::int64_t& count) {
        Params params;
        params.text(project_);
        const auto selection = select(filter_, {part.sealed, false}, params);
        if (selection.nothing) return true;
        const std::string rest =
            " AND " + (selection.rest.empty() ? std::string("NOT t.deleted") : selection.rest);
        for (Seq window = kWindowFirst; !left.empty();
             window = std::min<Seq>(window * 8, kScanWindowSeqs)) {
            const SeqRange piece{std::max(left.first, left.last - window + 1), left.last};
            BOOST_OUTCOME_TRY(
                const auto rows,
                db_.run(
                    "SELECT count(*) FROM audit_events t WHERE " + within_month("t", part.month) +
                        within("t", piece) + selection.time + selection.driver + rest,
                    params
                )
            );
            count += rows.integer(0, 0);
            left.last = piece.first - 1;
            if (is_late() && !left.empty()) return false;
        }
        return true;
    }

    Connection& db_;
    const std::string& project_;
    const Filter& filter_;
    const Digest digest_;
    const Deadline deadline_;
    std::vector<Counted> counted_;
};

}  // namespace

Result<std::vector<ActionCount>> count_actions(
    Connection& db, const std::string& project, TimeUs since
) {
    Reading reading(db);
    BOOST_OUTCOME_TRY(const auto view, reading.begin(project, kActionsPatience));
    if (view.head.seq == kNoSeq) return std::vector<ActionCount>{};
    Filter time;
    time.from = since;
    BOOST_OUTCOME_TRY(const auto range, exact_range(db, project, view, time));
    Params params;
    params.text(project)
        .number(range.first)
        .number(view.head.seq)
        .text(month_text(month_of(since)));
    BOOST_OUTCOME_TRY(const auto rows, db.run(kCountActions, params));
    std::vector<ActionCount> counts;
    for (std::size_t i = 0; i < rows.size(); ++i)
        counts.push_back(
            {std::string(rows.text(i, 0).view()), rows.integer(i, 1), rows.integer(i, 2)}
        );
    return counts;
}

Result<Total> count_events(
    Connection& db,
    const std::string& project,
    const Filter& filter,
    std::chrono::milliseconds budget
) {
    Counting counting(db, project, filter, std::chrono::steady_clock::now() + budget);
    Result<Total> total = Total{};
    {
        Reading reading(db);
        BOOST_OUTCOME_TRY(const auto view, reading.begin(project, kPatience));
        if (view.head.seq == kNoSeq) return total;
        if (filter.only_created_at()) return count_between(db, project, view, filter);
        BOOST_OUTCOME_TRY(
            const auto range, range_of(db, project, view, filter.from, filter.before)
        );
        total = counting.run(view, range);
    }
    if (total.has_value()) counting.remember();
    return total;
}

Result<Seq> seek_by_time(
    Connection& db, const std::string& project, const Filter& filter, std::int64_t skip
) {
    Reading reading(db);
    BOOST_OUTCOME_TRY(const auto view, reading.begin(project, kPatience));
    if (view.head.seq == kNoSeq) return kNoSeq;
    BOOST_OUTCOME_TRY(const auto range, exact_range(db, project, view, filter));
    return seq_behind(range.first, range.last, skip, [&](Seq first, Seq last) {
        return count_tombstones(db, project, first, last);
    });
}

}  // namespace annal::postgres
