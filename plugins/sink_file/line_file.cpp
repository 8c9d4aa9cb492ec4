#include "line_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>

namespace sink_file {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{64} << 10;

std::int64_t monotonic_us() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
}

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

/// The folder of a file and the file's name in it.
std::pair<std::string, std::string> split(const std::string& path) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) {
        return {".", path};
    }
    return {path.substr(0, std::max<std::size_t>(slash, 1)), path.substr(slash + 1)};
}

/// Makes the names in the folder of `path` durable.
bool sync_folder_of(const std::string& path) {
    const Descriptor fd(::open(split(path).first.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd.is_open() && ::fsync(fd.get()) == 0;
}

/// Where the last whole line of a file ends. False on an I/O error.
bool find_whole_size(int fd, off_t& keep) {
    const off_t size = ::lseek(fd, 0, SEEK_END);
    if (size < 0) {
        return false;
    }
    keep = size;
    std::string chunk;
    for (off_t end = size; end > 0;) {
        // The file ends well almost always: look at one byte first.
        const off_t want = end == size ? 1 : static_cast<off_t>(kChunkBytes);
        const auto length = static_cast<std::size_t>(std::min(end, want));
        chunk.resize(length);
        if (!read_at(fd, chunk.data(), length, end - static_cast<off_t>(length))) {
            return false;
        }
        const auto newline = chunk.rfind('\n');
        end -= static_cast<off_t>(length);
        keep = newline == std::string::npos ? end : end + static_cast<off_t>(newline) + 1;
        if (newline != std::string::npos) {
            break;
        }
    }
    return true;
}

/// The last line of one project, looked for backwards over the files that make up its stream.
class LastLine {
public:
    explicit LastLine(std::string_view project) : project_(project) {}

    /// True when it was found in the file, whose lines end at `end`.
    bool look_through(int fd, off_t end) {
        BackwardLines lines(fd, end);
        std::string line;
        bool too_long = false;
        while (lines.next(line, too_long)) {
            bool tombstone = false;
            const std::int64_t found = too_long ? -1 : seq_of_line(line, project_, tombstone);
            if (found >= 0 && !tombstone) {
                // Tombstones behind it are this project's if nobody else has written since; if in
                // doubt they come again.
                seq_ = only_tombstones_since_ ? std::max(found, last_tombstone_) : found;
                return true;
            }
            if (tombstone) {
                last_tombstone_ = std::max(last_tombstone_, found);
            } else {
                only_tombstones_since_ = false;
            }
        }
        failed_ = lines.failed();
        return false;
    }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] std::int64_t seq() const { return seq_; }

private:
    std::string_view project_;
    std::int64_t seq_ = -1, last_tombstone_ = -1;
    bool only_tombstones_since_ = true, failed_ = false;
};

constexpr std::size_t kStampSize = std::char_traits<char>::length("20261122T035700.123456Z");

/// "20261122T035700.123456Z"
std::string stamp_of(std::int64_t time_us) {
    const auto seconds = static_cast<std::time_t>(time_us / 1'000'000);
    std::tm at{};
    ::gmtime_r(&seconds, &at);
    std::array<char, 32> date{};
    std::array<char, 48> text{};
    std::strftime(date.data(), date.size(), "%Y%m%dT%H%M%S", &at);
    const int size = std::snprintf(
        text.data(), text.size(), "%s.%06dZ", date.data(), static_cast<int>(time_us % 1'000'000)
    );
    return {text.data(), static_cast<std::size_t>(size)};
}

/// -1 when `stamp` is none.
std::int64_t time_of(const std::string& stamp) {
    std::tm at{};
    const char* rest = ::strptime(stamp.c_str(), "%Y%m%dT%H%M%S", &at);
    if (stamp.size() != kStampSize || rest == nullptr || *rest != '.') {
        return -1;
    }
    std::int64_t fraction = 0;
    const auto [end, error] = std::from_chars(rest + 1, rest + 7, fraction);
    if (error != std::errc() || end != rest + 7 || *end != 'Z') {
        return -1;
    }
    return static_cast<std::int64_t>(::timegm(&at)) * 1'000'000 + fraction;
}

std::int64_t wall_us() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<std::int64_t>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1'000;
}

}  // namespace

/// The advisory lock that writers of one file hold while they append.
class LineFile::Lock {
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
    const int fd =
        ::open(path_.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
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
    // Whoever made it: before anything in it is acknowledged, its name and that of the file which
    // was here before must be durable.
    if (sync_ && info.st_size == 0 && !sync_folder_of(path_)) {
        return failed("can't sync the folder of", errno, ANNAL_UNAVAILABLE);
    }
    file_ = std::move(file);
    const Lock lock(file_.get(), start_deadline_us());
    return lock.held() ? repair_tail() : failed("can't lock", EWOULDBLOCK);
}

annal::Status LineFile::is_moved(bool& moved) const {
    struct stat held {};
    struct stat there {};
    if (::fstat(file_.get(), &held) != 0) {
        return failed("can't inspect", errno);
    }
    moved = ::stat(path_.c_str(), &there) != 0 || there.st_ino != held.st_ino ||
            there.st_dev != held.st_dev;
    return {};
}

annal::Status LineFile::lock(std::optional<Lock>& lock, std::int64_t deadline_us) {
    for (;;) {
        bool moved = false;
        if (annal::Status status = is_moved(moved); !status.ok()) {
            return status;
        }
        if (moved) {
            if (annal::Status status = open(); !status.ok()) {
                return status;
            }
        }
        lock.emplace(file_.get(), deadline_us);
        if (!lock->held()) {
            return failed("can't lock", EWOULDBLOCK);
        }
        // Somebody may have put it aside while this one waited.
        if (annal::Status status = is_moved(moved); !status.ok() || !moved) {
            return status;
        }
        lock.reset();
        if (monotonic_us() >= deadline_us) {
            return failed("can't keep up with who moves", EAGAIN);
        }
    }
}

annal::Status LineFile::repair_tail() {
    off_t keep = 0;
    if (!find_whole_size(file_.get(), keep)) {
        return failed("can't read", errno);
    }
    if (keep != ::lseek(file_.get(), 0, SEEK_END) && ::ftruncate(file_.get(), keep) != 0) {
        return failed("can't cut the torn last line off", errno);
    }
    return {};
}

std::vector<std::string> LineFile::put_aside() const {
    const auto [folder, name] = split(path_);
    const std::string prefix = name + ".";
    std::vector<std::string> out;
    const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), ::closedir);
    while (const dirent* entry = listing ? ::readdir(listing.get()) : nullptr) {
        const std::string found = entry->d_name;
        if (found.starts_with(prefix) && time_of(found.substr(prefix.size())) >= 0) {
            out.push_back(path_ + found.substr(name.size()));
        }
    }
    std::sort(out.begin(), out.end());
    return out;
}

bool LineFile::is_due(std::size_t more_bytes) const {
    struct stat info {};
    if (::fstat(file_.get(), &info) != 0 || info.st_size == 0) {
        return false;
    }
    const auto size_after = info.st_size + static_cast<std::int64_t>(more_bytes);
    if (rotation_.bytes > 0 && size_after > rotation_.bytes) {
        return true;
    }
    const std::int64_t span_s = rotation_.every_hours * 3'600;
    // The last append tells the span that the file belongs to, also after a restart.
    return span_s > 0 && wall_us() / 1'000'000 / span_s > info.st_mtim.tv_sec / span_s;
}

annal::Status LineFile::rotate() {
    std::vector<std::string> aside = put_aside();
    std::int64_t now_us = wall_us();
    if (!aside.empty()) {
        const std::string& newest = aside.back();
        now_us = std::max(now_us, time_of(newest.substr(newest.size() - kStampSize)) + 1);
    }
    aside.push_back(path_ + "." + stamp_of(now_us));
    if (::rename(path_.c_str(), aside.back().c_str()) != 0) {
        return failed("can't put aside", errno);
    }
    const auto keep = static_cast<std::size_t>(rotation_.keep_files);
    for (std::size_t i = 0; keep > 0 && i + keep < aside.size(); ++i) {
        (void)::unlink(aside[i].c_str());  // the next rotation tries again
    }
    return {};
}

annal::Status LineFile::last_seq(std::string_view project, std::int64_t& seq) {
    seq = -1;
    std::optional<Lock> held;
    if (annal::Status status = lock(held, start_deadline_us()); !status.ok()) {
        return status;
    }
    if (annal::Status status = repair_tail(); !status.ok()) {
        return status;
    }
    LastLine last(project);
    bool found = last.look_through(file_.get(), ::lseek(file_.get(), 0, SEEK_END));
    // Under the lock no file is put aside; one may be deleted, which holds nothing that is sought.
    const std::vector<std::string> aside = put_aside();
    std::size_t left = std::min(aside.size(), kSearchedFilesMax);
    for (auto name = aside.rbegin(); !found && !last.failed() && left > 0; ++name, --left) {
        const Descriptor file(::open(name->c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        off_t end = 0;
        if (!file.is_open() && errno == ENOENT) {
            continue;
        }
        if (!file.is_open() || !find_whole_size(file.get(), end)) {
            return {ANNAL_UNAVAILABLE, "can't read " + *name + ": " + std::strerror(errno)};
        }
        found = last.look_through(file.get(), end);
    }
    seq = last.seq();
    return last.failed() ? failed("can't read", EIO) : annal::Status();
}

annal::Status LineFile::append(std::string_view lines, std::int64_t deadline_us) {
    std::optional<Lock> held;
    for (bool due = true; due;) {
        if (annal::Status status = lock(held, deadline_us); !status.ok()) {
            return {ANNAL_UNAVAILABLE, status.text()};
        }
        if (annal::Status status = repair_tail(); !status.ok()) {
            return status;
        }
        due = is_due(lines.size());
        if (due) {
            if (annal::Status status = rotate(); !status.ok()) {
                return status;
            }
            held.reset();  // of the file that was put aside; the next round locks the new one
        }
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
