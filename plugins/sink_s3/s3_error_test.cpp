#include "s3_error.h"

#include <gtest/gtest.h>

#include <string>

namespace {

using sink_s3::S3Error;

annal::ClientResponse answered(std::uint32_t status, const std::string& body = "") {
    annal::ClientResponse answer;
    answer.http_status = status;
    answer.body = body;
    return answer;
}
annal::ClientResponse failed(std::uint32_t status, const std::string& code) {
    return answered(
        status,
        "<?xml version=\"1.0\"?>\n<Error><Code>" + code +
            "</Code><Message>Why &amp; how &lt;\n"
            "</Message><RequestId>4442587FB7D0A2F9</RequestId></Error>"
    );
}

TEST(S3Error, IsTakenFromTheDocument) {
    const S3Error error = S3Error::of(failed(403, "AccessDenied"));
    EXPECT_EQ(error.code, "AccessDenied");
    EXPECT_EQ(error.message, "Why & how < ");
}

TEST(S3Error, IsBoundedWhateverTheDocumentIs) {
    for (const char* body :
         {"",
          "<Error>",
          "<Error><Code>",
          "<Code>x</Code>",
          "<Error></Error>",
          "&&&<<<",
          "<Error><Code></Code></Error>",
          "<Error><Message>"}) {
        const S3Error error = S3Error::of(answered(500, body));
        EXPECT_EQ(error.code + error.message, "") << body;
    }
    EXPECT_EQ(S3Error::of(answered(500, "<Error><Code>torn")).code, "torn");
    EXPECT_EQ(S3Error::of(failed(400, std::string(100'000, 'c'))).code.size(), 200U);
    EXPECT_EQ(
        S3Error::of(answered(400, std::string(9'000, ' ') + "<Error><Code>x</Code></Error>")).code,
        ""
    );
}

TEST(Explain, NamesTheCodeAndTheRegion) {
    EXPECT_EQ(
        sink_s3::explain(failed(403, "RequestTimeTooSkewed")),
        "S3 answered 403 RequestTimeTooSkewed: Why & how < "
    );
    annal::ClientResponse moved = failed(301, "PermanentRedirect");
    moved.headers = {{"x-amz-bucket-region", "eu-west-1"}};
    EXPECT_EQ(
        sink_s3::explain(moved),
        "S3 answered 301 PermanentRedirect: Why & how <  (the bucket is in the region eu-west-1)"
    );
    EXPECT_EQ(sink_s3::explain(answered(404)), "S3 answered 404");
    EXPECT_EQ(sink_s3::explain(answered(502, "<html>")), "the destination answered 502: <html>");
}

TEST(WholeSize, IsWhatContentRangeSays) {
    annal::ClientResponse answer;
    answer.http_status = 206;
    answer.body = "12345";
    EXPECT_EQ(sink_s3::whole_size(answer), 5U);
    const std::pair<const char*, std::uint64_t> ranges[] = {
        {"bytes 0-4/70000", 70'000}, {"bytes 0-4/*", 0}, {"bytes", 0}, {"", 0}, {"bytes 0-4/", 0}};
    for (const auto& [range, size] : ranges) {
        answer.headers = {{"content-range", range}};
        EXPECT_EQ(sink_s3::whole_size(answer), size) << range;
    }
}

TEST(JudgePut, TellsWhatPassesFromWhatDoesNot) {
    const auto verdict = [](const annal::ClientResponse& answer) {
        return sink_s3::judge_put(answer, 0).verdict();
    };
    EXPECT_EQ(verdict(answered(200)), ANNAL_DELIVERED);
    for (const std::uint32_t status : {408U, 409U, 429U, 500U, 502U, 503U, 504U})
        EXPECT_EQ(verdict(answered(status)), ANNAL_RETRY) << status;
    EXPECT_EQ(verdict(failed(409, "ConditionalRequestConflict")), ANNAL_RETRY);
    for (const char* code : {"RequestTimeout", "SlowDown", "BadDigest"})
        EXPECT_EQ(verdict(failed(400, code)), ANNAL_RETRY) << code;
    for (const std::uint32_t status : {301U, 307U, 400U, 401U, 403U, 404U, 405U, 501U})
        EXPECT_EQ(verdict(answered(status)), ANNAL_PAUSE) << status;
    EXPECT_EQ(verdict(failed(403, "RequestTimeTooSkewed")), ANNAL_PAUSE);
    EXPECT_EQ(verdict(failed(400, "ExpiredToken")), ANNAL_PAUSE);
    EXPECT_EQ(verdict(answered(413)), ANNAL_REJECT);
    annal::ClientResponse none;
    none.status = {ANNAL_UNAVAILABLE, "reset"};
    EXPECT_EQ(verdict(none), ANNAL_RETRY);
    none.status = {ANNAL_DENIED, "not allowed"};
    EXPECT_EQ(verdict(none), ANNAL_PAUSE);
}

TEST(JudgePut, HonoursBothRetryAfters) {
    annal::ClientResponse answer = answered(503);
    answer.headers = {{"x-amz-retry-after", "1500"}};
    EXPECT_EQ(sink_s3::judge_put(answer, 0).reason().retry_after_ms(), 1'500U);
    answer.headers.emplace_back("retry-after", "7");
    EXPECT_EQ(sink_s3::judge_put(answer, 0).reason().retry_after_ms(), 7'000U);
}

}  // namespace
