#include "runtime/store/sqlite/size_metrics.h"

#include <cstdint>

namespace annal::sqlite {
namespace {

namespace fs = std::filesystem;

Metric& segments(Metrics& metrics, const char* state) {
    return metrics.define(
        MetricKind::gauge,
        "annal_store_segments",
        "Segments: open for appends, full and waiting for indexes, or indexed.",
        {{"state", state}}
    );
}

Metric& bytes(Metrics& metrics, const char* kind) {
    return metrics.define(
        MetricKind::gauge,
        "annal_store_bytes",
        "Bytes on disk. wal: write-ahead logs, which checkpoints empty.",
        {{"kind", kind}}
    );
}

double size_of(const fs::path& file) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    return error ? 0 : static_cast<double>(size);
}

/// Of a database; what its write-ahead log has goes to `wal`.
double size_of(const fs::path& database, double& wal) {
    wal += size_of(database.string() + "-wal");
    return size_of(database);
}

}  // namespace

SizeMetrics::SizeMetrics(Metrics& metrics)
    : open_segments_(segments(metrics, "open")),
      full_segments_(segments(metrics, "full")),
      indexed_segments_(segments(metrics, "indexed")),
      events_(metrics.define(
          MetricKind::gauge, "annal_store_events", "Events stored, tombstones included."
      )),
      event_bytes_(bytes(metrics, "events")),
      search_bytes_(bytes(metrics, "search")),
      control_bytes_(bytes(metrics, "control")),
      key_bytes_(bytes(metrics, "keys")),
      wal_bytes_(bytes(metrics, "wal")) {}

void SizeMetrics::measure(const Directory& directory, const Catalog& catalog) {
    std::int64_t open = 0, full = 0, indexed = 0, events = 0;
    double event_bytes = 0, search_bytes = 0, key_bytes = 0, wal_bytes = 0;
    const auto all = catalog.segments();
    for (const auto& segment : all) {
        const bool newest = segment == all.back();
        open += newest ? 1 : 0;
        indexed += !newest && segment->indexed ? 1 : 0;
        full += !newest && !segment->indexed ? 1 : 0;
        events += segment->events;
        event_bytes += size_of(segment->path, wal_bytes);
        search_bytes += size_of(segment->search_path);
    }
    for (const Month month : directory.key_months()) {
        key_bytes += size_of(directory.keys(month), wal_bytes);
    }
    control_bytes_.record(size_of(directory.control(), wal_bytes));
    open_segments_.record(static_cast<double>(open));
    full_segments_.record(static_cast<double>(full));
    indexed_segments_.record(static_cast<double>(indexed));
    events_.record(static_cast<double>(events));
    event_bytes_.record(event_bytes);
    search_bytes_.record(search_bytes);
    key_bytes_.record(key_bytes);
    wal_bytes_.record(wal_bytes);
}

}  // namespace annal::sqlite
