#include "hec_reply.h"

#include <gtest/gtest.h>

#include <string>

namespace sink_splunk_hec {
namespace {

annal::ClientResponse answered(std::uint32_t status, std::string body) {
    annal::ClientResponse answer;
    answer.http_status = status;
    answer.body = std::move(body);
    return answer;
}

annal::Outcome judged(std::uint32_t status, const std::string& body, std::uint32_t events = 5) {
    return judge_reply(answered(status, body), events, 0);
}

std::string coded(int code) {
    return R"({"text":"as it is","code":)" + std::to_string(code) + "}";
}

TEST(HecReply, OnlyACollectorsSuccessIsOne) {
    for (const int code : {0, 24, 25})
        EXPECT_EQ(judged(200, coded(code)).verdict(), ANNAL_DELIVERED) << code;
    for (const char* body :
         {"",
          "OK",
          "<html>welcome</html>",
          "[]",
          "{}",
          R"({"code":"0"})",
          R"({"text":"Success","code":0)",
          R"({"text":"Success","code":0}{})",
          R"({"text":"?","code":99})"}) {
        EXPECT_EQ(judged(200, body).verdict(), ANNAL_RETRY) << body;
    }
    EXPECT_EQ(judged(201, coded(0)).verdict(), ANNAL_RETRY);
    EXPECT_EQ(judged(204, "").verdict(), ANNAL_RETRY);
    // A refusal's code on a 200 is no success either.
    EXPECT_EQ(judged(200, coded(6)).verdict(), ANNAL_RETRY);
    annal::ClientResponse cut = answered(200, coded(0));
    cut.truncated = true;
    EXPECT_EQ(judge_reply(cut, 1, 0).verdict(), ANNAL_RETRY);
}

TEST(HecReply, TheCodeDecides) {
    for (const int code : {1, 2, 3, 4, 7, 10, 11, 14, 16, 21, 22})
        EXPECT_EQ(judged(400, coded(code)).verdict(), ANNAL_PAUSE) << code;
    for (const int code : {5, 6, 12, 13, 15})
        EXPECT_EQ(judged(400, coded(code)).verdict(), ANNAL_REJECT) << code;
    for (const int code : {8, 9, 18, 19, 20, 23, 26, 27})
        EXPECT_EQ(judged(400, coded(code)).verdict(), ANNAL_RETRY) << code;
}

TEST(HecReply, WithoutACodeTheStatusDecides) {
    EXPECT_EQ(judged(413, "").verdict(), ANNAL_REJECT);
    EXPECT_EQ(judged(404, coded(404)).verdict(), ANNAL_PAUSE);
    EXPECT_EQ(judged(502, "<html>").verdict(), ANNAL_RETRY);
    EXPECT_EQ(judged(301, "").verdict(), ANNAL_PAUSE);
    annal::ClientResponse none;
    none.status = {ANNAL_TIMEOUT, "too slow"};
    EXPECT_EQ(judge_reply(none, 1, 0).verdict(), ANNAL_RETRY);
}

TEST(HecReply, OnlyTheNamedEventIsRejected) {
    const auto body = [](const char* number) {
        return std::string(R"({"text":"Event field is required","code":12,"invalid-event-number":)"
               ) +
               number + "}";
    };
    const annal::Outcome outcome = judged(400, body("4"));
    EXPECT_EQ(outcome.verdict(), ANNAL_RETRY);
    ASSERT_EQ(outcome.exceptions().size(), 1U);
    EXPECT_EQ(outcome.exceptions()[0].index, 4U);
    EXPECT_EQ(outcome.exceptions()[0].verdict, ANNAL_REJECT);
    for (const char* number : {"5", "-1", "99999999999", "\"4\"", "null"}) {
        const annal::Outcome whole = judged(400, body(number));
        EXPECT_EQ(whole.verdict(), ANNAL_REJECT) << number;
        EXPECT_TRUE(whole.exceptions().empty()) << number;
    }
}

TEST(HecReply, HandsRetryAfterOn) {
    annal::ClientResponse busy = answered(503, coded(9));
    busy.headers = {{"retry-after", "5"}};
    EXPECT_EQ(judge_reply(busy, 1, 0).reason().retry_after_ms(), 5'000U);
}

TEST(HecReply, ReadsAcknowledgements) {
    const auto read = [](const char* body, std::uint32_t status = 200) {
        return read_ack(answered(status, body), 7);
    };
    EXPECT_EQ(read(R"({"acks":{"7":true}})"), true);
    EXPECT_EQ(read(R"({"acks":{"6":true,"7":false}})"), false);
    for (const char* body :
         {"",
          "{}",
          R"({"acks":[7]})",
          R"({"acks":{"6":true}})",
          R"({"acks":{"7":"true"}})",
          R"({"acks":{"7":1}})",
          R"({"acks":{"7":true})",
          R"({"text":"Success","code":0})"}) {
        EXPECT_EQ(read(body), std::nullopt) << body;
    }
    EXPECT_EQ(read(R"({"acks":{"7":true}})", 400), std::nullopt);
    EXPECT_EQ(read(R"({"acks":{"7":true}})", 503), std::nullopt);
}

}  // namespace
}  // namespace sink_splunk_hec
