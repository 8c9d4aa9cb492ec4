#include "runtime/cli/progress.h"

#include <gtest/gtest.h>

namespace annal::cli {
namespace {

using std::chrono::milliseconds;

ProgressState state(std::uint64_t rows, std::uint64_t total) {
    ProgressState s;
    s.rows = rows;
    s.total = total;
    s.bytes = 123'400'000;
    s.elapsed = milliseconds(8'000);
    return s;
}

TEST(Progress, ShowsHowFarHowFastHowLong) {
    EXPECT_EQ(
        progress_line(state(420'000, 1'000'000), 120),
        "[==========>             ]   42 %  420 000 of 1 000 000 rows  123.4 MB  52 500 rows/s  "
        "0:08"
    );
    EXPECT_EQ(progress_line(state(999, 0), 120), "999 rows  123.4 MB  124 rows/s  0:08");
    ProgressState late = state(1'000'000, 1'000'000);
    late.elapsed = milliseconds(3'723'000);
    EXPECT_NE(
        progress_line(late, 120).find("[========================]  100 %"), std::string::npos
    );
    EXPECT_NE(progress_line(late, 120).find("1:02:03"), std::string::npos);
}

TEST(Progress, MoreThanExpectedIsNoMoreThanAll) {
    EXPECT_NE(progress_line(state(11, 10), 120).find("100 %"), std::string::npos);
}

TEST(Progress, RowsOfAnEarlierProcessAreNotItsSpeed) {
    ProgressState resumed = state(500'000, 0);
    resumed.rows_before = 492'000;
    EXPECT_NE(progress_line(resumed, 120).find("1 000 rows/s"), std::string::npos);
}

TEST(Progress, IsNeverWiderThanTheTerminal) {
    for (std::size_t width = 0; width < 130; ++width) {
        EXPECT_LE(progress_line(state(420'000, 1'000'000), width).size(), width);
        EXPECT_LE(progress_line(state(420'000, 0), width).size(), width);
    }
}

TEST(RowCounter, CountsLinesAndInCsvThoseOutsideOfQuotes) {
    RowCounter lines("jsonl");
    lines.add("{\"a\"}\n{");
    lines.add("}\n");
    EXPECT_EQ(lines.rows(), 2U);
    RowCounter rows("csv");
    for (const char c : std::string("a,\"x\ny\"\"\n\",b\r\nc\r\n")) rows.add({&c, 1});
    EXPECT_EQ(rows.rows(), 2U);
    rows.add("\"half");
    rows.set(2);
    rows.add("d\r\n");
    EXPECT_EQ(rows.rows(), 3U);
}

}  // namespace
}  // namespace annal::cli
