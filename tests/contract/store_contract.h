#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/metrics.h"
#include "runtime/store/event_store.h"
#include "tests/support/io_threads.h"

namespace annal::test {

/// What a store under test offers to the suite. One object is one empty place for data; `open` may
/// be called again after the store before was closed, and finds the same data.
class StoreHarness {
public:
    virtual ~StoreHarness() = default;
    /// `segment_events`: a hint for stores that cut logs into pieces; small in most tests.
    [[nodiscard]] virtual Result<std::unique_ptr<EventStore>> open(
        const Clock& clock, Metrics& metrics, std::uint32_t segment_events
    ) = 0;
    /// Waits until what the store does in the background is done.
    virtual void settle() = 0;
    /// Makes writes fail as on a full disk, or lets them work again.
    virtual void fail_writes(bool fail) = 0;
    /// Keeps the store from making older parts of its logs quick to search, or lets it again. A
    /// store that does nothing of the kind ignores it.
    virtual void hold_search(bool /*hold*/) {}
};

struct StoreKind {
    std::string name;
    std::function<std::unique_ptr<StoreHarness>()> make;
};
inline void PrintTo(const StoreKind& kind, std::ostream* out) {
    *out << kind.name;
}

/// Builds one unit and owns its text.
class Unit {
public:
    explicit Unit(std::string project);
    /// An event with these columns; a key makes it idempotent.
    Unit& event(
        std::vector<std::pair<Column, Text>> columns, TimeUs occurred_at = kNoTime, Text key = {}
    );
    /// An event of this action alone.
    Unit& action(std::string_view action) { return event({{Column::action, Text(action)}}); }
    Unit& draft(const EventDraft& draft);  ///< copies its text
    Unit& key(std::string request_key);
    Unit& put(std::string space, std::string key, std::string value);
    Unit& kv(KvOp op);
    Unit& cursor(std::string subscription, Seq to, std::int64_t fence = 0);
    Unit& erase(Seq seq);
    [[nodiscard]] AppendUnit build() const { return unit_; }

private:
    AppendUnit unit_;
    std::shared_ptr<Arena> arena_;
};

/// `event`, read from a store, is `expected` in every part.
void expect_same(const Event& event, const Event& expected);

class RandomEvents;

/// Copies of events, kept by a test as its own truth.
struct Truth {
    std::string project;
    std::vector<Event> events;  ///< by seq
    Arena arena;

    void add(const EventDraft& draft, const Receipt& receipt);
    void erase(Seq seq);
    /// What lies below is not there any more.
    void raise_floor(Seq to);
    Seq first_seq = 0;
    /// Seqs that a scan has to give.
    [[nodiscard]] std::vector<Seq> expect(const Filter& filter, bool tombstones = false) const;
};

/// The contract of EventStore as tests, over every store that is instantiated with
/// `INSTANTIATE_TEST_SUITE_P(Name, StoreContract, testing::Values(StoreKind{…}), kind_name)`.
class StoreContract : public testing::TestWithParam<StoreKind> {
protected:
    static constexpr TimeUs kStart = 1'773'500'000'000'000;  // 2026-03-14T14:53:20Z
    static constexpr std::uint32_t kSegmentEvents = 64;

    void SetUp() override;
    void TearDown() override;

    void open();
    void reopen();

    template <class T>
    T run(Task<T> task) {
        return threads_.run(std::move(task));
    }
    template <class T>
    PendingTask<T> start(Task<T> task) {
        return threads_.start(std::move(task));
    }
    AppendOutcome append(const Unit& unit);
    std::vector<AppendOutcome> append(const std::vector<Unit>& units);
    /// Of a unit that must succeed.
    std::vector<Receipt> receipts(const Unit& unit);

    ScanPage scan(ScanRequest request);
    /// Pages until the end.
    std::vector<Seq> walk(
        const std::string& project,
        const Filter& filter,
        bool newest_first,
        std::uint32_t limit,
        bool tombstones = false
    );
    [[nodiscard]] ScanRequest request(const std::string& project) const;
    LogState log(const std::string& project);
    /// Random events of several projects, appended over some hours, a few of them erased.
    std::vector<Truth> fill(std::uint32_t seed, int events);
    /// Events of two projects with every kind of value, a few of them erased.
    std::vector<Truth> fill(RandomEvents& random, int events);
    /// Random filters, page sizes and directions select what the reference does.
    void expect_filters_agree(RandomEvents& random, const std::vector<Truth>& truths, int rounds);
    /// All events of a project as the store gives them equal the truth.
    void expect_equal(const Truth& truth, bool newest_first = false);

    std::unique_ptr<StoreHarness> harness_;
    ManualClock clock_{kStart};
    Metrics metrics_;
    std::unique_ptr<EventStore> store_;
    std::uint32_t segment_events_ = kSegmentEvents;
    IoThreads threads_;
};

/// What a program tries the contract on, where suites do not name it themselves.
[[nodiscard]] std::vector<StoreKind> store_kinds();

inline std::string kind_name(const testing::TestParamInfo<StoreKind>& info) {
    return info.param.name;
}

}  // namespace annal::test
