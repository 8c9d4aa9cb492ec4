#pragma once

#include <string>

#include "runtime/store/sqlite/connection.h"
#include "runtime/store/sqlite/segment.h"

namespace annal::sqlite {

/// The columns that `read_row` reads, in its order, as a SELECT list.
[[nodiscard]] const std::string& row_columns();

/// Reads the current row; its text is borrowed until the next step. A row that is in `erasing`
/// reads as a tombstone.
void read_row(
    const Query& row, const std::string& project, const Segment::Keys* erasing, Event& event
);
/// Copies what an event borrows.
void keep(Event event, const std::string& project, EventBatch& batch);

}  // namespace annal::sqlite
