#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/store/idempotency_key.h"
#include "runtime/store/sqlite/connection.h"
#include "runtime/store/sqlite/directory.h"

namespace annal::sqlite {

[[nodiscard]] std::string encode(const KeyRecords& records);
/// @error Errc::internal  Not made by `encode`.
[[nodiscard]] Result<KeyRecords> decode_keys(std::string_view bytes);

/// The idempotency keys of the last 31 days and more: a file a month, and in memory what is not in
/// a file yet. What is in memory is in the redo records of the open segment too.
///
/// Threads: the writer's only.
/// Limits:  at most kRecordsMax records, or kBytesMax, are in memory.
class KeyBook {
public:
    explicit KeyBook(const Directory& directory) : directory_(directory) {}

    /// Keys are added to `month` from now on. Removes files that nothing asks for any more.
    [[nodiscard]] Result<void> enter(Month month);
    /// The record of a key, if it was added within the last 31 days before `now` (or earlier).
    [[nodiscard]] Result<std::optional<KeyRecord>> find(const KeyName& name, TimeUs now);
    /// Takes the records of redo `n` of `segment`.
    void add(KeyRecords records, SegmentNumber segment, std::int64_t n);
    [[nodiscard]] bool flush_is_due() const;
    /// Moves what is in memory to the file of the month.
    [[nodiscard]] Result<void> flush(Durability durability);
    /// Highest redo record of `segment` that the month's file contains.
    [[nodiscard]] Result<std::int64_t> applied(SegmentNumber segment);
    [[nodiscard]] std::optional<Month> month() const { return month_; }
    /// Of the month's file; null before the first `enter`.
    [[nodiscard]] Connection* connection();

private:
    [[nodiscard]] Result<Connection*> file(Month month);
    [[nodiscard]] Result<void> write(Connection& db);

    const Directory& directory_;
    std::optional<Month> month_;
    KeyRecords recent_;
    std::size_t recent_bytes_ = 0;
    SegmentNumber segment_ = 0;
    std::int64_t redo_ = 0;
    std::map<Month, Connection> files_;
};

}  // namespace annal::sqlite
