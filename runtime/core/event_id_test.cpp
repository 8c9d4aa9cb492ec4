#include "runtime/core/event_id.h"

#include <gtest/gtest.h>

#include "runtime/core/crypto.h"

namespace annal {
namespace {

constexpr TimeUs kSome = 1'778'784'133'001'999;

TEST(EventIdTest, KeepsCreatedAtAndIsAVersion7Uuid) {
    const EventId id = EventId::make(kSome, ~0ULL);
    EXPECT_EQ(id.created_at(), kSome);
    EXPECT_EQ(id.bytes[6] >> 4, 7);
    EXPECT_EQ(id.bytes[8] >> 6, 2);
    EXPECT_EQ(EventId::make(kSome, 0).bytes[8] >> 6, 2);
}

TEST(EventIdTest, HasFixedForms) {
    const EventId id = EventId::make(1'778'784'133'001'999, 0x0123456789abcdefULL);
    EXPECT_EQ(id.uuid(), "019e27cb-df89-73e7-8123-456789abcdef");
    EXPECT_EQ(id.text(), "evt_01KRKWQQW9EFKR28T5CY4TQKFF");
}

TEST(EventIdTest, BothFormsComeBack) {
    for (int i = 0; i < 1000; ++i) {
        const EventId id = EventId::make(kSome + i, random_u64());
        ASSERT_EQ(id.text().size(), 30U);
        ASSERT_EQ(id.uuid().size(), 36U);
        ASSERT_EQ(EventId::parse(id.text()), id);
        ASSERT_EQ(EventId::parse(id.uuid()), id);
        ASSERT_EQ(id.created_at(), kSome + i);
    }
}

TEST(EventIdTest, SortsByTimeInEveryForm) {
    // Steps that carry over the microsecond, the millisecond and a byte of the milliseconds.
    const TimeUs start = (1'778'784'133'001 | 0xff) * 1000 + 998;
    EventId before = EventId::make(start, ~0ULL);
    for (TimeUs us = start + 1; us < start + 5; ++us) {
        const EventId after = EventId::make(us, 0);
        EXPECT_LT(before, after);
        EXPECT_LT(before.text(), after.text());
        EXPECT_LT(before.uuid(), after.uuid());
        before = EventId::make(us, ~0ULL);
    }
}

TEST(EventIdTest, TakesTheAliasesOfCrockford) {
    const auto id = EventId::parse("evt_01KRKWQQW9EFKR28T5CY4TQKFF");
    ASSERT_TRUE(id);
    EXPECT_EQ(EventId::parse("evt_01krkwqqw9efkr28t5cy4tqkff"), id);
    EXPECT_EQ(EventId::parse("evt_OIKRKWQQW9EFKR28T5CY4TQKFF"), id);
    EXPECT_EQ(EventId::parse("evt_olkrkwqqw9efkr28t5cy4tqkff"), id);
    EXPECT_EQ(EventId::parse("019E27CB-DF89-73E7-8123-456789ABCDEF"), id);
}

TEST(EventIdTest, RefusesEverythingElse) {
    for (const char* text :
         {"",
          "evt_",
          "evt_01KRKWQQW9EFKR28T5CY4TQKF",
          "evt_01KRKWQQW9EFKR28T5CY4TQKFF0",
          "evt_01KRKWQQW9EFKR28T5CY4TQKFU",
          "evt_81KRKYFRW9EFKR28T5CY4TQKFF",
          "EVT_01KRKWQQW9EFKR28T5CY4TQKFF",
          "01KRKWQQW9EFKR28T5CY4TQKFF",
          "evt_01HXAMPL...",
          "019e27cbdf8973e78123456789abcdef",
          "019e27cb-df89-73e7-8123-456789abcdeg",
          "019e27cb-df89-73e7-81234-56789abcdef",
          "{019e27cb-df89-73e7-8123-456789abcdef}",
          "019e27cb-df89-73e7-8123-456789abcdef0",
          "usr_01KRKWQQW9EFKR28T5CY4TQKFF"}) {
        EXPECT_FALSE(EventId::parse(text)) << text;
    }
}

TEST(EventIdTest, HoldsTheWholeRangeOfTimes) {
    EXPECT_EQ(EventId::make(0, 0).created_at(), 0);
    const TimeUs latest = 253'402'300'799'999'999;  // the end of year 9999
    EXPECT_EQ(EventId::make(latest, 1).created_at(), latest);
}

}  // namespace
}  // namespace annal
