// Appends: order, time, fidelity, what one commit holds.
#include <algorithm>
#include <limits>
#include <set>

#include "runtime/core/limits.h"
#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

constexpr TimeUs kApril = 1'775'001'600'000'000;  // 2026-04-01T00:00:00Z

TEST_P(StoreContract, FirstEventHasSeqZero) {
    EXPECT_EQ(log("p").head_seq, kNoSeq);
    const auto made = receipts(Unit("p").action("a.b"));
    ASSERT_EQ(made.size(), 1U);
    EXPECT_EQ(made[0].seq, 0);
    EXPECT_EQ(made[0].created_at, kStart);
    EXPECT_FALSE(made[0].replayed);
    const LogState state = log("p");
    EXPECT_EQ(state.first_seq, 0);
    EXPECT_EQ(state.head_seq, 0);
    EXPECT_EQ(state.head_at, kStart);
    EXPECT_NE(state.head_digest, Digest{});
}

TEST_P(StoreContract, SeqHasNoHolesAcrossUnitsAndCalls) {
    Seq expected = 0;
    for (int call = 0; call < 20; ++call) {
        std::vector<Unit> units;
        for (int u = 0; u < 1 + call % 4; ++u) {
            Unit unit("p");
            for (int e = 0; e <= (call + u) % 5; ++e) {
                unit.action("a.b");
            }
            units.push_back(unit);
        }
        for (auto& outcome : append(units)) {
            ASSERT_TRUE(outcome.has_value());
            for (const Receipt& receipt : outcome.value()) {
                EXPECT_EQ(receipt.seq, expected++);
            }
        }
    }
    EXPECT_EQ(log("p").head_seq, expected - 1);
    const auto seqs = walk("p", {}, false, 7);
    ASSERT_EQ(seqs.size(), static_cast<std::size_t>(expected));
    for (std::size_t i = 0; i < seqs.size(); ++i) {
        EXPECT_EQ(seqs[i], static_cast<Seq>(i));
    }
}

TEST_P(StoreContract, CreatedAtAndIdRiseWithSeq) {
    TimeUs last_at = 0;
    EventId last_id;
    for (int i = 0; i < 50; ++i) {
        for (const Receipt& receipt : receipts(Unit("p").action("a.b").action("a.c"))) {
            EXPECT_GT(receipt.created_at, last_at);
            EXPECT_LT(last_id, receipt.id);
            EXPECT_EQ(receipt.id.created_at(), receipt.created_at);
            last_at = receipt.created_at;
            last_id = receipt.id;
        }
        if (i % 3 == 0) {
            clock_.advance(1);
        }
    }
}

TEST_P(StoreContract, EachProjectHasItsOwnLog) {
    for (int i = 0; i < 100; ++i) {
        const auto made = receipts(Unit("p" + std::to_string(i % 7)).action("a.b"));
        EXPECT_EQ(made.at(0).seq, i / 7);
    }
    EXPECT_EQ(walk("p3", {}, true, 5).size(), 14U);
    EXPECT_TRUE(walk("p", {}, true, 5).empty());
}

TEST_P(StoreContract, TimeGoesOnWhenTheClockStepsBack) {
    const auto first = receipts(Unit("p").action("a.b"));
    clock_.step_to(kStart - 3'600 * kSecondUs);
    const auto second = receipts(Unit("p").action("a.b"));
    EXPECT_EQ(second.at(0).created_at, first.at(0).created_at + 1);
    clock_.step_to(kStart + 5);
    EXPECT_EQ(receipts(Unit("p").action("a.b")).at(0).created_at, kStart + 5);
}

TEST_P(StoreContract, ClockThatStepsBackOverAMonthStaysInTheNewestMonth) {
    clock_.step_to(kApril - 10);
    receipts(Unit("old").action("a.b"));
    clock_.step_to(kApril + 10);
    receipts(Unit("p").action("a.b"));
    clock_.step_to(kApril - 5);
    // A project that never was in the new month is stamped into it as well.
    EXPECT_GE(receipts(Unit("old").action("a.b")).at(0).created_at, kApril);
    EXPECT_GE(receipts(Unit("new").action("a.b")).at(0).created_at, kApril);
    EXPECT_EQ(receipts(Unit("p").action("a.b")).at(0).created_at, kApril + 11);
    reopen();
    EXPECT_GE(receipts(Unit("other").action("a.b")).at(0).created_at, kApril);
    const auto months = run(store_->months());
    ASSERT_TRUE(months.has_value());
    ASSERT_EQ(months.value().size(), 2U);
    EXPECT_EQ(months.value()[0].events, 1);
    EXPECT_EQ(months.value()[1].events, 5);
}

TEST_P(StoreContract, UnitNeverSpansAMonth) {
    clock_.step_to(kApril - 2);
    receipts(Unit("p").action("a.b"));
    Unit unit("p");
    for (int i = 0; i < 5; ++i) {
        unit.action("a.b");
    }
    for (const Receipt& receipt : receipts(unit)) {
        EXPECT_GE(receipt.created_at, kApril);
    }
    EXPECT_EQ(walk("p", {}, false, 2).size(), 6U);
}

TEST_P(StoreContract, OneCallMayCrossAMonth) {
    clock_.step_to(kApril - 3);
    std::vector<Unit> units;
    for (int i = 0; i < 5; ++i) {
        units.push_back(
            Unit("p").action("a.b").action("a.c").put("plugin.x", std::to_string(i), "v")
        );
    }
    Seq expected = 0;
    for (auto& outcome : append(units)) {
        ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
        for (const Receipt& receipt : outcome.value()) {
            EXPECT_EQ(receipt.seq, expected++);
        }
    }
    EXPECT_EQ(walk("p", {}, true, 3).size(), 10U);
    EXPECT_EQ(run(store_->kv_scan("plugin.x", "p", "", "", 100)).value().size(), 5U);
    EXPECT_EQ(run(store_->months()).value().size(), 2U);
}

TEST_P(StoreContract, EveryColumnComesBack) {
    Truth truth;
    truth.project = "p";
    Unit unit("p");
    for (std::size_t c = 0; c < kColumns; ++c) {
        unit.event({{Column::action, "a.b"}, {static_cast<Column>(c), "v.x"}});
    }
    const auto made = receipts(unit);
    const AppendUnit built = unit.build();
    for (std::size_t i = 0; i < made.size(); ++i) {
        truth.add(built.events[i], made[i]);
    }
    expect_equal(truth);
    reopen();
    expect_equal(truth);
}

TEST_P(StoreContract, NullIsNotEmpty) {
    receipts(Unit("p").action("a.b").event({{Column::action, "a.b"}, {Column::user_id, ""}}));
    const ScanPage page = scan(request("p"));
    ASSERT_EQ(page.batch.events.size(), 2U);
    EXPECT_FALSE(page.batch.events[0][Column::user_id].is_null());
    EXPECT_EQ(page.batch.events[0][Column::user_id].view(), "");
    EXPECT_TRUE(page.batch.events[1][Column::user_id].is_null());
    Filter empty;
    empty.equals[static_cast<std::size_t>(Column::user_id)] = "";
    EXPECT_EQ(walk("p", empty, true, 10), std::vector<Seq>{1});
}

TEST_P(StoreContract, TextIsKeptByteForByte) {
    const std::string metadata = "{ \"a\" : 1.10,\"b\":12345678901234567890 ,\"ü\":\"\\u00fc\\n\"}";
    const std::string unicode = "naïve Ω 日本語 🦉 \x01\x7f";
    receipts(Unit("p").event(
        {{Column::action, "a.b"},
         {Column::metadata, Text(metadata)},
         {Column::description, Text(unicode)},
         {Column::target_id, Text(unicode)}}
    ));
    reopen();
    const ScanPage page = scan(request("p"));
    ASSERT_EQ(page.batch.events.size(), 1U);
    EXPECT_EQ(page.batch.events[0][Column::metadata].view(), metadata);
    EXPECT_EQ(page.batch.events[0][Column::description].view(), unicode);
    EXPECT_EQ(page.batch.events[0][Column::target_id].view(), unicode);
}

TEST_P(StoreContract, LargestValuesFit) {
    std::vector<std::string> values;
    std::vector<std::pair<Column, Text>> columns;
    for (std::size_t c = 0; c < kColumns; ++c) {
        const auto column = static_cast<Column>(c);
        values.push_back(std::string(size_max(column), static_cast<char>('a' + c)));
    }
    for (std::size_t c = 0; c < kColumns; ++c) {
        columns.emplace_back(static_cast<Column>(c), Text(values[c]));
    }
    receipts(Unit("p").event(columns).event(columns));
    const ScanPage page = scan(request("p"));
    ASSERT_EQ(page.batch.events.size(), 2U);
    for (std::size_t c = 0; c < kColumns; ++c) {
        EXPECT_EQ(page.batch.events[1].columns[c].view(), values[c]);
    }
}

TEST_P(StoreContract, AnyOccurredAtIsKept) {
    const std::vector<TimeUs> times = {
        0, -1, kNoTime + 1, std::numeric_limits<TimeUs>::max(), kStart, kNoTime};
    Unit unit("p");
    for (const TimeUs at : times) {
        unit.event({{Column::action, "a.b"}}, at);
    }
    receipts(unit);
    ScanRequest all = request("p");
    all.newest_first = false;
    const ScanPage page = scan(all);
    ASSERT_EQ(page.batch.events.size(), times.size());
    for (std::size_t i = 0; i < times.size(); ++i) {
        EXPECT_EQ(page.batch.events[i].occurred_at, times[i]);
    }
}

TEST_P(StoreContract, LargestUnitIsOneCommit) {
    Unit unit("p");
    for (std::uint32_t i = 0; i < kBatchEventsMax; ++i) {
        unit.action(i % 2 == 0 ? "a.b" : "a.c");
    }
    const auto made = receipts(unit);
    ASSERT_EQ(made.size(), kBatchEventsMax);
    EXPECT_EQ(made.back().seq, static_cast<Seq>(kBatchEventsMax) - 1);
    EXPECT_EQ(walk("p", {}, true, kPageMax).size(), kBatchEventsMax);
    unit.action("a.d");
    const auto refused = append(unit);
    ASSERT_TRUE(refused.has_error());
    EXPECT_EQ(refused.error().code, Errc::too_large);
    EXPECT_EQ(log("p").head_seq, static_cast<Seq>(kBatchEventsMax) - 1);
}

TEST_P(StoreContract, ConcurrentAppendsKeepTheLogWhole) {
    constexpr int kCallers = 32, kEach = 12;
    std::vector<PendingTask<int>> callers;
    std::mutex mutex;
    std::set<Seq> seqs;
    auto caller = [&](int number) -> Task<int> {
        for (int i = 0; i < kEach; ++i) {
            Unit unit("p");
            unit.action("a.b").action("c" + std::to_string(number) + ".d");
            std::vector<AppendUnit> units = {unit.build()};
            auto outcomes = co_await store_->append(units);
            EXPECT_TRUE(outcomes[0].has_value());
            const std::lock_guard lock(mutex);
            for (const Receipt& receipt : outcomes[0].value()) {
                EXPECT_TRUE(seqs.insert(receipt.seq).second);
            }
        }
        co_return kEach;
    };
    for (int i = 0; i < kCallers; ++i) {
        callers.push_back(start(caller(i)));
    }
    for (auto& done : callers) {
        EXPECT_EQ(done.get(), kEach);
    }
    EXPECT_EQ(seqs.size(), static_cast<std::size_t>(kCallers * kEach * 2));
    EXPECT_EQ(*seqs.rbegin(), kCallers * kEach * 2 - 1);
    EXPECT_EQ(walk("p", {}, true, 100).size(), seqs.size());
}

TEST_P(StoreContract, AUnitThatFailsHarmsNoOther) {
    receipts(Unit("p").put("plugin.x", "k", "v").action("a.b"));
    const auto outcomes = append(std::vector<Unit>{
        Unit("p").action("a.one"),
        Unit("p").action("a.two").kv({KvOp::Kind::require_absent, "plugin.x", "p", "k", ""}),
        Unit("p").action("a.three").erase(77),
        Unit("q").action("a.four").put("plugin.x", "other", "w"),
        Unit("p").action("a.five"),
    });
    EXPECT_TRUE(outcomes[0].has_value());
    ASSERT_TRUE(outcomes[1].has_error());
    EXPECT_EQ(outcomes[1].error().code, Errc::conflict);
    ASSERT_TRUE(outcomes[2].has_error());
    EXPECT_EQ(outcomes[2].error().code, Errc::not_found);
    EXPECT_TRUE(outcomes[3].has_value());
    ASSERT_TRUE(outcomes[4].has_value());
    EXPECT_EQ(outcomes[4].value().at(0).seq, 2);
    EXPECT_EQ(walk("p", {}, false, 10), (std::vector<Seq>{0, 1, 2}));
    EXPECT_EQ(run(store_->kv_get("plugin.x", "q", "other")).value(), "w");
}

TEST_P(StoreContract, EventsKvAndCursorAreOneCommit) {
    receipts(Unit("p").action("a.b").put("plugin.x", "k", "v").cursor("stream1", 7));
    const auto check = [&] {
        EXPECT_EQ(log("p").head_seq, 0);
        EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), "v");
        EXPECT_EQ(run(store_->cursor("p", "stream1")).value(), 7);
        EXPECT_EQ(run(store_->cursor("p", "stream2")).value(), kNoSeq);
    };
    check();
    reopen();
    check();
}

TEST_P(StoreContract, FullDiskIsUnavailableAndNothingIsWritten) {
    receipts(Unit("p").action("a.b").put("plugin.x", "k", "1"));
    harness_->fail_writes(true);
    for (int i = 0; i < 3; ++i) {
        const auto refused = append(Unit("p").action("a.c").put("plugin.x", "k", "2").key("once"));
        ASSERT_TRUE(refused.has_error());
        EXPECT_EQ(refused.error().code, Errc::unavailable) << refused.error().detail;
        EXPECT_FALSE(refused.error().detail.empty());
    }
    EXPECT_EQ(walk("p", {}, true, 10), std::vector<Seq>{0});
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), "1");
    harness_->fail_writes(false);
    const auto made = receipts(Unit("p").action("a.c").put("plugin.x", "k", "2").key("once"));
    EXPECT_EQ(made.at(0).seq, 1);
    EXPECT_FALSE(made.at(0).replayed);
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), "2");
    reopen();
    EXPECT_EQ(walk("p", {}, true, 10), (std::vector<Seq>{1, 0}));
}

TEST_P(StoreContract, EverythingIsThereAfterReopening) {
    const auto truths = fill(4711, 500);
    for (int i = 0; i < 2; ++i) {
        for (const Truth& truth : truths) {
            expect_equal(truth);
        }
        reopen();
    }
    const LogState before = log("project0");
    const auto made = receipts(Unit("project0").action("a.b"));
    EXPECT_EQ(made.at(0).seq, before.head_seq + 1);
    EXPECT_GT(made.at(0).created_at, before.head_at);
}

}  // namespace
}  // namespace annal::test
