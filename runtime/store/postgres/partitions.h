#pragma once

#include <mutex>
#include <set>
#include <vector>

#include "runtime/store/event_store.h"
#include "runtime/store/postgres/connection.h"

namespace annal::postgres {

/// The monthly partitions of the events and of the idempotency keys.
///
/// Threads: any; each call works on the connection that it is given, outside of a transaction.
class Partitions {
public:
    /// Whether this node knows that the month is there. False means only: call `make`.
    [[nodiscard]] bool has(Month month) const;
    /// Makes the month where it is missing, without blocking appends: the table is made beside its
    /// parent and then attached. Nodes take turns.
    [[nodiscard]] Result<void> make(Connection& db, Month month);
    /// Nothing is known any more: another server may answer now, which has lost what was made last.
    void forget();
    /// `month` and `ahead` more.
    [[nodiscard]] Result<void> make_ahead(Connection& db, Month month, int ahead);
    /// Takes the month's events away from their parent and drops them. Waits for no reader: what is
    /// in the way makes it fail soon (Errc::timeout), and it can be repeated. Nothing to do is
    /// fine.
    [[nodiscard]] Result<void> drop(Connection& db, Month month);
    /// Likewise its idempotency keys.
    [[nodiscard]] static Result<void> drop_keys(Connection& db, Month month);
    /// Months whose keys are there, ascending.
    [[nodiscard]] static Result<std::vector<Month>> list_keys(Connection& db);

private:
    mutable std::mutex mutex_;
    std::set<Month> known_;
};

}  // namespace annal::postgres
