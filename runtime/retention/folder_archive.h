#pragma once

#include <filesystem>

#include "runtime/retention/archive.h"

namespace boost::asio {
class thread_pool;
}

namespace annal {

/// Files of canonical JSON, a line for each event: FOLDER/PROJECT/FIRST-LAST.jsonl, with
/// FOLDER/PROJECT/FIRST-LAST.jsonl.sha256 beside it as sha256sum writes it. A file of the same name
/// is replaced, by the same bytes unless events were erased meanwhile.
///
/// Threads: those of `sink_pool` for what blocks.
class FolderArchive final : public Archive {
public:
    FolderArchive(
        EventStore& store,
        std::filesystem::path folder,
        boost::asio::thread_pool& sink_pool,
        std::function<bool()> is_over
    )
        : store_(store),
          folder_(std::move(folder)),
          sink_pool_(sink_pool),
          is_over_(std::move(is_over)) {}

    [[nodiscard]] Task<Result<boost::json::object>> keep(ArchiveRange range) override;

private:
    /// May block.
    [[nodiscard]] Task<Result<boost::json::object>> write(ArchiveRange range);

    EventStore& store_;
    const std::filesystem::path folder_;
    boost::asio::thread_pool& sink_pool_;
    const std::function<bool()> is_over_;
};

}  // namespace annal
