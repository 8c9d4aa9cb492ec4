// A COMMIT whose answer never comes: the unit is reported as committed exactly when it is, and is
// stored once.
#include "runtime/store/postgres/append_rows.h"
#include "tests/contract/postgres_nodes.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/tcp_proxy.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;
using postgres::AppendRows;
using postgres::Connection;
using Lost = TcpProxy::Lost;
using Then = TcpProxy::Then;

constexpr const char* kProject = "p";

/// A node whose appends pass a network that can fail, and another one that is well, on one
/// database.
class Pair {
public:
    explicit Pair(PostgresCluster& cluster)
        : url(cluster.create_database()),
          proxy(cluster.socket_path()),
          far(proxy.url(name_in(url)), far_options(url)),
          near(url) {
        // All connections are there before anything is lost.
        EXPECT_TRUE(append(far, named_unit(kProject, "before", 3)).has_value());
        EXPECT_TRUE(append(near, named_unit(kProject, "before too", 2)).has_value());
    }

    AppendOutcome append(Node& node, const Unit& unit) {
        auto outcome = node.append(unit);
        account.record(unit.build(), outcome);
        return outcome;
    }
    /// Appends through the network that fails.
    std::thread start(const Unit& unit, AppendOutcome& outcome) {
        return std::thread([this, unit, &outcome] { outcome = append(far, unit); });
    }
    void expect_sound() { expect_none(account.problems(url)); }

    const std::string url;
    TcpProxy proxy;
    Account account;
    Node far, near;

private:
    static annal::PostgresOptions far_options(const std::string& direct) {
        annal::PostgresOptions options;
        options.direct_url = direct;
        options.append_connections = 1;
        options.statement_timeout = 1'000ms;  // so that silence does not last long
        return options;
    }
};

AppendOutcome nothing_yet() {
    return Error{Errc::internal, "no answer yet"};
}

struct Fault {
    std::string name;
    Lost lost;
    Then then;
};
void PrintTo(const Fault& fault, std::ostream* out) {
    *out << fault.name;
}

class PostgresCommit : public testing::TestWithParam<Fault> {
protected:
    /// `unit` meets the fault while another node appends to the project before the outcome can be
    /// asked for. @return  what was answered.
    AppendOutcome lose(Pair& pair, const Unit& unit, const Unit* between = nullptr) {
        const Fault& fault = GetParam();
        AppendOutcome outcome = nothing_yet();
        if (between != nullptr) pair.proxy.refuse();
        pair.proxy.cut_on(kCommit, fault.lost, fault.then);
        std::thread caller = pair.start(unit, outcome);
        EXPECT_TRUE(pair.proxy.await_cut(20s));
        if (between != nullptr) {
            const auto other = pair.append(pair.near, *between);
            EXPECT_TRUE(other.has_value()) << other.error().detail;
            pair.proxy.resume();
        }
        caller.join();
        EXPECT_EQ(pair.far.metric("annal_postgres_unknown_commits_total"), 1);
        return outcome;
    }
};

TEST_P(PostgresCommit, EventsAreStoredOnce) {
    Pair pair(shared_cluster());
    const auto outcome = lose(pair, named_unit(kProject, "lost", 40));
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    EXPECT_EQ(outcome.value().front().seq, 5);
    EXPECT_FALSE(outcome.value().front().replayed);
    EXPECT_EQ(pair.near.all(kProject).size(), 45U);
    pair.expect_sound();
}

TEST_P(PostgresCommit, EventsAreStoredOnceWhileAnotherNodeAppends) {
    Pair pair(shared_cluster());
    const Unit between = named_unit(kProject, "between", 7);
    const auto outcome = lose(pair, named_unit(kProject, "lost", 40), &between);
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    // An answer that was lost was one to a commit; a request that was lost comes after the other.
    EXPECT_EQ(outcome.value().front().seq, GetParam().lost == Lost::answer ? 5 : 12);
    EXPECT_EQ(pair.near.all(kProject).size(), 52U);
    pair.expect_sound();
}

TEST_P(PostgresCommit, UnitsOfOneCallAreStoredOnceEach) {
    Pair pair(shared_cluster());
    pair.proxy.cut_on(kCommit, GetParam().lost, GetParam().then);
    const std::vector<Unit> units{
        named_unit(kProject, "a", 3),
        named_unit("q", "b", 4).put("host.test", "k", "v").key("key b"),
        named_unit(kProject, "refused", 1).kv({KvOp::Kind::require_equals, "s", "p", "k", "x"}),
        named_unit("r", "c", 1)};
    const auto outcomes = pair.far.append(units);
    for (std::size_t i = 0; i < units.size(); ++i) {
        if (i == 2) {
            ASSERT_TRUE(outcomes[i].has_error());
            EXPECT_EQ(outcomes[i].error().code, Errc::conflict);
            continue;
        }
        ASSERT_TRUE(outcomes[i].has_value()) << outcomes[i].error().detail;
        EXPECT_FALSE(outcomes[i].value().front().replayed) << i;
        pair.account.record(units[i].build(), outcomes[i]);
    }
    EXPECT_TRUE(pair.near.append(units[1]).value().front().replayed);
    EXPECT_EQ(pair.near.all(kProject).size(), 8U);
    pair.expect_sound();
}

// The second time its precondition would not hold.
TEST_P(PostgresCommit, RowsAloneAreWrittenOnce) {
    Pair pair(shared_cluster());
    Unit unit(kProject);
    unit.kv({KvOp::Kind::require_absent, "host.test", kProject, "row", ""});
    unit.put("host.test", "row", "value");
    const Unit between = named_unit(kProject, "between", 1);
    const auto outcome = lose(pair, unit, &between);
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    EXPECT_EQ(run_task(pair.near->kv_get("host.test", kProject, "row")).value(), "value");
}

// What another node wrote after it stays: it is not written again over it.
TEST_P(PostgresCommit, ARowIsNotWrittenOverALaterOne) {
    Pair pair(shared_cluster());
    const Unit between = Unit(kProject).put("host.test", "row", "later");
    const auto outcome = lose(pair, Unit(kProject).put("host.test", "row", "earlier"), &between);
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    EXPECT_EQ(
        run_task(pair.near->kv_get("host.test", kProject, "row")).value(),
        GetParam().lost == Lost::answer ? "later" : "earlier"
    );
}

// No lock of a project is there to wait for.
TEST_P(PostgresCommit, ACursorAloneIsMovedOnce) {
    Pair pair(shared_cluster());
    const auto lease = run_task(pair.near->lease({kProject, "s", "far", 60s}));
    ASSERT_TRUE(lease.has_value());
    const auto outcome = lose(pair, Unit(kProject).cursor("s", 3, lease.value().fence));
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    EXPECT_EQ(run_task(pair.near->cursor(kProject, "s")).value(), 3);
}

TEST_P(PostgresCommit, AnErasureIsDoneOnce) {
    Pair pair(shared_cluster());
    const Unit between = named_unit(kProject, "between", 1);
    const auto outcome = lose(pair, Unit(kProject).erase(1), &between);
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    const auto total = run_task(pair.near->count(kProject, {}, 5s));
    EXPECT_EQ(total.value().count, 5);
}

INSTANTIATE_TEST_SUITE_P(
    Postgres,
    PostgresCommit,
    testing::Values(
        Fault{"RequestLost", Lost::request, Then::reset},
        Fault{"AnswerLost", Lost::answer, Then::reset}
    ),
    [](const auto& each) { return each.param.name; }
);

// Nothing comes any more, not even the end of the connection: the watchdog ends the call. What the
// transaction had locked is free after the server's patience with it; meanwhile the other node's
// append waits, and goes through.
class PostgresSilentCommit : public PostgresCommit {};

TEST_P(PostgresSilentCommit, EventsAreStoredOnceAndOthersGoOn) {
    Pair pair(shared_cluster());
    const Unit between = named_unit(kProject, "between", 7);
    const Fault& fault = GetParam();
    AppendOutcome outcome = nothing_yet();
    pair.proxy.cut_on(kCommit, fault.lost, fault.then);
    std::thread caller = pair.start(named_unit(kProject, "lost", 40), outcome);
    ASSERT_TRUE(pair.proxy.await_cut(20s));
    const auto waited = time_of([&] {
        const auto other = pair.append(pair.near, between);
        EXPECT_TRUE(other.has_value()) << other.error().detail;
    });
    if (fault.lost == Lost::request) {
        // idle_in_transaction_session_timeout: 5 s, of which a moment may have gone by.
        EXPECT_GT(waited, 3s);
    }
    RecordProperty("other_waited_ms", std::to_string(waited.count()));
    caller.join();
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    EXPECT_EQ(pair.near.all(kProject).size(), 52U);
    pair.expect_sound();
}

INSTANTIATE_TEST_SUITE_P(
    Postgres,
    PostgresSilentCommit,
    testing::Values(
        Fault{"RequestLost", Lost::request, Then::silence},
        Fault{"AnswerLost", Lost::answer, Then::silence}
    ),
    [](const auto& each) { return each.param.name; }
);

/// A transaction that has written and whose COMMIT comes late, in a database where transactions
/// have one snapshot unless they say otherwise.
class PostgresLateCommit : public testing::Test {
protected:
    PostgresLateCommit() {
        Node(url_).close();
        Session(url_).run(
            "ALTER DATABASE " + name_in(url_) +
            " SET default_transaction_isolation = 'repeatable read'"
        );
        batch_.project = kProject;
    }
    /// What is found out on a connection of its own.
    Result<bool> ask(const std::vector<AppendRows::Batch>& batches) {
        Connection::Options options;
        options.url = url_;
        BOOST_OUTCOME_TRY(const auto db, Connection::open(options, dog_));
        db->set_deadline(std::chrono::steady_clock::now() + 60s);
        return was_committed(*db, batches, mark_);
    }
    /// Commits what `writer` has open as soon as somebody waits for it.
    Result<bool> ask_before_commit(Session& writer, const std::vector<AppendRows::Batch>& batches) {
        Result<bool> committed = Error{Errc::internal, "no answer yet"};
        std::thread asker([&] { committed = ask(batches); });
        EXPECT_TRUE(await_waiters(url_, 1));
        writer.run("COMMIT");
        asker.join();
        return committed;
    }
    static constexpr const char* kInsertBatch =
        "INSERT INTO event_batches VALUES ('p', 0, 0, 0, decode(repeat('00', 32), 'hex'), '')";

    const std::string url_ = shared_cluster().create_database();
    postgres::Watchdog dog_;
    AppendRows::Batch batch_;
    postgres::CommitMark mark_{kProject, {}};
};

TEST_F(PostgresLateCommit, OfEventsIsSeenByWhoWaitedForIt) {
    Session writer(url_);
    writer.run("BEGIN;" + postgres::take_append_locks({kProject}) + ";" + kInsertBatch);
    const auto committed = ask_before_commit(writer, {batch_});
    ASSERT_TRUE(committed.has_value()) << committed.error().detail;
    EXPECT_TRUE(committed.value());
}

TEST_F(PostgresLateCommit, OfRowsAloneIsSeenByWhoWaitedForIt) {
    Session writer(url_);
    postgres::Params mark;
    mark.text(mark_.project).bytes(mark_.id);
    writer.run("BEGIN");
    writer.run("INSERT INTO commit_marks VALUES ($1::text, $2::uuid)", mark);
    const auto committed = ask_before_commit(writer, {});
    ASSERT_TRUE(committed.has_value()) << committed.error().detail;
    EXPECT_TRUE(committed.value());
}

TEST_F(PostgresLateCommit, IsSeenWhileAnotherLogOfTheTransactionIsBeingWritten) {
    Session neighbour(url_), writer(url_);
    neighbour.run("BEGIN;" + postgres::take_append_locks({"q"}));
    writer.run(kInsertBatch);
    AppendRows::Batch other = batch_;
    other.project = "q";
    const auto committed = ask({batch_, other});
    ASSERT_TRUE(committed.has_value()) << committed.error().detail;
    EXPECT_TRUE(committed.value());
}

TEST(PostgresCommitMarks, AreDeletedWhenNobodyLooksForThemAnyMore) {
    const std::string url = shared_cluster().create_database();
    Session beside(url);
    Node(url).close();
    beside.run(
        "INSERT INTO commit_marks VALUES ('p', gen_random_uuid(), clock_timestamp() - interval '16 "
        "minutes'), ('p', gen_random_uuid(), clock_timestamp() - interval '14 minutes')"
    );
    Node node(url);
    ASSERT_TRUE(node.append(Unit(kProject).put("host.test", "row", "value")).has_value());
    EXPECT_EQ(beside.number("SELECT count(*) FROM commit_marks"), 2);
    ASSERT_TRUE(node.append(named_unit(kProject, "event", 1)).has_value());
    EXPECT_EQ(beside.number("SELECT count(*) FROM commit_marks"), 2) << "events need none";
}

// Also in a database whose default is to answer before that: what is acknowledged is durable.
TEST(PostgresCommitCrash, AcknowledgedUnitsOutliveIt) {
    PostgresCluster cluster({{"wal_writer_delay = 10s", "synchronous_commit = off"}, false});
    const std::string url = cluster.create_database();
    Account account;
    Node node(url);
    for (int i = 0; i < 20; ++i) {
        const Unit unit = named_unit(kProject, std::to_string(i), 1);
        account.record(unit.build(), node.append(unit));
        ASSERT_TRUE(node.append(Unit(kProject).put("s", "k", std::to_string(i))).has_value());
    }
    cluster.restart(PostgresCluster::Mode::immediate);
    EXPECT_EQ(account.acknowledged(), 20U);
    expect_none(account.problems(url));
    EXPECT_EQ(run_task(node->kv_get("s", kProject, "k")).value(), "19");
}

// After a crash the server may give the number of a transaction that was lost to another one: it
// must not speak for the first.
TEST(PostgresCommitCrash, ARowThatTheCrashLostIsNotTakenForWritten) {
    PostgresCluster cluster({{"wal_writer_delay = 10s", "autovacuum = off"}, false});
    Pair pair(cluster);
    Session beside(pair.url);
    AppendOutcome outcome = nothing_yet();
    pair.proxy.refuse();
    pair.proxy.cut_on(kCommit, Lost::request, Then::silence);
    const std::string before = beside.value("SELECT pg_snapshot_xmax(pg_current_snapshot())");
    Unit unit(kProject);
    unit.kv({KvOp::Kind::require_absent, "host.test", kProject, "row", ""});
    unit.put("host.test", "row", "value");
    std::thread caller = pair.start(unit, outcome);
    ASSERT_TRUE(pair.proxy.await_cut(20s));
    cluster.restart(PostgresCluster::Mode::immediate);
    // Others take the numbers that come next.
    for (int i = 0; i < 20; ++i) cluster.sql(pair.url, "SELECT pg_current_xact_id()");
    pair.proxy.resume();
    pair.proxy.cut();
    caller.join();
    ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    EXPECT_EQ(run_task(pair.near->kv_get("host.test", kProject, "row")).value(), "value");
}

}  // namespace
}  // namespace annal::test
