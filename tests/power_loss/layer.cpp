// Preloaded under a program: the calls that change files below ANNAL_DISK_ROOT pass through here
// and are done as ever, and a Disk is told. README.md says what for.
//
// System calls are made directly, so that it does not matter which other layers (a sanitizer's,
// say) are in the process. Files are known by device and inode, so descriptors need not be
// followed.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <sstream>
#include <thread>

#include "tests/power_loss/disk.h"

namespace annal::test {
namespace {

namespace fs = std::filesystem;

constexpr int kPowerLossExit = 99;
constexpr int kLayerFailedExit = 98;

/// True while the layer itself works, in this thread: its own calls are not looked at.
thread_local bool inside = false;

[[noreturn]] void end(int code) {
    ::syscall(SYS_exit_group, code);
    __builtin_unreachable();
}

[[noreturn]] void refuse(const char* what) {
    dprintf(STDERR_FILENO, "simulated_disk: %s\n", what);
    end(kLayerFailedExit);
}

int error_number(const std::string& word) {
    static const std::map<std::string, int> numbers = {
        {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EROFS", EROFS}, {"EIO", EIO}};
    const auto found = numbers.find(word);
    return found == numbers.end() ? 0 : found->second;
}

class Layer {
public:
    Layer() : root_(need("ANNAL_DISK_ROOT")) {
        const char* const seed = std::getenv("ANNAL_DISK_SEED");
        random_.seed(seed == nullptr ? 1 : std::strtoull(seed, nullptr, 10));
        const char* const left = std::getenv("ANNAL_DISK_LOSE_AFTER");
        left_ = left == nullptr ? UINT64_MAX : std::strtoull(left, nullptr, 10);
        ignore_sync_ = std::getenv("ANNAL_DISK_IGNORE_SYNC") != nullptr;
        const char* const faults = std::getenv("ANNAL_DISK_FAULTS");
        faults_ = faults == nullptr ? "" : faults;
        load(root_, Disk::kRoot);
        disk_.sync_all();
    }

    std::mutex mutex;

    /// `path` relative to the root, when it lies below it.
    [[nodiscard]] std::optional<std::string> below(int folder, const char* path) const {
        std::string whole = path;
        if (!whole.starts_with('/')) {
            char base[4096];
            const std::string link =
                folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(folder);
            const auto size = ::syscall(SYS_readlink, link.c_str(), base, sizeof base);
            if (size <= 0) {
                return std::nullopt;
            }
            whole = std::string(base, static_cast<std::size_t>(size)) + "/" + whole;
        }
        if (!whole.starts_with(root_ + "/") && whole != root_) {
            return std::nullopt;
        }
        return whole == root_ ? std::string() : whole.substr(root_.size() + 1);
    }

    [[nodiscard]] std::optional<Disk::Node> of(int fd) const {
        struct stat info {};
        if (::syscall(SYS_fstat, fd, &info) != 0) {
            return std::nullopt;
        }
        const auto found = nodes_.find({info.st_dev, info.st_ino});
        return found == nodes_.end() ? std::nullopt : std::optional(found->second);
    }

    [[nodiscard]] const std::string& path_of(Disk::Node node) { return paths_[node]; }

    /// The error that this call shall fail with; 0: none. A slow disk takes its time here.
    [[nodiscard]] int fault(const char* call, const std::string& path) {
        if (faults_.empty()) {
            return 0;
        }
        std::ifstream in(faults_);
        std::string line;
        while (std::getline(in, line)) {
            std::istringstream words(line);
            std::string name, trouble, part;
            words >> name >> trouble >> part;
            unsigned percent = 0;
            if (!(words >> percent)) {
                percent = 100;
            }
            const bool concerned = name == call && path.find(part) != std::string::npos;
            if (!concerned || random_() % 100 >= percent) {
                continue;
            }
            if (const int error = error_number(trouble)) {
                return error;
            }
            const auto most_ms = std::strtoul(trouble.c_str(), nullptr, 10);
            std::this_thread::sleep_for(std::chrono::milliseconds(random_() % (most_ms + 1)));
        }
        return 0;
    }

    /// Something changes; perhaps it is the last that does.
    void tick() {
        if (left_-- == 0) {
            lose_power();
        }
    }

    void opened(int fd, const std::string& path, bool is_new) {
        if (is_new) {
            note(fd, disk_.create(*disk_.place_of(path), false), path);
        }
    }
    void made_folder(const std::string& path) {
        const auto node = disk_.create(*disk_.place_of(path), true);
        note((root_ + "/" + path).c_str(), node, path);
    }
    void write(Disk::Node node, std::uint64_t offset, const void* data, std::size_t size) {
        disk_.write(node, offset, {static_cast<const char*>(data), size});
    }
    void resize(Disk::Node node, std::uint64_t size) { disk_.resize(node, size); }
    void sync(Disk::Node node) {
        if (!ignore_sync_) {
            disk_.sync(node);
        }
    }
    void unlink(const std::string& path) { disk_.unlink(*disk_.place_of(path)); }
    void rename(const std::string& from, const std::string& to) {
        if (const auto node = disk_.find(from)) {
            paths_[*node] = to;
            disk_.rename(*disk_.place_of(from), *disk_.place_of(to));
        }
    }
    void link(const std::string& from, const std::string& to) {
        disk_.link(*disk_.place_of(to), *disk_.find(from));
    }

private:
    static std::string need(const char* variable) {
        const char* const value = std::getenv(variable);
        if (value == nullptr || value[0] != '/' || !fs::is_directory(value)) {
            refuse("ANNAL_DISK_ROOT must name an existing folder, from /");
        }
        return fs::path(value).lexically_normal().string();
    }

    void note(const struct stat& info, Disk::Node node, const std::string& path) {
        nodes_[{info.st_dev, info.st_ino}] = node;
        paths_[node] = path;
    }
    void note(int fd, Disk::Node node, const std::string& path) {
        struct stat info {};
        ::syscall(SYS_fstat, fd, &info);
        note(info, node, path);
    }
    void note(const char* file, Disk::Node node, const std::string& path) {
        struct stat info {};
        ::syscall(SYS_newfstatat, AT_FDCWD, file, &info, AT_SYMLINK_NOFOLLOW);
        note(info, node, path);
    }

    void load(const fs::path& folder, Disk::Node node) {
        note(folder.c_str(), node, fs::relative(folder, root_));
        for (const auto& entry : fs::directory_iterator(folder)) {
            const std::string path = fs::relative(entry.path(), root_);
            const Disk::Place place{node, entry.path().filename()};
            if (entry.is_directory()) {
                load(entry.path(), disk_.create(place, true));
            } else if (entry.is_regular_file()) {
                const auto file = disk_.create(place, false);
                std::ifstream in(entry.path(), std::ios::binary);
                const std::string bytes((std::istreambuf_iterator<char>(in)), {});
                disk_.write(file, 0, bytes);
                note(entry.path().c_str(), file, path);
            }
        }
    }

    /// Other threads go on reading what they always saw, and wait for the mutex to change anything:
    /// what is left lies beside the folder until exec has ended them.
    [[noreturn]] void lose_power() {
        const auto loss = disk_.lose_power(random_);
        const std::string remains = root_ + ".remains";
        fs::remove_all(remains);
        fs::create_directory(remains);
        disk_.write_out(remains);
        std::ofstream(root_ + ".loss") << loss.sectors << ' ' << loss.names << '\n';
        const std::string code = std::to_string(kPowerLossExit);
        const char* const arguments[] = {
            "sh",
            "-c",
            R"(/bin/rm -rf "$0" && /bin/mv "$0.remains" "$0" && exit "$1")",
            root_.c_str(),
            code.c_str(),
            nullptr};
        const char* const variables[] = {nullptr};
        ::syscall(SYS_execve, "/bin/sh", arguments, variables);
        refuse("/bin/sh cannot be run");
    }

    const std::string root_;
    std::string faults_;
    Disk disk_;
    Disk::Random random_;
    std::uint64_t left_ = UINT64_MAX;
    bool ignore_sync_ = false;
    std::map<std::pair<dev_t, ino_t>, Disk::Node> nodes_;
    std::map<Disk::Node, std::string> paths_;
};

Layer* layer = nullptr;  // lives as long as the process

__attribute__((constructor)) void start() {
    inside = true;
    layer = new Layer();
    inside = false;
}

/// The layer, locked, for one call. Empty when the call is the layer's own, or comes too early.
class Use {
public:
    Use() {
        if (layer != nullptr && !inside) {
            lock_ = std::unique_lock(layer->mutex);
            inside = true;
        }
    }
    ~Use() {
        if (lock_.owns_lock()) {
            inside = false;
        }
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    explicit operator bool() const { return lock_.owns_lock(); }

private:
    std::unique_lock<std::mutex> lock_;
};

long fail(int error) {
    errno = error;
    return -1;
}

bool exists(int folder, const char* path) {
    struct stat info {};
    const int before = errno;
    const bool there = ::syscall(SYS_newfstatat, folder, path, &info, AT_SYMLINK_NOFOLLOW) == 0;
    errno = before;
    return there;
}

int open_file(int folder, const char* path, int flags, mode_t mode) {
    const Use use;
    const auto name = use ? layer->below(folder, path) : std::nullopt;
    const bool changes = (flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR)) != 0;
    if (!name || !changes) {
        return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
    }
    if (const int error = layer->fault("open", *name)) {
        return static_cast<int>(fail(error));
    }
    const bool is_new = (flags & O_CREAT) != 0 && !exists(folder, path);
    if (is_new) {
        layer->tick();
    }
    const int fd = static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
    if (fd >= 0) {
        layer->opened(fd, *name, is_new);
        const auto node = layer->of(fd);
        if ((flags & O_TRUNC) != 0 && node) {
            layer->resize(*node, 0);
        }
    }
    return fd;
}

/// One call that writes: `call` makes it, at `offset` (or at the file's position).
template <class Call>
ssize_t write_file(int fd, const void* data, std::optional<off_t> offset, Call call) {
    const Use use;
    const auto node = use ? layer->of(fd) : std::nullopt;
    if (!node) {
        return call();
    }
    if (const int error = layer->fault("write", layer->path_of(*node))) {
        return fail(error);
    }
    layer->tick();
    const ssize_t written = call();
    if (written > 0) {
        const off_t begin =
            offset ? *offset : static_cast<off_t>(::syscall(SYS_lseek, fd, 0, SEEK_CUR)) - written;
        layer->write(
            *node, static_cast<std::uint64_t>(begin), data, static_cast<std::size_t>(written)
        );
    }
    return written;
}

int resize_file(int fd, off_t size) {
    const Use use;
    const auto node = use ? layer->of(fd) : std::nullopt;
    if (node) {
        if (const int error = layer->fault("write", layer->path_of(*node))) {
            return static_cast<int>(fail(error));
        }
        layer->tick();
    }
    const int code = static_cast<int>(::syscall(SYS_ftruncate, fd, size));
    if (node && code == 0) {
        layer->resize(*node, static_cast<std::uint64_t>(size));
    }
    return code;
}

int allocate(int fd, int mode, off_t offset, off_t size) {
    const Use use;
    const auto node = use ? layer->of(fd) : std::nullopt;
    if (node) {
        if (const int error = layer->fault("write", layer->path_of(*node))) {
            return static_cast<int>(fail(error));
        }
        layer->tick();
        struct stat info {};
        ::syscall(SYS_fstat, fd, &info);
        if (mode == 0 && offset + size > info.st_size) {
            layer->resize(*node, static_cast<std::uint64_t>(offset + size));
        }
    }
    return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, size));
}

// Whatever is reported as synced is in the model; the real disk need not be waited for.
int sync_file(int fd) {
    const Use use;
    const auto node = use ? layer->of(fd) : std::nullopt;
    if (!node) {
        return static_cast<int>(::syscall(SYS_fsync, fd));
    }
    if (const int error = layer->fault("sync", layer->path_of(*node))) {
        return static_cast<int>(fail(error));
    }
    layer->tick();
    layer->sync(*node);
    return 0;
}

/// A call that changes one name: `call` makes it, `told` tells the disk.
template <class Call, class Told>
int change_name(const char* kind, int folder, const char* path, Call call, Told told) {
    const Use use;
    const auto name = use ? layer->below(folder, path) : std::nullopt;
    if (!name) {
        return static_cast<int>(call());
    }
    if (const int error = layer->fault(kind, *name)) {
        return static_cast<int>(fail(error));
    }
    layer->tick();
    const int code = static_cast<int>(call());
    if (code == 0) {
        told(*name);
    }
    return code;
}

int unlink_at(int folder, const char* path, int flags) {
    return change_name(
        "unlink",
        folder,
        path,
        [&] { return ::syscall(SYS_unlinkat, folder, path, flags); },
        [](const std::string& name) { layer->unlink(name); }
    );
}

int make_folder_at(int folder, const char* path, mode_t mode) {
    return change_name(
        "mkdir",
        folder,
        path,
        [&] { return ::syscall(SYS_mkdirat, folder, path, mode); },
        [](const std::string& name) { layer->made_folder(name); }
    );
}

int rename_at(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
    if ((flags & RENAME_EXCHANGE) != 0) {
        refuse("renameat2 with RENAME_EXCHANGE is not known here");
    }
    return change_name(
        "rename",
        to_folder,
        to,
        [&] { return ::syscall(SYS_renameat2, from_folder, from, to_folder, to, flags); },
        [&](const std::string& name) {
            const auto old = layer->below(from_folder, from);
            if (!old) {
                refuse("a file was renamed into the folder from outside");
            }
            layer->rename(*old, name);
        }
    );
}

int link_at(int from_folder, const char* from, int to_folder, const char* to, int flags) {
    return change_name(
        "link",
        to_folder,
        to,
        [&] { return ::syscall(SYS_linkat, from_folder, from, to_folder, to, flags); },
        [&](const std::string& name) {
            const auto old = layer->below(from_folder, from);
            if (!old) {
                refuse("a file was linked into the folder from outside");
            }
            layer->link(*old, name);
        }
    );
}

template <class... Rest>
long bulk_copy(long number, int to, Rest... rest) {
    const Use use;
    if (use && layer->of(to)) {
        refuse("sendfile and copy_file_range are not known here");
    }
    return ::syscall(number, rest...);
}

}  // namespace
}  // namespace annal::test

using namespace annal::test;

#define ANNAL_MODE_OF(flags)                      \
    mode_t mode = 0;                              \
    if (((flags) & (O_CREAT | O_TMPFILE)) != 0) { \
        va_list arguments;                        \
        va_start(arguments, flags);               \
        mode = va_arg(arguments, mode_t);         \
        va_end(arguments);                        \
    }

#pragma GCC visibility push(default)
extern "C" {

int open(const char* path, int flags, ...) {
    ANNAL_MODE_OF(flags)
    return open_file(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
    ANNAL_MODE_OF(flags)
    return open_file(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
    ANNAL_MODE_OF(flags)
    return open_file(folder, path, flags, mode);
}
int openat64(int folder, const char* path, int flags, ...) {
    ANNAL_MODE_OF(flags)
    return open_file(folder, path, flags, mode);
}
int creat(const char* path, mode_t mode) {
    return open_file(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

ssize_t write(int fd, const void* data, size_t size) {
    return write_file(fd, data, std::nullopt, [&] { return ::syscall(SYS_write, fd, data, size); });
}
ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
    return write_file(fd, data, offset, [&] {
        return ::syscall(SYS_pwrite64, fd, data, size, offset);
    });
}
ssize_t pwrite64(int fd, const void* data, size_t size, off_t offset) {
    return pwrite(fd, data, size, offset);
}
ssize_t writev(int fd, const iovec* parts, int count) {
    std::string whole;
    for (int i = 0; i < count; ++i) {
        whole.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
    }
    return write_file(fd, whole.data(), std::nullopt, [&] {
        return ::syscall(SYS_writev, fd, parts, count);
    });
}
int ftruncate(int fd, off_t size) noexcept {
    return resize_file(fd, size);
}
int ftruncate64(int fd, off_t size) noexcept {
    return resize_file(fd, size);
}
int truncate(const char* path, off_t size) noexcept {
    const int fd = open_file(AT_FDCWD, path, O_WRONLY, 0);
    const int code = fd < 0 ? -1 : resize_file(fd, size);
    if (fd >= 0) {
        ::syscall(SYS_close, fd);
    }
    return code;
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
    return allocate(fd, mode, offset, size);
}
int posix_fallocate(int fd, off_t offset, off_t size) {
    return allocate(fd, 0, offset, size) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off_t offset, off_t size) {
    return posix_fallocate(fd, offset, size);
}
int fsync(int fd) {
    return sync_file(fd);
}
int fdatasync(int fd) {
    return sync_file(fd);
}

int unlink(const char* path) noexcept {
    return unlink_at(AT_FDCWD, path, 0);
}
int unlinkat(int folder, const char* path, int flags) noexcept {
    return unlink_at(folder, path, flags);
}
int rmdir(const char* path) noexcept {
    return unlink_at(AT_FDCWD, path, AT_REMOVEDIR);
}
int remove(const char* path) noexcept {
    const int code = unlink_at(AT_FDCWD, path, 0);
    return code != 0 && errno == EISDIR ? unlink_at(AT_FDCWD, path, AT_REMOVEDIR) : code;
}
int mkdir(const char* path, mode_t mode) noexcept {
    return make_folder_at(AT_FDCWD, path, mode);
}
int mkdirat(int folder, const char* path, mode_t mode) noexcept {
    return make_folder_at(folder, path, mode);
}
int rename(const char* from, const char* to) noexcept {
    return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
    return rename_at(from_folder, from, to_folder, to, 0);
}
int renameat2(
    int from_folder, const char* from, int to_folder, const char* to, unsigned flags
) noexcept {
    return rename_at(from_folder, from, to_folder, to, flags);
}
int link(const char* from, const char* to) noexcept {
    return link_at(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) noexcept {
    return link_at(from_folder, from, to_folder, to, flags);
}

ssize_t sendfile(int to, int from, off_t* offset, size_t size) noexcept {
    return bulk_copy(SYS_sendfile, to, to, from, offset, size);
}
ssize_t copy_file_range(int from, off_t* from_at, int to, off_t* to_at, size_t size, unsigned f) {
    return bulk_copy(SYS_copy_file_range, to, from, from_at, to, to_at, size, f);
}

}  // extern "C"
#pragma GCC visibility pop
