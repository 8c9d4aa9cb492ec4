#include "runtime/store/sqlite/idempotency.h"

#include <algorithm>
#include <cstring>

#include "runtime/store/byte_codec.h"
#include "runtime/store/sqlite/migrations.h"

namespace annal::sqlite {
namespace {

constexpr std::size_t kRecordsMax = 8'192;
constexpr std::size_t kBytesMax = 4U << 20;

constexpr const char* kFind = "SELECT digest, receipts FROM keys WHERE hash = ?";
constexpr const char* kPut = "INSERT OR REPLACE INTO keys VALUES (?, ?, ?)";
constexpr const char* kApplied = "SELECT redo FROM applied WHERE segment = ?";
constexpr const char* kSetApplied = "INSERT OR REPLACE INTO applied VALUES (?, ?)";

template <std::size_t N>
std::array<std::uint8_t, N> bytes_of(std::string_view bytes) {
    std::array<std::uint8_t, N> out{};
    std::memcpy(out.data(), bytes.data(), std::min(N, bytes.size()));
    return out;
}

template <std::size_t N>
std::string_view view(const std::array<std::uint8_t, N>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), N};
}

}  // namespace

std::string encode(const KeyRecords& records) {
    std::string bytes;
    ByteWriter out(bytes);
    for (const auto& [name, record] : records) {
        out.raw(view(name));
        out.raw(view(record.content));
        out.text(encode_receipts(record.receipts));
    }
    return bytes;
}

Result<KeyRecords> decode_keys(std::string_view bytes) {
    KeyRecords records;
    ByteReader in(bytes);
    while (in.good() && !in.at_end()) {
        const auto name = bytes_of<16>(in.raw(16));
        const auto content = bytes_of<32>(in.raw(32));
        records[name] = {content, decode_receipts(in.text())};
    }
    if (!in.good()) {
        return Error{Errc::internal, "a redo record of idempotency keys is cut short"};
    }
    return records;
}

Result<void> KeyBook::enter(Month month) {
    if (month_ == month) {
        return ok();
    }
    if (month_) {
        // Settling a segment syncs the file of the month only, and its redo goes then.
        BOOST_OUTCOME_TRY(flush(Durability::full));
    }
    BOOST_OUTCOME_TRY(file(month));
    month_ = month;
    const Month oldest = month_of(start_of(month) - kKeyLifetime);
    for (const Month old : directory_.key_months()) {
        if (old < oldest) {
            files_.erase(old);
            remove_database(directory_.keys(old));
        }
    }
    return ok();
}

Connection* KeyBook::connection() {
    const auto found = month_ ? files_.find(*month_) : files_.end();
    return found == files_.end() ? nullptr : &found->second;
}

Result<Connection*> KeyBook::file(Month month) {
    const auto found = files_.find(month);
    if (found != files_.end()) {
        return &found->second;
    }
    const auto path = directory_.keys(month);
    BOOST_OUTCOME_TRY(auto db, open_wal(path, Durability::normal));
    BOOST_OUTCOME_TRY(db.execute("PRAGMA cache_size = -16384"));
    BOOST_OUTCOME_TRY(prepare_schema(db, path, k_create_keys, kKeysVersion));
    return &files_.emplace(month, std::move(db)).first->second;
}

Result<std::optional<KeyRecord>> KeyBook::find(const KeyName& name, TimeUs now) {
    const auto recent = recent_.find(name);
    if (recent != recent_.end()) {
        return recent->second;
    }
    const Month newest = month_ ? std::max(*month_, month_of(now)) : month_of(now);
    const Month oldest = std::min(month_of(now - kKeyLifetime), Month{newest.index - 1});
    for (Month month = newest; month >= oldest; --month.index) {
        std::error_code error;
        if (!files_.contains(month) && !std::filesystem::exists(directory_.keys(month), error)) {
            continue;
        }
        BOOST_OUTCOME_TRY(auto* db, file(month));
        BOOST_OUTCOME_TRY(auto rows, db->query(kFind));
        rows.bind_blob(1, name);
        BOOST_OUTCOME_TRY(const bool row, rows.next());
        if (row) {
            return KeyRecord{bytes_of<32>(rows.blob(0)), decode_receipts(rows.blob(1))};
        }
    }
    return std::nullopt;
}

void KeyBook::add(KeyRecords records, SegmentNumber segment, std::int64_t n) {
    segment_ = segment;
    redo_ = n;
    for (auto& [name, record] : records) {
        recent_bytes_ += sizeof(KeyRecord) + record.receipts.size() * sizeof(Receipt);
        recent_[name] = std::move(record);
    }
}

bool KeyBook::flush_is_due() const {
    return recent_.size() >= kRecordsMax || recent_bytes_ >= kBytesMax;
}

Result<void> KeyBook::flush(Durability durability) {
    if (!month_) {
        return ok();
    }
    BOOST_OUTCOME_TRY(auto* db, file(*month_));
    const bool full = durability == Durability::full;
    if (recent_.empty() && !full) {
        return ok();
    }
    BOOST_OUTCOME_TRY(
        db->execute(full ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL")
    );
    BOOST_OUTCOME_TRY(db->begin());
    Result<void> done = write(*db);
    if (done.has_value()) {
        done = db->commit();
    }
    if (done.has_error()) {
        db->rollback();
        return done;
    }
    recent_.clear();
    recent_bytes_ = 0;
    return ok();
}

Result<void> KeyBook::write(Connection& db) {
    // In key order neighbours share a page.
    std::vector<const KeyRecords::value_type*> sorted;
    for (const auto& entry : recent_) {
        sorted.push_back(&entry);
    }
    std::sort(sorted.begin(), sorted.end(), [](auto* a, auto* b) { return a->first < b->first; });
    BOOST_OUTCOME_TRY(auto put, db.query(kPut));
    for (const auto* entry : sorted) {
        const std::string receipts = encode_receipts(entry->second.receipts);
        put.bind_blob(1, entry->first);
        put.bind_blob(2, entry->second.content);
        put.bind_blob(3, std::string_view(receipts));
        BOOST_OUTCOME_TRY(put.run());
    }
    BOOST_OUTCOME_TRY(auto mark, db.query(kSetApplied));
    mark.bind_all(segment_, redo_);
    return mark.run();
}

Result<std::int64_t> KeyBook::applied(SegmentNumber segment) {
    BOOST_OUTCOME_TRY(auto* db, file(*month_));
    BOOST_OUTCOME_TRY(auto rows, db->query(kApplied));
    rows.bind_all(segment);
    BOOST_OUTCOME_TRY(const bool row, rows.next());
    return row ? rows.integer(0) : 0;
}

}  // namespace annal::sqlite
