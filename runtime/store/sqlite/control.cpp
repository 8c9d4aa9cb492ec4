#include "runtime/store/sqlite/control.h"

#include <algorithm>
#include <cstring>

#include "runtime/store/sqlite/migrations.h"

namespace annal::sqlite {
namespace {

constexpr const char* kKvGet = "SELECT value FROM kv WHERE space = ? AND project = ? AND key = ?";
constexpr const char* kKvPut = "INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)";
constexpr const char* kKvErase = "DELETE FROM kv WHERE space = ? AND project = ? AND key = ?";
constexpr const char* kKvScan =
    "SELECT project, key, value FROM kv WHERE space = ? AND project = ? AND key >= ? AND key > ? "
    "ORDER BY key LIMIT ?";
constexpr const char* kKvScanBack =
    "SELECT project, key, value FROM kv WHERE space = ?1 AND project = ?2 AND key < ?3 AND key < "
    "?4 ORDER BY key DESC LIMIT ?5";
constexpr const char* kKvScanAll =
    "SELECT project, key, value FROM kv WHERE space = ?1 AND (project, key) > (?2, ?3) "
    "AND substr(CAST(key AS BLOB), 1, length(CAST(?4 AS BLOB))) = CAST(?4 AS BLOB) "
    "ORDER BY project, key LIMIT ?5";
constexpr const char* kCursorGet = "SELECT seq FROM cursors WHERE subscription = ?";
constexpr const char* kCursorPut = "INSERT OR REPLACE INTO cursors VALUES (?, ?)";
constexpr const char* kApplied = "SELECT redo FROM applied WHERE segment = ?";
constexpr const char* kSetApplied = "INSERT OR REPLACE INTO applied VALUES (?, ?)";
constexpr const char* kAddErasure = "INSERT OR IGNORE INTO erasures VALUES (?, ?)";
constexpr const char* kAddTombstone =
    "UPDATE spans SET tombstones = tombstones + 1 WHERE segment = ? AND pid = ?";
constexpr const char* kAddSegment = "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, 0)";
constexpr const char* kAddSpan = "INSERT OR REPLACE INTO spans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
constexpr const char* kSetState = "UPDATE segments SET state = ? WHERE segment = ?";
constexpr const char* kEraseErasure = "DELETE FROM erasures WHERE segment = ? AND key = ?";
constexpr const char* kEraseScrub =
    "DELETE FROM kv WHERE space = ? AND project = '' AND key = ? AND (value = ? OR ?)";
constexpr const char* kScrubs =
    "SELECT key, CAST(value AS TEXT) FROM kv WHERE space = ? AND project = ''";
constexpr const char* kMetaGet = "SELECT value FROM meta WHERE name = ?";
constexpr const char* kMetaPut = "INSERT OR REPLACE INTO meta VALUES (?, ?)";

Digest digest_of(std::string_view bytes) {
    Digest digest{};
    std::memcpy(digest.data(), bytes.data(), std::min(bytes.size(), digest.size()));
    return digest;
}

}  // namespace

Result<Control> Control::open(const Directory& directory) {
    BOOST_OUTCOME_TRY(auto db, open_wal(directory.control(), Durability::normal));
    BOOST_OUTCOME_TRY(prepare_schema(db, directory.control(), k_create_control, kControlVersion));
    Control control(std::move(db));
    BOOST_OUTCOME_TRY(control.harden());
    BOOST_OUTCOME_TRY(control.note_copy(directory.copy_mark()));
    return control;
}

/// The first start on a copy: what follows is another history than the original's.
Result<void> Control::note_copy(const std::filesystem::path& mark) {
    std::error_code error;
    if (!std::filesystem::exists(mark, error)) return ok();
    BOOST_OUTCOME_TRY(durable([&]() -> Result<void> {
        BOOST_OUTCOME_TRY(const auto count, copies());
        return set_meta("copies", count + 1);
    }));
    std::filesystem::remove(mark, error);
    if (!error) return ok();
    return Error{Errc::unavailable, mark.string() + " can't be removed: " + error.message()};
}

Result<std::int64_t> Control::copies() {
    BOOST_OUTCOME_TRY(const auto count, meta("copies"));
    return count.value_or(0);
}

template <class Work>
Result<void> Control::durable(Work work) {
    BOOST_OUTCOME_TRY(db_.execute("PRAGMA synchronous = FULL"));
    Result<void> done = db_.transaction(std::move(work));
    BOOST_OUTCOME_TRY(db_.execute("PRAGMA synchronous = NORMAL"));
    return done;
}

Result<std::optional<std::string>> Control::kv(
    std::string_view space, std::string_view project, std::string_view key
) {
    return read_kv(db_, space, project, key);
}

Result<std::int64_t> Control::applied(SegmentNumber segment) {
    BOOST_OUTCOME_TRY(auto rows, db_.query(kApplied));
    rows.bind_all(segment);
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    return row ? rows.integer(0) : 0;
}

Result<void> Control::apply(SegmentNumber segment, std::int64_t n, const ControlChanges& changes) {
    return db_.transaction([&]() -> Result<void> {
        for (const KvOp& op : changes.kv) {
            BOOST_OUTCOME_TRY(apply_kv(op));
        }
        for (const CursorMove& move : changes.cursors) {
            BOOST_OUTCOME_TRY(auto put, db_.query(kCursorPut));
            put.bind_all(std::string_view(move.subscription), move.to);
            BOOST_OUTCOME_TRY(put.run());
        }
        for (const auto& erasure : changes.erasures) {
            BOOST_OUTCOME_TRY(apply_erasure(erasure));
        }
        BOOST_OUTCOME_TRY(auto mark, db_.query(kSetApplied));
        mark.bind_all(segment, n);
        return mark.run();
    });
}

Result<void> Control::apply_kv(const KvOp& op) {
    const bool put = op.kind == KvOp::Kind::put;
    BOOST_OUTCOME_TRY(auto change, db_.query(put ? kKvPut : kKvErase));
    change.bind_all(
        std::string_view(op.space), std::string_view(op.project), std::string_view(op.key)
    );
    if (put) {
        change.bind_blob(4, std::string_view(op.value));
    }
    return change.run();
}

Result<void> Control::apply_erasure(const ControlChanges::Erasure& erasure) {
    BOOST_OUTCOME_TRY(auto add, db_.query(kAddErasure));
    add.bind_all(erasure.segment, erasure.key);
    BOOST_OUTCOME_TRY(add.run());
    if (db_.changes() == 0) {
        return ok();
    }
    BOOST_OUTCOME_TRY(auto count, db_.query(kAddTombstone));
    count.bind_all(erasure.segment, pid_of(erasure.key));
    return count.run();
}

Result<void> Control::record_closed(
    const Segment& segment, const std::vector<std::pair<std::string, Span>>& spans
) {
    return db_.transaction([&]() -> Result<void> {
        BOOST_OUTCOME_TRY(auto add, db_.query(kAddSegment));
        add.bind_all(
            segment.number,
            static_cast<std::int64_t>(segment.month.index),
            std::int64_t{segment.events}
        );
        BOOST_OUTCOME_TRY(add.run());
        BOOST_OUTCOME_TRY(auto row, db_.query(kAddSpan));
        for (const auto& [project, span] : spans) {
            row.bind_all(
                segment.number,
                span.pid,
                std::string_view(project),
                span.first_seq,
                span.last_seq,
                span.first_at,
                span.last_at
            );
            row.bind_blob(8, span.digest);
            row.bind(9, span.tombstones);
            BOOST_OUTCOME_TRY(row.run());
        }
        return ok();
    });
}

Result<void> Control::set_state(SegmentNumber segment, SegmentState state) {
    return durable([&]() -> Result<void> {
        BOOST_OUTCOME_TRY(auto set, db_.query(kSetState));
        set.bind_all(static_cast<std::int64_t>(state), segment);
        BOOST_OUTCOME_TRY(set.run());
        BOOST_OUTCOME_TRY(const auto last, last_segment());
        return set_meta("last_segment", std::max(segment, last));
    });
}

Result<void> Control::harden() {
    return durable([&]() -> Result<void> {
        BOOST_OUTCOME_TRY(const auto count, generation());
        return set_meta("hardened", count + 1);
    });
}

Result<std::int64_t> Control::generation() {
    BOOST_OUTCOME_TRY(const auto count, meta("hardened"));
    return count.value_or(0);
}

Result<void> Control::erasures_done(SegmentNumber segment, const Segment::Keys& done) {
    return db_.transaction([&]() -> Result<void> {
        for (const auto& [key, columns] : done) {
            if (columns == Segment::kWhole) {
                BOOST_OUTCOME_TRY(auto erase, db_.query(kEraseErasure));
                erase.bind_all(segment, key);
                BOOST_OUTCOME_TRY(erase.run());
            }
            const KvOp row = scrub_row({segment, key, columns});
            BOOST_OUTCOME_TRY(auto erase, db_.query(kEraseScrub));
            erase.bind_all(std::string_view(row.space), std::string_view(row.key));
            erase.bind_blob(3, std::string_view(row.value));
            erase.bind(4, std::int64_t{columns == Segment::kWhole});
            BOOST_OUTCOME_TRY(erase.run());
        }
        return ok();
    });
}

Result<void> Control::set_log(const std::string& project, const LogView& log) {
    BOOST_OUTCOME_TRY(
        auto set, db_.query("INSERT OR REPLACE INTO project_log VALUES (?, ?, ?, ?, ?)")
    );
    set.bind_all(std::string_view(project), log.first_seq, log.head.seq, log.head.at);
    set.bind_blob(5, log.head.digest);
    return set.run();
}

Result<void> Control::record_floor(const std::string& project, const LogView& log) {
    return durable([&] { return set_log(project, log); });
}

Result<void> Control::record_drop(
    Month month,
    const std::vector<SegmentNumber>& segments,
    const std::vector<std::pair<std::string, LogView>>& logs
) {
    return durable([&]() -> Result<void> {
        for (const auto& [project, log] : logs) {
            BOOST_OUTCOME_TRYV(set_log(project, log));
        }
        for (const SegmentNumber segment : segments) {
            for (const char* sql :
                 {"DELETE FROM segments WHERE segment = ?",
                  "DELETE FROM spans WHERE segment = ?",
                  "DELETE FROM erasures WHERE segment = ?",
                  "DELETE FROM applied WHERE segment = ?"}) {
                BOOST_OUTCOME_TRY(auto erase, db_.query(sql));
                erase.bind_all(segment);
                BOOST_OUTCOME_TRY(erase.run());
            }
            BOOST_OUTCOME_TRY(const auto last, last_segment());
            BOOST_OUTCOME_TRY(set_meta("last_segment", std::max(last, segment)));
        }
        return set_meta("dropped_through", month.index);
    });
}

Result<void> Control::set_floor(Month month) {
    return durable([&] { return set_meta("floor_month", month.index); });
}

Result<std::optional<Month>> Control::floor() {
    BOOST_OUTCOME_TRY(const auto index, meta("floor_month"));
    return index ? std::optional<Month>(Month{static_cast<std::int32_t>(*index)}) : std::nullopt;
}

Result<std::optional<Month>> Control::dropped_through() {
    BOOST_OUTCOME_TRY(const auto index, meta("dropped_through"));
    return index ? std::optional<Month>(Month{static_cast<std::int32_t>(*index)}) : std::nullopt;
}

Result<SegmentNumber> Control::last_segment() {
    BOOST_OUTCOME_TRY(const auto number, meta("last_segment"));
    return number.value_or(0);
}

Result<void> Control::set_newest(const Newest& newest) {
    return db_.transaction([&]() -> Result<void> {
        BOOST_OUTCOME_TRY(set_meta("newest_segment", newest.number));
        return set_meta("newest_month", newest.month.index);
    });
}

Result<std::optional<Control::Newest>> Control::newest() {
    BOOST_OUTCOME_TRY(const auto number, meta("newest_segment"));
    BOOST_OUTCOME_TRY(const auto month, meta("newest_month"));
    if (!number || !month) {
        return std::nullopt;
    }
    return Newest{*number, Month{static_cast<std::int32_t>(*month)}};
}

Result<void> Control::set_meta(std::string_view name, std::int64_t value) {
    BOOST_OUTCOME_TRY(auto put, db_.query(kMetaPut));
    put.bind_all(name, value);
    return put.run();
}

Result<std::optional<std::int64_t>> Control::meta(std::string_view name) {
    BOOST_OUTCOME_TRY(auto rows, db_.query(kMetaGet));
    rows.bind_all(name);
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    return row ? std::optional(rows.integer(0)) : std::nullopt;
}

Result<std::vector<Control::Closed>> Control::closed_segments() {
    std::vector<Closed> all;
    BOOST_OUTCOME_TRY(
        auto rows, db_.query("SELECT segment, month, events, state FROM segments ORDER BY segment")
    );
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return all;
        }
        all.push_back(
            {rows.integer(0),
             Month{static_cast<std::int32_t>(rows.integer(1))},
             rows.integer(2),
             static_cast<SegmentState>(rows.integer(3))}
        );
    }
}

Result<std::vector<std::pair<std::string, Span>>> Control::spans(SegmentNumber segment) {
    std::vector<std::pair<std::string, Span>> all;
    BOOST_OUTCOME_TRY(
        auto rows,
        db_.query("SELECT project, pid, first_seq, last_seq, first_at, last_at, digest, tombstones "
                  "FROM spans WHERE segment = ? ORDER BY pid")
    );
    rows.bind_all(segment);
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return all;
        }
        Span span;
        span.pid = rows.integer(1);
        span.first_seq = rows.integer(2);
        span.last_seq = rows.integer(3);
        span.first_at = rows.integer(4);
        span.last_at = rows.integer(5);
        span.digest = digest_of(rows.blob(6));
        span.tombstones = rows.integer(7);
        all.emplace_back(std::string(rows.text(0).view()), std::move(span));
    }
}

Result<std::vector<ControlChanges::Erasure>> Control::erasures() {
    std::vector<ControlChanges::Erasure> all;
    BOOST_OUTCOME_TRY(auto rows, db_.query("SELECT segment, key FROM erasures"));
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            break;
        }
        all.push_back({rows.integer(0), rows.integer(1)});
    }
    BOOST_OUTCOME_TRY(auto scrubs, db_.query(kScrubs));
    scrubs.bind_all(std::string_view(kScrubSpace));
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, scrubs.next());
        if (!row) {
            return all;
        }
        BOOST_OUTCOME_TRY(
            const auto erasure, erasure_of(scrubs.text(0).view(), scrubs.text(1).view())
        );
        all.push_back(erasure);
    }
}

Result<std::vector<Control::Floor>> Control::floors() {
    std::vector<Floor> all;
    BOOST_OUTCOME_TRY(
        auto rows,
        db_.query("SELECT project, first_seq, head_seq, head_at, head_digest FROM project_log")
    );
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return all;
        }
        Floor floor;
        floor.project = rows.text(0).view();
        floor.first_seq = rows.integer(1);
        floor.head = {rows.integer(2), rows.integer(3), digest_of(rows.blob(4))};
        all.push_back(std::move(floor));
    }
}

Result<std::optional<std::string>> read_kv(
    Connection& db, std::string_view space, std::string_view project, std::string_view key
) {
    BOOST_OUTCOME_TRY(auto rows, db.query(kKvGet));
    rows.bind_all(space, project, key);
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    return row ? std::optional<std::string>(rows.blob(0)) : std::nullopt;
}

namespace {

/// Keys with the prefix are neighbours.
Result<void> collect(Query& rows, std::string_view prefix, std::vector<KvRow>& found) {
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row || !rows.text(1).view().starts_with(prefix)) return ok();
        found.push_back(
            {std::string(rows.text(0).view()),
             std::string(rows.text(1).view()),
             std::string(rows.blob(2))}
        );
    }
}

}  // namespace

Result<std::vector<KvRow>> scan_kv(
    Connection& db,
    std::string_view space,
    const std::string& project,
    std::string_view prefix,
    std::string_view after,
    std::uint32_t limit,
    KvOrder order
) {
    std::vector<KvRow> found;
    if (order == KvOrder::descending) {
        BOOST_OUTCOME_TRY(auto rows, db.query(kKvScanBack));
        // No byte of UTF-8 is as great.
        const std::string end = std::string(prefix) + '\xff';
        const std::string_view behind = after.empty() ? std::string_view(end) : after;
        rows.bind_all(
            space, std::string_view(project), std::string_view(end), behind, std::int64_t{limit}
        );
        BOOST_OUTCOME_TRYV(collect(rows, prefix, found));
        return found;
    }
    const bool all = project.empty();
    const std::size_t split = after.find('\0');
    const std::string_view after_project = after.substr(0, split);
    const std::string_view after_key =
        split == std::string_view::npos ? std::string_view() : after.substr(split + 1);
    BOOST_OUTCOME_TRY(auto rows, db.query(all ? kKvScanAll : kKvScan));
    if (all) {
        rows.bind_all(space, after_project, after_key, prefix, std::int64_t{limit});
    } else {
        rows.bind_all(space, std::string_view(project), prefix, after, std::int64_t{limit});
    }
    BOOST_OUTCOME_TRYV(collect(rows, prefix, found));
    return found;
}

std::string cursor_row(const std::string& project, const std::string& subscription) {
    return subscription.ends_with("." + project) ? subscription : project + "\n" + subscription;
}

Result<Seq> read_cursor(Connection& db, std::string_view name) {
    BOOST_OUTCOME_TRY(auto rows, db.query(kCursorGet));
    rows.bind_all(name);
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    return row ? rows.integer(0) : kNoSeq;
}

}  // namespace annal::sqlite
