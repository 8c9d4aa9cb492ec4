#include "runtime/store/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "runtime/core/fatal.h"

namespace annal {
namespace fs = std::filesystem;
namespace {

Error failure(const fs::path& path, std::string_view what, int error) {
    return {
        Errc::unavailable,
        path.string() + " can't be " + std::string(what) + ": " + std::strerror(error) +
            "; check the path, its owner and the free space"};
}

/// Makes a folder and those above it, and their names durable: also of one that is there, which a
/// start before this one may have made without getting that far.
Result<void> make_durable(const fs::path& folder) {
    const fs::path parent = folder.has_parent_path() ? folder.parent_path() : ".";
    std::error_code error;
    const bool is_new = !fs::exists(folder, error);
    if (is_new && folder.has_parent_path() && !fs::exists(parent, error)) {
        BOOST_OUTCOME_TRY(make_durable(parent));
    }
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
        return failure(folder, "made", errno);
    }
    // A folder above the data directory may be closed to this user; then somebody else has made
    // what is in it.
    const bool readable = ::access(parent.c_str(), R_OK) == 0;
    return is_new || readable ? sync_folder(parent) : ok();
}

std::string holder_of(int lock) {
    char text[32] = {};
    const ssize_t size = ::pread(lock, text, sizeof text - 1, 0);
    std::string pid(text, size > 0 ? static_cast<std::size_t>(size) : 0);
    pid.erase(std::find(pid.begin(), pid.end(), '\n'), pid.end());
    return pid.empty() ? "unknown" : pid;
}

}  // namespace

Result<DirectoryLock> DirectoryLock::take(const fs::path& directory) {
    BOOST_OUTCOME_TRY(make_durable(fs::absolute(directory).lexically_normal()));
    BOOST_OUTCOME_TRY(make_private(directory));
    const fs::path path = directory / "lock";
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
        return failure(path, "opened", errno);
    }
    DirectoryLock lock(file);
    if (::flock(file, LOCK_EX | LOCK_NB) != 0) {
        return Error{
            Errc::conflict,
            directory.string() + " is in use by the process with pid " + holder_of(file) +
                "; stop it, or choose another data directory"};
    }
    const std::string pid = std::to_string(::getpid()) + "\n";
    if (::ftruncate(file, 0) != 0 ||
        ::pwrite(file, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
        return failure(path, "written", errno);
    }
    return lock;
}

DirectoryLock::DirectoryLock(DirectoryLock&& other) noexcept
    : file_(std::exchange(other.file_, -1)) {}

DirectoryLock& DirectoryLock::operator=(DirectoryLock&& other) noexcept {
    std::swap(file_, other.file_);
    return *this;
}

DirectoryLock::~DirectoryLock() {
    if (file_ >= 0) ::close(file_);
}

Result<void> make_private(const fs::path& folder) {
    std::error_code error;
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
        return failure(folder, "made", errno);
    }
    if (!fs::is_directory(folder, error)) {
        return failure(folder, "used as a directory", ENOTDIR);
    }
    return ok();
}

Result<void> sync_folder(const fs::path& folder) {
    const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0) {
        return failure(folder, "opened", errno);
    }
    if (::fsync(file) != 0) {
        fatal("store.fsync_failed", folder.string() + ": " + std::strerror(errno));
    }
    ::close(file);
    return ok();
}

}  // namespace annal
