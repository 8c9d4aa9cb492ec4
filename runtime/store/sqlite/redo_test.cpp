#include "runtime/store/sqlite/redo.h"

#include <gtest/gtest.h>

#include "runtime/store/sqlite/idempotency.h"
#include "runtime/store/sqlite/postings.h"

namespace annal::sqlite {
namespace {

TEST(Redo, ChangesComeBack) {
    ControlChanges changes;
    changes.kv.push_back({KvOp::Kind::put, "plugin.x", "p", "key", std::string("\0v", 2)});
    changes.kv.push_back({KvOp::Kind::erase, "plugin.x", "", "gone", ""});
    changes.cursors.push_back({"stream", 42});
    changes.erasures.push_back({7, row_key(3, 99)});
    const auto decoded = ControlChanges::decode(changes.encode());
    ASSERT_TRUE(decoded.has_value());
    ASSERT_EQ(decoded.value().kv.size(), 2U);
    EXPECT_EQ(decoded.value().kv[0].value, std::string("\0v", 2));
    EXPECT_EQ(decoded.value().kv[1].kind, KvOp::Kind::erase);
    EXPECT_EQ(decoded.value().kv[1].key, "gone");
    EXPECT_EQ(decoded.value().cursors.at(0).to, 42);
    EXPECT_EQ(decoded.value().erasures.at(0).segment, 7);
    EXPECT_EQ(seq_of(decoded.value().erasures.at(0).key), 99);
}

TEST(Redo, CutOrForeignBytesAreAnError) {
    ControlChanges changes;
    changes.kv.push_back({KvOp::Kind::put, "plugin.x", "p", "key", "value"});
    const std::string bytes = changes.encode();
    for (std::size_t size = 1; size < bytes.size(); ++size) {
        EXPECT_TRUE(ControlChanges::decode(std::string_view(bytes).substr(0, size)).has_error());
    }
    std::string foreign = bytes;
    foreign[0] = 9;
    EXPECT_TRUE(ControlChanges::decode(foreign).has_error());
    std::string huge = bytes;
    huge[15] = '\x7f';
    EXPECT_TRUE(ControlChanges::decode(huge).has_error());
}

TEST(Redo, KeyRecordsComeBack) {
    KeyRecords records;
    KeyRecord record;
    record.content = sha256("content");
    record.receipts = {{EventId::make(1'000'000, 77), 5, 1'000'000, false}};
    records[key_name(KeyKind::event, "p", "k")] = record;
    records[key_name(KeyKind::request, "p", "k")] = {};
    ASSERT_EQ(records.size(), 2U);
    const std::string bytes = encode(records);
    const auto decoded = decode_keys(bytes);
    ASSERT_TRUE(decoded.has_value());
    const auto& found = decoded.value().at(key_name(KeyKind::event, "p", "k"));
    EXPECT_EQ(found.content, record.content);
    ASSERT_EQ(found.receipts.size(), 1U);
    EXPECT_EQ(found.receipts[0].id, record.receipts[0].id);
    EXPECT_EQ(found.receipts[0].seq, 5);
    EXPECT_TRUE(decode_keys(bytes.substr(0, bytes.size() - 1)).has_error());
}

}  // namespace
}  // namespace annal::sqlite
