#include "runtime/app/descriptors.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(Descriptors, ClientsGetWhatTheProcessDoesNotNeed) {
    const DescriptorShares shares = share_descriptors(4'000);
    EXPECT_EQ(shares.connections, 2'500U);
    EXPECT_EQ(shares.outbound, 500U);
    EXPECT_EQ(shares.store_files, (1'000U - 128) / 12);
}

TEST(Descriptors, StoreAndOutboundTakeNoMoreThanTheyCanUse) {
    const DescriptorShares shares = share_descriptors(1'000'000);
    EXPECT_EQ(shares.store_files, 128U);
    EXPECT_EQ(shares.outbound, 2'048U);
    EXPECT_EQ(shares.connections, 1'000'000U - 128 - 128 * 12 - 2'048);
}

TEST(Descriptors, FewOfThemLeaveEachTheLeastThatWorks) {
    EXPECT_EQ(share_descriptors(600).connections, 16U);
    EXPECT_EQ(share_descriptors(700).connections, 101U);
    EXPECT_EQ(share_descriptors(600).outbound, 75U);
    EXPECT_EQ(share_descriptors(100).outbound, 64U);
    EXPECT_EQ(share_descriptors(600).store_files, 32U);
    EXPECT_EQ(share_descriptors(100).connections, 16U);
    EXPECT_EQ(share_descriptors(100).store_files, 32U);
}

TEST(Descriptors, NoLimitIsNoOverflow) {
    EXPECT_EQ(share_descriptors(UINT64_MAX).connections, UINT32_MAX);
}

}  // namespace
}  // namespace annal
