#include "runtime/store/sqlite/segment_file.h"

#include <algorithm>
#include <cstring>

#include "runtime/store/idempotency_key.h"
#include "runtime/store/sqlite/migrations.h"
#include "runtime/store/sqlite/row.h"

namespace annal::sqlite {
namespace {

constexpr TimeUs kHourUs = 3'600 * kSecondUs;
// How much house-keeping hands to the device at once. An append's fsync waits for all that the
// device has been handed, so in one piece a segment's indexes would hold it up for 100 ms.
constexpr const char* kCheckpointOften = "PRAGMA wal_autocheckpoint = 256";
constexpr int kSearchRowsACommit = 8'192;
constexpr std::chrono::seconds kReadersPatience{2};

std::string make_insert() {
    std::string columns = "key, created_at, occurred_at, random, version, deleted";
    std::string values = "?, ?, ?, ?, ?, 0";
    for (std::size_t c = 0; c < kColumns; ++c) {
        columns += ", " + std::string(name(static_cast<Column>(c)));
        values += ", ?";
    }
    return "INSERT INTO events (" + columns + ", salt, leaf) VALUES (" + values + ", ?, ?)";
}

std::string make_erase(const std::string& which) {
    std::string sql = "UPDATE events SET deleted = 1, occurred_at = NULL, salt = NULL";
    for (std::size_t c = 0; c < kColumns; ++c) {
        sql += ", " + std::string(name(static_cast<Column>(c))) + " = NULL";
    }
    return sql + " WHERE " + which + " AND deleted = 0";
}

std::string make_scrub(const Scrub& scrub) {
    std::string sql = "UPDATE events SET salt = NULL";
    for (std::size_t c = 0; c < kColumns; ++c) {
        const auto column = static_cast<Column>(c);
        if (scrub.takes(column)) {
            sql += ", " + std::string(name(column));
            sql += column == Column::metadata ? " = '{}'" : " = NULL";
        }
    }
    return sql + " WHERE key = ? AND deleted = 0";
}

const std::string kInsertEvent = make_insert();
const std::string kEraseEvent = make_erase("key = ?");
const std::string kPurgeEvents = make_erase("key BETWEEN ? AND ?");
const std::string kAllRows =
    "SELECT " + row_columns() + " FROM events WHERE key > ? ORDER BY key LIMIT ?";
// Bounds what a commit writes and what a purge keeps other work on the file waiting for.
constexpr std::int64_t kPurgedAtOnce = 1'000;
constexpr const char* kNextToPurge =
    "SELECT count(*), min(key), max(key) FROM (SELECT key FROM events WHERE key BETWEEN ? AND ? "
    "AND "
    "deleted = 0 ORDER BY key LIMIT ?)";
constexpr const char* kLowerRollupByRows =
    "UPDATE rollup_hourly SET count = rollup_hourly.count - gone.n FROM (SELECT created_at / "
    "3600000000 AS hour, action, count(*) AS n FROM events WHERE key BETWEEN ? AND ? AND deleted = "
    "0 "
    "GROUP BY 1, 2) AS gone WHERE rollup_hourly.pid = ? AND rollup_hourly.hour = gone.hour AND "
    "rollup_hourly.action = gone.action";
constexpr const char* kInsertBatch =
    "INSERT INTO event_batches (key, last_seq, last_at, digest, prev_digest) VALUES (?, ?, ?, ?, "
    "?)";
constexpr const char* kInsertProject = "INSERT INTO projects VALUES (?, ?, ?)";
constexpr const char* kInsertRedo = "INSERT INTO redo VALUES (?, ?, ?)";
constexpr const char* kReadRedo = "SELECT n, body FROM redo WHERE target = ? AND n > ? ORDER BY n";
constexpr const char* kIsLive = "SELECT 1 FROM events WHERE key = ? AND deleted = 0";
// SQLite takes the other columns from the row that has the maximum.
constexpr const char* kLastBatches =
    "SELECT max(key), last_seq, last_at, digest FROM event_batches GROUP BY key >> 40";
constexpr const char* kCountTombstones =
    "SELECT count(*) FROM events WHERE key BETWEEN ? AND ? AND deleted = 1";
constexpr const char* kLowerRollup =
    "UPDATE rollup_hourly SET count = count - 1, last_at = coalesce((SELECT max(created_at) FROM "
    "events INDEXED BY events_action WHERE action = ?3 AND key BETWEEN ?4 AND ?5 AND created_at / "
    "3600000000 = ?2), 0) WHERE pid = ?1 AND hour = ?2 AND action = ?3";
constexpr const char* kEndRollup =
    "DELETE FROM rollup_hourly WHERE pid = ? AND hour = ? AND action = ? AND count <= 0";

}  // namespace

Result<SegmentFile> SegmentFile::open(const Segment& segment) {
    BOOST_OUTCOME_TRY(auto db, open_wal(segment.path, Durability::full));
    BOOST_OUTCOME_TRY(db.execute("PRAGMA cache_size = -8192"));
    SegmentFile file(std::move(db));
    BOOST_OUTCOME_TRY(const bool indexed, file.is_indexed());
    if (!indexed) {
        BOOST_OUTCOME_TRY(prepare_schema(file.db_, segment.path, k_create_segment, kSegmentVersion)
        );
        BOOST_OUTCOME_TRY(sync_folder(segment.path.parent_path()));
    }
    return file;
}

Result<void> SegmentFile::add_project(ProjectNumber pid, std::string_view project, Seq first_seq) {
    BOOST_OUTCOME_TRY(auto insert, db_.query(kInsertProject));
    insert.bind_all(pid, project, first_seq);
    return insert.run();
}

Result<void> SegmentFile::add_event(
    ProjectNumber pid, const SealedEvent& sealed, const EventDraft& draft
) {
    BOOST_OUTCOME_TRY(auto insert, db_.query(kInsertEvent));
    insert.bind(1, row_key(pid, sealed.seq));
    insert.bind(2, sealed.created_at);
    if (draft.occurred_at == kNoTime) {
        insert.bind_null(3);
    } else {
        insert.bind(3, draft.occurred_at);
    }
    insert.bind(4, static_cast<std::int64_t>(random_bits(sealed.id)));
    insert.bind(5, std::int64_t{kSealVersion});
    int index = 6;
    for (const Text& text : draft.columns) {
        insert.bind(index++, text);
    }
    insert.bind_blob(index++, sealed.salt);
    insert.bind_blob(index, sealed.leaf);
    return insert.run();
}

Result<void> SegmentFile::add_batch(ProjectNumber pid, const SealedBatch& batch) {
    BOOST_OUTCOME_TRY(auto insert, db_.query(kInsertBatch));
    insert.bind_all(row_key(pid, batch.first_seq), batch.last_seq, batch.last_at);
    insert.bind_blob(4, batch.digest);
    insert.bind_blob(5, batch.prev_digest);
    return insert.run();
}

Result<void> SegmentFile::add_redo(std::int64_t n, RedoTarget target, std::string_view body) {
    BOOST_OUTCOME_TRY(auto insert, db_.query(kInsertRedo));
    insert.bind_all(n, static_cast<std::int64_t>(target));
    insert.bind_blob(3, body);
    return insert.run();
}

Result<bool> SegmentFile::erase(std::int64_t key) {
    BOOST_OUTCOME_TRY(auto erase, db_.query(kEraseEvent));
    erase.bind_all(key);
    BOOST_OUTCOME_TRY(erase.run());
    return db_.changes() == 1;
}

Result<void> SegmentFile::scrub(std::int64_t key, std::uint32_t columns) {
    BOOST_OUTCOME_TRY(auto scrub, db_.query(make_scrub({seq_of(key), columns})));
    scrub.bind_all(key);
    return scrub.run();
}

Result<bool> SegmentFile::is_live(std::int64_t key) {
    BOOST_OUTCOME_TRY(auto rows, db_.query(kIsLive));
    rows.bind_all(key);
    return rows.next();
}

Result<void> SegmentFile::read_redo(
    RedoTarget target,
    std::int64_t after,
    const std::function<Result<void>(std::int64_t, std::string_view)>& take
) {
    BOOST_OUTCOME_TRY(auto rows, db_.query(kReadRedo));
    rows.bind_all(static_cast<std::int64_t>(target), after);
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return ok();
        }
        BOOST_OUTCOME_TRY(take(rows.integer(0), rows.blob(1)));
    }
}

Result<std::int64_t> SegmentFile::last_redo() {
    return db_.integer("SELECT coalesce(max(n), 0) FROM redo");
}

Result<void> SegmentFile::clear_redo() {
    return db_.transaction([&]() -> Result<void> {
        // Of what control.db applies; it does not count the keys' records.
        BOOST_OUTCOME_TRY(
            const auto last, db_.integer("SELECT coalesce(max(n), 0) FROM redo WHERE target <> 1")
        );
        BOOST_OUTCOME_TRY(db_.execute("DELETE FROM redo"));
        return last == 0 ? ok() : add_redo(last, RedoTarget::forgotten, "");
    });
}

Result<std::int64_t> SegmentFile::forgotten_redo() {
    return db_.integer("SELECT coalesce(max(n), 0) FROM redo WHERE target = 2");
}

Result<bool> SegmentFile::is_indexed() {
    BOOST_OUTCOME_TRY(const auto version, db_.integer("PRAGMA user_version"));
    return version == kSealedVersion;
}

Result<void> SegmentFile::seal() {
    BOOST_OUTCOME_TRY(db_.execute("PRAGMA cache_size = -65536"));
    BOOST_OUTCOME_TRY(db_.execute("PRAGMA temp_store = MEMORY"));
    BOOST_OUTCOME_TRY(db_.execute(kCheckpointOften));
    BOOST_OUTCOME_TRY(db_.execute(k_index_segment));
    return db_.transaction([&]() -> Result<void> {
        BOOST_OUTCOME_TRY(db_.execute(k_seal_segment));
        const std::string version = "PRAGMA user_version = " + std::to_string(kSealedVersion);
        return db_.execute(version.c_str());
    });
}

Result<void> SegmentFile::erase_closed(const Segment::Keys& keys) {
    return db_.transaction([&]() -> Result<void> {
        BOOST_OUTCOME_TRY(const bool indexed, is_indexed());
        for (const auto& [key, columns] : keys) {
            if (columns == Segment::kWhole) {
                BOOST_OUTCOME_TRY(erase_closed(key, indexed));
            } else {
                BOOST_OUTCOME_TRY(scrub(key, columns));
            }
        }
        return indexed ? db_.execute("UPDATE mutation SET epoch = epoch + 1") : ok();
    });
}

Result<void> SegmentFile::erase_closed(std::int64_t key, bool indexed) {
    std::string action;
    TimeUs created_at = 0;
    {
        BOOST_OUTCOME_TRY(
            auto rows,
            db_.query("SELECT action, created_at FROM events WHERE key = ? AND deleted = 0")
        );
        rows.bind_all(key);
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return ok();
        }
        action = rows.text(0).view();
        created_at = rows.integer(1);
    }
    BOOST_OUTCOME_TRY(erase(key));
    return indexed ? lower_rollup(key, action, created_at) : ok();
}

Result<void> SegmentFile::lower_rollup(
    std::int64_t key, std::string_view action, TimeUs created_at
) {
    const ProjectNumber pid = pid_of(key);
    const std::int64_t hour = created_at / kHourUs;
    BOOST_OUTCOME_TRY(auto lower, db_.query(kLowerRollup));
    lower.bind_all(pid, hour, action, row_key(pid, 0), row_key(pid, kSeqMax));
    BOOST_OUTCOME_TRY(lower.run());
    BOOST_OUTCOME_TRY(auto end, db_.query(kEndRollup));
    end.bind_all(pid, hour, action);
    return end.run();
}

Result<std::int64_t> SegmentFile::purge(ProjectNumber pid, Seq end) {
    std::int64_t purged = 0;
    BOOST_OUTCOME_TRY(db_.transaction([&]() -> Result<void> {
        std::int64_t first = 0, last = 0;
        {
            BOOST_OUTCOME_TRY(auto rows, db_.query(kNextToPurge));
            rows.bind_all(row_key(pid, 0), row_key(pid, end - 1), kPurgedAtOnce);
            BOOST_OUTCOME_TRYV(rows.next());
            purged = rows.integer(0);
            first = rows.integer(1);
            last = rows.integer(2);
        }
        if (purged == 0) {
            return ok();
        }
        BOOST_OUTCOME_TRY(auto lower, db_.query(kLowerRollupByRows));
        lower.bind_all(first, last, pid);
        BOOST_OUTCOME_TRY(lower.run());
        BOOST_OUTCOME_TRY(
            auto clear, db_.query("DELETE FROM rollup_hourly WHERE pid = ? AND count = 0")
        );
        clear.bind_all(pid);
        BOOST_OUTCOME_TRY(clear.run());
        BOOST_OUTCOME_TRY(auto erase, db_.query(kPurgeEvents));
        erase.bind_all(first, last);
        BOOST_OUTCOME_TRY(erase.run());
        return db_.execute("UPDATE mutation SET epoch = epoch + 1");
    }));
    return purged;
}

Result<void> SegmentFile::shrink() {
    BOOST_OUTCOME_TRY(const auto pages, db_.integer("PRAGMA page_count"));
    BOOST_OUTCOME_TRY(const auto spare, db_.integer("PRAGMA freelist_count"));
    return spare * 4 < pages ? ok() : db_.execute("VACUUM");
}

Result<std::map<ProjectNumber, std::string>> SegmentFile::projects() {
    std::map<ProjectNumber, std::string> all;
    BOOST_OUTCOME_TRY(auto rows, db_.query("SELECT pid, project FROM projects"));
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return all;
        }
        all[rows.integer(0)] = rows.text(1).view();
    }
}

Result<bool> SegmentFile::empty_log() {
    return db_.truncate_wal(kReadersPatience);
}

Result<std::vector<std::pair<std::string, Span>>> SegmentFile::spans(bool count_tombstones) {
    std::vector<std::pair<std::string, Span>> all;
    BOOST_OUTCOME_TRY(const auto ends, last_batches());
    BOOST_OUTCOME_TRY(
        auto projects,
        db_.query("SELECT pid, project, first_seq, created_at FROM projects JOIN events ON key = "
                  "(pid << 40) | first_seq ORDER BY pid")
    );
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, projects.next());
        if (!row) {
            return all;
        }
        Span span;
        span.pid = projects.integer(0);
        span.first_seq = projects.integer(2);
        span.first_at = projects.integer(3);
        const std::int64_t first = row_key(span.pid, 0), last = row_key(span.pid, kSeqMax);
        if (const auto end = ends.find(span.pid); end != ends.end()) {
            span.last_seq = end->second.seq;
            span.last_at = end->second.at;
            span.digest = end->second.digest;
        }
        if (count_tombstones) {
            BOOST_OUTCOME_TRY(auto count, db_.query(kCountTombstones));
            count.bind_all(first, last);
            BOOST_OUTCOME_TRY(count.next());
            span.tombstones = count.integer(0);
        }
        all.emplace_back(std::string(projects.text(1).view()), std::move(span));
    }
}

Result<std::map<ProjectNumber, LogHead>> SegmentFile::last_batches() {
    std::map<ProjectNumber, LogHead> ends;
    BOOST_OUTCOME_TRY(auto rows, db_.query(kLastBatches));
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return ends;
        }
        LogHead& end = ends[pid_of(rows.integer(0))];
        end.seq = rows.integer(1);
        end.at = rows.integer(2);
        const std::string_view digest = rows.blob(3);
        std::memcpy(end.digest.data(), digest.data(), std::min(end.digest.size(), digest.size()));
    }
}

Result<void> SegmentFile::load(Postings& postings, TextLog& texts) {
    Event event;
    BOOST_OUTCOME_TRY(auto rows, db_.query(kAllRows));
    rows.bind_all(std::int64_t{-1}, INT64_MAX);
    while (true) {
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (!row) {
            return ok();
        }
        const std::int64_t key = rows.integer(0);
        read_row(rows, "", nullptr, event);
        if (event.deleted) {
            postings.add_tombstone(key, event.created_at);
        } else {
            const Postings::Entry entry{key, event.created_at, event.columns};
            postings.add(std::span(&entry, 1));
            texts.add(std::span(&entry, 1));
        }
    }
}

Result<void> build_search(
    const Segment& segment, const std::filesystem::path& to, const std::function<bool()>& stop
) {
    remove_database(to);
    BOOST_OUTCOME_TRY(auto from, Connection::open(segment.path, Connection::Access::read));
    {
        BOOST_OUTCOME_TRY(auto db, Connection::open(to, Connection::Access::write));
        db.interrupt_when(stop);
        BOOST_OUTCOME_TRY(db.execute("PRAGMA journal_mode = OFF; PRAGMA cache_size = -16384"));
        BOOST_OUTCOME_TRY(db.begin());
        BOOST_OUTCOME_TRY(db.execute(k_create_search));
        BOOST_OUTCOME_TRY(
            auto rows,
            from.query("SELECT key, action, actor_id, target_id, description FROM events "
                       "WHERE deleted = 0 ORDER BY key")
        );
        BOOST_OUTCOME_TRY(auto insert, db.query("INSERT INTO search (rowid, body) VALUES (?, ?)"));
        std::string body;
        for (int added = 1;; ++added) {
            BOOST_OUTCOME_TRY(const bool row, rows.next());
            if (!row) {
                break;
            }
            if (added % kSearchRowsACommit == 0) {
                BOOST_OUTCOME_TRY(db.commit());
                BOOST_OUTCOME_TRY(db.begin());
            }
            body.clear();
            for (int c = 1; c <= 4; ++c) {
                body += rows.text(c).view();
                body += '\n';
            }
            insert.bind_all(rows.integer(0), std::string_view(body));
            BOOST_OUTCOME_TRY(insert.run());
        }
        const std::string version = "PRAGMA user_version = " + std::to_string(kSearchVersion);
        BOOST_OUTCOME_TRY(db.execute(version.c_str()));
        BOOST_OUTCOME_TRY(db.commit());
    }
    return sync_folder(to.parent_path());
}

}  // namespace annal::sqlite
