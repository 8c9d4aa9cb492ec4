#include "runtime/event/action.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(ActionTest, GrammarTakesTwoToEightSegments) {
    EXPECT_TRUE(is_action("user.created"));
    EXPECT_TRUE(is_action("a.b.c.d.e.f.g.h"));
    EXPECT_FALSE(is_action("user"));
    EXPECT_FALSE(is_action("a.b.c.d.e.f.g.h.i"));
}

}  // namespace
}  // namespace annal
