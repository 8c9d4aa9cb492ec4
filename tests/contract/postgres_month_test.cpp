// Months of a PostgreSQL database come and go under load.
#include "runtime/store/postgres/partitions.h"
#include "tests/contract/postgres_nodes.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/tcp_proxy.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

class PostgresMonth : public testing::Test {
protected:
    static constexpr TimeUs kStart = 1'773'500'000'000'000;  // 2026-03-14

    annal::PostgresOptions options() {
        annal::PostgresOptions made;
        made.stamps = &clock_;
        made.append_connections = 3;
        made.read_connections = 2;
        return made;
    }
    void append(Node& node, const std::string& name, int count = 1) {
        const Unit unit = named_unit("p", name, count);
        auto outcome = node.append(unit);
        account_.record(unit.build(), outcome);
        EXPECT_TRUE(outcome.has_value()) << outcome.error().detail;
    }
    /// Leaves an event in March, which is over then, and one in April.
    void begin_april(Node& node) {
        append(node, "old");
        clock_.step_to(kStart + 35 * kDayUs);
        append(node, "new");
        ASSERT_TRUE(postgres::settle(node.store(), 60s));
    }
    /// The partitions of `parent`, ascending, as "2026_03 2026_04 …".
    std::string partitions(const std::string& parent) {
        return Session(url_).value(
            "SELECT string_agg(right(inhrelid::regclass::text, 7), ' ' ORDER BY "
            "inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = '" +
            parent + "'::regclass"
        );
    }
    bool has_partition(const std::string& month) {
        return partitions("audit_events").find(month) != std::string::npos;
    }

    std::string state() {
        return Session(url_).value("SELECT state FROM event_months WHERE month = '2026-03-01'");
    }
    /// Rows of March.
    std::int64_t rows(const std::string& table) {
        return Session(url_).number(
            "SELECT count(*) FROM " + table + " WHERE month = '2026-03-01'"
        );
    }
    std::int64_t all_rows(const std::string& table) {
        return Session(url_).number("SELECT count(*) FROM " + table);
    }
    Result<void> drop_march(Node& node) { return run_task(node->drop_month(month_of(kStart))); }
    static Filter by_actor(const std::string& actor) {
        Filter filter;
        filter.equals[static_cast<std::size_t>(Column::actor_id)] = actor;
        return filter;
    }

    const std::string url_ = shared_cluster().create_database();
    ManualClock clock_{kStart};
    Account account_;
};

TEST_F(PostgresMonth, ThreeAreThereAheadFromTheStartOn) {
    Node node(url_, options());
    for (const char* parent : {"audit_events", "idempotency_keys"})
        EXPECT_EQ(partitions(parent), "2026_03 2026_04 2026_05 2026_06");
}

TEST_F(PostgresMonth, NoneTakesWhatBelongsToNoMonth) {
    Node node(url_, options());
    Session beside(url_);
    EXPECT_EQ(
        beside.value("SELECT count(*) || ' ' || bool_and(partdefid = 0) FROM pg_partitioned_table"),
        "2 true"
    );
    EXPECT_ANY_THROW(beside.run(
        "INSERT INTO audit_events (project_id, seq, created_at, id, version, leaf) VALUES ('p', 0, "
        "'2031-01-01', gen_random_uuid(), 1, '')"
    ));
}

TEST_F(PostgresMonth, AMissingOneIsMadeByWhoeverAppendsToIt) {
    Node first(url_, options()), second(url_, options());
    append(first, "before");
    clock_.step_to(kStart + 400 * kDayUs);
    ASSERT_FALSE(has_partition("2027_04"));
    std::vector<std::thread> callers;
    for (int t = 0; t < 6; ++t) {
        callers.emplace_back([&, t] {
            for (int n = 0; n < 5; ++n)
                append(t % 2 == 0 ? first : second, std::to_string(t) + "/" + std::to_string(n), 3);
        });
    }
    for (std::thread& caller : callers) caller.join();
    EXPECT_TRUE(has_partition("2027_04"));
    EXPECT_FALSE(has_partition("2027_03")) << "nobody has asked for it";
    EXPECT_NE(partitions("idempotency_keys").find("2027_04"), std::string::npos);
    EXPECT_EQ(first.all("p").size(), 1U + 6 * 5 * 3);
    expect_none(account_.problems(url_));
}

// The concatenation that the index of texts is made of is slow here; comparing columns is not.
TEST_F(PostgresMonth, ASearchThatTakesLongIsAPageThatIsNotFull) {
    Node node(url_, options());
    for (int i = 0; i < 5; ++i) append(node, "old " + std::to_string(i), 1'000);
    ASSERT_TRUE(
        node.append(Unit("p").event({{Column::action, "a.b"}, {Column::description, "a needle"}})
        ).has_value()
    );
    clock_.step_to(kStart + 35 * kDayUs);
    append(node, "new");
    ASSERT_TRUE(postgres::settle(node.store(), 60s));
    Session(url_).run(
        "CREATE SCHEMA slow; CREATE FUNCTION slow.cat(a text, b text) RETURNS text LANGUAGE "
        "plpgsql "
        "IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN concat(a, b); END $$; CREATE "
        "OPERATOR "
        "slow.|| (FUNCTION = slow.cat, LEFTARG = text, RIGHTARG = text)"
    );
    Node other(url_ + "&options=-c%20search_path%3Dpublic%2Cslow%2Cpg_catalog", options());
    ScanRequest request;
    request.project = "p";
    request.newest_first = false;
    request.filter.text = "needle";
    request.budget = 1s;
    std::size_t found = 0;
    Seq scanned = kNoSeq;
    for (bool exhausted = false; !exhausted; scanned = request.after.value()) {
        const auto page = run_task(other->scan(request));
        ASSERT_TRUE(page.has_value()) << page.error().detail;
        ASSERT_GT(page.value().scanned, scanned);
        found += page.value().batch.events.size();
        request.after = page.value().scanned;
        exhausted = page.value().exhausted;
    }
    EXPECT_EQ(found, 1U);
}

// Somebody reads from it and does not let go: dropping it has to wait, and must not make others
// wait behind it.
TEST_F(PostgresMonth, DroppingOneHoldsNoAppend) {
    Node node(url_, options()), other(url_, options());
    for (int i = 0; i < 10; ++i) append(node, "old " + std::to_string(i), 50);
    clock_.step_to(kStart + 35 * kDayUs);
    append(node, "new", 10);
    Session reader(url_);
    reader.run("BEGIN; SELECT count(*) FROM audit_events");
    std::atomic<std::int64_t> longest_append = 0, longest_read = 0;
    std::atomic<int> appended = 0, read = 0;
    const auto keep = [](std::atomic<std::int64_t>& longest, milliseconds took) {
        auto known = longest.load();
        while (took.count() > known && !longest.compare_exchange_weak(known, took.count())) {
        }
    };
    Crowd writers(3, [&](int t, int n) {
        keep(longest_append, time_of([&] {
                 append(t == 0 ? node : other, std::to_string(t) + "/" + std::to_string(n));
             }));
        ++appended;
    });
    Crowd readers(2, [&](int t, int n) {
        ScanRequest request;
        request.project = "p";
        request.newest_first = n % 2 == 0;
        keep(longest_read, time_of([&] {
                 const auto page = run_task((t == 0 ? node : other)->scan(request));
                 EXPECT_TRUE(page.has_value()) << page.error().detail;
             }));
        ++read;
    });
    const auto dropped = run_task(node->drop_month(month_of(kStart)));
    EXPECT_TRUE(dropped.has_value()) << dropped.error().detail;
    const auto end = std::chrono::steady_clock::now() + 4s;
    int rounds = 0;
    for (; std::chrono::steady_clock::now() < end; ++rounds)
        EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_TRUE(has_partition("2026_03")) << "somebody reads from it";
    EXPECT_EQ(run_task(other->log_state("p")).value().first_seq, 500) << "it is hidden at once";
    reader.run("COMMIT");
    EXPECT_TRUE(eventually([&] {
        EXPECT_TRUE(postgres::settle(node.store(), 60s));
        return !has_partition("2026_03");
    })) << "nobody is in its way but those who come and go";
    writers.stop();
    readers.stop();
    std::printf(
        "%d rounds, %d appends, the longest %lld ms; %d reads, the longest %lld ms\n",
        rounds,
        appended.load(),
        static_cast<long long>(longest_append),
        read.load(),
        static_cast<long long>(longest_read)
    );
    EXPECT_GT(rounds, 3);
    EXPECT_GT(appended, 20);
    EXPECT_LT(longest_append, 2'000);
    EXPECT_LT(longest_read, 2'000);
    EXPECT_EQ(node.all("p").front(), 500);
    EXPECT_EQ(node.all("p").size(), 10U + static_cast<std::size_t>(appended));
}

// Two that build one index fail each other.
TEST_F(PostgresMonth, TwoNodesSealOneTogether) {
    Node first(url_, options()), second(url_, options());
    for (int i = 0; i < 20; ++i) append(first, "old " + std::to_string(i), 1'000);
    clock_.step_to(kStart + 35 * kDayUs);
    std::thread other([&] { EXPECT_TRUE(postgres::settle(second.store(), 120s)); });
    EXPECT_TRUE(postgres::settle(first.store(), 120s));
    other.join();
    EXPECT_EQ(state(), "sealed");
    EXPECT_EQ(
        Session(url_).value(
            "SELECT count(*) || ' ' || bool_and(indisvalid) FROM pg_index WHERE indrelid = "
            "'audit_events_2026_03'::regclass"
        ),
        "16 true"
    );
}

TEST_F(PostgresMonth, OneThatAnotherNodeSealsIsLeftToIt) {
    Node node(url_, options());
    append(node, "old");
    Session other(url_);
    other.run("SELECT pg_advisory_lock(4711000000000000004)");
    clock_.step_to(kStart + 35 * kDayUs);
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(state(), "open");
    other.run("SELECT pg_advisory_unlock(4711000000000000004)");
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(state(), "sealed");
    EXPECT_TRUE(other.run("SELECT pg_try_advisory_lock(4711000000000000004)").boolean(0, 0));
}

// An append that takes long holds the barrier; a month that is closed needs it no more.
TEST_F(PostgresMonth, AClosedOneIsDroppedBesideAppends) {
    Node node(url_, options());
    begin_april(node);
    Session appending(url_);
    appending.run("BEGIN; SELECT pg_advisory_xact_lock_shared(4711000000000000003)");
    const auto dropped = drop_march(node);
    EXPECT_TRUE(dropped.has_value()) << dropped.error().detail;
    EXPECT_EQ(run_task(node->log_state("p")).value().first_seq, 1);
}

TEST_F(PostgresMonth, WhatIsKnownOfADroppedOneGoesAfterwards) {
    Node node(url_, options());
    append(node, "old", 10);
    clock_.step_to(kStart + 35 * kDayUs);
    append(node, "new", 3);
    ASSERT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(run_task(node->count("p", by_actor("someone"), 5s)).value().count, 13);
    EXPECT_EQ(rows("month_counts"), 1);
    EXPECT_EQ(rows("project_actions"), 2);
    Session reader(url_);
    reader.run("BEGIN; LOCK TABLE project_actions, month_counts IN SHARE MODE");
    const auto dropped = drop_march(node);
    EXPECT_TRUE(dropped.has_value()) << dropped.error().detail;
    EXPECT_EQ(run_task(node->count("p", by_actor("someone"), 5s)).value().count, 3);
    ScanRequest request;
    request.project = "p";
    request.filter.actions = {{ActionPattern::Kind::prefix, "order."}};
    EXPECT_EQ(run_task(node->scan(request)).value().batch.events.size(), 3U);
    reader.run("COMMIT");
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(rows("month_counts"), 0);
    EXPECT_EQ(rows("project_actions"), 0);
    EXPECT_FALSE(has_partition("2026_03"));
}

TEST_F(PostgresMonth, TheRollupOfADroppedOneGoesAfterwards) {
    auto small = options();
    small.rollup_seqs = 4;
    Node node(url_, small);
    append(node, "old", 10);
    clock_.step_to(kStart + 35 * kDayUs);
    append(node, "new", 10);
    AggregateRequest request;
    request.project = "p";
    EXPECT_EQ(run_task(node->aggregate(request)).value()[0].count, 20);
    EXPECT_EQ(all_rows("rollup_blocks"), 5);
    EXPECT_EQ(all_rows("rollup_hourly"), 12) << "two actions; one block holds both months";
    ASSERT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_TRUE(drop_march(node).has_value());
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(all_rows("rollup_blocks"), 2);
    EXPECT_EQ(all_rows("rollup_hourly"), 4);
    EXPECT_EQ(run_task(node->aggregate(request)).value()[0].count, 10);
}

// What fills one is the last event of a block, not the first one of the next.
TEST_F(PostgresMonth, ABlockOfTheRollupIsCountedAsSoonAsItIsFull) {
    auto small = options();
    small.rollup_seqs = 4;
    Node node(url_, small);
    append(node, "old", 7);
    EXPECT_TRUE(eventually([&] { return all_rows("rollup_blocks") == 1; }));
    append(node, "old", 1);
    EXPECT_TRUE(eventually([&] { return all_rows("rollup_blocks") == 2; }));
    append(node, "old", 3);
    EXPECT_EQ(all_rows("rollup_blocks"), 2);
}

TEST_F(PostgresMonth, AnErasureMakesItsBlockOfTheRollupCountAgain) {
    auto small = options();
    small.rollup_seqs = 4;
    Node node(url_, small);
    append(node, "old", 12);
    AggregateRequest request;
    request.project = "p";
    EXPECT_EQ(run_task(node->aggregate(request)).value()[0].count, 12);
    Session beside(url_);
    beside.run("UPDATE rollup_hourly SET count = 50");  // two actions in each block
    EXPECT_EQ(run_task(node->aggregate(request)).value()[0].count, 300) << "blocks are what counts";
    EXPECT_TRUE(node.append(Unit("p").erase(5)).has_value());
    EXPECT_EQ(run_task(node->aggregate(request)).value()[0].count, 203);
}

// Where transactions have one snapshot unless they say otherwise, it must not be older than the
// barrier.
TEST_F(PostgresMonth, ALogThatEntersItLastIsDroppedWithIt) {
    Node node(url_, options());
    append(node, "old");
    clock_.step_to(kStart + 35 * kDayUs);
    Session late(url_);
    late.run(
        "ALTER DATABASE " + name_in(url_) + " SET default_transaction_isolation = 'repeatable read'"
    );
    late.run(
        "BEGIN; SELECT pg_advisory_xact_lock_shared(4711000000000000003);"
        "INSERT INTO project_months VALUES ('late', '2026-03-01', 0);"
        "INSERT INTO event_batches VALUES ('late', 0, 4, 0, '', '')"
    );
    std::thread other([&] { EXPECT_TRUE(drop_march(node).has_value()); });
    EXPECT_TRUE(await_waiters(url_, 1));
    late.run("COMMIT");
    other.join();
    EXPECT_EQ(run_task(node->log_state("late")).value().first_seq, 5);
}

// Its transaction failed before it had begun: the next one must not be in it.
TEST_F(PostgresMonth, ADropThatMustWaitForAnotherNodeFailsAlone) {
    Node node(url_, options());
    begin_april(node);
    Session other(url_);
    other.run("SELECT pg_advisory_lock(4711000000000000002)");
    EXPECT_TRUE(drop_march(node).has_value());
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_TRUE(has_partition("2026_03"));
    other.run("SELECT pg_advisory_unlock(4711000000000000002)");
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_FALSE(has_partition("2026_03"));
}

TEST_F(PostgresMonth, OneThatWasInUseIsDroppedSoonAfter) {
    Node node(url_, options());
    begin_april(node);
    Session reader(url_);
    reader.run("BEGIN; SELECT count(*) FROM audit_events");
    EXPECT_TRUE(drop_march(node).has_value());
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_TRUE(has_partition("2026_03"));
    reader.run("COMMIT");
    EXPECT_TRUE(eventually([&] { return !has_partition("2026_03"); }, 30s));
}

TEST_F(PostgresMonth, KeysGoWhenNobodyLooksForThemAnyMore) {
    Node node(url_, options());
    for (const char* expected :
         {"2026_03 2026_04 2026_05 2026_06",
          "2026_03 2026_04 2026_05 2026_06 2026_07",
          "2026_03 2026_04 2026_05 2026_06 2026_07 2026_08",
          "2026_04 2026_05 2026_06 2026_07 2026_08 2026_09"}) {
        append(node, expected);
        EXPECT_TRUE(postgres::settle(node.store(), 60s));
        EXPECT_EQ(partitions("idempotency_keys"), expected);
        clock_.step_to(clock_.wall_us() + 31 * kDayUs);
    }
    EXPECT_TRUE(has_partition("2026_03")) << "the events stay";
}

TEST_F(PostgresMonth, SoManyCountsOfItAreRememberedAndNoMore) {
    Node node(url_, options());
    append(node, "old", 10);
    clock_.step_to(kStart + 35 * kDayUs);
    ASSERT_TRUE(postgres::settle(node.store(), 60s));
    Session beside(url_);
    beside.run(
        "INSERT INTO month_counts SELECT 'p', '2026-03-01', int4send(n), 0, n FROM "
        "generate_series(1, 999) n"
    );
    for (const char* actor : {"someone", "nobody"}) {
        const auto total = run_task(node->count("p", by_actor(actor), 5s));
        EXPECT_EQ(total.value().count, actor == std::string("someone") ? 10 : 0);
        EXPECT_EQ(rows("month_counts"), 1'000);
    }
    // What an erasure has made useless makes room.
    const auto erased = node.append(Unit("p").erase(3));
    ASSERT_TRUE(erased.has_value()) << erased.error().detail;
    EXPECT_EQ(run_task(node->count("p", by_actor("someone"), 5s)).value().count, 9);
    EXPECT_EQ(rows("month_counts"), 1);
}

/// A node whose calls pass a network that can fail, its keeper's apart.
class PostgresMonthDrop : public PostgresMonth {
protected:
    PostgresMonthDrop() {
        auto far = options();
        far.direct_url = url_;
        far.read_connections = 1;
        node_ = std::make_unique<Node>(proxy_.url(name_in(url_)), far);
        append(*node_, "old");
        clock_.step_to(kStart + 35 * kDayUs);
        append(*node_, "new");
        EXPECT_EQ(node_->all("p").size(), 2U) << "the connection is there";
    }
    void expect_dropped() {
        const auto dropped = drop_march(*node_);
        EXPECT_TRUE(dropped.has_value()) << dropped.error().detail;
        EXPECT_EQ(state(), "dropped");
        EXPECT_EQ(drop_march(*node_).error().code, Errc::not_found) << "it is not there any more";
    }
    TcpProxy proxy_{shared_cluster().socket_path()};
    std::unique_ptr<Node> node_;
};

TEST_F(PostgresMonthDrop, IsTriedAgainWhenTheConnectionIsStale) {
    proxy_.cut();
    expect_dropped();
}

TEST_F(PostgresMonthDrop, WhoseAnswerWasLostIsDone) {
    ASSERT_TRUE(postgres::settle(node_->store(), 60s));
    proxy_.cut_on(kCommit, TcpProxy::Lost::answer);
    expect_dropped();
    EXPECT_TRUE(proxy_.await_cut(1s));
}

}  // namespace
}  // namespace annal::test
