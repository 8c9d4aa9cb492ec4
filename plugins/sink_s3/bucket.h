#pragma once

#include <string>
#include <string_view>

namespace sink_s3 {

/// Which of the two forms of a bucket's address is used.
enum class Addressing {
    automatic,     ///< `virtual_host`, but `path` at endpoints of one's own and for names with dots
    path,          ///< https://endpoint/bucket/key
    virtual_host,  ///< https://bucket.endpoint/key
};

/// Where a bucket is reached.
struct Bucket {
    std::string origin;     ///< "https://host", or with a port that is not the scheme's own
    std::string host;       ///< what the Host header of a request says
    std::string base_path;  ///< "" or "/bucket"

    [[nodiscard]] std::string path_of(std::string_view key) const;
};

/// The address of `bucket`; `problem` says why there is none.
/// @param endpoint  "" for AWS's own in `region`, else "https://host" or "http://host:port"
[[nodiscard]] Bucket locate(
    std::string_view bucket,
    std::string_view region,
    std::string_view endpoint,
    Addressing addressing,
    std::string& problem
);

/// Why a key can't be used, "" when it can: S3 takes 1024 bytes, and a URL can't carry segments
/// that are empty, "." or "..".
[[nodiscard]] std::string key_problem(std::string_view key);

}  // namespace sink_s3
