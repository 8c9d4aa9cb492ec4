#pragma once

#include <atomic>

namespace annal::test {

/// SQLite's file layer with faults, registered as the default one by `install_faulty_vfs`. Writes
/// and growth fail with SQLITE_FULL, syncs with SQLITE_IOERR_FSYNC, as long as the flag is set.
/// Both concern only files whose path contains `vfs_fail_only`.
void vfs_fail_only(const char* part);
extern std::atomic<bool> vfs_fail_writes;
extern std::atomic<bool> vfs_fail_syncs;
void install_faulty_vfs();

}  // namespace annal::test
