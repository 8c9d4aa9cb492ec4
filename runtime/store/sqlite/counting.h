#pragma once

#include "runtime/store/sqlite/scan.h"

namespace annal::sqlite {

[[nodiscard]] Result<std::vector<ActionCount>> count_actions(
    Reader& reader, const std::string& project, TimeUs since
);
[[nodiscard]] Result<Total> count_events(
    Reader& reader,
    const std::string& project,
    const Filter& filter,
    std::chrono::milliseconds budget
);

}  // namespace annal::sqlite
