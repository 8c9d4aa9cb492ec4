#include "runtime/store/sqlite/control.h"

#include <gtest/gtest.h>

namespace annal::sqlite {
namespace {

// Rows that are there already have this form.
TEST(CursorRow, OfAStreamIsItsSubscription) {
    EXPECT_EQ(cursor_row("p", "stream.file/all.p"), "stream.file/all.p");
}

TEST(CursorRow, OfAnythingElseIsThatOfItsProject) {
    EXPECT_EQ(cursor_row("p", "s"), "p\ns");
    EXPECT_EQ(cursor_row("q", "stream.file/all.p"), "q\nstream.file/all.p");
    EXPECT_EQ(cursor_row("p", "p"), "p\np");
}

}  // namespace
}  // namespace annal::sqlite
