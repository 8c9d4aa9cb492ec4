#include "runtime/event/seal.h"

#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <fstream>
#include <set>

#include "runtime/core/time_text.h"

namespace annal {
namespace {

namespace json = boost::json;

TimeUs at(std::string_view text) {
    return parse_time(text).value();
}

std::string text_of(const json::value& value) {
    return std::string(value.as_string());
}

template <class Bytes>
Bytes bytes_of(const json::value& hex) {
    const std::string raw = from_hex(text_of(hex)).value();
    Bytes out{};
    EXPECT_EQ(raw.size(), out.size());
    std::copy(raw.begin(), raw.end(), out.begin());
    return out;
}

/// Lines of the golden file of one kind. They are never updated: see docs/canonical-bytes.md.
std::vector<json::object> golden(std::string_view kind) {
    std::ifstream file(ANNAL_SOURCE_DIR "/tests/golden/event/seal_v1.ndjson");
    EXPECT_TRUE(file.is_open());
    std::vector<json::object> lines;
    for (std::string line; std::getline(file, line);) {
        auto object = json::parse(line).as_object();
        if (object.at("kind").as_string() == kind) {
            lines.push_back(std::move(object));
        }
    }
    EXPECT_FALSE(lines.empty());
    return lines;
}

template <class E>
void fill_columns(E& event, const json::object& from) {
    for (std::size_t i = 0; i < kColumns; ++i) {
        const auto column = static_cast<Column>(i);
        if (const auto* value = from.if_contains(std::string(name(column)))) {
            event[column] = std::string_view(value->as_string());
        }
    }
    if (const auto* occurred_at = from.if_contains("occurred_at")) {
        event.occurred_at = occurred_at->as_int64();
    }
}

Event event_of(const json::object& from) {
    Event event;
    event.id = EventId::parse(std::string_view(from.at("id").as_string())).value();
    event.seq = from.at("seq").as_int64();
    event.created_at = from.at("created_at").as_int64();
    event.project_id = std::string_view(from.at("project_id").as_string());
    fill_columns(event, from);
    return event;
}

EventDraft draft(const char* action) {
    EventDraft out;
    out[Column::action] = action;
    out[Column::actor_type] = "user";
    out[Column::metadata] = "{}";
    return out;
}

TEST(SealGoldenTest, CanonicalBytesAndLeavesNeverChange) {
    for (const auto& line : golden("event")) {
        std::string bytes;
        append_canonical_bytes(bytes, event_of(line.at("event").as_object()));
        EXPECT_EQ(
            to_hex({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()}),
            text_of(line.at("bytes"))
        );
        EXPECT_EQ(
            to_hex(leaf_of(bytes_of<Salt>(line.at("salt")), bytes)), text_of(line.at("leaf"))
        );
    }
}

TEST(SealGoldenTest, CommitDigestsNeverChange) {
    for (const auto& line : golden("commit")) {
        std::vector<SealedEvent> events;
        for (const auto& leaf : line.at("leaves").as_array()) {
            events.emplace_back().leaf = bytes_of<Digest>(leaf);
        }
        const Digest digest = batch_digest(
            bytes_of<Digest>(line.at("prev")),
            text_of(line.at("project")),
            line.at("first").as_int64(),
            line.at("last").as_int64(),
            line.at("last_at").as_int64(),
            events
        );
        EXPECT_EQ(to_hex(digest), text_of(line.at("digest")));
    }
}

TEST(SealGoldenTest, ContentDigestsNeverChange) {
    for (const auto& line : golden("content")) {
        std::vector<EventDraft> drafts;
        for (const auto& event : line.at("events").as_array()) {
            fill_columns(drafts.emplace_back(), event.as_object());
        }
        EXPECT_EQ(to_hex(content_digest(drafts)), text_of(line.at("digest")));
    }
}

TEST(SealTest, EveryFieldIsUnderTheHash) {
    const auto bytes_of_event = [](const Event& event) {
        std::string bytes;
        append_canonical_bytes(bytes, event);
        return bytes;
    };
    const auto lines = golden("event");
    const Event plain = event_of(lines[0].at("event").as_object());
    std::set<std::string> seen = {bytes_of_event(plain)};
    const auto add = [&](auto&& change) {
        Event other = plain;
        change(other);
        EXPECT_TRUE(seen.insert(bytes_of_event(other)).second);
    };
    add([](Event& e) { e.id.bytes[15] ^= 1; });
    add([](Event& e) { e.seq += 1; });
    add([](Event& e) { e.created_at += 1; });
    add([](Event& e) { e.occurred_at = e.created_at; });
    add([](Event& e) { e.project_id = "proj_b"; });
    for (std::size_t i = 0; i < kColumns; ++i) {
        add([i](Event& e) { e.columns[i] = "changed"; });
        add([i](Event& e) { e.columns[i] = ""; });
    }
}

TEST(SealTest, StartsALogAtZero) {
    const std::vector<EventDraft> drafts = {draft("a.b"), draft("a.c"), draft("a.d")};
    const TimeUs now = at("2026-05-14T18:42:13Z");
    const SealedBatch batch = seal({}, "proj_a", drafts, now, 0);
    EXPECT_EQ(batch.first_seq, 0);
    EXPECT_EQ(batch.last_seq, 2);
    EXPECT_EQ(batch.last_at, now + 2);
    EXPECT_EQ(batch.prev_digest, Digest{});
    ASSERT_EQ(batch.events.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
        const SealedEvent& sealed = batch.events[i];
        EXPECT_EQ(sealed.seq, static_cast<Seq>(i));
        EXPECT_EQ(sealed.created_at, now + static_cast<TimeUs>(i));
        EXPECT_EQ(sealed.id.created_at(), sealed.created_at);
    }
}

TEST(SealTest, LeavesAndDigestAreThoseOfTheCanonicalBytes) {
    std::vector<EventDraft> drafts = {draft("a.b"), draft("a.c")};
    drafts[1].occurred_at = 5;
    const LogHead head{41, at("2026-05-14T18:42:13Z"), sha256("head")};
    const SealedBatch batch = seal(head, "proj_a", drafts, 0, 0);
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        Event event;
        event.id = batch.events[i].id;
        event.seq = batch.events[i].seq;
        event.created_at = batch.events[i].created_at;
        event.occurred_at = drafts[i].occurred_at;
        event.project_id = "proj_a";
        event.columns = drafts[i].columns;
        std::string bytes;
        append_canonical_bytes(bytes, event);
        EXPECT_EQ(batch.events[i].leaf, leaf_of(batch.events[i].salt, bytes));
    }
    EXPECT_EQ(batch.first_seq, 42);
    EXPECT_EQ(batch.prev_digest, head.digest);
    EXPECT_EQ(
        batch.digest, batch_digest(head.digest, "proj_a", 42, 43, batch.last_at, batch.events)
    );
}

TEST(SealTest, SaltsAndIdsAreNeverTheSame) {
    const std::vector<EventDraft> drafts(1000, draft("a.b"));
    const SealedBatch batch = seal({}, "p", drafts, 0, 0);
    std::set<Salt> salts;
    std::set<Digest> leaves;
    std::set<std::string> id_ends;
    for (const SealedEvent& sealed : batch.events) {
        salts.insert(sealed.salt);
        leaves.insert(sealed.leaf);
        id_ends.insert(sealed.id.uuid().substr(19));
    }
    EXPECT_EQ(salts.size(), drafts.size());
    EXPECT_EQ(leaves.size(), drafts.size());
    EXPECT_EQ(id_ends.size(), drafts.size());
}

TEST(SealTest, AClockThatStepsBackDoesNotTurnTheLogBack) {
    const std::vector<EventDraft> drafts = {draft("a.b"), draft("a.c")};
    const TimeUs head_at = at("2026-05-14T18:42:13Z");
    const SealedBatch first = seal({9, head_at, {}}, "p", drafts, head_at - kDayUs, 0);
    EXPECT_EQ(first.events[0].created_at, head_at + 1);
    EXPECT_EQ(first.last_at, head_at + 2);
    EXPECT_GT(first.events[0].id, EventId::make(head_at, ~0ULL));
    EXPECT_GT(first.events[1].id, first.events[0].id);
}

TEST(SealTest, AClockThatStepsBackOverAMonthEdgeDoesNotTurnTheLogBack) {
    const std::vector<EventDraft> drafts = {draft("a.b")};
    const TimeUs june = at("2026-06-01T00:00:00Z");
    const SealedBatch batch = seal({9, june, {}}, "p", drafts, june - kSecondUs, 0);
    EXPECT_EQ(batch.events[0].created_at, june + 1);
}

TEST(SealTest, TheFloorHoldsTheLogUp) {
    const std::vector<EventDraft> drafts = {draft("a.b")};
    EXPECT_EQ(seal({9, 100, {}}, "p", drafts, 200, 5000).last_at, 5000);
    EXPECT_EQ(seal({9, 100, {}}, "p", drafts, 9000, 5000).last_at, 9000);
}

TEST(SealTest, ABatchNeverSpansAMonth) {
    const std::vector<EventDraft> drafts(3, draft("a.b"));
    const TimeUs june = at("2026-06-01T00:00:00Z");
    // The last batch that fits: its third event has the last microsecond of May.
    EXPECT_EQ(seal({}, "p", drafts, june - 3, 0).events[0].created_at, june - 3);
    for (const TimeUs now : {june - 2, june - 1, june}) {
        const SealedBatch batch = seal({}, "p", drafts, now, 0);
        EXPECT_EQ(batch.events[0].created_at, june) << now - june;
        EXPECT_EQ(batch.last_at, june + 2);
    }
    EXPECT_EQ(seal({7, june - 2, {}}, "p", drafts, june - 1000, 0).events[0].created_at, june);
}

TEST(SealTest, YearEdgesAreMonthEdges) {
    const std::vector<EventDraft> drafts(2, draft("a.b"));
    const TimeUs january = at("2027-01-01T00:00:00Z");
    EXPECT_EQ(seal({}, "p", drafts, january - 1, 0).events[0].created_at, january);
}

TEST(SealTest, AClockBefore1970StillGivesValidIds) {
    const std::vector<EventDraft> drafts = {draft("a.b")};
    const SealedBatch batch = seal({}, "p", drafts, -kDayUs, kNoTime);
    EXPECT_EQ(batch.events[0].created_at, 0);
    EXPECT_EQ(batch.events[0].id.created_at(), 0);
}

TEST(ContentDigestTest, DependsOnWhatWasSaidAndNotOnTheKey) {
    std::vector<EventDraft> drafts = {draft("a.b")};
    const Digest digest = content_digest(drafts);
    drafts[0].idempotency_key = "key";
    EXPECT_EQ(content_digest(drafts), digest);
    drafts[0].occurred_at = 0;
    EXPECT_NE(content_digest(drafts), digest);
    drafts[0].occurred_at = kNoTime;
    drafts[0][Column::actor_id] = "";
    EXPECT_NE(content_digest(drafts), digest);
}

TEST(ContentDigestTest, TextCannotMoveBetweenColumnsOrEvents) {
    EventDraft a;
    a[Column::user_id] = "ab";
    EventDraft b;
    b[Column::user_id] = "a";
    b[Column::organization_id] = "b";
    const std::vector<EventDraft> one = {a};
    const std::vector<EventDraft> other = {b};
    const std::vector<EventDraft> two = {a, a};
    EXPECT_NE(content_digest(one), content_digest(other));
    EXPECT_NE(content_digest(one), content_digest(two));
}

}  // namespace
}  // namespace annal
