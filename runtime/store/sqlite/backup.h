#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "runtime/core/result.h"

namespace annal {

struct BackupReport {
    std::int64_t segments = 0;
    std::uint64_t bytes = 0;
};

/// Copies a data directory of the embedded store to `target`, as it is between two commits: the
/// copy is what a power loss at that moment would have left, and a server that starts on it replays
/// the rest. Works beside a running server, which goes on appending: nothing waits for the copy. No
/// copy shares a file with the original. `also` are files that come with it under their own names,
/// for their owner's eyes only. Search sidecars are left out; the server builds them anew.
///
/// All of it is synced before it appears as `target`; until then it is `target`.partial, which goes
/// when the copy fails.
///
/// @error Errc::conflict     `target` or `target`.partial is there already.
/// @error Errc::not_found    `source` is no data directory.
/// @error Errc::unavailable  Something can't be read or written; the detail names it.
[[nodiscard]] Result<BackupReport> back_up_sqlite_store(
    const std::filesystem::path& source,
    const std::filesystem::path& target,
    const std::vector<std::filesystem::path>& also
);

}  // namespace annal
