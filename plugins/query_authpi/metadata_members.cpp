#include "metadata_members.h"

#include <algorithm>
#include <charconv>

namespace authpi {
namespace {

/// Walks over a JSON text whose validity is known; ends early where it is none.
class Walker {
public:
    explicit Walker(std::string_view text) : text_(text) {}

    void skip_space() {
        while (!at_end() && is_space(peek())) {
            ++at_;
        }
    }
    bool accept(char c) {
        if (at_end() || peek() != c) {
            return false;
        }
        ++at_;
        return true;
    }
    /// The text between the quotes of the string that begins here, as it is written.
    std::string_view string() {
        if (!accept('"')) {
            return {};
        }
        const std::size_t begin = at_;
        while (!at_end() && peek() != '"') {
            at_ += peek() == '\\' ? 2 : 1;
        }
        at_ = std::min(at_, text_.size());
        const std::string_view inside = text_.substr(begin, at_ - begin);
        accept('"');
        return inside;
    }
    /// The value that begins here, as it is written.
    std::string_view value() {
        const std::size_t begin = at_;
        if (peek() == '"') {
            string();
        } else if (peek() == '{' || peek() == '[') {
            skip_nested();
        } else {
            skip_word();
        }
        return text_.substr(begin, at_ - begin);
    }

private:
    static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
    [[nodiscard]] bool at_end() const { return at_ >= text_.size(); }
    [[nodiscard]] char peek() const { return at_end() ? '\0' : text_[at_]; }
    void skip_nested() {
        std::size_t depth = 0;
        do {
            const char c = peek();
            if (c == '"') {
                string();
                continue;
            }
            depth += c == '{' || c == '[' ? 1 : 0;
            depth -= c == '}' || c == ']' ? 1 : 0;
            ++at_;
        } while (depth > 0 && !at_end());
    }
    /// A number, true, false or null.
    void skip_word() {
        while (!at_end() && !is_space(peek()) && peek() != ',' && peek() != '}') {
            ++at_;
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

/// Takes one character off the front of `written`, the inside of a JSON string. What is not ASCII
/// becomes something that no name has.
char next_character(std::string_view& written) {
    constexpr std::string_view kLetters = "bfnrt";
    constexpr std::string_view kMeant = "\b\f\n\r\t";
    constexpr char kForeign = '\x7f';
    const auto take = [&](std::size_t count) {
        const std::string_view taken = written.substr(0, count);
        written.remove_prefix(taken.size());
        return taken;
    };
    const char c = take(1).front();
    if (c != '\\' || written.empty()) {
        return c;
    }
    const char escape = take(1).front();
    if (escape == 'u') {
        const std::string_view digits = take(4);
        unsigned unit = 0;
        std::from_chars(digits.data(), digits.data() + digits.size(), unit, 16);
        return unit < 0x80 ? static_cast<char>(unit) : kForeign;
    }
    const std::size_t at = kLetters.find(escape);
    return at != std::string_view::npos ? kMeant[at] : escape;
}

bool key_is(std::string_view written, std::string_view name) {
    if (written.find('\\') == std::string_view::npos) {
        return written == name;
    }
    for (const char c : name) {
        if (written.empty() || next_character(written) != c) {
            return false;
        }
    }
    return written.empty();
}

}  // namespace

void find_members(
    std::string_view object,
    std::span<const std::string_view> names,
    std::span<std::string_view> values
) {
    Walker walker(object);
    walker.skip_space();
    if (!walker.accept('{')) {
        return;
    }
    do {
        walker.skip_space();
        const std::string_view key = walker.string();
        walker.skip_space();
        if (!walker.accept(':')) {
            return;  // the object is empty
        }
        walker.skip_space();
        const std::string_view value = walker.value();
        for (std::size_t i = 0; i < names.size(); ++i) {
            if (key_is(key, names[i])) {
                values[i] = value;
            }
        }
        walker.skip_space();
    } while (walker.accept(','));
}

}  // namespace authpi
