#pragma once

#include <filesystem>
#include <memory>

#include "runtime/core/metrics.h"
#include "runtime/store/event_store.h"

namespace annal {

struct SqliteOptions {
    std::filesystem::path directory;             ///< DATA_DIR; made with mode 0700 when absent
    std::uint32_t segment_events_max = 250'000;  ///< a full segment is sealed in the background
    std::uint32_t readers = 4;                   ///< reading threads, each with its own connections
    std::uint32_t open_files_max = 64;           ///< connections to sealed segments kept per reader
};

/// The embedded store: control.db, and segments of at most `segment_events_max` events that never
/// cross a month. Replays what a crash left undone before it returns.
///
/// @error Errc::conflict     Another process holds the directory; the detail names its pid.
/// @error Errc::unavailable  The directory can't be made, read or written; the detail says which
/// path and why.
[[nodiscard]] Result<std::unique_ptr<EventStore>> open_sqlite_store(
    const SqliteOptions& options, const Clock& clock, Metrics& metrics
);

}  // namespace annal
