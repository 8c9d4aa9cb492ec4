// The thread that makes a database ready and looks after it: what fails in it, or takes long, holds
// nobody up.
#include "tests/contract/postgres_nodes.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/tcp_proxy.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;

class PostgresKeeper : public testing::Test {
protected:
    static constexpr TimeUs kStart = 1'773'500'000'000'000;  // 2026-03-14

    annal::PostgresOptions options() {
        annal::PostgresOptions made;
        made.stamps = &clock_;
        return made;
    }
    static void expect_append(Node& node, const std::string& name) {
        const auto outcome = node.append(named_unit("p", name, 10));
        EXPECT_TRUE(outcome.has_value()) << outcome.error().detail;
    }
    /// Leaves March over, and not sealed.
    void finish_month() {
        Node node(url_, options());
        expect_append(node, "old");
        clock_.step_to(kStart + 35 * kDayUs);
    }
    std::string state() {
        return Session(url_).value("SELECT state FROM event_months WHERE month = '2026-03-01'");
    }
    /// A session that keeps indexes of March from being built, and nobody from anything else.
    static constexpr const char* kHoldIndexes =
        "BEGIN; LOCK TABLE audit_events_2026_03 IN ROW EXCLUSIVE MODE";

    const std::string url_ = shared_cluster().create_database();
    ManualClock clock_{kStart};
};

TEST_F(PostgresKeeper, ServesBeforeOldMonthsAreSealed) {
    finish_month();
    Session writer(url_);
    writer.run(kHoldIndexes);
    annal::PostgresOptions impatient = options();
    impatient.start_patience = 1s;
    Node node(url_, impatient);
    EXPECT_TRUE(eventually([&] { return node->health().refusal.empty(); }, 20s));
    expect_append(node, "new");
    EXPECT_TRUE(await_waiters(url_, 1));
    EXPECT_EQ(state(), "closed");
    writer.run("COMMIT");
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(state(), "sealed");
}

TEST_F(PostgresKeeper, AMonthThatCannotBeSealedIsNoRefusal) {
    finish_month();
    Session beside(url_);
    beside.run("DROP EXTENSION pg_trgm");
    Node node(url_, options());
    EXPECT_FALSE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(node->health().refusal, "");
    EXPECT_FALSE(node->health().for_good);
    expect_append(node, "new");
    beside.run("CREATE EXTENSION pg_trgm");
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(state(), "sealed");
}

TEST_F(PostgresKeeper, ItsLostConnectionStopsNobodyElse) {
    TcpProxy proxy(shared_cluster().socket_path());
    annal::PostgresOptions apart = options();
    apart.direct_url = proxy.url(name_in(url_));
    Node node(url_, apart);
    proxy.refuse();
    proxy.cut();
    for (int i = 0; i < 2; ++i) EXPECT_FALSE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(node->health().refusal, "");
    expect_append(node, "meanwhile");
    proxy.resume();
    EXPECT_TRUE(eventually([&] { return postgres::settle(node.store(), 60s); }));
}

TEST_F(PostgresKeeper, ANodeThatHasGrownTooOldRefuses) {
    Node node(url_, options());
    expect_append(node, "before");
    Session beside(url_);
    beside.run("UPDATE schema_compatibility SET oldest_runtime = 1000");
    EXPECT_FALSE(postgres::settle(node.store(), 60s));
    EXPECT_NE(node->health().refusal.find("install a newer version"), std::string::npos);
    EXPECT_TRUE(node->health().for_good);
    const auto outcome = node.append(named_unit("p", "after", 1));
    ASSERT_TRUE(outcome.has_error()) << "through a connection that was there before";
    EXPECT_EQ(outcome.error().code, Errc::unavailable);
}

TEST_F(PostgresKeeper, BuildsIndexesForLongerThanTheRoleMay) {
    finish_month();
    Session writer(url_);
    writer.run(
        "ALTER DATABASE " + name_in(url_) + " SET statement_timeout = '500ms';ALTER DATABASE " +
        name_in(url_) + " SET lock_timeout = '500ms'"
    );
    writer.run(kHoldIndexes);
    Node node(url_, options());
    Session beside(url_);
    beside.run("SET statement_timeout = 0");
    EXPECT_TRUE(eventually(
        [&] {
            return beside.number(
                       "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                       "AND query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock' AND "
                       "clock_timestamp() - query_start > interval '1 second'"
                   ) == 1;
        },
        20s
    ));
    writer.run("COMMIT");
    EXPECT_TRUE(postgres::settle(node.store(), 60s));
    EXPECT_EQ(state(), "sealed");
}

}  // namespace
}  // namespace annal::test
