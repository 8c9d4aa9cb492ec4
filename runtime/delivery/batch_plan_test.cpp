#include "runtime/delivery/batch_plan.h"

#include <gtest/gtest.h>

#include "runtime/delivery/dead_letter.h"

namespace annal {
namespace {

TEST(BatchPlan, ReadsWhatItWrote) {
    BatchPlan plan;
    plan.first = 0;
    plan.last = 41;
    plan.events = 7;
    plan.encoder = "acme 1.0.0 r3";
    plan.digest = sha256("bytes");
    EXPECT_EQ(BatchPlan::from_text(plan.to_text()), plan);
}

TEST(BatchPlan, IsNothingWhenItIsDamaged) {
    const std::string digest = to_hex(sha256("x"));
    const auto row =
        [&](const std::string& first, const std::string& last, const std::string& events) {
            return R"({"first":)" + first + R"(,"last":)" + last + R"(,"events":)" + events +
                   R"(,"encoder":"a","digest":")" + digest + R"("})";
        };
    EXPECT_TRUE(BatchPlan::from_text(row("1", "2", "2")));
    for (const std::string& text :
         {row("2", "1", "1"),
          row("-1", "1", "1"),
          row("1", "2", "0"),
          row("1", "2", "3"),
          row("1.5", "2", "1"),
          row("\"1\"", "2", "1"),
          std::string("{}"),
          std::string("[]"),
          std::string(""),
          std::string("{\"first\":1,\"last\":1,\"events\":1,\"digest\":\"ab\"}")})
        EXPECT_FALSE(BatchPlan::from_text(text)) << text;
}

TEST(DeadLetter, ReadsWhatItWroteAndSortsBySeq) {
    DeadLetter letter;
    letter.stream = "file/all";
    letter.seq = 99;
    letter.event_id = "evt_1";
    letter.reason = "400 \"odd\"";
    letter.at = 1'000;
    letter.attempts = 3;
    letter.redriving = true;
    const auto again = DeadLetter::from_row({"p", letter.key(), letter.to_text()});
    ASSERT_TRUE(again);
    EXPECT_EQ(again->stream, "file/all");
    EXPECT_EQ(again->seq, 99);
    EXPECT_EQ(again->to_text(), letter.to_text());
    DeadLetter later = letter;
    later.seq = 1'000'000;
    EXPECT_LT(letter.key(), later.key());
    EXPECT_TRUE(letter.key().starts_with(DeadLetter::prefix("file/all")));
    EXPECT_FALSE(DeadLetter::from_row({"p", "no slash", letter.to_text()}));
    EXPECT_FALSE(DeadLetter::from_row({"p", "a/12x", letter.to_text()}));
    EXPECT_FALSE(DeadLetter::from_row({"p", letter.key(), "not JSON"}));
}

}  // namespace
}  // namespace annal
