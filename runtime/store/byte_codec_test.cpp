#include "runtime/store/byte_codec.h"

#include <gtest/gtest.h>

namespace annal {
namespace {

TEST(ByteCodecTest, WhatIsWrittenIsReadInOrder) {
    std::string bytes;
    ByteWriter out(bytes);
    out.number(-2);
    out.text(std::string_view("a\0b", 3));
    out.text("");
    out.raw("xyz");
    EXPECT_EQ(bytes.size(), 8U + 8U + 3U + 8U + 3U);
    EXPECT_EQ(bytes.substr(0, 8), "\xfe\xff\xff\xff\xff\xff\xff\xff");
    ByteReader in(bytes);
    EXPECT_EQ(in.number(), -2);
    EXPECT_EQ(in.text(), std::string_view("a\0b", 3));
    EXPECT_EQ(in.text(), "");
    EXPECT_FALSE(in.at_end());
    EXPECT_EQ(in.raw(3), "xyz");
    EXPECT_TRUE(in.at_end());
    EXPECT_TRUE(in.good());
}

TEST(ByteCodecTest, BeyondTheEndAreZeros) {
    ByteReader in(std::string_view("\x05\0\0\0\0\0\0\0abcd", 12));
    EXPECT_EQ(in.text(), "");
    EXPECT_FALSE(in.good());
    EXPECT_EQ(in.number(), 0);
    EXPECT_EQ(in.raw(1), "");
    ByteReader negative("\xff\xff\xff\xff\xff\xff\xff\xff");
    EXPECT_EQ(negative.text(), "");
    EXPECT_FALSE(negative.good());
}

}  // namespace
}  // namespace annal
