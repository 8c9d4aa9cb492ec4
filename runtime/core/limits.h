#pragma once

#include <cstdint>

namespace annal {

/// Every bound of a node, in one place; the settings file may change each. Sizes are bytes.
struct Limits {
    std::uint64_t body_bytes_max = 8ULL << 20;  ///< one request body, decoded (NDJSON: one line)
    std::uint64_t bodies_in_memory_max = 256ULL << 20;  ///< all request bodies of the node
    std::uint32_t connections_max = 4096;
    std::uint32_t header_bytes_max = 16U << 10;
    std::uint32_t header_timeout_ms = 10'000;  ///< from the first byte to the last header
    std::uint32_t body_timeout_ms = 30'000;    ///< how far a body may lag behind its minimum rate
    std::uint32_t body_rate_min_bytes_per_s = 1'024;  ///< 0: only gaps count
    std::uint32_t write_timeout_ms = 30'000;  ///< how far a reader may lag behind its minimum rate
    std::uint32_t write_rate_min_bytes_per_s = 1'024;    ///< 0: only gaps count
    std::uint32_t idle_timeout_ms = 75'000;              ///< keep-alive between requests
    std::uint64_t queue_bytes_max = 64ULL << 20;         ///< append queue of the node: full is 503
    std::uint64_t project_queue_bytes_max = 8ULL << 20;  ///< share of one project: full is 429
    std::uint32_t export_rows_max = 100'000;
    std::uint32_t scan_budget_ms = 2'000;  ///< one list request
    std::uint32_t drain_timeout_ms = 10'000;
    std::uint32_t lease_ms = 15'000;           ///< a stream's, unless it is renewed before
    std::uint32_t tails_max = 1'000;           ///< live tails of the node
    std::uint32_t tail_heartbeat_ms = 15'000;  ///< a tail that had nothing to say for so long
    std::uint64_t tail_buffer_bytes_max = 4ULL << 20;  ///< newest events kept for a project's tails
};

// Properties of the data model; not configurable, because stored data relies on them.
inline constexpr std::int64_t kSeqMax = (std::int64_t{1} << 40) - 1;  ///< of one log
inline constexpr std::uint32_t kBatchEventsMax = 10'000;
inline constexpr std::uint32_t kScanWindowSeqs = 250'000;
inline constexpr std::uint32_t kPageMax = 1'000;
inline constexpr std::uint32_t kMetadataBytesMax = 64U << 10;
inline constexpr std::uint32_t kMetadataDepthMax = 16;
inline constexpr std::uint32_t kProjectIdBytesMax = 64;
inline constexpr std::uint32_t kIdempotencyKeyBytesMax = 256;
inline constexpr std::uint32_t kIssuesPerEventMax = 16;
inline constexpr std::uint32_t kIssuesPerRequestMax = 1'000;

}  // namespace annal
