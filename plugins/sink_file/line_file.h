#pragma once

#include <annal/sdk/status.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

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

/// A file of lines that only grows, shared with other writers that follow the same rule: hold its
/// lock while appending, and leave it with a newline at its end.
///
/// What a crash leaves behind is a last line without its newline; whoever takes the lock next cuts
/// it off. A file that was moved away or removed is made anew at its path.
///
/// Not thread-safe. Limits: memory is one chunk and one line; a line longer than kLineBytesMax is
/// passed over by `last_seq`.
class LineFile {
public:
    static constexpr std::size_t kLineBytesMax = std::size_t{4} << 20;

    LineFile(std::string path, bool sync) : path_(std::move(path)), sync_(sync) {}

    /// Makes the file if need be and cuts off a torn last line. @error UNPROCESSABLE  Not a file
    /// that can be written; says why.
    annal::Status open();
    /// The seq of the last complete line of `project`, -1 for none, after cutting off a torn last
    /// line.
    annal::Status last_seq(std::string_view project, std::int64_t& seq);
    /// Appends whole lines and, with sync, returns once they are on the disk. On failure the file
    /// is as it was before.
    /// @error UNAVAILABLE  Disk full, I/O error, or the lock was not to be had by `deadline_us`
    /// (CLOCK_MONOTONIC).
    annal::Status append(std::string_view lines, std::int64_t deadline_us);

private:
    annal::Status reopen_if_moved();
    annal::Status repair_tail();
    annal::Status failed(const char* what, int error, annal_status code = ANNAL_UNAVAILABLE) const;

    std::string path_;
    bool sync_;
    Descriptor file_;
};

/// The seq in a line of `project`'s stream: -1 when the line is none. A tombstone names no project:
/// `tombstone` says so.
[[nodiscard]] std::int64_t seq_of_line(
    std::string_view line, std::string_view project, bool& tombstone
);

}  // namespace sink_file
