// Reads: filters, pages, totals, erasure, months.
#include <algorithm>
#include <map>
#include <random>

#include "runtime/core/limits.h"
#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

constexpr TimeUs kHour = 3'600 * kSecondUs;
constexpr std::chrono::milliseconds kBudget{60'000};  // more than a busy machine uses up
constexpr TimeUs kApril = 1'775'001'600'000'000;
constexpr TimeUs kMay = 1'777'593'600'000'000;

struct Term {
    std::string name;
    std::function<void(Filter&)> set;
};

/// Every part that a filter can have, with values that some events of `fill` have, and some that
/// none has.
std::vector<Term> terms(TimeUs start, TimeUs end) {
    std::vector<Term> all;
    const auto actions = [](std::vector<ActionPattern> patterns) {
        return [patterns](Filter& f) { f.actions = patterns; };
    };
    using Kind = ActionPattern::Kind;
    all.push_back({"exact", actions({{Kind::exact, "auth.login"}})});
    all.push_back({"absent", actions({{Kind::exact, "no.such"}})});
    all.push_back({"namespace", actions({{Kind::prefix, "auth."}})});
    all.push_back(
        {"list",
         actions(
             {{Kind::exact, "user.created"},
              {Kind::prefix, "auth.mfa."},
              {Kind::exact, "authz.check"}}
         )}
    );
    all.push_back({"any", actions({{Kind::any, ""}})});
    all.push_back({"action_prefix", [](Filter& f) { f.action_prefix = "auth.mfa_"; }});
    all.push_back({"action_prefix_wide", [](Filter& f) { f.action_prefix = "auth"; }});
    all.push_back({"action_prefix_percent", [](Filter& f) { f.action_prefix = "%"; }});
    for (std::size_t c = 0; c <= static_cast<std::size_t>(Column::ip); ++c) {
        const std::string column(name(static_cast<Column>(c)));
        if (static_cast<Column>(c) == Column::action) {
            all.push_back({"=action", [c](Filter& f) { f.equals[c] = "user.deleted"; }});
            continue;
        }
        all.push_back({"=" + column, [c, column](Filter& f) { f.equals[c] = column + "0"; }});
    }
    all.push_back({"=user_id rare", [](Filter& f) {
                       f.equals[static_cast<std::size_t>(Column::user_id)] = "user_id11";
                   }});
    all.push_back({"=user_id empty", [](Filter& f) {
                       f.equals[static_cast<std::size_t>(Column::user_id)] = "";
                   }});
    all.push_back({"=user_id none", [](Filter& f) {
                       f.equals[static_cast<std::size_t>(Column::user_id)] = "nobody";
                   }});
    all.push_back({"from", [=](Filter& f) { f.from = start + (end - start) / 3; }});
    all.push_back({"before", [=](Filter& f) { f.before = start + (end - start) * 2 / 3; }});
    all.push_back({"window", [=](Filter& f) {
                       f.from = start + (end - start) / 2,
                       f.before = start + (end - start) / 2 + kHour;
                   }});
    all.push_back({"occurred_from", [=](Filter& f) { f.occurred_from = start + (end - start) / 2; }}
    );
    all.push_back({"occurred_before", [=](Filter& f) {
                       f.occurred_before = start + (end - start) / 2;
                   }});
    all.push_back({"text", [](Filter& f) { f.text = "PassWord"; }});
    all.push_back({"text short", [](Filter& f) { f.text = "y"; }});
    all.push_back({"text literal", [](Filter& f) { f.text = "0% done_"; }});
    all.push_back({"text unicode", [](Filter& f) { f.text = "本語の"; }});
    all.push_back({"text umlaut", [](Filter& f) { f.text = "rger im B"; }});
    all.push_back({"text id", [](Filter& f) { f.text = "actor_id1"; }});
    all.push_back({"text quote", [](Filter& f) { f.text = "\"' OR"; }});
    return all;
}

std::vector<Seq> reversed(std::vector<Seq> seqs) {
    std::reverse(seqs.begin(), seqs.end());
    return seqs;
}

/// Every pair of parts, both directions, against the reference.
#define ANNAL_CHECK_PAIRS(truths, all)                                                  \
    for (std::size_t a = 0; a < (all).size(); ++a) {                                    \
        for (std::size_t b = a; b < (all).size(); ++b) {                                \
            Filter filter;                                                              \
            (all)[a].set(filter);                                                       \
            (all)[b].set(filter);                                                       \
            SCOPED_TRACE((all)[a].name + " × " + (all)[b].name);                        \
            const Truth& truth = (truths)[(a + b) % 4 == 0 ? 1 : 0];                    \
            const auto expected = truth.expect(filter);                                 \
            const bool newest_first = (a * 7 + b) % 2 == 0;                             \
            ASSERT_EQ(                                                                  \
                walk(truth.project, filter, newest_first, 1 + (a * b) % 60),            \
                newest_first ? reversed(expected) : expected                            \
            );                                                                          \
            const auto total = run(store_->count(truth.project, filter, kBudget));      \
            ASSERT_TRUE(total.has_value());                                             \
            EXPECT_TRUE(total.value().exact);                                           \
            EXPECT_EQ(total.value().count, static_cast<std::int64_t>(expected.size())); \
        }                                                                               \
    }

TEST_P(StoreContract, EveryPairOfFiltersWhileFresh) {
    segment_events_ = 10'000;
    reopen();
    const auto truths = fill(1, 700);
    const auto all = terms(kStart, clock_.wall_us());
    ANNAL_CHECK_PAIRS(truths, all);
}

TEST_P(StoreContract, EveryPairOfFiltersInTheBackground) {
    const auto truths = fill(2, 700);
    const auto all = terms(kStart, clock_.wall_us());
    ANNAL_CHECK_PAIRS(truths, all);
}

TEST_P(StoreContract, EveryPairOfFiltersAfterSettling) {
    const auto truths = fill(3, 700);
    harness_->settle();
    const auto all = terms(kStart, clock_.wall_us());
    ANNAL_CHECK_PAIRS(truths, all);
    reopen();
    ANNAL_CHECK_PAIRS(truths, all);
}

TEST_P(StoreContract, RandomCombinationsOfManyFilters) {
    const std::uint32_t seed = 20'260'314;
    const auto truths = fill(seed, 900);
    const auto all = terms(kStart, clock_.wall_us());
    std::mt19937 random(seed);
    for (int round = 0; round < 400; ++round) {
        Filter filter;
        std::string trace;
        for (std::size_t n = 1 + random() % 4; n > 0; --n) {
            const Term& term = all[random() % all.size()];
            term.set(filter);
            trace += term.name + " ";
        }
        SCOPED_TRACE(trace);
        const Truth& truth = truths[random() % truths.size()];
        const bool newest_first = random() % 2 == 0;
        const bool tombstones = random() % 3 == 0;
        const auto expected = truth.expect(filter, tombstones);
        ASSERT_EQ(
            walk(truth.project, filter, newest_first, 1 + random() % 100, tombstones),
            newest_first ? reversed(expected) : expected
        );
    }
}

TEST_P(StoreContract, EveryLimitGivesTheSameWalk) {
    const auto truths = fill(5, 300);
    const Truth& truth = truths[0];
    const auto expected = truth.expect({});
    for (std::uint32_t limit = 1; limit <= 70; limit += limit < 10 ? 1 : 13) {
        EXPECT_EQ(walk(truth.project, {}, false, limit), expected);
        EXPECT_EQ(walk(truth.project, {}, true, limit), reversed(expected));
    }
}

TEST_P(StoreContract, PagesDoNotLoseOrRepeatWhileTheLogChanges) {
    auto truths = fill(6, 400);
    Truth& truth = truths[0];
    Filter filter;
    filter.actions = {{ActionPattern::Kind::prefix, "auth."}};
    for (const bool newest_first : {true, false}) {
        const auto before = truth.expect(filter);
        const Seq head = log(truth.project).head_seq;
        std::vector<Seq> seen;
        std::vector<Seq> erased;
        ScanRequest next = request(truth.project);
        next.filter = filter;
        next.newest_first = newest_first;
        next.limit = 3;
        for (int page_number = 0; page_number < 1'000; ++page_number) {
            const ScanPage page = scan(next);
            for (const Event& event : page.batch.events) {
                if (event.seq <= head) {
                    seen.push_back(event.seq);
                }
            }
            if (page.exhausted || (!newest_first && page.scanned > head)) {
                break;
            }
            next.after = page.scanned;
            Unit unit(truth.project);
            unit.action("auth.login");
            const AppendUnit built = unit.build();
            truth.add(built.events[0], receipts(unit).at(0));
            // An event that the walk has still to reach goes away.
            const Seq victim = newest_first ? page.scanned / 2 : (page.scanned + head) / 2;
            if (victim >= 0 && victim != page.scanned && page_number % 5 == 0 &&
                !truth.events[static_cast<std::size_t>(victim)].deleted) {
                receipts(Unit(truth.project).erase(victim));
                truth.erase(victim);
                erased.push_back(victim);
            }
        }
        std::vector<Seq> expected;
        for (const Seq seq : before) {
            if (std::find(erased.begin(), erased.end(), seq) == erased.end()) {
                expected.push_back(seq);
            }
        }
        EXPECT_FALSE(erased.empty());
        EXPECT_EQ(seen, newest_first ? reversed(expected) : expected);
    }
}

TEST_P(StoreContract, PageWithoutBudgetMovesOnAllTheSame) {
    const auto truths = fill(7, 600);
    const Truth& truth = truths[0];
    for (const bool settled : {false, true}) {
        if (settled) {
            harness_->settle();
        }
        for (const char* text : {"y", "password"}) {
            Filter filter;
            filter.text = text;
            std::vector<Seq> seen;
            ScanRequest next = request(truth.project);
            next.filter = filter;
            next.budget = std::chrono::milliseconds(0);
            for (int pages = 0; pages < 5'000; ++pages) {
                const ScanPage page = scan(next);
                for (const Event& event : page.batch.events) {
                    seen.push_back(event.seq);
                }
                if (page.exhausted) {
                    break;
                }
                ASSERT_TRUE(!next.after || page.scanned < *next.after);
                next.after = page.scanned;
            }
            EXPECT_EQ(seen, reversed(truth.expect(filter)));
        }
    }
}

TEST_P(StoreContract, EndsOfTheLog) {
    ScanPage page = scan(request("nobody"));
    EXPECT_TRUE(page.exhausted);
    EXPECT_TRUE(page.batch.events.empty());
    receipts(Unit("p").action("a.b").action("a.c").action("a.d"));
    ScanRequest tail = request("p");
    tail.newest_first = false;
    tail.after = 2;
    page = scan(tail);
    EXPECT_TRUE(page.exhausted);
    EXPECT_TRUE(page.batch.events.empty());
    EXPECT_EQ(page.scanned, 2);
    // A subscriber goes on from where it stood.
    receipts(Unit("p").action("a.e"));
    page = scan(tail);
    ASSERT_EQ(page.batch.events.size(), 1U);
    EXPECT_EQ(page.scanned, 3);
    EXPECT_TRUE(page.exhausted);
    ScanRequest old = request("p");
    old.after = 0;
    EXPECT_TRUE(scan(old).exhausted);
    old.after = 1;
    old.limit = 1;
    page = scan(old);
    ASSERT_EQ(page.batch.events.size(), 1U);
    EXPECT_EQ(page.batch.events[0].seq, 0);
    old.after = 999;
    old.limit = 50;
    EXPECT_EQ(scan(old).batch.events.size(), 4U);
}

TEST_P(StoreContract, StreamMovesPastWhatDoesNotMatch) {
    for (int i = 0; i < 200; ++i) {
        receipts(Unit("p").action("a.b"));
    }
    ScanRequest next = request("p");
    next.newest_first = false;
    next.filter.actions = {{ActionPattern::Kind::exact, "no.such"}};
    const ScanPage page = scan(next);
    EXPECT_TRUE(page.batch.events.empty());
    EXPECT_TRUE(page.exhausted);
    EXPECT_EQ(page.scanned, 199);
}

TEST_P(StoreContract, GetFindsById) {
    const auto truths = fill(8, 500);
    const Truth& truth = truths[0];
    for (int round = 0; round < 2; ++round) {
        for (std::size_t i = 0; i < truth.events.size(); i += 3) {
            const Event& expected = truth.events[i];
            const auto found = run(store_->get(truth.project, expected.id));
            ASSERT_EQ(found.has_value(), !expected.deleted) << i;
            if (expected.deleted) {
                EXPECT_EQ(found.error().code, Errc::not_found);
                continue;
            }
            ASSERT_EQ(found.value().events.size(), 1U);
            EXPECT_EQ(found.value().events[0].seq, expected.seq);
            EXPECT_EQ(found.value().events[0].id, expected.id);
            EXPECT_TRUE(found.value().events[0].columns == expected.columns);
        }
        harness_->settle();
    }
    const Event& known = truth.events[10];
    EventId other = known.id;
    other.bytes[15] ^= 1;
    for (const EventId& id :
         {other,
          EventId::make(known.created_at - 1, 5),
          EventId::make(0, 0),
          EventId::make(clock_.wall_us() + kHour, 1)}) {
        const auto found = run(store_->get(truth.project, id));
        ASSERT_TRUE(found.has_error());
        EXPECT_EQ(found.error().code, Errc::not_found);
    }
    EXPECT_TRUE(run(store_->get(truths[1].project, known.id)).has_error());
    EXPECT_TRUE(run(store_->get("nobody", known.id)).has_error());
}

TEST_P(StoreContract, CountWithoutTimeIsALowerBound) {
    segment_events_ = 1'000;
    reopen();
    Unit unit("p");
    for (int i = 0; i < 900; ++i) {
        unit.event({{Column::action, "a.b"}, {Column::description, "some text"}});
    }
    receipts(unit);
    Filter filter;
    filter.text = "me t";
    const auto bounded = run(store_->count("p", filter, std::chrono::milliseconds(0)));
    ASSERT_TRUE(bounded.has_value());
    EXPECT_FALSE(bounded.value().exact);
    EXPECT_LT(bounded.value().count, 900);
    EXPECT_EQ(run(store_->count("p", filter, kBudget)).value().count, 900);
    EXPECT_EQ(run(store_->count("p", {}, std::chrono::milliseconds(0))).value().count, 900);
    EXPECT_EQ(run(store_->count("nobody", {}, kBudget)).value().count, 0);
}

TEST_P(StoreContract, ActionCountsAreExactAtEveryEdge) {
    const auto truths = fill(9, 700);
    const Truth& truth = truths[0];
    std::vector<TimeUs> edges = {0, kStart, kStart + 1, clock_.wall_us(), clock_.wall_us() + kHour};
    for (TimeUs hour = kStart / kHour * kHour; hour < clock_.wall_us(); hour += kHour) {
        edges.insert(edges.end(), {hour, hour - 1, hour + 1, hour + 1'234'567'890});
    }
    for (std::size_t i = 0; i < truth.events.size(); i += 41) {
        edges.push_back(truth.events[i].created_at);
        edges.push_back(truth.events[i].created_at + 1);
    }
    for (int round = 0; round < 3; ++round) {
        for (const TimeUs since : edges) {
            std::map<std::string, ActionCount> expected;
            for (const Event& event : truth.events) {
                if (!event.deleted && event.created_at >= since) {
                    ActionCount& count = expected[std::string(event[Column::action].view())];
                    ++count.count;
                    count.last_seen = event.created_at;
                }
            }
            const auto counts = run(store_->action_counts(truth.project, since));
            ASSERT_TRUE(counts.has_value());
            ASSERT_EQ(counts.value().size(), expected.size());
            for (std::size_t i = 0; i < counts.value().size(); ++i) {
                const ActionCount& count = counts.value()[i];
                EXPECT_EQ(count.count, expected[count.action].count) << count.action << since;
                EXPECT_EQ(count.last_seen, expected[count.action].last_seen) << count.action;
                if (i > 0) {
                    const ActionCount& last = counts.value()[i - 1];
                    EXPECT_TRUE(
                        last.count > count.count ||
                        (last.count == count.count && last.action < count.action)
                    );
                }
            }
        }
        if (round == 0) {
            harness_->settle();
        } else {
            reopen();
        }
    }
    EXPECT_TRUE(run(store_->action_counts("nobody", 0)).value().empty());
}

TEST_P(StoreContract, ErasedEventIsGoneEverywhereAtOnce) {
    for (int i = 0; i < 10; ++i) {
        receipts(Unit("p").event(
            {{Column::action, "a.b"}, {Column::user_id, "u"}, {Column::description, "needle here"}}
        ));
    }
    const EventId id = scan([&] {
                           auto r = request("p");
                           r.after = 5;
                           r.limit = 1;
                           return r;
                       }())
                           .batch.events.at(0)
                           .id;
    receipts(Unit("p").erase(4).event({{Column::action, "audit_log.entry.deleted"}}));
    Filter user, text, action;
    user.equals[static_cast<std::size_t>(Column::user_id)] = "u";
    text.text = "needle";
    action.actions = {{ActionPattern::Kind::exact, "a.b"}};
    for (int round = 0; round < 2; ++round) {
        for (const Filter& filter : {user, text, action}) {
            const auto seqs = walk("p", filter, true, 3);
            EXPECT_EQ(seqs.size(), 9U);
            EXPECT_EQ(std::count(seqs.begin(), seqs.end(), 4), 0);
            EXPECT_EQ(run(store_->count("p", filter, kBudget)).value().count, 9);
        }
        EXPECT_EQ(run(store_->count("p", {}, kBudget)).value().count, 10);
        EXPECT_EQ(run(store_->get("p", id)).error().code, Errc::not_found);
        EXPECT_EQ(append(Unit("p").erase(4)).error().code, Errc::not_found);
        ScanRequest stream = request("p");
        stream.newest_first = false;
        stream.tombstones = true;
        stream.filter = user;
        const ScanPage page = scan(stream);
        ASSERT_EQ(page.batch.events.size(), 10U);
        const Event& tombstone = page.batch.events[4];
        EXPECT_TRUE(tombstone.deleted);
        EXPECT_EQ(tombstone.seq, 4);
        EXPECT_EQ(tombstone.id, id);
        for (const Text& column : tombstone.columns) {
            EXPECT_TRUE(column.is_null());
        }
        reopen();
    }
    EXPECT_EQ(log("p").head_seq, 10);
}

TEST_P(StoreContract, EraseInOldPartsOfTheLog) {
    auto truths = fill(10, 600);
    Truth& truth = truths[0];
    harness_->settle();
    std::vector<Seq> victims;
    for (Seq seq = 1; seq < static_cast<Seq>(truth.events.size()); seq += 17) {
        if (!truth.events[static_cast<std::size_t>(seq)].deleted) {
            receipts(Unit(truth.project).erase(seq));
            truth.erase(seq);
            victims.push_back(seq);
        }
    }
    const auto all = terms(kStart, clock_.wall_us());
    for (int round = 0; round < 3; ++round) {
        expect_equal(truth);
        for (const Term& term : all) {
            Filter filter;
            term.set(filter);
            SCOPED_TRACE(term.name);
            EXPECT_EQ(walk(truth.project, filter, true, 30), reversed(truth.expect(filter)));
            EXPECT_EQ(
                walk(truth.project, filter, true, 30, true), reversed(truth.expect(filter, true))
            );
            EXPECT_EQ(
                run(store_->count(truth.project, filter, kBudget)).value().count,
                static_cast<std::int64_t>(truth.expect(filter).size())
            );
        }
        for (const Seq seq : victims) {
            EXPECT_EQ(append(Unit(truth.project).erase(seq)).error().code, Errc::not_found);
        }
        if (round == 0) {
            harness_->settle();
        } else {
            reopen();
        }
    }
}

TEST_P(StoreContract, EraseTwiceInOneCallSucceedsOnce) {
    receipts(Unit("p").action("a.b").action("a.c"));
    const auto outcomes = append(std::vector<Unit>{
        Unit("p").erase(0), Unit("p").erase(0), Unit("p").erase(1).erase(1), Unit("p").erase(1)});
    EXPECT_TRUE(outcomes[0].has_value());
    EXPECT_TRUE(outcomes[1].has_error());
    EXPECT_TRUE(outcomes[2].has_error());
    EXPECT_TRUE(outcomes[3].has_value());
    EXPECT_EQ(run(store_->count("p", {}, kBudget)).value().count, 0);
}

TEST_P(StoreContract, EraseOfWhatTheSameCallAppended) {
    const auto outcomes = append(std::vector<Unit>{
        Unit("p").action("a.b").action("a.c"), Unit("p").erase(1), Unit("p").erase(2)});
    EXPECT_TRUE(outcomes[1].has_value());
    EXPECT_TRUE(outcomes[2].has_error());
    EXPECT_EQ(walk("p", {}, true, 10), std::vector<Seq>{0});
}

TEST_P(StoreContract, MonthsAreListedAndDropped) {
    for (int i = 0; i < 150; ++i) {
        receipts(Unit(i % 3 == 0 ? "q" : "p").action("a.march"));
    }
    const EventId old = scan(request("p")).batch.events.at(0).id;
    clock_.step_to(kApril + kHour);
    for (int i = 0; i < 90; ++i) {
        receipts(Unit("p").action("a.april"));
    }
    auto months = run(store_->months()).value();
    ASSERT_EQ(months.size(), 2U);
    EXPECT_EQ(months[0].month, month_of(kStart));
    EXPECT_EQ(months[0].events, 150);
    EXPECT_GT(months[0].bytes, 0U);
    EXPECT_EQ(months[1].events, 90);
    EXPECT_EQ(run(store_->drop_month(month_of(kApril))).error().code, Errc::conflict);
    EXPECT_EQ(run(store_->drop_month(month_of(kMay))).error().code, Errc::not_found);
    ASSERT_TRUE(run(store_->drop_month(month_of(kStart))).has_value());
    for (int round = 0; round < 2; ++round) {
        EXPECT_EQ(log("p").first_seq, 100);
        EXPECT_EQ(log("p").head_seq, 189);
        EXPECT_EQ(log("q").first_seq, 50);
        EXPECT_EQ(log("q").head_seq, 49);
        EXPECT_EQ(walk("p", {}, true, 7).size(), 90U);
        EXPECT_EQ(walk("p", {}, false, 7).front(), 100);
        EXPECT_TRUE(walk("q", {}, true, 7).empty());
        EXPECT_EQ(run(store_->count("p", {}, kBudget)).value().count, 90);
        EXPECT_EQ(run(store_->action_counts("p", 0)).value().size(), 1U);
        EXPECT_EQ(run(store_->get("p", old)).error().code, Errc::not_found);
        EXPECT_EQ(append(Unit("p").erase(3)).error().code, Errc::not_found);
        months = run(store_->months()).value();
        ASSERT_EQ(months.size(), 1U);
        EXPECT_EQ(run(store_->drop_month(month_of(kStart))).error().code, Errc::not_found);
        reopen();
    }
    EXPECT_EQ(receipts(Unit("q").action("a.b")).at(0).seq, 50);
}

TEST_P(StoreContract, LogGoesOnAfterEverythingWasDropped) {
    for (int i = 0; i < 130; ++i) {
        receipts(Unit("p").action("a.b").put("plugin.x", "k", std::to_string(i)));
    }
    const LogState before = log("p");
    clock_.step_to(kMay + kHour);
    ASSERT_TRUE(run(store_->drop_month(month_of(kStart))).has_value());
    EXPECT_TRUE(run(store_->months()).value().empty());
    EXPECT_TRUE(walk("p", {}, true, 7).empty());
    reopen();
    EXPECT_EQ(log("p").head_seq, 129);
    EXPECT_EQ(log("p").head_at, before.head_at);
    EXPECT_EQ(log("p").head_digest, before.head_digest);
    EXPECT_EQ(run(store_->kv_get("plugin.x", "p", "k")).value(), "129");
    // Not even a clock that steps back brings the month to life again.
    clock_.step_to(kStart);
    const auto made = receipts(Unit("p").action("a.c"));
    EXPECT_EQ(made.at(0).seq, 130);
    EXPECT_GE(made.at(0).created_at, kApril);
    EXPECT_EQ(walk("p", {}, true, 7), std::vector<Seq>{130});
    reopen();
    EXPECT_EQ(walk("p", {}, true, 7), std::vector<Seq>{130});
}

TEST_P(StoreContract, ReadsGoOnWhileAMonthIsDropped) {
    for (int i = 0; i < 300; ++i) {
        receipts(Unit("p").action("a.b"));
    }
    clock_.step_to(kApril + kHour);
    receipts(Unit("p").action("a.c"));
    ScanRequest next = request("p");
    next.limit = 10;
    ScanPage page = scan(next);
    ASSERT_TRUE(run(store_->drop_month(month_of(kStart))).has_value());
    next.after = page.scanned;
    page = scan(next);
    EXPECT_TRUE(page.batch.events.empty());
    EXPECT_TRUE(page.exhausted);
}

TEST_P(StoreContract, CallsAfterTheLogWasClosedFail) {
    receipts(Unit("p").action("a.b"));
    store_->close();
    const auto outcome = append(Unit("p").action("a.c"));
    ASSERT_TRUE(outcome.has_error());
    EXPECT_EQ(outcome.error().code, Errc::unavailable);
    EXPECT_TRUE(run(store_->scan(request("p"))).has_error());
    reopen();
    EXPECT_EQ(walk("p", {}, true, 5).size(), 1U);
}

}  // namespace
}  // namespace annal::test
