#pragma once

#include <annal/sdk/http.hpp>

#include <optional>

namespace ingest {

/// How a client wants its events taken.
struct RequestOptions {
    bool ndjson = false;
    bool partial = false;        ///< store the valid events, report the others
    bool respond_async = false;  ///< answer before the events are durable
    annal_str request_key{
        nullptr, 0};  ///< of Idempotency-Key; null: none. Borrowed from the request.
};

/// Reads content type, query parameters and headers. What is wrong with them comes back as the
/// problem to answer.
[[nodiscard]] std::optional<annal::Problem> read_options(
    const annal::Request& request, RequestOptions& options
);

}  // namespace ingest
