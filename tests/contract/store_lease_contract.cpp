// Leases, and the cursor moves that they fence. Time is the store's own, so these tests wait for
// it: where a lease has to end they use a short one, anywhere else one that outlasts them.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr milliseconds kShort = 300ms, kLong = 10min;
constexpr auto kPatience = 60s;

LeaseRequest request_of(std::string owner, milliseconds ttl = kLong, std::string name = "s") {
    return {"p", std::move(name), std::move(owner), ttl};
}

class LeaseCalls {
public:
    LeaseCalls(EventStore& store, IoThreads& threads) : store_(store), threads_(threads) {}

    Lease ask(LeaseRequest request) const {
        auto lease = threads_.run(store_.lease(std::move(request)));
        EXPECT_TRUE(lease.has_value()) << lease.error().detail;
        return lease.has_value() ? lease.value() : Lease{};
    }
    /// A lease that must be free or the owner's.
    Lease take(LeaseRequest request) const {
        const Lease lease = ask(std::move(request));
        EXPECT_TRUE(lease.mine);
        EXPECT_GE(lease.fence, 1);
        return lease;
    }
    /// Asks until it is granted.
    Lease take_over(const LeaseRequest& request) const {
        const auto until = Clock::now() + kPatience;
        while (Clock::now() < until) {
            const Lease lease = ask(request);
            if (lease.mine) {
                return lease;
            }
            std::this_thread::sleep_for(std::clamp<milliseconds>(lease.left, 1ms, 50ms));
        }
        ADD_FAILURE() << "the lease does not end";
        return {};
    }
    void release(std::string owner, std::string name = "s") const {
        const auto done =
            threads_.run(store_.release_lease("p", std::move(name), std::move(owner)));
        EXPECT_TRUE(done.has_value()) << done.error().detail;
    }
    Seq cursor(std::string project = "p", std::string name = "s") const {
        return threads_.run(store_.cursor(std::move(project), std::move(name))).value();
    }

private:
    EventStore& store_;
    IoThreads& threads_;
};

void expect_lost(const AppendOutcome& outcome) {
    ASSERT_TRUE(outcome.has_error());
    EXPECT_EQ(outcome.error().code, Errc::conflict);
    EXPECT_NE(outcome.error().detail.find("lease"), std::string::npos) << outcome.error().detail;
}

TEST_P(StoreContract, LeaseIsTakenRenewedAndRefused) {
    const LeaseCalls calls(*store_, threads_);
    const Lease taken = calls.take(request_of("a"));
    EXPECT_LE(taken.left, kLong);
    EXPECT_GT(taken.left, kLong / 2);
    const Lease refused = calls.ask(request_of("b", kShort));
    EXPECT_FALSE(refused.mine);
    EXPECT_EQ(refused.fence, taken.fence);
    EXPECT_LE(refused.left, kLong);
    EXPECT_GT(refused.left, kLong / 2);
    const Lease renewed = calls.take(request_of("a", 2 * kLong));
    EXPECT_EQ(renewed.fence, taken.fence);
    EXPECT_GT(renewed.left, kLong);
    EXPECT_GT(calls.ask(request_of("b")).left, kLong) << "the renewal moved the end";
}

TEST_P(StoreContract, LeaseThatRanOutIsTakenOver) {
    const LeaseCalls calls(*store_, threads_);
    const auto begin = Clock::now();
    const Lease first = calls.take(request_of("a", kShort));
    const Lease second = calls.take_over(request_of("b"));
    // The store's clock may run a little faster than this one.
    EXPECT_GE(Clock::now() - begin, kShort - 50ms);
    EXPECT_GT(second.fence, first.fence);
    const Lease late = calls.ask(request_of("a", kShort));
    EXPECT_FALSE(late.mine);
    EXPECT_EQ(late.fence, second.fence);
}

TEST_P(StoreContract, LeaseRenewedInTimeIsNotTakenOver) {
    const LeaseCalls calls(*store_, threads_);
    // Renewed to last, before it could end: also a slow machine can't miss the moment.
    const Lease first = calls.take(request_of("a", 5s));
    const Lease renewed = calls.take(request_of("a"));
    EXPECT_EQ(renewed.fence, first.fence);
    EXPECT_FALSE(calls.ask(request_of("b")).mine);
}

TEST_P(StoreContract, LeaseThatNobodyTookIsRenewedLate) {
    const LeaseCalls calls(*store_, threads_);
    const Lease first = calls.take(request_of("a", 50ms));
    std::this_thread::sleep_for(200ms);
    EXPECT_TRUE(append(Unit("p").cursor("s", 3, first.fence)).has_value())
        << "the fence is current until the next owner's";
    const Lease late = calls.take(request_of("a"));
    EXPECT_EQ(late.fence, first.fence);
    EXPECT_FALSE(calls.ask(request_of("b")).mine);
}

TEST_P(StoreContract, ReleasedLeaseIsFreeAndItsFenceOver) {
    const LeaseCalls calls(*store_, threads_);
    calls.release("a");  // of which nobody has heard
    const Lease first = calls.take(request_of("a"));
    calls.release("b");
    EXPECT_FALSE(calls.ask(request_of("b")).mine) << "only its holder can release it";
    receipts(Unit("p").cursor("s", 1, first.fence));
    calls.release("a");
    calls.release("a");
    expect_lost(append(Unit("p").cursor("s", 2, first.fence)));
    const Lease again = calls.take(request_of("a"));
    EXPECT_GT(again.fence, first.fence);
    calls.release("a");
    const Lease second = calls.take(request_of("b"));
    EXPECT_GT(second.fence, again.fence);
    calls.release("a");  // late
    EXPECT_EQ(calls.take(request_of("b")).fence, second.fence);
    EXPECT_EQ(calls.cursor(), 1);
}

TEST_P(StoreContract, LeasesOfOtherNamesAndProjectsAreApart) {
    const LeaseCalls calls(*store_, threads_);
    const Lease a = calls.take(request_of("a"));
    const Lease b = calls.take(request_of("b", kLong, "t"));
    const Lease c = calls.take({"q", "s", "c", kLong});
    calls.release("b", "t");
    EXPECT_EQ(calls.take(request_of("a")).fence, a.fence);
    expect_lost(append(Unit("p").cursor("t", 1, b.fence)));
    EXPECT_TRUE(append(Unit("p").cursor("s", 1, a.fence)).has_value());
    EXPECT_TRUE(append(Unit("q").cursor("s", 2, c.fence)).has_value());
    EXPECT_EQ(calls.cursor(), 1);
    EXPECT_EQ(calls.cursor("q"), 2);
}

TEST_P(StoreContract, OwnersWhoAskAtOnceGetOneWinner) {
    const LeaseCalls calls(*store_, threads_);
    std::int64_t last_fence = 0;
    for (int round = 0; round < 10; ++round) {
        std::vector<PendingTask<Result<Lease>>> asked;
        for (int i = 0; i < 8; ++i) {
            asked.push_back(start(store_->lease(request_of("owner" + std::to_string(i)))));
        }
        std::vector<int> winners;
        std::set<std::int64_t> fences;
        for (int i = 0; i < 8; ++i) {
            const auto lease = asked[static_cast<std::size_t>(i)].get();
            ASSERT_TRUE(lease.has_value()) << lease.error().detail;
            fences.insert(lease.value().fence);
            if (lease.value().mine) {
                winners.push_back(i);
            }
        }
        ASSERT_EQ(winners.size(), 1U);
        ASSERT_EQ(fences.size(), 1U) << "the others are told the winner's";
        EXPECT_GT(*fences.begin(), last_fence);
        last_fence = *fences.begin();
        calls.release("owner" + std::to_string(winners.front()));
    }
}

TEST_P(StoreContract, StaleFenceWritesNothingOfItsUnit) {
    const LeaseCalls calls(*store_, threads_);
    receipts(Unit("p").action("a.b").put("plugin.x", "k", "old"));
    const Lease first = calls.take(request_of("a", kShort));
    receipts(Unit("p").cursor("s", 0, first.fence));
    const Lease second = calls.take_over(request_of("b"));
    const auto outcomes = append(std::vector<Unit>{
        Unit("p").action("a.c").cursor("s", 1, second.fence),
        Unit("p")
            .action("a.d")
            .key("request")
            .put("plugin.x", "k", "new")
            .erase(0)
            .cursor("other", 5)
            .cursor("s", 2, first.fence),
        Unit("p").action("a.e").put("plugin.x", "l", "1"),
    });
    EXPECT_TRUE(outcomes[0].has_value());
    expect_lost(outcomes[1]);
    ASSERT_TRUE(outcomes[2].has_value()) << "the units beside it are not harmed";
    const auto check = [&] {
        EXPECT_EQ(calls.cursor(), 1);
        EXPECT_EQ(calls.cursor("p", "other"), kNoSeq);
        EXPECT_EQ(walk("p", {}, false, 10), (std::vector<Seq>{0, 1, 2}));
        EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), "old");
        EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "l")).value(), "1");
    };
    check();
    const auto again = receipts(Unit("p").action("a.d").key("request"));
    EXPECT_FALSE(again.at(0).replayed) << "its idempotency key was not kept either";
}

TEST_P(StoreContract, FenceOfNobodyIsRefused) {
    const LeaseCalls calls(*store_, threads_);
    expect_lost(append(Unit("p").cursor("s", 1, 1)));
    const Lease lease = calls.take(request_of("a"));
    expect_lost(append(Unit("p").cursor("s", 1, lease.fence + 1)));
    expect_lost(append(Unit("p").cursor("t", 1, lease.fence)));
    expect_lost(append(Unit("q").cursor("s", 1, lease.fence)));
    EXPECT_EQ(calls.cursor(), kNoSeq);
    EXPECT_TRUE(append(Unit("p").cursor("s", 1, lease.fence)).has_value());
}

TEST_P(StoreContract, FencedCursorNeverGoesBack) {
    const LeaseCalls calls(*store_, threads_);
    const std::int64_t fence = calls.take(request_of("a")).fence;
    receipts(Unit("p").cursor("s", 5, fence));
    receipts(Unit("p").cursor("s", 5, fence));
    const auto back = append(Unit("p").action("a.b").cursor("s", 4, fence));
    ASSERT_TRUE(back.has_error());
    EXPECT_EQ(back.error().code, Errc::conflict);
    EXPECT_EQ(log("p").head_seq, kNoSeq);
    // Also against what the same call and the same unit did before.
    const auto outcomes = append(std::vector<Unit>{
        Unit("p").cursor("s", 9, fence),
        Unit("p").cursor("s", 8, fence),
        Unit("p").cursor("s", 11, fence).cursor("s", 10, fence),
        Unit("p").cursor("s", 9, fence).cursor("s", 12, fence),
    });
    EXPECT_TRUE(outcomes[0].has_value());
    EXPECT_TRUE(outcomes[1].has_error());
    EXPECT_TRUE(outcomes[2].has_error());
    EXPECT_TRUE(outcomes[3].has_value());
    EXPECT_EQ(calls.cursor(), 12);
    receipts(Unit("p").cursor("s", 2));  // unfenced: anywhere
    receipts(Unit("p").cursor("s", 3, fence));
    EXPECT_EQ(calls.cursor(), 3);
}

TEST_P(StoreContract, ReplayedUnitIsNotAskedForItsFence) {
    const LeaseCalls calls(*store_, threads_);
    const std::int64_t fence = calls.take(request_of("a")).fence;
    const auto unit = [&] { return Unit("p").action("a.b").key("k").cursor("s", 0, fence); };
    const auto first = receipts(unit());
    calls.release("a");
    const std::int64_t next = calls.take(request_of("b")).fence;
    receipts(Unit("p").cursor("s", 7, next));
    const auto again = receipts(unit());
    ASSERT_EQ(again.size(), 1U);
    EXPECT_TRUE(again[0].replayed);
    EXPECT_EQ(again[0].id, first[0].id);
    EXPECT_EQ(calls.cursor(), 7);
}

TEST_P(StoreContract, CursorsOfTwoProjectsAreApart) {
    // One that ends in its project's name, too, as those of streams do.
    for (const std::string name : {"s", "stream.x/all.p", "stream.x/all.q", ".p"}) {
        receipts(Unit("p").cursor(name, 3));
        EXPECT_EQ(run(store_->cursor("q", name)).value(), kNoSeq) << name;
        receipts(Unit("q").cursor(name, 8));
        reopen();
        EXPECT_EQ(run(store_->cursor("p", name)).value(), 3) << name;
        EXPECT_EQ(run(store_->cursor("q", name)).value(), 8) << name;
    }
}

TEST_P(StoreContract, FencesRiseOverRestarts) {
    std::int64_t last_fence = 0;
    for (int round = 0; round < 3; ++round) {
        const LeaseCalls calls(*store_, threads_);
        const Lease lease = calls.take_over(request_of("process" + std::to_string(round), kShort));
        EXPECT_GT(lease.fence, last_fence);
        if (round > 0) {
            expect_lost(append(Unit("p").cursor("s", 100, last_fence)));
        }
        receipts(Unit("p").cursor("s", round, lease.fence));
        last_fence = lease.fence;
        reopen();
    }
    EXPECT_EQ(LeaseCalls(*store_, threads_).cursor(), 2);
}

// What the next owner reads as the cursor is final: a move of the owner before has committed by
// then, or never will.
TEST_P(StoreContract, LeaseChangesHandsBetweenCommits) {
    const LeaseCalls calls(*store_, threads_);
    for (int round = 0; round < 5; ++round) {
        const std::string name = "s" + std::to_string(round);
        const std::int64_t fence = calls.take(request_of("a", kShort, name)).fence;
        std::atomic<bool> over{false};
        Seq moved = kNoSeq;
        std::thread owner([&] {
            for (Seq to = 0; !over; ++to) {
                if (append(Unit("p").action("a.b").cursor(name, to, fence)).has_value()) {
                    moved = to;
                }
            }
        });
        calls.take_over(request_of("b", kLong, name));
        const Seq found = calls.cursor("p", name);
        std::this_thread::sleep_for(20ms);
        over = true;
        owner.join();
        EXPECT_EQ(found, moved);
        EXPECT_EQ(calls.cursor("p", name), moved);
    }
}

}  // namespace
}  // namespace annal::test
