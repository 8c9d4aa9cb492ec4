#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "runtime/core/result.h"
#include "runtime/event/event.h"

namespace annal {

/// One thing that is not as it was written.
struct CheckProblem {
    std::string file;     ///< below the data directory
    std::string project;  ///< empty: of the file as a whole
    Seq first_seq = kNoSeq,
        last_seq = kNoSeq;  ///< the events concerned; kNoSeq: none in particular
    std::string what;
};

struct CheckReport {
    std::int64_t segments = 0, projects = 0, batches = 0;
    std::int64_t events = 0;    ///< read, those erased included
    std::int64_t erased = 0;    ///< known by their leaf alone
    std::int64_t scrubbed = 0;  ///< without their personal data: what is left can't be verified
    std::int64_t problems = 0;  ///< 0: all is as it was written
};

struct CheckObserver {
    std::function<void(const CheckProblem&)> problem;
    /// Now and then: how many segments of how many are done, and how many events were read.
    std::function<void(std::int64_t done, std::int64_t of, std::int64_t events)> progress;
};

/// Reads a data directory of the embedded store, or a backup of one, and verifies all of it: the
/// files themselves; each event against its leaf, each batch against its digest and the batch
/// before it; that seq has no hole and created_at rises; what control.db says about closed
/// segments; rollups, search sidecars and idempotency keys. Changes nothing. Under a running server
/// it works on what is committed when it comes to a file; the server is not disturbed. While it
/// reads a directory that nobody uses, no server can be started on it.
///
/// What it can't see: an event that was cut off the end of the open segment together with its
/// batch.
///
/// @error Errc::not_found  There is no data directory. @error Errc::unavailable  It can't be
/// listed.
[[nodiscard]] Result<CheckReport> check_sqlite_store(
    const std::filesystem::path& directory, const CheckObserver& observer
);

}  // namespace annal
