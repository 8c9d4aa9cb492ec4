#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/bus/appender.h"
#include "runtime/delivery/stream.h"
#include "runtime/http/router.h"
#include "runtime/plugin/instance.h"

namespace annal::control {

/// What the routes about the node itself report from.
struct NodeView {
    Appender* appender = nullptr;  ///< null: not there yet
    Metrics* metrics = nullptr;
    std::function<std::vector<std::string>()>
        not_ready;  ///< reasons beside the appender's; empty: none
    std::function<std::vector<std::string>()>
        degraded;  ///< what does not work although the node can append; empty: nothing
    std::function<std::vector<std::shared_ptr<Instance>>()> instances;
    std::function<std::vector<StreamStatus>()> streams;
};

/// What a node that can't serve yet shows: GET /healthz (the process lives), /readyz (it can
/// append, else 503 with the reasons) and /metrics.
[[nodiscard]] Result<void> add_watch_routes(http::Router& router, NodeView view);
/// The same, and GET /v1/plugins, POST /v1/clock/confirm.
[[nodiscard]] Result<void> add_node_routes(http::Router& router, NodeView view);

}  // namespace annal::control
