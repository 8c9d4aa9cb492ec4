#include "runtime/store/postgres/postgres_store.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/store/aggregate.h"
#include "runtime/store/postgres/aggregation.h"
#include "runtime/store/postgres/append.h"
#include "runtime/store/postgres/counting.h"
#include "runtime/store/postgres/keeper.h"
#include "runtime/store/postgres/key_space.h"
#include "runtime/store/postgres/migrations.h"
#include "runtime/store/postgres/months.h"
#include "runtime/store/postgres/purge.h"
#include "runtime/store/postgres/rollup_ahead.h"
#include "runtime/store/postgres/scan.h"
#include "runtime/store/postgres/wake_ups.h"
#include "runtime/store/suspend.h"

namespace annal {
namespace postgres {
namespace {

constexpr std::chrono::milliseconds kLookup{10'000};

/// Writes and commits, and takes new pages from the disk, which it gives back: what is there has
/// room for a row for long after the disk is full.
constexpr const char* kProbe =
    "BEGIN;SET LOCAL statement_timeout = '5s';INSERT INTO kv VALUES ('', 'host.probe', '', '') ON "
    "CONFLICT (project_id, space, key) DO UPDATE SET value = '';SAVEPOINT pages;CREATE TABLE "
    "host_probe WITH (fillfactor = 10) AS SELECT repeat('x', 1000) AS text FROM "
    "generate_series(1, 256);ROLLBACK TO pages;COMMIT";
constexpr std::string_view kNoRight = "42501";

Error overloaded() {
    return {Errc::unavailable, "the store has too much to do or is closing; try again", {}, 1'000};
}

Connection::Options connection_options(const std::string& url) {
    Connection::Options made;
    made.url = url;
    return made;
}

class PostgresStore final : public EventStore {
public:
    PostgresStore(const PostgresOptions& options, Metrics& metrics)
        : options_(options),
          keeper_(options_, partitions_),
          shared_{
              {},
              options.stamps,
              partitions_,
              {},
              {},
              false,
              metrics.define(
                  MetricKind::counter, "annal_store_commits_total", "Transactions made durable."
              ),
              metrics.define(
                  MetricKind::histogram,
                  "annal_store_commit_seconds",
                  "Time until a transaction was durable."
              ),
              metrics.define(
                  MetricKind::counter,
                  "annal_store_failed_commits_total",
                  "Transactions that were not written."
              ),
              metrics.define(
                  MetricKind::counter,
                  "annal_postgres_unknown_commits_total",
                  "Commits whose connection broke before their answer, so that their end had to be "
                  "found out."
              ),
              metrics.define(
                  MetricKind::counter,
                  "annal_postgres_busy_logs_total",
                  "Requests that had to wait since another node was writing their log."
              ),
              [this](const std::set<std::string>& projects) { wake_ups_.note(projects); },
              [this](const std::string& project, Seq first, Seq last) {
                  rollup_ahead_.note(project, first, last);
              }},
          wake_ups_(connection_options(options.direct()), watchdog_, metrics),
          appends_(pool(
              "append",
              options.append_connections,
              metrics,
              [this] {
                  shared_.actions.clear();
                  partitions_.forget();
              }
          )),
          reads_(pool("read", options.read_connections, metrics)),
          deliveries_(pool("delivery", options.delivery_connections, metrics)),
          rollup_ahead_(*reads_, options_.rollup_seqs) {
        shared_.times.statement = options.statement_timeout;
    }

    ~PostgresStore() override { close(); }

    Result<void> start() { return keeper_.start(); }
    bool settle(std::chrono::milliseconds patience) { return keeper_.settle(patience); }

    Task<std::vector<AppendOutcome>> append(std::span<const AppendUnit> units) override {
        return append(units, true);
    }

    Task<std::vector<AppendOutcome>> append_free(std::span<const AppendUnit> units) override {
        return append(units, false);
    }

    std::size_t append_lanes() const override { return options_.append_connections; }

    bool guards_clock() const override { return options_.stamps == nullptr; }

    void confirm_clock() override {
        shared_.clock.confirm();
        note_clock();
    }

    void on_foreign_append(std::function<void(const std::vector<std::string>&)> appended) override {
        wake_ups_.on_appended(std::move(appended));
    }

    Task<Result<ScanPage>> scan(ScanRequest request) override {
        Work<ScanPage> work = [&](Connection& db) { return scan_page(db, request); };
        co_return co_await on(*reads_, work);
    }

    Task<Result<EventBatch>> get(std::string project, EventId id) override {
        Work<EventBatch> work = [&](Connection& db) { return get_event(db, project, id); };
        co_return co_await on(*reads_, work);
    }

    Task<Result<std::vector<ActionCount>>> action_counts(std::string project, TimeUs since)
        override {
        Work<std::vector<ActionCount>> work = [&](Connection& db) {
            return count_actions(db, project, since);
        };
        co_return co_await on(*reads_, work);
    }

    Task<Result<Total>> count(std::string project, Filter filter, std::chrono::milliseconds budget)
        override {
        Work<Total> work = [&](Connection& db) {
            return count_events(db, project, filter, budget);
        };
        co_return co_await on(*reads_, work);
    }

    Task<Result<std::vector<AggregateRow>>> aggregate(AggregateRequest request) override {
        const auto asked = std::chrono::steady_clock::now();
        Work<std::vector<AggregateRow>> work = [&, left = request](Connection& db
                                               ) mutable -> Result<std::vector<AggregateRow>> {
            left.budget = request.budget;
            BOOST_OUTCOME_TRYV(charge_waiting(left, asked));
            return aggregate_events(db, left, options_.rollup_seqs);
        };
        co_return co_await on(*reads_, work, Pool::Length::lengthy);
    }

    Task<Result<Seq>> seek(
        std::string project, Filter filter, std::int64_t skip, std::chrono::milliseconds budget
    ) override {
        if (!filter.only_created_at()) {
            co_return co_await EventStore::seek(
                std::move(project), std::move(filter), skip, budget
            );
        }
        Work<Seq> work = [&](Connection& db) { return seek_by_time(db, project, filter, skip); };
        co_return co_await on(*reads_, work);
    }

    Task<Result<LogState>> log_state(std::string project) override {
        Work<LogState> work = [&](Connection& db) -> Result<LogState> {
            Reading reading(db);
            BOOST_OUTCOME_TRY(const auto view, reading.begin(project, kLookup));
            return LogState{view.first_seq, view.head.seq, view.head.at, view.head.digest};
        };
        co_return co_await on(*deliveries_, work);
    }

    Task<Result<std::vector<MonthInfo>>> months() override {
        Work<std::vector<MonthInfo>> work = [](Connection& db) { return list_months(db); };
        co_return co_await on(*reads_, work);
    }

    Task<Result<void>> drop_month(Month month) override {
        bool again = false;
        Work<void> work = [&](Connection& db) -> Result<void> {
            const TimeUs now = options_.stamps != nullptr ? options_.stamps->wall_us() : kNoTime;
            BOOST_OUTCOME_TRYV(hide_month(db, month, now, std::exchange(again, true)));
            keeper_.wake();
            return ok();
        };
        co_return co_await on(*reads_, work);
    }

    Task<Result<void>> raise_floor(std::string project, Seq first_seq) override {
        Work<void> work = [&](Connection& db) -> Result<void> {
            BOOST_OUTCOME_TRYV(postgres::raise_floor(db, project, first_seq));
            keeper_.wake();
            return ok();
        };
        co_return co_await on(*reads_, work);
    }

    Task<Result<TimeUs>> now() override {
        Work<TimeUs> work = [&](Connection& db) { return time_of(db); };
        co_return co_await on(*reads_, work);
    }

    Task<Result<void>> make_months(int ahead) override {
        Work<void> work = [&](Connection& db) -> Result<void> {
            BOOST_OUTCOME_TRY(const TimeUs now, time_of(db));
            return partitions_.make_ahead(db, month_of(now), ahead);
        };
        co_return co_await on(*reads_, work);
    }

    /// On a connection of its own: what it sets must not outlive it, and a pooler is no place for
    /// it.
    Task<Result<bool>> purge_erased(std::vector<Month> months) override {
        Work<bool> work = [&](Connection&) -> Result<bool> {
            Connection::Options options = connection_options(options_.direct());
            BOOST_OUTCOME_TRY(const auto own, Connection::open(std::move(options), watchdog_));
            return postgres::purge_erased(*own, months);
        };
        co_return co_await on(*reads_, work);
    }

    Task<Result<std::optional<std::string>>> kv_get(
        std::string space, std::string project, std::string key
    ) override {
        Work<std::optional<std::string>> work = [&](Connection& db) {
            return postgres::kv_get(db, space, project, key);
        };
        co_return co_await on(*deliveries_, work);
    }

    Task<Result<std::vector<KvRow>>> kv_scan(
        std::string space,
        std::string project,
        std::string prefix,
        std::string after,
        std::uint32_t limit,
        KvOrder order
    ) override {
        Work<std::vector<KvRow>> work = [&](Connection& db) {
            return postgres::kv_scan(db, space, project, prefix, after, limit, order);
        };
        co_return co_await on(*deliveries_, work);
    }

    Task<Result<Seq>> cursor(std::string project, std::string subscription) override {
        Work<Seq> work = [&](Connection& db) { return read_cursor(db, project, subscription); };
        co_return co_await on(*deliveries_, work);
    }

    Task<Result<std::string>> epoch() override {
        Work<std::string> work = [&](Connection& db) { return read_epoch(db); };
        co_return co_await on(*deliveries_, work);
    }

    Task<Result<Lease>> lease(LeaseRequest request) override {
        Work<Lease> work = [&](Connection& db) { return take_lease(db, request); };
        co_return co_await on(*deliveries_, work);
    }

    Task<Result<void>> release_lease(std::string project, std::string name, std::string owner)
        override {
        Work<void> work = [&](Connection& db) {
            return postgres::release_lease(db, project, name, owner);
        };
        co_return co_await on(*deliveries_, work);
    }

    StoreHealth health() override {
        StoreHealth health;
        health.refusal = keeper_.refusal();
        health.for_good = keeper_.is_hopeless();
        if (!health.refusal.empty()) return health;
        {
            const std::lock_guard lock(refusal_mutex_);
            for (const std::string* why : {&clock_refusal_, &refusal_, &unreached_})
                if (health.refusal.empty()) health.refusal = *why;
        }
        if (!health.refusal.empty() && probe_is_due()) probe();
        return health;
    }

    void give_up_at(std::chrono::steady_clock::time_point deadline) override {
        keeper_.give_up_at(deadline);
        watchdog_.expire_at(deadline);
    }

    void close() override {
        wake_ups_.begin_stop();
        for (Pool* pool : {appends_.get(), reads_.get(), deliveries_.get()}) pool->begin_stop();
        keeper_.stop();
        wake_ups_.stop();
        appends_->stop();
        reads_->stop();
        deliveries_->stop();
    }

private:
    [[nodiscard]] Result<TimeUs> time_of(Connection& db) const {
        return options_.stamps != nullptr ? options_.stamps->wall_us() : clock_of(db);
    }

    static constexpr std::int64_t kProbeEveryMs = 500;

    Task<std::vector<AppendOutcome>> append(std::span<const AppendUnit> units, bool wait) {
        std::vector<AppendOutcome> outcomes(units.size(), AppendOutcome(overloaded()));
        std::function<void(std::shared_ptr<Done>)> start = [&](std::shared_ptr<Done> done) {
            const bool queued =
                appends_->post([this, units, wait, &outcomes, done](Pool::Seat& seat) {
                    Append append(seat, shared_, wait);
                    append.run(units, outcomes);
                    note(append);
                    (*done)();
                });
            if (!queued) (*done)();
        };
        co_await suspend(std::move(start));
        co_return outcomes;
    }

    template <class T>
    using Work = std::function<Result<T>(Connection&)>;

    std::unique_ptr<Pool> pool(
        const char* name,
        std::size_t connections,
        Metrics& metrics,
        std::function<void()> replaced = [] {}
    ) {
        std::function<Result<void>(Connection&)> admit = [this](Connection&) -> Result<void> {
            const std::string refusal = keeper_.refusal();
            if (refusal.empty()) return ok();
            return Error{Errc::unavailable, refusal, {}, 1'000};
        };
        return std::make_unique<Pool>(
            name,
            connections,
            connection_options(options_.url),
            std::move(admit),
            watchdog_,
            reconnection_,
            metrics,
            std::move(replaced)
        );
    }

    template <class T>
    Task<Result<T>> on(Pool& pool, const Work<T>& work, Pool::Length length = Pool::Length::brief) {
        Result<T> result = overloaded();
        std::function<void(std::shared_ptr<Done>)> start = [&](std::shared_ptr<Done> done) {
            Pool::Job job = [this, &result, &work, done](Pool::Seat& seat) {
                result = answer(seat, work);
                (*done)();
            };
            const bool queued = pool.post(std::move(job), length);
            if (!queued) (*done)();
        };
        co_await suspend(std::move(start));
        co_return result;
    }

    /// A connection that turns out to be lost is replaced once: servers restart, poolers hang up.
    /// Not when there is an answer already: the end of a transaction that only read adds nothing.
    template <class T>
    Result<T> answer(Pool::Seat& seat, const Work<T>& work) {
        const auto end = std::chrono::steady_clock::now() + kLookup;
        for (bool again = false;; again = true) {
            auto connection = seat.connection();
            if (!connection) {
                set_unreached(connection.error().detail);
                return connection.error();
            }
            Connection& db = *connection.value();
            db.set_deadline(end);
            Result<T> result = work(db);
            const bool reached = result.has_value() || !db.is_lost();
            if (!reached && !again && std::chrono::steady_clock::now() < end) continue;
            set_unreached(reached ? std::string() : result.error().detail);
            return result;
        }
    }

    /// Whether the store can write is what the last append says that met the disk.
    void note(const Append& append) {
        note_clock();
        if (append.has_written() || !append.outage().empty()) set(refusal_, append.outage());
    }

    void note_clock() {
        const auto refusal = shared_.clock.refusal();
        set(clock_refusal_, refusal ? refusal->detail : std::string());
    }

    /// @param reason  why appends fail, one of several
    void set(std::string& reason, std::string why) {
        const std::lock_guard lock(refusal_mutex_);
        const auto can_write = [this] { return refusal_.empty() && clock_refusal_.empty(); };
        const bool could = can_write();
        reason = std::move(why);
        if (can_write() != could)
            log::warn(could ? "store.cannot_write" : "store.writes_again", {{"error", reason}});
    }

    /// Whether the server answers at all, as the last call that was no append found out.
    void set_unreached(std::string why) {
        const std::lock_guard lock(refusal_mutex_);
        shared_.is_silent = !why.empty();
        unreached_ = std::move(why);
    }

    bool probe_is_due() {
        const auto now = std::chrono::steady_clock::now().time_since_epoch();
        const std::int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
        std::int64_t last = probed_ms_;
        return ms - last >= kProbeEveryMs && probed_ms_.compare_exchange_strong(last, ms);
    }

    void probe() {
        (void)appends_->post([this](Pool::Seat& seat) {
            auto connection = seat.connection();
            if (!connection) return;
            const auto done = try_to_write(*connection.value());
            note_clock();
            set(refusal_, done.has_error() ? done.error().detail : std::string());
            if (done.has_value()) set_unreached("");
        });
    }

    /// Leaves nothing, and has the clock looked at, which keeps what it finds.
    Result<void> try_to_write(Connection& db) {
        db.set_deadline(std::chrono::steady_clock::now() + kLookup);
        const std::int64_t before_us = SystemClock().monotonic_us();
        BOOST_OUTCOME_TRY(const TimeUs wall_us, clock_of(db));
        const std::int64_t after_us = SystemClock().monotonic_us();
        const ClockReading reading{wall_us, before_us, after_us};
        if (options_.stamps == nullptr) (void)shared_.clock.check(reading);
        const auto done = db.run(kProbe);
        if (done.has_value()) return ok();
        db.rollback();
        // Where another role makes the tables, what needs no new one has to do.
        if (db.state() == kNoRight) return ok();
        return done.error();
    }

    const PostgresOptions options_;
    Watchdog watchdog_;
    Reconnection reconnection_;
    Partitions partitions_;
    Keeper keeper_;
    AppendShared shared_;
    WakeUps wake_ups_;
    std::mutex refusal_mutex_;
    std::string refusal_, clock_refusal_, unreached_;
    std::atomic<std::int64_t> probed_ms_{0};
    std::unique_ptr<Pool> appends_, reads_, deliveries_;
    RollupAhead rollup_ahead_;
};

}  // namespace

bool settle(EventStore& store, std::chrono::milliseconds patience) {
    return dynamic_cast<PostgresStore&>(store).settle(patience);
}

}  // namespace postgres

Result<void> check_postgres_url(const std::string& url) {
    return postgres::check_url(url);
}

Result<PostgresMigration> migrate_postgres(const PostgresOptions& options, bool only_look) {
    postgres::Watchdog watchdog;
    postgres::Connection::Options connection;
    connection.url = options.direct();
    BOOST_OUTCOME_TRY(const auto db, postgres::Connection::open(connection, watchdog));
    PostgresMigration done;
    done.version = postgres::migrations().back().version;
    if (only_look) {
        BOOST_OUTCOME_TRY(const auto missing, postgres::missing_migrations(*db));
        done.missing.assign(missing.begin(), missing.end());
        return done;
    }
    BOOST_OUTCOME_TRY(const auto report, postgres::migrate(*db));
    for (const auto& migration : postgres::migrations()) {
        const auto& applied = report.applied;
        if (std::find(applied.begin(), applied.end(), migration.version) != applied.end())
            done.applied.emplace_back(migration.name);
    }
    return done;
}

Result<std::unique_ptr<EventStore>> open_postgres_store(
    const PostgresOptions& options, Metrics& metrics
) {
    auto store = std::make_unique<postgres::PostgresStore>(options, metrics);
    BOOST_OUTCOME_TRY(store->start());
    return std::unique_ptr<EventStore>(std::move(store));
}

}  // namespace annal
