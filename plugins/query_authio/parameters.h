#pragma once

#include <annal/sdk/http.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace authio {

/// The query parameters that a route may take besides the filters.
enum ParameterSet : unsigned {
    kNone = 0,
    kFilters = 1U << 0U,
    kCursor = 1U << 1U,
    kLimit = 1U << 2U,
    kCsvSafe = 1U << 3U,
    kReason = 1U << 4U,
    kLegacy = 1U << 5U,  ///< before, action_prefix
};

/// Query parameters, read and checked. Text is borrowed from the request.
struct Parameters {
    annal::Filter filter;
    annal_str cursor{nullptr, 0};
    std::uint32_t limit = 50;
    std::optional<std::string_view> csv_safe, reason;
};

/// Reads the parameters of `request`, of which a route takes those in `set`. A parameter that is
/// unknown, repeated, empty or out of its range comes back as a 400 that names it.
[[nodiscard]] std::optional<annal::Problem> read_parameters(
    const annal::Request& request, unsigned set, Parameters& out
);

/// The path and query of `request` without its cursor, percent-encoded.
[[nodiscard]] std::string path_without_cursor(const annal::Request& request);

}  // namespace authio
