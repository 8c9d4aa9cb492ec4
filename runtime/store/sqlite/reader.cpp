#include "runtime/store/sqlite/reader.h"

namespace annal::sqlite {

Result<Connection*> Reader::get(const std::shared_ptr<Segment>& segment, bool search) {
    const std::pair name(segment->number, search);
    const auto found = index_.find(name);
    if (found != index_.end()) {
        open_.splice(open_.begin(), open_, found->second);
        return &open_.front().db;
    }
    const auto& path = search ? segment->search_path : segment->path;
    BOOST_OUTCOME_TRY(auto db, Connection::open(path, Connection::Access::read));
    BOOST_OUTCOME_TRY(db.execute("PRAGMA cache_size = -1024"));
    // Two at least: the events and the search of one segment are in use together.
    if (open_.size() >= std::max<std::size_t>(2, open_files_max_)) {
        index_.erase({open_.back().segment->number, open_.back().search});
        open_.pop_back();
    }
    open_.push_front({segment, search, std::move(db)});
    index_[name] = open_.begin();
    return &open_.front().db;
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

void Reader::close_dropped() {
    for (auto i = open_.begin(); i != open_.end();) {
        if (!i->segment->dropped) {
            ++i;
            continue;
        }
        index_.erase({i->segment->number, i->search});
        i = open_.erase(i);
    }
}

void Reader::close_search(SegmentNumber number) {
    const auto found = index_.find({number, true});
    if (found != index_.end()) {
        open_.erase(found->second);
        index_.erase(found);
    }
}

ReaderPool::ReaderPool(
    const Directory& directory,
    const Catalog& catalog,
    std::size_t threads,
    std::size_t open_files_max
)
    : threads_(std::max<std::size_t>(1, threads)) {
    for (std::size_t i = 0; i < threads_.size(); ++i) {
        threads_[i].thread = std::thread([this, i, &directory, &catalog, open_files_max] {
            run(i, Reader(directory, catalog, open_files_max));
        });
    }
}

bool ReaderPool::post(Job job) {
    {
        const std::lock_guard lock(mutex_);
        if (stopping_ || jobs_.size() >= kJobsMax) {
            return false;
        }
        jobs_.push_back(std::move(job));
    }
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
        wake_.wait(lock, [&] { return stopping_ || !jobs_.empty() || !own.empty(); });
        auto& queue = own.empty() ? jobs_ : own;
        if (queue.empty()) {
            return;
        }
        Job job = std::move(queue.front());
        queue.pop_front();
        lock.unlock();
        job(reader);
        job = nullptr;
        lock.lock();
    }
}

}  // namespace annal::sqlite
