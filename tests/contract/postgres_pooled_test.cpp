// The contract through PgBouncer in transaction mode, as far as it appends and keeps state, and
// what passed through the pool meanwhile.
#include <gmock/gmock.h>

#include <regex>
#include <sstream>
#include <thread>

#include "runtime/store/postgres/postgres_store.h"
#include "tests/contract/store_contract.h"
#include "tests/support/pgbouncer.h"
#include "tests/support/postgres_cluster.h"

namespace annal::test {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

constexpr TimeUs kMarch = 1'773'500'000'000'000;  // 2026-03-14
constexpr std::chrono::seconds kDeadline{60};

/// A cluster that logs every statement with the name of its application: "annal" is the store's
/// own, so it came through the pool; connections of the direct URL call themselves "direct".
PostgresCluster& cluster() {
    static PostgresCluster made(PostgresOptions{
        {"log_statement = all", "log_parameter_max_length = 0", "max_connections = 100"}, false});
    return made;
}

PgBouncer& pool() {
    static PgBouncer made(cluster());
    return made;
}

struct Database {
    std::string name, direct_url;
    Database() : direct_url(cluster().create_database()) {
        const auto begin = direct_url.find("///") + 3;
        name = direct_url.substr(begin, direct_url.find('?') - begin);
    }
    [[nodiscard]] annal::PostgresOptions options(const PgBouncer& through) const {
        annal::PostgresOptions made;
        made.url = through.url(name);
        made.direct_url = direct_url + "&application_name=direct";
        return made;
    }
};

class PooledHarness final : public StoreHarness {
public:
    ~PooledHarness() override {
        cluster().sql("postgres", "DROP DATABASE " + database_.name + " WITH (FORCE)");
    }
    Result<std::unique_ptr<EventStore>> open(
        const Clock& clock, Metrics& metrics, std::uint32_t /*segment_events*/
    ) override {
        auto options = database_.options(pool());
        options.stamps = &clock;
        auto store = open_postgres_store(options, metrics);
        store_ = store ? store.value().get() : nullptr;
        return store;
    }
    void settle() override { EXPECT_TRUE(postgres::settle(*store_, std::chrono::seconds(120))); }
    void fail_writes(bool fail) override {
        cluster().sql(
            "postgres",
            "ALTER DATABASE " + database_.name +
                " SET default_transaction_read_only = " + (fail ? "on" : "off") +
                "; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" +
                database_.name + "'"
        );
    }

private:
    const Database database_;
    EventStore* store_ = nullptr;
};

/// First lines of what this application has said to the server.
std::vector<std::string> statements_of(const std::string& application) {
    std::istringstream log(cluster().log());
    const std::regex said(" " + application + "@\\S+ LOG:  (statement|execute [^:]*): ?(.*)");
    std::vector<std::string> found;
    for (std::string line; std::getline(log, line);) {
        std::smatch match;
        if (std::regex_search(line, match, said))
            found.push_back(match[1].str() + ": " + match[2].str());
    }
    return found;
}

/// After all tests: whatever the contract made the store do, nothing of it needed a session.
class WhatPassedThroughThePool : public testing::Environment {
public:
    void TearDown() override {
        const auto pooled = statements_of("annal"), direct = statements_of("direct");
        ASSERT_THAT(pooled, Contains(HasSubstr("INSERT INTO event_batches")));
        for (const std::string& said : pooled) {
            EXPECT_FALSE(said.starts_with("execute ") && !said.starts_with("execute <unnamed>"))
                << "a prepared statement: " << said;
            EXPECT_FALSE(std::regex_search(said, kOfASession)) << said;
            EXPECT_FALSE(std::regex_search(said, kSetsForTheSession)) << said;
            EXPECT_EQ(said.find("schema_migrations"), std::string::npos) << said;
        }
        EXPECT_THAT(direct, Contains(HasSubstr("schema_migrations")));
    }

private:
    static inline const std::regex kOfASession{
        "\\b(LISTEN|UNLISTEN|PREPARE|DEALLOCATE|DISCARD|TEMP|TEMPORARY)\\b|pg_advisory_lock|"
        "pg_try_advisory_lock|pg_advisory_unlock|WITH HOLD"};
    // The name of the application PgBouncer sets itself, for the client whose turn it is.
    static inline const std::regex kSetsForTheSession{
        "(^|[;:])\\s*SET (?!LOCAL\\b|application_name=)|set_config\\([^)]*false\\)",
        std::regex::icase};
};
[[maybe_unused]] const auto* const kEnvironment =
    testing::AddGlobalTestEnvironment(new WhatPassedThroughThePool);

INSTANTIATE_TEST_SUITE_P(
    PostgresPooled,
    StoreContract,
    testing::Values(StoreKind{"Transactions", [] { return std::make_unique<PooledHarness>(); }}),
    kind_name
);

/// A store with a pool of its own before it.
class PostgresPooled : public testing::Test {
protected:
    void open(const PgBouncer& through) {
        auto options = database_.options(through);
        options.stamps = &clock_;
        auto opened = open_postgres_store(options, metrics_);
        ASSERT_TRUE(opened.has_value()) << opened.error().detail;
        store_ = std::move(opened.value());
    }
    void TearDown() override {
        if (store_) store_->close();
        threads_.drain();
        store_.reset();
    }
    AppendOutcome append(const Unit& unit) {
        std::vector<AppendUnit> units{unit.build()};
        return std::move(threads_.run(store_->append(units)).front());
    }
    Result<ScanPage> scan() {
        ScanRequest request;
        request.project = "p";
        return threads_.run(store_->scan(std::move(request)));
    }

    const Database database_;
    ManualClock clock_{kMarch};
    Metrics metrics_;
    IoThreads threads_;
    std::unique_ptr<EventStore> store_;
};

// Ten connections of the store share one session, and psql comes last.
TEST_F(PostgresPooled, NothingIsLeftInTheSession) {
    const PgBouncer one(cluster(), {"default_pool_size = 1"});
    open(one);
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(append(Unit("p").action("a.one").put("plugin.x", "k", "v")).has_value());
        ASSERT_TRUE(scan().has_value());
        ASSERT_TRUE(threads_.run(store_->count("p", {}, kDeadline)).has_value());
        const LeaseRequest lease{"p", "stream", "node", std::chrono::seconds(60)};
        ASSERT_TRUE(threads_.run(store_->lease(lease)).has_value());
    }
    // What PgBouncer itself sets for each client is left out.
    EXPECT_EQ(
        cluster().sql(
            one.url(database_.name),
            "SELECT name FROM pg_settings WHERE source = 'session' AND name NOT IN "
            "('application_name', 'client_encoding', 'DateStyle', 'TimeZone', "
            "'standard_conforming_strings');"
            "SELECT name FROM pg_prepared_statements;"
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid();"
            "SELECT pg_listening_channels()"
        ),
        ""
    );
    // It was the store's session, indeed.
    EXPECT_EQ(
        cluster().sql(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '" + database_.name +
                "' AND application_name <> 'direct'"
        ),
        "1"
    );
}

TEST_F(PostgresPooled, WakeUpsListenOnTheDirectConnection) {
    open(pool());
    store_->on_foreign_append([](const auto&) {});
    const std::string listening =
        "SELECT application_name FROM pg_stat_activity WHERE datname = '" + database_.name +
        "' AND query ILIKE 'LISTEN%'";
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    std::string found;
    while (found.empty() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        found = cluster().sql("postgres", listening);
    }
    EXPECT_EQ(found, "direct");
}

TEST_F(PostgresPooled, ComesBackWithThePooler) {
    PgBouncer own(cluster());
    open(own);
    ASSERT_TRUE(append(Unit("p").action("a.before")).has_value());
    own.stop();
    const auto refused = append(Unit("p").action("a.meanwhile"));
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    own.start();
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    auto after = append(Unit("p").action("a.after"));
    while (!after.has_value() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        after = append(Unit("p").action("a.after"));
    }
    ASSERT_TRUE(after.has_value()) << after.error().detail;
    const auto page = scan();
    ASSERT_TRUE(page.has_value()) << page.error().detail;
    ASSERT_EQ(page.value().batch.events.size(), 2U);
    EXPECT_EQ(page.value().batch.events[0][Column::action].view(), "a.after");
    EXPECT_EQ(page.value().batch.events[1][Column::action].view(), "a.before");
}

}  // namespace
}  // namespace annal::test
