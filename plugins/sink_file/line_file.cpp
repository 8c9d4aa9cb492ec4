#include "line_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>

namespace sink_file {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{64} << 10;

std::int64_t monotonic_us() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
}

/// The advisory lock that writers of one file hold while they append.
class Lock {
public:
    Lock(int fd, std::int64_t deadline_us) : fd_(fd) {
        for (;;) {
            held_ = ::flock(fd_, LOCK_EX | LOCK_NB) == 0;
            const bool taken = !held_ && (errno == EWOULDBLOCK || errno == EINTR);
            if (held_ || !taken || monotonic_us() >= deadline_us) {
                return;
            }
            const timespec pause{0, 2'000'000};
            ::nanosleep(&pause, nullptr);
        }
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() {
        if (held_) {
            ::flock(fd_, LOCK_UN);
        }
    }
    [[nodiscard]] bool held() const { return held_; }

private:
    int fd_;
    bool held_ = false;
};

/// Enough for another writer's batch at start, where there is no delivery's deadline.
std::int64_t start_deadline_us() {
    return monotonic_us() + 5'000'000;
}

/// Reads `size` bytes at `offset`, all of them. False: an I/O error, or the file is shorter by now.
bool read_at(int fd, char* to, std::size_t size, off_t offset) {
    while (size > 0) {
        const ssize_t n = ::pread(fd, to, size, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return false;
        }
        to += n;
        offset += n;
        size -= static_cast<std::size_t>(n);
    }
    return true;
}

/// The lines of a file from its end to its start, in bounded memory.
class BackwardLines {
public:
    BackwardLines(int fd, off_t end) : fd_(fd), at_(end) {}

    /// The next line towards the start, without its newline; false at the file's start or on an
    /// error. Every line but the file's last ends with a newline, and so does the last one once the
    /// tail is repaired.
    bool next(std::string& line, bool& too_long) {
        line.clear();
        too_long = false;
        bool begun = false;
        for (;;) {
            if (have_ == 0 && !load()) {
                return false;
            }
            const std::string_view text(chunk_.data(), have_);
            const std::size_t skip = begun ? 0 : 1;  // the newline that ends the line
            const auto newline = text.size() > skip ? text.rfind('\n', text.size() - 1 - skip)
                                                    : std::string_view::npos;
            const std::size_t from = newline == std::string_view::npos ? 0 : newline + 1;
            begun = true;
            if (line.size() + (have_ - from) > LineFile::kLineBytesMax) {
                too_long = true;
                line.clear();
            } else if (!too_long) {
                line.insert(0, text.substr(from, have_ - from));
            }
            have_ = from;
            if (newline != std::string_view::npos || (have_ == 0 && at_ == 0)) {
                if (!line.empty() && line.back() == '\n') {
                    line.pop_back();
                }
                return true;
            }
        }
    }
    [[nodiscard]] bool failed() const { return failed_; }

private:
    bool load() {
        if (at_ == 0) {
            return false;
        }
        const auto size = static_cast<std::size_t>(std::min<off_t>(at_, kChunkBytes));
        chunk_.resize(size);
        if (!read_at(fd_, chunk_.data(), size, at_ - static_cast<off_t>(size))) {
            failed_ = true;
            return false;
        }
        at_ -= static_cast<off_t>(size);
        have_ = size;
        return true;
    }

    int fd_;
    off_t at_;  // start of the chunk within the file
    std::string chunk_;
    std::size_t have_ = 0;  // bytes of the chunk that belong to lines not handed out yet
    bool failed_ = false;
};

/// Makes a new directory entry durable.
void sync_folder_of(const std::string& path) {
    const auto slash = path.rfind('/');
    const std::string folder =
        slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
    const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd.is_open()) {
        ::fsync(fd.get());
    }
}

}  // namespace

Descriptor::~Descriptor() {
    if (fd_ >= 0) {
        ::close(fd_);
    }
}

annal::Status LineFile::failed(const char* what, int error, annal_status code) const {
    std::string hint;
    if (error == EISDIR) {
        hint = "; path must name a file, this is a directory";
    } else if (error == ENOENT || error == ENOTDIR) {
        hint = "; make the folder first";
    } else if (error == EACCES || error == EPERM || error == EROFS) {
        hint = "; let the server's user write there, or choose another path";
    } else if (error == ENOSPC || error == EDQUOT) {
        hint = "; free some space";
    }
    return {code, std::string(what) + " " + path_ + ": " + std::strerror(error) + hint};
}

annal::Status LineFile::open() {
    bool made = false;
    int fd = ::open(path_.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT) {
        fd = ::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
        made = fd >= 0;
    }
    if (fd < 0) {
        return failed("can't open", errno, ANNAL_UNPROCESSABLE);
    }
    Descriptor file(fd);
    struct stat info {};
    if (::fstat(fd, &info) != 0) {
        return failed("can't inspect", errno, ANNAL_UNPROCESSABLE);
    }
    if (!S_ISREG(info.st_mode)) {
        return {ANNAL_UNPROCESSABLE, path_ + " is not a regular file; path must name one"};
    }
    if (made && sync_) {
        sync_folder_of(path_);
    }
    file_ = std::move(file);
    const Lock lock(file_.get(), start_deadline_us());
    return lock.held() ? repair_tail() : failed("can't lock", EWOULDBLOCK);
}

annal::Status LineFile::reopen_if_moved() {
    struct stat held {};
    struct stat there {};
    if (::fstat(file_.get(), &held) != 0) {
        return failed("can't inspect", errno);
    }
    if (::stat(path_.c_str(), &there) == 0 && there.st_ino == held.st_ino &&
        there.st_dev == held.st_dev) {
        return {};
    }
    return open();
}

annal::Status LineFile::repair_tail() {
    const off_t size = ::lseek(file_.get(), 0, SEEK_END);
    if (size < 0) {
        return failed("can't inspect", errno);
    }
    off_t keep = size;
    std::string chunk;
    for (off_t end = size; end > 0;) {
        // The file ends well almost always: look at one byte first.
        const off_t want = end == size ? 1 : static_cast<off_t>(kChunkBytes);
        const auto length = static_cast<std::size_t>(std::min(end, want));
        chunk.resize(length);
        if (!read_at(file_.get(), chunk.data(), length, end - static_cast<off_t>(length))) {
            return failed("can't read", errno);
        }
        const auto newline = chunk.rfind('\n');
        end -= static_cast<off_t>(length);
        keep = newline == std::string::npos ? end : end + static_cast<off_t>(newline) + 1;
        if (newline != std::string::npos) {
            break;
        }
    }
    if (keep != size && ::ftruncate(file_.get(), keep) != 0) {
        return failed("can't cut the torn last line off", errno);
    }
    return {};
}

annal::Status LineFile::last_seq(std::string_view project, std::int64_t& seq) {
    seq = -1;
    if (annal::Status status = reopen_if_moved(); !status.ok()) {
        return status;
    }
    const Lock lock(file_.get(), start_deadline_us());
    if (!lock.held()) {
        return failed("can't lock", EWOULDBLOCK);
    }
    if (annal::Status status = repair_tail(); !status.ok()) {
        return status;
    }
    BackwardLines lines(file_.get(), ::lseek(file_.get(), 0, SEEK_END));
    std::string line;
    bool too_long = false;
    std::int64_t last_tombstone = -1;
    bool only_tombstones_since = true;
    while (lines.next(line, too_long)) {
        bool tombstone = false;
        const std::int64_t found = too_long ? -1 : seq_of_line(line, project, tombstone);
        if (found >= 0 && !tombstone) {
            // Tombstones behind it are this project's if nobody else has written since; if in doubt
            // they come again.
            seq = only_tombstones_since ? std::max(found, last_tombstone) : found;
            break;
        }
        if (tombstone) {
            last_tombstone = std::max(last_tombstone, found);
        } else {
            only_tombstones_since = false;
        }
    }
    return lines.failed() ? failed("can't read", EIO) : annal::Status();
}

annal::Status LineFile::append(std::string_view lines, std::int64_t deadline_us) {
    if (annal::Status status = reopen_if_moved(); !status.ok()) {
        return {ANNAL_UNAVAILABLE, status.text()};
    }
    const Lock lock(file_.get(), deadline_us);
    if (!lock.held()) {
        return failed("can't lock", EWOULDBLOCK);
    }
    if (annal::Status status = repair_tail(); !status.ok()) {
        return status;
    }
    const off_t start = ::lseek(file_.get(), 0, SEEK_END);
    if (start < 0) {
        return failed("can't inspect", errno);
    }
    int error = 0;
    for (std::string_view rest = lines; !rest.empty() && error == 0;) {
        const ssize_t n = ::write(file_.get(), rest.data(), rest.size());
        if (n > 0) {
            rest.remove_prefix(static_cast<std::size_t>(n));
        } else if (n == 0) {
            error = EIO;
        } else if (errno != EINTR) {
            error = errno;
        }
    }
    const char* what = "can't write to";
    if (error == 0 && sync_ && ::fdatasync(file_.get()) != 0) {
        error = errno;
        what = "can't sync";
    }
    if (error == 0 &&
        ::lseek(file_.get(), 0, SEEK_END) != start + static_cast<off_t>(lines.size())) {
        return {ANNAL_UNAVAILABLE, "somebody else writes to " + path_ + " without taking its lock"};
    }
    if (error != 0) {
        // Back to the last good line; should even that fail, the next writer's repair finds the
        // torn end.
        if (::ftruncate(file_.get(), start) != 0) {
            what = "can't write to, nor undo a part of it in,";
        }
        return failed(what, error);
    }
    return {};
}

namespace {

/// The members of the object that a line holds, as raw JSON: metadata may hold whatever JSON
/// allows, so nothing but the structure is looked at.
class Members {
public:
    explicit Members(std::string_view line) : rest_(line) { accept('{'); }

    /// False after the last member, or where the line is no object.
    bool next(std::string_view& key, std::string_view& value) {
        key = take_value();
        if (key.size() < 2 || key.front() != '"' || !accept(':')) {
            return false;
        }
        key = key.substr(1, key.size() - 2);
        value = take_value();
        return !value.empty() && (accept(',') || accept('}'));
    }

private:
    bool accept(char c) {
        if (rest_.empty() || rest_.front() != c) {
            return false;
        }
        rest_.remove_prefix(1);
        return true;
    }
    std::string_view take_value() {
        std::size_t depth = 0;
        std::size_t i = 0;
        for (; i < rest_.size(); ++i) {
            const char c = rest_[i];
            if (c == '"') {
                i = end_of_string(i);
            } else if (c == '{' || c == '[') {
                ++depth;
            } else if (depth == 0 && (c == ',' || c == ':' || c == '}' || c == ']')) {
                break;
            } else if (c == '}' || c == ']') {
                --depth;
            }
        }
        const std::string_view value = rest_.substr(0, i);
        rest_.remove_prefix(value.size());
        return value;
    }
    [[nodiscard]] std::size_t end_of_string(std::size_t i) const {
        for (++i; i < rest_.size() && rest_[i] != '"'; ++i) {
            i += rest_[i] == '\\' ? 1 : 0;
        }
        return i;
    }

    std::string_view rest_;
};

std::int64_t to_seq(std::string_view text) {
    std::int64_t seq = -1;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seq);
    return error == std::errc() && end == text.data() + text.size() && seq >= 0 ? seq : -1;
}

}  // namespace

std::int64_t seq_of_line(std::string_view line, std::string_view project, bool& tombstone) {
    bool deleted = false;
    bool owned = false;
    bool ours = false;
    std::int64_t seq = -1;
    std::string_view key;
    std::string_view value;
    for (Members members(line); members.next(key, value);) {
        if (key == "seq") {
            seq = to_seq(value);
        } else if (key == "deleted") {
            deleted = value == "true";
        } else if (key == "project_id") {
            owned = true;
            ours = value.size() == project.size() + 2 && value.substr(1, project.size()) == project;
        }
    }
    tombstone = deleted && !owned && seq >= 0;
    return tombstone || ours ? seq : -1;
}

}  // namespace sink_file
