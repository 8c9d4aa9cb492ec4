#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace annal::cli {

/// Counts the rows of an export as its bytes go by: lines, but for line breaks within quotes in
/// CSV, whose header is no row.
class RowCounter {
public:
    explicit RowCounter(std::string_view format) : quotes_(format == "csv") {}
    void add(std::string_view bytes);
    [[nodiscard]] std::uint64_t rows() const { return rows_; }
    /// What came since is forgotten: the bytes go on from the end of row `rows`.
    void set(std::uint64_t rows) { rows_ = rows, quoted_ = false; }

private:
    const bool quotes_;
    bool quoted_ = false;
    std::uint64_t rows_ = 0;
};

struct ProgressState {
    std::uint64_t rows = 0, bytes = 0;
    std::uint64_t total = 0;        ///< rows in the end; 0: not known
    std::uint64_t rows_before = 0;  ///< by an earlier process: they say nothing about the speed
    std::chrono::milliseconds elapsed{0};
};

/// "[=====>    ]  42 %  420 000 of 1 000 000 rows  123.4 MB  51 200 rows/s  0:08", as much of it as
/// fits into `width` columns.
[[nodiscard]] std::string progress_line(const ProgressState& state, std::size_t width);

/// A line on standard error that is written over as things go on: on a terminal only, and not more
/// often than the eye can follow.
class Progress {
public:
    explicit Progress(bool wanted);
    ~Progress() { clear(); }
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void show(ProgressState state, bool at_once = false);
    /// Takes the line away, so that something else can be printed.
    void clear();
    /// Leaves the last state as a line of its own.
    void finish(ProgressState state);

private:
    using Clock = std::chrono::steady_clock;
    const bool shown_;
    bool there_ = false;
    const Clock::time_point begun_ = Clock::now();
    Clock::time_point last_{};
};

}  // namespace annal::cli
