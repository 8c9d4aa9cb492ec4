#pragma once

#include <memory>

#include "runtime/http/exchange.h"
#include "runtime/plugin/instance.h"

namespace annal::http {

/// The requests and answers of an annal.http/1 instance: `Exchange` on one side, `annal_request` and `annal_response` on the
/// other. A handler that neither answers nor completes by the manifest's timeout costs only its own request (503).
[[nodiscard]] std::shared_ptr<Handler> make_plugin_handler(std::shared_ptr<Instance> instance, HostEnvironment& environment);

}  // namespace annal::http
