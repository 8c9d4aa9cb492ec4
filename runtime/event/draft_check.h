#pragma once

#include <string>
#include <string_view>

#include "runtime/event/event.h"

namespace annal {

/// What is wrong with the value of one column.
struct ColumnProblem {
    std::string_view code;  ///< empty: nothing
    std::string detail;
};

/// Checks length and, where the column has one, grammar. `text` must be valid UTF-8 and not null;
/// metadata is checked for its length alone.
[[nodiscard]] ColumnProblem check_column(Column column, std::string_view text);
[[nodiscard]] ColumnProblem check_idempotency_key(std::string_view key);

}  // namespace annal
