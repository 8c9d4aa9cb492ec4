#include "runtime/http/query.h"

#include "runtime/core/json_text.h"

namespace annal::http {
namespace {

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::optional<std::string> decode(std::string_view text, bool plus_is_space) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '%') {
            if (text.size() - i < 3) return std::nullopt;
            const int high = hex_digit(text[i + 1]);
            const int low = hex_digit(text[i + 2]);
            if (high < 0 || low < 0) return std::nullopt;
            c = static_cast<char>(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0') return std::nullopt;
        out += c;
    }
    if (!is_utf8(out)) return std::nullopt;
    return out;
}

Error broken(std::size_t number) {
    return {
        Errc::invalid,
        "query parameter " + std::to_string(number) +
            " has a broken %XX escape, U+0000 or bytes that are not UTF-8: percent-encode it as "
            "UTF-8"};
}

}  // namespace

std::optional<std::string> percent_decode(std::string_view text) {
    return decode(text, false);
}

Result<Pairs> parse_query(std::string_view query) {
    Pairs pairs;
    std::size_t number = 0;
    while (!query.empty()) {
        const std::size_t end = query.find('&');
        const std::string_view piece = query.substr(0, end);
        query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
        if (piece.empty()) continue;
        ++number;
        const std::size_t equals = piece.find('=');
        auto name = decode(piece.substr(0, equals), true);
        auto value = decode(
            equals == std::string_view::npos ? std::string_view() : piece.substr(equals + 1), true
        );
        if (!name || !value) return broken(number);
        pairs.emplace_back(std::move(*name), std::move(*value));
    }
    return pairs;
}

}  // namespace annal::http
