#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/core/result.h"

namespace annal::cli {

/// What is exported: only the same export can go on.
struct ExportWish {
    std::string project, format, query;
    friend bool operator==(const ExportWish&, const ExportWish&) = default;
};

/// How far an export has come: everything up to here is in the file, whole.
struct ExportPosition {
    std::string cursor;       ///< to go on with; empty: nothing has been kept yet
    std::uint64_t bytes = 0;  ///< of the file
    std::uint64_t rows = 0;
    std::uint64_t total = 0;  ///< rows that the export will have in the end; 0: not known
};

/// A file that gets its name only when it is whole. Until then there are PATH.partial and, once a
/// position was kept, PATH.partial.state, from which a later process can go on.
///
/// Threads: one. One process writes a file at a time.
class ExportFile {
public:
    enum class Mode {
        fresh,     ///< refuse when an interrupted export could be gone on with
        resume,    ///< go on where one stopped; begin when there is none
        overwrite  ///< begin, whatever is there
    };
    /// @error Errc::invalid      `fresh`, and there is an interrupted export; or `resume`, and it
    /// is one of something else.
    /// @error Errc::conflict     Another process is writing it.
    /// @error Errc::unavailable  The file can't be written, or what was left of it is damaged.
    [[nodiscard]] static Result<ExportFile> open(
        const std::filesystem::path& path, const ExportWish& wish, Mode mode
    );
    ExportFile(ExportFile&&) noexcept = default;
    ExportFile& operator=(ExportFile&&) noexcept = default;

    /// What was kept last.
    [[nodiscard]] const ExportPosition& position() const { return position_; }
    [[nodiscard]] std::filesystem::path partial() const;

    [[nodiscard]] Result<void> write(std::string_view bytes);
    /// Everything written so far is whole; `position.bytes` is filled in here. Durable when it
    /// returns.
    [[nodiscard]] Result<void> keep(ExportPosition position);
    /// Forgets what was written since the last `keep`.
    [[nodiscard]] Result<void> go_back();
    /// Gives the file its name, and removes the state.
    [[nodiscard]] Result<void> finish();

private:
    ExportFile(std::filesystem::path path, ExportWish wish)
        : path_(std::move(path)), wish_(std::move(wish)) {}
    [[nodiscard]] std::filesystem::path state() const;
    Result<void> take();
    Result<bool> read_state();
    Result<void> write_state() const;

    struct Close {
        void operator()(const int* fd) const;
    };
    std::filesystem::path path_;
    ExportWish wish_;
    ExportPosition position_;
    std::unique_ptr<int, Close> fd_;  ///< holds the lock, too
    std::uint64_t written_ = 0;
};

}  // namespace annal::cli
