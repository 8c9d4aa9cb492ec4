#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/crypto.h"
#include "runtime/event/action.h"
#include "runtime/event/event.h"

namespace annal {

/// Selection of events within one project: every part that is set must hold. This is the store's
/// contract: each store serves every combination, by an index or within a bound.
struct Filter {
    std::vector<ActionPattern> actions;        ///< any of these; empty: all
    std::optional<std::string> action_prefix;  ///< plain prefix; `_` and `%` are literal
    /// Exact value of a column; every column but user_agent, description and metadata can be asked
    /// for.
    std::array<std::optional<std::string>, kColumns> equals;
    std::optional<TimeUs> from, before;  ///< created_at in [from, before)
    std::optional<TimeUs> occurred_from,
        occurred_before;  ///< occurred_at (created_at when not claimed) in [from, before)
    std::optional<std::string> text;  ///< literal substring of action, actor_id, target_id or
                                      ///< description; ASCII letters match in either case

    [[nodiscard]] bool matches_all() const;      ///< no part is set
    [[nodiscard]] bool only_created_at() const;  ///< no part but `from` and `before` is set
    [[nodiscard]] bool matches(const Event& event
    ) const;  ///< the reference; never true for a tombstone unless matches_all
    /// Binds a cursor to what it was made for.
    [[nodiscard]] Digest digest() const;
};

/// The substring test of `Filter::text`.
[[nodiscard]] bool contains_ascii_ci(std::string_view haystack, std::string_view needle);

}  // namespace annal
