#include "runtime/store/postgres/log_view.h"

#include <algorithm>

#include "runtime/store/postgres/selection.h"

namespace annal::postgres {
namespace {

// Plans without an index have no place here: a bounded read would turn into one of a whole month.
constexpr const char* kBegin =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;SET LOCAL enable_seqscan = off;SET LOCAL "
    "enable_hashjoin = off;"
    "SET LOCAL enable_mergejoin = off;SET LOCAL jit = off;SET LOCAL statement_timeout = ";
constexpr std::chrono::milliseconds kGrace{3'000};

std::string begin_statement(std::chrono::milliseconds patience) {
    return kBegin + std::to_string(patience.count());
}

/// One row for the log, one for each month; none for an empty log.
std::string view_statement(const std::string& project) {
    const std::string name = quoted(project);
    return "SELECT b.last_seq, b.last_at, b.digest, coalesce((SELECT first_seq FROM project_log "
           "WHERE project_id = " +
           name +
           "), 0), m.month, m.first_seq, e.state, m.epoch FROM (SELECT last_seq, last_at, digest "
           "FROM event_batches WHERE project_id = " +
           name +
           " ORDER BY first_seq DESC LIMIT 1) b LEFT JOIN (project_months m JOIN event_months e ON "
           "e.month = m.month AND e.state <> 'dropped') ON m.project_id = " +
           name + " ORDER BY m.month";
}

LogView read_view(const Rows& rows) {
    LogView view;
    if (rows.size() == 0) return view;
    view.head.seq = rows.integer(0, 0);
    view.head.at = rows.integer(0, 1);
    const std::string digest = rows.bytes(0, 2);
    std::copy_n(
        digest.begin(), std::min(digest.size(), view.head.digest.size()), view.head.digest.begin()
    );
    view.first_seq = rows.integer(0, 3);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (rows.is_null(i, 4)) continue;
        const Seq begin = rows.integer(i, 5);
        if (!view.months.empty()) view.months.back().range.last = begin - 1;
        view.months.push_back(
            {parse_month(rows.text(i, 4).view()),
             {std::max(begin, view.first_seq), view.head.seq},
             rows.text(i, 6).view() == "sealed",
             rows.integer(i, 7)}
        );
    }
    std::erase_if(view.months, [](const MonthPart& part) { return part.range.empty(); });
    return view;
}

}  // namespace

Reading::~Reading() {
    if (!db_.is_lost() && db_.run("COMMIT").has_error()) db_.rollback();
}

Result<void> Reading::begin(std::chrono::milliseconds patience) {
    db_.set_deadline(std::chrono::steady_clock::now() + patience + kGrace);
    BOOST_OUTCOME_TRYV(db_.run(begin_statement(patience)));
    return ok();
}

Result<LogView> Reading::begin(const std::string& project, std::chrono::milliseconds patience) {
    // No project has such a name.
    if (!is_storable(project)) return LogView{};
    db_.set_deadline(std::chrono::steady_clock::now() + patience + kGrace);
    BOOST_OUTCOME_TRY(
        const auto rows, db_.run(begin_statement(patience) + ";" + view_statement(project))
    );
    return read_view(rows);
}

Result<SeqRange> range_of(
    Connection& db,
    const std::string& project,
    const LogView& view,
    std::optional<TimeUs> from,
    std::optional<TimeUs> before
) {
    SeqRange range = view.all();
    if (!from && !before) return range;
    Params params;
    params.text(project).number(from.value_or(0)).number(before.value_or(0));
    BOOST_OUTCOME_TRY(
        const auto rows,
        db.run(
            "SELECT (SELECT first_seq FROM event_batches WHERE project_id = $1::text AND last_at "
            ">= "
            "$2::bigint ORDER BY last_at LIMIT 1), (SELECT last_seq FROM event_batches WHERE "
            "project_id = $1::text AND last_at >= $3::bigint ORDER BY last_at LIMIT 1)",
            params
        )
    );
    if (from) {
        const Seq first = rows.is_null(0, 0) ? view.head.seq + 1 : rows.integer(0, 0);
        range.first = std::max(range.first, first);
    }
    if (before && !rows.is_null(0, 1)) range.last = std::min(range.last, rows.integer(0, 1));
    return range;
}

namespace {

/// The seq of the first event of `range` created at `at` or later; one beyond when there is none.
Result<Seq> first_from(
    Connection& db, const std::string& project, const LogView& view, TimeUs at, SeqRange range
) {
    for (const MonthPart& part : view.months) {
        if (part.range.last < range.first || at >= start_of(next(part.month))) continue;
        Params params;
        params.text(project).time(at);
        const SeqRange own{std::max(part.range.first, range.first), part.range.last};
        BOOST_OUTCOME_TRY(
            const auto rows,
            db.run(
                "SELECT e.seq FROM audit_events e WHERE " + within_month("e", part.month) +
                    within("e", own) +
                    " AND e.created_at >= $2::timestamptz ORDER BY e.seq LIMIT 1",
                params
            )
        );
        if (rows.size() == 1) return rows.integer(0, 0);
    }
    return view.head.seq + 1;
}

}  // namespace

Result<SeqRange> exact_range(
    Connection& db, const std::string& project, const LogView& view, const Filter& filter
) {
    SeqRange range = view.all();
    if (filter.from) {
        BOOST_OUTCOME_TRY(const auto near, range_of(db, project, view, filter.from, std::nullopt));
        BOOST_OUTCOME_TRY(range.first, first_from(db, project, view, *filter.from, near));
    }
    if (filter.before) {
        BOOST_OUTCOME_TRY(
            const auto near, range_of(db, project, view, filter.before, std::nullopt)
        );
        BOOST_OUTCOME_TRY(const auto end, first_from(db, project, view, *filter.before, near));
        range.last = end - 1;
    }
    return range;
}

}  // namespace annal::postgres
