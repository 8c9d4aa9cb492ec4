#include "tests/contract/faulty_vfs.h"

#include <sqlite3.h>

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace annal::test {

std::atomic<bool> vfs_fail_writes{false};
std::atomic<bool> vfs_fail_syncs{false};

namespace {

sqlite3_vfs* inner = nullptr;
sqlite3_vfs outer;

// A file's methods are the inner ones but for two; each distinct table of them is copied once.
struct Methods {
    sqlite3_io_methods changed;
    const sqlite3_io_methods* original;
};
std::mutex mutex;
std::map<const sqlite3_io_methods*, std::unique_ptr<Methods>> tables;

std::map<sqlite3_file*, std::string> names;
std::string only;

bool is_meant(sqlite3_file* file) {
    const std::lock_guard lock(mutex);
    return names[file].find(only) != std::string::npos;
}

const sqlite3_io_methods* original(sqlite3_file* file) {
    return reinterpret_cast<const Methods*>(file->pMethods)->original;
}

int fail_write(sqlite3_file* file, const void* data, int size, sqlite3_int64 offset) {
    return vfs_fail_writes && is_meant(file) ? SQLITE_FULL
                                             : original(file)->xWrite(file, data, size, offset);
}

int fail_sync(sqlite3_file* file, int flags) {
    return vfs_fail_syncs && is_meant(file) ? SQLITE_IOERR_FSYNC
                                            : original(file)->xSync(file, flags);
}

int open(sqlite3_vfs* /*vfs*/, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    const int code = inner->xOpen(inner, name, file, flags, out_flags);
    if (code != SQLITE_OK || file->pMethods == nullptr) {
        return code;
    }
    const std::lock_guard lock(mutex);
    names[file] = name == nullptr ? "" : name;
    auto& methods = tables[file->pMethods];
    if (methods == nullptr) {
        methods = std::make_unique<Methods>(Methods{*file->pMethods, file->pMethods});
        methods->changed.xWrite = fail_write;
        methods->changed.xSync = fail_sync;
    }
    file->pMethods = &methods->changed;
    return SQLITE_OK;
}

}  // namespace

void vfs_fail_only(const char* part) {
    const std::lock_guard lock(mutex);
    only = part;
}

void install_faulty_vfs() {
    if (inner != nullptr) {
        return;
    }
    inner = sqlite3_vfs_find(nullptr);
    std::memcpy(&outer, inner, sizeof outer);
    outer.zName = "faulty";
    outer.pNext = nullptr;
    outer.xOpen = open;
    sqlite3_vfs_register(&outer, 1);
}

}  // namespace annal::test
