#include "runtime/store/postgres/rollup.h"

#include <algorithm>
#include <set>

#include "runtime/core/limits.h"
#include "runtime/store/postgres/selection.h"

namespace annal::postgres {
namespace {

constexpr std::chrono::milliseconds kPatience{30'000};
constexpr const char* kBegin =
    "BEGIN ISOLATION LEVEL REPEATABLE READ;SET LOCAL statement_timeout = '10s';SET LOCAL "
    "lock_timeout = '2s';SET LOCAL jit = off;SET LOCAL enable_seqscan = off";

constexpr const char* kRightBlocks =
    "SELECT b.first_seq FROM rollup_blocks b WHERE b.project_id = $1::text AND b.first_seq BETWEEN "
    "$2::bigint AND $3::bigint AND b.tombstones = (SELECT count(*) FROM tombstones t WHERE "
    "t.project_id = $1::text AND t.seq BETWEEN b.first_seq AND b.first_seq + $4::bigint - 1)";
constexpr const char* kForgetBlock =
    "DELETE FROM rollup_hourly WHERE project_id = $1::text AND first_seq = $2::bigint";
constexpr const char* kNoteBlock =
    "INSERT INTO rollup_blocks SELECT $1::text, $2::bigint, count(*) FROM tombstones WHERE "
    "project_id = $1::text AND seq BETWEEN $2::bigint AND $2::bigint + $3::bigint - 1 ON CONFLICT "
    "(project_id, first_seq) DO UPDATE SET tombstones = excluded.tombstones";
constexpr const char* kSumBlocks =
    "SELECT hour, action, sum(count)::bigint FROM rollup_hourly WHERE project_id = $1::text AND "
    "first_seq = ANY($2::bigint[]) GROUP BY 1, 2";

/// Events of `range` by hour and action. $1 is the project.
std::string counted_rows(const LogView& view, const SeqRange& range) {
    return "SELECT (extract(epoch FROM c.hour) / 3600)::bigint, c.action, c.count FROM (SELECT "
           "date_bin('1 hour', t.created_at, '1970-01-01 00:00:00+00') AS hour, t.action, count(*) "
           "AS count FROM audit_events t WHERE " +
           within_months("t", view) + within("t", range) + " AND NOT t.deleted GROUP BY 1, 2) c";
}

class RollupRead {
public:
    RollupRead(
        Connection& db,
        const AggregateRequest& request,
        Seq block_seqs,
        Deadline deadline,
        AggregateCounts& counts
    )
        : db_(db),
          request_(request),
          block_seqs_(block_seqs),
          deadline_(deadline),
          counts_(counts) {}

    Result<void> run() {
        BOOST_OUTCOME_TRYV(complete());
        Reading reading(db_);
        BOOST_OUTCOME_TRY(const auto view, reading.begin(request_.project, kPatience));
        if (view.head.seq == kNoSeq) return ok();
        BOOST_OUTCOME_TRY(
            const auto range, exact_range(db_, request_.project, view, request_.filter)
        );
        if (range.empty()) return ok();
        const SeqRange blocks = blocks_in(range);
        std::set<Seq> right;
        if (!blocks.empty()) {
            BOOST_OUTCOME_TRY(right, right_blocks(blocks));
            BOOST_OUTCOME_TRYV(add_blocks(right));
        }
        // What lies between the blocks.
        Seq next = range.first;
        right.insert(range.last + 1);
        for (const Seq block : right) {
            BOOST_OUTCOME_TRYV(add_rows(view, {next, block - 1}));
            next = block + block_seqs_;
        }
        return ok();
    }

    /// Counts the blocks that are missing or not right any more.
    Result<void> complete() {
        LogView view;
        SeqRange blocks;
        std::set<Seq> right;
        {
            Reading reading(db_);
            BOOST_OUTCOME_TRY(view, reading.begin(request_.project, kPatience));
            if (view.head.seq == kNoSeq) return ok();
            BOOST_OUTCOME_TRY(
                const auto range, exact_range(db_, request_.project, view, request_.filter)
            );
            if (range.empty()) return ok();
            blocks = blocks_in(range);
            if (blocks.empty()) return ok();
            BOOST_OUTCOME_TRY(right, right_blocks(blocks));
        }
        for (Seq block = blocks.first; block <= blocks.last; block += block_seqs_) {
            if (right.contains(block)) continue;
            if (std::chrono::steady_clock::now() >= deadline_) return aggregate_ran_out_of_time();
            // Another node may have counted it, or nobody may write here.
            if (count_block(view, block).has_error()) {
                if (db_.is_lost()) return Error{Errc::unavailable, "the connection was lost"};
                return ok();
            }
        }
        return ok();
    }

private:
    /// The first seqs of the blocks that lie in `range`, both ends included; empty: none does.
    [[nodiscard]] SeqRange blocks_in(const SeqRange& range) const {
        const Seq first = (range.first + block_seqs_ - 1) / block_seqs_ * block_seqs_;
        return {first, (range.last + 1) / block_seqs_ * block_seqs_ - block_seqs_};
    }

    Result<void> count_block(const LogView& view, Seq block) {
        return transact(db_, kBegin, [&]() -> Result<void> {
            Params params;
            params.text(request_.project).number(block);
            BOOST_OUTCOME_TRYV(db_.run(kForgetBlock, params));
            BOOST_OUTCOME_TRYV(db_.run(
                "INSERT INTO rollup_hourly SELECT $1::text, $2::bigint, r.* FROM (" +
                    counted_rows(view, {block, block + block_seqs_ - 1}) + ") r",
                params
            ));
            params.number(block_seqs_);
            BOOST_OUTCOME_TRYV(db_.run(kNoteBlock, params));
            return ok();
        });
    }

    Result<std::set<Seq>> right_blocks(const SeqRange& blocks) {
        Params params;
        params.text(request_.project).number(blocks.first).number(blocks.last).number(block_seqs_);
        BOOST_OUTCOME_TRY(const auto rows, db_.run(kRightBlocks, params));
        std::set<Seq> right;
        for (std::size_t i = 0; i < rows.size(); ++i) right.insert(rows.integer(i, 0));
        return right;
    }

    Result<void> add_blocks(const std::set<Seq>& blocks) {
        Array array(Array::Of::int8);
        for (const Seq block : blocks) array.number(block);
        Params params;
        params.text(request_.project).array(array);
        BOOST_OUTCOME_TRY(const auto rows, db_.run(kSumBlocks, params));
        take(rows);
        return ok();
    }

    /// In pieces, so that the deadline is kept where there are no blocks.
    Result<void> add_rows(const LogView& view, SeqRange left) {
        Params params;
        params.text(request_.project);
        while (!left.empty()) {
            if (std::chrono::steady_clock::now() >= deadline_) return aggregate_ran_out_of_time();
            const SeqRange piece{
                left.first, std::min(left.last, left.first + Seq{kScanWindowSeqs} - 1)};
            BOOST_OUTCOME_TRY(const auto rows, db_.run(counted_rows(view, piece), params));
            take(rows);
            left.first = piece.last + 1;
        }
        return ok();
    }

    void take(const Rows& rows) {
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const TimeUs hour = rows.integer(i, 0) * kHourUs;
            counts_.add_counted(hour, rows.text(i, 1).view(), rows.integer(i, 2));
        }
    }

    Connection& db_;
    const AggregateRequest& request_;
    const Seq block_seqs_;
    const Deadline deadline_;
    AggregateCounts& counts_;
};

}  // namespace

Result<void> add_from_rollup(
    Connection& db,
    const AggregateRequest& request,
    Seq block_seqs,
    Deadline deadline,
    AggregateCounts& counts
) {
    return RollupRead(db, request, block_seqs, deadline, counts).run();
}

Result<void> complete_rollup(
    Connection& db, const std::string& project, Seq block_seqs, Deadline deadline
) {
    AggregateRequest all;
    all.project = project;
    AggregateCounts unused(all);
    return RollupRead(db, all, block_seqs, deadline, unused).complete();
}

}  // namespace annal::postgres
