#include "runtime/core/time_text.h"

#include <gtest/gtest.h>

#include <random>

namespace annal {
namespace {

std::string again(std::string_view text) {
    const auto at = parse_time(text);
    return at ? format_time(at.value()) : "refused: " + at.error().detail;
}

TEST(TimeTextTest, FormatsWithSixDigits) {
    EXPECT_EQ(format_time(0), "1970-01-01T00:00:00.000000Z");
    EXPECT_EQ(format_time(-1), "1969-12-31T23:59:59.999999Z");
    EXPECT_EQ(format_time(1'778'784'133'001'000), "2026-05-14T18:42:13.001000Z");
    EXPECT_EQ(format_time(253'402'300'799'999'999), "9999-12-31T23:59:59.999999Z");
    EXPECT_EQ(format_time(-62'167'219'200'000'000), "0000-01-01T00:00:00.000000Z");
}

TEST(TimeTextTest, FormatsMonths) {
    EXPECT_EQ(format_month(month_of(1'778'784'133'001'000)), "2026-05");
    EXPECT_EQ(format_month({1970 * 12 + 11}), "1970-12");
}

TEST(TimeTextTest, TakesEveryFormOfOneInstant) {
    for (const char* text : {
             "2026-05-14T18:42:13.001Z",
             "2026-05-14t18:42:13.001z",
             "2026-05-14 18:42:13.001Z",
             "2026-05-14T18:42:13,001Z",
             "2026-05-14T18:42:13.001000999Z",
             "2026-05-14T18:42:13.00100000000000000000001Z",
             "20260514T184213.001Z",
             "2026-05-14T20:42:13.001+02:00",
             "2026-05-14T20:42:13.001+0200",
             "2026-05-14T20:42:13.001+02",
             "20260514T204213.001+0200",
             "2026-05-14T13:12:13.001-05:30",
             "2026-05-14T13:12:13.001\xe2\x88\x92"
             "05:30",
             "2026-05-15T00:12:13.001+05:30",
             "2026-05-14T18:42:13.001+00:00",
             "2026-05-14T18:42:13.001-00:00",
             "2026-W20-4T18:42:13.001Z",
             "2026W204T184213.001Z",
             "2026-134T18:42:13.001Z",
             "2026134T184213.001Z",
         }) {
        EXPECT_EQ(again(text), "2026-05-14T18:42:13.001000Z") << text;
    }
}

TEST(TimeTextTest, TakesTimesWithoutSeconds) {
    EXPECT_EQ(again("2026-05-14T18:42Z"), "2026-05-14T18:42:00.000000Z");
    EXPECT_EQ(again("20260514T1842+01"), "2026-05-14T17:42:00.000000Z");
    EXPECT_EQ(again("2026-05-14T24:00:00Z"), "2026-05-15T00:00:00.000000Z");
    EXPECT_EQ(again("2026-12-31T24:00Z"), "2027-01-01T00:00:00.000000Z");
}

TEST(TimeTextTest, ALeapSecondIsTheNextSecond) {
    EXPECT_EQ(again("2016-12-31T23:59:60Z"), "2017-01-01T00:00:00.000000Z");
    EXPECT_EQ(again("2016-12-31T23:59:60.5Z"), "2017-01-01T00:00:00.500000Z");
    EXPECT_EQ(again("2016-12-31T18:59:60-05:00"), "2017-01-01T00:00:00.000000Z");
    EXPECT_TRUE(again("2016-12-31T12:00:60Z").starts_with("refused"));
    EXPECT_TRUE(again("2016-12-31T23:59:61Z").starts_with("refused"));
}

TEST(TimeTextTest, KnowsTheCalendar) {
    EXPECT_EQ(again("2024-02-29T00:00:00Z"), "2024-02-29T00:00:00.000000Z");
    EXPECT_EQ(again("2000-02-29T00:00:00Z"), "2000-02-29T00:00:00.000000Z");
    EXPECT_EQ(again("2024-366T00:00:00Z"), "2024-12-31T00:00:00.000000Z");
    EXPECT_EQ(again("2020-W53-5T00:00:00Z"), "2021-01-01T00:00:00.000000Z");
    EXPECT_EQ(again("2026-W01-1T00:00:00Z"), "2025-12-29T00:00:00.000000Z");
    EXPECT_EQ(again("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00.000000Z");
    EXPECT_EQ(again("9999-12-31T23:59:59.999999Z"), "9999-12-31T23:59:59.999999Z");
    EXPECT_EQ(again("1969-12-31T23:59:59.999999Z"), "1969-12-31T23:59:59.999999Z");
}

TEST(TimeTextTest, RefusesWithAHint) {
    for (const char* text : {
             "",
             "now",
             "1778784133",
             "2026-05-14",
             "2026-05-14T18:42:13",
             "2026-05-14T18Z",
             "2026-05-14T18:42:13.Z",
             "2026-05-14T18:42:13.001Z ",
             " 2026-05-14T18:42:13Z",
             "2026-05-14  18:42:13Z",
             "2026-05-14T18:42:13ZZ",
             "2026-05-14T18:42:13+2:00",
             "2026-05-14T18:42:13+24:00",
             "2026-05-14T18:42:13+02:60",
             "2026-05-14T18:42:13+02:",
             "2026-05-14T18:42:13+",
             "2026-05-14T18:60:13Z",
             "2026-05-14T25:00:00Z",
             "2026-05-14T24:00:01Z",
             "2026-05-14T24:00:00.1Z",
             "2026-02-29T00:00:00Z",
             "2026-13-01T00:00:00Z",
             "2026-00-01T00:00:00Z",
             "2026-05-00T00:00:00Z",
             "2026-05-32T00:00:00Z",
             "2026-366T00:00:00Z",
             "2026-000T00:00:00Z",
             "2026-W54-1T00:00:00Z",
             "2026-W00-1T00:00:00Z",
             "2025-W53-1T00:00:00Z",
             "2026-W20-8T00:00:00Z",
             "2026-W20T00:00:00Z",
             "0000-01-01T00:00:00Z",
             "10000-01-01T00:00:00Z",
             "0001-01-01T00:00:00+01:00",
             "9999-12-31T23:59:59-01:00",
             "26-05-14T18:42:13Z",
             "2026-0514T18:42:13Z",
             "202605-14T18:42:13Z",
             "2026/05/14T18:42:13Z",
             "2026-05-14T18:42:13+02:00[Europe/Berlin]",
         }) {
        const auto at = parse_time(text);
        ASSERT_FALSE(at) << text;
        EXPECT_EQ(at.error().code, Errc::invalid);
        EXPECT_NE(at.error().detail.find("2026-05-14T18:42:13.001Z"), std::string::npos);
    }
}

TEST(TimeTextTest, AMessageNeverRepeatsUnboundedText) {
    const auto at = parse_time(std::string(1'000'000, '\x01'));
    ASSERT_FALSE(at);
    EXPECT_LT(at.error().detail.size(), 300U);
    EXPECT_EQ(at.error().detail.find('\x01'), std::string::npos);
}

TEST(TimeTextTest, RandomInstantsComeBack) {
    const auto seed = std::random_device{}();
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<TimeUs> instants(
        -62'135'596'800'000'000, 253'402'300'799'999'999
    );
    for (int i = 0; i < 20'000; ++i) {
        const TimeUs at = instants(random);
        ASSERT_EQ(parse_time(format_time(at)).value(), at) << format_time(at);
    }
}

TEST(TimeTextTest, Durations) {
    EXPECT_EQ(parse_duration("500ms").value(), 500'000);
    EXPECT_EQ(parse_duration("10s").value(), 10'000'000);
    EXPECT_EQ(parse_duration("2m").value(), 120'000'000);
    EXPECT_EQ(parse_duration("24h").value(), kDayUs);
    EXPECT_EQ(parse_duration("7d").value(), 7 * kDayUs);
    EXPECT_EQ(parse_duration("0s").value(), 0);
    for (const char* bad :
         {"",
          "10",
          "s",
          "-1s",
          "+1s",
          "1.5s",
          "1 s",
          "10S",
          "1w",
          "1s ",
          "999999999999d",
          "99999999999999999999s"}) {
        ASSERT_FALSE(parse_duration(bad)) << bad;
        EXPECT_EQ(parse_duration(bad).error().code, Errc::invalid);
    }
}

TEST(TimeTextTest, Sizes) {
    EXPECT_EQ(parse_size("512").value(), 512U);
    EXPECT_EQ(parse_size("512B").value(), 512U);
    EXPECT_EQ(parse_size("64KiB").value(), 65'536U);
    EXPECT_EQ(parse_size("8MiB").value(), 8U << 20);
    EXPECT_EQ(parse_size("1GiB").value(), 1U << 30);
    for (const char* bad : {"", "8MB", "8M", "-1", "1.5MiB", "8 MiB", "9999999999999GiB"}) {
        ASSERT_FALSE(parse_size(bad)) << bad;
    }
}

}  // namespace
}  // namespace annal
