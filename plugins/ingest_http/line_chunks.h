#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ingest {

/// Counts the lines of a text that hold more than white space, piece by piece.
class LineCounter {
public:
    void feed(std::string_view piece);
    /// A last line without its newline counts once it holds something.
    [[nodiscard]] std::size_t filled_lines() const { return filled_ + (filled_line_open_ ? 1 : 0); }

private:
    std::size_t filled_ = 0;
    bool filled_line_open_ = false;
};

/// Cuts newline-delimited text without end into chunks. Where it cuts depends on the text alone,
/// never on how it arrived, so that a repeated request is cut the same.
///
/// A chunk holds at most `lines_max` lines that are not blank, and at most `bytes_max` bytes unless
/// it is one longer line.
class LineChunks {
public:
    LineChunks(std::size_t lines_max, std::size_t bytes_max)
        : lines_max_(lines_max), bytes_max_(bytes_max) {}

    void feed(std::string_view piece);
    /// No more will be fed: an unfinished last line is a line.
    void finish() { finished_ = true; }
    /// The next chunk if it is known already where it ends; empty otherwise, or at the end. Valid
    /// until the next call.
    [[nodiscard]] std::string_view next();
    /// Bytes that are held and in no chunk yet: bounded by who feeds.
    [[nodiscard]] std::size_t waiting_bytes() const { return text_.size() - at_; }

private:
    std::size_t lines_max_, bytes_max_;
    std::string text_;
    std::size_t at_ = 0;       ///< start of the chunk that is being looked for
    std::size_t scanned_ = 0;  ///< end of the last complete line that is known to belong to it
    std::size_t lines_ = 0;    ///< filled lines in [at_, scanned_)
    bool finished_ = false;
};

}  // namespace ingest
