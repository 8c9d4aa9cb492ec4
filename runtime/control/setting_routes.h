#pragma once

#include "runtime/bus/appender.h"
#include "runtime/http/router.h"
#include "runtime/plugin/settings.h"

namespace annal::control {

/// GET and PUT /v1/config/{key}: the project's settings. PUT's body is the JSON value itself:
/// `365`, `"strict"`, `null` to unset.
[[nodiscard]] Result<void> add_setting_routes(
    http::Router& router, Settings& settings, Appender& appender
);

}  // namespace annal::control
