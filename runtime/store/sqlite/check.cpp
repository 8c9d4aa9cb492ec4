#include "runtime/store/sqlite/check.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "runtime/event/seal.h"
#include "runtime/store/sqlite/candidates.h"
#include "runtime/store/sqlite/control.h"
#include "runtime/store/sqlite/migrations.h"
#include "runtime/store/sqlite/row.h"

namespace annal::sqlite {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kProblemsOfAFile = 20;
constexpr std::int64_t kRowsBetweenProgress = 20'000;
constexpr std::int64_t kSearchEvery = 97;  // sidecars are tried with one event in so many

const std::string kRows =
    "SELECT " + row_columns() +
    ", version, salt, leaf FROM events WHERE key BETWEEN ? AND ? ORDER BY key";
constexpr int kVersion = 6 + static_cast<int>(kColumns), kSalt = kVersion + 1, kLeaf = kVersion + 2;
constexpr const char* kBatches =
    "SELECT key, last_seq, last_at, digest, prev_digest FROM event_batches ORDER BY key";
constexpr const char* kProjects = "SELECT pid, project, first_seq FROM projects ORDER BY pid";
constexpr const char* kStrangers =
    "SELECT count(*) FROM events WHERE key >> 40 NOT IN (SELECT pid FROM projects)";
constexpr const char* kRollupDifference =
    "SELECT count(*) FROM (SELECT * FROM (SELECT key >> 40, created_at / 3600000000, action, "
    "count(*), max(created_at) FROM events WHERE deleted = 0 GROUP BY 1, 2, 3 EXCEPT SELECT * FROM "
    "rollup_hourly) UNION ALL SELECT * FROM (SELECT * FROM rollup_hourly EXCEPT SELECT key >> 40, "
    "created_at / 3600000000, action, count(*), max(created_at) FROM events WHERE deleted = 0 "
    "GROUP "
    "BY 1, 2, 3))";
constexpr const char* kLiveActions =
    "SELECT key, action FROM events WHERE deleted = 0 ORDER BY key";
constexpr const char* kInSearch = "SELECT 1 FROM search WHERE search MATCH ? AND rowid = ?";

Digest digest_of(std::string_view bytes) {
    Digest digest{};
    std::memcpy(digest.data(), bytes.data(), std::min(bytes.size(), digest.size()));
    return digest;
}

std::string events_text(Seq first, Seq last) {
    return first == last ? "event " + std::to_string(first)
                         : "events " + std::to_string(first) + " to " + std::to_string(last);
}

/// Whether a server holds the directory. When none does, none can for as long as this lives.
class Hold {
public:
    explicit Hold(const fs::path& directory)
        : lock_(::open((directory / "lock").c_str(), O_RDONLY | O_CLOEXEC)),
          is_free_(lock_ < 0 || ::flock(lock_, LOCK_SH | LOCK_NB) == 0) {}
    ~Hold() {
        if (lock_ >= 0) {
            ::close(lock_);
        }
    }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    [[nodiscard]] bool is_free() const { return is_free_; }

private:
    int lock_;
    bool is_free_;
};

/// The batches of a segment by project and seq, each looked at once. An open segment has no index
/// of them, so they are not asked for project by project.
class Batches {
public:
    explicit Batches(Query rows) : rows_(std::move(rows)) { step(); }

    /// The next one of this project, if there is one: `row()` is it.
    bool next(ProjectNumber pid) {
        if (taken_) {
            step();
            taken_ = false;
        }
        while (more_ && pid_of(rows_.integer(0)) < pid) {
            step();
        }
        taken_ = more_ && pid_of(rows_.integer(0)) == pid;
        return taken_;
    }
    [[nodiscard]] const Query& row() const { return rows_; }

private:
    void step() {
        const auto more = rows_.next();
        more_ = more.has_value() && more.value();
    }

    Query rows_;
    bool more_ = false, taken_ = false;
};

/// The rows of one project in one segment, against the batches that sealed them.
struct BatchCheck {
    Seq first = 0, last = kNoSeq;
    TimeUs last_at = 0;
    Digest digest{}, prev{};
    std::vector<SealedEvent> events;  // only their leaves matter
    bool whole = true;
};

class Check {
public:
    Check(const fs::path& root, const CheckObserver& observer)
        : root_(root), directory_(Directory::look(root)), observer_(observer), hold_(root) {}

    Result<CheckReport> run() {
        std::error_code error;
        if (!fs::is_directory(root_ / "segments", error) &&
            !fs::exists(directory_.control(), error)) {
            return Error{
                Errc::not_found, root_.string() + " is no data directory: nothing is in it"};
        }
        load_control();
        BOOST_OUTCOME_TRY(auto names, directory_.segments());
        drop_hidden(names);
        add_missing(names);
        of_ = static_cast<std::int64_t>(names.size());
        for (const auto& name : names) {
            if (missing_.contains(name.number)) {
                say_missing(name);
            } else {
                check_segment(name, name.number == names.back().number);
            }
            ++report_.segments;
            progress();
        }
        check_floors();
        check_keys();
        report_.projects = static_cast<std::int64_t>(heads_.size());
        return report_;
    }

private:
    // --- Reporting

    void say(const fs::path& file, std::string what) {
        say(file, "", kNoSeq, kNoSeq, std::move(what));
    }
    void say(
        const fs::path& file, const std::string& project, Seq first, Seq last, std::string what
    ) {
        ++report_.problems;
        if (++said_[file.string()] == kProblemsOfAFile) {
            what += "; more of this file is not listed";
        }
        if (said_[file.string()] <= kProblemsOfAFile && observer_.problem) {
            observer_.problem(
                {file.lexically_relative(root_), project, first, last, std::move(what)}
            );
        }
    }
    void progress() {
        if (observer_.progress) {
            observer_.progress(report_.segments, of_, report_.events);
        }
    }
    /// The value, or a problem of this file.
    template <class T>
    std::optional<T> value(const fs::path& file, Result<T> result) {
        if (result.has_error()) {
            say(file, result.error().detail);
            return std::nullopt;
        }
        return std::move(result.value());
    }
    bool done(const fs::path& file, const Result<void>& result) {
        if (result.has_error()) {
            say(file, result.error().detail);
        }
        return result.has_value();
    }

    // --- Files

    Result<Connection> open(const fs::path& path) const {
        std::error_code error;
        const auto log = fs::file_size(path.string() + "-wal", error);
        const bool has_log = !error && log > 0;
        return Connection::open(
            path,
            hold_.is_free() && !has_log ? Connection::Access::immutable : Connection::Access::read
        );
    }

    /// Opened and sound by SQLite's own account.
    std::optional<Connection> sound(const fs::path& path) {
        auto db = value(path, open(path));
        if (!db) {
            return std::nullopt;
        }
        auto rows = db->query("PRAGMA integrity_check(10)");
        for (bool more = rows.has_value(); more;) {
            const auto row = rows.value().next();
            more = row.has_value() && row.value();
            if (more && rows.value().text(0).view() != "ok") {
                say(path, "is damaged: " + std::string(rows.value().text(0).view()));
            } else if (row.has_error()) {
                say(path, row.error().detail);
                return std::nullopt;
            }
        }
        if (rows.has_error()) {
            say(path, rows.error().detail);
            return std::nullopt;
        }
        return db;
    }

    void load_control() {
        const fs::path path = directory_.control();
        auto db = sound(path);
        if (!db) {
            return;
        }
        Control control = Control::over(std::move(*db));
        // One snapshot for all that follows.
        if (!done(path, control.connection().execute("BEGIN"))) {
            return;
        }
        auto closed = value(path, control.closed_segments());
        auto erasures = value(path, control.erasures());
        auto floors = value(path, control.floors());
        auto dropped = value(path, control.dropped_through());
        if (!closed || !erasures || !floors || !dropped) {
            return;
        }
        has_control_ = true;
        dropped_ = *dropped;
        floors_ = std::move(*floors);
        for (const auto& erasure : *erasures) {
            if (erasure.columns == Segment::kWhole) {
                erasures_[erasure.segment].insert(erasure.key);
            }
        }
        for (const auto& segment : *closed) {
            closed_[segment.number] = segment;
            if (auto spans = value(path, control.spans(segment.number))) {
                spans_[segment.number] = std::move(*spans);
            }
        }
    }

    void drop_hidden(std::vector<Directory::SegmentName>& names) const {
        std::erase_if(names, [&](const auto& name) { return dropped_ && name.month <= *dropped_; });
    }

    /// Adds the segments that control.db knows and that are not there.
    void add_missing(std::vector<Directory::SegmentName>& names) {
        std::set<SegmentNumber> there;
        for (const auto& name : names) {
            there.insert(name.number);
        }
        for (const auto& [number, segment] : closed_) {
            if (!there.contains(number) && !dropped_meanwhile(number)) {
                missing_.insert(number);
                names.push_back({number, segment.month});
            }
        }
        std::sort(names.begin(), names.end(), [](const auto& a, const auto& b) {
            return a.number < b.number;
        });
    }

    void say_missing(const Directory::SegmentName& name) {
        for (const auto& [project, span] : spans_[name.number]) {
            say(directory_.segment(name.number, name.month),
                project,
                span.first_seq,
                span.last_seq,
                events_text(span.first_seq, span.last_seq) + " missing: the file is gone");
        }
        skip(name.number);
    }

    /// Under a running server a month may go while this reads.
    bool dropped_meanwhile(SegmentNumber number) {
        if (hold_.is_free()) {
            return false;
        }
        auto db = open(directory_.control());
        if (db.has_error()) {
            return false;
        }
        Control control = Control::over(std::move(db.value()));
        const auto now = control.closed_segments();
        return now.has_value() &&
               std::none_of(now.value().begin(), now.value().end(), [&](const auto& segment) {
                   return segment.number == number;
               });
    }

    // --- Segments

    void check_segment(const Directory::SegmentName& name, bool is_newest) {
        const fs::path path = directory_.segment(name.number, name.month);
        const auto known = closed_.find(name.number);
        auto db = sound(path);
        if (!db) {
            skip(name.number);
            return;
        }
        if (!done(path, db->execute("BEGIN"))) {
            skip(name.number);
            return;
        }
        const auto version = value(path, db->integer("PRAGMA user_version"));
        if (!version || (*version == 0 && is_newest)) {
            return;
        }
        const bool sealed = *version == kSealedVersion;
        if (!sealed && *version != kSegmentVersion) {
            return say(path, "is no segment of this program's version");
        }
        if (has_control_ && sealed && known == closed_.end() && hold_.is_free()) {
            say(path,
                "is sealed, but control.db does not know it; control.db is older or another's");
        }
        if (known != closed_.end() && known->second.state == SegmentState::indexed && !sealed) {
            say(path, "control.db calls it sealed, but it is not");
        }
        check_projects(name, *db, known == closed_.end() ? nullptr : &spans_[name.number]);
        if (sealed) {
            check_rollup(path, *db);
            check_search(path, directory_.search(name.number, name.month), *db);
        }
    }

    /// What can't be read is a hole; the logs go on behind it where control.db says.
    void skip(SegmentNumber number) {
        for (const auto& [project, span] : spans_[number]) {
            heads_[project] = {span.last_seq, span.last_at, span.digest};
        }
    }

    using Spans = std::vector<std::pair<std::string, Span>>;

    void check_projects(const Directory::SegmentName& name, Connection& db, const Spans* spans) {
        const fs::path path = directory_.segment(name.number, name.month);
        struct Row {
            ProjectNumber pid;
            std::string project;
            Seq first;
        };
        std::vector<Row> projects;
        auto rows = db.query(kProjects);
        while (rows.has_value()) {
            const auto row = rows.value().next();
            if (!row.has_value() || !row.value()) {
                break;
            }
            auto& q = rows.value();
            projects.push_back({q.integer(0), std::string(q.text(1).view()), q.integer(2)});
        }
        auto sealed_by = db.query(kBatches);
        if (sealed_by.has_error()) {
            say(path, sealed_by.error().detail);
            return skip(name.number);
        }
        Batches batches(std::move(sealed_by.value()));
        for (const auto& project : projects) {
            const Span* span = nullptr;
            for (std::size_t i = 0; spans != nullptr && i < spans->size(); ++i) {
                span = (*spans)[i].first == project.project ? &(*spans)[i].second : span;
            }
            if (spans != nullptr && (span == nullptr || span->pid != project.pid)) {
                say(path, project.project, kNoSeq, kNoSeq, "control.db knows no such project here");
            }
            check_log(name, db, batches, project.pid, project.project, project.first, span);
        }
        for (std::size_t i = 0; spans != nullptr && i < spans->size(); ++i) {
            const auto& [project, span] = (*spans)[i];
            const bool there = std::any_of(projects.begin(), projects.end(), [&](const Row& row) {
                return row.project == project;
            });
            if (!there) {
                say(path, project, span.first_seq, span.last_seq, "the project is missing");
                heads_[project] = {span.last_seq, span.last_at, span.digest};
            }
        }
        if (const auto strangers = value(path, db.integer(kStrangers));
            strangers && *strangers > 0) {
            say(path, std::to_string(*strangers) + " events are of no project");
        }
    }

    void check_log(
        const Directory::SegmentName& name,
        Connection& db,
        Batches& batches,
        ProjectNumber pid,
        const std::string& project,
        Seq first,
        const Span* span
    ) {
        const fs::path path = directory_.segment(name.number, name.month);
        LogCheck log{path, project, pid, name.month, {}, {}, {}, false, first, 0, {}};
        if (const auto head = heads_.find(project); head != heads_.end()) {
            log.head = head->second;
        } else {
            // A log may begin within a segment: what comes before has lost its content only.
            log.head.seq = std::min(first_seq_of(project), first) - 1;
            log.any_prev = log.head.seq != kNoSeq;
        }
        if (log.head.seq + 1 != first) {
            say(path, project, log.head.seq + 1, first - 1, "missing before this segment");
            log.any_prev = true;
        }
        auto rows = db.query(kRows);
        if (rows.has_error()) {
            return say(path, rows.error().detail);
        }
        rows.value().bind_all(row_key(pid, 0), row_key(pid, kSeqMax));
        if (!read_log(log, rows.value(), batches)) {
            return skip(name.number);
        }
        if (span != nullptr) {
            compare(log, *span, name.number);
        }
        heads_[project] = log.head;
    }

    [[nodiscard]] Seq first_seq_of(const std::string& project) const {
        for (const auto& floor : floors_) {
            if (floor.project == project) {
                return floor.first_seq;
            }
        }
        return 0;
    }

    struct LogCheck {
        const fs::path& path;
        const std::string& project;
        ProjectNumber pid;
        Month month;
        LogHead head;
        std::optional<BatchCheck> batch;
        Event event;
        bool any_prev = false;  ///< the batch before is not known
        Seq expected = 0;
        std::int64_t tombstones = 0;
        std::set<Seq> erased;
    };

    /// False: it could not be read to the end.
    bool read_log(LogCheck& log, Query& rows, Batches& batches) {
        while (true) {
            const auto row = rows.next();
            if (row.has_error()) {
                say(log.path, log.project, log.expected, kNoSeq, row.error().detail);
                return false;
            }
            if (!row.value()) {
                break;
            }
            read_row(rows, log.project, nullptr, log.event);
            if (log.event.seq != log.expected) {
                say(log.path,
                    log.project,
                    log.expected,
                    log.event.seq - 1,
                    events_text(log.expected, log.event.seq - 1) + " missing");
            }
            log.expected = log.event.seq + 1;
            to_batch_of(log, log.event.seq, batches);
            check_event(log, rows);
            if (++report_.events % kRowsBetweenProgress == 0) {
                progress();
            }
        }
        end_batch(log);
        while (next_batch(log, batches)) {
            say(log.path,
                log.project,
                log.batch->first,
                log.batch->last,
                events_text(log.batch->first, log.batch->last) +
                    " missing: their batch is there, they are not");
            log.batch.reset();
        }
        return true;
    }

    bool next_batch(LogCheck& log, Batches& batches) {
        if (!batches.next(log.pid)) {
            return false;
        }
        ++report_.batches;
        const Query& row = batches.row();
        BatchCheck batch;
        batch.first = seq_of(row.integer(0));
        batch.last = row.integer(1);
        batch.last_at = row.integer(2);
        batch.digest = digest_of(row.blob(3));
        batch.prev = digest_of(row.blob(4));
        log.batch = std::move(batch);
        return true;
    }

    void to_batch_of(LogCheck& log, Seq seq, Batches& batches) {
        while (!log.batch || seq > log.batch->last) {
            end_batch(log);
            if (!next_batch(log, batches)) {
                break;
            }
        }
        if (!log.batch || seq < log.batch->first) {
            say(log.path, log.project, seq, seq, "event " + std::to_string(seq) + " is of no batch"
            );
        }
    }

    void check_event(LogCheck& log, const Query& row) {
        const Event& event = log.event;
        const auto bad = [&](const std::string& what) {
            say(log.path,
                log.project,
                event.seq,
                event.seq,
                "event " + std::to_string(event.seq) + " " + what);
        };
        if (log.head.at != kNoTime && event.created_at <= log.head.at) {
            bad("is not later than the one before");
        }
        if (month_of(event.created_at) != log.month) {
            bad("is of another month than its segment");
        }
        const Digest leaf = digest_of(row.blob(kLeaf));
        if (event.deleted) {
            ++log.tombstones;
            ++report_.erased;
            log.erased.insert(event.seq);
            if (!row.is_null(kSalt)) {
                bad("was erased, but its salt is there");
            }
        } else if (event.erased) {
            ++report_.scrubbed;
            for (std::size_t c = 0; c < kColumns; ++c) {
                const bool empty = event.columns[c].is_null() || event.columns[c].view() == "{}";
                if ((Scrub::kAlways >> c & 1U) != 0 && !empty) {
                    bad("has no salt, as if personal data had been erased from it, but its " +
                        std::string(name(static_cast<Column>(c))) + " is there");
                    break;
                }
            }
        } else if (row.integer(kVersion) != kSealVersion) {
            bad("is sealed in a version that this program does not know");
        } else if (row.blob(kSalt).size() != std::tuple_size_v<Salt> || leaf_of_row(row, event) != leaf) {
            bad("is not what was sealed: its content and its leaf differ");
        }
        log.head.at = event.created_at;
        log.head.seq = event.seq;
        if (log.batch && event.seq >= log.batch->first) {
            log.batch->events.emplace_back().leaf = leaf;
        }
    }

    Digest leaf_of_row(const Query& row, const Event& event) {
        Salt salt{};
        std::memcpy(salt.data(), row.blob(kSalt).data(), salt.size());
        bytes_.clear();
        append_canonical_bytes(bytes_, event);
        return leaf_of(salt, bytes_);
    }

    void end_batch(LogCheck& log) {
        if (!log.batch) {
            return;
        }
        const BatchCheck& batch = *log.batch;
        const auto bad = [&](const std::string& what) {
            say(log.path,
                log.project,
                batch.first,
                batch.last,
                "the batch of " + events_text(batch.first, batch.last) + " " + what);
        };
        const bool whole = static_cast<Seq>(batch.events.size()) == batch.last - batch.first + 1;
        if (log.head.seq < batch.last) {
            say(log.path,
                log.project,
                log.head.seq + 1,
                batch.last,
                events_text(log.head.seq + 1, batch.last) + " missing");
        }
        if (!log.any_prev && batch.prev != log.head.digest) {
            bad("does not follow from the batch before it");
        }
        // Without all of its events it can't be told any more; that one is missing has been said.
        if (whole &&
            batch_digest(
                batch.prev, log.project, batch.first, batch.last, batch.last_at, batch.events
            ) != batch.digest) {
            bad("has another digest than its events give");
        }
        log.head.digest = batch.digest;
        log.any_prev = false;
        log.batch.reset();
    }

    void compare(const LogCheck& log, const Span& span, SegmentNumber number) {
        const Seq last = log.head.seq;
        if (last < span.last_seq) {
            say(log.path,
                log.project,
                last + 1,
                span.last_seq,
                events_text(last + 1, span.last_seq) +
                    " missing at the end: control.db knows more than the segment holds");
        } else if (last != span.last_seq || log.head.at != span.last_at || log.head.digest != span.digest) {
            say(log.path,
                log.project,
                span.last_seq,
                last,
                "the segment ends in another way than control.db says");
        }
        // What retention has taken away is counted nowhere.
        if (first_seq_of(log.project) > span.first_seq) {
            return;
        }
        // Erasures that have still to be done are counted there already.
        std::int64_t erased = log.tombstones;
        for (const std::int64_t key : erasures_[number]) {
            erased += pid_of(key) == span.pid && !log.erased.contains(seq_of(key)) ? 1 : 0;
        }
        const bool less = erased<span.tombstones, more = erased> span.tombstones;
        if (less || (more && hold_.is_free())) {
            say(log.path,
                log.project,
                kNoSeq,
                kNoSeq,
                std::to_string(erased) + " events are erased, control.db says " +
                    std::to_string(span.tombstones));
        }
    }

    void check_rollup(const fs::path& path, Connection& db) {
        const auto different = value(path, db.integer(kRollupDifference));
        if (different && *different > 0) {
            say(path,
                "the hourly counts differ from the events in " + std::to_string(*different) +
                    " rows");
        }
    }

    // Beside a running server an erasure takes the sidecar away, and it is built anew: what is
    // wrong with one that is not there any more, or does not know what was erased meanwhile, is
    // nothing.
    void check_search(const fs::path& segment, const fs::path& path, Connection& events) {
        std::error_code error;
        const auto made = fs::last_write_time(path, error);
        if (error) {
            return;  // it will be built
        }
        const std::string wrong = what_is_wrong(segment, path, events);
        const bool same = fs::last_write_time(path, error) == made && !error;
        if (!wrong.empty() && (hold_.is_free() || same)) {
            say(path, wrong);
        }
    }

    std::string what_is_wrong(const fs::path& segment, const fs::path& path, Connection& events) {
        auto db = open(path);
        if (db.has_error()) {
            return db.error().detail;
        }
        auto sound = db.value().integer(
            "SELECT count(*) FROM pragma_integrity_check WHERE "
            "integrity_check <> 'ok'"
        );
        if (sound.has_error() || sound.value() > 0) {
            return "is damaged; remove it, it will be built anew";
        }
        auto rows = events.query(kLiveActions);
        for (std::int64_t n = 0; rows.has_value(); ++n) {
            const auto row = rows.value().next();
            if (row.has_error() || !row.value()) {
                break;
            }
            const std::int64_t key = rows.value().integer(0);
            const std::string match = trigrams_of(rows.value().text(1).view());
            if (n % kSearchEvery == 0 && !match.empty() && !finds(db.value(), match, key) &&
                is_live(segment, key)) {
                return "does not find an event that it should (seq " + std::to_string(seq_of(key)) +
                       "); remove it, it will be built anew";
            }
        }
        return {};
    }

    static bool finds(Connection& db, const std::string& match, std::int64_t key) {
        auto found = db.query(kInSearch);
        if (found.has_error()) {
            return false;
        }
        found.value().bind_all(std::string_view(match), key);
        const auto hit = found.value().next();
        return hit.has_value() && hit.value();
    }

    /// As of now, not of the snapshot.
    bool is_live(const fs::path& segment, std::int64_t key) const {
        auto db = open(segment);
        if (db.has_error()) {
            return true;
        }
        auto rows = db.value().query("SELECT 1 FROM events WHERE key = ? AND deleted = 0");
        if (rows.has_error()) {
            return true;
        }
        rows.value().bind_all(key);
        const auto row = rows.value().next();
        return row.has_error() || row.value();
    }

    // --- The rest

    // The end of a log whose events were all dropped, or of which the newest were lost.
    void check_floors() {
        for (const auto& floor : floors_) {
            const auto head = heads_.find(floor.project);
            const bool all_dropped = floor.first_seq > floor.head.seq;
            const Seq last = head == heads_.end() ? kNoSeq : head->second.seq;
            if (!all_dropped && last < floor.head.seq) {
                say(directory_.control(),
                    floor.project,
                    std::max(last + 1, floor.first_seq),
                    floor.head.seq,
                    "the log ends at " + std::to_string(last) + ", control.db knows it longer");
            }
        }
    }

    void check_keys() {
        for (const Month month : directory_.key_months()) {
            const fs::path path = directory_.keys(month);
            auto db = sound(path);
            if (!db) {
                continue;
            }
            const auto version = value(path, db->integer("PRAGMA user_version"));
            if (version && *version != kKeysVersion && *version != 0) {
                say(path, "holds no idempotency keys of this program's version");
            } else if (version && *version == kKeysVersion) {
                const auto bad = value(
                    path,
                    db->integer("SELECT count(*) FROM keys WHERE length(hash) <> 16 OR "
                                "length(digest) <> 32 OR length(receipts) % 24 <> 0")
                );
                if (bad && *bad > 0) {
                    say(path, std::to_string(*bad) + " keys can't be read");
                }
            }
        }
    }

    const fs::path root_;
    const Directory directory_;
    const CheckObserver& observer_;
    const Hold hold_;
    CheckReport report_;
    std::int64_t of_ = 0;
    std::map<std::string, std::int64_t> said_;
    bool has_control_ = false;
    std::optional<Month> dropped_;
    std::map<SegmentNumber, Control::Closed> closed_;
    std::map<SegmentNumber, Spans> spans_;
    std::set<SegmentNumber> missing_;
    std::map<SegmentNumber, std::set<std::int64_t>> erasures_;
    std::vector<Control::Floor> floors_;
    std::map<std::string, LogHead> heads_;
    std::string bytes_;
};

}  // namespace
}  // namespace annal::sqlite

namespace annal {

Result<CheckReport> check_sqlite_store(
    const std::filesystem::path& directory, const CheckObserver& observer
) {
    return sqlite::Check(directory.lexically_normal(), observer).run();
}

}  // namespace annal
