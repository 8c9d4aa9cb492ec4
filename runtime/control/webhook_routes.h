#pragma once

#include "runtime/http/router.h"
#include "runtime/plugin/instance.h"
#include "runtime/webhooks/webhooks.h"

namespace annal::control {

/// /v1/webhooks/endpoints … and /v1/webhooks/deliveries …: what docs/webhooks.md describes. Scopes
/// webhooks:read and webhooks:write. @error  As `Router::add`.
[[nodiscard]] Result<void> add_webhook_routes(
    http::Router& router, Webhooks& webhooks, const HostEnvironment& host
);

}  // namespace annal::control
