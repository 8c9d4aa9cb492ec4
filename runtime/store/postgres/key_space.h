#pragma once

#include "runtime/store/event_store.h"
#include "runtime/store/postgres/connection.h"

namespace annal::postgres {

// The rows beside the events: the key space, cursors and leases.

[[nodiscard]] Result<std::optional<std::string>> kv_get(
    Connection& db, const std::string& space, const std::string& project, const std::string& key
);
[[nodiscard]] Result<std::vector<KvRow>> kv_scan(
    Connection& db,
    const std::string& space,
    const std::string& project,
    const std::string& prefix,
    const std::string& after,
    std::uint32_t limit,
    KvOrder order = KvOrder::ascending
);
/// As EventStore::epoch.
[[nodiscard]] Result<std::string> read_epoch(Connection& db);
[[nodiscard]] Result<Seq> read_cursor(
    Connection& db, const std::string& project, const std::string& subscription
);
/// By the database's clock.
[[nodiscard]] Result<Lease> take_lease(Connection& db, const LeaseRequest& request);
[[nodiscard]] Result<void> release_lease(
    Connection& db, const std::string& project, const std::string& name, const std::string& owner
);

}  // namespace annal::postgres
