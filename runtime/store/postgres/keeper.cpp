#include "runtime/store/postgres/keeper.h"

#include <algorithm>

#include "runtime/core/log.h"
#include "runtime/store/postgres/migrations.h"
#include "runtime/store/postgres/months.h"

namespace annal::postgres {
namespace {

constexpr std::chrono::milliseconds kRetryFirst{200}, kRetryMost{10'000};
constexpr std::chrono::minutes kRound{10};

bool is_final(const Error& error) {
    return error.code != Errc::unavailable && error.code != Errc::timeout;
}

}  // namespace

Keeper::Keeper(const PostgresOptions& options, Partitions& partitions, Watchdog& watchdog)
    : options_(options), partitions_(partitions), watchdog_(watchdog) {}

Result<void> Keeper::start() {
    const auto prepared = prepare();
    if (prepared.has_error() && is_final(prepared.error())) return prepared.error();
    thread_ = std::thread([this] { run(); });
    return ok();
}

Result<void> Keeper::prepare() {
    Connection::Options options;
    options.url = options_.direct_url.empty() ? options_.url : options_.direct_url;
    auto opened = Connection::open(options, watchdog_);
    Result<void> done = ok();
    if (!opened) {
        done = opened.error();
    } else {
        db_ = std::move(opened.value());
        if (options_.migrate) {
            auto report = migrate(*db_);
            if (!report) {
                done = report.error();
            } else if (!report.value().applied.empty()) {
                log::info("postgres.migrated", {{"version", report.value().version}});
            }
        } else {
            done = check_schema(*db_);
        }
        if (done.has_value()) done = look_after();
    }
    const std::lock_guard lock(mutex_);
    refusal_ = done.has_error() ? done.error().detail : "";
    ready_ = done.has_value();
    return done;
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
    if (thread_.joinable()) thread_.join();
}

void Keeper::run() {
    auto delay = kRetryFirst;
    std::unique_lock lock(mutex_);
    bool failed = !ready_;
    while (!stopping_) {
        const auto pause =
            failed ? std::chrono::milliseconds(delay) : std::chrono::milliseconds(kRound);
        wake_.wait_for(lock, pause, [this] { return stopping_ || woken_; });
        if (stopping_) return;
        woken_ = false;
        ++rounds_begun_;
        const bool connected = db_ != nullptr && !db_->is_lost() && ready_;
        lock.unlock();
        const auto done = connected ? look_after() : prepare();
        if (done.has_error()) log::warn("postgres.keeper_failed", {{"error", done.error().detail}});
        lock.lock();
        failed = done.has_error();
        sound_ = !failed;
        delay = failed ? std::min(delay * 2, kRetryMost) : kRetryFirst;
        rounds_ended_ = rounds_begun_;
        ended_.notify_all();
    }
}

}  // namespace annal::postgres
