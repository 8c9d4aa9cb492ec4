#include "runtime/store/postgres/keeper.h"

#include <algorithm>

#include "runtime/core/log.h"
#include "runtime/store/postgres/append_rows.h"
#include "runtime/store/postgres/migrations.h"
#include "runtime/store/postgres/months.h"

namespace annal::postgres {
namespace {

constexpr std::chrono::milliseconds kRetryFirst{200};
constexpr std::chrono::milliseconds kRetryMost{1'000};  // until the database can be used
// Where only tidying fails, or somebody reads what shall go.
constexpr std::chrono::milliseconds kUpkeepMost{10'000};
constexpr std::chrono::minutes kRound{10};

// Indexes are built outside of transactions, and for as long as it takes. What is pruned is found
// by its key, however much is kept.
constexpr const char* kSettings =
    "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; "
    "SET enable_seqscan = off";

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
    ended_.wait_for(lock, options_.start_patience, [this] { return tried_; });
    if (hopeless_) return Error{Errc::conflict, refusal_};
    return ok();
}

Result<void> Keeper::open() {
    Connection::Options options;
    options.url = options_.direct();
    db_.reset();
    BOOST_OUTCOME_TRY(auto db, Connection::open(options, watchdog_));
    db->set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(30));
    BOOST_OUTCOME_TRYV(db->run(kSettings));
    if (options_.migrate) {
        BOOST_OUTCOME_TRY(const auto report, migrate(*db));
        if (!report.applied.empty()) log::info("postgres.migrated", {{"version", report.version}});
    } else {
        BOOST_OUTCOME_TRYV(check_schema(*db));
    }
    db_ = std::move(db);
    return ok();
}

Result<void> Keeper::prepare() {
    if (db_ == nullptr || db_->is_lost()) {
        BOOST_OUTCOME_TRYV(open());
    }
    db_->set_deadline(std::chrono::steady_clock::now() + std::chrono::seconds(30));
    BOOST_OUTCOME_TRYV(check_generation(*db_));
    BOOST_OUTCOME_TRY(const TimeUs clock, clock_of(*db_));
    const TimeUs stamped = stamp(), now = stamped == kNoTime ? clock : stamped;
    return partitions_.make_ahead(*db_, month_of(now), options_.months_ahead);
}

/// A node that serves goes on without its keeper, unless the database is not for it any more.
void Keeper::note(const Result<void>& prepared) {
    const std::lock_guard lock(mutex_);
    if (prepared.has_value() || !ready_ || prepared.error().code == Errc::conflict) {
        ready_ = prepared.has_value();
        refusal_ = ready_ ? "" : prepared.error().detail;
        hopeless_ = !ready_ && is_final(prepared.error());
    }
    tried_ = true;
    ended_.notify_all();
}

Result<void> Keeper::tidy() {
    BOOST_OUTCOME_TRYV(delete_old_marks(*db_));
    BOOST_OUTCOME_TRY(const bool purged, purge_dropped(*db_, partitions_));
    BOOST_OUTCOME_TRYV(purge_expired(*db_, [this] { return is_stopping(); }));
    BOOST_OUTCOME_TRY(const bool forgotten, drop_old_keys(*db_));
    const bool clean = purged && forgotten;
    if (!clean && !in_use_) log::info("postgres.dropped_month_in_use");
    in_use_ = !clean;
    return seal_finished(*db_, stamp());
}

TimeUs Keeper::stamp() const {
    return options_.stamps != nullptr ? options_.stamps->wall_us() : kNoTime;
}

std::string Keeper::refusal() const {
    const std::lock_guard lock(mutex_);
    return refusal_;
}

bool Keeper::is_stopping() const {
    const std::lock_guard lock(mutex_);
    return stopping_;
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
    lock.unlock();
    auto done = prepare();
    note(done);
    if (done.has_value()) done = tidy();
    // Whatever it was in the middle of: the next round begins outside of a transaction.
    if (done.has_error() && db_ != nullptr) db_->rollback();
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
        const auto round = in_use_ ? kUpkeepMost : std::chrono::milliseconds(kRound);
        const auto pause = sound_ ? round : delay;
        delay = sound_ ? kRetryFirst : std::min(delay * 2, ready_ ? kUpkeepMost : kRetryMost);
        wake_.wait_for(lock, pause, [this] { return stopping_ || woken_; });
    }
}

}  // namespace annal::postgres
