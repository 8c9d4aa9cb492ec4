#pragma once

#include <atomic>

namespace annal::test {

/// SQLite's file layer with faults, registered as the default one by `install_faulty_vfs`. Writes and growth fail with
/// SQLITE_FULL, syncs with SQLITE_IOERR_FSYNC, as long as the flag is set.
extern std::atomic<bool> vfs_fail_writes;
extern std::atomic<bool> vfs_fail_syncs;
void install_faulty_vfs();

}  // namespace annal::test
