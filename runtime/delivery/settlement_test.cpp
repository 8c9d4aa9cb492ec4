#include "runtime/delivery/settlement.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

using Next = Settlement::Next;

annal_str text(const char* s) {
    return {s, std::string_view(s).size()};
}

/// A report as it crosses the boundary.
Report reported(
    std::uint32_t fallback,
    std::vector<annal_verdict> exceptions,
    std::size_t events,
    const char* why = ""
) {
    annal_error error{};
    error.struct_size = sizeof(error);
    error.code = ANNAL_UNAVAILABLE;
    error.retry_after_ms = 1'500;
    error.text_len = static_cast<std::uint32_t>(std::string_view(why).copy(error.text, 496));
    return Report::of(
        fallback,
        exceptions.data(),
        static_cast<std::uint32_t>(exceptions.size()),
        *why != '\0' ? &error : nullptr,
        events
    );
}

TEST(Settlement, AllDelivered) {
    const Settlement s = settle(reported(ANNAL_DELIVERED, {}, 3), 3);
    EXPECT_EQ(s.settled, 3U);
    EXPECT_EQ(s.next, Next::go_on);
    EXPECT_TRUE(s.rejected.empty());
}

TEST(Settlement, ARetrySettlesNothingAndKeepsWhatWasAskedFor) {
    const Settlement s = settle(reported(ANNAL_RETRY, {}, 3, "503"), 3);
    EXPECT_EQ(s.settled, 0U);
    EXPECT_EQ(s.next, Next::retry);
    EXPECT_EQ(s.why, "503");
    EXPECT_EQ(s.retry_after_ms, 1'500U);
}

TEST(Settlement, ABatchRefusedAsAWholeIsHalvedAndASingleEventIsRefused) {
    const Settlement many = settle(reported(ANNAL_REJECT, {}, 3, "400"), 3);
    EXPECT_EQ(many.next, Next::bisect);
    EXPECT_EQ(many.settled, 0U);
    const Settlement one = settle(reported(ANNAL_REJECT, {}, 1, "400"), 1);
    EXPECT_EQ(one.next, Next::go_on);
    EXPECT_EQ(one.settled, 1U);
    ASSERT_EQ(one.rejected.size(), 1U);
    EXPECT_EQ(one.rejected[0].why, "400");
}

TEST(Settlement, APauseFails) {
    const Settlement s = settle(reported(ANNAL_PAUSE, {}, 2, "401"), 2);
    EXPECT_EQ(s.next, Next::fail);
    EXPECT_EQ(s.settled, 0U);
    EXPECT_EQ(s.why, "401");
}

TEST(Settlement, AnEventRefusedByNameIsPassedOver) {
    const Settlement s = settle(reported(ANNAL_DELIVERED, {{1, ANNAL_REJECT, text("odd")}}, 3), 3);
    EXPECT_EQ(s.settled, 3U);
    EXPECT_EQ(s.next, Next::go_on);
    ASSERT_EQ(s.rejected.size(), 1U);
    EXPECT_EQ(s.rejected[0].index, 1U);
    EXPECT_EQ(s.rejected[0].why, "odd");
}

TEST(Settlement, WhatWasSaidOfEventsAheadIsKept) {
    // 0 taken, 1 later, 2 refused, 3 taken.
    const Settlement s = settle(
        reported(
            ANNAL_DELIVERED, {{1, ANNAL_RETRY, text("busy")}, {2, ANNAL_REJECT, text("odd")}}, 4
        ),
        4
    );
    EXPECT_EQ(s.settled, 1U);
    EXPECT_EQ(s.next, Next::retry);
    EXPECT_EQ(s.why, "busy");
    ASSERT_EQ(s.foretold.size(), 2U);
    EXPECT_EQ(s.foretold.at(2).verdict, Verdict::reject);
    EXPECT_EQ(s.foretold.at(2).detail, "odd");
    EXPECT_EQ(s.foretold.at(3).verdict, Verdict::delivered);
}

TEST(Settlement, OneRefusedByNameAmongThoseToRetry) {
    // What Splunk does: the number of the event that it did not take, the others not taken either.
    const Settlement s =
        settle(reported(ANNAL_RETRY, {{2, ANNAL_REJECT, text("no data")}}, 4, "code 5"), 4);
    EXPECT_EQ(s.settled, 0U);
    EXPECT_EQ(s.next, Next::retry);
    ASSERT_EQ(s.foretold.size(), 1U);
    EXPECT_EQ(s.foretold.at(2).verdict, Verdict::reject);
}

TEST(Settlement, RefusedAsAWholeTellsNothingOfSingleEvents) {
    const Settlement s =
        settle(reported(ANNAL_REJECT, {{0, ANNAL_DELIVERED, text("")}}, 4, "400"), 4);
    EXPECT_EQ(s.settled, 1U);
    EXPECT_EQ(s.next, Next::bisect);
    EXPECT_TRUE(s.foretold.empty());
}

TEST(Settlement, NeverTrustsTheReport) {
    const Report outside = reported(ANNAL_DELIVERED, {{3, ANNAL_DELIVERED, text("")}}, 3);
    EXPECT_EQ(settle(outside, 3).next, Next::retry);
    EXPECT_EQ(settle(outside, 3).settled, 0U);
    const Report unknown = reported(77, {}, 2);
    EXPECT_EQ(settle(unknown, 2).next, Next::retry);
    const Report odd = reported(ANNAL_DELIVERED, {{0, 0, text("")}}, 2);
    EXPECT_EQ(settle(odd, 2).settled, 0U);
}

}  // namespace
}  // namespace annal
