#include "runtime/store/postgres/keeper.h"

#include <algorithm>

#include "runtime/core/log.h"
#include "runtime/store/postgres/migrations.h"
#include "runtime/store/postgres/months.h"

namespace annal::postgres {
namespace {

constexpr std::chrono::milliseconds kRetryFirst{200};
constexpr std::chrono::milliseconds kRetryMost{1'000};    // until the database can be used
constexpr std::chrono::milliseconds kUpkeepMost{10'000};  // where only looking after it fails
constexpr std::chrono::minutes kRound{10};

bool is_final(const Error& error) {
    return error.code != Errc::unavailable && error.code != Errc::timeout;
}

}  // namespace

Keeper::Keeper(const PostgresOptions& options, Partitions& partitions)
    : options_(options), partitions_(partitions) {}

Result<void> Keeper::start() {
    BOOST_OUTCOME_TRYV(check_url(options_.url));
    if (!options_.direct_url.empty()) {
        BOOST_OUTCOME_TRYV(check_url(options_.direct_url));
    }
    thread_ = std::thread([this] { run(); });
    std::unique_lock lock(mutex_);
    ended_.wait_for(lock, options_.start_patience, [this] { return rounds_ended_ > 0; });
    if (hopeless_) return Error{Errc::conflict, refusal_};
    return ok();
}

Result<void> Keeper::prepare() {
    const auto done = open();
    const std::lock_guard lock(mutex_);
    refusal_ = done.has_error() ? done.error().detail : "";
    ready_ = done.has_value();
    hopeless_ = done.has_error() && is_final(done.error());
    return done;
}

Result<void> Keeper::open() {
    Connection::Options options;
    options.url = options_.direct_url.empty() ? options_.url : options_.direct_url;
    db_.reset();
    BOOST_OUTCOME_TRY(db_, Connection::open(options, watchdog_));
    if (options_.migrate) {
        BOOST_OUTCOME_TRY(const auto report, migrate(*db_));
        if (!report.applied.empty()) log::info("postgres.migrated", {{"version", report.version}});
    } else {
        BOOST_OUTCOME_TRYV(check_schema(*db_));
    }
    return look_after();
}

Result<void> Keeper::look_after() {
    const TimeUs now = options_.stamps != nullptr ? options_.stamps->wall_us() : kNoTime;
    db_->set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(30));
    BOOST_OUTCOME_TRY(
        const auto rows,
        db_->run("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    );
    const TimeUs at = now == kNoTime ? rows.integer(0, 0) : now;
    BOOST_OUTCOME_TRYV(partitions_.make_ahead(*db_, month_of(at), options_.months_ahead));
    BOOST_OUTCOME_TRY(const bool clean, purge_dropped(*db_, partitions_));
    if (!clean) log::info("postgres.dropped_month_in_use");
    return seal_finished(*db_, now);
}

std::string Keeper::refusal() const {
    const std::lock_guard lock(mutex_);
    return refusal_;
}

bool Keeper::is_hopeless() const {
    const std::lock_guard lock(mutex_);
    return hopeless_;
}

void Keeper::wake() {
    {
        const std::lock_guard lock(mutex_);
        woken_ = true;
    }
    wake_.notify_all();
}

bool Keeper::settle(std::chrono::milliseconds patience) {
    std::unique_lock lock(mutex_);
    const std::uint64_t wanted = rounds_begun_ + 1;
    woken_ = true;
    wake_.notify_all();
    return ended_.wait_for(lock, patience, [&] { return rounds_ended_ >= wanted; }) && sound_;
}

void Keeper::stop() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    watchdog_.expire_all();
    if (thread_.joinable()) thread_.join();
}

/// The mutex is free while it works.
void Keeper::round(std::unique_lock<std::mutex>& lock) {
    woken_ = false;
    ++rounds_begun_;
    const bool connected = db_ != nullptr && !db_->is_lost() && ready_;
    lock.unlock();
    const auto done = connected ? look_after() : prepare();
    lock.lock();
    sound_ = done.has_value();
    if (done.has_error() && !stopping_ && repeats_.is_due(done.error().detail))
        log::warn("postgres.keeper_failed", {{"error", done.error().detail}});
    rounds_ended_ = rounds_begun_;
    ended_.notify_all();
}

void Keeper::run() {
    auto delay = kRetryFirst;
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        round(lock);
        const auto pause = sound_ ? std::chrono::milliseconds(kRound) : delay;
        delay = sound_ ? kRetryFirst : std::min(delay * 2, ready_ ? kUpkeepMost : kRetryMost);
        wake_.wait_for(lock, pause, [this] { return stopping_ || woken_; });
    }
}

}  // namespace annal::postgres
