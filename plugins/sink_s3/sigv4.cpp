#include "sigv4.h"

#include <annal/sdk/digest.hpp>

#include <algorithm>
#include <array>
#include <ctime>

namespace sink_s3 {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";
constexpr std::string_view kService = "s3";

bool is_unreserved(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/// Without spaces at the ends, and one in place of several.
std::string trimmed(std::string_view value) {
    std::string out;
    for (const char c : value) {
        const bool space = c == ' ' || c == '\t';
        if (!space) {
            out += c;
        } else if (!out.empty() && out.back() != ' ') {
            out += ' ';
        }
    }
    if (!out.empty() && out.back() == ' ') {
        out.pop_back();
    }
    return out;
}

std::string canonical_query(const SignedParts& request) {
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const auto& [name, value] : request.query) {
        pairs.emplace_back(uri_encode(name, false), uri_encode(value, false));
    }
    std::sort(pairs.begin(), pairs.end());
    std::string out;
    for (const auto& [name, value] : pairs) {
        out += (out.empty() ? "" : "&") + name + "=" + value;
    }
    return out;
}

std::string signed_names(const SignedParts& request) {
    std::string out;
    for (const auto& [name, value] : request.headers) {
        out += (out.empty() ? "" : ";") + name;
    }
    return out;
}

std::string canonical_request(const SignedParts& request) {
    std::string out = request.method + "\n" + request.path + "\n" + canonical_query(request) + "\n";
    for (const auto& [name, value] : request.headers) {
        out += name + ":" + trimmed(value) + "\n";
    }
    return out + "\n" + signed_names(request) + "\n" + request.headers.at("x-amz-content-sha256");
}

std::string text_of(std::int64_t time_us, const char* form) {
    const auto seconds = static_cast<std::time_t>(time_us / 1'000'000);
    std::tm at{};
    ::gmtime_r(&seconds, &at);
    std::array<char, 32> text{};
    return {text.data(), std::strftime(text.data(), text.size(), form, &at)};
}

}  // namespace

std::string authorize(
    const SignedParts& request, const Credentials& credentials, std::string_view region
) {
    const std::string& when = request.headers.at("x-amz-date");
    const std::string day = when.substr(0, 8);
    std::string scope = day + "/";
    scope.append(region).append("/").append(kService).append("/aws4_request");
    std::string text(kAlgorithm);
    text += "\n" + when + "\n" + scope + "\n";
    text += annal::to_hex(annal::view(annal::sha256(canonical_request(request))));

    annal::Sha256 key = annal::hmac_sha256("AWS4" + credentials.secret_access_key, day);
    for (const std::string_view step : {region, kService, std::string_view("aws4_request")}) {
        key = annal::hmac_sha256(annal::view(key), step);
    }
    const annal::Sha256 signature = annal::hmac_sha256(annal::view(key), text);
    return std::string(kAlgorithm) + " Credential=" + credentials.access_key_id + "/" + scope +
           ", SignedHeaders=" + signed_names(request) +
           ", Signature=" + annal::to_hex(annal::view(signature));
}

std::string amz_date(std::int64_t time_us) {
    return text_of(time_us, "%Y%m%dT%H%M%SZ");
}

std::string day_of(std::int64_t time_us) {
    return text_of(time_us, "%Y-%m-%d");
}

std::string uri_encode(std::string_view text, bool keep_slash) {
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    std::string out;
    for (const char c : text) {
        if (is_unreserved(c) || (keep_slash && c == '/')) {
            out += c;
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        out += {'%', kDigits[byte >> 4U], kDigits[byte & 15U]};
    }
    return out;
}

}  // namespace sink_s3
