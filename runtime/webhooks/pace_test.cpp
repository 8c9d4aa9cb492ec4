#include "runtime/webhooks/pace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "runtime/core/clock.h"
#include "runtime/webhooks/retry_schedule.h"

namespace annal {
namespace {

constexpr std::uint64_t kMiddle = 0;  // the least spread

TEST(Pace, BeginsWithOneAndGrowsWithSuccess) {
    Pace pace;
    EXPECT_EQ(pace.next_us(100), 100);
    pace.began(100);
    EXPECT_EQ(pace.next_us(100), Pace::kWhenOneEnds);
    for (int i = 0; i < 4; ++i) {
        pace.succeeded(200);
        pace.began(200);
    }
    EXPECT_EQ(pace.next_us(200), 200) << "two at once after four successes";
    for (int i = 0; i < 1'000; ++i) {
        pace.succeeded(300);
        pace.began(300);
    }
    int more = 0;
    while (pace.next_us(300) == 300) {
        pace.began(300);
        ++more;
    }
    EXPECT_EQ(pace.under_way(), static_cast<int>(Pace::kWindowMax));
    EXPECT_EQ(more, 31);
}

TEST(Pace, OneAtATimeWhileNothingSucceedsAndThenItRests) {
    Pace pace;
    for (int i = 0; i < 200; ++i) {
        pace.began(0);
        pace.succeeded(0);
    }
    std::int64_t now = 0;
    std::int64_t longest = 0;
    for (int i = 0; i < 20; ++i) {
        now = std::max(now, pace.next_us(now));
        pace.began(now);
        EXPECT_EQ(pace.under_way(), 1);
        pace.failed(now, kMiddle);
        EXPECT_TRUE(pace.is_suspect());
        const std::int64_t rest = pace.next_us(now) - now;
        if (i < 4) {
            EXPECT_EQ(rest, 0) << i;
        }
        if (i == 4) {
            EXPECT_EQ(rest, 750'000);
        }
        EXPECT_LE(rest, 75 * kSecondUs);
        longest = std::max(longest, rest);
    }
    EXPECT_EQ(longest, 45 * kSecondUs) << "a minute, less a quarter";
    now = pace.next_us(now);
    pace.began(now);
    EXPECT_EQ(pace.next_us(now), Pace::kWhenOneEnds) << "one shows whether it is there again";
    pace.succeeded(now);
    EXPECT_FALSE(pace.is_suspect());
    EXPECT_EQ(pace.next_us(now), now);
}

TEST(Pace, ManyThatFailAtOnceAreOneRest) {
    Pace pace;
    for (int i = 0; i < 200; ++i) {
        pace.began(0);
        pace.succeeded(0);
    }
    for (int i = 0; i < 32; ++i) pace.began(0);
    for (int i = 0; i < 32; ++i) pace.failed(1'000, kMiddle);
    EXPECT_EQ(pace.next_us(1'000), 1'000 + 750'000) << "an outage of a moment";
    // The attempt that looks whether it is there again doubles it.
    pace.began(751'000);
    pace.failed(751'000, kMiddle);
    EXPECT_EQ(pace.next_us(751'000), 751'000 + 1'500'000);
}

TEST(Pace, LeavesAnOverloadedEndpointAloneForAsLongAsItAsks) {
    Pace pace;
    pace.began(0);
    pace.overloaded(0, 7 * kSecondUs);
    EXPECT_EQ(pace.next_us(1'000), 7 * kSecondUs);
    EXPECT_FALSE(pace.is_suspect());
}

/// A destination that takes `limit` requests in each window of a second, and asks for a second's
/// rest when there are more.
struct Limited {
    int limit;
    std::deque<std::int64_t> taken;
    bool takes(std::int64_t now) {
        while (!taken.empty() && taken.front() <= now - kSecondUs) taken.pop_front();
        if (static_cast<int>(taken.size()) >= limit) return false;
        taken.push_back(now);
        return true;
    }
};

struct Counts {
    int taken = 0, refused = 0;
};

Counts send_for(Pace& pace, Limited& to, std::int64_t& now, std::int64_t seconds) {
    Counts counts;
    for (const std::int64_t end = now + seconds * kSecondUs; now < end;) {
        const std::int64_t next = pace.next_us(now);
        if (next > now) {
            now = next;
            continue;
        }
        pace.began(now);
        now += 1'000;  // a millisecond each
        if (to.takes(now)) {
            pace.succeeded(now);
            ++counts.taken;
        } else {
            pace.overloaded(now, kSecondUs);
            ++counts.refused;
        }
    }
    return counts;
}

TEST(Pace, ALongBacklogDoesNotTireADestinationThatAllowsFiftyASecond) {
    Pace pace;
    Limited to{50, {}};
    std::int64_t now = 1;
    const Counts counts = send_for(pace, to, now, 600);
    EXPECT_GE(counts.taken, 600 * 50 * 90 / 100) << "of what it allows";
    EXPECT_LE(counts.refused, counts.taken / 100);
    to.limit = 1'000;  // it has grown
    EXPECT_GE(send_for(pace, to, now, 600).taken, 600 * 500) << "and that is found out";
}

TEST(RetrySchedule, TakesThreeDaysAndEnds) {
    using namespace std::chrono_literals;
    const std::int64_t seconds[] = {
        5, 30, 120, 600, 1'800, 3'600, 7'200, 14'400, 28'800, 43'200, 86'400, 86'400};
    std::int64_t tries = 0;
    for (const std::int64_t s : seconds) {
        ++tries;
        std::int64_t least = INT64_MAX, most = 0;
        for (std::uint64_t random = 0; random < 2'000; ++random) {
            const auto delay = retry_delay(tries, random * 0x9e3779b97f4a7c15ULL).value().count();
            least = std::min(least, delay);
            most = std::max(most, delay);
        }
        EXPECT_GE(least, s * 750);
        EXPECT_LE(most, s * 1'250);
        EXPECT_LT(least, s * 760);
        EXPECT_GT(most, s * 1'240);
    }
    EXPECT_EQ(retry_delay(13, 0), std::nullopt);
}

}  // namespace
}  // namespace annal
