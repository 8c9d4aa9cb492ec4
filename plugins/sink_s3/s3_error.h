#pragma once

#include <annal/sdk/http_answer.hpp>

#include <cstdint>
#include <string>

namespace sink_s3 {

/// S3's own words for a failure. Empty where the answer holds none, as every answer to HEAD.
struct S3Error {
    std::string code, message;

    /// From the document <Error><Code>…</Code><Message>…</Message>…</Error>; whatever the answer
    /// holds, no more than its first 8 KiB are looked at, and 200 bytes of each are kept.
    [[nodiscard]] static S3Error of(const annal::ClientResponse& answer);
};

/// "S3 answered 403 AccessDenied: Access Denied", with the bucket's own region where S3 tells it.
[[nodiscard]] std::string explain(const annal::ClientResponse& answer);

/// How many bytes the object has that a piece of was asked for: by Content-Range, else what the
/// body has; 0 where that can't be told.
[[nodiscard]] std::uint64_t whole_size(const annal::ClientResponse& answer);

/// What an answer to a PUT means, but for 412 and a 501 that a request without condition may mend.
///
/// S3 does not look into objects, so nothing that it says is the fault of an event: what does not
/// pass by itself pauses the stream. 413 is a proxy's, and a smaller batch may get through.
/// @param now_us  wall clock
[[nodiscard]] annal::Outcome judge_put(const annal::ClientResponse& answer, std::int64_t now_us);

}  // namespace sink_s3
