#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/store/sqlite/catalog.h"
#include "runtime/store/sqlite/connection.h"
#include "runtime/store/sqlite/redo.h"

namespace annal::sqlite {

enum class SegmentState : std::int64_t { closed = 0, settled = 1, indexed = 2 };

/// control.db for writing. Its commits are not synced: what they hold can be replayed from the
/// segments until `harden`.
///
/// Threads: the writer's only.
class Control {
public:
    [[nodiscard]] static Result<Control> open(const Directory& directory);

    /// For reading what somebody else writes.
    [[nodiscard]] static Control over(Connection db) { return Control(std::move(db)); }

    [[nodiscard]] Result<std::optional<std::string>> kv(
        std::string_view space, std::string_view project, std::string_view key
    );
    [[nodiscard]] Result<std::int64_t> applied(SegmentNumber segment);
    /// Redo record `n` of `segment`, once.
    [[nodiscard]] Result<void> apply(
        SegmentNumber segment, std::int64_t n, const ControlChanges& changes
    );

    [[nodiscard]] Result<void> record_closed(
        const Segment& segment, const std::vector<std::pair<std::string, Span>>& spans
    );
    /// Durable on return, with all that was applied before.
    [[nodiscard]] Result<void> set_state(SegmentNumber segment, SegmentState state);
    [[nodiscard]] Result<void> harden();
    /// How often it was hardened: rises with every start.
    [[nodiscard]] Result<std::int64_t> generation();
    [[nodiscard]] Result<void> erasures_done(SegmentNumber segment, const Segment::Keys& done);
    /// The logs go on from where they are without the month. Durable on return.
    [[nodiscard]] Result<void> record_drop(
        Month month,
        const std::vector<SegmentNumber>& segments,
        const std::vector<std::pair<std::string, LogView>>& logs
    );

    /// The log begins with `log.first_seq`. Durable on return.
    [[nodiscard]] Result<void> record_floor(const std::string& project, const LogView& log);

    /// Events are never stamped before this month. Durable on return.
    [[nodiscard]] Result<void> set_floor(Month month);
    [[nodiscard]] Result<std::optional<Month>> floor();
    [[nodiscard]] Result<std::optional<Month>> dropped_through();
    /// Keeps numbers from being used twice.
    [[nodiscard]] Result<SegmentNumber> last_segment();

    /// The segment that takes the appends, so that its loss is noticed.
    struct Newest {
        SegmentNumber number = 0;
        Month month;
    };
    [[nodiscard]] Result<void> set_newest(const Newest& newest);
    [[nodiscard]] Result<std::optional<Newest>> newest();

    struct Closed {
        SegmentNumber number = 0;
        Month month;
        std::int64_t events = 0;
        SegmentState state = SegmentState::closed;
    };
    [[nodiscard]] Result<std::vector<Closed>> closed_segments();
    [[nodiscard]] Result<std::vector<std::pair<std::string, Span>>> spans(SegmentNumber segment);
    [[nodiscard]] Result<std::vector<ControlChanges::Erasure>> erasures();
    struct Floor {
        std::string project;
        Seq first_seq = 0;
        LogHead head;
    };
    [[nodiscard]] Result<std::vector<Floor>> floors();
    /// How many copies of copies this directory is.
    [[nodiscard]] Result<std::int64_t> copies();
    [[nodiscard]] Connection& connection() { return db_; }

private:
    explicit Control(Connection db) : db_(std::move(db)) {}
    template <class Work>
    Result<void> durable(Work work);
    Result<void> note_copy(const std::filesystem::path& mark);
    Result<void> apply_kv(const KvOp& op);
    Result<void> apply_erasure(const ControlChanges::Erasure& erasure);
    Result<void> set_log(const std::string& project, const LogView& log);
    Result<void> set_meta(std::string_view name, std::int64_t value);
    Result<std::optional<std::int64_t>> meta(std::string_view name);

    Connection db_;
};

// Reads, on any connection to control.db.
[[nodiscard]] Result<std::optional<std::string>> read_kv(
    Connection& db, std::string_view space, std::string_view project, std::string_view key
);
[[nodiscard]] Result<std::vector<KvRow>> scan_kv(
    Connection& db,
    std::string_view space,
    const std::string& project,
    std::string_view prefix,
    std::string_view after,
    std::uint32_t limit,
    KvOrder order = KvOrder::ascending
);
/// @param name  Made by `cursor_row`.
[[nodiscard]] Result<Seq> read_cursor(Connection& db, std::string_view name);
/// The name that a subscription of `project` has in control.db. One that ends in its project, as
/// those of streams do, stands alone; any other follows its project. So two projects never share a
/// row, since no project's id has a dot.
[[nodiscard]] std::string cursor_row(const std::string& project, const std::string& subscription);

}  // namespace annal::sqlite
