#include "tests/support/tcp_proxy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/postgres_cluster.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr auto kSoon = 30s;
constexpr auto kWhile = 200ms;  ///< in which nothing happens
constexpr const char* kInsert = "BEGIN; INSERT INTO t VALUES (1); COMMIT; SELECT 'committed'";
constexpr int kConnectionLost = 2;

class TcpProxyBeforePostgres : public ::testing::Test {
protected:
    void SetUp() override {
        const std::string url = cluster.create_database();
        name_ = cluster.sql(url, "CREATE TABLE t (id int); SELECT current_database()");
    }

    [[nodiscard]] std::string url() const { return proxy.url(name_); }
    [[nodiscard]] std::string rows() const { return cluster.sql(name_, "SELECT count(*) FROM t"); }
    /// Waits until `sleeping` statements run in the test's database.
    [[nodiscard]] bool await_sleepers(const std::string& sleeping) const {
        return await([&] {
            return cluster.sql(
                       "postgres",
                       "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + name_ +
                           "' AND query LIKE '%pg_sleep%'"
                   ) == sleeping;
        });
    }
    static bool await(const std::function<bool()>& condition) {
        const auto deadline = std::chrono::steady_clock::now() + kSoon;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > deadline) return false;
            std::this_thread::sleep_for(5ms);
        }
        return true;
    }

    PostgresCluster& cluster = shared_cluster();
    TcpProxy proxy{cluster.socket_path()};

    std::string name_;
};

TEST_F(TcpProxyBeforePostgres, ForwardsWhatIsLargeBothWays) {
    const std::string large(3'000'000, 'x');
    const auto length = "SELECT length('" + large + "')";
    EXPECT_EQ(cluster.sql(url(), length), "3000000");
    EXPECT_EQ(cluster.sql(url(), "SELECT repeat('x', 3000000)"), large);
    EXPECT_TRUE(await([&] { return proxy.connections() == 0; }));
}

TEST_F(TcpProxyBeforePostgres, CutResetsAllConnectionsAndTakesNewOnes) {
    PsqlRun one(url(), "SELECT pg_sleep(600)"), other(url(), "SELECT pg_sleep(600)");
    ASSERT_TRUE(await_sleepers("2"));
    EXPECT_EQ(proxy.connections(), 2u);
    proxy.cut();
    EXPECT_EQ(proxy.connections(), 0u);
    for (PsqlRun* run : {&one, &other}) {
        const auto result = run->wait(kSoon);
        ASSERT_TRUE(result);
        EXPECT_EQ(result->exit_code, kConnectionLost) << result->errors;
    }
    EXPECT_EQ(cluster.sql(url(), "SELECT 1"), "1");
}

TEST_F(TcpProxyBeforePostgres, StallLetsNothingThroughUntilResumed) {
    PsqlRun before(url(), "SELECT pg_sleep(600)");
    ASSERT_TRUE(await_sleepers("1"));
    proxy.stall();
    PsqlRun during(url(), "SELECT 'through'");
    cluster.sql(
        "postgres",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' "
        "AND pid <> pg_backend_pid()"
    );
    ASSERT_TRUE(await_sleepers("0"));
    EXPECT_FALSE(before.wait(kWhile));
    EXPECT_FALSE(during.wait(0ms));
    proxy.resume();
    EXPECT_THAT(before.wait(kSoon).value().errors, HasSubstr("terminating connection"));
    EXPECT_EQ(during.wait(kSoon).value().output, "through");
}

TEST_F(TcpProxyBeforePostgres, RefuseLeavesTheOldConnectionsAlone) {
    PsqlRun old(url(), "SELECT pg_sleep(600)");
    ASSERT_TRUE(await_sleepers("1"));
    for (int times = 0; times < 2; ++times) {
        proxy.refuse();
        PsqlRun refused(url(), "SELECT 1");
        const auto result = refused.wait(kSoon);
        ASSERT_TRUE(result);
        EXPECT_EQ(result->exit_code, kConnectionLost);
        EXPECT_THAT(result->errors, HasSubstr("Connection refused"));
        EXPECT_FALSE(old.wait(0ms));
        proxy.resume();
        EXPECT_EQ(cluster.sql(url(), "SELECT 1"), "1");
    }
}

TEST_F(TcpProxyBeforePostgres, CommitLostOnTheWayIsRolledBack) {
    proxy.cut_on("COMMIT", TcpProxy::Lost::request);
    PsqlRun run(url(), kInsert);
    EXPECT_TRUE(proxy.await_cut(kSoon));
    EXPECT_EQ(run.wait(kSoon).value().exit_code, kConnectionLost);
    EXPECT_EQ(rows(), "0");
    EXPECT_EQ(cluster.sql(url(), kInsert), "committed");  // only once
    EXPECT_EQ(rows(), "1");
}

TEST_F(TcpProxyBeforePostgres, AnswerToCommitLostLeavesItCommitted) {
    proxy.cut_on("COMMIT", TcpProxy::Lost::answer);
    PsqlRun run(url(), kInsert);
    EXPECT_TRUE(proxy.await_cut(kSoon));
    EXPECT_EQ(rows(), "1");
    const auto result = run.wait(kSoon).value();
    EXPECT_EQ(result.exit_code, kConnectionLost);
    EXPECT_EQ(result.output, "");
}

TEST_F(TcpProxyBeforePostgres, SilenceAfterCommitLastsUntilCut) {
    proxy.cut_on("COMMIT", TcpProxy::Lost::answer, TcpProxy::Then::silence);
    PsqlRun run(url(), kInsert);
    ASSERT_TRUE(proxy.await_cut(kSoon));
    EXPECT_EQ(rows(), "1");
    EXPECT_FALSE(run.wait(kWhile));
    EXPECT_EQ(proxy.connections(), 1u);
    proxy.cut();
    EXPECT_EQ(run.wait(kSoon).value().exit_code, kConnectionLost);
}

TEST_F(TcpProxyBeforePostgres, SilenceBeforeCommitLeavesTheTransactionOpen) {
    proxy.cut_on("COMMIT", TcpProxy::Lost::request, TcpProxy::Then::silence);
    PsqlRun run(url(), kInsert);
    ASSERT_TRUE(proxy.await_cut(kSoon));
    EXPECT_EQ(
        cluster.sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE state = 'idle in transaction' AND datname = '" +
                name_ + "'"
        ),
        "1"
    );
    EXPECT_FALSE(run.wait(kWhile));
    proxy.cut();
    EXPECT_EQ(rows(), "0");
}

TEST_F(TcpProxyBeforePostgres, ADemandTakenBackDoesNotHappen) {
    proxy.cut_on("COMMIT", TcpProxy::Lost::request);
    proxy.resume();
    EXPECT_EQ(cluster.sql(url(), kInsert), "committed");
    EXPECT_FALSE(proxy.await_cut(0ms));
}

TEST(TcpProxy, ServerThatDoesNotListenResets) {
    TcpProxy proxy("/nonexistent/.s.PGSQL.5432");
    PsqlRun run(proxy.url("postgres"), "SELECT 1");
    EXPECT_EQ(run.wait(kSoon).value().exit_code, kConnectionLost);
}

}  // namespace
}  // namespace annal::test
