#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace annal {

inline constexpr int kSchemaDepthMax = 64;

/// Finds subschemas by their place: what valijson keeps to itself, and defaults and error messages
/// need. Borrows the document.
class SchemaWalk {
public:
    using Schemas = std::vector<const boost::json::object*>;
    explicit SchemaWalk(const boost::json::value& root) : root_(root) {}

    /// `schema` and what it demands besides: its $ref and allOf, transitively. With `branches` also
    /// anyOf, oneOf, not, if, then and else, which may or may not apply.
    [[nodiscard]] Schemas expand(const boost::json::value& schema, bool branches) const;
    /// The subschemas for member `key` of an object under `schemas`; expanded.
    [[nodiscard]] Schemas member(const Schemas& schemas, std::string_view key, bool branches) const;
    /// The subschemas for element `index` of an array under `schemas`; expanded.
    [[nodiscard]] Schemas element(const Schemas& schemas, std::size_t index, bool branches) const;
    /// The subschemas for the value at `steps` from the root.
    [[nodiscard]] Schemas at(const std::vector<std::string>& steps, bool branches) const;

    /// Why the document can't be applied although its JSON is fine: an unknown type, a pattern that
    /// is no regular expression, a reference that leads nowhere or outside the document.
    [[nodiscard]] std::optional<std::string> defect() const;

private:
    void expand_into(const boost::json::value& schema, bool branches, int depth, Schemas& out)
        const;
    [[nodiscard]] const boost::json::value* resolve(std::string_view reference) const;
    /// Whether `schema` demands itself of the same value, so that checking it would never end.
    [[nodiscard]] bool loops(const boost::json::value& schema, Schemas& path) const;
    [[nodiscard]] std::optional<std::string> defect_of(
        const boost::json::value& schema, const std::string& pointer, int depth
    ) const;
    [[nodiscard]] std::optional<std::string> defect_of_keywords(
        const boost::json::object& schema, const std::string& pointer
    ) const;

    const boost::json::value& root_;
};

/// Whether `text` holds a match of `pattern` (ECMAScript); false for a pattern that is none.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view text);

}  // namespace annal
