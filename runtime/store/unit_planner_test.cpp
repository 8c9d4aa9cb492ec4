#include "runtime/store/unit_planner.h"

#include <gtest/gtest.h>

#include "runtime/core/limits.h"

namespace annal {
namespace {

constexpr TimeUs kNow = 1'700'000'000'000'000;
constexpr TimeUs kNoFloor = 0;
const std::string kProject = "proj_a";

/// What is committed, in memory. Counts what it is asked.
class MemoryState final : public CommittedState {
public:
    std::map<std::string, LogHead> heads;
    KeyRecords keys;
    std::map<KvName, std::string> rows;
    std::set<std::pair<std::string, Seq>> live;
    std::optional<Error> broken;
    int live_asked = 0;

    LogHead head(const std::string& project) override {
        const auto found = heads.find(project);
        return found == heads.end() ? LogHead{} : found->second;
    }
    Result<std::optional<KeyRecord>> key(const KeyName& name) override {
        if (broken) {
            return *broken;
        }
        const auto found = keys.find(name);
        return found == keys.end() ? std::nullopt : std::optional(found->second);
    }
    Result<std::optional<std::string>> kv(const KvName& name) override {
        if (broken) {
            return *broken;
        }
        const auto found = rows.find(name);
        return found == rows.end() ? std::nullopt : std::optional(found->second);
    }
    Result<bool> is_live(const std::string& project, Seq seq) override {
        ++live_asked;
        if (broken) {
            return *broken;
        }
        return live.contains({project, seq});
    }
};

EventDraft draft(const char* action, const char* key = nullptr) {
    EventDraft out;
    out[Column::action] = action;
    if (key != nullptr) {
        out.idempotency_key = key;
    }
    return out;
}

AppendUnit unit_of(std::vector<EventDraft> events, std::string request_key = "") {
    AppendUnit unit;
    unit.project = kProject;
    unit.events = std::move(events);
    unit.request_key = std::move(request_key);
    return unit;
}

AppendUnit kv_unit(std::vector<KvOp> ops) {
    AppendUnit unit;
    unit.project = kProject;
    unit.kv = std::move(ops);
    return unit;
}

AppendUnit erasing(std::vector<Seq> seqs) {
    AppendUnit unit;
    unit.project = kProject;
    unit.erase = std::move(seqs);
    return unit;
}

KvOp put(std::string key, std::string value) {
    return {KvOp::Kind::put, "host.x", "p", std::move(key), std::move(value)};
}
KvOp erase(std::string key) {
    return {KvOp::Kind::erase, "host.x", "p", std::move(key), ""};
}
KvOp absent(std::string key) {
    return {KvOp::Kind::require_absent, "host.x", "p", std::move(key), ""};
}
KvOp equals(std::string key, std::string value) {
    return {KvOp::Kind::require_equals, "host.x", "p", std::move(key), std::move(value)};
}
KvName row(std::string key) {
    return {"host.x", "p", std::move(key)};
}

Receipt receipt(Seq seq) {
    return {EventId::make(kNow - 100 + seq, 7), seq, kNow - 100 + seq, false};
}

class UnitPlannerTest : public testing::Test {
protected:
    Result<PlannedUnit> plan(const AppendUnit& unit) {
        return UnitPlanner(committed, staged, kNow, floor).plan(unit);
    }
    /// Plans `unit`, which must pass, and stages it.
    PlannedUnit stage(const AppendUnit& unit) {
        auto planned = plan(unit);
        EXPECT_TRUE(planned.has_value());
        staged.add(planned.value());
        return std::move(planned.value());
    }
    Errc refusal(const AppendUnit& unit) {
        const auto planned = plan(unit);
        EXPECT_TRUE(planned.has_error());
        return planned.has_error() ? planned.error().code : Errc::internal;
    }
    bool passes(const AppendUnit& unit) { return plan(unit).has_value(); }

    void remember_request(const AppendUnit& unit, std::vector<Receipt> receipts) {
        committed.keys[key_name(KeyKind::request, unit.project, unit.request_key)] = {
            content_digest(unit.events), std::move(receipts)};
    }
    void remember_event(const EventDraft& event, std::vector<Receipt> receipts) {
        committed.keys[key_name(KeyKind::event, kProject, event.idempotency_key.view())] = {
            content_digest(std::span(&event, 1)), std::move(receipts)};
    }

    MemoryState committed;
    StagedUnits staged;
    TimeUs floor = kNoFloor;
};

// Events and their place

TEST_F(UnitPlannerTest, AnEmptyUnitChangesNothing) {
    const AppendUnit unit = unit_of({});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_TRUE(planned.value().receipts.empty());
    EXPECT_TRUE(planned.value().changes_nothing());
    EXPECT_FALSE(planned.value().replayed);
}

TEST_F(UnitPlannerTest, ALogBeginsAtZero) {
    const AppendUnit unit = unit_of({draft("a.b"), draft("a.c")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    const PlannedUnit& got = planned.value();
    ASSERT_EQ(got.receipts.size(), 2U);
    for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(got.receipts[i].seq, static_cast<Seq>(i));
        EXPECT_EQ(got.receipts[i].created_at, kNow + static_cast<TimeUs>(i));
        EXPECT_EQ(got.receipts[i].id, got.sealed.events[i].id);
        EXPECT_FALSE(got.receipts[i].replayed);
    }
    EXPECT_EQ(got.sealed.prev_digest, Digest{});
    EXPECT_TRUE(got.keys.empty());
    EXPECT_FALSE(got.changes_nothing());
}

TEST_F(UnitPlannerTest, EventsGoBehindTheCommittedHead) {
    committed.heads[kProject] = {41, kNow + 500, sha256("head")};
    committed.heads["proj_b"] = {7, kNow + 900, sha256("other")};
    const AppendUnit unit = unit_of({draft("a.b")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_EQ(planned.value().receipts[0].seq, 42);
    EXPECT_EQ(planned.value().receipts[0].created_at, kNow + 501);
    EXPECT_EQ(planned.value().sealed.prev_digest, sha256("head"));
}

TEST_F(UnitPlannerTest, NothingIsStampedBeforeTheFloor) {
    floor = kNow + kDayUs;
    const AppendUnit unit = unit_of({draft("a.b")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_EQ(planned.value().receipts[0].created_at, kNow + kDayUs);
}

TEST_F(UnitPlannerTest, WhenAllEventsAreNewTheUnitsOwnAreWritten) {
    const AppendUnit unit = unit_of({draft("a.b", "k"), draft("a.c")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_TRUE(planned.value().all_new);
    EXPECT_TRUE(planned.value().drafts.empty());
    EXPECT_EQ(planned.value().new_events().data(), unit.events.data());
    EXPECT_EQ(planned.value().new_events().size(), 2U);
}

TEST_F(UnitPlannerTest, AUnitHoldsSoManyEventsAndNoMore) {
    std::vector<EventDraft> events(kBatchEventsMax, draft("a.b"));
    const AppendUnit most = unit_of(events);
    EXPECT_TRUE(passes(most));
    events.push_back(draft("a.b"));
    EXPECT_EQ(refusal(unit_of(events)), Errc::too_large);
}

TEST_F(UnitPlannerTest, ALogIsFullAtItsLastSeq) {
    committed.heads[kProject] = {kSeqMax - 2, kNow - 1, {}};
    const AppendUnit two = unit_of({draft("a.b"), draft("a.b")});
    const auto planned = plan(two);
    ASSERT_TRUE(planned.has_value());
    EXPECT_EQ(planned.value().sealed.last_seq, kSeqMax);
    EXPECT_EQ(refusal(unit_of({draft("a.b"), draft("a.b"), draft("a.b")})), Errc::unavailable);
    staged.add(planned.value());
    EXPECT_EQ(refusal(unit_of({draft("a.b")})), Errc::unavailable);
    EXPECT_TRUE(passes(unit_of({})));
}

// Keys of requests

TEST_F(UnitPlannerTest, ARequestIsRememberedWithAllItsReceipts) {
    const AppendUnit unit = unit_of({draft("a.b"), draft("a.c")}, "req");
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    ASSERT_EQ(planned.value().keys.size(), 1U);
    const auto& [name, record] = *planned.value().keys.begin();
    EXPECT_EQ(name, key_name(KeyKind::request, kProject, "req"));
    EXPECT_EQ(record.content, content_digest(unit.events));
    ASSERT_EQ(record.receipts.size(), 2U);
    EXPECT_EQ(record.receipts[1].id, planned.value().receipts[1].id);
    EXPECT_EQ(record.receipts[1].seq, 1);
}

TEST_F(UnitPlannerTest, AKnownRequestGetsItsFirstAnswer) {
    const AppendUnit unit = unit_of({draft("a.b"), draft("a.c")}, "req");
    remember_request(unit, {receipt(3), receipt(4)});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    const PlannedUnit& got = planned.value();
    EXPECT_TRUE(got.replayed);
    EXPECT_TRUE(got.changes_nothing());
    EXPECT_TRUE(got.sealed.events.empty());
    EXPECT_TRUE(got.keys.empty());
    ASSERT_EQ(got.receipts.size(), 2U);
    EXPECT_EQ(got.receipts[1].id, receipt(4).id);
    EXPECT_TRUE(got.receipts[0].replayed);
    EXPECT_TRUE(got.receipts[1].replayed);
}

TEST_F(UnitPlannerTest, AKnownRequestIsAnsweredWhateverHasChangedSince) {
    AppendUnit unit = unit_of({draft("a.b")}, "req");
    unit.kv = {absent("k"), put("k", "v")};
    unit.erase = {9};
    unit.cursors = {{"stream", 3}};
    remember_request(unit, {receipt(3)});
    committed.rows[row("k")] = "v";
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_TRUE(planned.value().kv.empty());
    EXPECT_TRUE(planned.value().erase.empty());
    EXPECT_TRUE(planned.value().changes_nothing());
}

TEST_F(UnitPlannerTest, AKnownRequestWithOtherEventsIsAConflict) {
    const AppendUnit unit = unit_of({draft("a.b")}, "req");
    remember_request(unit, {receipt(3)});
    const auto planned = plan(unit_of({draft("a.c")}, "req"));
    ASSERT_TRUE(planned.has_error());
    EXPECT_EQ(planned.error().code, Errc::conflict);
    EXPECT_EQ(planned.error().pointer, "idempotency_key");
    EXPECT_NE(planned.error().detail.find("the request"), std::string::npos);
    EXPECT_EQ(refusal(unit_of({draft("a.b"), draft("a.b")}, "req")), Errc::conflict);
    EXPECT_EQ(refusal(unit_of({}, "req")), Errc::conflict);
}

TEST_F(UnitPlannerTest, ARequestWithoutEventsIsRememberedToo) {
    AppendUnit unit = kv_unit({put("k", "v")});
    unit.request_key = "req";
    const PlannedUnit first = stage(unit);
    ASSERT_EQ(first.keys.size(), 1U);
    EXPECT_TRUE(first.keys.begin()->second.receipts.empty());
    const auto again = plan(unit);
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(again.value().replayed);
    EXPECT_TRUE(again.value().kv.empty());
}

TEST_F(UnitPlannerTest, ARequestOfTheSameTransactionIsKnown) {
    const AppendUnit unit = unit_of({draft("a.b")}, "req");
    const PlannedUnit first = stage(unit);
    const auto again = plan(unit);
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(again.value().replayed);
    EXPECT_EQ(again.value().receipts.at(0).id, first.receipts[0].id);
    EXPECT_TRUE(again.value().receipts[0].replayed);
    EXPECT_EQ(refusal(unit_of({draft("a.c")}, "req")), Errc::conflict);
}

TEST_F(UnitPlannerTest, KeysOfProjectsAndKindsDoNotMeet) {
    stage(unit_of({draft("a.b", "same")}, "same"));
    AppendUnit elsewhere = unit_of({draft("x.y", "same")}, "same");
    elsewhere.project = "proj_b";
    const auto planned = plan(elsewhere);
    ASSERT_TRUE(planned.has_value());
    EXPECT_FALSE(planned.value().replayed);
    EXPECT_EQ(planned.value().keys.size(), 2U);
    stage(unit_of({draft("a.d", "event only")}));
    EXPECT_TRUE(passes(unit_of({draft("x.y")}, "event only")));
}

// Keys of events

TEST_F(UnitPlannerTest, AKnownEventIsReplayedAndTheRestIsPlaced) {
    committed.heads[kProject] = {9, kNow - 1, sha256("head")};
    remember_event(draft("a.c", "k1"), {receipt(5)});
    const AppendUnit unit = unit_of({draft("a.b"), draft("a.c", "k1"), draft("a.d", "k2")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    const PlannedUnit& got = planned.value();
    EXPECT_FALSE(got.replayed);
    EXPECT_FALSE(got.all_new);
    ASSERT_EQ(got.receipts.size(), 3U);
    EXPECT_EQ(got.receipts[0].seq, 10);
    EXPECT_EQ(got.receipts[1].id, receipt(5).id);
    EXPECT_EQ(got.receipts[2].seq, 11);
    EXPECT_FALSE(got.receipts[0].replayed);
    EXPECT_TRUE(got.receipts[1].replayed);
    EXPECT_FALSE(got.receipts[2].replayed);
    ASSERT_EQ(got.new_events().size(), 2U);
    EXPECT_EQ(got.new_events()[0][Column::action].view(), "a.b");
    EXPECT_EQ(got.new_events()[1][Column::action].view(), "a.d");
    EXPECT_EQ(got.sealed.events.size(), 2U);
    ASSERT_EQ(got.keys.size(), 1U);
    const auto& [name, record] = *got.keys.begin();
    EXPECT_EQ(name, key_name(KeyKind::event, kProject, "k2"));
    EXPECT_EQ(record.content, content_digest(std::span(&unit.events[2], 1)));
    ASSERT_EQ(record.receipts.size(), 1U);
    EXPECT_EQ(record.receipts[0].id, got.receipts[2].id);
}

TEST_F(UnitPlannerTest, WhenAllEventsAreKnownNothingChanges) {
    remember_event(draft("a.b", "k1"), {receipt(5)});
    remember_event(draft("a.c", "k2"), {receipt(3)});
    const AppendUnit unit = unit_of({draft("a.b", "k1"), draft("a.c", "k2")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_TRUE(planned.value().changes_nothing());
    EXPECT_TRUE(planned.value().new_events().empty());
    EXPECT_EQ(planned.value().receipts[0].seq, 5);
    EXPECT_EQ(planned.value().receipts[1].seq, 3);
}

TEST_F(UnitPlannerTest, AKnownEventWithOtherContentIsAConflict) {
    remember_event(draft("a.b", "k1"), {receipt(5)});
    const auto planned = plan(unit_of({draft("a.b"), draft("a.c", "k1")}));
    ASSERT_TRUE(planned.has_error());
    EXPECT_EQ(planned.error().code, Errc::conflict);
    EXPECT_EQ(planned.error().pointer, "idempotency_key");
    EXPECT_NE(planned.error().detail.find("event 1 "), std::string::npos);
}

TEST_F(UnitPlannerTest, AnEventKeyWithoutAReceiptIsAConflict) {
    remember_event(draft("a.b", "k1"), {});
    EXPECT_EQ(refusal(unit_of({draft("a.b", "k1")})), Errc::conflict);
}

TEST_F(UnitPlannerTest, AnEventThatIsRepeatedInItsUnitIsWrittenOnce) {
    const AppendUnit unit = unit_of({draft("a.b", "k"), draft("a.c"), draft("a.b", "k")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    const PlannedUnit& got = planned.value();
    EXPECT_EQ(got.sealed.events.size(), 2U);
    EXPECT_EQ(got.new_events().size(), 2U);
    EXPECT_EQ(got.receipts[2].id, got.receipts[0].id);
    EXPECT_FALSE(got.receipts[0].replayed);
    EXPECT_TRUE(got.receipts[2].replayed);
    EXPECT_EQ(got.receipts[1].seq, 1);
    ASSERT_EQ(got.keys.size(), 1U);
    EXPECT_FALSE(got.keys.begin()->second.receipts[0].replayed);
}

TEST_F(UnitPlannerTest, ARepeatedKeyWithOtherContentIsAConflict) {
    const auto planned = plan(unit_of({draft("a.b", "k"), draft("a.c", "k")}));
    ASSERT_TRUE(planned.has_error());
    EXPECT_EQ(planned.error().code, Errc::conflict);
    EXPECT_NE(planned.error().detail.find("event 1 "), std::string::npos);
}

TEST_F(UnitPlannerTest, AKnownEventThatIsRepeatedGetsItsFirstAnswerTwice) {
    remember_event(draft("a.b", "k"), {receipt(5)});
    const AppendUnit unit = unit_of({draft("a.b", "k"), draft("a.b", "k")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_TRUE(planned.value().changes_nothing());
    EXPECT_EQ(planned.value().receipts[0].seq, 5);
    EXPECT_EQ(planned.value().receipts[1].seq, 5);
    EXPECT_TRUE(planned.value().receipts[1].replayed);
}

TEST_F(UnitPlannerTest, AnEmptyEventKeyIsNone) {
    const AppendUnit unit = unit_of({draft("a.b", ""), draft("a.c", "")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_EQ(planned.value().sealed.events.size(), 2U);
    EXPECT_TRUE(planned.value().keys.empty());
}

TEST_F(UnitPlannerTest, AnEventOfTheSameTransactionIsKnown) {
    const PlannedUnit first = stage(unit_of({draft("a.b", "k")}));
    const AppendUnit unit = unit_of({draft("a.c"), draft("a.b", "k")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_EQ(planned.value().receipts[0].seq, 1);
    EXPECT_EQ(planned.value().receipts[1].id, first.receipts[0].id);
    EXPECT_TRUE(planned.value().receipts[1].replayed);
    EXPECT_EQ(refusal(unit_of({draft("a.x", "k")})), Errc::conflict);
}

TEST_F(UnitPlannerTest, ARequestRemembersWhatItsEventsReplayed) {
    remember_event(draft("a.b", "k"), {receipt(5)});
    const AppendUnit unit = unit_of({draft("a.b", "k"), draft("a.c", "new")}, "req");
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_FALSE(planned.value().replayed);
    EXPECT_EQ(planned.value().keys.size(), 2U);
    const auto& record = planned.value().keys.at(key_name(KeyKind::request, kProject, "req"));
    ASSERT_EQ(record.receipts.size(), 2U);
    EXPECT_EQ(record.receipts[0].id, receipt(5).id);
    EXPECT_EQ(record.receipts[1].seq, 0);
}

// Key/value preconditions

TEST_F(UnitPlannerTest, RequireAbsentLooksAtWhatIsCommitted) {
    committed.rows[row("there")] = "";
    EXPECT_TRUE(passes(kv_unit({absent("missing")})));
    EXPECT_EQ(refusal(kv_unit({absent("there")})), Errc::conflict);
}

TEST_F(UnitPlannerTest, RequireEqualsWantsTheVeryValue) {
    committed.rows[row("k")] = "v";
    committed.rows[row("empty")] = "";
    EXPECT_TRUE(passes(kv_unit({equals("k", "v")})));
    EXPECT_TRUE(passes(kv_unit({equals("empty", "")})));
    EXPECT_EQ(refusal(kv_unit({equals("k", "V")})), Errc::conflict);
    EXPECT_EQ(refusal(kv_unit({equals("k", "")})), Errc::conflict);
    EXPECT_EQ(refusal(kv_unit({equals("missing", "")})), Errc::conflict);
}

TEST_F(UnitPlannerTest, ARowIsItsSpaceItsProjectAndItsKey) {
    committed.rows[row("k")] = "v";
    for (const auto& [space, project, key] :
         {KvName("host.y", "p", "k"), KvName("host.x", "q", "k"), KvName("host.x", "p", "l")}) {
        EXPECT_TRUE(passes(kv_unit({{KvOp::Kind::require_absent, space, project, key, ""}})));
    }
}

TEST_F(UnitPlannerTest, APreconditionSeesTheOperationsBeforeIt) {
    committed.rows[row("old")] = "v";
    EXPECT_TRUE(passes(kv_unit({put("k", "1"), equals("k", "1")})));
    EXPECT_TRUE(passes(kv_unit({erase("old"), absent("old")})));
    EXPECT_TRUE(passes(kv_unit({absent("k"), put("k", "1")})));
    EXPECT_EQ(refusal(kv_unit({put("k", "1"), absent("k")})), Errc::conflict);
    EXPECT_EQ(refusal(kv_unit({put("old", "w"), equals("old", "v")})), Errc::conflict);
    EXPECT_EQ(refusal(kv_unit({erase("old"), equals("old", "v")})), Errc::conflict);
}

TEST_F(UnitPlannerTest, APreconditionSeesTheUnitsBefore) {
    committed.rows[row("old")] = "v";
    committed.rows[row("gone")] = "v";
    stage(kv_unit({put("new", "1"), put("old", "w"), erase("gone")}));
    EXPECT_TRUE(passes(kv_unit({equals("new", "1"), equals("old", "w"), absent("gone")})));
    EXPECT_EQ(refusal(kv_unit({absent("new")})), Errc::conflict);
    EXPECT_EQ(refusal(kv_unit({equals("old", "v")})), Errc::conflict);
    EXPECT_EQ(refusal(kv_unit({equals("gone", "v")})), Errc::conflict);
    EXPECT_TRUE(passes(kv_unit({erase("new"), absent("new")})));
}

TEST_F(UnitPlannerTest, OfEachRowTheLastOperationIsLeft) {
    const AppendUnit unit = kv_unit({put("a", "1"), put("a", "2"), put("b", "1"), erase("b")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    const KvStage left{{row("a"), "2"}, {row("b"), std::nullopt}};
    EXPECT_EQ(planned.value().kv, left);
}

TEST_F(UnitPlannerTest, APreconditionAloneChangesNothing) {
    const AppendUnit unit = kv_unit({absent("k")});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_TRUE(planned.value().kv.empty());
    EXPECT_TRUE(planned.value().changes_nothing());
}

// Erasures

TEST_F(UnitPlannerTest, WhatIsLiveMayBeErased) {
    committed.live = {{kProject, 3}, {kProject, 5}};
    const AppendUnit unit = erasing({5, 3});
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_EQ(planned.value().erase, (std::vector<Seq>{5, 3}));
    EXPECT_FALSE(planned.value().changes_nothing());
}

TEST_F(UnitPlannerTest, WhatIsNotLiveIsNotFound) {
    committed.live = {{kProject, 3}, {"proj_b", 4}};
    const auto planned = plan(erasing({3, 4}));
    ASSERT_TRUE(planned.has_error());
    EXPECT_EQ(planned.error().code, Errc::not_found);
    EXPECT_NE(planned.error().detail.find("event 4 "), std::string::npos);
    EXPECT_EQ(refusal(erasing({-1})), Errc::not_found);
}

TEST_F(UnitPlannerTest, NothingIsErasedTwice) {
    committed.live = {{kProject, 3}, {kProject, 4}, {"proj_b", 3}};
    EXPECT_EQ(refusal(erasing({3, 4, 3})), Errc::not_found);
    stage(erasing({3}));
    EXPECT_EQ(refusal(erasing({3})), Errc::not_found);
    EXPECT_TRUE(passes(erasing({4})));
    AppendUnit elsewhere = erasing({3});
    elsewhere.project = "proj_b";
    EXPECT_TRUE(passes(elsewhere));
}

TEST_F(UnitPlannerTest, WhatIsLiveIsScrubbedAndTheRestPassedOver) {
    committed.live = {{kProject, 3}, {kProject, 4}, {kProject, 5}};
    AppendUnit unit = erasing({4});
    unit.scrub = {{3, Scrub::bit(Column::user_id)}, {4, 0}, {9, 0}, {5, ~0U}};
    const auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    EXPECT_FALSE(planned.value().changes_nothing());
    ASSERT_EQ(planned.value().scrub.size(), 2U);
    EXPECT_EQ(planned.value().scrub[0].seq, 3);
    EXPECT_EQ(planned.value().scrub[0].columns, Scrub::bit(Column::user_id) | Scrub::kAlways);
    EXPECT_EQ(planned.value().scrub[1].seq, 5);
    EXPECT_FALSE(planned.value().scrub[1].takes(Column::action));
}

TEST_F(UnitPlannerTest, EventsOfTheSameTransactionMayBeErased) {
    committed.heads[kProject] = {9, kNow - 1, {}};
    stage(unit_of({draft("a.b"), draft("a.b")}));
    EXPECT_TRUE(passes(erasing({10, 11})));
    EXPECT_EQ(refusal(erasing({12})), Errc::not_found);
    EXPECT_EQ(committed.live_asked, 0);
    EXPECT_EQ(refusal(erasing({9})), Errc::not_found);
    committed.live = {{kProject, 9}};
    EXPECT_TRUE(passes(erasing({9})));
    EXPECT_EQ(committed.live_asked, 2);
    stage(erasing({11}));
    EXPECT_EQ(refusal(erasing({11})), Errc::not_found);
}

TEST_F(UnitPlannerTest, AUnitCannotEraseItsOwnEvents) {
    AppendUnit unit = unit_of({draft("a.b")});
    unit.erase = {0};
    EXPECT_EQ(refusal(unit), Errc::not_found);
    stage(unit_of({draft("a.b")}));
    unit.erase = {1};
    EXPECT_EQ(refusal(unit), Errc::not_found);
}

// What fails, and in which order

TEST_F(UnitPlannerTest, TheKeyOfTheRequestIsAskedFirstThenRowsErasuresEvents) {
    AppendUnit unit = unit_of({draft("a.b", "k")}, "req");
    unit.kv = {absent("there")};
    unit.erase = {9};
    committed.rows[row("there")] = "v";
    remember_event(draft("a.c", "k"), {receipt(1)});
    remember_request(unit_of({draft("a.d")}, "req"), {receipt(2)});
    const auto told = [&](const char* word) {
        const auto planned = plan(unit);
        return planned.has_error() && planned.error().detail.find(word) != std::string::npos;
    };
    EXPECT_TRUE(told("the request"));
    unit.request_key = "";
    EXPECT_TRUE(told("exists already"));
    unit.kv.clear();
    EXPECT_TRUE(told("event 9 is absent"));
    unit.erase.clear();
    EXPECT_TRUE(told("event 0 was used"));
}

TEST_F(UnitPlannerTest, AnErrorOfTheStateIsTheUnitsError) {
    committed.broken = Error{Errc::timeout, "asked in vain"};
    committed.live = {{kProject, 3}};
    for (const AppendUnit& unit :
         {unit_of({draft("a.b")}, "req"),
          unit_of({draft("a.b", "k")}),
          kv_unit({absent("k")}),
          kv_unit({equals("k", "v")}),
          erasing({3})}) {
        EXPECT_EQ(refusal(unit), Errc::timeout);
    }
    EXPECT_TRUE(passes(unit_of({draft("a.b")})));
    EXPECT_TRUE(passes(kv_unit({put("k", "v")})));
}

TEST_F(UnitPlannerTest, APlanStagesNothingByItself) {
    AppendUnit unit = unit_of({draft("a.b", "k")}, "req");
    unit.kv = {absent("row"), put("row", "v")};
    EXPECT_TRUE(passes(unit));
    const auto again = plan(unit);
    ASSERT_TRUE(again.has_value());
    EXPECT_FALSE(again.value().replayed);
    EXPECT_EQ(again.value().receipts[0].seq, 0);
}

// What each unit leaves for the next

TEST_F(UnitPlannerTest, UnitsOfATransactionFollowEachOther) {
    committed.heads[kProject] = {9, kNow - 1, sha256("head")};
    const PlannedUnit first = stage(unit_of({draft("a.b"), draft("a.c")}));
    const PlannedUnit second = stage(unit_of({draft("a.d")}));
    EXPECT_EQ(second.sealed.first_seq, 12);
    EXPECT_EQ(second.sealed.prev_digest, first.sealed.digest);
    EXPECT_EQ(second.receipts[0].created_at, first.sealed.last_at + 1);
    ASSERT_EQ(staged.logs.size(), 1U);
    const StagedUnits::Log& log = staged.logs.at(kProject);
    EXPECT_EQ(log.first_seq, 10);
    EXPECT_EQ(log.first_at, first.receipts[0].created_at);
    EXPECT_EQ(log.head.seq, 12);
    EXPECT_EQ(log.head.at, second.sealed.last_at);
    EXPECT_EQ(log.head.digest, second.sealed.digest);
}

TEST_F(UnitPlannerTest, LogsOfProjectsAreApart) {
    stage(unit_of({draft("a.b"), draft("a.c")}));
    AppendUnit elsewhere = unit_of({draft("a.b")});
    elsewhere.project = "proj_b";
    const PlannedUnit other = stage(elsewhere);
    EXPECT_EQ(other.receipts[0].seq, 0);
    EXPECT_EQ(staged.logs.size(), 2U);
}

TEST_F(UnitPlannerTest, EveryKindOfChangeCounts) {
    committed.live = {{kProject, 3}};
    AppendUnit moves = unit_of({});
    moves.cursors = {{"stream", 3}};
    for (const AppendUnit& unit :
         {unit_of({draft("a.b")}),
          unit_of({}, "req"),
          kv_unit({erase("k")}),
          erasing({3}),
          moves}) {
        const auto planned = plan(unit);
        ASSERT_TRUE(planned.has_value());
        EXPECT_FALSE(planned.value().changes_nothing());
    }
}

TEST_F(UnitPlannerTest, AUnitWithoutEventsStagesNoLog) {
    stage(kv_unit({put("k", "v")}));
    stage(unit_of({}, "req"));
    EXPECT_TRUE(staged.logs.empty());
}

TEST_F(UnitPlannerTest, AddingStagesTheSameWhetherItCopiesOrTakes) {
    committed.live = {{kProject, 3}};
    committed.heads[kProject] = {9, kNow - 1, {}};
    stage(kv_unit({put("k", "old")}));
    StagedUnits taken = staged;
    AppendUnit unit = unit_of({draft("a.b", "k")}, "req");
    unit.kv = {put("k", "new"), erase("l")};
    unit.erase = {3};
    auto planned = plan(unit);
    ASSERT_TRUE(planned.has_value());
    staged.add(planned.value());
    EXPECT_EQ(planned.value().keys.size(), 2U);
    EXPECT_EQ(planned.value().kv.size(), 2U);
    taken.add(std::move(planned.value()));
    const KvStage rows{{row("k"), "new"}, {row("l"), std::nullopt}};
    const std::set<std::pair<std::string, Seq>> erased{{kProject, 3}};
    for (const StagedUnits* units : {&staged, &taken}) {
        EXPECT_EQ(units->kv, rows);
        EXPECT_EQ(units->erased, erased);
        EXPECT_EQ(units->logs.at(kProject).head.seq, 10);
        ASSERT_EQ(units->keys.size(), 2U);
        const auto& record = units->keys.at(key_name(KeyKind::event, kProject, "k"));
        ASSERT_EQ(record.receipts.size(), 1U);
        EXPECT_EQ(record.receipts[0].seq, 10);
    }
}

}  // namespace
}  // namespace annal
