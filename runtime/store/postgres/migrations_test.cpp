#include "runtime/store/postgres/migrations.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "runtime/store/postgres/postgres_store.h"
#include "tests/support/postgres_cluster.h"

namespace annal::postgres {
namespace {

class MigrationsTest : public testing::Test {
protected:
    std::unique_ptr<Connection> connect() {
        Connection::Options options;
        options.url = url_;
        auto opened = Connection::open(options, dog_);
        EXPECT_TRUE(opened.has_value());
        return std::move(opened.value());
    }
    std::string sql(const std::string& statements) {
        return test::shared_cluster().sql(url_, statements);
    }
    /// What a store says that is opened over the database.
    Result<void> open(bool migrate) {
        annal::PostgresOptions options;
        options.url = url_;
        options.migrate = migrate;
        auto store = open_postgres_store(options, metrics_);
        if (!store) return store.error();
        return ok();
    }

    static constexpr const char* kWaiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
        "wait_event_type = 'Lock'";
    const std::string url_ = test::shared_cluster().create_database();
    Metrics metrics_;
    Watchdog dog_;
};

TEST_F(MigrationsTest, AreAppliedOnceByOneOfManyNodes) {
    std::atomic<std::size_t> applied = 0;
    std::atomic<int> newest = 0;
    std::vector<std::thread> nodes;
    for (int i = 0; i < 8; ++i) {
        nodes.emplace_back([&] {
            auto db = connect();
            const auto report = migrate(*db);
            ASSERT_TRUE(report.has_value()) << report.error().detail;
            applied += report.value().applied.size();
            newest = report.value().version;
        });
    }
    for (std::thread& node : nodes) node.join();
    EXPECT_EQ(applied, migrations().size());
    EXPECT_EQ(newest, migrations().back().version);
    EXPECT_EQ(sql("SELECT count(*) FROM schema_migrations"), std::to_string(migrations().size()));
    EXPECT_TRUE(check_schema(*connect()).has_value());
}

// Where transactions have one snapshot unless they say otherwise, it must not be older than the
// lock.
TEST_F(MigrationsTest, OfANodeThatWaitedAreThoseThatAreStillMissing) {
    sql("ALTER DATABASE " + sql("SELECT current_database()") +
        " SET default_transaction_isolation = 'repeatable read'");
    auto first = connect();
    ASSERT_TRUE(first->run("BEGIN; SELECT pg_advisory_xact_lock(4711000000000000001)"));
    std::vector<std::thread> nodes;
    for (int i = 0; i < 2; ++i) {
        nodes.emplace_back([&] {
            const auto report = migrate(*connect());
            EXPECT_TRUE(report.has_value()) << report.error().detail;
        });
    }
    while (sql(kWaiting) != "2") std::this_thread::sleep_for(std::chrono::milliseconds(10));
    ASSERT_TRUE(first->run("COMMIT"));
    for (std::thread& node : nodes) node.join();
    EXPECT_TRUE(check_schema(*connect()).has_value());
}

TEST_F(MigrationsTest, MayTakeLongWhateverTheRoleMay) {
    auto db = connect();
    ASSERT_TRUE(db->run("SET statement_timeout = '100ms'; SET lock_timeout = '50ms'"));
    const std::vector<Migration> slow{{1, "0001_slow.sql", "SELECT pg_sleep(0.3)"}};
    const auto report = migrate(*db, slow);
    EXPECT_TRUE(report.has_value()) << report.error().detail;
    const auto after = db->run("SHOW statement_timeout");
    EXPECT_EQ(after.value().text(0, 0).view(), "100ms") << "the session is as it was";
}

TEST_F(MigrationsTest, LetOthersPassWhenATableIsInUse) {
    sql("CREATE TABLE in_use (n int)");
    auto user = connect();
    ASSERT_TRUE(user->run("BEGIN; SELECT * FROM in_use"));
    const std::vector<Migration> wanted{{1, "0001_wanted.sql", "ALTER TABLE in_use ADD m int"}};
    std::thread node([&] {
        const auto report = migrate(*connect(), wanted);
        EXPECT_TRUE(report.has_value()) << report.error().detail;
    });
    const auto await = [&](const char* waiting) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (sql(kWaiting) != waiting)
            if (std::chrono::steady_clock::now() > end) return false;
        return true;
    };
    EXPECT_TRUE(await("1"));
    EXPECT_TRUE(await("0")) << "whoever wants the table queues behind the migration";
    EXPECT_TRUE(await("1")) << "it does not try again";
    ASSERT_TRUE(user->run("COMMIT"));
    node.join();
}

TEST_F(MigrationsTest, AllOrNothing) {
    auto db = connect();
    const std::vector<Migration> broken{
        {1, "0001_good.sql", "CREATE TABLE good (n int)"},
        {2, "0002_bad.sql", "CREATE TABLE bad (n no_such_type)"}};
    const auto report = migrate(*db, broken);
    ASSERT_TRUE(report.has_error());
    EXPECT_NE(report.error().detail.find("0002_bad.sql"), std::string::npos)
        << report.error().detail;
    EXPECT_EQ(sql("SELECT to_regclass('good') IS NULL"), "t");
    EXPECT_EQ(sql("SELECT to_regclass('schema_migrations') IS NULL"), "t");
    EXPECT_TRUE(migrate(*db).has_value()) << "the connection is as good as before";
}

TEST_F(MigrationsTest, OneThatWasMissingIsAppliedLater) {
    auto db = connect();
    ASSERT_TRUE(migrate(*db, migrations().first(1)).has_value());
    EXPECT_EQ(check_schema(*db).error().code, Errc::conflict);
    EXPECT_EQ(open(false).error().code, Errc::conflict);
    const auto report = migrate(*db);
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report.value().applied.size(), migrations().size() - 1);
    EXPECT_TRUE(check_schema(*db).has_value());
    EXPECT_TRUE(open(false).has_value());
}

TEST_F(MigrationsTest, AnEmptyDatabaseIsNoSchema) {
    const auto checked = check_schema(*connect());
    ASSERT_TRUE(checked.has_error());
    EXPECT_EQ(checked.error().code, Errc::conflict);
    EXPECT_NE(checked.error().detail.find("annal migrate"), std::string::npos);
}

TEST_F(MigrationsTest, OneThatWasChangedAfterwardsIsAConflict) {
    ASSERT_TRUE(migrate(*connect()).has_value());
    std::vector<Migration> changed(migrations().begin(), migrations().end());
    const std::string other = std::string(changed[1].sql) + "-- one more word";
    changed[1].sql = other;
    const auto report = migrate(*connect(), changed);
    ASSERT_TRUE(report.has_error());
    EXPECT_EQ(report.error().code, Errc::conflict);
    EXPECT_NE(report.error().detail.find(std::string(changed[1].name)), std::string::npos);
    // Likewise when the database is what differs, and for a whole store.
    sql("UPDATE schema_migrations SET checksum = 'another' WHERE version = 1");
    EXPECT_EQ(migrate(*connect()).error().code, Errc::conflict);
    EXPECT_EQ(check_schema(*connect()).error().code, Errc::conflict);
    for (const bool migrates : {true, false})
        EXPECT_EQ(open(migrates).error().code, Errc::conflict);
}

TEST_F(MigrationsTest, ANewerDatabaseIsLeftAsItIs) {
    ASSERT_TRUE(migrate(*connect()).has_value());
    sql("INSERT INTO schema_migrations (version, name, checksum) VALUES (9999, 'later.sql', 'x')");
    const auto report = migrate(*connect());
    ASSERT_TRUE(report.has_value()) << report.error().detail;
    EXPECT_TRUE(report.value().applied.empty());
    EXPECT_EQ(report.value().version, 9999);
    EXPECT_TRUE(check_schema(*connect()).has_value());
    EXPECT_TRUE(open(true).has_value());
}

TEST_F(MigrationsTest, ADatabaseForNewerRuntimesIsAConflict) {
    ASSERT_TRUE(migrate(*connect()).has_value());
    sql("UPDATE schema_compatibility SET oldest_runtime = " + std::to_string(kRuntimeGeneration + 1)
    );
    const auto report = migrate(*connect());
    ASSERT_TRUE(report.has_error());
    EXPECT_EQ(report.error().code, Errc::conflict);
    EXPECT_NE(report.error().detail.find("install a newer version"), std::string::npos);
    EXPECT_EQ(check_schema(*connect()).error().code, Errc::conflict);
    for (const bool migrates : {true, false})
        EXPECT_EQ(open(migrates).error().code, Errc::conflict);
}

}  // namespace
}  // namespace annal::postgres
