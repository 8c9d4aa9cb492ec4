#pragma once

#include <filesystem>

#include "runtime/core/result.h"

namespace annal {

/// A data directory that this process alone uses for as long as this lives: by a lock on its file
/// `lock`, which a process that ends loses however it ends.
class DirectoryLock {
public:
    /// Makes the directory when it is absent, durably and with mode 0700.
    /// @error Errc::conflict     Another process holds it, named by its pid.
    /// @error Errc::unavailable  It can't be made, or its lock not be written.
    [[nodiscard]] static Result<DirectoryLock> take(const std::filesystem::path& directory);
    /// Holds nothing.
    DirectoryLock() = default;
    DirectoryLock(DirectoryLock&& other) noexcept;
    DirectoryLock& operator=(DirectoryLock&& other) noexcept;
    ~DirectoryLock();

private:
    explicit DirectoryLock(int file) : file_(file) {}
    int file_ = -1;
};

/// Makes a folder of mode 0700 that may be there already.
[[nodiscard]] Result<void> make_private(const std::filesystem::path& folder);
/// Makes new names in `folder` durable; a failing fsync ends the process. @error Errc::unavailable
/// It can't be opened.
[[nodiscard]] Result<void> sync_folder(const std::filesystem::path& folder);

}  // namespace annal
