#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace annal::bench {

// What the same machine does, in the same minutes, with nothing of Annal in the way.

/// Rows per second into one SQLite table with the columns of a stored event and only its primary
/// key, WAL and synchronous=FULL, one prepared statement, `per_commit` rows a transaction.
[[nodiscard]] double raw_insert_rate(
    const std::filesystem::path& folder, std::int64_t rows, int per_commit
);

/// Rows per second that one DELETE takes from such a table.
[[nodiscard]] double raw_delete_rate(const std::filesystem::path& folder, std::int64_t rows);

/// fdatasync calls per second after appending 4 KiB each.
[[nodiscard]] double sync_rate(const std::filesystem::path& folder);

/// Lines per second, appended to a file `per_sync` at a time with fdatasync behind each.
[[nodiscard]] double append_lines_rate(
    const std::filesystem::path& folder, std::size_t line_bytes, int per_sync
);

/// Rows per second of the sqlite3 shell's CSV output: the newest `rows` of a segment file.
[[nodiscard]] double shell_csv_rate(const std::filesystem::path& segment, int rows);

/// Milliseconds of each of `times` runs of `sql` on a connection of its own.
[[nodiscard]] std::vector<double> select_times_ms(
    const std::filesystem::path& database, const std::string& sql, int times
);

/// The newest file below `data_dir`/segments that has its indexes; empty: none.
[[nodiscard]] std::filesystem::path newest_indexed_segment(const std::filesystem::path& data_dir);

}  // namespace annal::bench
