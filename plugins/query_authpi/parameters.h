#pragma once

#include <annal/sdk/http.hpp>
#include <annal/sdk/parameters.hpp>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace authpi {

/// What events can be grouped and counted by: its name in this API, its column in the host's.
struct Dimension {
    std::string_view name;
    std::uint32_t field;  ///< ANNAL_FIELD_*
};

/// Query parameters, read and checked. Text is borrowed from the request.
struct Parameters {
    annal::Filter filter;
    // Of the list.
    std::uint32_t limit = 50;
    annal_str cursor = annal::kNull;
    // Of an aggregate.
    const Dimension* group_by = nullptr;
    std::vector<const Dimension*> unique;  ///< in the order they were asked for, each once
    std::uint32_t interval = ANNAL_INTERVAL_NONE;
    std::string_view interval_name;  ///< empty without one
};

/// Reads the filters, `limit` and `cursor`. A parameter without a value, or with the value `null`,
/// counts as absent, and one that the list does not know is passed over. One that is repeated or
/// out of its range comes back as a fault that names it.
[[nodiscard]] std::optional<annal::ParameterFault> read_list_parameters(
    const annal::Request& request, Parameters& out
);

/// As above: the filters, `group_by`, `interval` and `count_unique`.
[[nodiscard]] std::optional<annal::ParameterFault> read_aggregate_parameters(
    const annal::Request& request, Parameters& out
);

}  // namespace authpi
