// Idempotency keys, and the key space beside the events.

#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

constexpr TimeUs kJanuary31 = 1'769'900'000'000'000;  // 2026-01-31T22:53:20Z
constexpr TimeUs kMarch2 = 1'772'431'200'000'000;     // 2026-03-02T06:00:00Z

Unit keyed(std::string_view action, Text key) {
    return Unit("p").event({{Column::action, Text(action)}}, kNoTime, key);
}

void expect_replay(const std::vector<Receipt>& again, const std::vector<Receipt>& first) {
    ASSERT_EQ(again.size(), first.size());
    for (std::size_t i = 0; i < first.size(); ++i) {
        EXPECT_TRUE(again[i].replayed);
        EXPECT_EQ(again[i].seq, first[i].seq);
        EXPECT_EQ(again[i].id, first[i].id);
        EXPECT_EQ(again[i].created_at, first[i].created_at);
    }
}

TEST_P(StoreContract, RequestKeyReplaysTheOriginalAnswer) {
    const auto first = receipts(Unit("p").action("a.b").action("a.c").key("k"));
    receipts(Unit("p").action("x.y"));
    expect_replay(receipts(Unit("p").action("a.b").action("a.c").key("k")), first);
    EXPECT_EQ(log("p").head_seq, 2);
}

TEST_P(StoreContract, RequestKeyWithOtherContentIsAConflict) {
    receipts(Unit("p").action("a.b").key("k"));
    for (const Unit& other :
         {Unit("p").action("a.c").key("k"),
          Unit("p").action("a.b").action("a.b").key("k"),
          Unit("p").event({{Column::action, "a.b"}, {Column::user_id, ""}}).key("k"),
          Unit("p").event({{Column::action, "a.b"}}, 5).key("k")}) {
        const auto refused = append(other);
        ASSERT_TRUE(refused.has_error());
        EXPECT_EQ(refused.error().code, Errc::conflict);
    }
    EXPECT_EQ(log("p").head_seq, 0);
}

TEST_P(StoreContract, EventKeyReplaysAndConflicts) {
    const auto first = receipts(keyed("a.b", "k"));
    expect_replay(receipts(keyed("a.b", "k")), first);
    const auto refused = append(keyed("a.c", "k"));
    ASSERT_TRUE(refused.has_error());
    EXPECT_EQ(refused.error().code, Errc::conflict);
    EXPECT_EQ(log("p").head_seq, 0);
}

TEST_P(StoreContract, UnitMixesKnownAndNewEvents) {
    const auto first = receipts(keyed("a.b", "k1"));
    receipts(Unit("p").action("x.y"));
    Unit mixed("p");
    mixed.action("m.one")
        .event({{Column::action, "a.b"}}, kNoTime, "k1")
        .event({{Column::action, "m.two"}}, kNoTime, "k2")
        .action("m.three");
    const auto made = receipts(mixed);
    ASSERT_EQ(made.size(), 4U);
    EXPECT_EQ(made[0].seq, 2);
    EXPECT_EQ(made[1].seq, 0);
    EXPECT_TRUE(made[1].replayed);
    EXPECT_EQ(made[1].id, first[0].id);
    EXPECT_EQ(made[2].seq, 3);
    EXPECT_FALSE(made[2].replayed);
    EXPECT_EQ(made[3].seq, 4);
    Filter two;
    two.actions = {{ActionPattern::Kind::exact, "m.two"}};
    EXPECT_EQ(walk("p", two, true, 10), std::vector<Seq>{3});
    expect_replay({receipts(keyed("m.two", "k2"))}, {made[2]});
}

TEST_P(StoreContract, MixedUnitWithRequestKeyReplaysWhole) {
    receipts(keyed("a.b", "k1"));
    const auto mixed = [] {
        return Unit("p").event({{Column::action, "a.b"}}, kNoTime, "k1").action("m.one").key("r");
    };
    const auto first = receipts(mixed());
    EXPECT_TRUE(first.at(0).replayed);
    EXPECT_FALSE(first.at(1).replayed);
    expect_replay(receipts(mixed()), first);
    EXPECT_EQ(log("p").head_seq, 1);
}

TEST_P(StoreContract, SameEventKeyTwiceInOneUnit) {
    Unit unit("p");
    unit.event({{Column::action, "a.b"}}, kNoTime, "k")
        .action("x.y")
        .event({{Column::action, "a.b"}}, kNoTime, "k");
    const auto made = receipts(unit);
    ASSERT_EQ(made.size(), 3U);
    EXPECT_EQ(made[0].seq, 0);
    EXPECT_EQ(made[1].seq, 1);
    EXPECT_EQ(made[2].seq, 0);
    EXPECT_FALSE(made[0].replayed);
    EXPECT_TRUE(made[2].replayed);
    Unit broken("p");
    broken.event({{Column::action, "a.b"}}, kNoTime, "j")
        .event({{Column::action, "a.c"}}, kNoTime, "j");
    const auto refused = append(broken);
    ASSERT_TRUE(refused.has_error());
    EXPECT_EQ(refused.error().code, Errc::conflict);
    EXPECT_EQ(log("p").head_seq, 1);
}

TEST_P(StoreContract, SameKeyInTwoUnitsOfOneCall) {
    const auto outcomes = append(std::vector<Unit>{
        Unit("p").action("a.b").key("r"),
        Unit("p").action("a.b").key("r"),
        Unit("p").action("a.c").key("r"),
        keyed("e.one", "k"),
        keyed("e.one", "k"),
        keyed("e.two", "k"),
    });
    ASSERT_TRUE(outcomes[0].has_value());
    ASSERT_TRUE(outcomes[1].has_value());
    expect_replay(outcomes[1].value(), outcomes[0].value());
    ASSERT_TRUE(outcomes[2].has_error());
    EXPECT_EQ(outcomes[2].error().code, Errc::conflict);
    ASSERT_TRUE(outcomes[3].has_value());
    ASSERT_TRUE(outcomes[4].has_value());
    expect_replay(outcomes[4].value(), outcomes[3].value());
    ASSERT_TRUE(outcomes[5].has_error());
    EXPECT_EQ(log("p").head_seq, 1);
}

TEST_P(StoreContract, RequestAndEventKeysAndProjectsAreApart) {
    receipts(Unit("p").action("a.b").key("k"));
    EXPECT_FALSE(receipts(keyed("a.c", "k")).at(0).replayed);
    EXPECT_FALSE(receipts(Unit("q").action("a.d").key("k")).at(0).replayed);
    EXPECT_FALSE(receipts(Unit("q").event({{Column::action, "a.e"}}, kNoTime, "k")).at(0).replayed);
    EXPECT_EQ(log("p").head_seq, 1);
    EXPECT_EQ(log("q").head_seq, 1);
}

TEST_P(StoreContract, AUnitThatFailedLeavesNoKey) {
    const auto refused = append(Unit("p").action("a.b").key("k").erase(9));
    ASSERT_TRUE(refused.has_error());
    EXPECT_FALSE(receipts(Unit("p").action("a.b").key("k")).at(0).replayed);
}

TEST_P(StoreContract, KeysSurviveReopeningAndFullSegments) {
    const auto request_first = receipts(Unit("p").action("a.b").action("a.c").key("k"));
    const auto event_first = receipts(keyed("e.f", "k"));
    for (int i = 0; i < 3; ++i) {
        reopen();
        expect_replay(receipts(Unit("p").action("a.b").action("a.c").key("k")), request_first);
        expect_replay(receipts(keyed("e.f", "k")), event_first);
        for (std::uint32_t n = 0; n < kSegmentEvents; ++n) {
            receipts(Unit("p").action("x.y"));
        }
    }
    harness_->settle();
    reopen();
    expect_replay(receipts(keyed("e.f", "k")), event_first);
}

TEST_P(StoreContract, KeysLiveForThirtyOneDaysOverMonthEdges) {
    clock_.step_to(kJanuary31);
    const auto first = receipts(Unit("p").action("a.b").key("r"));
    const auto event = receipts(keyed("e.f", "k"));
    // February is so short that a key of January's last day is honoured in March.
    clock_.step_to(kMarch2);
    receipts(Unit("p").action("x.y"));
    expect_replay(receipts(Unit("p").action("a.b").key("r")), first);
    reopen();
    expect_replay(receipts(keyed("e.f", "k")), event);
    EXPECT_TRUE(append(keyed("e.g", "k")).has_error());
}

TEST_P(StoreContract, ManyKeysAllReplay) {
    constexpr int kKeys = 3'000;
    std::vector<Receipt> first;
    for (int i = 0; i < kKeys; i += 500) {
        Unit unit("p");
        for (int k = i; k < i + 500; ++k) {
            unit.event(
                {{Column::action, "a.b"}},
                kNoTime,
                Text(std::string_view("key" + std::to_string(k)))
            );
        }
        for (const Receipt& receipt : receipts(unit)) {
            first.push_back(receipt);
        }
    }
    reopen();
    for (int k = 0; k < kKeys; k += 37) {
        const std::string key = "key" + std::to_string(k);
        expect_replay(receipts(keyed("a.b", Text(key))), {first[static_cast<std::size_t>(k)]});
    }
    EXPECT_EQ(log("p").head_seq, kKeys - 1);
}

TEST_P(StoreContract, ReplayedUnitWritesNothingElse) {
    const auto unit = [] {
        return Unit("p")
            .action("a.b")
            .key("k")
            .kv({KvOp::Kind::require_absent, "plugin.x", "p", "n", ""})
            .put("plugin.x", "n", "1")
            .cursor("s", 4);
    };
    const auto first = receipts(unit());
    receipts(Unit("p").put("plugin.x", "n", "2").cursor("s", 9));
    // Not a conflict, although the precondition no longer holds: the answer is the original one.
    expect_replay(receipts(unit()), first);
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "n")).value(), "2");
    EXPECT_EQ(run(store_->cursor("p", "s")).value(), 9);
}

TEST_P(StoreContract, KeyOfAUnitWithoutEventsReplays) {
    EXPECT_TRUE(receipts(Unit("p").put("plugin.x", "n", "1").key("k")).empty());
    receipts(Unit("p").put("plugin.x", "n", "2"));
    EXPECT_TRUE(receipts(Unit("p").put("plugin.x", "n", "1").key("k")).empty());
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "n")).value(), "2");
}

TEST_P(StoreContract, ConcurrentUseOfOneKeyWritesOnce) {
    std::vector<PendingTask<std::vector<AppendOutcome>>> calls;
    const std::vector<AppendUnit> units = {Unit("p").action("a.b").key("k").build()};
    for (int i = 0; i < 40; ++i) {
        calls.push_back(start(store_->append(units)));
    }
    int fresh = 0;
    for (auto& call : calls) {
        const auto outcomes = call.get();
        ASSERT_TRUE(outcomes[0].has_value());
        EXPECT_EQ(outcomes[0].value().at(0).seq, 0);
        fresh += outcomes[0].value().at(0).replayed ? 0 : 1;
    }
    EXPECT_EQ(fresh, 1);
}

TEST_P(StoreContract, KvPutGetErase) {
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), std::nullopt);
    const std::string binary("\0\xff value", 8);
    receipts(Unit("p").put("plugin.x", "k", binary).put("plugin.x", "empty", ""));
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), binary);
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "empty")).value(), "");
    EXPECT_EQ(run(store_->kv_get("plugin.y", "p", "k")).value(), std::nullopt);
    EXPECT_EQ(run(store_->kv_get("plugin.x", "q", "k")).value(), std::nullopt);
    receipts(
        Unit("p").put("plugin.x", "k", "new").kv({KvOp::Kind::erase, "plugin.x", "p", "empty", ""})
    );
    reopen();
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), "new");
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "empty")).value(), std::nullopt);
}

TEST_P(StoreContract, KvScanIsOrderedPrefixedAndPaged) {
    for (const char* key : {"b/2", "a/1", "b/1", "b/10", "b0", "c", "b_1", "b%1", "b/\xc3\xbc"}) {
        receipts(Unit("p").put("plugin.x", key, std::string("v") + key));
    }
    receipts(Unit("q").put("plugin.x", "b/0", "other project"));
    auto order = KvOrder::ascending;
    const auto keys = [&](std::string prefix, std::string after, std::uint32_t limit) {
        std::vector<std::string> found;
        const auto rows = run(store_->kv_scan("plugin.x", "p", prefix, after, limit, order));
        for (const KvRow& row : rows.value()) {
            EXPECT_EQ(row.project, "p");
            EXPECT_EQ(row.value, "v" + row.key);
            found.push_back(row.key);
        }
        return found;
    };
    using Keys = std::vector<std::string>;
    EXPECT_EQ(keys("b/", "", 100), (Keys{"b/1", "b/10", "b/2", "b/\xc3\xbc"}));
    EXPECT_EQ(keys("b/", "b/1", 2), (Keys{"b/10", "b/2"}));
    EXPECT_EQ(keys("b_", "", 100), (Keys{"b_1"}));
    EXPECT_EQ(keys("", "b_1", 100), (Keys{"c"}));
    EXPECT_EQ(keys("", "", 100).size(), 9U);
    EXPECT_EQ(keys("z", "", 100), Keys{});
    order = KvOrder::descending;
    EXPECT_EQ(keys("b/", "", 100), (Keys{"b/\xc3\xbc", "b/2", "b/10", "b/1"}));
    EXPECT_EQ(keys("b/", "b/2", 1), (Keys{"b/10"}));
    EXPECT_EQ(keys("b/", "b/1", 100), Keys{});
    EXPECT_EQ(keys("b/\xc3\xbc", "", 100), (Keys{"b/\xc3\xbc"}));
    EXPECT_EQ(keys("", "", 2), (Keys{"c", "b_1"}));
    EXPECT_EQ(keys("z", "", 100), Keys{});
}

TEST_P(StoreContract, KvScanOverAllProjects) {
    for (const char* project : {"b", "a", "c"}) {
        receipts(Unit(project)
                     .put("host.x", "k/2", project)
                     .put("host.x", "k/1", project)
                     .put("host.x", "j", "-"));
    }
    std::vector<std::string> found;
    std::string after;
    while (true) {
        const auto rows = run(store_->kv_scan("host.x", "", "k/", after, 2)).value();
        if (rows.empty()) {
            break;
        }
        for (const KvRow& row : rows) {
            found.push_back(row.project + ":" + row.key);
            after = row.project + '\0' + row.key;
        }
    }
    EXPECT_EQ(
        found, (std::vector<std::string>{"a:k/1", "a:k/2", "b:k/1", "b:k/2", "c:k/1", "c:k/2"})
    );
}

TEST_P(StoreContract, PreconditionsSeeWhatTheSameCallDid) {
    const auto absent = [](std::string key) {
        return KvOp{KvOp::Kind::require_absent, "plugin.x", "p", std::move(key), ""};
    };
    const auto equals = [](std::string key, std::string value) {
        return KvOp{KvOp::Kind::require_equals, "plugin.x", "p", std::move(key), std::move(value)};
    };
    const auto outcomes = append(std::vector<Unit>{
        Unit("p").kv(absent("k")).put("plugin.x", "k", "1"),
        Unit("p").kv(absent("k")).put("plugin.x", "k", "x"),
        Unit("p").kv(equals("k", "1")).put("plugin.x", "k", "2").kv(equals("k", "2")),
        Unit("p").kv(equals("k", "1")).put("plugin.x", "k", "y"),
        Unit("p").kv(equals("none", "")),
        Unit("p").kv({KvOp::Kind::erase, "plugin.x", "p", "k", ""}).kv(absent("k")),
        Unit("p").kv(absent("k")).put("plugin.x", "k", "3"),
    });
    const std::vector<bool> expected = {true, false, true, false, false, true, true};
    for (std::size_t i = 0; i < expected.size(); ++i) {
        EXPECT_EQ(outcomes[i].has_value(), expected[i]) << i;
        if (!expected[i]) {
            EXPECT_EQ(outcomes[i].error().code, Errc::conflict);
        }
    }
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), "3");
}

TEST_P(StoreContract, KvAndCursorsAloneAreDurable) {
    for (int i = 0; i < 300; ++i) {
        receipts(Unit("p")
                     .put("plugin.x", "k" + std::to_string(i % 10), std::to_string(i))
                     .cursor("s", i));
    }
    reopen();
    EXPECT_EQ(run(store_->cursor("p", "s")).value(), 299);
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k3")).value(), "293");
    EXPECT_EQ(log("p").head_seq, kNoSeq);
}

}  // namespace
}  // namespace annal::test
