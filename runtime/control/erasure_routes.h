#pragma once

#include "runtime/control/erasures.h"
#include "runtime/core/result.h"
#include "runtime/http/router.h"

namespace annal::control {

/// /v1/audit/erasures and /v1/audit/subjects: see docs/rest-api.md.
[[nodiscard]] Result<void> add_erasure_routes(
    http::Router& router, Erasures& erasures, HostEnvironment& host
);

}  // namespace annal::control
