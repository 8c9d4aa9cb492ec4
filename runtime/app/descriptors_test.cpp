#include "runtime/app/descriptors.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(Descriptors, ClientsGetWhatTheProcessDoesNotNeed) {
    const auto [connections, files] = share_descriptors(4'000);
    EXPECT_EQ(connections, 3'000U);
    EXPECT_EQ(files, (1'000U - 128) / 12);
}

TEST(Descriptors, TheStoreTakesNoMoreThanItCanUse) {
    const auto [connections, files] = share_descriptors(1'000'000);
    EXPECT_EQ(files, 128U);
    EXPECT_EQ(connections, 1'000'000U - 128 - 128 * 12);
}

TEST(Descriptors, FewOfThemLeaveBothTheLeastThatWorks) {
    EXPECT_EQ(share_descriptors(600).connections, 88U);
    EXPECT_EQ(share_descriptors(600).store_files, 32U);
    EXPECT_EQ(share_descriptors(100).connections, 16U);
    EXPECT_EQ(share_descriptors(100).store_files, 32U);
}

TEST(Descriptors, NoLimitIsNoOverflow) {
    EXPECT_EQ(share_descriptors(UINT64_MAX).connections, UINT32_MAX);
}

}  // namespace
}  // namespace annal
