// Takes query strings apart. What is accepted comes back from its own percent-encoding, is text
// without U+0000, and every pair is accounted for; what is refused names a parameter by its number.

#include <algorithm>
#include <string>
#include <string_view>

#include "runtime/core/json_text.h"
#include "runtime/http/query.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::fuzz::require;

std::string encoded(std::string_view text) {
    constexpr std::string_view kHex = "0123456789abcdef";
    std::string out;
    for (const char c : text) {
        const auto u = static_cast<unsigned char>(c);
        out += '%';
        out += kHex[u >> 4U];
        out += kHex[u & 15U];
    }
    return out;
}

bool is_plain_text(std::string_view text) {
    return annal::is_utf8(text) && text.find('\0') == std::string_view::npos;
}

std::size_t filled_pieces(std::string_view query) {
    std::size_t filled = 0;
    for (std::size_t begin = 0; begin <= query.size();) {
        const std::size_t end = std::min(query.find('&', begin), query.size());
        filled += end > begin ? 1 : 0;
        begin = end + 1;
    }
    return filled;
}

void check_pairs(const annal::http::Pairs& pairs, std::string_view query) {
    require(pairs.size() == filled_pieces(query));
    std::string again;
    for (const auto& [name, value] : pairs) {
        require(is_plain_text(name) && is_plain_text(value));
        again += (again.empty() ? "" : "&") + encoded(name) + "=" + encoded(value);
    }
    const auto parsed = annal::http::parse_query(again);
    require(parsed.has_value() && parsed.value() == pairs);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto pairs = annal::http::parse_query(text);
    if (pairs.has_value()) {
        check_pairs(pairs.value(), text);
    } else {
        require(pairs.error().code == annal::Errc::invalid);
        require(pairs.error().detail.starts_with("query parameter "));
    }
    const auto decoded = annal::http::percent_decode(text);
    require(!decoded || is_plain_text(*decoded));
    require(annal::http::percent_decode(encoded(text)).has_value() == is_plain_text(text));
    return 0;
}
