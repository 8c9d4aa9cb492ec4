#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string_view>

#include "annal/abi.h"
#include "runtime/core/result.h"

namespace annal {

inline constexpr std::size_t kRouteTextBytesMax = 1U << 20;

/// What a component says of its routes, read and checked: each part an OpenAPI 3.1 object as its
/// author wrote it.
struct RouteDescriptions {
    boost::json::object operations;  ///< Operation Objects, by the name of a trigger
    boost::json::object components;  ///< by kind, then by name; what `$ref`s in it refer to
    boost::json::object errors;      ///< media types of its error answers; empty: problem+json
    boost::json::array tags;         ///< Tag Objects
};

/// Reads `text`, one document of YAML 1.2 or JSON of at most `kRouteTextBytesMax` bytes; empty text
/// describes nothing. Safe from any thread.
/// @error Errc::invalid  All that is wrong with it: "line 3: /operations/list/summary: missing: …",
/// joined by "; ".
[[nodiscard]] Result<RouteDescriptions> read_route_descriptions(std::string_view text);

/// The text that `component` publishes; empty where it has none, as modules of before ABI 1.3.
/// Borrowed from the module.
[[nodiscard]] std::string_view route_text(const annal_component& component);

}  // namespace annal
