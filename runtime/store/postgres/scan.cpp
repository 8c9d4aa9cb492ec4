#include "runtime/store/postgres/scan.h"

#include <algorithm>

#include "runtime/core/limits.h"
#include "runtime/store/postgres/event_rows.h"
#include "runtime/store/postgres/selection.h"

namespace annal::postgres {
namespace {

constexpr std::uint32_t kChunkFirst = 1'000, kChunkMost = 50'000;
constexpr std::size_t kActionsMost = 256;
constexpr std::chrono::milliseconds kStatementPatience{5'000};
constexpr std::string_view kQueryCanceled = "57014";

/// A page on its way.
struct Walk {
    Connection& db;
    const ScanRequest& request;
    const std::size_t limit;
    const Deadline deadline;
    ScanPage page{};
    std::uint32_t rows = 0;  ///< looked at one by one
    std::uint32_t chunk = kChunkFirst;

    [[nodiscard]] bool is_full() const { return page.batch.events.size() >= limit; }
    [[nodiscard]] bool is_over() const {
        return is_full() || rows >= kScanWindowSeqs || std::chrono::steady_clock::now() >= deadline;
    }
    [[nodiscard]] const char* order() const { return request.newest_first ? " DESC" : ""; }
    /// Takes [first, last] of `range` for looked at, up to `seq`.
    void move_on(SeqRange& range, Seq seq) {
        page.scanned = seq;
        if (request.newest_first) {
            range.last = seq - 1;
        } else {
            range.first = seq + 1;
        }
    }
    void finish(SeqRange& range) {
        move_on(range, request.newest_first ? range.first : range.last);
    }
};

/// Rows as they stand in the log: nothing has to be looked at one by one but whether it is there.
Result<void> take_rows(
    Walk& walk, Month month, SeqRange& range, const Selection& selection, const Params& params
) {
    const std::size_t wanted = walk.limit - walk.page.batch.events.size();
    BOOST_OUTCOME_TRY(
        const auto rows,
        walk.db.run(
            "SELECT " + event_columns() + " FROM (SELECT * FROM audit_events t WHERE " +
                within_month("t", month) + within("t", range) + selection.time + selection.driver +
                " ORDER BY t.seq" + walk.order() + " LIMIT " + std::to_string(wanted) + ") e",
            params
        )
    );
    for (std::size_t i = 0; i < rows.size(); ++i) {
        read_event(rows, i, 0, walk.request.project, walk.page.batch);
        walk.move_on(range, walk.page.batch.events.back().seq);
        if (walk.page.batch.events.back().deleted && !walk.request.tombstones)
            walk.page.batch.events.pop_back();
    }
    walk.rows += static_cast<std::uint32_t>(rows.size());
    if (rows.size() < wanted) walk.finish(range);
    return ok();
}

/// Where the rows of a chunk come from.
enum class Source {
    log,      ///< the log itself, or the index of one value
    actions,  ///< the index of actions, for several of them
    search,   ///< the trigram index of a sealed month
};

/// The actions of a month that a filter lets through.
Result<std::vector<std::string>> actions_of(Walk& walk, Month month) {
    Params params;
    params.text(walk.request.project).text(month_text(month));
    BOOST_OUTCOME_TRY(
        const auto rows,
        walk.db.run(
            "SELECT action FROM project_actions WHERE project_id = $1::text AND month = "
            "$2::text::date",
            params
        )
    );
    const Filter& filter = walk.request.filter;
    std::vector<std::string> actions;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::string_view action = rows.text(i, 0).view();
        const bool wanted = filter.actions.empty() || matches_any(filter.actions, action);
        const bool begins = !filter.action_prefix || action.starts_with(*filter.action_prefix);
        if (wanted && begins) actions.emplace_back(action);
    }
    return actions;
}

/// One month's part of a walk.
class MonthWalk {
public:
    MonthWalk(Walk& walk, const MonthPart& part, SeqRange range)
        : walk_(walk), part_(part), range_(range) {
        params_.text(walk.request.project);
        selection_ = select(walk.request.filter, {part.sealed, walk.request.tombstones}, params_);
    }

    Result<void> run() {
        if (selection_.nothing) {
            walk_.finish(range_);
            return ok();
        }
        do {
            BOOST_OUTCOME_TRYV(
                selection_.rest.empty() ? take_rows(walk_, part_.month, range_, selection_, params_)
                                        : take_matches()
            );
        } while (!range_.empty() && !walk_.is_over());
        return ok();
    }

private:
    /// What is common is found in the newest rows; what is not is worth an index.
    Result<void> choose_source() {
        if (chunks_++ != 1 || !selection_.driver.empty() || walk_.request.tombstones) return ok();
        const Filter& filter = walk_.request.filter;
        if (part_.sealed && filter.text && is_searchable(*filter.text)) {
            source_ = Source::search;
            log_params_ = params_;
            params_.text(search_pattern(*filter.text));
        } else if (!filter.actions.empty() || filter.action_prefix) {
            BOOST_OUTCOME_TRY(const auto actions, actions_of(walk_, part_.month));
            if (actions.size() > kActionsMost) return ok();
            source_ = Source::actions;
            Array array(Array::Of::text);
            for (const std::string& action : actions) array.text(action);
            params_.array(array);
            // Of each action so many.
            walk_.chunk = std::max<std::uint32_t>(200, static_cast<std::uint32_t>(walk_.limit));
            const auto arms = static_cast<std::uint32_t>(std::max<std::size_t>(1, actions.size()));
            chunk_most_ =
                std::clamp<std::uint32_t>(kScanWindowSeqs / arms, walk_.chunk, kChunkMost);
        }
        return ok();
    }

    [[nodiscard]] std::string chunk_of_log() const {
        return "SELECT t.seq, (" + selection_.rest + ") AS hit FROM audit_events t WHERE " +
               within_month("t", part_.month) + within("t", range_) + selection_.time +
               selection_.driver + ends();
    }

    [[nodiscard]] std::string chunk_of_actions() const {
        return "SELECT t.seq, (" + selection_.rest + ") AS hit FROM unnest(" + last_param() +
               "::text[]) a(name) CROSS JOIN LATERAL (SELECT * FROM audit_events t WHERE " +
               within_month("t", part_.month) + within("t", range_) + selection_.time +
               " AND t.action = a.name" + ends() + ") t" + ends();
    }

    // No order and no limit inside: they would tempt the planner to walk the log after all.
    [[nodiscard]] std::string chunk_of_search() const {
        return "SELECT f.seq, f.hit FROM (SELECT t.seq, (" + selection_.rest +
               ") AS hit FROM audit_events t WHERE " + within_month("t", part_.month) +
               within("t", range_) + selection_.time + " AND " + searched_text("t") + " LIKE " +
               last_param() + "::text OFFSET 0) f ORDER BY f.seq" + walk_.order() + " LIMIT " +
               std::to_string(walk_.chunk);
    }

    [[nodiscard]] std::string ends() const {
        return std::string(" ORDER BY t.seq") + walk_.order() + " LIMIT " +
               std::to_string(walk_.chunk);
    }

    [[nodiscard]] std::string last_param() const { return "$" + std::to_string(params_.size()); }

    [[nodiscard]] std::string chunk() const {
        switch (source_) {
            case Source::actions:
                return chunk_of_actions();
            case Source::search:
                return chunk_of_search();
            default:
                return chunk_of_log();
        }
    }

    /// A chunk of what the source gives, of which those that match are taken.
    Result<void> take_matches() {
        BOOST_OUTCOME_TRYV(choose_source());
        BOOST_OUTCOME_TRY(const auto rows, source_ == Source::search ? search() : look());
        take(rows);
        return ok();
    }

    /// Rows of a chunk that match, each with how many rows the chunk has and how far it goes.
    Result<Rows> look() {
        const std::size_t wanted = walk_.limit - walk_.page.batch.events.size();
        const std::string order = walk_.order();
        const std::string statement =
            "WITH c AS MATERIALIZED (" + chunk() +
            "), h AS (SELECT seq FROM c WHERE hit ORDER BY seq" + order + " LIMIT " +
            std::to_string(wanted) + ") SELECT (SELECT count(*) FROM c), (SELECT " +
            (walk_.request.newest_first ? "min" : "max") + "(seq) FROM c), " + event_columns() +
            " FROM (SELECT 1) one LEFT JOIN (h JOIN audit_events e ON " +
            within_month("e", part_.month) + " AND e.seq = h.seq) ON true ORDER BY e.seq" + order;
        return walk_.db.run(statement, params_);
    }

    /// The index of a month answers for all of it at once: where that takes long, for there is much
    /// to be found that almost matches, the log is walked after all.
    Result<Rows> search() {
        const auto half = (walk_.deadline - std::chrono::steady_clock::now()) / 2;
        const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(half).count();
        BOOST_OUTCOME_TRYV(walk_.db.run(
            "SAVEPOINT search;SET LOCAL statement_timeout = " +
            std::to_string(std::max<std::int64_t>(1, ms))
        ));
        auto rows = look();
        const bool was_long = rows.has_error() && walk_.db.state() == kQueryCanceled;
        if (rows.has_error() && !was_long) return rows;
        BOOST_OUTCOME_TRYV(walk_.db.run("ROLLBACK TO search"));
        if (!was_long) return rows;
        source_ = Source::log;
        params_ = std::move(log_params_);
        return look();
    }

    void take(const Rows& rows) {
        const auto looked_at = static_cast<std::uint32_t>(rows.integer(0, 0));
        walk_.rows += looked_at;
        if (!rows.is_null(0, 2)) {
            for (std::size_t i = 0; i < rows.size(); ++i)
                read_event(rows, i, 2, walk_.request.project, walk_.page.batch);
        }
        if (walk_.is_full()) {
            walk_.move_on(range_, walk_.page.batch.events.back().seq);
        } else if (looked_at == walk_.chunk) {
            walk_.move_on(range_, rows.integer(0, 1));
        } else {
            walk_.finish(range_);
        }
        walk_.chunk = std::min(walk_.chunk * 8, chunk_most_);
    }

    Walk& walk_;
    const MonthPart& part_;
    SeqRange range_;
    Params params_, log_params_;  ///< with what the source needs, and before it was chosen
    Selection selection_;
    Source source_ = Source::log;
    std::uint32_t chunk_most_ = kChunkMost;
    int chunks_ = 0;
};

SeqRange intersection(const SeqRange& a, const SeqRange& b) {
    return {std::max(a.first, b.first), std::min(a.last, b.last)};
}

}  // namespace

Result<ScanPage> scan_page(Connection& db, const ScanRequest& request) {
    Reading reading(db);
    Walk walk{
        db,
        request,
        std::clamp<std::size_t>(request.limit, 1, kPageMax),
        std::chrono::steady_clock::now() + request.budget};
    walk.page.scanned = request.after.value_or(kNoSeq);
    walk.page.exhausted = true;
    BOOST_OUTCOME_TRY(
        const auto view, reading.begin(request.project, request.budget + kStatementPatience)
    );
    if (view.head.seq == kNoSeq) return std::move(walk.page);
    BOOST_OUTCOME_TRY(
        auto range, range_of(db, request.project, view, request.filter.from, request.filter.before)
    );
    if (request.after && request.newest_first) {
        range.last = std::min(range.last, *request.after - 1);
    } else if (request.after) {
        range.first = std::max(range.first, *request.after + 1);
    }
    if (range.empty()) return std::move(walk.page);
    auto parts = view.months;
    if (request.newest_first) std::reverse(parts.begin(), parts.end());
    for (const MonthPart& part : parts) {
        const SeqRange own = intersection(part.range, range);
        if (own.empty()) continue;
        BOOST_OUTCOME_TRYV(MonthWalk(walk, part, own).run());
        const Seq end = request.newest_first ? range.first : range.last;
        walk.page.exhausted = walk.page.scanned == end;
        if (walk.is_over()) break;
    }
    return std::move(walk.page);
}

Result<EventBatch> get_event(Connection& db, const std::string& project, const EventId& id) {
    const Error absent{Errc::not_found, "no event " + id.text() + " in this project"};
    const TimeUs at = id.created_at();
    Reading reading(db);
    BOOST_OUTCOME_TRY(const auto view, reading.begin(project, kStatementPatience));
    if (view.head.seq == kNoSeq || at > view.head.at) return absent;
    BOOST_OUTCOME_TRY(const auto range, range_of(db, project, view, at, at));
    if (range.empty()) return absent;
    Params params;
    params.text(project).time(at).bytes(id.bytes);
    BOOST_OUTCOME_TRY(
        const auto rows,
        db.run(
            "SELECT " + event_columns() + " FROM audit_events e WHERE " +
                within_month("e", month_of(at)) + within("e", range) +
                " AND e.created_at = $2::timestamptz AND e.id = $3::uuid AND NOT e.deleted",
            params
        )
    );
    EventBatch found;
    if (rows.size() != 1) return absent;
    read_event(rows, 0, 0, project, found);
    return found;
}

}  // namespace annal::postgres
