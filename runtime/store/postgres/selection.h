#pragma once

#include <string>

#include "runtime/store/filter.h"
#include "runtime/store/postgres/log_view.h"

namespace annal::postgres {

/// A filter as conditions of SQL over the table `t`.
struct Selection {
    std::string driver;    ///< what an index serves in order of seq; empty: nothing is
    std::string rest;      ///< what has to be looked at row by row; empty: nothing
    std::string time;      ///< bounds of created_at; "" or " AND …"
    bool nothing = false;  ///< no event can match
};

/// How a month can be searched.
struct Search {
    bool sealed = false;
    bool tombstones = false;  ///< deleted events appear, whatever the filter
};

/// Parameters of the conditions are added to `params`.
[[nodiscard]] Selection select(const Filter& filter, const Search& search, Params& params);

/// "t.project_id = $1 AND …": one month of one project. $1 must be the project.
[[nodiscard]] std::string within_month(const std::string& table, Month month);
/// The same for all months of a view, which must have some.
[[nodiscard]] std::string within_months(const std::string& table, const LogView& view);
/// " AND t.seq BETWEEN …"
[[nodiscard]] std::string within(const std::string& table, const SeqRange& range);
/// A LIKE pattern for `searched_text` that finds every event that `needle` is in, and few others.
[[nodiscard]] std::string search_pattern(std::string_view needle);
/// Whether a trigram index can find it: three letters or digits in a row.
[[nodiscard]] bool is_searchable(std::string_view needle);
/// The text that a trigram index of a sealed month is about, over the columns of `table`.
[[nodiscard]] std::string searched_text(const std::string& table);
/// Columns that have an index while a month is open; a sealed one has an index for each column
/// that can be asked for.
[[nodiscard]] bool is_indexed(Column column, bool sealed);

}  // namespace annal::postgres
