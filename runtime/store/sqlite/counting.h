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
/// See EventStore::seek; for filters of created_at alone.
[[nodiscard]] Result<Seq> seek_by_time(
    Reader& reader, const std::string& project, const Filter& filter, std::int64_t skip
);

}  // namespace annal::sqlite
