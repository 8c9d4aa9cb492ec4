#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>

#include "runtime/store/sqlite/directory.h"
#include "runtime/store/sqlite/postings.h"
#include "runtime/store/sqlite/text_log.h"

namespace annal::sqlite {

/// What all threads know about one segment.
///
/// Threads: any. The writer appends to the newest; the keeper seals the others and erases in them.
class Segment {
public:
    Segment(SegmentNumber n, Month m, std::filesystem::path file, std::filesystem::path sidecar)
        : number(n), month(m), path(std::move(file)), search_path(std::move(sidecar)) {}

    const SegmentNumber number;
    const Month month;
    const std::filesystem::path path, search_path;

    std::mutex upkeep;  ///< held by who writes to the file when it takes no more events

    std::atomic<std::int64_t> events{0};
    std::atomic<bool> indexed{false};     ///< it is sealed: 0004_seal_segment.sql has run
    std::atomic<bool> searchable{false};  ///< the sidecar is there
    std::atomic<bool> dropped{false};     ///< its files are going

    /// Null when there are none (any more): ask `indexed` after this, not before.
    [[nodiscard]] std::shared_ptr<Postings> postings() const;
    void set_postings(std::shared_ptr<Postings> postings);
    /// Null when there is none (any more): rows tell the same.
    [[nodiscard]] std::shared_ptr<TextLog> text_log() const;
    void set_text_log(std::shared_ptr<TextLog> log);

    /// What was found to be wrong with its file; empty: nothing so far. True when that is news.
    [[nodiscard]] std::string damage() const;
    bool set_damage(std::string what);

    /// Of each row the columns that go, or kWhole.
    using Keys = std::map<std::int64_t, std::uint32_t>;
    static constexpr std::uint32_t kWhole = 0;
    /// Rows that count as tombstones, or as without some columns, although the file still has their
    /// content. Take it before reading rows: a key leaves it after its row has changed. Null: none.
    [[nodiscard]] std::shared_ptr<const Keys> erasing() const;
    void add_erasing(const Keys& added);
    /// Those that are still to do what was done; a row of which more has to go meanwhile stays.
    void remove_erasing(const Keys& done);

    /// What is to go of a row; null: nothing.
    [[nodiscard]] static const std::uint32_t* pending(const Keys* keys, std::int64_t key) {
        if (keys == nullptr) return nullptr;
        const auto found = keys->find(key);
        return found == keys->end() ? nullptr : &found->second;
    }
    [[nodiscard]] static bool is_whole(const Keys* keys, std::int64_t key) {
        const auto* const columns = pending(keys, key);
        return columns != nullptr && *columns == kWhole;
    }

private:
    mutable std::mutex mutex_;
    std::shared_ptr<Postings> postings_;
    std::shared_ptr<TextLog> text_log_;
    std::shared_ptr<const Keys> erasing_;
    std::string damage_;
};

}  // namespace annal::sqlite
