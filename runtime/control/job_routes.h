#pragma once

#include "runtime/http/router.h"
#include "runtime/jobs/jobs.h"

namespace annal::control {

/// GET /v1/jobs: schedules and how their last runs went. POST /v1/jobs/{instance}/runs with
/// {"trigger": name} runs one now and answers when it is over.
[[nodiscard]] Result<void> add_job_routes(http::Router& router, Jobs& jobs);

}  // namespace annal::control
