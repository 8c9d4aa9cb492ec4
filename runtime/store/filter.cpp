#include "runtime/store/filter.h"

#include <algorithm>

#include "runtime/store/searched_text.h"

namespace annal {
namespace {

bool in_range(TimeUs at, const std::optional<TimeUs>& from, const std::optional<TimeUs>& before) {
    return (!from || at >= *from) && (!before || at < *before);
}

bool contains_text(const Event& event, std::string_view needle) {
    for (const Column column : kSearchedColumns) {
        if (!event[column].is_null() && contains_ascii_ci(event[column].view(), needle)) {
            return true;
        }
    }
    return false;
}

/// A tagged, length-prefixed encoding: no two filters share it.
class FilterBytes {
public:
    void text(char tag, std::string_view value) {
        bytes_ += tag;
        number(value.size());
        bytes_ += value;
    }

    void text(char tag, const std::optional<std::string>& value) {
        if (value) {
            text(tag, std::string_view(*value));
        }
    }

    void time(char tag, const std::optional<TimeUs>& at) {
        if (at) {
            bytes_ += tag;
            number(static_cast<std::uint64_t>(*at));
        }
    }

    [[nodiscard]] const std::string& bytes() const { return bytes_; }

private:
    void number(std::uint64_t value) {
        for (int shift = 56; shift >= 0; shift -= 8) {
            bytes_ += static_cast<char>(value >> shift);
        }
    }

    std::string bytes_;
};

}  // namespace

bool Filter::matches_all() const {
    return actions.empty() && !action_prefix && !from && !before && !occurred_from &&
           !occurred_before && !text &&
           std::none_of(equals.begin(), equals.end(), [](const auto& v) { return v.has_value(); });
}

bool Filter::only_created_at() const {
    Filter rest = *this;
    rest.from.reset();
    rest.before.reset();
    return rest.matches_all();
}

bool Filter::matches(const Event& event) const {
    if (event.deleted) {
        return matches_all();
    }
    const std::string_view action = event[Column::action].view();
    if (!actions.empty() && !matches_any(actions, action)) {
        return false;
    }
    if (action_prefix && !action.starts_with(*action_prefix)) {
        return false;
    }
    for (std::size_t i = 0; i < kColumns; ++i) {
        if (equals[i] && !(event.columns[i] == Text(*equals[i]))) {
            return false;
        }
    }
    const TimeUs occurred_at = event.occurred_at == kNoTime ? event.created_at : event.occurred_at;
    return in_range(event.created_at, from, before) &&
           in_range(occurred_at, occurred_from, occurred_before) &&
           (!text || contains_text(event, *text));
}

Digest Filter::digest() const {
    // The order in which actions are listed selects nothing else, so it must not spoil a cursor.
    std::vector<std::string> listed;
    for (const ActionPattern& pattern : actions) {
        listed.push_back(static_cast<char>('0' + static_cast<int>(pattern.kind)) + pattern.text);
    }
    std::sort(listed.begin(), listed.end());
    listed.erase(std::unique(listed.begin(), listed.end()), listed.end());

    FilterBytes bytes;
    for (const std::string& pattern : listed) {
        bytes.text('a', std::string_view(pattern));
    }
    bytes.text('p', action_prefix);
    for (std::size_t i = 0; i < kColumns; ++i) {
        bytes.text(static_cast<char>(0x80 + i), equals[i]);
    }
    bytes.time('f', from);
    bytes.time('b', before);
    bytes.time('g', occurred_from);
    bytes.time('c', occurred_before);
    bytes.text('q', text);
    return sha256(bytes.bytes());
}

bool contains_ascii_ci(std::string_view haystack, std::string_view needle) {
    const auto found = std::search(
        haystack.begin(),
        haystack.end(),
        needle.begin(),
        needle.end(),
        [](char a, char b) { return ascii_lower(a) == ascii_lower(b); }
    );
    return found != haystack.end() || needle.empty();
}

}  // namespace annal
