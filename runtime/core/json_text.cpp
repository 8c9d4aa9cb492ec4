#include "runtime/core/json_text.h"

#include <array>
#include <charconv>
#include <cstring>

namespace annal {
namespace {

constexpr std::string_view kHex = "0123456789abcdef";
constexpr std::size_t kShownMax = 64;

constexpr std::array<bool, 256> make_must_escape() {
    std::array<bool, 256> table{};
    for (std::size_t i = 0; i < 0x20; ++i) {
        table[i] = true;
    }
    table['"'] = true;
    table['\\'] = true;
    return table;
}

constexpr std::array<bool, 256> kMustEscape = make_must_escape();

void append_escape(std::string& out, char c) {
    switch (c) {
        case '"':
            out += "\\\"";
            return;
        case '\\':
            out += "\\\\";
            return;
        case '\b':
            out += "\\b";
            return;
        case '\f':
            out += "\\f";
            return;
        case '\n':
            out += "\\n";
            return;
        case '\r':
            out += "\\r";
            return;
        case '\t':
            out += "\\t";
            return;
        default:
            break;
    }
    out += "\\u00";
    out += kHex[static_cast<std::uint8_t>(c) >> 4];
    out += kHex[static_cast<std::uint8_t>(c) & 15];
}

/// Length of the character at `p`, 0 when it is not well-formed (Unicode 15, table 3-7).
std::size_t character_size(const unsigned char* p, std::size_t left) {
    if (p[0] < 0x80) {
        return 1;
    }
    const auto tail = [&](std::size_t i) { return (p[i] & 0xc0) == 0x80; };
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        return left >= 2 && tail(1) ? 2 : 0;
    }
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        if (left < 3 || !tail(1) || !tail(2)) {
            return 0;
        }
        const bool overlong = p[0] == 0xe0 && p[1] < 0xa0;
        const bool surrogate = p[0] == 0xed && p[1] > 0x9f;
        return overlong || surrogate ? 0 : 3;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        if (left < 4 || !tail(1) || !tail(2) || !tail(3)) {
            return 0;
        }
        const bool overlong = p[0] == 0xf0 && p[1] < 0x90;
        const bool beyond = p[0] == 0xf4 && p[1] > 0x8f;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
    out += '"';
    std::size_t begin = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (kMustEscape[static_cast<std::uint8_t>(text[i])]) {
            out.append(text, begin, i - begin);
            append_escape(out, text[i]);
            begin = i + 1;
        }
    }
    out.append(text, begin);
    out += '"';
}

void append_int(std::string& out, std::int64_t value) {
    std::array<char, 20> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    out.append(digits.data(), end);
}

bool is_utf8(std::string_view text) {
    const auto* p = reinterpret_cast<const unsigned char*>(text.data());
    std::size_t left = text.size();
    while (left > 0) {
        if (left >= 8) {
            std::uint64_t word;
            std::memcpy(&word, p, sizeof word);
            if ((word & 0x8080808080808080U) == 0) {
                p += 8, left -= 8;
                continue;
            }
        }
        const std::size_t size = character_size(p, left);
        if (size == 0) {
            return false;
        }
        p += size, left -= size;
    }
    return true;
}

std::size_t utf8_character_size(std::string_view text) {
    return text.empty()
               ? 0
               : character_size(reinterpret_cast<const unsigned char*>(text.data()), text.size());
}

std::string_view utf8_prefix(std::string_view text, std::size_t size_max) {
    if (text.size() <= size_max) {
        return text;
    }
    while (size_max > 0 && (static_cast<std::uint8_t>(text[size_max]) & 0xc0) == 0x80) {
        --size_max;
    }
    return text.substr(0, size_max);
}

std::string quote_bounded(std::string_view text) {
    std::string out = "\"";
    for (const char c : text.substr(0, kShownMax)) {
        out += c >= ' ' && c <= '~' ? c : '?';
    }
    return out + (text.size() > kShownMax ? "…\"" : "\"");
}

void append_pointer_token(std::string& out, std::string_view key) {
    for (const char c : key) {
        if (c == '~') {
            out += "~0";
        } else if (c == '/') {
            out += "~1";
        } else {
            out += c;
        }
    }
}

}  // namespace annal
