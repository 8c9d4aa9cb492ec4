// Months of a PostgreSQL database come and go under load.
#include "runtime/store/postgres/partitions.h"
#include "tests/contract/postgres_nodes.h"
#include "tests/support/postgres_cluster.h"

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

}  // namespace
}  // namespace annal::test
