#include "line_chunks.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace {

using ingest::LineChunks;
using ingest::LineCounter;

std::size_t count(const std::vector<std::string>& pieces) {
    LineCounter counter;
    for (const auto& piece : pieces) counter.feed(piece);
    return counter.filled_lines();
}

TEST(LineCounter, CountsLinesThatHoldSomething) {
    EXPECT_EQ(count({""}), 0U);
    EXPECT_EQ(count({"\n\n \t\r\n"}), 0U);
    EXPECT_EQ(count({"a\nb\n"}), 2U);
    EXPECT_EQ(count({"a\nb"}), 2U);
    EXPECT_EQ(count({"a", "a", "\n", "\n", " ", "b\nc"}), 3U);
}

std::vector<std::string> cut(
    const std::string& text, std::size_t piece, std::size_t lines_max, std::size_t bytes_max
) {
    LineChunks chunks(lines_max, bytes_max);
    std::vector<std::string> out;
    const auto take = [&] {
        for (auto chunk = chunks.next(); !chunk.empty(); chunk = chunks.next())
            out.emplace_back(chunk);
    };
    for (std::size_t at = 0; at < text.size(); at += piece) {
        chunks.feed(std::string_view(text).substr(at, piece));
        take();
    }
    chunks.finish();
    take();
    EXPECT_EQ(chunks.waiting_bytes(), 0U);
    return out;
}

TEST(LineChunks, CutsAfterSoManyFilledLines) {
    const std::vector<std::string> expected{"a\n\nb\n", "c\nd\n", "e"};
    EXPECT_EQ(cut("a\n\nb\nc\nd\ne", 100, 2, 1000), expected);
}

TEST(LineChunks, CutsBeforeALineThatDoesNotFit) {
    const std::vector<std::string> expected{"aaa\nbb\n", "cccc\n", "0123456789abc\n", "d\n"};
    EXPECT_EQ(cut("aaa\nbb\ncccc\n0123456789abc\nd\n", 100, 10, 8), expected);
}

// A repeated request must be cut the same, or its chunks' idempotency keys would not fit.
TEST(LineChunks, CutsTheSameHoweverTheTextArrives) {
    std::string text;
    for (int i = 0; i < 200; ++i) {
        text +=
            std::string(static_cast<std::size_t>(i * 7 % 23), 'x') + (i % 5 == 0 ? "\r\n" : "\n");
    }
    text += "last";
    const auto whole = cut(text, text.size(), 7, 64);
    std::string joined;
    for (const auto& chunk : whole) joined += chunk;
    EXPECT_EQ(joined, text);
    for (const std::size_t piece : {1U, 2U, 3U, 7U, 64U, 65U, 1000U}) {
        EXPECT_EQ(cut(text, piece, 7, 64), whole) << piece;
    }
}

TEST(LineChunks, SaysHowMuchWaits) {
    LineChunks chunks(10, 100);
    chunks.feed("no end of line");
    EXPECT_TRUE(chunks.next().empty());
    EXPECT_EQ(chunks.waiting_bytes(), 14U);
}

}  // namespace
