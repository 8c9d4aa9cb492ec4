#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/event/seal.h"
#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/connection.h"

namespace annal::sqlite {

/// `forgotten` is no target: its record says up to where others were taken away.
enum class RedoTarget : std::int64_t { control = 0, keys = 1, forgotten = 2 };

/// A segment's file for writing: by the writer as long as it is the newest, by the keeper from then
/// on.
///
/// Threads: one at a time.
class SegmentFile {
public:
    /// Makes it when absent.
    [[nodiscard]] static Result<SegmentFile> open(const Segment& segment);

    // One commit of the writer. Whatever fails, roll back.
    [[nodiscard]] Result<void> begin() { return db_.begin(); }
    [[nodiscard]] Result<void> commit() { return db_.commit(); }
    void rollback() { db_.rollback(); }
    [[nodiscard]] Result<void> add_project(
        ProjectNumber pid, std::string_view project, Seq first_seq
    );
    [[nodiscard]] Result<void> add_event(
        ProjectNumber pid, const SealedEvent& sealed, const EventDraft& draft
    );
    [[nodiscard]] Result<void> add_batch(ProjectNumber pid, const SealedBatch& batch);
    [[nodiscard]] Result<void> add_redo(std::int64_t n, RedoTarget target, std::string_view body);
    /// Takes the content of one row away. False: it was a tombstone already.
    [[nodiscard]] Result<bool> erase(std::int64_t key);
    /// Takes the salt and these columns out of a row that is no tombstone.
    [[nodiscard]] Result<void> scrub(std::int64_t key, std::uint32_t columns);
    [[nodiscard]] Result<void> clear_redo();
    /// Up to where redo records were taken away; 0: they are all there.
    [[nodiscard]] Result<std::int64_t> forgotten_redo();

    /// Whether the row is there and has its content.
    [[nodiscard]] Result<bool> is_live(std::int64_t key);
    /// Redo records beyond `after`, in order.
    [[nodiscard]] Result<void> read_redo(
        RedoTarget target,
        std::int64_t after,
        const std::function<Result<void>(std::int64_t n, std::string_view body)>& take
    );
    [[nodiscard]] Result<std::int64_t> last_redo();

    [[nodiscard]] Result<bool> is_indexed();
    /// Indexes and rollup; forgets the redo. What was cut off goes on where it was; only when all
    /// is there is the segment indexed.
    [[nodiscard]] Result<void> seal();
    /// `erase` in a sealed segment or one that waits for it, with the rollup.
    [[nodiscard]] Result<void> erase_closed(const Segment::Keys& keys);
    /// Takes the content of the next events of `pid` below `end` away, in one commit, with the
    /// rollup; their leaves stay. 0: there are none. For sealed segments.
    [[nodiscard]] Result<std::int64_t> purge(ProjectNumber pid, Seq end);
    /// Gives back the space of what was taken away, where that is worth it.
    [[nodiscard]] Result<void> shrink();
    /// The projects that have events here, by number.
    [[nodiscard]] Result<std::map<ProjectNumber, std::string>> projects();
    /// Moves the write-ahead log into the file and empties it. False: it was read from for too
    /// long; nothing is wrong with that but its size, and that erased text is still in it.
    [[nodiscard]] Result<bool> empty_log();

    /// What it holds, from its own tables. Tombstones are counted only when asked for: that reads
    /// every row.
    [[nodiscard]] Result<std::vector<std::pair<std::string, Span>>> spans(bool count_tombstones);
    [[nodiscard]] Result<void> load(Postings& postings, TextLog& texts);

    [[nodiscard]] Connection& connection() { return db_; }

private:
    explicit SegmentFile(Connection db) : db_(std::move(db)) {}
    /// Where each project's log ends in this segment.
    Result<std::map<ProjectNumber, LogHead>> last_batches();
    Result<void> erase_closed(std::int64_t key, bool indexed);
    Result<void> lower_rollup(std::int64_t key, std::string_view action, TimeUs created_at);

    Connection db_;
};

/// Builds the search sidecar of a segment in `to`, durably. @error Errc::cancelled  `stop` said so.
[[nodiscard]] Result<void> build_search(
    const Segment& segment, const std::filesystem::path& to, const std::function<bool()>& stop
);

}  // namespace annal::sqlite
