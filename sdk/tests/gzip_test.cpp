#include <gtest/gtest.h>

#include <annal/sdk/gzip.hpp>

#include <random>

#include "tests/support/gunzip.h"

namespace {

using annal::test::gunzip;

TEST(Gzip, ReadsBackTheSame) {
    std::mt19937 random(7);
    for (const std::size_t size : {0U, 1U, 100U, 70'000U, 3'000'000U}) {
        std::string text(size, '\0');
        for (char& c : text) c = static_cast<char>(random());  // nothing in it can be saved
        EXPECT_EQ(gunzip(annal::gzip(text)), text) << size;
        EXPECT_EQ(gunzip(annal::gzip(text, 1)), text) << size;
        EXPECT_EQ(annal::gunzip(annal::gzip(text), size), text) << size;
    }
    const std::string lines(1'000'000, 'x');
    EXPECT_LT(annal::gzip(lines).size(), 2'000U);
    EXPECT_THROW(gunzip(annal::gzip(lines).substr(1)), std::runtime_error);
    EXPECT_THROW(gunzip(annal::gzip(lines) + "x"), std::runtime_error);
}

TEST(Gunzip, GivesWhatWasPackedAndNothingElse) {
    const std::string text(1'000'000, 'x');
    const std::string packed = annal::gzip(text);
    EXPECT_EQ(annal::gunzip(packed, 2'000'000), text);
    EXPECT_EQ(annal::gunzip(packed, text.size() - 1), std::nullopt) << "more than asked for";
    EXPECT_EQ(annal::gunzip(packed.substr(0, packed.size() - 1), text.size()), std::nullopt);
    EXPECT_EQ(annal::gunzip(packed + packed, 2'000'000), std::nullopt) << "two members";
    EXPECT_EQ(annal::gunzip("", 10), std::nullopt);
    std::string wrong = packed;
    wrong[packed.size() - 6] ^= 1;  // of its checksum
    EXPECT_EQ(annal::gunzip(wrong, text.size()), std::nullopt);
}

// RFC 1952: ID1 ID2 CM FLG, four bytes of time, XFL, OS.
TEST(Gzip, NamesNoTimeNoFileAndNoSystem) {
    const std::string packed = annal::gzip("the same bytes");
    EXPECT_EQ(packed.substr(0, 10), std::string("\x1f\x8b\x08\0\0\0\0\0\0\xff", 10));
    EXPECT_EQ(packed, annal::gzip("the same bytes"));
}

}  // namespace
