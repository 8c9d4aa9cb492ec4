#include "runtime/http/gzip.h"

#include <gtest/gtest.h>

#include <random>

#include "runtime/http/testing_gzip.h"

namespace annal::http {
namespace {

/// Feeds `packed` in pieces of `piece` bytes, taking at most `room` bytes at a time.
Result<std::string> unpack(std::string_view packed, std::size_t piece, std::size_t room) {
    GzipReader reader;
    std::string all;
    while (!packed.empty() || reader.pending()) {
        std::string_view part = packed.substr(0, piece);
        const std::size_t offered = part.size();
        std::string out;
        BOOST_OUTCOME_TRYV(reader.decode(part, out, room));
        EXPECT_LE(out.size(), room);
        packed.remove_prefix(offered - part.size());
        all += out;
    }
    if (!reader.whole()) return Error{Errc::invalid, "too short"};
    return all;
}

std::string sample(std::size_t size) {
    std::mt19937 random(7);
    std::string text;
    while (text.size() < size) text += "event " + std::to_string(random() % 1000) + "; ";
    text.resize(size);
    return text;
}

TEST(GzipTest, UndoesWhatWasPackedInPiecesOfAnySize) {
    const std::string text = sample(100'000);
    const std::string packed = test::gzip(text);
    for (const std::size_t piece : {1, 2, 7, 1000, 1'000'000}) {
        for (const std::size_t room : {1, 100, 65'536}) {
            if (piece * room < 50) continue;  // slow, and no other path
            const auto result = unpack(packed, piece, room);
            ASSERT_TRUE(result) << piece << "/" << room << ": " << result.error().detail;
            EXPECT_TRUE(result.value() == text) << piece << "/" << room;
        }
    }
}

TEST(GzipTest, SeveralMembersAreOneBody) {
    const auto result = unpack(test::gzip("one ") + test::gzip("") + test::gzip("two"), 5, 64);
    ASSERT_TRUE(result) << result.error().detail;
    EXPECT_EQ(result.value(), "one two");
}

TEST(GzipTest, RefusesDamage) {
    std::string packed = test::gzip(sample(5000));
    EXPECT_FALSE(unpack("this is no gzip at all", 100, 1000));
    EXPECT_FALSE(unpack(packed.substr(0, packed.size() - 1), 100, 1000));
    EXPECT_FALSE(unpack(packed + "trailing", 100, 1000));
    packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);  // the checksum
    EXPECT_FALSE(unpack(packed, 100, 1000));
}

TEST(GzipTest, NothingIsWhole) {
    const auto result = unpack("", 1, 1);
    ASSERT_TRUE(result);
    EXPECT_EQ(result.value(), "");
}

}  // namespace
}  // namespace annal::http
