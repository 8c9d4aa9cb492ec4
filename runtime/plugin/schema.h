#pragma once

#include <boost/json/value.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/result.h"

namespace annal {

/// A component's JSON Schema (draft 7, references within the document only), checked and ready to
/// apply.
///
/// Threads: one at a time; the regular expressions in it are compiled as they are met.
class ConfigSchema {
public:
    /// @error Errc::invalid  Not JSON, or no schema that can be applied; the detail says where.
    [[nodiscard]] static Result<ConfigSchema> parse(std::string_view text);
    ~ConfigSchema();
    ConfigSchema(ConfigSchema&&) noexcept;
    ConfigSchema& operator=(ConfigSchema&&) noexcept;

    using Errors = std::vector<std::pair<std::string, std::string>>;  ///< pointer, message
    /// What in `value` breaks the schema. Messages name what the schema wants and the type of what
    /// is there, never the value.
    [[nodiscard]] Errors validate(const boost::json::value& value) const;
    /// Adds the `default` of every property that is absent, at every depth that `properties`,
    /// `items`, `allOf` and `$ref` reach.
    void apply_defaults(boost::json::value& value) const;

private:
    struct State;
    explicit ConfigSchema(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace annal
