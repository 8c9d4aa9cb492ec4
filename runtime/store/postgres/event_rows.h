#pragma once

#include <array>
#include <string>
#include <vector>

#include "runtime/event/seal.h"
#include "runtime/store/postgres/connection.h"

namespace annal::postgres {

/// Events on their way into the table, column by column.
class EventRows {
public:
    EventRows();
    void add(const std::string& project, const SealedEvent& sealed, const EventDraft& draft);
    /// "INSERT INTO audit_events (…) SELECT … FROM unnest(…)"; its parameters are added to
    /// `params`.
    [[nodiscard]] std::string insert_statement(Params& params);

private:
    std::vector<Array> columns_;
};

/// The columns that `read_event` reads, in its order, of the table `e`.
[[nodiscard]] const std::string& event_columns();
/// Reads the event that begins at `column` of a row into `batch`.
void read_event(
    const Rows& rows, std::size_t row, int column, const std::string& project, EventBatch& batch
);

}  // namespace annal::postgres
