#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/event/event.h"

namespace annal {

/// Hears of what is JSON, but breaks a rule that events add: duplicate keys, U+0000, lone
/// surrogates, text that is not UTF-8, deep nesting. Scanning goes on after each.
class JsonProblems {
public:
    virtual void problem(std::string_view code, std::size_t offset, std::string detail) = 0;

protected:
    ~JsonProblems() = default;
};

/// A strict, single-pass reader of one JSON document (RFC 8259) that knows at every moment where it
/// is.
///
/// Each reading function consumes one construct and gives false when the text is not JSON; then
/// `error_offset` and `error_detail` say where and why, and nothing more may be read.
/// Linear in the document, but for objects of more than 16 keys, whose keys are sorted. Recursion
/// ends at `kNestingMax`. Not thread-safe.
class JsonScanner {
public:
    enum class Kind : std::uint8_t { object, array, string, number, boolean, null, nothing };

    /// A string as it stands in the document, without quotes.
    struct String {
        std::string_view raw;
        bool escaped = false;
    };

    /// Containers within containers beyond which a document is refused as a whole.
    static constexpr std::size_t kNestingMax = 64;

    /// Borrows all three; unescaped text lives in `arena`.
    JsonScanner(std::string_view document, Arena& arena, JsonProblems& problems)
        : document_(document), arena_(arena), problems_(problems) {
        keys_.reserve(64);
    }
    /// Begins another document; memory is kept.
    void restart(std::string_view document);

    /// What the next value is; `nothing` when none begins here. Passes over white space.
    [[nodiscard]] Kind peek();
    /// Offset of the next token. Call it after `peek`.
    [[nodiscard]] std::size_t offset() const { return at_; }
    [[nodiscard]] std::string_view between(std::size_t begin, std::size_t end) const {
        return document_.substr(begin, end - begin);
    }

    [[nodiscard]] bool string(String& out);
    [[nodiscard]] bool literal(std::string_view word);
    [[nodiscard]] bool number();
    /// Reads an object. `on_member(key, key_offset)` must consume the member's value.
    template <class OnMember>
    [[nodiscard]] bool object(OnMember&& on_member);
    /// Reads an array. `on_element(index)` must consume the element.
    template <class OnElement>
    [[nodiscard]] bool array(OnElement&& on_element);
    /// Reads any value and forgets it. Containers deeper than `levels` are reported as too_deep.
    [[nodiscard]] bool skip(std::size_t levels);
    /// Requires that nothing but white space follows.
    [[nodiscard]] bool end();

    [[nodiscard]] bool fail(std::size_t offset, std::string detail);
    [[nodiscard]] bool fail_expected(std::string_view what);

    /// The text that `string` stands for.
    [[nodiscard]] std::string_view text(const String& string);

    /// JSON pointer to the value being read, from the place that `set_root` named. Valid UTF-8,
    /// bounded.
    [[nodiscard]] std::string pointer() const;
    void set_root() { root_ = depth_; }
    void reset_root() { root_ = 0; }
    /// Makes the next deep container be reported again.
    void reset_depth_report() { deep_reported_ = false; }

    [[nodiscard]] std::size_t error_offset() const { return error_offset_; }
    [[nodiscard]] const std::string& error_detail() const { return error_detail_; }

private:
    struct Step {
        std::string_view key;  ///< without data while the key itself is being read
        std::uint32_t index = 0;
        bool in_array = false;
    };
    /// What has been reported of the string being read: each kind of problem once is enough.
    struct Reported {
        bool bad_utf8 = false, nul = false, surrogate = false;
    };
    struct Key {
        std::string_view text;
        std::size_t offset;
    };

    [[nodiscard]] char current() const { return at_ < document_.size() ? document_[at_] : '\0'; }
    void skip_space();
    [[nodiscard]] bool escape(Reported& reported);
    [[nodiscard]] bool unicode_escape(Reported& reported);
    [[nodiscard]] int hex4(std::size_t at) const;
    [[nodiscard]] bool digits();
    [[nodiscard]] bool enter(Step step);
    void add_key(std::size_t first, std::string_view key, std::size_t offset);
    void close_keys(std::size_t first);
    void report_duplicate(const Key& key);
    void check_levels(std::size_t levels);

    std::string_view document_;
    std::size_t at_ = 0;
    Arena& arena_;
    JsonProblems& problems_;
    std::array<Step, kNestingMax> path_;
    std::size_t depth_ = 0;
    std::size_t root_ = 0;
    bool deep_reported_ = false;
    std::vector<Key> keys_;  ///< of the objects that are open, innermost last
    std::size_t error_offset_ = 0;
    std::string error_detail_;
};

template <class OnMember>
bool JsonScanner::object(OnMember&& on_member) {
    if (!enter({})) {
        return false;
    }
    const std::size_t first_key = keys_.size();
    skip_space();
    if (current() != '}') {
        while (true) {
            const std::size_t key_offset = at_;
            String raw;
            path_[depth_ - 1].key = {};
            if (current() != '"') {
                return fail_expected("a key in double quotes");
            }
            if (!string(raw)) {
                return false;
            }
            skip_space();
            if (current() != ':') {
                return fail_expected("':' after the key");
            }
            ++at_;
            const std::string_view key = text(raw);
            path_[depth_ - 1].key = key;
            add_key(first_key, key, key_offset);
            if (!on_member(key, key_offset)) {
                return false;
            }
            skip_space();
            if (current() == '}') {
                break;
            }
            if (current() != ',') {
                return fail_expected("',' or '}' after the value");
            }
            ++at_;
            skip_space();
        }
    }
    ++at_;
    close_keys(first_key);
    --depth_;
    return true;
}

template <class OnElement>
bool JsonScanner::array(OnElement&& on_element) {
    if (!enter({.key = {}, .index = 0, .in_array = true})) {
        return false;
    }
    skip_space();
    if (current() != ']') {
        for (std::uint32_t index = 0;; ++index) {
            path_[depth_ - 1].index = index;
            if (!on_element(index)) {
                return false;
            }
            skip_space();
            if (current() == ']') {
                break;
            }
            if (current() != ',') {
                return fail_expected("',' or ']' after the element");
            }
            ++at_;
        }
    }
    ++at_;
    --depth_;
    return true;
}

}  // namespace annal
