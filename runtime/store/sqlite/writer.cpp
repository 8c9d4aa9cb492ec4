#include "runtime/store/sqlite/writer.h"

#include <future>

namespace annal::sqlite {
namespace {

// Enough to spread an fsync over many callers, little enough that the next ones do not wait long.
constexpr std::size_t kGroupEventsMax = 20'000;

std::size_t events_of(std::span<const AppendUnit> units) {
    std::size_t events = 0;
    for (const AppendUnit& unit : units) {
        events += unit.events.size() + 1;
    }
    return events;
}

}  // namespace

void Writer::start() {
    thread_ = std::thread([this] { run(); });
}

bool Writer::push(Item item) {
    const std::lock_guard lock(mutex_);
    if (stopping_ || queue_.size() >= kJobsMax) {
        return false;
    }
    queue_.push_back(std::move(item));
    // Still locked: once the item is done, the writer may be gone.
    wake_.notify_one();
    return true;
}

bool Writer::append(Append append) {
    return push({std::move(append), nullptr});
}

bool Writer::post(Job job) {
    return push({{}, std::move(job)});
}

Result<void> Writer::call(const std::function<Result<void>(Committer&)>& job) {
    std::promise<Result<void>> promise;
    auto result = promise.get_future();
    if (!post([&](Committer& committer) { promise.set_value(job(committer)); })) {
        return Error{Errc::cancelled, "the store is closing"};
    }
    return result.get();
}

void Writer::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Writer::run() {
    std::vector<Append> group;
    std::unique_lock lock(mutex_);
    while (true) {
        wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) {
            committer_.tidy();
            return;
        }
        Job job = std::move(queue_.front().job);
        if (job != nullptr) {
            queue_.pop_front();
        }
        std::size_t events = 0;
        while (job == nullptr && !queue_.empty() && queue_.front().job == nullptr) {
            const std::size_t more = events_of(queue_.front().append.units);
            if (!group.empty() && events + more > kGroupEventsMax) {
                break;
            }
            events += more;
            group.push_back(std::move(queue_.front().append));
            queue_.pop_front();
        }
        lock.unlock();
        if (job != nullptr) {
            job(committer_);
        } else {
            commit(group);
        }
        committer_.tidy();
        lock.lock();
    }
}

void Writer::commit(std::vector<Append>& group) {
    std::vector<AppendWork> work;
    for (const Append& append : group) {
        for (std::size_t i = 0; i < append.units.size(); ++i) {
            work.push_back({&append.units[i], &(*append.outcomes)[i]});
        }
    }
    committer_.append(work);
    for (const Append& append : group) {
        (*append.done)();
    }
    group.clear();
}

}  // namespace annal::sqlite
