#pragma once

#include <annal/sdk/http.hpp>

#include <charconv>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace annal::inline sdk_v1 {

/// The whole of `text` as a decimal number in [min, max].
[[nodiscard]] inline std::optional<std::int64_t> parse_integer(
    std::string_view text, std::int64_t min, std::int64_t max
) {
    std::int64_t number = 0;
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end || number < min || number > max) {
        return std::nullopt;
    }
    return number;
}

/// One query parameter of a route. `read` puts its value into `out`, or says what is wrong with it:
/// a phrase that goes on after the parameter's name, "must be a number from 1 to 200".
template <class Out>
struct Parameter {
    std::string_view name;
    std::optional<std::string> (*read)(const Host& host, std::string_view value, Out& out);
};

/// How a product takes parameters that it has no use for.
struct ParameterRules {
    bool ignores_unknown = false;  ///< else one is refused
    bool absent_if_empty = false;  ///< also when it is `null`; else one is refused
};

/// A parameter that is refused.
struct ParameterFault {
    std::string name;
    std::string what;         ///< goes on after the name; empty when the name is unknown
    bool is_unknown = false;  ///< the route takes no parameter of this name

    /// "query parameter limit must be …"
    [[nodiscard]] std::string text() const {
        return is_unknown ? "unknown query parameter: " + name
                          : "query parameter " + name + " " + what;
    }
};

/// Reads the query of `request` by a route's table, in order of arrival. Values are borrowed from
/// the request. A parameter that is given twice is always refused.
template <class Out>
[[nodiscard]] std::optional<ParameterFault> read_parameters(
    const Request& request,
    std::span<const Parameter<Out>> table,
    const ParameterRules& rules,
    Out& out
) {
    std::vector<bool> seen(table.size());
    for (const annal_pair& pair : request.query()) {
        const std::string_view name = view(pair.key);
        const std::string_view value = view(pair.value);
        std::size_t i = 0;
        while (i < table.size() && table[i].name != name) {
            ++i;
        }
        if (i == table.size()) {
            if (rules.ignores_unknown) {
                continue;
            }
            return ParameterFault{std::string(name), {}, true};
        }
        if (seen[i]) {
            return ParameterFault{std::string(name), "is given more than once"};
        }
        seen[i] = true;
        if (rules.absent_if_empty && (value.empty() || value == "null")) {
            continue;
        }
        if (value.empty()) {
            return ParameterFault{std::string(name), "is empty"};
        }
        if (auto what = table[i].read(request.call().host(), value, out)) {
            return ParameterFault{std::string(name), std::move(*what)};
        }
    }
    return std::nullopt;
}

}  // namespace annal::inline sdk_v1
