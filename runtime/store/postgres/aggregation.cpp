#include "runtime/store/postgres/aggregation.h"

#include <map>
#include <utility>

#include "runtime/store/aggregate.h"
#include "runtime/store/postgres/rollup.h"
#include "runtime/store/postgres/selection.h"

namespace annal::postgres {
namespace {

// Every row is read: what keeps other reads from it would only make it slower.
constexpr const char* kPlanFreely =
    "SET LOCAL enable_seqscan = on;SET LOCAL enable_hashjoin = on;SET LOCAL work_mem = '64MB'";

std::string column(Column c) {
    return "t." + std::string(name(c));
}

std::string start_of_interval(Interval interval) {
    switch (interval) {
        case Interval::hour:
            return "date_bin('1 hour', t.created_at, '1970-01-01 00:00:00+00')";
        case Interval::day:
            return "date_bin('1 day', t.created_at, '1970-01-01 00:00:00+00')";
        case Interval::week:  // from a Monday
            return "date_bin('7 days', t.created_at, '1970-01-05 00:00:00+00')";
        case Interval::none:
            break;
    }
    return "NULL::timestamptz";
}

/// One statement, so that all is of one moment. Its rows: 0 and the count of a group, or 1, 2, …
/// and its number of distinct values of a column of `unique`.
std::string statement_of(const AggregateRequest& request, const std::string& where) {
    const std::string start = start_of_interval(request.interval);
    const std::string key = request.group_by ? column(*request.group_by) : "NULL::text";
    const std::string grouped = request.group_by ? " AND " + key + " <> ''" : "";
    const std::string from = " FROM audit_events t WHERE " + where + grouped;
    const std::string read =
        "SELECT what, (extract(epoch FROM start) * 1000000)::bigint, key, count FROM (";
    std::string rows = "SELECT 0 AS what, " + start + " AS start, " + key +
                       " AS key, count(*) AS count" + from + " GROUP BY 2, 3";
    for (std::size_t i = 0; i < request.unique.size(); ++i) {
        const std::string value = column(request.unique[i]);
        rows += " UNION ALL SELECT " + std::to_string(i + 1) +
                ", start, key, count(*) FROM (SELECT DISTINCT " + start + " AS start, " + key +
                " AS key, " + value + " AS value" + from + " AND " + value +
                " <> '') u GROUP BY 2, 3";
    }
    const std::size_t most = (kAggregateRowsMax + 1) * (request.unique.size() + 1);
    return read + rows + ") r LIMIT " + std::to_string(most);
}

Result<std::vector<AggregateRow>> read_groups(const AggregateRequest& request, const Rows& rows) {
    std::map<std::pair<TimeUs, std::string>, AggregateRow> groups;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const TimeUs start = rows.is_null(i, 1) ? kNoTime : rows.integer(i, 1);
        std::string key(rows.text(i, 2).view());
        AggregateRow& group = groups[{start, key}];
        group.start = start;
        group.key = std::move(key);
        group.uniques.resize(request.unique.size());
        const auto what = static_cast<std::size_t>(rows.integer(i, 0));
        (what == 0 ? group.count : group.uniques.at(what - 1)) = rows.integer(i, 3);
    }
    if (groups.size() > kAggregateRowsMax) return too_many_rows();
    std::vector<AggregateRow> sorted;
    sorted.reserve(groups.size());
    for (auto& [place, group] : groups) sorted.push_back(std::move(group));
    sort_rows(sorted);
    return sorted;
}

Result<std::vector<AggregateRow>> count_rows(Connection& db, const AggregateRequest& request) {
    Reading reading(db);
    BOOST_OUTCOME_TRY(const auto view, reading.begin(request.project, request.budget));
    if (view.head.seq == kNoSeq || view.months.empty()) return std::vector<AggregateRow>();
    const Filter& filter = request.filter;
    BOOST_OUTCOME_TRY(
        const auto range, range_of(db, request.project, view, filter.from, filter.before)
    );
    Params params;
    params.text(request.project);
    const auto selection = select(filter, {false, false}, params);
    if (range.empty() || selection.nothing) return std::vector<AggregateRow>();
    const std::string rest = selection.rest.empty() ? "NOT t.deleted" : selection.rest;
    const std::string where = within_months("t", view) + within("t", range) + selection.time +
                              selection.driver + " AND " + rest;
    BOOST_OUTCOME_TRYV(db.run(kPlanFreely));
    BOOST_OUTCOME_TRY(const auto rows, db.run(statement_of(request, where), params));
    return read_groups(request, rows);
}

Result<std::vector<AggregateRow>> add_up(
    Connection& db, const AggregateRequest& request, Seq block_seqs
) {
    AggregateCounts counts(request);
    const Deadline deadline = std::chrono::steady_clock::now() + request.budget;
    BOOST_OUTCOME_TRYV(add_from_rollup(db, request, block_seqs, deadline, counts));
    return counts.rows();
}

}  // namespace

Result<std::vector<AggregateRow>> aggregate_events(
    Connection& db, const AggregateRequest& request, Seq block_seqs
) {
    const bool by_action_alone = request.unique.empty() && request.filter.only_created_at() &&
                                 (!request.group_by || request.group_by == Column::action);
    auto rows = by_action_alone ? add_up(db, request, block_seqs) : count_rows(db, request);
    // statement_timeout: nothing else here has an end of its own.
    if (rows.has_error() && rows.error().code == Errc::timeout) return aggregate_ran_out_of_time();
    return rows;
}

}  // namespace annal::postgres
