#include "runtime/store/aggregate.h"

#include <algorithm>
#include <array>
#include <tuple>

namespace annal {
namespace {

constexpr TimeUs kFirstMondayUs = 4 * kDayUs;  // 1970-01-05

constexpr TimeUs floor_to(TimeUs at, TimeUs length, TimeUs origin) {
    const TimeUs past = (at - origin) % length;
    return at - (past < 0 ? past + length : past);
}

}  // namespace

TimeUs interval_start(Interval interval, TimeUs at) {
    switch (interval) {
        case Interval::hour:
            return floor_to(at, kHourUs, 0);
        case Interval::day:
            return floor_to(at, kDayUs, 0);
        case Interval::week:
            return floor_to(at, 7 * kDayUs, kFirstMondayUs);
        case Interval::none:
            break;
    }
    return kNoTime;
}

void sort_rows(std::vector<AggregateRow>& rows) {
    std::sort(rows.begin(), rows.end(), [](const AggregateRow& a, const AggregateRow& b) {
        return std::tie(a.start, b.count, a.key) < std::tie(b.start, a.count, b.key);
    });
}

Result<void> charge_waiting(
    AggregateRequest& request, std::chrono::steady_clock::time_point asked
) {
    using std::chrono::milliseconds;
    const auto waited = std::chrono::steady_clock::now() - asked;
    request.budget -= std::chrono::duration_cast<milliseconds>(waited);
    if (request.budget > milliseconds(0)) return ok();
    return Error{
        Errc::unavailable,
        "the node was busy with other counts for all of the time allowed; try again",
        {},
        5'000};
}

Error too_many_rows() {
    return {
        Errc::too_large,
        "the answer would have more than " + std::to_string(kAggregateRowsMax) +
            " rows; ask for a shorter time, a longer interval or a narrower filter"};
}

Error aggregate_ran_out_of_time() {
    return {
        Errc::unavailable,
        "the events could not all be counted in the time allowed; ask for a shorter time or a "
        "narrower filter",
        {},
        1'000};
}

AggregateCounts::AggregateCounts(const AggregateRequest& request)
    : AggregateCounts(request, Limits{}) {}

AggregateCounts::AggregateCounts(const AggregateRequest& request, const Limits& limits)
    : request_(request), limits_(limits), seen_(request.unique.size()) {
    (void)number_of({});  // 0 is the empty text
}

AggregateCounts::TextNumber AggregateCounts::number_of(std::string_view text) {
    const auto known = numbers_.find(text);
    if (known != numbers_.end()) return known->second;
    text_bytes_ += text.size();
    if (text_bytes_ > limits_.text_bytes) distinct_exceeded_ = true;
    const auto number = static_cast<TextNumber>(texts_.size());
    numbers_.emplace(texts_.emplace_back(text), number);
    return number;
}

AggregateCounts::Group* AggregateCounts::group_of(TimeUs created_at, std::string_view key) {
    const TimeUs start = interval_start(request_.interval, created_at);
    const auto next_start = static_cast<std::uint32_t>(start_numbers_.size());
    const std::uint64_t start_number = start_numbers_.emplace(start, next_start).first->second;
    const TextNumber text = request_.group_by ? number_of(key) : 0;
    const auto next = static_cast<std::uint32_t>(groups_.size());
    const auto [place, is_new] = group_numbers_.emplace(start_number << 32U | text, next);
    if (!is_new) return &groups_[place->second];
    if (groups_.size() == limits_.groups) {
        rows_exceeded_ = true;
        return nullptr;
    }
    uniques_.resize(uniques_.size() + request_.unique.size());
    groups_.push_back({start, text, 0});
    return &groups_.back();
}

void AggregateCounts::add_unique(std::size_t group, std::size_t dimension, std::string_view value) {
    if (value.empty()) return;
    const std::uint64_t pair = std::uint64_t{group} << 32U | number_of(value);
    if (!seen_[dimension].insert(pair).second) return;
    if (++distinct_ > limits_.distinct) distinct_exceeded_ = true;
    ++uniques_[group * request_.unique.size() + dimension];
}

void AggregateCounts::add(
    TimeUs created_at, std::string_view key, const std::string_view* uniques
) {
    if (failed() || (request_.group_by && key.empty())) return;
    Group* group = group_of(created_at, key);
    if (group == nullptr) return;
    ++group->count;
    const auto number = static_cast<std::size_t>(group - groups_.data());
    for (std::size_t i = 0; i < request_.unique.size(); ++i) add_unique(number, i, uniques[i]);
}

void AggregateCounts::add_counted(TimeUs created_at, std::string_view key, std::int64_t count) {
    if (failed() || count == 0 || (request_.group_by && key.empty())) return;
    if (Group* group = group_of(created_at, key)) group->count += count;
}

void AggregateCounts::add(const Event& event) {
    std::array<std::string_view, kColumns> uniques;
    for (std::size_t i = 0; i < request_.unique.size(); ++i)
        uniques.at(i) = event[request_.unique[i]].view();
    const std::string_view key =
        request_.group_by ? event[*request_.group_by].view() : std::string_view();
    add(event.created_at, key, uniques.data());
}

Result<std::vector<AggregateRow>> AggregateCounts::rows() const {
    if (rows_exceeded_) return too_many_rows();
    if (distinct_exceeded_) {
        return Error{
            Errc::unavailable,
            "there are more distinct values than the node can tell apart at once; ask for a "
            "shorter time or a narrower filter",
            {},
            1'000};
    }
    std::vector<AggregateRow> rows;
    rows.reserve(groups_.size());
    for (std::size_t i = 0; i < groups_.size(); ++i) {
        AggregateRow& row = rows.emplace_back();
        row.start = groups_[i].start;
        row.key = texts_[groups_[i].key];
        row.count = groups_[i].count;
        const auto first = uniques_.begin() + static_cast<std::ptrdiff_t>(i * seen_.size());
        row.uniques.assign(first, first + static_cast<std::ptrdiff_t>(seen_.size()));
    }
    sort_rows(rows);
    return rows;
}

}  // namespace annal
