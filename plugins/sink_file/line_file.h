#pragma once

#include <annal/sdk/status.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sink_file {

/// A file descriptor that closes itself.
class Descriptor {
public:
    Descriptor() = default;
    explicit Descriptor(int fd) : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~Descriptor();
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool is_open() const { return fd_ >= 0; }

private:
    int fd_ = -1;
};

/// When a file is put aside and a new one begun; 0: never. Always between two appends.
struct Rotation {
    std::int64_t bytes = 0;  ///< before an append that would make it larger, unless it is empty
    std::int64_t every_hours =
        0;  ///< before the first append in another span of so many hours (UTC)
    std::int64_t keep_files = 0;  ///< how many are kept that were put aside; 0: all
};

/// A file of lines that only grows, shared with other writers that follow the same rule: hold its
/// lock while appending, be sure that it is still the file at the path, and leave it with a newline
/// at its end.
///
/// What a crash leaves behind is a last line without its newline; whoever takes the lock next cuts
/// it off. A file that was moved away or removed is made anew at its path.
///
/// Rotation renames the file to `<path>.<YYYYMMDDTHHMMSS.ffffffZ>` while its lock is held: names
/// sort by age, also when the clock was set back. The rename is one step, and the new file's entry
/// is durable before anything in it is acknowledged, so a crash at any point of it leaves every
/// line in exactly one file. Whoever waited for the lock meanwhile finds the file moved and goes on
/// with the new one; so writers that share a file may rotate it, each by its own rule.
///
/// Not thread-safe. Limits: memory is one chunk and one line; a line longer than kLineBytesMax is
/// passed over by `last_seq`.
class LineFile {
public:
    static constexpr std::size_t kLineBytesMax = std::size_t{4} << 20;
    /// Of those put aside, the newest that `last_seq` looks through. What a crash leaves behind the
    /// cursor of a stream is its last batch, and that is not far.
    static constexpr std::size_t kSearchedFilesMax = 8;

    LineFile(std::string path, bool sync, Rotation rotation = {})
        : path_(std::move(path)), sync_(sync), rotation_(rotation) {}

    /// Makes the file if need be and cuts off a torn last line. @error UNPROCESSABLE  Not a file
    /// that can be written; says why.
    annal::Status open();
    /// The seq of the last complete line of `project`, -1 for none, after cutting off a torn last
    /// line; where the file has none, of the files that were put aside.
    annal::Status last_seq(std::string_view project, std::int64_t& seq);
    /// Puts the file aside if it is time. Appends whole lines and, with sync, returns once they are
    /// on the disk. On failure the file is as it was before.
    /// @error UNAVAILABLE  Disk full, I/O error, or the lock was not to be had by `deadline_us`
    /// (CLOCK_MONOTONIC).
    annal::Status append(std::string_view lines, std::int64_t deadline_us);

    /// The files that were put aside, the oldest first.
    [[nodiscard]] std::vector<std::string> put_aside() const;

private:
    class Lock;
    annal::Status is_moved(bool& moved) const;
    annal::Status lock(std::optional<Lock>& lock, std::int64_t deadline_us);
    annal::Status repair_tail();
    [[nodiscard]] bool is_due(std::size_t more_bytes) const;
    annal::Status rotate();
    annal::Status failed(const char* what, int error, annal_status code = ANNAL_UNAVAILABLE) const;

    std::string path_;
    bool sync_;
    Rotation rotation_;
    Descriptor file_;
};

/// The seq in a line of `project`'s stream: -1 when the line is none. A tombstone names no project:
/// `tombstone` says so.
[[nodiscard]] std::int64_t seq_of_line(
    std::string_view line, std::string_view project, bool& tombstone
);

}  // namespace sink_file
