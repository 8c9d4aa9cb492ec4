#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "runtime/core/metrics.h"
#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/connection.h"

namespace annal::sqlite {

/// How the reading threads are doing.
struct ReadMetrics {
    ReadMetrics(Metrics& metrics, std::size_t threads);
    Metric &busy, &waiting, &wait_seconds, &rows;
    Metric &ended_by_limit, &ended_by_log, &ended_by_budget;  ///< scans
};

/// What one reading thread works with: its connections, those to the oldest segments closed first.
class Reader {
public:
    Reader(
        const Directory& directory,
        const Catalog& all,
        const ReadMetrics& how,
        std::size_t open_files_max,
        const std::atomic<bool>& stopping
    )
        : catalog(all),
          metrics(how),
          directory_(directory),
          open_files_max_(open_files_max),
          stopping_(stopping) {}

    const Catalog& catalog;
    const ReadMetrics& metrics;

    /// The store closes: what takes long gives up.
    [[nodiscard]] bool is_stopping() const { return stopping_; }

    /// Good until the next call of any of these.
    [[nodiscard]] Result<Connection*> events(const std::shared_ptr<Segment>& segment);
    [[nodiscard]] Result<Connection*> search(const std::shared_ptr<Segment>& segment);
    [[nodiscard]] Result<Connection*> control();
    /// Whether the file of a sealed segment is the one that the catalog means. @error damage  It is
    /// not.
    [[nodiscard]] Result<void> identify(const std::string& project, const Span& span);
    /// `why` with the events that it concerns. Damage is noted at the segment and logged, and the
    /// file is opened anew next time: it may have been restored.
    [[nodiscard]] Error unreadable(const std::string& project, const Span& span, Error why);
    /// Lets go of files that are to be removed.
    void close_dropped();
    void close_search(SegmentNumber number);

private:
    struct Open {
        std::shared_ptr<Segment> segment;
        Connection db;
    };
    void close_one_besides(SegmentNumber number);
    void close(SegmentNumber number, bool search);
    [[nodiscard]] Result<Connection*> get(const std::shared_ptr<Segment>& segment, bool search);

    const Directory& directory_;
    const std::size_t open_files_max_;
    const std::atomic<bool>& stopping_;
    std::map<std::pair<SegmentNumber, bool>, Open> open_;  // with whether it is the sidecar
    std::optional<Connection> control_;
    std::set<std::pair<SegmentNumber, ProjectNumber>> identified_;
};

/// The reading threads. Jobs wait in one queue, lengthy ones in another: of them one runs at a
/// time, so that it leaves threads to the brief ones.
///
/// Limits: kJobsMax jobs wait, kLengthyMax of them lengthy; `post` refuses more.
class ReaderPool {
public:
    using Job = std::function<void(Reader&)>;
    enum class Length { brief, lengthy };

    ReaderPool(
        const Directory& directory,
        const Catalog& catalog,
        Metrics& metrics,
        std::size_t threads,
        std::size_t open_files_max
    );
    ~ReaderPool() { stop(); }

    /// False: the queue is full, or the pool has stopped; the job will not run.
    [[nodiscard]] bool post(Job job, Length length = Length::brief);
    /// Runs `job` on every thread soon.
    void tell_all(const Job& job);
    /// Finishes what is queued.
    void stop();

private:
    static constexpr std::size_t kJobsMax = 16'384, kLengthyMax = 64;
    struct Thread {
        std::deque<Job> own;
        std::thread thread;
    };
    struct Waiting {
        Job job;
        std::chrono::steady_clock::time_point since;
    };
    void run(std::size_t index, Reader reader);
    [[nodiscard]] bool lengthy_is_due() const;
    [[nodiscard]] Job take(std::deque<Job>& own);
    [[nodiscard]] Job take_first(std::deque<Waiting>& from);

    ReadMetrics metrics_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Waiting> jobs_, lengthy_;
    bool lengthy_runs_ = false;
    std::size_t busy_ = 0;
    std::atomic<bool> stopping_{false};
    std::vector<Thread> threads_;
};

}  // namespace annal::sqlite
