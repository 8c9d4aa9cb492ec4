#include "request_options.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace ingest {
namespace {

constexpr std::size_t kRequestKeyBytesMax = 256;

std::string_view trim(std::string_view text) {
    const auto first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) {
        return lower(x) == lower(y);
    });
}

std::optional<annal::Problem> read_content_type(
    const annal::Request& request, RequestOptions& options
) {
    const auto header = request.header("content-type");
    const std::string_view type =
        header ? trim(header->substr(0, header->find(';'))) : std::string_view();
    if (type.empty() || equal_ignoring_case(type, "application/json")) {
        return std::nullopt;
    }
    options.ndjson = equal_ignoring_case(type, "application/x-ndjson");
    if (options.ndjson) {
        return std::nullopt;
    }
    return annal::Problem(415, "unsupported_media_type")
        .detail(
            "events are taken as application/json or application/x-ndjson, not as " +
            std::string(type)
        );
}

std::optional<annal::Problem> read_query(const annal::Request& request, RequestOptions& options) {
    bool seen = false;
    for (const annal_pair& pair : request.query()) {
        const std::string name(annal::view(pair.key));
        const std::string_view value = annal::view(pair.value);
        if (name != "partial") {
            return annal::Problem(400, "unknown_parameter")
                .detail("unknown query parameter: " + name);
        }
        if (seen || (value != "true" && value != "false")) {
            return annal::Problem(400, "invalid_parameter")
                .detail("partial must be given once, as true or false");
        }
        seen = true;
        options.partial = value == "true";
    }
    return std::nullopt;
}

std::optional<annal::Problem> read_request_key(
    const annal::Request& request, RequestOptions& options
) {
    const auto key = request.header("idempotency-key");
    if (!key) {
        return std::nullopt;
    }
    const bool printable =
        std::all_of(key->begin(), key->end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
    if (key->empty() || key->size() > kRequestKeyBytesMax || !printable) {
        return annal::Problem(400, "invalid_idempotency_key")
            .detail("Idempotency-Key must be 1 to 256 printable ASCII characters");
    }
    options.request_key = annal::to_str(*key);
    return std::nullopt;
}

/// RFC 7240: `respond-async` anywhere in any Prefer header.
bool prefers_async(const annal::Request& request) {
    for (const annal_pair& header : request.headers()) {
        if (annal::view(header.key) != "prefer") {
            continue;
        }
        std::string_view rest = annal::view(header.value);
        while (!rest.empty()) {
            const auto comma = rest.find(',');
            const std::string_view one = rest.substr(0, comma);
            if (equal_ignoring_case(trim(one.substr(0, one.find(';'))), "respond-async")) {
                return true;
            }
            rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
        }
    }
    return false;
}

}  // namespace

std::optional<annal::Problem> read_options(const annal::Request& request, RequestOptions& options) {
    auto problem = read_query(request, options);
    if (!problem) {
        problem = read_content_type(request, options);
    }
    if (!problem) {
        problem = read_request_key(request, options);
    }
    options.respond_async = prefers_async(request);
    return problem;
}

}  // namespace ingest
