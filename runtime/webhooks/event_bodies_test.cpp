#include "runtime/webhooks/event_bodies.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/test_host.h"

namespace annal {
namespace {

struct EventBodiesTest : testing::Test {
    test::TestHost host;
    ManualClock clock{1'700'000'000'000'000};
    EventBodies bodies{host.store, clock, "p"};

    void append(int count, const std::string& metadata = "{}", std::vector<Seq> erase = {}) {
        AppendUnit unit;
        unit.project = "p";
        for (int i = 0; i < count; ++i) {
            EventDraft draft;
            draft[Column::action] = "test.happened";
            draft[Column::actor_type] = "system";
            draft[Column::auth_type] = "system";
            draft[Column::metadata] = metadata;
            unit.events.push_back(draft);
        }
        unit.erase = std::move(erase);
        ASSERT_TRUE(host.run(host.appender.append(std::move(unit))));
    }
    void erase(Seq seq) { append(0, "{}", {seq}); }
    Result<EventBodies::Shared> ask(Seq seq, Seq through) {
        return host.run(bodies.get(seq, through));
    }
    EventBodies::Shared get(Seq seq, Seq through) { return ask(seq, through).value(); }
    EventBodies::Shared get(Seq seq) { return get(seq, seq); }
    EventBatch read(Seq seq) {
        ScanRequest request;
        request.project = "p";
        request.newest_first = false;
        if (seq > 0) request.after = seq - 1;
        request.limit = 1;
        return std::move(host.run(host.store.scan(std::move(request))).value().batch);
    }
    /// How many scans `ask` takes.
    std::int64_t scans_of(Seq seq, Seq through) {
        const std::int64_t before = host.store.scans;
        EXPECT_TRUE(ask(seq, through));
        return host.store.scans - before;
    }
};

TEST_F(EventBodiesTest, AreTheEventsEnvelope) {
    append(2, R"({"n":1})");
    const auto body = get(1);
    ASSERT_NE(body, nullptr);
    const EventBatch batch = read(1);
    EXPECT_EQ(body->event_id, batch.events[0].id.text());
    EXPECT_EQ(body->action, "test.happened");
    EXPECT_NE(body->text.find(R"("metadata":{"n":1})"), std::string::npos) << body->text;
    EXPECT_NE(body->text.find(body->event_id), std::string::npos) << body->text;
}

TEST_F(EventBodiesTest, AreKeptForAMomentAndThenReadAgain) {
    append(1);
    EXPECT_EQ(scans_of(0, 0), 1);
    const auto first = get(0);
    clock.advance(EventBodies::kKeptForUs);
    EXPECT_EQ(get(0), first);
    clock.advance(1);
    EXPECT_EQ(scans_of(0, 0), 1);
    EXPECT_EQ(get(0)->text, first->text);
}

TEST_F(EventBodiesTest, AreNotSentOfADeletedEventForLonger) {
    append(2);
    ASSERT_NE(get(0), nullptr);
    erase(0);
    EXPECT_NE(get(0), nullptr);  // for the moment that bodies are kept
    clock.advance(EventBodies::kKeptForUs + 1);
    EXPECT_EQ(get(0), nullptr);
    EXPECT_EQ(get(0, 1), nullptr);
    EXPECT_NE(get(1), nullptr);
}

TEST_F(EventBodiesTest, AreKeptNoLongerWhenTheyAreReadAhead) {
    append(3);
    ASSERT_NE(get(1), nullptr);
    clock.advance(EventBodies::kKeptForUs);
    erase(1);
    ASSERT_NE(get(0, 2), nullptr);  // passes by 1, which is known still
    clock.advance(1);
    EXPECT_EQ(get(1), nullptr);
}

TEST_F(EventBodiesTest, AreNullWhereThereIsNoEvent) {
    EXPECT_EQ(get(0), nullptr);
    append(4);
    EXPECT_EQ(get(4), nullptr);
    host.store.drop_before("p", 3);
    EXPECT_EQ(get(1), nullptr);
    EXPECT_EQ(get(2, 3), nullptr);
    EXPECT_NE(get(3), nullptr);
}

TEST_F(EventBodiesTest, AreReadAheadAsFarAsTheyWillBeWanted) {
    append(300);
    EXPECT_EQ(scans_of(10, 20), 1);
    for (Seq seq = 10; seq <= 20; ++seq) EXPECT_EQ(scans_of(seq, seq), 0) << seq;
    EXPECT_EQ(scans_of(21, 21), 1);
    EXPECT_EQ(scans_of(9, 9), 1);
    // A limit holds however much is wanted.
    EXPECT_EQ(scans_of(100, 299), 1);
    EXPECT_EQ(scans_of(199, 199), 0);
    EXPECT_EQ(scans_of(200, 200), 1);
    // What is wanted next may lie before it, when what waits is sent by turns.
    EXPECT_EQ(scans_of(250, 10), 1);
}

TEST_F(EventBodiesTest, AreThereWithoutAReadOnceTheyWereAdded) {
    append(1);
    const EventBatch batch = read(0);
    bodies.add(batch.events[0]);
    bodies.add(batch.events[0]);
    EXPECT_EQ(scans_of(0, 0), 0);
    clock.advance(EventBodies::kKeptForUs + 1);
    EXPECT_EQ(scans_of(0, 0), 1);
}

TEST_F(EventBodiesTest, AreBoundInBytesTheOldestGoesFirst) {
    constexpr int kEvents = 40;
    const std::string big = R"({"x":")" + std::string(1U << 20, 'x') + R"("})";
    for (int i = 0; i < kEvents; ++i) append(1, big);
    std::vector<std::weak_ptr<const EventBody>> held;
    for (Seq seq = 0; seq < kEvents; ++seq) held.push_back(get(seq));
    const auto kept =
        std::count_if(held.begin(), held.end(), [](const auto& each) { return !each.expired(); });
    EXPECT_GT(kept, 10);
    EXPECT_LE(static_cast<std::size_t>(kept) << 20, EventBodies::kBytesMax);
    EXPECT_TRUE(held.front().expired());
    EXPECT_FALSE(held.back().expired());
    EXPECT_EQ(scans_of(0, 0), 1);
    EXPECT_EQ(scans_of(kEvents - 1, kEvents - 1), 0);
}

TEST_F(EventBodiesTest, AreReadFromPagesThatComeShort) {
    append(30);
    for (Seq seq = 0; seq < 20; ++seq) erase(seq);
    host.store.scan_window = 1;
    EXPECT_NE(get(25, 29), nullptr);
    EXPECT_EQ(get(3, 29), nullptr);
    EXPECT_EQ(get(40), nullptr);
    // The next ones come with the pages that it takes, not with more.
    EXPECT_EQ(scans_of(20, 29), 1);
    EXPECT_EQ(scans_of(21, 29), 1);
}

TEST_F(EventBodiesTest, SayWhenTheStoreDoesNotAnswer) {
    append(1);
    host.store.fail_reads({Errc::unavailable, "the disk is away"});
    const auto refused = ask(0, 0);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    EXPECT_NE(get(0), nullptr);
}

}  // namespace
}  // namespace annal
