#pragma once

#include <annal/sdk/parameters.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

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
    kRows = 1U << 6U,    ///< limit of an export
    kAfter = 1U << 7U,   ///< after, last_event_id
    kShape = 1U << 8U,   ///< group_by, interval, count_unique
};

/// A word of a query and the ANNAL_FIELD_ or ANNAL_INTERVAL_ that it stands for; 0: not given.
struct NamedField {
    std::string_view name;
    std::uint32_t value = 0;
    bool operator==(const NamedField&) const = default;
};

/// Query parameters, read and checked. Text is borrowed from the request.
struct Parameters {
    annal::Filter filter;
    annal_str cursor{nullptr, 0};
    std::uint32_t limit = 50;
    std::uint32_t rows = 100'000;
    std::optional<std::int64_t> after;
    std::optional<std::string_view> csv_safe, reason;
    NamedField group_by, interval;
    std::vector<NamedField> unique;
};

/// Reads the parameters of `request`, of which a route takes those in `set`. A parameter that is
/// unknown, repeated, empty or out of its range comes back as a 400 that names it.
[[nodiscard]] std::optional<annal::Problem> read_parameters(
    const annal::Request& request, unsigned set, Parameters& out
);

/// A seq to go on behind, from -1; nothing when `text` is none.
[[nodiscard]] std::optional<std::int64_t> read_seq(std::string_view text);

/// The path and query of `request` without its cursor, percent-encoded.
[[nodiscard]] std::string path_without_cursor(const annal::Request& request);

}  // namespace authio
