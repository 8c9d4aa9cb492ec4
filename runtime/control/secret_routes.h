#pragma once

#include <string>

#include "runtime/control/rekeying.h"
#include "runtime/http/router.h"

namespace annal::control {

/// POST /v1/secrets/rekey: one page of `Rekeying`, or its end. The caller names the key that it
/// takes for the first one, by its fingerprint; a node that works with another refuses.
[[nodiscard]] Result<void> add_secret_routes(
    http::Router& router, Rekeying& rekeying, std::string first_key
);

}  // namespace annal::control
