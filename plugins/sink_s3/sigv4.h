#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sink_s3 {

struct Credentials {
    std::string access_key_id, secret_access_key;
    std::string session_token;  ///< empty: long-lived keys
};

/// What is signed of one request.
struct SignedParts {
    std::string method;
    std::string path;                                        ///< encoded, as it is sent
    std::vector<std::pair<std::string, std::string>> query;  ///< not encoded, in any order
    /// Every header that is signed, `host`, `x-amz-date` and `x-amz-content-sha256` among them;
    /// names in lower case.
    std::map<std::string, std::string> headers;
};

/// The value of `Authorization` for a request to S3, Signature Version 4 in a single chunk.
///
/// S3 signs the path as it is sent: encoded once, no segment taken out of it.
/// Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
[[nodiscard]] std::string authorize(
    const SignedParts& request, const Credentials& credentials, std::string_view region
);

/// "20130524T000000Z"
[[nodiscard]] std::string amz_date(std::int64_t time_us);
/// "2013-05-24", in UTC.
[[nodiscard]] std::string day_of(std::int64_t time_us);

/// Percent-encodes all but A-Z a-z 0-9 - . _ ~ and, with `keep_slash`, the slash.
[[nodiscard]] std::string uri_encode(std::string_view text, bool keep_slash);

}  // namespace sink_s3
