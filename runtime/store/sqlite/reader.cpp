#include "runtime/store/sqlite/reader.h"

#include "runtime/core/log.h"

namespace annal::sqlite {

namespace {

Metric& scans_ended(Metrics& metrics, const char* by) {
    return metrics.define(
        MetricKind::counter,
        "annal_store_scans_total",
        "Pages read, by what ended them.",
        {{"end", by}}
    );
}

}  // namespace

ReadMetrics::ReadMetrics(Metrics& m, std::size_t threads)
    : busy(m.define(MetricKind::gauge, "annal_store_readers_busy", "Reading threads at work.")),
      waiting(m.define(
          MetricKind::gauge, "annal_store_reads_waiting", "Reads that wait for a reading thread."
      )),
      wait_seconds(m.define(
          MetricKind::histogram,
          "annal_store_read_wait_seconds",
          "Time that a read waited for a reading thread."
      )),
      rows(m.define(
          MetricKind::counter,
          "annal_store_scanned_rows_total",
          "Rows that scans looked at one by one."
      )),
      ended_by_limit(scans_ended(m, "limit")),
      ended_by_log(scans_ended(m, "log")),
      ended_by_budget(scans_ended(m, "budget")) {
    m.define(MetricKind::gauge, "annal_store_readers", "Reading threads.")
        .record(static_cast<double>(threads));
}

Result<Connection*> Reader::get(const std::shared_ptr<Segment>& segment, bool search) {
    const std::pair name(segment->number, search);
    if (const auto found = open_.find(name); found != open_.end()) {
        return &found->second.db;
    }
    const auto& path = search ? segment->search_path : segment->path;
    BOOST_OUTCOME_TRY(auto db, Connection::open(path, Connection::Access::read));
    BOOST_OUTCOME_TRY(db.execute("PRAGMA cache_size = -256"));
    // Two at least: the events and the search of one segment are in use together.
    if (open_.size() >= std::max<std::size_t>(2, open_files_max_)) {
        close_one_besides(segment->number);
    }
    return &open_.emplace(name, Open{segment, std::move(db)}).first->second.db;
}

// The oldest segment's. Scans begin with the newest and go on until they have enough; if the least
// recently used went, one that asks more segments than may be open would open every file anew.
void Reader::close_one_besides(SegmentNumber number) {
    const auto oldest = open_.begin();
    open_.erase(oldest->first.first == number ? std::prev(open_.end()) : oldest);
}

Result<Connection*> Reader::events(const std::shared_ptr<Segment>& segment) {
    return get(segment, false);
}

Result<Connection*> Reader::search(const std::shared_ptr<Segment>& segment) {
    return get(segment, true);
}

Result<Connection*> Reader::control() {
    if (!control_) {
        BOOST_OUTCOME_TRY(
            auto db, Connection::open(directory_.control(), Connection::Access::read)
        );
        control_ = std::move(db);
    }
    return &*control_;
}

Result<void> Reader::identify(const std::string& project, const Span& span) {
    const std::pair name(span.segment->number, span.pid);
    if (!span.segment->indexed || identified_.contains(name)) {
        return ok();
    }
    BOOST_OUTCOME_TRY(auto* db, events(span.segment));
    BOOST_OUTCOME_TRY(
        auto rows,
        db->query("SELECT 1 FROM projects, (SELECT last_seq, digest FROM event_batches WHERE key "
                  "BETWEEN ?4 AND ?5 ORDER BY key DESC LIMIT 1) WHERE pid = ?1 AND project = ?2 "
                  "AND first_seq = ?3 AND last_seq = ?6 AND digest = ?7")
    );
    rows.bind_all(
        span.pid,
        std::string_view(project),
        span.first_seq,
        row_key(span.pid, 0),
        row_key(span.pid, kSeqMax),
        span.last_seq
    );
    rows.bind_blob(7, span.digest);
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    if (!row) {
        return annal::sqlite::damage(
            span.segment->path.string() +
            " does not hold what control.db says; restore it from a "
            "backup"
        );
    }
    identified_.insert(name);
    return ok();
}

Error Reader::unreadable(const std::string& project, const Span& span, Error why) {
    if (!is_damage(why)) {
        return why;
    }
    const auto number = span.segment->number;
    close(number, false);
    std::erase_if(identified_, [&](const auto& name) { return name.first == number; });
    if (span.segment->set_damage(why.detail)) {
        log::error(
            "store.segment_unreadable",
            {{"segment", span.segment->path.string()}, {"error", why.detail}}
        );
    }
    why.detail = "segment_unreadable: events " + std::to_string(span.first_seq) + " to " +
                 std::to_string(span.last_seq) + " of project " + project + " are in " +
                 span.segment->path.string() + ": " + why.detail +
                 "; everything outside of them is served";
    return why;
}

void Reader::close_dropped() {
    std::erase_if(open_, [](const auto& open) { return open.second.segment->dropped.load(); });
}

void Reader::close_search(SegmentNumber number) {
    close(number, true);
}

void Reader::close(SegmentNumber number, bool search) {
    open_.erase({number, search});
}

ReaderPool::ReaderPool(
    const Directory& directory,
    const Catalog& catalog,
    Metrics& metrics,
    std::size_t threads,
    std::size_t open_files_max
)
    : metrics_(metrics, std::max<std::size_t>(1, threads)),
      threads_(std::max<std::size_t>(1, threads)) {
    for (std::size_t i = 0; i < threads_.size(); ++i) {
        threads_[i].thread = std::thread([this, i, &directory, &catalog, open_files_max] {
            run(i, Reader(directory, catalog, metrics_, open_files_max, stopping_));
        });
    }
}

bool ReaderPool::post(Job job, Length length) {
    const std::lock_guard lock(mutex_);
    const bool is_lengthy = length == Length::lengthy;
    auto& queue = is_lengthy ? lengthy_ : jobs_;
    if (stopping_ || queue.size() >= (is_lengthy ? kLengthyMax : kJobsMax)) {
        return false;
    }
    if (is_lengthy) {
        job = [this, work = std::move(job)](Reader& reader) {
            work(reader);
            const std::lock_guard ending(mutex_);
            lengthy_runs_ = false;
            wake_.notify_one();
        };
    }
    queue.push_back({std::move(job), std::chrono::steady_clock::now()});
    metrics_.waiting.record(static_cast<double>(jobs_.size() + lengthy_.size()));
    // Still locked: once the job is done, the pool may be gone.
    wake_.notify_one();
    return true;
}

void ReaderPool::tell_all(const Job& job) {
    {
        const std::lock_guard lock(mutex_);
        for (Thread& thread : threads_) {
            thread.own.push_back(job);
        }
    }
    wake_.notify_all();
}

void ReaderPool::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    for (Thread& thread : threads_) {
        if (thread.thread.joinable()) {
            thread.thread.join();
        }
    }
}

void ReaderPool::run(std::size_t index, Reader reader) {
    auto& own = threads_[index].own;
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] {
            return stopping_ || !jobs_.empty() || !own.empty() || lengthy_is_due();
        });
        Job job = take(own);
        if (job == nullptr) {
            return;
        }
        metrics_.busy.record(static_cast<double>(++busy_));
        lock.unlock();
        job(reader);
        job = nullptr;
        lock.lock();
        metrics_.busy.record(static_cast<double>(--busy_));
    }
}

/// With the mutex held, as those below. The oldest comes first, of whichever length.
bool ReaderPool::lengthy_is_due() const {
    return !lengthy_runs_ && !lengthy_.empty() &&
           (jobs_.empty() || lengthy_.front().since <= jobs_.front().since);
}

/// Null: nothing is left to do.
ReaderPool::Job ReaderPool::take(std::deque<Job>& own) {
    if (!own.empty()) {
        Job job = std::move(own.front());
        own.pop_front();
        return job;
    }
    if (lengthy_is_due()) {
        lengthy_runs_ = true;
        return take_first(lengthy_);
    }
    return jobs_.empty() ? Job() : take_first(jobs_);
}

ReaderPool::Job ReaderPool::take_first(std::deque<Waiting>& from) {
    const auto waited = std::chrono::steady_clock::now() - from.front().since;
    metrics_.wait_seconds.record(std::chrono::duration<double>(waited).count());
    Job job = std::move(from.front().job);
    from.pop_front();
    metrics_.waiting.record(static_cast<double>(jobs_.size() + lengthy_.size()));
    return job;
}

}  // namespace annal::sqlite
