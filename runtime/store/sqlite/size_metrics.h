#pragma once

#include "runtime/core/metrics.h"
#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/directory.h"

namespace annal::sqlite {

/// How large the store is: what it holds and what that takes on disk.
class SizeMetrics {
public:
    explicit SizeMetrics(Metrics& metrics);
    /// Looks at every file, so not on a thread that somebody waits for.
    void measure(const Directory& directory, const Catalog& catalog);

private:
    Metric &open_segments_, &full_segments_, &indexed_segments_;
    Metric& events_;
    Metric &event_bytes_, &search_bytes_, &control_bytes_, &key_bytes_, &wal_bytes_;
};

}  // namespace annal::sqlite
