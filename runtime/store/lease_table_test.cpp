#include "runtime/store/lease_table.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

using namespace std::chrono_literals;

const LeaseTable::Time kNow{1h};

LeaseRequest request(std::string owner, std::string name = "s") {
    return {"p", std::move(name), std::move(owner), 1000ms};
}

TEST(LeaseTable, GrantsToOneOwnerUntilItsTimeIsOver) {
    LeaseTable table(7);
    const Lease first = table.lease(request("a"), kNow);
    EXPECT_TRUE(first.mine);
    EXPECT_EQ(first.fence, 8);
    EXPECT_EQ(first.left, 1000ms);
    const Lease refused = table.lease(request("b"), kNow + 400500us);
    EXPECT_FALSE(refused.mine);
    EXPECT_EQ(refused.fence, 8);
    EXPECT_EQ(refused.left, 600ms);
    EXPECT_FALSE(table.lease(request("b"), kNow + 999999us).mine);
    const Lease taken = table.lease(request("b"), kNow + 1000ms);
    EXPECT_TRUE(taken.mine);
    EXPECT_EQ(taken.fence, 9);
    EXPECT_FALSE(table.lease(request("a"), kNow + 1000ms).mine);
}

TEST(LeaseTable, RenewsForItsOwnerAlsoLate) {
    LeaseTable table;
    const Lease first = table.lease(request("a"), kNow);
    EXPECT_EQ(table.lease(request("a"), kNow + 900ms).fence, first.fence);
    EXPECT_FALSE(table.lease(request("b"), kNow + 1800ms).mine);
    const Lease late = table.lease(request("a"), kNow + 1h);
    EXPECT_EQ(late.fence, first.fence);
    EXPECT_EQ(late.left, 1000ms);
}

TEST(LeaseTable, ReleaseEndsTheFence) {
    LeaseTable table;
    const Lease first = table.lease(request("a"), kNow);
    const CursorMove move{"s", 1, first.fence};
    EXPECT_TRUE(table.check("p", move).has_value());
    EXPECT_FALSE(table.check("q", move).has_value());
    table.release("p", "s", "b");
    EXPECT_TRUE(table.check("p", move).has_value());
    table.release("p", "s", "a");
    table.release("p", "s", "a");
    EXPECT_EQ(table.check("p", move).error().code, Errc::conflict);
    EXPECT_GT(table.lease(request("a"), kNow).fence, first.fence);
}

TEST(LeaseTable, NamesAndProjectsAreApart) {
    LeaseTable table;
    EXPECT_TRUE(table.lease(request("a"), kNow).mine);
    EXPECT_TRUE(table.lease(request("b", "t"), kNow).mine);
    EXPECT_TRUE(table.lease({"q", "s", "c", 1s}, kNow).mine);
}

}  // namespace
}  // namespace annal
