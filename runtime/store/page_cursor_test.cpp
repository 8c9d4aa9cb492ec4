#include "runtime/store/page_cursor.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(PageCursorTest, OpensWhatItSealed) {
    const CursorCodec codec("key");
    const auto cursor = codec.seal("proj_a", {}, true, 41);
    EXPECT_EQ(codec.open(cursor, "proj_a", {}, true).value(), 41);
}

}  // namespace
}  // namespace annal
