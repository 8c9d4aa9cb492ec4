#include "runtime/store/postgres/pool.h"

#include <algorithm>
#include <utility>

#include "runtime/core/log.h"

namespace annal::postgres {

class Pool::ThreadSeat final : public Pool::Seat {
public:
    explicit ThreadSeat(Pool& pool) : pool_(pool) {}

    Result<Connection*> connection() override {
        let_go_of_lost();
        if (connection_ != nullptr) {
            auto admitted = pool_.admit_(*connection_);
            if (admitted.has_value()) return connection_.get();
            return std::move(admitted).error();
        }
        if (auto refusal = pool_.reconnection_.refusal()) return *std::move(refusal);
        return connect();
    }

    Result<Connection*> connection_within(std::chrono::milliseconds patience) override {
        auto end = Clock::now() + patience;
        for (;;) {
            auto got = connection();
            if (const auto left = pool_.watchdog_.left()) end = std::min(end, Clock::now() + *left);
            if (got.has_value() || Clock::now() >= end) return got;
            std::this_thread::sleep_until(std::min(end, Clock::now() + Reconnection::kFirst));
        }
    }

    void let_go_of_lost() {
        if (connection_ == nullptr || !connection_->is_lost()) return;
        connection_.reset();
        lost_one_ = true;
        pool_.lost_.record(1);
        pool_.connected_.record(--pool_.connections_);
    }

private:
    Result<Connection*> connect() {
        const auto begun = Clock::now();
        auto opened = Connection::open(pool_.options_, pool_.watchdog_);
        if (opened) {
            opened.value()->set_deadline(Clock::now() + pool_.options_.connect_timeout);
            if (auto admitted = pool_.admit_(*opened.value()); admitted.has_error())
                opened = std::move(admitted).error();
        }
        if (!opened) {
            pool_.reconnection_.note_failure(opened.error(), begun);
            pool_.tell(opened.error().detail);
            return std::move(opened).error();
        }
        pool_.reconnection_.note_success();
        if (std::exchange(lost_one_, false)) pool_.replaced_();
        connection_ = std::move(opened.value());
        pool_.connected_.record(++pool_.connections_);
        return connection_.get();
    }

    Pool& pool_;
    std::unique_ptr<Connection> connection_;
    bool lost_one_ = false;
};

Pool::Pool(
    std::string name,
    std::size_t threads,
    Connection::Options options,
    std::function<Result<void>(Connection&)> admit,
    Watchdog& watchdog,
    Reconnection& reconnection,
    Metrics& metrics,
    std::function<void()> replaced
)
    : name_(std::move(name)),
      options_(std::move(options)),
      admit_(std::move(admit)),
      replaced_(std::move(replaced)),
      watchdog_(watchdog),
      reconnection_(reconnection),
      connected_(metrics.define(
          MetricKind::gauge,
          "annal_postgres_connections",
          "Open connections of a pool.",
          {{"pool", name_}}
      )),
      waiting_(metrics.define(
          MetricKind::gauge,
          "annal_postgres_waiting_jobs",
          "Jobs that wait for a connection of a pool.",
          {{"pool", name_}}
      )),
      lost_(metrics.define(
          MetricKind::counter,
          "annal_postgres_lost_connections_total",
          "Connections of a pool that broke, or were given up since no answer came.",
          {{"pool", name_}}
      )) {
    for (std::size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

bool Pool::post(Job job, Length length) {
    const bool is_lengthy = length == Length::lengthy;
    if (is_lengthy) {
        job = [this, work = std::move(job)](Seat& seat) {
            work(seat);
            const std::lock_guard ending(mutex_);
            lengthy_runs_ = false;
            wake_.notify_one();
        };
    }
    {
        const std::lock_guard lock(mutex_);
        auto& queue = is_lengthy ? lengthy_ : jobs_;
        if (stopping_ || queue.size() >= (is_lengthy ? kLengthyMax : kJobsMax)) return false;
        queue.push_back({std::move(job), Clock::now()});
        waiting_.record(static_cast<double>(jobs_.size() + lengthy_.size()));
    }
    wake_.notify_one();
    return true;
}

void Pool::begin_stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
}

void Pool::stop() {
    begin_stop();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
}

/// An outage is many attempts of many threads, of which some may even succeed.
void Pool::tell(const std::string& failure) {
    const std::lock_guard lock(mutex_);
    if (repeats_.is_due(failure))
        log::warn("postgres.connect_failed", {{"pool", name_}, {"error", failure}});
}

/// The mutex is held here and in `take`. The oldest job comes first, of whichever length.
bool Pool::lengthy_is_due() const {
    return !lengthy_runs_ && !lengthy_.empty() &&
           (jobs_.empty() || lengthy_.front().since <= jobs_.front().since);
}

/// Null: nothing is left to do.
Pool::Job Pool::take() {
    const bool is_lengthy = lengthy_is_due();
    if (!is_lengthy && jobs_.empty()) return nullptr;
    auto& queue = is_lengthy ? lengthy_ : jobs_;
    lengthy_runs_ = lengthy_runs_ || is_lengthy;
    Job job = std::move(queue.front().job);
    queue.pop_front();
    waiting_.record(static_cast<double>(jobs_.size() + lengthy_.size()));
    return job;
}

void Pool::run() {
    ThreadSeat seat(*this);
    for (;;) {
        Job job;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [this] { return stopping_ || !jobs_.empty() || lengthy_is_due(); });
            job = take();
            if (job == nullptr) return;
        }
        job(seat);
        seat.let_go_of_lost();
    }
}

}  // namespace annal::postgres
