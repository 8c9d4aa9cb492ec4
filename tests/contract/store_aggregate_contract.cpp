// Aggregates and numbered pages against an oracle of this file's own.
#include <algorithm>
#include <map>
#include <set>

#include "runtime/store/aggregate.h"
#include "tests/contract/random_events.h"
#include "tests/support/test_seed.h"

namespace annal::test {
namespace {

constexpr std::chrono::milliseconds kBudget{60'000};
constexpr TimeUs kHour = 3'600'000'000;
const std::vector<Interval> kIntervals = {
    Interval::none, Interval::hour, Interval::day, Interval::week};
const std::vector<std::optional<Column>> kGroups = {
    std::nullopt,
    Column::action,
    Column::auth_type,
    Column::issuer_id,
    Column::user_id,
    Column::client_id,
    Column::organization_id,
    Column::agent_id,
    Column::actor_id,
    Column::ip};
const std::vector<std::vector<Column>> kUniques = {
    {}, {Column::user_id}, {Column::action, Column::agent_id, Column::user_id}};

/// By the calendar, one day after the other: 1970-01-01 was a Thursday.
TimeUs oracle_start(Interval interval, TimeUs at) {
    if (interval == Interval::none) return kNoTime;
    const TimeUs hour = at / kHour;
    if (interval == Interval::hour) return hour * kHour;
    TimeUs day = hour / 24;
    if (interval == Interval::week) {
        while ((day + 3) % 7 != 0) --day;  // days since a Monday
    }
    return day * 24 * kHour;
}

struct OracleGroup {
    std::int64_t count = 0;
    std::vector<std::set<std::string>> values;
};

std::vector<AggregateRow> oracle(const Truth& truth, const AggregateRequest& request) {
    std::map<std::pair<TimeUs, std::string>, OracleGroup> groups;
    for (const Event& event : truth.events) {
        if (event.deleted || !request.filter.matches(event)) continue;
        std::string key;
        if (request.group_by) key = event[*request.group_by].view();
        if (request.group_by && key.empty()) continue;
        OracleGroup& group = groups[{oracle_start(request.interval, event.created_at), key}];
        ++group.count;
        group.values.resize(request.unique.size());
        for (std::size_t i = 0; i < request.unique.size(); ++i) {
            const std::string_view value = event[request.unique[i]].view();
            if (!value.empty()) group.values[i].emplace(value);
        }
    }
    std::vector<AggregateRow> rows;
    for (const auto& [place, group] : groups) {
        AggregateRow row{place.first, place.second, group.count, {}};
        for (const auto& values : group.values)
            row.uniques.push_back(static_cast<std::int64_t>(values.size()));
        rows.push_back(row);
    }
    std::sort(rows.begin(), rows.end(), [](const AggregateRow& a, const AggregateRow& b) {
        if (a.start != b.start) return a.start < b.start;
        return a.count != b.count ? a.count > b.count : a.key < b.key;
    });
    return rows;
}

std::string text(const std::vector<AggregateRow>& rows) {
    std::string out;
    for (const AggregateRow& row : rows) {
        out += std::to_string(row.start) + " " + row.key + " " + std::to_string(row.count);
        for (const std::int64_t unique : row.uniques) out += " " + std::to_string(unique);
        out += "\n";
    }
    return out;
}

}  // namespace

class AggregateContract : public StoreContract {
protected:
    /// Six weeks with a month's end in them.
    std::vector<Truth> fill_weeks(RandomEvents& random) {
        auto truths = fill(random, 150);
        for (int i = 0; i < 40; ++i) {
            clock_.advance(static_cast<TimeUs>(random.below(50)) * kHour);
            for (Truth& truth : truths) append_some(random, truth);
        }
        return truths;
    }

    void append_some(RandomEvents& random, Truth& truth) {
        Unit unit(truth.project);
        for (std::size_t n = 1 + random.below(12); n > 0; --n)
            random.add_event(unit, clock_.wall_us());
        const AppendUnit built = unit.build();
        const auto answered = receipts(unit);
        for (std::size_t i = 0; i < answered.size(); ++i) truth.add(built.events[i], answered[i]);
    }

    void erase_some(RandomEvents& random, Truth& truth) {
        for (int i = 0; i < 5; ++i) {
            const auto seq = static_cast<Seq>(random.below(truth.events.size()));
            if (truth.events[static_cast<std::size_t>(seq)].deleted) continue;
            receipts(Unit(truth.project).erase(seq));
            truth.erase(seq);
        }
    }

    void expect_agrees(const Truth& truth, AggregateRequest request) {
        request.project = truth.project;
        request.budget = kBudget;
        const auto rows = run(store_->aggregate(request));
        ASSERT_TRUE(rows.has_value()) << rows.error().detail;
        EXPECT_EQ(text(rows.value()), text(oracle(truth, request)));
    }

    void expect_all_agree(const Truth& truth, const Filter& filter) {
        for (const Interval interval : kIntervals) {
            for (const auto& group : kGroups) {
                for (const auto& unique : kUniques) {
                    SCOPED_TRACE(
                        "interval " + std::to_string(static_cast<int>(interval)) + " by " +
                        (group ? std::string(name(*group)) : "nothing") + " with " +
                        std::to_string(unique.size())
                    );
                    AggregateRequest request;
                    request.filter = filter;
                    request.interval = interval;
                    request.group_by = group;
                    request.unique = unique;
                    expect_agrees(truth, request);
                    if (HasFailure()) return;
                }
            }
        }
    }

    /// Edges of time that cut hours, days, segments and blocks anywhere.
    Filter random_time(RandomEvents& random, const Truth& truth) {
        Filter filter;
        const auto at = [&] {
            const Event& event = truth.events[random.below(truth.events.size())];
            const TimeUs whole =
                random.one_in(3) ? event.created_at / kHour * kHour : event.created_at;
            return whole + static_cast<TimeUs>(random.below(3)) - 1;
        };
        if (!random.one_in(3)) filter.from = at();
        if (!random.one_in(3)) filter.before = at();
        return filter;
    }
};

TEST_P(AggregateContract, EveryGroupIntervalAndUniqueAgreesWithTheOracle) {
    RandomEvents random(test_seed());
    auto truths = fill_weeks(random);
    expect_all_agree(truths[0], {});
    harness_->settle();
    expect_all_agree(truths[0], {});
    erase_some(random, truths[0]);
    expect_all_agree(truths[0], {});
    append_some(random, truths[0]);
    reopen();
    expect_all_agree(truths[0], {});
    expect_all_agree(truths[1], random.filter(truths[1]));
}

TEST_P(AggregateContract, RandomFiltersAgreeWithTheOracle) {
    RandomEvents random(test_seed());
    auto truths = fill_weeks(random);
    for (int round = 0; round < 150 && !HasFailure(); ++round) {
        Truth& truth = truths[random.below(truths.size())];
        AggregateRequest request;
        request.filter = random.one_in(2) ? random.filter(truth) : random_time(random, truth);
        request.interval = kIntervals[random.below(kIntervals.size())];
        // Most often what rollups are for.
        request.group_by =
            random.one_in(2) ? Column::action : kGroups[random.below(kGroups.size())];
        request.unique = kUniques[random.one_in(2) ? 0 : random.below(kUniques.size())];
        SCOPED_TRACE("round " + std::to_string(round));
        expect_agrees(truth, request);
        if (random.one_in(8)) erase_some(random, truth);
        if (random.one_in(8)) append_some(random, truth);
        if (random.one_in(15)) {
            truth.raise_floor(static_cast<Seq>(random.below(truth.events.size())) / 3);
            ASSERT_TRUE(run(store_->raise_floor(truth.project, truth.first_seq)).has_value());
        }
        if (round == 50) harness_->settle();
        if (round == 100) reopen();
    }
}

TEST_P(AggregateContract, AggregatesOfDroppedMonthsAreGone) {
    RandomEvents random(test_seed());
    auto truths = fill_weeks(random);
    AggregateRequest request;
    request.group_by = Column::action;
    request.interval = Interval::day;
    for (Truth& truth : truths) expect_agrees(truth, request);
    harness_->settle();
    const Month first = month_of(kStart);
    ASSERT_TRUE(run(store_->drop_month(first)).has_value());
    for (Truth& truth : truths) {
        for (Event& event : truth.events)
            event.deleted = event.deleted || month_of(event.created_at) == first;
        expect_agrees(truth, request);
    }
    request.project = "nobody";
    EXPECT_TRUE(run(store_->aggregate(request)).value().empty());
}

TEST_P(AggregateContract, TooManyRowsAndTooLittleTimeAreErrorsThatSayWhatToDo) {
    segment_events_ = 40'000;
    reopen();
    for (int i = 0; i < 11; ++i) {
        Unit unit("p");
        for (int k = 0; k < 9'500; ++k) {
            const std::string user = "usr_" + std::to_string(i) + "_" + std::to_string(k);
            unit.event({{Column::action, "a.b"}, {Column::user_id, Text(user)}});
        }
        receipts(unit);
    }
    AggregateRequest request;
    request.project = "p";
    request.group_by = Column::user_id;
    request.budget = kBudget;
    const auto many = run(store_->aggregate(request));
    ASSERT_TRUE(many.has_error());
    EXPECT_EQ(many.error().code, Errc::too_large);
    EXPECT_NE(many.error().detail.find("100000 rows"), std::string::npos) << many.error().detail;
    request.group_by = Column::action;
    request.unique = {Column::user_id};
    const auto users = run(store_->aggregate(request));
    ASSERT_TRUE(users.has_value()) << users.error().detail;
    EXPECT_EQ(text(users.value()), std::to_string(kNoTime) + " a.b 104500 104500\n");
    request.budget = std::chrono::milliseconds(1);
    const auto late = run(store_->aggregate(request));
    ASSERT_TRUE(late.has_error());
    EXPECT_EQ(late.error().code, Errc::unavailable) << late.error().detail;
    // Where even its turn came too late, there is nothing to narrow.
    const bool says_what_to_do = late.error().detail.find("shorter time") != std::string::npos ||
                                 late.error().detail.find("try again") != std::string::npos;
    EXPECT_TRUE(says_what_to_do) << late.error().detail;
}

TEST_P(AggregateContract, SeekLandsBehindExactlySoManyMatches) {
    RandomEvents random(test_seed());
    auto truths = fill_weeks(random);
    for (int round = 0; round < 200 && !HasFailure(); ++round) {
        Truth& truth = truths[random.below(truths.size())];
        const Filter filter = random.one_in(2) ? random_time(random, truth) : random.filter(truth);
        auto seqs = truth.expect(filter);
        std::sort(seqs.begin(), seqs.end(), std::greater<>());
        const auto skip = static_cast<std::int64_t>(1 + random.below(seqs.size() + 3));
        SCOPED_TRACE("round " + std::to_string(round) + " skip " + std::to_string(skip));
        const auto found = run(store_->seek(truth.project, filter, skip, kBudget));
        ASSERT_TRUE(found.has_value()) << found.error().detail;
        const auto passed = static_cast<std::size_t>(skip);
        if (passed > seqs.size()) {
            EXPECT_EQ(found.value(), kNoSeq);
        } else {
            ScanRequest behind = request(truth.project);
            behind.filter = filter;
            behind.after = found.value();
            behind.limit = 1;
            Seq next = kNoSeq;
            for (bool more = true; more && next == kNoSeq;) {
                const ScanPage page = scan(behind);
                if (!page.batch.events.empty()) next = page.batch.events[0].seq;
                more = !page.exhausted;
                behind.after = page.scanned;
            }
            EXPECT_EQ(next, passed < seqs.size() ? seqs[passed] : kNoSeq);
        }
        if (random.one_in(10)) erase_some(random, truth);
        if (round == 100) harness_->settle();
    }
}

INSTANTIATE_TEST_SUITE_P(Stores, AggregateContract, testing::ValuesIn(store_kinds()), kind_name);

}  // namespace annal::test
