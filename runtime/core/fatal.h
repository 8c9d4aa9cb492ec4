#pragma once

#include <string_view>

namespace annal {

/// Logs `event` with `detail` and ends the process at once (exit code 70), without destructors: for
/// defects, and for an fsync error, after which nothing that is in memory can be trusted to be on
/// disk.
[[noreturn]] void fatal(std::string_view event, std::string_view detail);

}  // namespace annal
