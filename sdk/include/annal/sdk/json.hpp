#pragma once

#include <annal/sdk/text.hpp>

#include <array>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal::inline sdk_v1 {

namespace detail {

/// Bytes of the well-formed UTF-8 character at the front of `text`, 0 when there is none.
[[nodiscard]] inline std::size_t utf8_length(std::string_view text) noexcept {
    const auto at = [&](std::size_t i) {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U;
    };
    const auto tail = [&](std::size_t i) { return (at(i) & 0xC0U) == 0x80U; };
    const unsigned first = at(0);
    if (first < 0x80) {
        return text.empty() ? 0 : 1;
    }
    if (first >= 0xC2 && first <= 0xDF) {
        return tail(1) ? 2 : 0;
    }
    if (first >= 0xE0 && first <= 0xEF) {
        const bool overlong = first == 0xE0 && at(1) < 0xA0;
        const bool surrogate = first == 0xED && at(1) > 0x9F;
        return !overlong && !surrogate && tail(1) && tail(2) ? 3 : 0;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        const bool overlong = first == 0xF0 && at(1) < 0x90;
        const bool beyond = first == 0xF4 && at(1) > 0x8F;
        return !overlong && !beyond && tail(1) && tail(2) && tail(3) ? 4 : 0;
    }
    return 0;
}

[[nodiscard]] inline bool needs_no_escape(char c) noexcept {
    const auto u = static_cast<unsigned char>(c);
    return u >= 0x20 && u < 0x80 && c != '"' && c != '\\';
}

}  // namespace detail

/// Appends `text` as a JSON string with quotes to anything that has append() and push(). Escapes
/// what JSON demands; bytes that are not UTF-8 become U+FFFD, so that the document always is.
template <class Out>
void append_json_string(Out& out, std::string_view text) {
    out.push('"');
    std::size_t done = 0;
    std::size_t i = 0;
    const auto take_plain = [&] { out.append(text.substr(done, i - done)); };
    while (i < text.size()) {
        if (detail::needs_no_escape(text[i])) {
            ++i;
            continue;
        }
        const auto c = static_cast<unsigned char>(text[i]);
        if (c >= 0x80) {
            if (const std::size_t n = detail::utf8_length(text.substr(i)); n != 0) {
                i += n;
                continue;
            }
        }
        take_plain();
        switch (c) {
            case '"':
                out.append("\\\"");
                break;
            case '\\':
                out.append("\\\\");
                break;
            case '\b':
                out.append("\\b");
                break;
            case '\f':
                out.append("\\f");
                break;
            case '\n':
                out.append("\\n");
                break;
            case '\r':
                out.append("\\r");
                break;
            case '\t':
                out.append("\\t");
                break;
            default:
                if (c >= 0x80) {
                    out.append("\xEF\xBF\xBD");
                } else {
                    constexpr std::string_view kHex = "0123456789abcdef";
                    const std::array<char, 6> escape{
                        '\\', 'u', '0', '0', kHex[c >> 4U], kHex[c & 15U]};
                    out.append({escape.data(), escape.size()});
                }
        }
        done = ++i;
    }
    take_plain();
    out.push('"');
}

template <class Out>
void append_int(Out& out, std::int64_t value) {
    std::array<char, 20> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
    out.append({digits.data(), static_cast<std::size_t>(end - digits.data())});
}

/// Writes JSON with its commas. Nesting is the author's business.
///
///     JsonWriter json(buffer);
///     json.begin_object().member("id",
///     id).key("tags").begin_array().value("a").end_array().end_object();
template <class Out>
class JsonWriter {
public:
    explicit JsonWriter(Out& out) : out_(out) {}

    JsonWriter& begin_object() { return open('{'); }
    JsonWriter& end_object() { return close('}'); }
    JsonWriter& begin_array() { return open('['); }
    JsonWriter& end_array() { return close(']'); }
    JsonWriter& key(std::string_view name) {
        separate();
        append_json_string(out_, name);
        out_.push(':');
        comma_ = false;
        return *this;
    }
    JsonWriter& value(std::string_view text) {
        separate();
        append_json_string(out_, text);
        return *this;
    }
    JsonWriter& value(const char* text) { return value(std::string_view(text)); }
    JsonWriter& value(annal_str text) { return is_null(text) ? value(nullptr) : value(view(text)); }
    JsonWriter& value(std::nullptr_t) { return raw("null"); }
    JsonWriter& value(std::same_as<bool> auto flag) { return raw(flag ? "true" : "false"); }
    template <std::integral I>
    requires(!std::same_as<I, bool> && !std::same_as<I, char>) JsonWriter& value(I number) {
        separate();
        append_int(out_, static_cast<std::int64_t>(number));
        return *this;
    }
    JsonWriter& value(double number) {
        if (!std::isfinite(number)) {
            return value(nullptr);
        }
        std::array<char, 32> text{};
        const auto end = std::to_chars(text.data(), text.data() + text.size(), number).ptr;
        return raw({text.data(), static_cast<std::size_t>(end - text.data())});
    }
    template <class V>
    JsonWriter& member(std::string_view name, const V& v) {
        key(name);
        return value(v);
    }
    /// A value that is JSON already.
    JsonWriter& raw(std::string_view json) {
        separate();
        out_.append(json);
        return *this;
    }
    /// Called before a value is written to the underlying output directly.
    JsonWriter& separate() {
        if (comma_) {
            out_.push(',');
        }
        comma_ = true;
        return *this;
    }

private:
    JsonWriter& open(char bracket) {
        separate();
        out_.push(bracket);
        comma_ = false;
        return *this;
    }
    JsonWriter& close(char bracket) {
        out_.push(bracket);
        comma_ = true;
        return *this;
    }

    Out& out_;
    bool comma_ = false;
};

/// std::string behind the append()/push() that the functions above want.
class StringOut {
public:
    explicit StringOut(std::string& text) : text_(text) {}
    void append(std::string_view more) { text_.append(more); }
    void push(char c) { text_.push_back(c); }

private:
    std::string& text_;
};

/// One JSON value, read strictly: RFC 8259, well-formed UTF-8, no duplicate keys, nothing after it.
/// Meant for small documents such as a configuration, not for bulk data.
class Json {
public:
    enum class Kind : std::uint8_t { null, boolean, integer, number, string, array, object };
    using Member = std::pair<std::string, Json>;

    /// What is wrong, and the byte where; `at` is meaningful only when `what` is set.
    struct Failure {
        const char* what = nullptr;
        std::size_t at = 0;
        [[nodiscard]] std::string text() const {
            return std::string(what) + " at byte " + std::to_string(at);
        }
    };
    static constexpr int kDepthMax = 64;

    /// True when `text` is one JSON document of at most `depth_max` levels; else `failure` says why
    /// not.
    [[nodiscard]] static bool parse(
        std::string_view text, Json& out, Failure& failure, int depth_max = kDepthMax
    ) {
        Reader reader(text, failure);
        if (!reader.read_value(out, depth_max)) {
            return false;
        }
        reader.skip_space();
        return reader.at_end() || reader.fail("more text after the document");
    }

    [[nodiscard]] Kind kind() const { return kind_; }
    [[nodiscard]] bool is(Kind kind) const { return kind_ == kind; }
    [[nodiscard]] bool boolean() const { return integer_ != 0; }
    [[nodiscard]] std::int64_t integer() const { return integer_; }
    /// Of a number or an integer.
    [[nodiscard]] double number() const {
        return kind_ == Kind::integer ? static_cast<double>(integer_) : number_;
    }
    [[nodiscard]] const std::string& string() const { return string_; }
    [[nodiscard]] const std::vector<Json>& items() const { return items_; }
    [[nodiscard]] const std::vector<Member>& members() const { return members_; }
    /// The member `name`, or nullptr.
    [[nodiscard]] const Json* find(std::string_view name) const {
        for (const auto& [key, value] : members_) {
            if (key == name) {
                return &value;
            }
        }
        return nullptr;
    }

private:
    class Reader {
    public:
        Reader(std::string_view text, Failure& failure) : text_(text), failure_(failure) {}

        bool fail(const char* what) {
            failure_.what = what;
            failure_.at = at_;
            return false;
        }
        [[nodiscard]] bool at_end() const { return at_ == text_.size(); }
        void skip_space() {
            while (!at_end() &&
                   std::string_view(" \t\r\n").find(text_[at_]) != std::string_view::npos) {
                ++at_;
            }
        }
        bool read_value(Json& out, int depth_left) {
            skip_space();
            if (at_end()) {
                return fail("the text ends where a value is expected");
            }
            if (depth_left <= 0) {
                return fail("nested too deeply");
            }
            switch (text_[at_]) {
                case '{':
                    return read_object(out, depth_left);
                case '[':
                    return read_array(out, depth_left);
                case '"':
                    out.kind_ = Kind::string;
                    return read_string(out.string_);
                case 't':
                    out.kind_ = Kind::boolean;
                    out.integer_ = 1;
                    return read_word("true");
                case 'f':
                    out.kind_ = Kind::boolean;
                    out.integer_ = 0;
                    return read_word("false");
                case 'n':
                    out.kind_ = Kind::null;
                    return read_word("null");
                default:
                    return read_number(out);
            }
        }

    private:
        [[nodiscard]] char peek() const { return at_end() ? '\0' : text_[at_]; }
        bool accept(char c) {
            if (peek() != c || at_end()) {
                return false;
            }
            ++at_;
            return true;
        }
        bool read_word(std::string_view word) {
            if (text_.substr(at_, word.size()) != word) {
                return fail("not a JSON value");
            }
            at_ += word.size();
            return true;
        }
        bool read_object(Json& out, int depth_left) {
            out.kind_ = Kind::object;
            ++at_;
            skip_space();
            if (accept('}')) {
                return true;
            }
            for (;;) {
                skip_space();
                if (peek() != '"') {
                    return fail("expected a key in quotes");
                }
                const std::size_t key_at = at_;
                Member member;
                if (!read_string(member.first)) {
                    return false;
                }
                if (out.find(member.first) != nullptr) {
                    at_ = key_at;
                    return fail("duplicate key");
                }
                skip_space();
                if (!accept(':')) {
                    return fail("expected ':'");
                }
                if (!read_value(member.second, depth_left - 1)) {
                    return false;
                }
                out.members_.push_back(std::move(member));
                skip_space();
                if (accept('}')) {
                    return true;
                }
                if (!accept(',')) {
                    return fail("expected ',' or '}'");
                }
            }
        }
        bool read_array(Json& out, int depth_left) {
            out.kind_ = Kind::array;
            ++at_;
            skip_space();
            if (accept(']')) {
                return true;
            }
            for (;;) {
                if (!read_value(out.items_.emplace_back(), depth_left - 1)) {
                    return false;
                }
                skip_space();
                if (accept(']')) {
                    return true;
                }
                if (!accept(',')) {
                    return fail("expected ',' or ']'");
                }
            }
        }
        bool read_string(std::string& out) {
            ++at_;
            for (;;) {
                if (at_end()) {
                    return fail("the text ends inside a string");
                }
                const char c = text_[at_];
                if (c == '"') {
                    ++at_;
                    return true;
                }
                if (static_cast<unsigned char>(c) < 0x20) {
                    return fail("a control character inside a string");
                }
                if (c == '\\') {
                    if (!read_escape(out)) {
                        return false;
                    }
                    continue;
                }
                const std::size_t n = detail::utf8_length(text_.substr(at_));
                if (n == 0) {
                    return fail("not UTF-8");
                }
                out.append(text_.substr(at_, n));
                at_ += n;
            }
        }
        bool read_escape(std::string& out) {
            ++at_;
            constexpr std::string_view kNames = "\"\\/bfnrt";
            constexpr std::string_view kValues = "\"\\/\b\f\n\r\t";
            if (const std::size_t i = kNames.find(peek());
                !at_end() && i != std::string_view::npos) {
                out.push_back(kValues[i]);
                ++at_;
                return true;
            }
            std::uint32_t code = 0;
            if (!read_unit(code)) {
                return false;
            }
            if (code >= 0xD800 && code <= 0xDFFF) {
                std::uint32_t low = 0;
                if (code > 0xDBFF || !accept('\\') || !read_unit(low) || low < 0xDC00 ||
                    low > 0xDFFF) {
                    return fail("half of a surrogate pair");
                }
                code = 0x10000 + ((code - 0xD800) << 10U) + (low - 0xDC00);
            }
            append_utf8(out, code);
            return true;
        }
        bool read_unit(std::uint32_t& code) {
            if (!accept('u') || at_ + 4 > text_.size()) {
                return fail("not an escape");
            }
            const char* first = text_.data() + at_;
            const auto [end, error] = std::from_chars(first, first + 4, code, 16);
            if (error != std::errc() || end != first + 4) {
                return fail("not an escape");
            }
            at_ += 4;
            return true;
        }
        static void append_utf8(std::string& out, std::uint32_t code) {
            const auto push = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
            if (code < 0x80) {
                push(code);
            } else if (code < 0x800) {
                push(0xC0U | (code >> 6U));
                push(0x80U | (code & 0x3FU));
            } else if (code < 0x10000) {
                push(0xE0U | (code >> 12U));
                push(0x80U | ((code >> 6U) & 0x3FU));
                push(0x80U | (code & 0x3FU));
            } else {
                push(0xF0U | (code >> 18U));
                push(0x80U | ((code >> 12U) & 0x3FU));
                push(0x80U | ((code >> 6U) & 0x3FU));
                push(0x80U | (code & 0x3FU));
            }
        }
        bool skip_digits() {
            const std::size_t from = at_;
            while (peek() >= '0' && peek() <= '9') {
                ++at_;
            }
            return at_ > from;
        }
        bool read_number(Json& out) {
            const std::size_t from = at_;
            accept('-');
            const bool zero = peek() == '0';
            const std::size_t digits = at_;
            if (!skip_digits() || (zero && at_ - digits > 1)) {
                at_ = from;
                return fail("not a JSON value");
            }
            bool whole = true;
            if (accept('.')) {
                whole = false;
                if (!skip_digits()) {
                    return fail("expected a digit");
                }
            }
            if (accept('e') || accept('E')) {
                whole = false;
                if (!accept('+')) {
                    accept('-');
                }
                if (!skip_digits()) {
                    return fail("expected a digit");
                }
            }
            const char* first = text_.data() + from;
            const char* last = text_.data() + at_;
            if (whole && std::from_chars(first, last, out.integer_).ec == std::errc()) {
                out.kind_ = Kind::integer;
                return true;
            }
            out.kind_ = Kind::number;
            if (std::from_chars(first, last, out.number_).ec != std::errc()) {
                at_ = from;
                return fail("a number out of range");
            }
            return true;
        }

        std::string_view text_;
        Failure& failure_;
        std::size_t at_ = 0;
    };

    Kind kind_ = Kind::null;
    std::int64_t integer_ = 0;
    double number_ = 0;
    std::string string_;
    std::vector<Json> items_;
    std::vector<Member> members_;
};

}  // namespace annal::inline sdk_v1
