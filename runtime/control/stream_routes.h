#pragma once

#include "runtime/core/result.h"
#include "runtime/delivery/streams.h"
#include "runtime/http/router.h"

namespace annal::control {

/// /v1/audit/streams and what is below it: see docs/rest-api.md.
[[nodiscard]] Result<void> add_stream_routes(
    http::Router& router, Streams& streams, const Destinations& destinations, EventStore& store
);

}  // namespace annal::control
