#include "sigv4.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <annal/sdk/digest.hpp>

#include "bucket.h"

namespace {

using sink_s3::Addressing;
using sink_s3::Bucket;
using sink_s3::Credentials;
using sink_s3::SignedParts;
using testing::HasSubstr;
using testing::IsEmpty;

const Credentials kExample{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
constexpr auto kEmpty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The examples of "Signature Calculations for the Authorization Header: Transferring Payload in a
/// Single Chunk".
SignedParts example(const std::string& method, const std::string& path) {
    SignedParts out{method, path, {}, {}};
    out.headers["host"] = "examplebucket.s3.amazonaws.com";
    out.headers["x-amz-date"] = "20130524T000000Z";
    out.headers["x-amz-content-sha256"] = kEmpty;
    return out;
}
std::string authorization(const SignedParts& parts) {
    return sink_s3::authorize(parts, kExample, "us-east-1");
}

TEST(SigV4, SignsGetObjectAsDocumented) {
    SignedParts parts = example("GET", "/test.txt");
    parts.headers["range"] = "bytes=0-9";
    EXPECT_EQ(
        authorization(parts),
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
}

TEST(SigV4, SignsPutObjectAsDocumented) {
    SignedParts parts = example("PUT", "/" + sink_s3::uri_encode("test$file.text", true));
    parts.headers["date"] = "Fri, 24 May 2013 00:00:00 GMT";
    parts.headers["x-amz-storage-class"] = "REDUCED_REDUNDANCY";
    parts.headers["x-amz-content-sha256"] =
        annal::to_hex(annal::view(annal::sha256("Welcome to Amazon S3.")));
    EXPECT_THAT(
        authorization(parts),
        HasSubstr("Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
    );
}

TEST(SigV4, SignsQueriesAsDocumented) {
    SignedParts lifecycle = example("GET", "/");
    lifecycle.query = {{"lifecycle", ""}};
    EXPECT_THAT(
        authorization(lifecycle),
        HasSubstr("Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")
    );
    SignedParts list = example("GET", "/");
    list.query = {{"prefix", "J"}, {"max-keys", "2"}};
    EXPECT_THAT(
        authorization(list),
        HasSubstr("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")
    );
}

TEST(SigV4, WritesTimes) {
    constexpr std::int64_t k2013 = 1'369'353'600LL * 1'000'000;
    EXPECT_EQ(sink_s3::amz_date(k2013), "20130524T000000Z");
    EXPECT_EQ(sink_s3::day_of(k2013), "2013-05-24");
    EXPECT_EQ(sink_s3::day_of(k2013 - 1), "2013-05-23");
}

TEST(SigV4, EncodesOnce) {
    EXPECT_EQ(sink_s3::uri_encode("a b/c+d=%41~_-.", true), "a%20b/c%2Bd%3D%2541~_-.");
    EXPECT_EQ(sink_s3::uri_encode("/", false), "%2F");
    EXPECT_EQ(sink_s3::uri_encode("\xc3\xbc", true), "%C3%BC");
}

Bucket located(
    std::string_view bucket,
    std::string_view endpoint,
    Addressing addressing = Addressing::automatic,
    std::string_view region = "eu-central-1"
) {
    std::string problem;
    const Bucket out = sink_s3::locate(bucket, region, endpoint, addressing, problem);
    EXPECT_THAT(problem, IsEmpty());
    return out;
}

TEST(Locate, ChoosesTheFormOfTheAddress) {
    const Bucket aws = located("acme", "");
    EXPECT_EQ(aws.origin, "https://acme.s3.eu-central-1.amazonaws.com");
    EXPECT_EQ(aws.host, "acme.s3.eu-central-1.amazonaws.com");
    EXPECT_EQ(aws.path_of("a b/c"), "/a%20b/c");
    const Bucket dotted = located("acme.audit", "");
    EXPECT_EQ(dotted.origin, "https://s3.eu-central-1.amazonaws.com");
    EXPECT_EQ(dotted.path_of("k"), "/acme.audit/k");
    const Bucket own = located("acme", "HTTP://Minio.Example:9000/");
    EXPECT_EQ(own.origin, "http://minio.example:9000");
    EXPECT_EQ(own.host, "minio.example:9000");
    EXPECT_EQ(own.path_of("k"), "/acme/k");
    EXPECT_EQ(located("acme", "https://h:443").host, "h");
    EXPECT_EQ(located("acme", "http://h:80").host, "h");
    EXPECT_EQ(located("acme", "https://h:80").host, "h:80");
    EXPECT_EQ(located("acme", "https://h", Addressing::virtual_host).host, "acme.h");
    EXPECT_EQ(located("acme", "", Addressing::path).base_path, "/acme");
    EXPECT_EQ(
        located("acme", "", Addressing::automatic, "cn-north-1").host,
        "acme.s3.cn-north-1.amazonaws.com.cn"
    );
}

TEST(Locate, RefusesWhatIsNone) {
    for (const char* endpoint : {"minio", "ftp://h", "https://", "https://h/path", "https://u@h"}) {
        std::string problem;
        (void)sink_s3::locate("acme", "r", endpoint, Addressing::automatic, problem);
        EXPECT_THAT(problem, HasSubstr("/endpoint")) << endpoint;
    }
    for (const char* bucket : {"", "ab", "Acme", "a/b", "a b c"}) {
        std::string problem;
        (void)sink_s3::locate(bucket, "r", "", Addressing::automatic, problem);
        EXPECT_THAT(problem, HasSubstr("/bucket")) << bucket;
    }
}

TEST(KeyProblem, IsWhatAUrlCannotCarry) {
    EXPECT_THAT(sink_s3::key_problem("a/b.c/..d"), IsEmpty());
    EXPECT_THAT(sink_s3::key_problem(std::string(1024, 'x')), IsEmpty());
    for (const std::string& key :
         {std::string(),
          std::string(1025, 'x'),
          std::string("a//b"),
          std::string("/a"),
          std::string("a/"),
          std::string("a/../b"),
          std::string("./a"),
          std::string("a/.")})
        EXPECT_NE(sink_s3::key_problem(key), "") << key;
}

}  // namespace
