#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/store/sqlite/postings.h"

namespace annal::sqlite {

/// The texts that `Filter::text` is about, of all events of a segment that has no search sidecar
/// yet, in lower case and one after the other: reading them through takes a tenth of the time that
/// the rows would.
///
/// What it finds is to be checked: an event may have been erased since. Beyond `kBytesMax` it gives
/// its memory back and finds nothing any more.
///
/// Threads: one writer, many readers. The writer waits for at most one chunk's search.
class TextLog {
public:
    static constexpr std::size_t kChunkBytes = std::size_t{256} << 10;
    static constexpr std::size_t kBytesMax = std::size_t{64} << 20;

    void add(std::span<const Postings::Entry> entries);

    /// Takes the texts of the columns named beside these events out of theirs.
    void scrub(const std::map<std::int64_t, std::uint32_t>& columns_of_keys);

    /// Events whose texts contain `needle`, ASCII letters in either case. nullopt: it has given up.
    [[nodiscard]] std::optional<SeqList> find(
        ProjectNumber pid, std::string_view needle, SeqRange range, std::size_t limit
    ) const;

private:
    struct Line {
        std::int64_t key;
        std::uint32_t end;  ///< of its text in the chunk
    };
    /// Changes only while it is the last one.
    struct Chunk {
        std::string text;
        std::vector<Line> lines;
        std::int64_t lowest_key = INT64_MAX, highest_key = INT64_MIN;
    };

    void add_line(const Postings::Entry& entry);
    static void blank(Chunk& chunk, std::size_t begin, std::uint32_t columns);
    static void search(
        const Chunk& chunk,
        std::string_view needle,
        std::int64_t first_key,
        std::int64_t last_key,
        std::vector<Seq>& found
    );

    mutable std::shared_mutex mutex_;
    std::vector<std::shared_ptr<Chunk>> chunks_;
    std::size_t bytes_ = 0;
    bool given_up_ = false;
};

}  // namespace annal::sqlite
