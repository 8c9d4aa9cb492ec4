#include "runtime/store/idempotency_key.h"

#include <gtest/gtest.h>

#include "runtime/core/limits.h"

namespace annal {
namespace {

TEST(IdempotencyKeyTest, NamesDoNotRunTogether) {
    EXPECT_NE(key_name(KeyKind::event, "ab", "c"), key_name(KeyKind::event, "a", "bc"));
    EXPECT_NE(key_name(KeyKind::event, "a", "b"), key_name(KeyKind::request, "a", "b"));
}

// Stored bytes: what is expected here can never change.
TEST(IdempotencyKeyTest, NamesStayWhatTheyAre) {
    EXPECT_EQ(
        to_hex(key_name(KeyKind::event, "proj_a", "key")), "11204eaafd09b9481caf846c9cdf6c12"
    );
    EXPECT_EQ(
        to_hex(key_name(KeyKind::request, "proj_a", "key")), "d3dee18704242dea083bdb363145dced"
    );
}

TEST(IdempotencyKeyTest, ReceiptsStayWhatTheyAre) {
    constexpr std::uint64_t kMost = (std::uint64_t{1} << 62) - 1;
    const std::vector<Receipt> receipts = {
        {EventId::make(1'000'000, 77), 5, 1'000'000, true},
        {EventId::make(1'700'000'000'123'456, kMost), kSeqMax, 1'700'000'000'123'456, false}};
    const std::string bytes = encode_receipts(receipts);
    EXPECT_EQ(
        to_hex(std::span(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size())),
        "0500000000000000"
        "40420f0000000000"
        "4d00000000000000"
        "ffffffffff000000"
        "40222018240a0600"
        "ffffffffffffff3f"
    );
    const auto decoded = decode_receipts(bytes);
    ASSERT_EQ(decoded.size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(decoded[i].id, receipts[i].id);
        EXPECT_EQ(decoded[i].seq, receipts[i].seq);
        EXPECT_EQ(decoded[i].created_at, receipts[i].created_at);
        EXPECT_FALSE(decoded[i].replayed);
    }
}

TEST(IdempotencyKeyTest, NoReceiptsAreNoBytes) {
    EXPECT_EQ(encode_receipts({}), "");
    EXPECT_TRUE(decode_receipts("").empty());
}

}  // namespace
}  // namespace annal
