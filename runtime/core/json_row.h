#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace annal {

// Reading small JSON documents that the runtime has stored itself: what is absent or of another
// type reads as nothing.

/// The object that `row` is. Nothing: it is damaged.
[[nodiscard]] std::optional<boost::json::object> parse_row(std::string_view row);
[[nodiscard]] std::string text_in(const boost::json::object& row, std::string_view key);
[[nodiscard]] std::int64_t integer_in(
    const boost::json::object& row, std::string_view key, std::int64_t otherwise
);

}  // namespace annal
