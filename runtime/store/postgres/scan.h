#pragma once

#include "runtime/store/postgres/log_view.h"

namespace annal::postgres {

/// Pages and single events. A page is one transaction, over before anything is sent to a client.
[[nodiscard]] Result<ScanPage> scan_page(Connection& db, const ScanRequest& request);
[[nodiscard]] Result<EventBatch> get_event(
    Connection& db, const std::string& project, const EventId& id
);

}  // namespace annal::postgres
