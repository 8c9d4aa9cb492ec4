#include "runtime/store/aggregate.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

constexpr TimeUs kDay = 24 * kHourUs;

TEST(IntervalStart, FallsOnHoursDaysAndMondays) {
    const TimeUs at = 1'773'500'000'000'000;  // Saturday, 2026-03-14T14:53:20Z
    EXPECT_EQ(interval_start(Interval::none, at), kNoTime);
    EXPECT_EQ(interval_start(Interval::hour, at), 1'773'496'800'000'000);
    EXPECT_EQ(interval_start(Interval::day, at), 1'773'446'400'000'000);
    EXPECT_EQ(interval_start(Interval::week, at), 1'773'014'400'000'000);  // 2026-03-09
    const TimeUs monday = 1'773'014'400'000'000;
    EXPECT_EQ(interval_start(Interval::week, monday), monday);
    EXPECT_EQ(interval_start(Interval::week, monday - 1), monday - 7 * kDay);
    EXPECT_EQ(interval_start(Interval::hour, monday - 1), monday - kHourUs);
}

TEST(IntervalStart, RoundsDownBefore1970) {
    EXPECT_EQ(interval_start(Interval::hour, -1), -kHourUs);
    EXPECT_EQ(interval_start(Interval::day, -kDay), -kDay);
    EXPECT_EQ(interval_start(Interval::week, 0), -3 * kDay);
}

AggregateRequest by_action_with_users() {
    AggregateRequest request;
    request.group_by = Column::action;
    request.unique = {Column::user_id};
    return request;
}

TEST(AggregateCounts, CountsGroupsAndWhatIsDistinctInThem) {
    const auto request = by_action_with_users();
    AggregateCounts counts(request);
    const auto add = [&](std::string_view action, std::string_view user) {
        counts.add(1, action, &user);
    };
    add("b", "u1");
    add("a", "u1");
    add("a", "u1");
    add("a", "u2");
    add("a", "");
    add("", "u9");
    add("c", "u1");
    const auto rows = counts.rows();
    ASSERT_TRUE(rows.has_value());
    ASSERT_EQ(rows.value().size(), 3U);
    EXPECT_EQ(rows.value()[0].key, "a");
    EXPECT_EQ(rows.value()[0].count, 4);
    EXPECT_EQ(rows.value()[0].uniques, std::vector<std::int64_t>{2});
    EXPECT_EQ(rows.value()[1].key, "b");
    EXPECT_EQ(rows.value()[2].key, "c");
    EXPECT_EQ(rows.value()[2].start, kNoTime);
}

TEST(AggregateCounts, AddsWhatWasCountedBefore) {
    AggregateRequest request;
    request.interval = Interval::day;
    AggregateCounts counts(request);
    counts.add_counted(kHourUs, "a", 5);
    counts.add_counted(2 * kHourUs, "b", 7);
    counts.add_counted(kDay, "b", 0);
    counts.add_counted(kDay, "b", 1);
    const auto rows = counts.rows().value();
    ASSERT_EQ(rows.size(), 2U);
    EXPECT_EQ(rows[0].start, 0);
    EXPECT_EQ(rows[0].count, 12);
    EXPECT_EQ(rows[1].start, kDay);
    EXPECT_EQ(rows[1].count, 1);
}

/// Events until the counts fail, and how.
Error fail(const AggregateRequest& request, const AggregateCounts::Limits& limits) {
    AggregateCounts counts(request, limits);
    int added = 0;
    for (; added < 1'000 && !counts.failed(); ++added) {
        const std::string action = "a." + std::to_string(added % 10);
        const std::string user = "usr_" + std::to_string(added);
        const std::string_view unique = user;
        counts.add(1, action, &unique);
    }
    EXPECT_LT(added, 1'000);
    const auto rows = counts.rows();
    EXPECT_TRUE(rows.has_error());
    return rows.has_error() ? rows.error() : Error{};
}

TEST(AggregateCounts, EachLimitIsAnErrorThatSaysWhatToDo) {
    const auto request = by_action_with_users();
    const Error groups = fail(request, {9, 1'000'000, 1'000'000});
    EXPECT_EQ(groups.code, Errc::too_large);
    EXPECT_NE(groups.detail.find("a shorter time, a longer interval"), std::string::npos);
    for (const auto& limits :
         {AggregateCounts::Limits{10, 99, 1'000'000}, AggregateCounts::Limits{10, 1'000, 700}}) {
        const Error distinct = fail(request, limits);
        EXPECT_EQ(distinct.code, Errc::unavailable);
        EXPECT_NE(distinct.detail.find("distinct values"), std::string::npos);
        EXPECT_GT(distinct.retry_after_ms, 0U);
    }
}

TEST(ChargeWaiting, TakesOffWhatHasPassedAndRefusesWhenNothingIsLeft) {
    const auto now = std::chrono::steady_clock::now();
    AggregateRequest request;
    request.budget = std::chrono::seconds(10);
    ASSERT_TRUE(charge_waiting(request, now - std::chrono::seconds(4)).has_value());
    EXPECT_LE(request.budget, std::chrono::seconds(6));
    EXPECT_GT(request.budget, std::chrono::seconds(5));
    const auto late = charge_waiting(request, now - std::chrono::seconds(10));
    ASSERT_TRUE(late.has_error());
    EXPECT_EQ(late.error().code, Errc::unavailable);
    EXPECT_GT(late.error().retry_after_ms, 0U);
}

}  // namespace
}  // namespace annal
