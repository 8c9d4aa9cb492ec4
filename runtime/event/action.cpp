#include "runtime/event/action.h"

#include <algorithm>

#include "runtime/core/json_text.h"

namespace annal {
namespace {

constexpr std::size_t kActionBytesMax = 128;
constexpr std::size_t kSegmentsMin = 2;
constexpr std::size_t kSegmentsMax = 8;
constexpr std::size_t kPatternsMax = 100;

bool is_word_start(char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/// Number of dot-separated segments, 0 when one of them is malformed.
std::size_t segments(std::string_view text) {
    std::size_t count = 1;
    bool at_start = true;
    for (const char c : text) {
        if (c == '.' && !at_start) {
            ++count;
            at_start = true;
        } else if (is_word_start(c) || (c == '_' && !at_start)) {
            at_start = false;
        } else {
            return 0;
        }
    }
    return at_start ? 0 : count;
}

std::string_view trim(std::string_view text) {
    while (text.starts_with(' ')) {
        text.remove_prefix(1);
    }
    while (text.ends_with(' ')) {
        text.remove_suffix(1);
    }
    return text;
}

}  // namespace

bool is_action(std::string_view text) {
    if (text.size() > kActionBytesMax) {
        return false;
    }
    const std::size_t count = segments(text);
    return count >= kSegmentsMin && count <= kSegmentsMax;
}

std::string ActionPattern::source() const {
    if (kind == Kind::any) return "*";
    return kind == Kind::prefix ? text + "*" : text;
}

bool ActionPattern::matches(std::string_view action) const {
    switch (kind) {
        case Kind::exact:
            return action == text;
        case Kind::prefix:
            return action.starts_with(text);
        case Kind::any:
            return true;
    }
    return false;
}

Result<ActionPattern> parse_pattern(std::string_view text) {
    if (text == "*") {
        return ActionPattern{ActionPattern::Kind::any, {}};
    }
    if (is_action(text)) {
        return ActionPattern{ActionPattern::Kind::exact, std::string(text)};
    }
    if (text.ends_with(".*") && text.size() <= kActionBytesMax) {
        const std::string_view stem = text.substr(0, text.size() - 2);
        const std::size_t count = segments(stem);
        if (count >= 1 && count < kSegmentsMax) {
            return ActionPattern{ActionPattern::Kind::prefix, std::string(stem) + "."};
        }
    }
    return Error{
        Errc::unprocessable,
        quote_bounded(text) +
            " selects no action; write an action like user.created, a namespace like user.*, or *"};
}

Result<std::vector<ActionPattern>> parse_patterns(std::string_view list) {
    std::vector<ActionPattern> patterns;
    while (true) {
        const std::size_t comma = list.find(',');
        BOOST_OUTCOME_TRY(auto pattern, parse_pattern(trim(list.substr(0, comma))));
        patterns.push_back(std::move(pattern));
        if (patterns.size() > kPatternsMax) {
            return Error{
                Errc::unprocessable,
                "more than " + std::to_string(kPatternsMax) +
                    " actions; ask for fewer or for a namespace"};
        }
        if (comma == std::string_view::npos) {
            return patterns;
        }
        list.remove_prefix(comma + 1);
    }
}

bool matches_any(const std::vector<ActionPattern>& patterns, std::string_view action) {
    return std::any_of(patterns.begin(), patterns.end(), [&](const ActionPattern& pattern) {
        return pattern.matches(action);
    });
}

}  // namespace annal
