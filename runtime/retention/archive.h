#pragma once

#include <filesystem>
#include <string>

#include "runtime/core/result.h"
#include "runtime/core/task.h"
#include "runtime/store/event_store.h"

namespace annal {

/// A file that keeps what the store will not keep any longer.
struct ArchiveFile {
    std::filesystem::path path;
    std::int64_t events = 0;  ///< tombstones left out
    std::string sha256;       ///< hex, of its bytes
};

/// Writes the events [first, last] of a project as lines of canonical JSON to
/// FOLDER/PROJECT/FIRST-LAST.jsonl, with FOLDER/PROJECT/FIRST-LAST.jsonl.sha256 beside it as
/// sha256sum writes it; both durable on return. Then reads the file again: its lines and its digest
/// must be those that were written. A file of the same name is replaced, by the same bytes unless
/// events were erased meanwhile.
///
/// Threads: blocks for the time of its I/O; run it where that is allowed.
/// @error Errc::unavailable  The folder can't be written to, or the file is not what was written.
/// @error Errc::conflict     The store has not as many events there as it says.
[[nodiscard]] Task<Result<ArchiveFile>> write_archive(
    EventStore& store, std::filesystem::path folder, std::string project, Seq first, Seq last
);

}  // namespace annal
