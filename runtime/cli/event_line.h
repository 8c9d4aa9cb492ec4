#pragma once

#include <string>
#include <string_view>

namespace annal::cli {

/// One event, given as canonical JSON, as a line for people: when, seq, action, who, on what, from
/// where, description. What could steer a terminal is shown escaped. JSON that is none comes back
/// as it is, escaped likewise. Without the end of the line.
[[nodiscard]] std::string event_line(std::string_view json);

}  // namespace annal::cli
