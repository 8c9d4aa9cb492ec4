#include "runtime/store/sqlite/committer.h"

#include <algorithm>
#include <chrono>

#include "runtime/core/log.h"
#include "runtime/store/sqlite/committed.h"
#include "runtime/store/sqlite/migrations.h"

namespace annal::sqlite {
namespace {

// Beyond this a commit would rather have the redo records forgotten than keep them for the whole
// segment.
constexpr std::size_t kRedoBytesMax = 16U << 20;
constexpr int kCheckpointPages = 4'096;
constexpr int kRestartPages = 32'768;
constexpr TimeUs kMonthGrace = 600 * kSecondUs;

double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Committer::Committer(
    const Directory& directory,
    const Clock& clock,
    Metrics& metrics,
    Catalog& catalog,
    Control control,
    std::uint32_t segment_events_max
)
    : directory_(directory),
      clock_(clock),
      catalog_(catalog),
      segment_events_max_(std::max<std::uint32_t>(1, segment_events_max)),
      control_(std::move(control)),
      keys_(directory),
      checkpointer_(metrics),
      commits_(metrics.define(
          MetricKind::counter, "annal_store_commits_total", "Transactions made durable."
      )),
      commit_seconds_(metrics.define(
          MetricKind::histogram,
          "annal_store_commit_seconds",
          "Time until a transaction was durable."
      )),
      failures_(metrics.define(
          MetricKind::counter,
          "annal_store_failed_commits_total",
          "Transactions that were not written."
      )) {}

Result<void> Committer::resume(
    std::shared_ptr<Segment> open, SegmentNumber last_number, std::optional<Month> floor
) {
    last_number_ = last_number;
    floor_month_ = floor;
    // Leases end with the process that they are kept in, which has the directory to itself. Their
    // fences go on rising, so that no destination that was shown one takes a later one for stale.
    BOOST_OUTCOME_TRY(const std::int64_t generation, control_.generation());
    leases_ = LeaseTable(generation << 32);
    if (open == nullptr) {
        return ok();
    }
    BOOST_OUTCOME_TRY(auto file, SegmentFile::open(*open));
    BOOST_OUTCOME_TRY(const auto spans, file.spans(false));
    for (const auto& [project, span] : spans) {
        pids_[project] = span.pid;
        last_pid_ = std::max(last_pid_, span.pid);
    }
    BOOST_OUTCOME_TRY(const auto last_redo, file.last_redo());
    BOOST_OUTCOME_TRY(const auto applied, control_.applied(open->number));
    BOOST_OUTCOME_TRY(keys_.enter(open->month));
    BOOST_OUTCOME_TRY(const auto applied_keys, keys_.applied(open->number));
    // Forgotten records must not lend their numbers to new ones.
    next_redo_ = std::max({last_redo, applied, applied_keys}) + 1;
    open_ = std::move(open);
    file_ = std::move(file);
    return ok();
}

Result<void> Committer::replay(SegmentFile& file, const Segment& segment) {
    BOOST_OUTCOME_TRY(keys_.enter(segment.month));
    BOOST_OUTCOME_TRY(const auto in_control, control_.applied(segment.number));
    BOOST_OUTCOME_TRY(file.read_redo(
        RedoTarget::control,
        in_control,
        [&](std::int64_t n, std::string_view body) -> Result<void> {
            BOOST_OUTCOME_TRY(const auto changes, ControlChanges::decode(body));
            return control_.apply(segment.number, n, changes);
        }
    ));
    BOOST_OUTCOME_TRY(const auto in_keys, keys_.applied(segment.number));
    BOOST_OUTCOME_TRY(file.read_redo(
        RedoTarget::keys,
        in_keys,
        [&](std::int64_t n, std::string_view body) -> Result<void> {
            BOOST_OUTCOME_TRY(auto records, decode_keys(body));
            keys_.add(std::move(records), segment.number, n);
            return keys_.flush_is_due() ? keys_.flush(Durability::normal) : ok();
        }
    ));
    return keys_.flush(Durability::normal);
}

TimeUs Committer::floor() const {
    const Month month = std::max(
        open_ == nullptr ? Month{INT32_MIN} : open_->month, floor_month_.value_or(Month{INT32_MIN})
    );
    return month.index == INT32_MIN ? 0 : start_of(month);
}

void Committer::append(std::span<AppendWork> work) {
    const TimeUs now = clock_.wall_us();
    for (AppendWork& item : work) {
        in_transaction_.push_back(&item);
        *item.outcome = append_one(*item.unit, now);
    }
    if (auto done = commit(); done.has_error()) {
        abandon(done.error());
    }
    in_transaction_.clear();
}

// An error of the unit is its outcome; an error of the engine ends the transaction for all that are
// in it.
AppendOutcome Committer::append_one(const AppendUnit& unit, TimeUs now) {
    Result<void> prepared = ready();
    if (prepared.has_value() && open_ == nullptr) {
        prepared = open_segment(month_of(std::max(now, floor())));
    }
    if (prepared.has_error()) {
        set_refusal(prepared.error().detail);
        return prepared.error();
    }
    Committed committed(
        catalog_,
        control_,
        keys_,
        [this](const auto& segment, std::int64_t key) { return is_live(segment, key); },
        now
    );
    BOOST_OUTCOME_TRY(auto plan, UnitPlanner(committed, staged_.units, now, floor()).plan(unit));
    if (!plan.replayed) {
        BOOST_OUTCOME_TRY(check_fences(unit));
    }
    // What is in the open segment now may be in a closed one when there is room.
    const auto erased = locate_erased(plan);
    Result<void> written = make_room(plan);
    if (written.has_value() && !plan.changes_nothing()) {
        written = write(plan, erased);
    }
    if (written.has_error()) {
        AppendWork* const own = in_transaction_.back();
        abandon(written.error());
        in_transaction_.clear();
        in_transaction_.push_back(own);
        return written.error();
    }
    AppendOutcome outcome = std::move(plan.receipts);
    staged_.units.add(std::move(plan));
    return outcome;
}

std::vector<Erased> Committer::locate_erased(const PlannedUnit& plan) const {
    std::vector<Erased> erased;
    if (plan.erase.empty() && plan.scrub.empty()) {
        return erased;
    }
    const std::string& project = plan.unit->project;
    const auto staged = staged_.units.logs.find(project);
    const auto log = catalog_.view(project);
    const auto locate = [&](Seq seq, std::uint32_t columns) {
        if (staged != staged_.units.logs.end() && seq >= staged->second.first_seq) {
            erased.push_back({project, seq, open_, row_key(pids_.at(project), seq), columns});
        } else {
            const Span& span = *log->span_of(seq);
            erased.push_back({project, seq, span.segment, row_key(span.pid, seq), columns});
        }
    };
    for (const Seq seq : plan.erase) {
        locate(seq, Segment::kWhole);
    }
    for (const Scrub& scrub : plan.scrub) {
        locate(scrub.seq, scrub.columns);
    }
    return erased;
}

// A row of which something else has still to go loses both.
std::uint32_t Committer::columns_to_go(const Erased& event) const {
    const auto erasing = event.segment->erasing();
    const auto* const pending = Segment::pending(erasing.get(), event.key);
    std::uint32_t columns = event.columns | (pending == nullptr ? 0U : *pending);
    for (const Erased& other : staged_.erased) {
        const bool same = other.segment == event.segment && other.key == event.key;
        columns |= same ? other.columns : 0U;
    }
    return columns;
}

Result<void> Committer::check_fences(const AppendUnit& unit) {
    for (const CursorMove& move : unit.cursors) {
        if (move.fence == 0) {
            continue;
        }
        BOOST_OUTCOME_TRY(leases_.check(unit.project, move));
        BOOST_OUTCOME_TRY(const Seq stored, cursor_before(unit, move));
        BOOST_OUTCOME_TRY(check_forward(move, stored));
    }
    return ok();
}

// Where the moves before `move` have taken its subscription: of this unit, of this transaction, of
// those before.
Result<Seq> Committer::cursor_before(const AppendUnit& unit, const CursorMove& move) {
    const auto* earlier = &move;
    while (earlier != unit.cursors.data()) {
        if ((--earlier)->subscription == move.subscription) {
            return earlier->to;
        }
    }
    const std::string row = cursor_row(unit.project, move.subscription);
    const auto staged = staged_cursors_.find(row);
    return staged != staged_cursors_.end() ? Result<Seq>(staged->second)
                                           : read_cursor(control_.connection(), row);
}

// After a failure: the file opened again, and what the failure left undone.
Result<void> Committer::ready() {
    if (open_ != nullptr && !file_) {
        BOOST_OUTCOME_TRY(auto file, SegmentFile::open(*open_));
        file_ = std::move(file);
    }
    if (behind_) {
        BOOST_OUTCOME_TRY(catch_up());
    }
    return keys_.flush_is_due() ? keys_.flush(Durability::normal) : ok();
}

Result<void> Committer::catch_up() {
    BOOST_OUTCOME_TRY(replay(*file_, *open_));
    behind_ = false;
    return ok();
}

Result<void> Committer::open_segment(Month month) {
    const SegmentNumber number = last_number_ + 1;
    BOOST_OUTCOME_TRY(directory_.make_month(month));
    auto segment = std::make_shared<Segment>(
        number, month, directory_.segment(number, month), directory_.search(number, month)
    );
    BOOST_OUTCOME_TRY(auto file, SegmentFile::open(*segment));
    BOOST_OUTCOME_TRY(keys_.enter(month));
    segment->set_postings(std::make_shared<Postings>(segment_events_max_));
    segment->set_text_log(std::make_shared<TextLog>());
    if (open_ != nullptr) {
        BOOST_OUTCOME_TRY(close_segment());
    }
    BOOST_OUTCOME_TRY(control_.set_newest({number, month}));
    last_number_ = number;
    catalog_.add_segment(segment);
    open_ = std::move(segment);
    file_ = std::move(file);
    pids_.clear();
    last_pid_ = 0;
    next_redo_ = 1;
    redo_bytes_ = 0;
    return ok();
}

// Its redo stays until the keeper has settled it.
Result<void> Committer::close_segment() {
    BOOST_OUTCOME_TRY(control_.record_closed(*open_, catalog_.open_spans()));
    catalog_.close_open();
    file_.reset();
    if (hooks_.closed) {
        hooks_.closed(open_);
    }
    open_.reset();
    return ok();
}

// A unit that does not fit into the open segment begins the next one.
Result<void> Committer::make_room(const PlannedUnit& plan) {
    if (plan.sealed.events.empty()) {
        return ok();
    }
    const Month month = month_of(plan.sealed.last_at);
    const std::int64_t present = open_->events + staged_.events;
    const bool full =
        present > 0 &&
        present + static_cast<std::int64_t>(plan.sealed.events.size()) > segment_events_max_;
    if (month == open_->month && !full) {
        return ok();
    }
    BOOST_OUTCOME_TRY(commit());
    // What is committed is answered, whatever happens to the rest.
    in_transaction_.erase(in_transaction_.begin(), in_transaction_.end() - 1);
    if (behind_) {
        BOOST_OUTCOME_TRY(catch_up());
    }
    BOOST_OUTCOME_TRY(keys_.flush(Durability::normal));
    return open_segment(month);
}

Result<void> Committer::write(const PlannedUnit& plan, const std::vector<Erased>& erased) {
    const AppendUnit& unit = *plan.unit;
    if (!staged_.begun) {
        BOOST_OUTCOME_TRY(file_->begin());
        staged_.begun = true;
    }
    if (!plan.sealed.events.empty()) {
        BOOST_OUTCOME_TRY(write_events(plan));
    }
    BOOST_OUTCOME_TRY(write_erasures(erased));
    for (const KvOp& op : unit.kv) {
        if (op.kind == KvOp::Kind::put || op.kind == KvOp::Kind::erase) {
            staged_.changes.kv.push_back(op);
        }
    }
    for (const CursorMove& move : unit.cursors) {
        const std::string row = cursor_row(unit.project, move.subscription);
        staged_.changes.cursors.push_back({row, move.to});
        staged_cursors_[row] = move.to;
    }
    return ok();
}

Result<void> Committer::write_events(const PlannedUnit& plan) {
    const std::string& project = plan.unit->project;
    const SealedBatch& sealed = plan.sealed;
    const auto drafts = plan.new_events();
    BOOST_OUTCOME_TRY(const auto pid, project_number(project, sealed.first_seq));
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        BOOST_OUTCOME_TRY(file_->add_event(pid, sealed.events[i], drafts[i]));
    }
    BOOST_OUTCOME_TRY(file_->add_batch(pid, sealed));
    // The text outlives the transaction: the caller keeps it until it is answered. The drafts of a
    // unit that was partly replayed live in the plan, so their columns are taken from the unit.
    std::size_t next = 0;
    for (std::size_t i = 0; i < plan.unit->events.size(); ++i) {
        if (plan.receipts[i].replayed) {
            continue;
        }
        const SealedEvent& event = sealed.events[next++];
        staged_.entries.push_back(
            {row_key(pid, event.seq), event.created_at, plan.unit->events[i].columns}
        );
    }
    staged_.events += static_cast<std::int64_t>(drafts.size());
    return ok();
}

Result<void> Committer::write_erasures(const std::vector<Erased>& erased) {
    for (const Erased& event : erased) {
        const bool whole = event.columns == Segment::kWhole;
        if (event.segment == open_ && whole) {
            BOOST_OUTCOME_TRY(file_->erase(event.key));
        } else if (event.segment == open_) {
            BOOST_OUTCOME_TRY(file_->scrub(event.key, event.columns));
        } else if (whole) {
            staged_.changes.erasures.push_back({event.segment->number, event.key});
        } else {
            staged_.changes.kv.push_back(
                scrub_row({event.segment->number, event.key, columns_to_go(event)})
            );
        }
        staged_.erased.push_back(event);
    }
    return ok();
}

Result<ProjectNumber> Committer::project_number(const std::string& project, Seq first_seq) {
    const auto found = pids_.find(project);
    if (found != pids_.end()) {
        return found->second;
    }
    const ProjectNumber pid = last_pid_ + 1;
    BOOST_OUTCOME_TRY(file_->add_project(pid, project, first_seq));
    last_pid_ = pid;
    pids_[project] = pid;
    new_projects_.push_back(project);
    return pid;
}

Result<void> Committer::commit() {
    if (!staged_.writes()) {
        return ok();
    }
    const auto start = std::chrono::steady_clock::now();
    const std::int64_t n = next_redo_;
    if (!staged_.changes.empty()) {
        const std::string body = staged_.changes.encode();
        BOOST_OUTCOME_TRY(file_->add_redo(n, RedoTarget::control, body));
        redo_bytes_ += body.size();
    }
    if (!staged_.units.keys.empty()) {
        const std::string body = encode(staged_.units.keys);
        BOOST_OUTCOME_TRY(file_->add_redo(n, RedoTarget::keys, body));
        redo_bytes_ += body.size();
    }
    BOOST_OUTCOME_TRY(file_->commit());
    set_refusal("");
    next_redo_ = n + 1;
    commits_.record(1);
    commit_seconds_.record(seconds_since(start));
    if (!staged_.changes.empty()) {
        if (auto applied = control_.apply(open_->number, n, staged_.changes); applied.has_error()) {
            // It is durable all the same. Nothing is read from control.db or appended until it has
            // caught up.
            log::error("store.control_behind", {{"error", applied.error().detail}});
            behind_ = true;
            set_refusal(applied.error().detail);
        }
    }
    if (!staged_.units.keys.empty()) {
        keys_.add(std::move(staged_.units.keys), open_->number, n);
    }
    publish();
    watch_wal(file_->connection(), open_->path);
    return ok();
}

// Postings before the catalog: whoever sees a head finds what is below it.
void Committer::publish() {
    const auto postings = open_->postings();
    postings->add(staged_.entries);
    open_->text_log()->add(staged_.entries);
    std::map<std::shared_ptr<Segment>, Segment::Keys> erasing, scrubbed;
    for (const auto& erased : staged_.erased) {
        const bool whole = erased.columns == Segment::kWhole;
        if (erased.segment == open_) {
            wal_holds_erased_ = true;
        } else {
            // A row that was erased as a whole is scrubbed no more, so the last one wins.
            auto& columns = erasing[erased.segment][erased.key];
            columns = whole ? Segment::kWhole : columns | erased.columns;
        }
        if (!whole) {
            scrubbed[erased.segment][erased.key] |= erased.columns;
        } else if (const auto own = erased.segment->postings()) {
            own->erase(erased.key);
        }
    }
    for (const auto& [segment, keys] : scrubbed) {
        if (const auto own = segment->postings()) {
            own->scrub(keys);
        }
        if (const auto texts = segment->text_log()) {
            texts->scrub(keys);
        }
    }
    for (const auto& [segment, keys] : erasing) {
        segment->add_erasing(keys);
    }
    open_->events += staged_.events;
    for (const auto& [project, log] : staged_.units.logs) {
        catalog_.grow(project, open_, pids_.at(project), log.first_seq, log.first_at, log.head);
    }
    for (const auto& erased : staged_.erased) {
        if (erased.columns == Segment::kWhole) {
            catalog_.add_tombstone(erased.project, erased.seq);
        }
        if (erased.segment != open_ && hooks_.erased) {
            const auto keys = erased.segment->erasing();
            const auto* const pending = Segment::pending(keys.get(), erased.key);
            const auto columns = pending == nullptr ? erased.columns : *pending;
            hooks_.erased({erased.segment->number, erased.key, columns});
        }
    }
    new_projects_.clear();
    staged_ = {};
    staged_cursors_.clear();
}

std::string Committer::refusal() const {
    const std::lock_guard lock(refusal_mutex_);
    return refusal_;
}

void Committer::set_refusal(std::string why) {
    const std::lock_guard lock(refusal_mutex_);
    if (why.empty() != refusal_.empty()) {
        if (why.empty()) {
            log::info("store.writes_work_again");
        } else {
            log::error("store.writes_fail", {{"error", why}});
        }
    }
    refusal_ = std::move(why);
}

void Committer::probe() {
    if (refusal().empty()) {
        return;
    }
    const auto done = try_writing();
    if (done.has_error() && file_) {
        file_->rollback();
        file_.reset();
    }
    set_refusal(done.has_error() ? done.error().detail : std::string());
}

// A page of the file that takes the appends, as it is: it goes through the log like any other.
Result<void> Committer::try_writing() {
    BOOST_OUTCOME_TRY(ready());
    BOOST_OUTCOME_TRY(control_.harden());
    if (!file_) {
        return ok();
    }
    BOOST_OUTCOME_TRY(file_->begin());
    const std::string same = "PRAGMA user_version = " + std::to_string(kSegmentVersion);
    BOOST_OUTCOME_TRY(file_->connection().execute(same.c_str()));
    return file_->commit();
}

void Committer::abandon(const Error& error) {
    failures_.record(1);
    set_refusal(error.detail);
    if (file_) {
        file_->rollback();
    }
    // What SQLite still thinks of the file after a failure is not to be relied on.
    file_.reset();
    for (const std::string& project : new_projects_) {
        pids_.erase(project);
        --last_pid_;
    }
    new_projects_.clear();
    staged_ = {};
    staged_cursors_.clear();
    for (AppendWork* item : in_transaction_) {
        *item->outcome = error;
    }
}

Result<bool> Committer::is_live(const std::shared_ptr<Segment>& segment, std::int64_t key) {
    if (segment == open_) {
        return file_->is_live(key);
    }
    BOOST_OUTCOME_TRY(auto db, Connection::open(segment->path, Connection::Access::read));
    BOOST_OUTCOME_TRY(auto rows, db.query("SELECT 1 FROM events WHERE key = ? AND deleted = 0"));
    rows.bind_all(key);
    return rows.next();
}

Result<void> Committer::settle(SegmentNumber segment) {
    BOOST_OUTCOME_TRY(ready());
    BOOST_OUTCOME_TRY(keys_.flush(Durability::full));
    return control_.set_state(segment, SegmentState::settled);
}

Result<bool> Committer::purge_erased() {
    BOOST_OUTCOME_TRY(ready());
    if (!file_) {
        return true;
    }
    BOOST_OUTCOME_TRY(forget_redo());
    constexpr std::chrono::milliseconds kPatience{200};
    BOOST_OUTCOME_TRY(const bool events, file_->connection().truncate_wal(kPatience));
    BOOST_OUTCOME_TRY(const bool control, control_.connection().truncate_wal(kPatience));
    return events && control;
}

Result<void> Committer::forget_redo() {
    BOOST_OUTCOME_TRY(keys_.flush(Durability::full));
    BOOST_OUTCOME_TRY(control_.harden());
    BOOST_OUTCOME_TRY(file_->clear_redo());
    redo_bytes_ = 0;
    return ok();
}

void Committer::tidy() {
    Result<void> done = ok();
    if (keys_.flush_is_due()) {
        done = keys_.flush(Durability::normal);
    }
    if (done.has_value() && !behind_ && file_ && redo_bytes_ > kRedoBytesMax) {
        done = forget_redo();
    }
    if (done.has_error()) {
        log::warn("store.tidy_failed", {{"error", done.error().detail}});
    }
    // A closed segment's log is emptied when it is indexed.
    if (wal_holds_erased_ && file_) {
        const auto emptied = file_->connection().truncate_wal(std::chrono::milliseconds(0));
        wal_holds_erased_ = emptied.has_error() || !emptied.value();
    }
    watch_wal(control_.connection(), directory_.control());
    if (auto* keys = keys_.connection(); keys != nullptr) {
        watch_wal(*keys, directory_.keys(*keys_.month()));
    }
}

void Committer::watch_wal(Connection& db, const std::filesystem::path& path) {
    if (db.wal_pages() >= kCheckpointPages) {
        checkpointer_.request(path);
    }
    if (db.wal_pages() >= kRestartPages) {
        db.restart_wal();
    }
}

Result<void> Committer::drop_month(Month month) {
    std::vector<SegmentNumber> numbers;
    std::optional<Month> oldest;
    for (const auto& segment : catalog_.segments()) {
        const bool empty = segment == open_ && segment->events == 0;
        if (!oldest && !empty) {
            oldest = segment->month;
        }
        if (segment->month == month) {
            numbers.push_back(segment->number);
        }
    }
    if (numbers.empty()) {
        return Error{Errc::not_found, "there are no events of that month"};
    }
    if (oldest && *oldest < month) {
        return Error{Errc::conflict, "an older month is still there; drop the oldest first"};
    }
    BOOST_OUTCOME_TRY(ready());
    BOOST_OUTCOME_TRY(keys_.flush(Durability::full));
    if (open_ != nullptr && open_->month == month) {
        if (clock_.wall_us() < start_of(next(month)) + kMonthGrace) {
            return Error{Errc::conflict, "the month is still open for appends"};
        }
        // Nothing may be stamped into it any more, even if the clock steps back.
        BOOST_OUTCOME_TRY(control_.set_floor(next(month)));
        floor_month_ = next(month);
        BOOST_OUTCOME_TRY(control_.record_closed(*open_, catalog_.open_spans()));
        catalog_.close_open();
        file_.reset();
        open_.reset();
    }
    BOOST_OUTCOME_TRY(control_.record_drop(month, numbers, catalog_.without(month)));
    catalog_.drop(month);
    if (auto moved = directory_.drop_month(month); moved.has_error()) {
        // Hidden for good; the next start tries again.
        log::warn("store.drop_left_files", {{"error", moved.error().detail}});
    }
    if (hooks_.dropped) {
        hooks_.dropped();
    }
    return ok();
}

Result<void> Committer::raise_floor(const std::string& project, Seq first_seq) {
    auto log = catalog_.view(project);
    if (!log) {
        return Error{Errc::not_found, "no event has been recorded in project " + project};
    }
    if (first_seq <= log->first_seq) {
        return ok();
    }
    if (first_seq > log->head.seq + 1) {
        return Error{
            Errc::conflict,
            "the log of project " + project + " ends at " + std::to_string(log->head.seq)};
    }
    BOOST_OUTCOME_TRY(ready());
    if (log->open && log->open->first_seq < first_seq) {
        BOOST_OUTCOME_TRY(close_segment());
    }
    log->first_seq = first_seq;
    BOOST_OUTCOME_TRY(control_.record_floor(project, *log));
    catalog_.set_floor(project, first_seq, log->head);
    if (hooks_.floor_raised) {
        hooks_.floor_raised();
    }
    return ok();
}

}  // namespace annal::sqlite
