#include "runtime/event/json_scanner.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/core/json_text.h"

namespace annal {
namespace {

constexpr std::size_t kPointerBytesMax = 512;
/// Up to here each key is compared with those before it; beyond, all are sorted once.
constexpr std::size_t kPairwiseKeysMax = 16;

constexpr std::string_view kHex = "0123456789abcdef";
constexpr std::string_view kEscapeNames = "bfnrt";
constexpr std::string_view kEscapedValues = "\b\f\n\r\t";
constexpr std::uint64_t kOnes = 0x0101010101010101U;
constexpr std::uint64_t kHigh = 0x8080808080808080U;

/// Bytes that a string passes over one by one: printable ASCII but for the quote and the backslash.
constexpr std::array<bool, 256> make_plain() {
    std::array<bool, 256> table{};
    for (std::size_t i = 0x20; i < 0x80; ++i) {
        table[i] = i != '"' && i != '\\';
    }
    return table;
}

constexpr std::array<bool, 256> kPlain = make_plain();

/// Whether one of the 8 bytes is not plain; may report a plain word as not plain, never the
/// reverse.
bool has_special(std::uint64_t word) {
    const auto has_zero = [](std::uint64_t w) { return (w - kOnes) & ~w & kHigh; };
    const std::uint64_t control = (word - kOnes * 0x20) & ~word & kHigh;
    return ((word & kHigh) | control | has_zero(word ^ (kOnes * '"')) |
            has_zero(word ^ (kOnes * '\\'))) != 0;
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

int hex_value(char c) {
    if (is_digit(c)) {
        return c - '0';
    }
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

constexpr bool is_high_surrogate(unsigned unit) {
    return unit >= 0xd800 && unit <= 0xdbff;
}
constexpr bool is_low_surrogate(unsigned unit) {
    return unit >= 0xdc00 && unit <= 0xdfff;
}

char* put_utf8(char* out, unsigned code) {
    if (code < 0x80) {
        *out++ = static_cast<char>(code);
        return out;
    }
    if (code < 0x800) {
        *out++ = static_cast<char>(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *out++ = static_cast<char>(0xe0 | code >> 12);
        } else {
            *out++ = static_cast<char>(0xf0 | code >> 18);
            *out++ = static_cast<char>(0x80 | (code >> 12 & 0x3f));
        }
        *out++ = static_cast<char>(0x80 | (code >> 6 & 0x3f));
    }
    *out++ = static_cast<char>(0x80 | (code & 0x3f));
    return out;
}

std::string describe(char c) {
    if (c > ' ' && c <= '~') {
        return std::string("'") + c + "'";
    }
    const auto byte = static_cast<std::uint8_t>(c);
    return std::string("byte 0x") + kHex[byte >> 4] + kHex[byte & 15];
}

}  // namespace

void JsonScanner::restart(std::string_view document) {
    document_ = document;
    at_ = 0;
    depth_ = 0;
    root_ = 0;
    deep_reported_ = false;
    keys_.clear();
}

JsonScanner::Kind JsonScanner::peek() {
    skip_space();
    switch (current()) {
        case '{':
            return Kind::object;
        case '[':
            return Kind::array;
        case '"':
            return Kind::string;
        case 't':
        case 'f':
            return Kind::boolean;
        case 'n':
            return Kind::null;
        case '-':
            return Kind::number;
        default:
            return is_digit(current()) ? Kind::number : Kind::nothing;
    }
}

void JsonScanner::skip_space() {
    while (at_ < document_.size()) {
        const char c = document_[at_];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
            return;
        }
        ++at_;
    }
}

bool JsonScanner::fail(std::size_t offset, std::string detail) {
    error_offset_ = offset;
    error_detail_ = std::move(detail);
    return false;
}

bool JsonScanner::fail_expected(std::string_view what) {
    const std::string found = at_ >= document_.size() ? "the end" : describe(document_[at_]);
    return fail(at_, "expected " + std::string(what) + ", found " + found);
}

bool JsonScanner::literal(std::string_view word) {
    if (document_.substr(at_, word.size()) != word) {
        return fail_expected("a value");
    }
    at_ += word.size();
    return true;
}

bool JsonScanner::digits() {
    if (!is_digit(current())) {
        return fail_expected("a digit");
    }
    while (is_digit(current())) {
        ++at_;
    }
    return true;
}

bool JsonScanner::number() {
    if (current() == '-') {
        ++at_;
    }
    if (current() == '0') {
        ++at_;
        if (is_digit(current())) {
            return fail(at_, "a number must not begin with 0 and a further digit");
        }
    } else if (!digits()) {
        return false;
    }
    if (current() == '.') {
        ++at_;
        if (!digits()) {
            return false;
        }
    }
    if (current() == 'e' || current() == 'E') {
        ++at_;
        if (current() == '+' || current() == '-') {
            ++at_;
        }
        return digits();
    }
    return true;
}

bool JsonScanner::string(String& out) {
    const std::size_t begin = ++at_;
    bool escaped = false;
    Reported reported;
    const std::size_t size = document_.size();
    const char* const data = document_.data();
    while (true) {
        while (at_ + 8 <= size) {
            std::uint64_t word;
            std::memcpy(&word, data + at_, sizeof word);
            if (has_special(word)) {
                break;
            }
            at_ += 8;
        }
        while (at_ < size && kPlain[static_cast<std::uint8_t>(data[at_])]) {
            ++at_;
        }
        if (at_ >= size) {
            return fail(
                at_,
                "the string that begins at byte " + std::to_string(begin - 1) +
                    " has no closing quote"
            );
        }
        const char c = data[at_];
        if (c == '"') {
            out = {document_.substr(begin, at_ - begin), escaped};
            ++at_;
            return true;
        }
        if (c == '\\') {
            escaped = true;
            if (!escape(reported)) {
                return false;
            }
        } else if (static_cast<std::uint8_t>(c) < 0x20) {
            return fail(
                at_,
                "a string holds the control character " + describe(c) + "; write it as an escape"
            );
        } else if (const std::size_t character = utf8_character_size(document_.substr(at_))) {
            at_ += character;
        } else {
            if (!std::exchange(reported.bad_utf8, true)) {
                problems_.problem("bad_utf8", at_, describe(c) + " is not UTF-8 here");
            }
            ++at_;
        }
    }
}

bool JsonScanner::escape(Reported& reported) {
    const char c = at_ + 1 < document_.size() ? document_[at_ + 1] : '\0';
    if (c == 'u') {
        return unicode_escape(reported);
    }
    if (c == '\0' || std::strchr("\"\\/bfnrt", c) == nullptr) {
        return fail(at_, "a backslash must be followed by one of \" \\ / b f n r t u");
    }
    at_ += 2;
    return true;
}

int JsonScanner::hex4(std::size_t at) const {
    if (at + 4 > document_.size()) {
        return -1;
    }
    int value = 0;
    for (std::size_t i = 0; i < 4; ++i) {
        const int digit = hex_value(document_[at + i]);
        if (digit < 0) {
            return -1;
        }
        value = value * 16 + digit;
    }
    return value;
}

bool JsonScanner::unicode_escape(Reported& reported) {
    const std::size_t begin = at_;
    const int first = hex4(at_ + 2);
    if (first < 0) {
        return fail(begin, "\\u must be followed by four hexadecimal digits");
    }
    at_ += 6;
    const auto unit = static_cast<unsigned>(first);
    if (is_high_surrogate(unit) && document_.substr(at_, 2) == "\\u") {
        const int second = hex4(at_ + 2);
        if (second >= 0 && is_low_surrogate(static_cast<unsigned>(second))) {
            at_ += 6;
            return true;
        }
    }
    if (unit == 0 && !std::exchange(reported.nul, true)) {
        problems_.problem("nul_character", begin, "U+0000 is not allowed in text");
    }
    const bool lone = is_high_surrogate(unit) || is_low_surrogate(unit);
    if (lone && !std::exchange(reported.surrogate, true)) {
        problems_.problem(
            "lone_surrogate",
            begin,
            std::string(document_.substr(begin, 6)) + " is one half of a surrogate pair"
        );
    }
    return true;
}

std::string_view JsonScanner::text(const String& string) {
    if (!string.escaped) {
        return string.raw;
    }
    const std::string_view raw = string.raw;
    auto* const out = static_cast<char*>(arena_.allocate(raw.size(), 1));
    char* p = out;
    const auto unit_at = [&](std::size_t at) {
        unsigned unit = 0;
        for (std::size_t i = 0; i < 4; ++i) {
            unit = unit * 16 + static_cast<unsigned>(hex_value(raw[at + i]));
        }
        return unit;
    };
    for (std::size_t i = 0; i < raw.size();) {
        if (raw[i] != '\\') {
            *p++ = raw[i++];
            continue;
        }
        const char c = raw[i + 1];
        if (c != 'u') {
            const std::size_t named = kEscapeNames.find(c);
            *p++ = named == std::string_view::npos ? c : kEscapedValues[named];
            i += 2;
            continue;
        }
        unsigned code = unit_at(i + 2);
        i += 6;
        if (is_high_surrogate(code) && raw.substr(i, 2) == "\\u" &&
            is_low_surrogate(unit_at(i + 2))) {
            code = 0x10000 + ((code - 0xd800) << 10) + (unit_at(i + 2) - 0xdc00);
            i += 6;
        } else if (is_high_surrogate(code) || is_low_surrogate(code)) {
            code = 0xfffd;  // reported when it was read; the event is refused
        }
        p = put_utf8(p, code);
    }
    return {out, static_cast<std::size_t>(p - out)};
}

bool JsonScanner::enter(Step step) {
    if (depth_ == kNestingMax) {
        return fail(at_, "more than " + std::to_string(kNestingMax) + " levels of nesting");
    }
    path_[depth_++] = step;
    ++at_;
    return true;
}

void JsonScanner::report_duplicate(const Key& key) {
    problems_.problem("duplicate_key", key.offset, "the key appears twice in its object");
}

void JsonScanner::add_key(std::size_t first, std::string_view key, std::size_t offset) {
    const std::size_t count = keys_.size() - first;
    if (count < kPairwiseKeysMax) {
        for (std::size_t i = first; i < keys_.size(); ++i) {
            if (keys_[i].text == key) {
                report_duplicate({key, offset});
                return;  // not kept, so that it is reported once
            }
        }
    }
    keys_.push_back({key, offset});
}

void JsonScanner::close_keys(std::size_t first) {
    const auto begin = keys_.begin() + static_cast<std::ptrdiff_t>(first);
    if (keys_.size() - first > kPairwiseKeysMax) {
        std::sort(begin, keys_.end(), [](const Key& a, const Key& b) {
            return a.text != b.text ? a.text < b.text : a.offset < b.offset;
        });
        for (auto key = begin + 1; key != keys_.end(); ++key) {
            if (key->text == (key - 1)->text) {
                path_[depth_ - 1].key = key->text;
                report_duplicate(*key);
            }
        }
    }
    keys_.erase(begin, keys_.end());
}

void JsonScanner::check_levels(std::size_t levels) {
    if (levels == 0 && !deep_reported_) {
        deep_reported_ = true;
        problems_.problem("too_deep", at_, "nested deeper than allowed; flatten it");
    }
}

bool JsonScanner::skip(std::size_t levels) {
    const std::size_t inner = levels == 0 ? 0 : levels - 1;
    switch (peek()) {
        case Kind::object:
            check_levels(levels);
            return object([&](std::string_view, std::size_t) { return skip(inner); });
        case Kind::array:
            check_levels(levels);
            return array([&](std::uint32_t) { return skip(inner); });
        case Kind::string: {
            String ignored;
            return string(ignored);
        }
        case Kind::number:
            return number();
        case Kind::boolean:
            return literal(current() == 't' ? "true" : "false");
        case Kind::null:
            return literal("null");
        case Kind::nothing:
            break;
    }
    return fail_expected("a value");
}

bool JsonScanner::end() {
    skip_space();
    return at_ >= document_.size() ||
           fail(at_, describe(document_[at_]) + " follows the end of the document");
}

std::string JsonScanner::pointer() const {
    std::string out;
    for (std::size_t i = root_; i < depth_; ++i) {
        if (!path_[i].in_array && path_[i].key.data() == nullptr) {
            continue;
        }
        out += '/';
        if (path_[i].in_array) {
            append_int(out, path_[i].index);
        } else {
            append_pointer_token(out, utf8_prefix(path_[i].key, kPointerBytesMax));
        }
    }
    if (!is_utf8(out)) {
        std::replace_if(
            out.begin(), out.end(), [](char c) { return static_cast<std::uint8_t>(c) >= 0x80; }, '?'
        );
    }
    if (out.size() > kPointerBytesMax) {
        out.resize(utf8_prefix(out, kPointerBytesMax).size());
        out += "…";
    }
    return out;
}

}  // namespace annal
