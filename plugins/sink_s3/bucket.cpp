#include "bucket.h"

#include <algorithm>
#include <cctype>

#include "sigv4.h"

namespace sink_s3 {
namespace {

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
        return static_cast<char>(std::tolower(c));
    });
    return out;
}

bool is_bucket_name(std::string_view name) {
    return name.size() >= 3 && name.size() <= 63 &&
           std::all_of(name.begin(), name.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
           });
}

/// Scheme and authority of `endpoint`, without the scheme's own port; false when it is none.
bool split(std::string_view endpoint, std::string& scheme, std::string& authority) {
    while (endpoint.ends_with('/')) {
        endpoint.remove_suffix(1);
    }
    const std::size_t at = endpoint.find("://");
    if (at == std::string_view::npos) {
        return false;
    }
    scheme = lower(endpoint.substr(0, at));
    authority = lower(endpoint.substr(at + 3));
    const std::string own_port = scheme == "https" ? ":443" : ":80";
    if (authority.ends_with(own_port)) {
        authority.resize(authority.size() - own_port.size());
    }
    return (scheme == "http" || scheme == "https") && !authority.empty() &&
           authority.find_first_of("/?#@ ") == std::string::npos;
}

std::string aws_endpoint(std::string_view region) {
    std::string out = "https://s3.";
    return out.append(region).append(
        region.starts_with("cn-") ? ".amazonaws.com.cn" : ".amazonaws.com"
    );
}

}  // namespace

std::string Bucket::path_of(std::string_view key) const {
    return base_path + "/" + uri_encode(key, true);
}

Bucket locate(
    std::string_view bucket,
    std::string_view region,
    std::string_view endpoint,
    Addressing addressing,
    std::string& problem
) {
    if (!is_bucket_name(bucket)) {
        problem = "/bucket: 3 to 63 of a-z, 0-9, '-' and '.'";
        return {};
    }
    std::string scheme;
    std::string authority;
    if (!split(endpoint.empty() ? aws_endpoint(region) : endpoint, scheme, authority)) {
        problem = "/endpoint: must be https://host or http://host, with a port if need be, no path";
        return {};
    }
    const bool dotted = bucket.find('.') != std::string_view::npos;
    if (addressing == Addressing::automatic) {
        // The certificate of *.s3… does not hold for one label more.
        addressing = !endpoint.empty() || dotted ? Addressing::path : Addressing::virtual_host;
    }
    Bucket out;
    out.host = authority;
    if (addressing == Addressing::virtual_host) {
        out.host = std::string(bucket) + "." + authority;
    } else {
        out.base_path = "/" + std::string(bucket);
    }
    out.origin = scheme + "://" + out.host;
    return out;
}

std::string key_problem(std::string_view key) {
    constexpr std::size_t kKeyBytesMax = 1024;
    if (key.size() > kKeyBytesMax) {
        return "longer than 1024 bytes";
    }
    for (std::size_t from = 0; from <= key.size();) {
        const std::size_t to = std::min(key.find('/', from), key.size());
        const std::string_view segment = key.substr(from, to - from);
        if (segment.empty() || segment == "." || segment == "..") {
            return "a segment is empty, \".\" or \"..\"";
        }
        from = to + 1;
    }
    return {};
}

}  // namespace sink_s3
