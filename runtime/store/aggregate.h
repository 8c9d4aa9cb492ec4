#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <boost/unordered/unordered_flat_set.hpp>
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/core/result.h"
#include "runtime/store/event_store.h"

namespace annal {

inline constexpr TimeUs kHourUs = 3'600 * kSecondUs;

/// Rows of one aggregate.
inline constexpr std::size_t kAggregateRowsMax = 100'000;

/// Where the interval that holds `at` begins; kNoTime without intervals.
[[nodiscard]] TimeUs interval_start(Interval interval, TimeUs at);
/// What EventStore::aggregate promises about the order of rows.
void sort_rows(std::vector<AggregateRow>& rows);
/// Takes what has passed since `asked` off the budget: a request waits for its turn.
/// @error Errc::unavailable  Nothing is left of it.
[[nodiscard]] Result<void> charge_waiting(
    AggregateRequest& request, std::chrono::steady_clock::time_point asked
);
[[nodiscard]] Error too_many_rows();
[[nodiscard]] Error aggregate_ran_out_of_time();

/// Counts as EventStore::aggregate does, event by event, for stores that have no engine for it.
///
/// What goes beyond the limits is an error of `rows`, and further events cost nothing.
class AggregateCounts {
public:
    struct Limits {
        std::size_t groups = kAggregateRowsMax;
        std::size_t distinct = 8'000'000;  ///< distinct values over all groups, some 20 bytes each
        std::size_t text_bytes = std::size_t{256} << 20U;  ///< of keys and values
    };

    /// Borrows the request. What its filter does not match is not to be added.
    explicit AggregateCounts(const AggregateRequest& request);
    AggregateCounts(const AggregateRequest& request, const Limits& limits);

    /// One event: the value of group_by (ignored without one) and those of `unique`, in order.
    void add(TimeUs created_at, std::string_view key, const std::string_view* uniques);
    /// Events of one group that somebody has counted; not for requests with `unique`.
    void add_counted(TimeUs created_at, std::string_view key, std::int64_t count);
    void add(const Event& event);
    /// Nothing that is added will change the outcome any more.
    [[nodiscard]] bool failed() const { return rows_exceeded_ || distinct_exceeded_; }

    [[nodiscard]] Result<std::vector<AggregateRow>> rows() const;

private:
    using TextNumber = std::uint32_t;
    struct Group {
        TimeUs start = kNoTime;
        TextNumber key = 0;
        std::int64_t count = 0;
    };
    TextNumber number_of(std::string_view text);
    /// Null: one too many.
    Group* group_of(TimeUs created_at, std::string_view key);
    void add_unique(std::size_t group, std::size_t dimension, std::string_view value);

    const AggregateRequest& request_;
    const Limits limits_;
    std::deque<std::string> texts_;
    boost::unordered_flat_map<std::string_view, TextNumber> numbers_;
    std::size_t text_bytes_ = 0;
    std::vector<Group> groups_;
    std::vector<std::int64_t> uniques_;  ///< unique.size() for each group
    boost::unordered_flat_map<std::uint64_t, std::uint32_t> group_numbers_;
    boost::unordered_flat_map<TimeUs, std::uint32_t> start_numbers_;
    std::vector<boost::unordered_flat_set<std::uint64_t>> seen_;  ///< group and value, by dimension
    std::size_t distinct_ = 0;
    bool rows_exceeded_ = false, distinct_exceeded_ = false;
};

}  // namespace annal
