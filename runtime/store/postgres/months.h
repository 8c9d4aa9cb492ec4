#pragma once

#include <functional>
#include <string>
#include <vector>

#include "runtime/store/event_store.h"
#include "runtime/store/postgres/partitions.h"

namespace annal::postgres {

// What happens to whole months. Everything here works on a connection outside of a transaction.

/// Months that hold events, ascending.
[[nodiscard]] Result<std::vector<MonthInfo>> list_months(Connection& db);

/// Hides the month, which appends and reads notice at once; its storage goes afterwards
/// (`purge_dropped`). Appends wait only where the month has to be closed first, and shortly.
/// @param now    kNoTime: the database's clock
/// @param again  an attempt before this one got no answer: what it may have hidden is well
/// @error Errc::conflict  The month still takes events, or an older one is there.
/// @error Errc::not_found  There are no events of it.
[[nodiscard]] Result<void> hide_month(Connection& db, Month month, TimeUs now, bool again);

/// EventStore::raise_floor: hides at once; `purge_expired` frees.
[[nodiscard]] Result<void> raise_floor(Connection& db, const std::string& project, Seq first_seq);

/// Deletes events below the floors of their logs, a bounded number in each transaction.
/// @param stop  asked between them
[[nodiscard]] Result<void> purge_expired(Connection& db, const std::function<bool()>& stop);

/// Frees what hidden months have left: what is known of them, their partitions, batches,
/// tombstones. In steps that hold nobody up. Repeatable.
/// @return  whether everything is gone; false: somebody was in the way
[[nodiscard]] Result<bool> purge_dropped(Connection& db, Partitions& partitions);

/// Drops the months of idempotency keys that are a month older than any key that an append looks
/// for. By the newest month that holds events, not by a clock, which may be wrong: nothing is
/// stamped before it.
/// @return  whether everything is gone; false: somebody was in the way
[[nodiscard]] Result<bool> drop_old_keys(Connection& db);

/// Seals each month that is over: nothing is stamped into it any more, whatever the clocks say.
/// Then it gets the indexes that an open month does without, one after the other, beside everything
/// that goes on. Nodes that would build the same index fail each other: what another one is at is
/// left to it. The turn belongs to the session, so the connection must not lead to a pooler.
/// @param now  kNoTime: the database's clock
[[nodiscard]] Result<void> seal_finished(Connection& db, TimeUs now);

}  // namespace annal::postgres
