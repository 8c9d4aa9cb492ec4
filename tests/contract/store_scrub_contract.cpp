// Scrubbing: an event loses personal data and stays in its place.
#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/core/limits.h"
#include "tests/contract/store_contract.h"

namespace annal::test {
namespace {

constexpr std::chrono::milliseconds kBudget{10'000};
constexpr std::uint32_t kIdentity =
    Scrub::bit(Column::user_id) | Scrub::bit(Column::actor_id) | Scrub::bit(Column::actor_email);

Filter equal_to(Column column, const char* value) {
    Filter filter;
    filter.equals[static_cast<std::size_t>(column)] = value;
    return filter;
}

Filter text(const char* needle) {
    Filter filter;
    filter.text = needle;
    return filter;
}

Filter action(const char* name) {
    Filter filter;
    filter.actions = {{ActionPattern::Kind::exact, name}};
    return filter;
}

AppendUnit scrub_unit(const std::vector<Seq>& seqs, std::uint32_t columns) {
    AppendUnit unit;
    unit.project = "p";
    for (const Seq seq : seqs) unit.scrub.push_back({seq, columns});
    return unit;
}

}  // namespace

/// Two months of two people's events: every fifth is the subject's, made by itself or by an
/// administrator.
class ScrubContract : public StoreContract {
protected:
    static constexpr Seq kEvents = 200;

    void fill_two_months() {
        for (Seq seq = 0; seq < kEvents; ++seq) {
            if (seq == 150) clock_.advance(40LL * 24 * 3'600 * kSecondUs);
            const bool own = is_subjects(seq);
            const std::string key = "key-" + std::to_string(seq);
            Unit unit("p");
            unit.event(
                {{Column::action, own ? "user.changed" : "user.seen"},
                 {Column::actor_type, "user"},
                 {Column::actor_id, own && seq % 2 == 0 ? "usr_x" : "usr_admin"},
                 {Column::actor_email, own && seq % 2 == 0 ? "x@example.com" : "a@example.com"},
                 {Column::user_id, own ? "usr_x" : "usr_y"},
                 {Column::organization_id, "org_1"},
                 {Column::ip, "192.0.2.7"},
                 {Column::user_agent, "curl/8"},
                 {Column::description, own ? "xylophone" : "other words"},
                 {Column::metadata, R"({"street":"Elm"})"}},
                clock_.wall_us() - 5,
                Text(key)
            );
            receipts_.push_back(receipts(unit).front());
            clock_.advance(kSecondUs);
        }
    }

    static bool is_subjects(Seq seq) { return seq % 5 == 0; }
    static std::vector<Seq> subjects(bool own_acts) {
        std::vector<Seq> seqs;
        for (Seq seq = 0; seq < kEvents; seq += 5)
            if ((seq % 2 == 0) == own_acts) seqs.push_back(seq);
        return seqs;
    }

    void scrub() {
        std::vector<AppendUnit> units{
            scrub_unit(subjects(true), kIdentity),
            scrub_unit(subjects(false), Scrub::bit(Column::user_id))};
        for (const AppendOutcome& outcome : run(store_->append(units)))
            ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    }

    std::int64_t count(const Filter& filter) {
        const auto total = run(store_->count("p", filter, kBudget));
        EXPECT_TRUE(total.has_value() && total.value().exact);
        return total ? total.value().count : -1;
    }

    std::vector<AggregateRow> aggregate(std::optional<Column> by, std::vector<Column> unique) {
        AggregateRequest request;
        request.project = "p";
        request.group_by = by;
        request.unique = std::move(unique);
        request.budget = kBudget;
        auto rows = run(store_->aggregate(std::move(request)));
        EXPECT_TRUE(rows.has_value());
        return rows ? rows.value() : std::vector<AggregateRow>();
    }

    void expect_nothing_is_found() {
        for (const Filter& filter :
             {equal_to(Column::user_id, "usr_x"),
              equal_to(Column::actor_id, "usr_x"),
              equal_to(Column::actor_email, "x@example.com"),
              text("xylophone"),
              text("usr_x")}) {
            EXPECT_TRUE(walk("p", filter, true, 7).empty());
            EXPECT_TRUE(walk("p", filter, false, 50).empty());
            EXPECT_EQ(count(filter), 0);
        }
        EXPECT_EQ(count(equal_to(Column::ip, "192.0.2.7")), kEvents - kEvents / 5);
    }

    void expect_the_rest_is_there() {
        EXPECT_EQ(count({}), kEvents);
        EXPECT_EQ(count(action("user.changed")), kEvents / 5);
        EXPECT_EQ(walk("p", action("user.changed"), true, 7).size(), std::size_t{kEvents / 5});
        EXPECT_EQ(walk("p", {}, false, 50).size(), std::size_t{kEvents});
        EXPECT_EQ(count(text("user.chang")), kEvents / 5);
        EXPECT_EQ(count(text("other words")), kEvents - kEvents / 5);
        EXPECT_EQ(
            count(equal_to(Column::actor_id, "usr_admin")),
            static_cast<std::int64_t>(kEvents - subjects(true).size())
        );
        const auto actions = run(store_->action_counts("p", 0)).value();
        ASSERT_EQ(actions.size(), 2U);
        EXPECT_EQ(actions[0].count, kEvents - kEvents / 5);
        EXPECT_EQ(actions[1].count, kEvents / 5);
    }

    void expect_aggregates() {
        const auto actions = aggregate(Column::action, {});
        ASSERT_EQ(actions.size(), 2U);
        EXPECT_EQ(actions[1].key, "user.changed");
        EXPECT_EQ(actions[1].count, kEvents / 5);
        const auto users = aggregate(Column::user_id, {});
        ASSERT_EQ(users.size(), 1U);
        EXPECT_EQ(users[0].key, "usr_y");
        const auto all = aggregate(std::nullopt, {Column::user_id, Column::actor_id, Column::ip});
        ASSERT_EQ(all.size(), 1U);
        EXPECT_EQ(all[0].count, kEvents);
        EXPECT_EQ(all[0].uniques, (std::vector<std::int64_t>{1, 1, 1}));
    }

    void expect_events() {
        ScanRequest all = request("p");
        all.newest_first = false;
        all.limit = kEvents;
        for (const Event& event : scan(all).batch.events) {
            ASSERT_EQ(event.erased, is_subjects(event.seq)) << event.seq;
            ASSERT_FALSE(event.deleted);
            const auto one = run(store_->get("p", event.id));
            ASSERT_TRUE(one.has_value()) << one.error().detail;
            ASSERT_EQ(one.value().events[0].erased, event.erased);
            ASSERT_EQ(one.value().events[0].columns, event.columns);
            ASSERT_EQ(event.id, receipts_[static_cast<std::size_t>(event.seq)].id);
            ASSERT_NE(event.occurred_at, kNoTime);
            ASSERT_EQ(event[Column::organization_id], Text("org_1"));
            ASSERT_EQ(event[Column::actor_type], Text("user"));
            if (!event.erased) {
                ASSERT_EQ(event[Column::metadata], Text(R"({"street":"Elm"})"));
                continue;
            }
            const bool own_act = event.seq % 2 == 0;
            ASSERT_EQ(event[Column::actor_id], own_act ? Text() : Text("usr_admin"));
            ASSERT_EQ(event[Column::actor_email], own_act ? Text() : Text("a@example.com"));
            for (const Column column :
                 {Column::user_id, Column::ip, Column::user_agent, Column::description})
                ASSERT_TRUE(event[column].is_null()) << name(column);
            ASSERT_EQ(event[Column::metadata], Text("{}"));
        }
    }

    void expect_scrubbed() {
        expect_nothing_is_found();
        expect_the_rest_is_there();
        expect_aggregates();
        expect_events();
    }

    /// Until the store's files hold nothing of it either.
    void purge() {
        const std::vector<Month> months{
            month_of(receipts_.front().created_at), month_of(receipts_.back().created_at)};
        for (int i = 0; i < 500; ++i) {
            const auto purged = run(store_->purge_erased(months));
            ASSERT_TRUE(purged.has_value()) << purged.error().detail;
            if (purged.value()) return;
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        FAIL() << "it never ends";
    }

    std::vector<Receipt> receipts_;
};

TEST_P(ScrubContract, WhatIsScrubbedAtOnceStaysSo) {
    fill_two_months();
    scrub();
    expect_scrubbed();
    purge();
    expect_scrubbed();
    harness_->settle();
    expect_scrubbed();
    reopen();
    expect_scrubbed();
}

TEST_P(ScrubContract, WhatWasSealedBeforeIsScrubbedToo) {
    fill_two_months();
    harness_->settle();
    EXPECT_EQ(count(text("xylophone")), kEvents / 5);
    EXPECT_EQ(aggregate(Column::user_id, {}).size(), 2U);
    scrub();
    expect_scrubbed();
    reopen();
    expect_scrubbed();
    purge();
    harness_->settle();
    expect_scrubbed();
}

TEST_P(ScrubContract, ItCanBeRepeatedAndPassesOverWhatIsNotThere) {
    fill_two_months();
    receipts(Unit("p").erase(5));
    for (int round = 0; round < 2; ++round) {
        std::vector<AppendUnit> units{scrub_unit({0, 5, 10, 10, 4'711}, kIdentity)};
        const auto outcomes = run(store_->append(units));
        ASSERT_TRUE(outcomes[0].has_value()) << outcomes[0].error().detail;
        EXPECT_EQ(count({}), kEvents - 1);
        EXPECT_EQ(count(equal_to(Column::user_id, "usr_x")), kEvents / 5 - 3);
    }
    // Two people in one event lose what is theirs one after the other.
    std::vector<AppendUnit> more{scrub_unit({15}, Scrub::bit(Column::user_id))};
    ASSERT_TRUE(run(store_->append(more))[0].has_value());
    more = {scrub_unit({15}, kIdentity)};
    ASSERT_TRUE(run(store_->append(more))[0].has_value());
    reopen();
    purge();
    const Event event = run(store_->get("p", receipts_[15].id)).value().events[0];
    EXPECT_TRUE(event[Column::actor_id].is_null());
    EXPECT_TRUE(event[Column::user_id].is_null());
    // What was scrubbed can be deleted, and is a tombstone then.
    receipts(Unit("p").erase(10));
    EXPECT_EQ(run(store_->get("p", receipts_[10].id)).error().code, Errc::not_found);
    EXPECT_EQ(count({}), kEvents - 2);
    EXPECT_EQ(append(Unit("p").erase(10)).error().code, Errc::not_found);
}

TEST_P(ScrubContract, AKeyThatIsRepeatedDoesNotBringTheEventBack) {
    fill_two_months();
    scrub();
    const auto again = receipts(Unit("p").event(
        {{Column::action, "user.changed"},
         {Column::actor_type, "user"},
         {Column::actor_id, "usr_x"},
         {Column::actor_email, "x@example.com"},
         {Column::user_id, "usr_x"},
         {Column::organization_id, "org_1"},
         {Column::ip, "192.0.2.7"},
         {Column::user_agent, "curl/8"},
         {Column::description, "xylophone"},
         {Column::metadata, R"({"street":"Elm"})"}},
        receipts_[190].created_at - 5,
        Text("key-190")
    ));
    EXPECT_TRUE(again[0].replayed);
    EXPECT_EQ(again[0].seq, 190);
    expect_nothing_is_found();
}

TEST_P(ScrubContract, ItCommitsWithTheRestOfItsUnitOrNotAtAll) {
    fill_two_months();
    AppendUnit unit = scrub_unit({0}, kIdentity);
    unit.kv.push_back({KvOp::Kind::require_equals, "host.test", "p", "k", "other"});
    std::vector<AppendUnit> units{unit};
    EXPECT_EQ(run(store_->append(units))[0].error().code, Errc::conflict);
    EXPECT_EQ(count(equal_to(Column::user_id, "usr_x")), kEvents / 5);
    units[0].kv = {{KvOp::Kind::put, "host.test", "p", "k", "v"}};
    ASSERT_TRUE(run(store_->append(units))[0].has_value());
    EXPECT_EQ(run(store_->kv_get("host.test", "p", "k")).value(), "v");
    EXPECT_EQ(count(equal_to(Column::user_id, "usr_x")), kEvents / 5 - 1);
}

INSTANTIATE_TEST_SUITE_P(Scrub, ScrubContract, testing::ValuesIn(store_kinds()), kind_name);

}  // namespace annal::test
