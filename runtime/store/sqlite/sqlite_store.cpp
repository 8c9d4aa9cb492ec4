#include "runtime/store/sqlite/sqlite_store.h"

#include "runtime/core/task_impl.h"
#include "runtime/store/aggregate.h"
#include "runtime/store/sqlite/aggregation.h"
#include "runtime/store/sqlite/counting.h"
#include "runtime/store/sqlite/keeper.h"
#include "runtime/store/sqlite/recovery.h"
#include "runtime/store/sqlite/scan.h"

namespace annal {
namespace sqlite {
namespace {

Error overloaded() {
    return {Errc::unavailable, "the store has too much to do or is closing; try again", {}, 1'000};
}

Error behind() {
    return {
        Errc::unavailable, "control.db can't be written; free some space on the disk", {}, 1'000};
}

class SqliteStore final : public EventStore {
public:
    SqliteStore(
        const SqliteOptions& options,
        Directory directory,
        Control control,
        const Clock& clock,
        Metrics& metrics
    )
        : unreadable_(metrics.define(
              MetricKind::gauge,
              "annal_store_unreadable_segments",
              "Segments found damaged or missing."
          )),
          clock_(clock),
          directory_(std::move(directory)),
          committer_(
              directory_, clock, metrics, catalog_, std::move(control), options.segment_events_max
          ),
          writer_(committer_),
          readers_(directory_, catalog_, metrics, options.readers, options.open_files_max),
          keeper_(directory_, catalog_, writer_, readers_, metrics) {}

    ~SqliteStore() override { close(); }

    /// @param copies  see Control::copies
    Result<void> start(std::int64_t copies) {
        epoch_ = "copy " + std::to_string(copies);
        BOOST_OUTCOME_TRY(auto unfinished, recover(directory_, catalog_, committer_));
        committer_.set_hooks(
            {[this](auto segment) { keeper_.index(std::move(segment)); },
             [this](auto erasure) { keeper_.erase(erasure); },
             [this] { keeper_.remove_dropped(); },
             [this] { keeper_.purge(); }}
        );
        for (const auto& erasure : unfinished.erasures) {
            keeper_.erase(erasure);
        }
        for (auto& segment : unfinished.to_index) {
            keeper_.index(std::move(segment));
        }
        for (auto& segment : unfinished.to_search) {
            keeper_.build_search(std::move(segment));
        }
        keeper_.remove_dropped();
        keeper_.purge();
        writer_.start();
        keeper_.start();
        return ok();
    }

    Task<std::vector<AppendOutcome>> append(std::span<const AppendUnit> units) override {
        std::vector<AppendOutcome> outcomes(units.size(), AppendOutcome(overloaded()));
        std::function<void(std::shared_ptr<Done>)> start = [&](std::shared_ptr<Done> done) {
            if (!writer_.append({units, &outcomes, done})) {
                (*done)();
            }
        };
        co_await suspend(std::move(start));
        co_return outcomes;
    }

    Task<Result<ScanPage>> scan(ScanRequest request) override {
        Read<ScanPage> work = [&](Reader& reader) { return scan_page(reader, request); };
        co_return co_await read(work);
    }

    Task<Result<EventBatch>> get(std::string project, EventId id) override {
        Read<EventBatch> work = [&](Reader& reader) { return get_event(reader, project, id); };
        co_return co_await read(work);
    }

    Task<Result<std::vector<ActionCount>>> action_counts(std::string project, TimeUs since)
        override {
        Read<std::vector<ActionCount>> work = [&](Reader& reader) {
            return count_actions(reader, project, since);
        };
        co_return co_await read(work);
    }

    Task<Result<Total>> count(std::string project, Filter filter, std::chrono::milliseconds budget)
        override {
        Read<Total> work = [&](Reader& reader) {
            return count_events(reader, project, filter, budget);
        };
        co_return co_await read(work);
    }

    Task<Result<std::vector<AggregateRow>>> aggregate(AggregateRequest request) override {
        const auto asked = std::chrono::steady_clock::now();
        using Rows = std::vector<AggregateRow>;
        Read<Rows> work = [&](Reader& reader) -> Result<Rows> {
            BOOST_OUTCOME_TRYV(charge_waiting(request, asked));
            return aggregate_events(reader, request);
        };
        co_return co_await read(work, ReaderPool::Length::lengthy);
    }

    Task<Result<Seq>> seek(
        std::string project, Filter filter, std::int64_t skip, std::chrono::milliseconds budget
    ) override {
        if (!filter.only_created_at()) {
            co_return co_await EventStore::seek(
                std::move(project), std::move(filter), skip, budget
            );
        }
        Read<Seq> work = [&](Reader& reader) {
            return seek_by_time(reader, project, filter, skip);
        };
        co_return co_await read(work);
    }

    Task<Result<TimeUs>> now() override { co_return clock_.wall_us(); }

    Task<Result<std::string>> epoch() override { co_return epoch_; }

    Task<Result<LogState>> log_state(std::string project) override {
        const auto log = catalog_.view(project);
        if (!log) {
            co_return LogState{};
        }
        co_return LogState{log->first_seq, log->head.seq, log->head.at, log->head.digest};
    }

    Task<Result<std::vector<MonthInfo>>> months() override {
        Read<std::vector<MonthInfo>> work = [this](Reader&) { return list_months(); };
        co_return co_await read(work);
    }

    Task<Result<void>> drop_month(Month month) override {
        Write<void> work = [&](Committer& committer) { return committer.drop_month(month); };
        co_return co_await write(work);
    }

    Task<Result<void>> raise_floor(std::string project, Seq first_seq) override {
        Write<void> work = [&](Committer& committer) {
            return committer.raise_floor(project, first_seq);
        };
        co_return co_await write(work);
    }

    Task<Result<bool>> purge_erased(std::vector<Month> /*months*/) override {
        if (keeper_.is_erasing()) co_return false;
        Write<bool> work = [](Committer& committer) { return committer.purge_erased(); };
        co_return co_await write(work);
    }

    Task<Result<std::optional<std::string>>> kv_get(
        std::string space, std::string project, std::string key
    ) override {
        ReadControl<std::optional<std::string>> work = [&](Connection& db) {
            return read_kv(db, space, project, key);
        };
        co_return co_await read_control(work);
    }

    Task<Result<std::vector<KvRow>>> kv_scan(
        std::string space,
        std::string project,
        std::string prefix,
        std::string after,
        std::uint32_t limit,
        KvOrder order
    ) override {
        ReadControl<std::vector<KvRow>> work = [&](Connection& db) {
            return scan_kv(db, space, project, prefix, after, limit, order);
        };
        co_return co_await read_control(work);
    }

    Task<Result<Seq>> cursor(std::string project, std::string subscription) override {
        const std::string row = cursor_row(project, subscription);
        ReadControl<Seq> work = [&](Connection& db) { return read_cursor(db, row); };
        co_return co_await read_control(work);
    }

    Task<Result<Lease>> lease(LeaseRequest request) override {
        Write<Lease> work = [&](Committer& committer) { return committer.leases().lease(request); };
        co_return co_await write(work);
    }

    Task<Result<void>> release_lease(std::string project, std::string name, std::string owner)
        override {
        Write<void> work = [&](Committer& committer) {
            committer.leases().release(project, name, owner);
            return ok();
        };
        co_return co_await write(work);
    }

    StoreHealth health() override {
        StoreHealth health;
        health.refusal = committer_.refusal();
        if (!health.refusal.empty() && probe_is_due()) {
            (void)writer_.post([](Committer& committer) { committer.probe(); });
        }
        for (const auto& segment : catalog_.segments()) {
            if (std::string damage = segment->damage(); !damage.empty()) {
                health.damaged.push_back(std::move(damage));
            }
        }
        unreadable_.record(static_cast<double>(health.damaged.size()));
        return health;
    }

    void close() override {
        keeper_.stop();
        writer_.stop();
        readers_.stop();
    }

private:
    static constexpr std::int64_t kProbeEveryMs = 500;
    bool probe_is_due() {
        const auto now = std::chrono::steady_clock::now().time_since_epoch();
        const std::int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
        std::int64_t last = probed_ms_;
        return ms - last >= kProbeEveryMs && probed_ms_.compare_exchange_strong(last, ms);
    }

    template <class T>
    using Read = std::function<Result<T>(Reader&)>;
    template <class T>
    using ReadControl = std::function<Result<T>(Connection&)>;
    template <class T>
    using Write = std::function<Result<T>(Committer&)>;

    /// In turn with the appends, on their thread.
    template <class T>
    Task<Result<T>> write(const Write<T>& work) {
        Result<T> result = overloaded();
        std::function<void(std::shared_ptr<Done>)> start = [&](std::shared_ptr<Done> done) {
            const bool queued = writer_.post([&result, &work, done](Committer& committer) {
                result = work(committer);
                (*done)();
            });
            if (!queued) {
                (*done)();
            }
        };
        co_await suspend(std::move(start));
        co_return result;
    }

    template <class T>
    Task<Result<T>> read(
        const Read<T>& work, ReaderPool::Length length = ReaderPool::Length::brief
    ) {
        Result<T> result = overloaded();
        std::function<void(std::shared_ptr<Done>)> start = [&](std::shared_ptr<Done> done) {
            ReaderPool::Job job = [&result, &work, done](Reader& reader) {
                result = work(reader);
                (*done)();
            };
            const bool queued = readers_.post(std::move(job), length);
            if (!queued) {
                (*done)();
            }
        };
        co_await suspend(std::move(start));
        co_return result;
    }

    template <class T>
    Task<Result<T>> read_control(const ReadControl<T>& work) {
        Read<T> on_reader = [&](Reader& reader) -> Result<T> {
            if (committer_.is_behind()) {
                return behind();
            }
            BOOST_OUTCOME_TRY(auto* db, reader.control());
            return work(*db);
        };
        co_return co_await read(on_reader);
    }

    Result<std::vector<MonthInfo>> list_months() const {
        std::map<Month, MonthInfo> months;
        for (const auto& segment : catalog_.segments()) {
            if (segment->events == 0) {
                continue;
            }
            MonthInfo& info = months[segment->month];
            info.month = segment->month;
            info.events += segment->events;
            for (const auto& path : {segment->path, segment->search_path}) {
                for (const char* suffix : {"", "-wal"}) {
                    std::error_code error;
                    const auto size = std::filesystem::file_size(path.string() + suffix, error);
                    info.bytes += error ? 0 : size;
                }
            }
        }
        std::vector<MonthInfo> sorted;
        for (const auto& [month, info] : months) {
            sorted.push_back(info);
        }
        return sorted;
    }

    std::atomic<std::int64_t> probed_ms_{0};
    std::string epoch_;
    Metric& unreadable_;
    const Clock& clock_;
    Directory directory_;
    Catalog catalog_;
    Committer committer_;
    Writer writer_;
    ReaderPool readers_;
    Keeper keeper_;
};

}  // namespace
}  // namespace sqlite

Result<std::unique_ptr<EventStore>> open_sqlite_store(
    const SqliteOptions& options, const Clock& clock, Metrics& metrics
) {
    BOOST_OUTCOME_TRY(auto directory, sqlite::Directory::open(options.directory));
    // Databases are made by SQLite with the process's mask; the directory itself lets nobody else
    // in.
    BOOST_OUTCOME_TRY(auto control, sqlite::Control::open(directory));
    BOOST_OUTCOME_TRY(const auto copies, control.copies());
    auto store = std::make_unique<sqlite::SqliteStore>(
        options, std::move(directory), std::move(control), clock, metrics
    );
    BOOST_OUTCOME_TRY(store->start(copies));
    return std::unique_ptr<EventStore>(std::move(store));
}

}  // namespace annal
