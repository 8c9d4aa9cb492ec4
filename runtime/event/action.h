#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"

namespace annal {

/// `^[a-z0-9][a-z0-9_]*(\.[a-z0-9][a-z0-9_]*){1,7}$`, at most 128 bytes.
[[nodiscard]] bool is_action(std::string_view text);

/// Selects actions: an exact name, `x.*` (begins with `x.`, at any depth) or `*`. One matcher for
/// filters, streams and endpoints.
struct ActionPattern {
    enum class Kind { exact, prefix, any };
    Kind kind = Kind::any;
    std::string text;  ///< exact: the action; prefix: with its final dot, "auth."

    [[nodiscard]] bool matches(std::string_view action) const;
    /// As `parse_pattern` reads it: "user.created", "auth.*", "*".
    [[nodiscard]] std::string source() const;
    friend bool operator==(const ActionPattern&, const ActionPattern&) = default;
};

/// @error Errc::unprocessable  Neither an action nor `x.*` nor `*`.
[[nodiscard]] Result<ActionPattern> parse_pattern(std::string_view text);
/// A comma-separated list. @error Errc::unprocessable  Empty, or an item that is not a pattern.
[[nodiscard]] Result<std::vector<ActionPattern>> parse_patterns(std::string_view list);
[[nodiscard]] bool matches_any(const std::vector<ActionPattern>& patterns, std::string_view action);

}  // namespace annal
