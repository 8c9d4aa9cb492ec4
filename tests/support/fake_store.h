#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/core/limits.h"
#include "runtime/store/event_store.h"
#include "runtime/store/lease_table.h"

namespace annal::test {

/// A simple, correct EventStore in memory, for tests of what sits above a store. Answers at once,
/// on the caller's thread, unless `hop` is set.
///
/// Threads: any; one lock around everything.
class FakeStore final : public EventStore {
public:
    explicit FakeStore(const Clock& clock) : clock_(clock) {}

    // Knobs; set before use or between calls.
    std::atomic<std::uint32_t> scan_window{kScanWindowSeqs};  ///< seqs looked at by one scan
    std::atomic<bool> hop{false};  ///< suspend once in every call, as a real store does
    std::atomic<std::int64_t> scan_delay_ms{0};    ///< how long a scan takes
    std::atomic<std::int64_t> append_delay_ms{0};  ///< how long a commit takes
    std::atomic<bool> hold_appends{false};         ///< no commit ends while it is set
    /// The next `times` calls of each kind fail with `error`.
    void fail_appends(Error error, int times = 1);
    void fail_reads(Error error, int times = 1);
    void fail_leases(Error error, int times = 1);
    void fail_floors(Error error, int times = 1);

    // What happened.
    std::atomic<std::int64_t> scans{0}, counts{0}, appends{0}, leases_asked{0};
    std::atomic<int> scans_at_once{0}, scans_at_once_max{0};

    /// What `epoch` says; "": nothing. Set between calls.
    std::string epoch_name;
    [[nodiscard]] Task<Result<std::string>> epoch() override;

    /// As if retention had dropped what is older than `first`.
    void drop_before(const std::string& project, Seq first);

    /// Appends `count` copies of a plain event without a unit around each: bulk for export tests.
    void fill(const std::string& project, const EventDraft& draft, std::int64_t count);

    [[nodiscard]] Task<std::vector<AppendOutcome>> append(std::span<const AppendUnit> units
    ) override;
    [[nodiscard]] Task<Result<ScanPage>> scan(ScanRequest request) override;
    [[nodiscard]] Task<Result<EventBatch>> get(std::string project, EventId id) override;
    [[nodiscard]] Task<Result<std::vector<ActionCount>>> action_counts(
        std::string project, TimeUs since
    ) override;
    [[nodiscard]] Task<Result<Total>> count(
        std::string project, Filter filter, std::chrono::milliseconds budget
    ) override;
    [[nodiscard]] Task<Result<std::vector<AggregateRow>>> aggregate(AggregateRequest request
    ) override;
    [[nodiscard]] Task<Result<LogState>> log_state(std::string project) override;
    [[nodiscard]] Task<Result<std::vector<MonthInfo>>> months() override;
    [[nodiscard]] Task<Result<void>> drop_month(Month month) override;
    [[nodiscard]] Task<Result<TimeUs>> now() override;
    [[nodiscard]] Task<Result<void>> raise_floor(std::string project, Seq first_seq) override;
    [[nodiscard]] Task<Result<std::optional<std::string>>> kv_get(
        std::string space, std::string project, std::string key
    ) override;
    [[nodiscard]] Task<Result<std::vector<KvRow>>> kv_scan(
        std::string space,
        std::string project,
        std::string prefix,
        std::string after,
        std::uint32_t limit,
        KvOrder order = KvOrder::ascending
    ) override;
    [[nodiscard]] Task<Result<Seq>> cursor(std::string project, std::string subscription) override;
    [[nodiscard]] Task<Result<Lease>> lease(LeaseRequest request) override;
    [[nodiscard]] Task<Result<void>> release_lease(
        std::string project, std::string name, std::string owner
    ) override;
    void close() override {}

private:
    struct Known {
        Digest content{};
        std::vector<Receipt> receipts;
    };
    struct Log {
        std::deque<Event> events;  ///< of seq first, first + 1, …
        std::deque<Arena> memory;  ///< one for each append
        Seq first = 0;
        LogHead head;
        std::map<std::string, Known> unit_keys, event_keys;
    };
    using KvKey =
        std::pair<std::pair<std::string, std::string>, std::string>;  ///< (space, project), key
    struct Fault {
        Error error;
        int times = 0;
    };

    AppendOutcome apply(const AppendUnit& unit);
    [[nodiscard]] std::optional<Error> check_kv(const AppendUnit& unit) const;
    [[nodiscard]] Result<void> check_fences(const AppendUnit& unit) const;
    [[nodiscard]] Seq cursor_of(const std::string& project, const std::string& subscription) const;
    Result<std::vector<Receipt>> append_events(Log& log, const AppendUnit& unit);
    void write(
        Log& log,
        const std::string& project,
        std::span<const EventDraft> drafts,
        std::vector<Receipt>& receipts
    );
    [[nodiscard]] std::optional<Error> fault(Fault& fault);
    [[nodiscard]] static Event* find(Log& log, Seq seq);
    Task<void> enter();
    static Task<void> sleep(std::int64_t ms);

    const Clock& clock_;
    std::mutex mutex_;
    std::map<std::string, Log> logs_;
    std::map<KvKey, std::string> kv_;
    std::map<std::pair<std::string, std::string>, Seq> cursors_;  ///< by (project, subscription)
    LeaseTable leases_;
    Fault append_fault_, read_fault_, lease_fault_, floor_fault_;
};

}  // namespace annal::test
