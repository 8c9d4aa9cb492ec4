// The contract over PostgreSQL, in a database of a cluster of this program's own.
#include "runtime/store/postgres/postgres_store.h"
#include "tests/contract/store_contract.h"
#include "tests/support/postgres_cluster.h"

namespace annal::test {
namespace {

class PostgresHarness final : public StoreHarness {
public:
    ~PostgresHarness() override { shared_cluster().sql("postgres", drop_statement()); }

    Result<std::unique_ptr<EventStore>> open(
        const Clock& clock, Metrics& metrics, std::uint32_t segment_events
    ) override {
        annal::PostgresOptions options;
        options.url = url_;
        options.stamps = &clock;
        options.rollup_seqs = segment_events;
        auto store = open_postgres_store(options, metrics);
        store_ = store ? store.value().get() : nullptr;
        return store;
    }

    // Months that are over are sealed.
    void settle() override { EXPECT_TRUE(postgres::settle(*store_, std::chrono::seconds(120))); }

    // As a database that has become a standby. Sessions that are at work take it up with their next
    // transaction.
    void fail_writes(bool fail) override {
        shared_cluster().sql(
            "postgres",
            "ALTER DATABASE " + name() +
                " SET default_transaction_read_only = " + (fail ? "on" : "off") +
                "; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" +
                name() + "'"
        );
    }

private:
    [[nodiscard]] std::string name() const {
        const auto begin = url_.find("///") + 3;
        return url_.substr(begin, url_.find('?') - begin);
    }
    [[nodiscard]] std::string drop_statement() const {
        return "DROP DATABASE " + name() + " WITH (FORCE)";
    }

    const std::string url_ = shared_cluster().create_database();
    EventStore* store_ = nullptr;
};

}  // namespace

std::vector<StoreKind> store_kinds() {
    return {StoreKind{"Default", [] { return std::make_unique<PostgresHarness>(); }}};
}

namespace {

INSTANTIATE_TEST_SUITE_P(Postgres, StoreContract, testing::ValuesIn(store_kinds()), kind_name);

// Each project of a commit is a lock, and the server has room for so many.
TEST(PostgresLocks, ACommitOfMoreProjectsThanTheServerHasLocksForIsSplit) {
    PostgresCluster cluster({{"max_locks_per_transaction = 10", "max_connections = 20"}, false});
    ManualClock clock(1'773'500'000'000'000);
    Metrics metrics;
    IoThreads threads;
    annal::PostgresOptions options;
    options.url = cluster.create_database();
    options.stamps = &clock;
    auto opened = open_postgres_store(options, metrics);
    ASSERT_TRUE(opened.has_value()) << opened.error().detail;
    std::vector<AppendUnit> units;
    for (int i = 0; i < 4'000; ++i)
        units.push_back(Unit("p" + std::to_string(i)).action("a.one").build());
    const auto outcomes = threads.run(opened.value()->append(units));
    EXPECT_EQ(outcomes.size(), units.size());
    for (const AppendOutcome& outcome : outcomes)
        ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
    EXPECT_EQ(cluster.sql(options.url, "SELECT count(*) FROM audit_events"), "4000");
    EXPECT_GT(
        std::stoi(cluster.sql(options.url, "SELECT count(DISTINCT xmin::text) FROM audit_events")),
        1
    );
    opened.value()->close();
    threads.drain();
}

}  // namespace
}  // namespace annal::test
