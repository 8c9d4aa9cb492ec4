#include <gtest/gtest.h>
#include <annal/sdk/event_id.hpp>

#include <string>

namespace {

std::string uuid(std::string_view id) {
    const auto found = annal::uuid_of(id);
    return found ? std::string(*found) : "none";
}

static_assert(
    annal::uuid_of("evt_01KRKWQQW9EFKR28T5CY4TQKFF")->view() ==
    "019e27cb-df89-73e7-8123-456789abcdef"
);
static_assert(!annal::uuid_of("evt_"));

TEST(EventId, IsAUuidOfTheSameBits) {
    EXPECT_EQ(uuid("evt_01KRKWQQW9EFKR28T5CY4TQKFF"), "019e27cb-df89-73e7-8123-456789abcdef");
    EXPECT_EQ(uuid("evt_00000000000000000000000000"), "00000000-0000-0000-0000-000000000000");
    EXPECT_EQ(uuid("evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), "ffffffff-ffff-ffff-ffff-ffffffffffff");
    EXPECT_EQ(uuid("evt_00000000000000000000000001"), "00000000-0000-0000-0000-000000000001");
    EXPECT_EQ(uuid("evt_40000000000000000000000000"), "80000000-0000-0000-0000-000000000000");
}

// One bit of the 128 after the other: its digit, counted from the last, holds bits 5n to 5n + 4.
TEST(EventId, HasEachBitInItsPlace) {
    constexpr std::string_view kDigits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    constexpr std::string_view kHex = "0123456789abcdef";
    for (std::size_t bit = 0; bit < 128; ++bit) {
        std::string id = "evt_" + std::string(26, '0');
        id[id.size() - 1 - bit / 5] = kDigits[std::size_t{1} << bit % 5];
        std::string hex(32, '0');
        hex[hex.size() - 1 - bit / 4] = kHex[std::size_t{1} << bit % 4];
        for (const std::size_t dash : {8U, 13U, 18U, 23U}) {
            hex.insert(dash, "-");
        }
        EXPECT_EQ(uuid(id), hex) << bit;
    }
}

TEST(EventId, TakesTheFormsThatTheHostTakes) {
    for (const char* id :
         {"evt_01krkwqqw9efkr28t5cy4tqkff",
          "evt_OIKRKWQQW9EFKR28T5CY4TQKFF",
          "evt_olkrkwqqw9efkr28t5cy4tqkff"}) {
        EXPECT_EQ(uuid(id), "019e27cb-df89-73e7-8123-456789abcdef") << id;
    }
}

TEST(EventId, RefusesEverythingElse) {
    for (const char* id :
         {"",
          "evt_",
          "evt_01KRKWQQW9EFKR28T5CY4TQKF",
          "evt_01KRKWQQW9EFKR28T5CY4TQKFF0",
          "evt_01KRKWQQW9EFKR28T5CY4TQKFU",
          "evt_81KRKWQQW9EFKR28T5CY4TQKFF",
          "EVT_01KRKWQQW9EFKR28T5CY4TQKFF",
          "019e27cb-df89-73e7-8123-456789abcdef",
          "evt_01HXAMPL..."}) {
        EXPECT_EQ(uuid(id), "none") << id;
    }
}

}  // namespace
