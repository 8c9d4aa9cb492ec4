#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <string_view>
#include <vector>

#include "runtime/event/action.h"

namespace annal {

// Lists of patterns as rows and answers hold them.

[[nodiscard]] boost::json::array to_json(const std::vector<ActionPattern>& patterns);
/// @error Errc::internal       There is no list of texts.
/// @error Errc::unprocessable  One is no pattern.
[[nodiscard]] Result<std::vector<ActionPattern>> patterns_in(
    const boost::json::object& row, std::string_view key
);

}  // namespace annal
