#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/limits.h"
#include "runtime/event/event.h"
#include "runtime/store/event_store.h"

namespace annal::sqlite {

/// A project within a segment; small.
using ProjectNumber = std::int64_t;
inline constexpr int kSeqBits = 40;
static_assert(kSeqMax == (Seq{1} << kSeqBits) - 1);
/// The key of an event's row: project first, then seq.
[[nodiscard]] constexpr std::int64_t row_key(ProjectNumber pid, Seq seq) {
    return (pid << kSeqBits) | seq;
}
[[nodiscard]] constexpr Seq seq_of(std::int64_t key) {
    return key & kSeqMax;
}
[[nodiscard]] constexpr ProjectNumber pid_of(std::int64_t key) {
    return key >> kSeqBits;
}

/// Columns that have an index: the first ones, up to ip.
inline constexpr std::size_t kIndexedColumns = static_cast<std::size_t>(Column::ip) + 1;

/// Seqs of one project, both ends included, in the order they are wanted.
struct SeqRange {
    Seq first = 0, last = -1;
    bool newest_first = true;
    [[nodiscard]] bool empty() const { return first > last; }
};

/// The next candidates of a range. `complete`: there are no more in it.
struct SeqList {
    std::vector<Seq> seqs;
    bool complete = true;
};

/// The indexes of a segment that has none on disk yet: for each column, chains from an event to the
/// one before it with the same value. What it finds may hold strangers (values of equal hash):
/// check the event. Erased events are not found.
///
/// Threads: one writer, many readers. A reader holds the lock for one chain, the writer for one
/// commit. Limits:  about 120 bytes an event besides its distinct values.
class Postings {
public:
    /// Makes room for `expected` events, so that no commit waits for what is there to be moved.
    explicit Postings(std::size_t expected = 0);

    struct Entry {
        std::int64_t key = 0;
        TimeUs created_at = 0;
        std::span<const Text> columns;  ///< all kColumns of them; only the indexed ones are read
    };
    void add(std::span<const Entry> entries);
    void add_tombstone(std::int64_t key, TimeUs created_at);
    void erase(std::int64_t key);
    /// From now on these events are not found by the columns named beside them.
    void scrub(const std::map<std::int64_t, std::uint32_t>& columns_of_keys);

    /// Events with this value in the whole segment.
    [[nodiscard]] std::uint64_t estimate(ProjectNumber pid, Column column, std::string_view value)
        const;
    [[nodiscard]] SeqList find(
        ProjectNumber pid, Column column, std::string_view value, SeqRange range, std::size_t limit
    ) const;

    /// Actions that begin with `prefix`. nullopt: more than `limit`.
    [[nodiscard]] std::optional<std::vector<std::string>> actions(
        ProjectNumber pid, std::string_view prefix, std::size_t limit
    ) const;
    /// Exact, tombstones left out.
    void count_actions(
        ProjectNumber pid,
        TimeUs since,
        Seq first,
        Seq last,
        std::map<std::string, ActionCount>& into
    ) const;
    /// How many events of each action were created in each hour since 1970, in no order and perhaps
    /// in several parts; tombstones left out.
    void count_hours(
        ProjectNumber pid,
        Seq first,
        Seq last,
        const std::function<void(std::int64_t hour, std::string_view action, std::int64_t count)>&
            take
    ) const;
    [[nodiscard]] std::vector<Seq> tombstones(ProjectNumber pid, Seq first, Seq last) const;

private:
    using Ordinal = std::uint32_t;  ///< position of an event in the segment
    static constexpr Ordinal kNone = UINT32_MAX;
    struct Chain {
        std::uint64_t hash = 0;
        Ordinal newest = kNone;
        std::uint32_t count = 0;
    };
    /// Open addressing; a slot without events is free.
    class Chains {
    public:
        /// Grows when `fill` of 1024 slots are taken.
        void set_fill(std::size_t fill) { fill_ = fill; }
        Chain& at(std::uint64_t hash);
        [[nodiscard]] const Chain* find(std::uint64_t hash) const;

    private:
        void grow();
        std::vector<Chain> slots_;
        std::size_t used_ = 0, fill_ = 512;
    };
    struct ActionKey {
        ProjectNumber pid;
        std::string action;
    };
    struct ActionLess {
        using is_transparent = void;
        template <class A, class B>
        bool operator()(const A& a, const B& b) const {
            return a.pid != b.pid ? a.pid < b.pid
                                  : std::string_view(a.action) < std::string_view(b.action);
        }
    };
    struct ActionView {
        ProjectNumber pid;
        std::string_view action;
    };

    [[nodiscard]] std::uint64_t hash(ProjectNumber pid, std::string_view value) const;
    Ordinal add_ordinal(std::int64_t key, TimeUs created_at);
    [[nodiscard]] const Chain* chain(ProjectNumber pid, Column column, std::string_view value)
        const;
    [[nodiscard]] Ordinal ordinal_of(std::int64_t key) const;

    const std::uint64_t seed_;
    mutable std::shared_mutex mutex_;
    std::vector<std::int64_t> keys_;
    std::vector<TimeUs> created_at_;
    std::array<std::vector<Ordinal>, kIndexedColumns> previous_;
    std::array<Chains, kIndexedColumns> chains_;  // the action's is unused
    std::map<ActionKey, Chain, ActionLess> actions_;
    std::map<std::int64_t, Ordinal> erased_;  // key → ordinal (kNone: came as a tombstone)
    std::set<Ordinal> erased_ordinals_;
    std::map<Ordinal, std::uint32_t> scrubbed_;  // columns
};

}  // namespace annal::sqlite
