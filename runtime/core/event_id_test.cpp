#include "runtime/core/event_id.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(EventIdTest, KeepsCreatedAtAndIsAVersion7Uuid) {
    const EventId id = EventId::make(1'778'784'133'001'999, ~0ULL);
    EXPECT_EQ(id.created_at(), 1'778'784'133'001'999);
    EXPECT_EQ(id.bytes[6] >> 4, 7);
    EXPECT_EQ(id.bytes[8] >> 6, 2);
}

}  // namespace
}  // namespace annal
