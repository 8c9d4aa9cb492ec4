#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runtime/core/clock.h"
#include "runtime/core/result.h"
#include "runtime/store/directory_lock.h"

namespace annal::sqlite {

using SegmentNumber = std::int64_t;

/// The data directory: where each file is, and the lock that keeps a second process out.
///
///     lock  control.db  keys/YYYY-MM.db  segments/YYYY-MM/NNNNNNNN.db
///     segments/YYYY-MM/NNNNNNNN.search
///
/// The lock is held for the life of the object. Thread-safe.
class Directory {
public:
    struct SegmentName {
        SegmentNumber number = 0;
        Month month;
    };

    /// Makes what is absent, with mode 0700. @error Errc::conflict  Another process holds it, named
    /// by its pid.
    [[nodiscard]] static Result<Directory> open(const std::filesystem::path& root);
    /// Where the files of a directory are, without holding or making anything.
    [[nodiscard]] static Directory look(const std::filesystem::path& root) { return {root, {}}; }

    [[nodiscard]] std::filesystem::path control() const { return root_ / "control.db"; }
    /// There in a copy on which no server has started yet.
    [[nodiscard]] std::filesystem::path copy_mark() const { return root_ / "copy"; }
    [[nodiscard]] std::filesystem::path keys(Month month) const;
    [[nodiscard]] std::filesystem::path month(Month month) const;
    [[nodiscard]] std::filesystem::path segment(SegmentNumber number, Month month) const;
    [[nodiscard]] std::filesystem::path search(SegmentNumber number, Month month) const;

    /// Segments present, ascending by number; files of other names are left alone.
    [[nodiscard]] Result<std::vector<SegmentName>> segments() const;
    [[nodiscard]] std::vector<Month> key_months() const;
    /// Makes the folder of a month, durably.
    [[nodiscard]] Result<void> make_month(Month month) const;
    /// Renames the folder of a dropped month out of the way, to be removed by `free_dropped`.
    [[nodiscard]] Result<void> drop_month(Month month) const;
    /// One step towards removing dropped months: frees a file, or kFreedAtOnce at the end of one
    /// that nobody has open or linked elsewhere. False: there is nothing that could be removed.
    [[nodiscard]] bool free_dropped() const;
    static constexpr std::int64_t kFreedAtOnce = 4 << 20;  ///< bytes

private:
    Directory(std::filesystem::path root, DirectoryLock lock)
        : root_(std::move(root)), lock_(std::move(lock)) {}

    std::filesystem::path root_;
    DirectoryLock lock_;
};

/// Removes a database and its -wal and -shm.
void remove_database(const std::filesystem::path& path);

}  // namespace annal::sqlite
