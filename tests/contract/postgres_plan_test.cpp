// How PostgreSQL answers: what the server itself logs of the plans of the store's statements.
#include <gmock/gmock.h>

#include <chrono>
#include <regex>
#include <sstream>

#include "runtime/core/limits.h"
#include "runtime/store/postgres/postgres_store.h"
#include "tests/contract/store_contract.h"
#include "tests/support/postgres_cluster.h"

namespace annal::test {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr TimeUs kFebruary = 1'770'000'000'000'000;  // 2026-02-02
constexpr TimeUs kMarch = 1'773'500'000'000'000;     // 2026-03-14
constexpr int kEvents = 12'000;                      // of each month
constexpr std::chrono::milliseconds kBudget{20'000};

/// What the server did for one call of the store.
struct Plans {
    std::vector<std::string> scans;  ///< "Index Scan using … on audit_events_2026_03 t"
    std::int64_t buffers = 0;        ///< pages that all statements looked at

    [[nodiscard]] std::vector<std::string> of(const std::string& table) const {
        std::vector<std::string> found;
        for (const std::string& scan : scans)
            if (scan.find(table) != std::string::npos) found.push_back(scan);
        return found;
    }
};

/// A project with a sealed month and an open one, in a cluster that logs every plan.
class PostgresPlans : public testing::Test {
protected:
    static void SetUpTestSuite() {
        cluster_ = std::make_unique<PostgresCluster>(PostgresOptions{
            {"shared_preload_libraries = 'auto_explain'",
             "auto_explain.log_min_duration = -1",
             "auto_explain.log_analyze = on",
             "auto_explain.log_buffers = on",
             "auto_explain.log_timing = off"},
            false});
        clock_ = std::make_unique<ManualClock>(kFebruary);
        metrics_ = std::make_unique<Metrics>();
        threads_ = std::make_unique<IoThreads>();
        annal::PostgresOptions options;
        url_ = cluster_->create_database();
        options.url = url_;
        options.stamps = clock_.get();
        // One reader, so that a call's statements stand together in the log.
        options.read_connections = 1;
        auto opened = open_postgres_store(options, *metrics_);
        ASSERT_TRUE(opened.has_value()) << opened.error().detail;
        store_ = std::move(opened.value());
        fill("p", kFebruary, 0);
        fill("q", kFebruary + 3'600 * kSecondUs, 0);
        clock_->step_to(kMarch);
        fill("p", kMarch, kEvents);
        ASSERT_TRUE(postgres::settle(*store_, std::chrono::seconds(120)));
        ASSERT_EQ(
            cluster_->sql(url_, "SELECT string_agg(state, ',' ORDER BY month) FROM event_months"),
            "sealed,open"
        );
        cluster_->sql(url_, "VACUUM ANALYZE");
        cluster_->reload_with({"auto_explain.log_min_duration = 0"});
    }
    static void TearDownTestSuite() {
        if (store_) store_->close();
        threads_->drain();
        store_.reset();
        threads_.reset();
        cluster_.reset();
    }

    /// Users and actions follow from the seq: every 3 000th is "rare", every 2nd is auth.login.
    static void fill(const std::string& project, TimeUs at, int first) {
        for (int begin = 0; begin < kEvents; begin += 2'000) {
            clock_->step_to(at + begin * kSecondUs);
            Unit unit(project);
            for (int i = first + begin; i < first + begin + 2'000; ++i) {
                const std::string n = std::to_string(i % 50);
                const std::string rare = i % 3'000 == 7 ? "rare" : "user" + n;
                const std::string action = i % 2 == 0 ? "auth.login" : "billing.paid_" + n;
                const std::string text = i % 3'000 == 7 ? "a needle in it" : "nothing";
                unit.event(
                    {{Column::action, Text(action)},
                     {Column::user_id, Text(rare)},
                     {Column::actor_id, Text(rare)},
                     {Column::organization_id, Text(rare)},
                     {Column::target_id, Text(rare)},
                     {Column::external_id, Text(rare)},
                     {Column::actor_type, Text(rare)},
                     {Column::actor_email, Text(rare)},
                     {Column::auth_type, Text(rare)},
                     {Column::client_id, Text(rare)},
                     {Column::issuer_id, Text(rare)},
                     {Column::agent_id, Text(rare)},
                     {Column::target_type, Text(rare)},
                     {Column::ip, Text(rare)},
                     {Column::description, Text(text)}}
                );
            }
            std::vector<AppendUnit> units{unit.build()};
            auto outcomes = threads_->run(store_->append(units));
            ASSERT_TRUE(outcomes[0].has_value()) << outcomes[0].error().detail;
        }
    }

    static Plans plans_since(std::size_t mark) {
        static const std::regex scan(
            "((?:Index|Index Only|Bitmap Heap|Bitmap Index|Seq) Scan[^(]*)\\("
        );
        static const std::regex buffers("Buffers: shared hit=(\\d+)");
        Plans plans;
        std::istringstream log(cluster_->log().substr(mark));
        bool top = false;
        for (std::string line; std::getline(log, line);) {
            std::smatch match;
            // The first line of buffers after a statement's beginning is that of its root.
            if (line.find("plan:") != std::string::npos) top = true;
            if (std::regex_search(line, match, scan)) plans.scans.push_back(match[1]);
            if (top && std::regex_search(line, match, buffers)) {
                plans.buffers += std::stoll(match[1]);
                top = false;
            }
        }
        return plans;
    }

    static std::size_t mark() { return cluster_->log().size(); }

    static ScanRequest request(const Filter& filter) {
        ScanRequest made;
        made.project = "p";
        made.filter = filter;
        made.budget = kBudget;
        return made;
    }

    static ScanPage scan(const ScanRequest& request) {
        auto page = threads_->run(store_->scan(request));
        EXPECT_TRUE(page.has_value()) << page.error().detail;
        return page.has_value() ? std::move(page.value()) : ScanPage{};
    }

    static Plans plans_of(const ScanRequest& request) {
        const std::size_t before = mark();
        (void)scan(request);
        return plans_since(before);
    }

    /// For one rare value of each column that can be asked for.
    static std::vector<std::pair<Column, Filter>> filters_of_each_column() {
        std::vector<std::pair<Column, Filter>> filters;
        for (std::size_t c = 0; c < kColumns; ++c) {
            const auto column = static_cast<Column>(c);
            if (column == Column::metadata || column == Column::user_agent ||
                column == Column::description)
                continue;
            Filter filter;
            filter.equals[c] = column == Column::action ? "billing.paid_7" : "rare";
            filters.emplace_back(column, filter);
        }
        return filters;
    }

    /// Of pages beyond the open month.
    static ScanRequest in_sealed(Filter filter) {
        ScanRequest made = request(filter);
        made.after = kEvents;
        return made;
    }

    static inline std::unique_ptr<PostgresCluster> cluster_;
    static inline std::unique_ptr<ManualClock> clock_;
    static inline std::unique_ptr<Metrics> metrics_;
    static inline std::unique_ptr<IoThreads> threads_;
    static inline std::unique_ptr<EventStore> store_;
    static inline std::string url_;
};

const std::string kSealed = "audit_events_2026_02", kOpen = "audit_events_2026_03";

TEST_F(PostgresPlans, NoMonthIsReadFromEndToEnd) {
    for (const auto& [column, filter] : filters_of_each_column()) {
        for (const ScanRequest& asked : {request(filter), in_sealed(filter)}) {
            const Plans plans = plans_of(asked);
            EXPECT_THAT(plans.scans, Not(IsEmpty())) << name(column);
            EXPECT_THAT(plans.scans, Each(Not(HasSubstr("Seq Scan on audit_events"))))
                << name(column);
        }
    }
}

TEST_F(PostgresPlans, EveryColumnOfASealedMonthHasItsIndex) {
    for (const auto& [column, filter] : filters_of_each_column()) {
        const Plans plans = plans_of(in_sealed(filter));
        const auto scans = plans.of(kSealed);
        EXPECT_THAT(scans, Contains(HasSubstr("_" + std::string(name(column)))))
            << name(column) << testing::PrintToString(scans);
        // A page, not the month: that is kEvents rows.
        EXPECT_LT(plans.buffers, 300) << name(column);
    }
}

TEST_F(PostgresPlans, MonthsThatAreNotAskedForAreNotLookedAt) {
    EXPECT_THAT(plans_of(request({})).of(kSealed), IsEmpty());
    EXPECT_THAT(plans_of(in_sealed({})).of(kOpen), IsEmpty());
    Filter february;
    february.from = kFebruary + 500 * kSecondUs;
    february.before = kFebruary + 6'000 * kSecondUs;
    const Plans plans = plans_of(request(february));
    EXPECT_THAT(plans.of(kOpen), IsEmpty());
    EXPECT_THAT(plans.of(kSealed), Not(IsEmpty()));
}

TEST_F(PostgresPlans, ADeepPageCostsWhatTheFirstDoes) {
    for (const std::string& user : {std::string(), std::string("user7")}) {
        Filter filter;
        if (!user.empty()) filter.equals[static_cast<std::size_t>(Column::user_id)] = user;
        const std::int64_t newest = plans_of(request(filter)).buffers;
        ScanRequest deep = request(filter);
        deep.after = kEvents + 300;
        const std::int64_t last = plans_of(deep).buffers;
        EXPECT_LE(last, newest * 2 + 20) << user;
        EXPECT_GT(newest, 0);
    }
}

TEST_F(PostgresPlans, RareActionsOfANamespaceAreFoundByTheIndex) {
    Filter filter;
    filter.actions = {{ActionPattern::Kind::prefix, "billing."}};
    filter.occurred_before = 0;  // none: the walk goes through all of them
    const ScanPage page = scan(request(filter));
    EXPECT_THAT(page.batch.events, IsEmpty());
    EXPECT_THAT(
        plans_of(request(filter)).scans, Contains(AllOf(HasSubstr("action"), HasSubstr(kOpen)))
    );
}

// Each of them may have to give as many rows as the whole.
TEST_F(PostgresPlans, ManyActionsAreReadInSmallerPieces) {
    Filter filter;
    filter.actions = {{ActionPattern::Kind::prefix, "billing."}};
    filter.occurred_before = 0;
    const std::size_t before = mark();
    (void)scan(request(filter));
    const std::string log = cluster_->log().substr(before);
    static const std::regex limit("LIMIT (\\d+)\\) t ");
    int found = 0;
    for (std::sregex_iterator at(log.begin(), log.end(), limit), end; at != end; ++at, ++found)
        EXPECT_LE(std::stoi((*at)[1]) * 25, static_cast<int>(kScanWindowSeqs));
    EXPECT_GE(found, 3) << "too few pieces to tell";
}

TEST_F(PostgresPlans, TextOfASealedMonthIsFoundByTrigrams) {
    Filter filter;
    filter.text = "A Needle";
    EXPECT_EQ(scan(in_sealed(filter)).batch.events.size(), 4U);
    const Plans plans = plans_of(in_sealed(filter));
    EXPECT_THAT(plans.of(kSealed), Contains(HasSubstr(kSealed + "_search")));
    // Too short for a trigram: the log itself, in pieces.
    filter.text = "zz";
    const auto scans = plans_of(in_sealed(filter)).of(kSealed);
    EXPECT_THAT(scans, Each(Not(HasSubstr("_search"))));
    EXPECT_THAT(scans, Each(Not(HasSubstr("Seq Scan"))));
}

TEST_F(PostgresPlans, CountsOfSealedMonthsAreRemembered) {
    Filter filter;
    filter.equals[static_cast<std::size_t>(Column::user_id)] = "rare";
    const auto count = [&] { return threads_->run(store_->count("p", filter, kBudget)).value(); };
    EXPECT_EQ(count().count, 8);
    std::size_t before = mark();
    EXPECT_EQ(count().count, 8);
    EXPECT_THAT(plans_since(before).of(kSealed), IsEmpty());
    // An erasure makes what is remembered worthless.
    std::vector<AppendUnit> units{Unit("p").erase(7).build()};
    ASSERT_TRUE(threads_->run(store_->append(units))[0].has_value());
    before = mark();
    EXPECT_EQ(count().count, 7);
    EXPECT_THAT(plans_since(before).of(kSealed), Not(IsEmpty()));
}

TEST_F(PostgresPlans, AnErasureCostsOtherProjectsNoCounts) {
    Filter filter;
    filter.equals[static_cast<std::size_t>(Column::user_id)] = "user7";
    const auto count = [&] { return threads_->run(store_->count("p", filter, kBudget)).value(); };
    const std::int64_t all = count().count;
    std::vector<AppendUnit> units{Unit("q").erase(7).build()};
    ASSERT_TRUE(threads_->run(store_->append(units))[0].has_value());
    const std::size_t before = mark();
    EXPECT_EQ(count().count, all);
    EXPECT_THAT(plans_since(before).of(kSealed), IsEmpty());
}

TEST_F(PostgresPlans, ActionsAreCountedInTheirIndex) {
    const std::size_t before = mark();
    const auto counts = threads_->run(store_->action_counts("p", kFebruary)).value();
    EXPECT_GT(counts.size(), 20U);
    const Plans plans = plans_since(before);
    EXPECT_THAT(plans.of(kSealed), Contains(AllOf(HasSubstr("Index Only"), HasSubstr("action"))));
    EXPECT_THAT(plans.scans, Each(Not(HasSubstr("Seq Scan on audit_events"))));
}

TEST_F(PostgresPlans, TheHeadOfALongLogIsFoundAtItsEnd) {
    for (int i = 0; i < 300; ++i) {
        std::vector<AppendUnit> units{Unit("long").event({{Column::action, Text("a.b")}}).build()};
        ASSERT_TRUE(threads_->run(store_->append(units))[0].has_value());
    }
    const std::size_t before = mark();
    std::vector<AppendUnit> units{Unit("long").event({{Column::action, Text("a.b")}}).build()};
    ASSERT_TRUE(threads_->run(store_->append(units))[0].has_value());
    const std::string log = cluster_->log().substr(before);
    EXPECT_THAT(log, HasSubstr("Index Only Scan Backward using event_batches_pkey"));
    EXPECT_THAT(log, Not(HasSubstr("Seq Scan on event_batches")));
}

TEST_F(PostgresPlans, AnEventIsFoundByItsId) {
    const EventId id = scan(in_sealed({})).batch.events.at(20).id;
    const std::size_t before = mark();
    ASSERT_TRUE(threads_->run(store_->get("p", id)).has_value());
    const Plans plans = plans_since(before);
    EXPECT_THAT(plans.of(kOpen), IsEmpty());
    EXPECT_THAT(plans.of(kSealed), Each(HasSubstr("Index")));
}

}  // namespace
}  // namespace annal::test
