#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/connection.h"

namespace annal::sqlite {

/// What one reading thread works with: its connections, the least recently used closed first.
class Reader {
public:
    Reader(const Directory& directory, const Catalog& all, std::size_t open_files_max)
        : catalog(all), directory_(directory), open_files_max_(open_files_max) {}

    const Catalog& catalog;

    /// Good until the next call of any of these.
    [[nodiscard]] Result<Connection*> events(const std::shared_ptr<Segment>& segment);
    [[nodiscard]] Result<Connection*> search(const std::shared_ptr<Segment>& segment);
    [[nodiscard]] Result<Connection*> control();
    /// Lets go of files that are to be removed.
    void close_dropped();
    void close_search(SegmentNumber number);

private:
    struct Open {
        std::shared_ptr<Segment> segment;
        bool search = false;
        Connection db;
    };
    [[nodiscard]] Result<Connection*> get(const std::shared_ptr<Segment>& segment, bool search);

    const Directory& directory_;
    const std::size_t open_files_max_;
    std::list<Open> open_;  // newest use first
    std::map<std::pair<SegmentNumber, bool>, std::list<Open>::iterator> index_;
    std::optional<Connection> control_;
};

/// The reading threads. Jobs wait in one queue.
///
/// Limits: kJobsMax jobs wait; `post` refuses more.
class ReaderPool {
public:
    using Job = std::function<void(Reader&)>;

    ReaderPool(
        const Directory& directory,
        const Catalog& catalog,
        std::size_t threads,
        std::size_t open_files_max
    );
    ~ReaderPool() { stop(); }

    /// False: the queue is full, or the pool has stopped; the job will not run.
    [[nodiscard]] bool post(Job job);
    /// Runs `job` on every thread soon.
    void tell_all(const Job& job);
    /// Finishes what is queued.
    void stop();

private:
    static constexpr std::size_t kJobsMax = 16'384;
    struct Thread {
        std::deque<Job> own;
        std::thread thread;
    };
    void run(std::size_t index, Reader reader);

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Job> jobs_;
    bool stopping_ = false;
    std::vector<Thread> threads_;
};

}  // namespace annal::sqlite
