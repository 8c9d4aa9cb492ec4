// What lets the database be distributed by project: its keys, and that the statements which serve
// projects stay within the projects they name. What a distributed engine makes of it is in
// docs/scaling.md.
#include <gmock/gmock.h>

#include <algorithm>
#include <boost/json.hpp>
#include <chrono>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "runtime/store/postgres/postgres_store.h"
#include "tests/contract/store_contract.h"
#include "tests/support/postgres_cluster.h"

namespace annal::test {
namespace {

namespace json = boost::json;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

constexpr TimeUs kJanuary = 1'767'500'000'000'000;   // 2026-01-04
constexpr TimeUs kFebruary = 1'770'000'000'000'000;  // 2026-02-02
constexpr TimeUs kMarch = 1'773'500'000'000'000;     // 2026-03-14
constexpr std::chrono::milliseconds kBudget{20'000};

/// "audit_events" for the table and for each of its months.
std::string table_of(const std::string& relation) {
    static const std::regex month("_\\d{4}_\\d{2}$");
    return std::regex_replace(relation, month, "");
}

std::string member(const json::object& node, const char* name) {
    const auto* found = node.if_contains(name);
    return found != nullptr && found->is_string() ? std::string(found->get_string()) : "";
}

/// One statement as the server planned it.
class Plan {
public:
    explicit Plan(const json::object& logged) : text_(member(logged, "Query Text")) {
        const auto& root = logged.at("Plan").get_object();
        name_ = member(root, "Operation") + " " + member(root, "Relation Name");
        walk(root);
        follow_joins();
    }
    [[nodiscard]] const std::string& text() const { return text_; }
    /// "Delete kv"; a blank for what only reads.
    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const std::set<std::string>& tables() const { return tables_; }
    /// Tables of which rows are read though no value and no list says of which projects.
    [[nodiscard]] std::set<std::string> unbounded() const {
        std::set<std::string> found;
        for (const auto& [alias, table] : scans_)
            if (!bounded_.contains(alias)) found.insert(table);
        return found;
    }

private:
    /// Partitions have the alias of their table and a number.
    static std::string alias_of(const json::object& node) {
        static const std::regex number("_\\d+$");
        return std::regex_replace(member(node, "Alias"), number, "");
    }

    void walk(const json::object& node) {
        const std::string relation = member(node, "Relation Name"), alias = alias_of(node);
        const std::string type = member(node, "Node Type");
        if (!relation.empty()) tables_.insert(table_of(relation));
        // What is inserted says its project: the column takes no null.
        if (!relation.empty() && type != "ModifyTable") scans_.emplace(alias, table_of(relation));
        // The heap's scan above checks the same again, and has the alias.
        if (type == "Bitmap Index Scan") return;
        for (const char* name :
             {"Index Cond", "Recheck Cond", "Filter", "Hash Cond", "Merge Cond", "Join Filter"})
            read(member(node, name), alias);
        if (const auto* children = node.if_contains("Plans"))
            for (const auto& child : children->get_array()) walk(child.get_object());
    }

    /// Notes each "project_id = …" of a condition as it is shown.
    /// @param own  alias of the columns that have none
    void read(const std::string& shown, const std::string& own) {
        static const std::regex cast("\\((\\w+\\.project_id)\\)::text");
        const std::string condition = std::regex_replace(shown, cast, "$1");
        static const std::regex equality(
            "(?:(\\w+)\\.)?project_id = (?:ANY \\()?(?:(\\w+)\\.(\\w+)|(.))"
        );
        const auto end = std::sregex_iterator();
        for (auto at = std::sregex_iterator(condition.begin(), condition.end(), equality);
             at != end;
             ++at) {
            const std::string left = (*at)[1].matched ? (*at)[1].str() : own;
            if ((*at)[2].matched) {
                joins_.emplace_back(left, (*at)[2].str());
            } else {
                bounded_.insert(left);
            }
        }
    }

    /// What is joined with a list, or with rows of known projects, is known too.
    void follow_joins() {
        for (const auto& [left, right] : joins_)
            for (const std::string& side : {left, right})
                if (!scans_.contains(side)) bounded_.insert(side);
        for (std::size_t before = 0; before != bounded_.size();) {
            before = bounded_.size();
            for (const auto& [left, right] : joins_) {
                if (bounded_.contains(left)) bounded_.insert(right);
                if (bounded_.contains(right)) bounded_.insert(left);
            }
        }
    }

    std::string text_, name_;
    std::set<std::string> tables_, bounded_;         // bounded_: aliases
    std::multimap<std::string, std::string> scans_;  // alias, table
    std::vector<std::pair<std::string, std::string>> joins_;
};

/// The plans in a log of auto_explain in JSON: the lines of a message after the first have a tab
/// before them.
std::vector<Plan> plans_in(const std::string& log) {
    std::vector<Plan> plans;
    std::istringstream lines(log);
    std::string text;
    bool inside = false;
    const auto end = [&] {
        if (inside && !text.empty()) plans.emplace_back(json::parse(text).get_object());
        text.clear();
    };
    for (std::string line; std::getline(lines, line);) {
        if (inside && line.starts_with('\t')) {
            text += line.substr(1) + "\n";
            continue;
        }
        end();
        inside = line.ends_with("plan:");
    }
    end();
    return plans;
}

/// Two sealed months and an open one, of several projects, in a cluster that logs every plan.
class PostgresDistribution : public testing::Test {
protected:
    static void SetUpTestSuite() {
        cluster_ = std::make_unique<PostgresCluster>(PostgresOptions{
            {"shared_preload_libraries = 'auto_explain'",
             "auto_explain.log_min_duration = -1",
             "auto_explain.log_format = json"},
            false});
        clock_ = std::make_unique<ManualClock>(kJanuary);
        metrics_ = std::make_unique<Metrics>();
        threads_ = std::make_unique<IoThreads>();
        url_ = cluster_->create_database();
        annal::PostgresOptions options;
        options.url = url_;
        options.stamps = clock_.get();
        auto opened = open_postgres_store(options, *metrics_);
        ASSERT_TRUE(opened.has_value()) << opened.error().detail;
        store_ = std::move(opened.value());
        for (const TimeUs at : {kJanuary, kFebruary, kMarch}) {
            clock_->step_to(at);
            append({Unit("p").action("a.one"), Unit("q").action("a.one")});
        }
        ASSERT_TRUE(postgres::settle(*store_, std::chrono::seconds(120)));
        const auto reference = cluster_->sql(url_, kWithoutProject);
        std::istringstream names(reference);
        for (std::string name; std::getline(names, name);) without_project_.insert(name);
        cluster_->reload_with({"auto_explain.log_min_duration = 0"});
    }
    static void TearDownTestSuite() {
        if (store_) store_->close();
        threads_->drain();
        store_.reset();
        threads_.reset();
        cluster_.reset();
    }

    static std::vector<AppendOutcome> append(const std::vector<Unit>& units) {
        std::vector<AppendUnit> built;
        for (const Unit& unit : units) built.push_back(unit.build());
        auto outcomes = threads_->run(store_->append(built));
        for (const auto& outcome : outcomes)
            EXPECT_TRUE(outcome.has_value()) << outcome.error().detail;
        return outcomes;
    }

    static ScanPage scan(const std::string& project, const Filter& filter) {
        ScanRequest request;
        request.project = project;
        request.filter = filter;
        request.budget = kBudget;
        auto page = threads_->run(store_->scan(request));
        EXPECT_TRUE(page.has_value()) << page.error().detail;
        return page.has_value() ? std::move(page.value()) : ScanPage{};
    }

    static std::string sql(const std::string& statement) { return cluster_->sql(url_, statement); }
    static std::size_t mark() { return cluster_->log().size(); }
    static std::vector<Plan> plans_since(std::size_t mark) {
        return plans_in(cluster_->log().substr(mark));
    }
    /// Distributed tables of which a plan reads rows of projects that it does not name.
    static std::set<std::string> unbounded(const Plan& plan) {
        std::set<std::string> found;
        for (const std::string& table : plan.unbounded())
            if (!without_project_.contains(table) && is_ours(table)) found.insert(table);
        return found;
    }
    static bool is_ours(const std::string& table) { return !table.starts_with("pg_"); }

    static constexpr const char* kWithoutProject =
        "SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind IN "
        "('r', 'p') AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND "
        "attname = 'project_id') ORDER BY relname";
    static inline std::unique_ptr<PostgresCluster> cluster_;
    static inline std::unique_ptr<ManualClock> clock_;
    static inline std::unique_ptr<Metrics> metrics_;
    static inline std::unique_ptr<IoThreads> threads_;
    static inline std::unique_ptr<EventStore> store_;
    static inline std::set<std::string> without_project_;
    static inline std::string url_;
};

// --- The tables

/// What the planner of a distributed database refuses wherever a statement is about more than one
/// project, however few rows it concerns: limits within what refers to an outer query, and rows
/// that are skipped because they are locked. And ctid, which means something in one table only.
void expect_handed_down(const std::string& text) {
    EXPECT_EQ(text.find("ctid"), std::string::npos) << text;
    EXPECT_EQ(text.find("SKIP LOCKED"), std::string::npos) << text;
    if (text.find("project_id = $1::text") != std::string::npos) return;  // of one project
    static const std::regex own(
        "\\(SELECT (month|state) FROM event_months ORDER BY month DESC LIMIT 1\\)|"
        "LIMIT 10000\\) a WHERE d\\."
    );
    const std::string rest = std::regex_replace(text, own, "");
    if (rest.find("project_id = '") != std::string::npos) return;
    const auto limit = rest.find("LIMIT");
    const std::string before = rest.substr(0, limit);
    const auto open = std::count(before.begin(), before.end(), '(');
    const bool within = std::count(before.begin(), before.end(), ')') < open;
    EXPECT_FALSE(limit != std::string::npos && within) << text;
}

TEST_F(PostgresDistribution, FewTablesAreOfNoProject) {
    EXPECT_THAT(
        without_project_,
        UnorderedElementsAre("event_months", "schema_compatibility", "schema_migrations")
    );
}

// Tables are colocated by the type of this column; a null would belong nowhere.
TEST_F(PostgresDistribution, TheProjectIsTheSameColumnEverywhere) {
    EXPECT_EQ(
        sql("SELECT DISTINCT atttypid::regtype, collname, attnotnull FROM pg_attribute a JOIN "
            "pg_class c ON c.oid = a.attrelid JOIN pg_collation l ON l.oid = a.attcollation "
            "WHERE attname = 'project_id' AND relkind IN ('r', 'p')"),
        "text|C|t"
    );
}

TEST_F(PostgresDistribution, EveryTableHasAPrimaryKey) {
    EXPECT_EQ(
        sql("SELECT relname FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND "
            "relkind IN ('r', 'p') AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid "
            "AND indisprimary)"),
        ""
    );
}

TEST_F(PostgresDistribution, TheProjectLeadsEveryUniqueKey) {
    EXPECT_EQ(
        sql("SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_attribute p ON p.attrelid = "
            "i.indrelid AND p.attname = 'project_id' WHERE indisunique AND i.indkey[0] <> p.attnum "
            "AND i.indrelid::regclass::text !~ '^pg_'"),
        ""
    );
    // Not an empty question.
    EXPECT_GT(
        std::stoi(sql("SELECT count(*) FROM pg_index i JOIN pg_attribute p ON p.attrelid = "
                      "i.indrelid AND p.attname = 'project_id' WHERE indisunique")),
        8
    );
}

TEST_F(PostgresDistribution, PartitionedTablesHaveOneLevelAndTheirColumnInEveryKey) {
    EXPECT_EQ(
        sql("SELECT partrelid::regclass FROM pg_partitioned_table ORDER BY "
            "partrelid::regclass::text"),
        "audit_events\nidempotency_keys"
    );
    EXPECT_EQ(sql("SELECT relname FROM pg_class WHERE relkind = 'p' AND relispartition"), "");
    EXPECT_EQ(
        sql("SELECT i.indexrelid::regclass FROM pg_partitioned_table t JOIN pg_index i ON "
            "i.indrelid = t.partrelid WHERE indisunique AND NOT t.partattrs[0] = ANY(i.indkey)"),
        ""
    );
}

TEST_F(PostgresDistribution, NothingReachesAcrossTables) {
    EXPECT_EQ(sql("SELECT conname FROM pg_constraint WHERE contype IN ('f', 'x', 't')"), "");
    EXPECT_EQ(sql("SELECT tgname FROM pg_trigger"), "");
}

// A value that the table makes up must be the same on whatever machine makes it.
TEST_F(PostgresDistribution, NoValueComesFromASequence) {
    EXPECT_EQ(sql("SELECT relname FROM pg_class WHERE relkind = 'S'"), "");
    EXPECT_EQ(
        sql("SELECT attrelid::regclass FROM pg_attribute WHERE attidentity <> '' OR attgenerated "
            "<> ''"),
        ""
    );
    // Times that nothing is ordered by.
    EXPECT_EQ(
        sql("SELECT adrelid::regclass FROM pg_attrdef WHERE pg_get_expr(adbin, adrelid) LIKE "
            "'%(%' ORDER BY adrelid::regclass::text"),
        "commit_marks\nschema_migrations"
    );
}

// --- The statements

TEST_F(PostgresDistribution, WhatServesProjectsStaysWithinThoseItNames) {
    const std::size_t before = mark();
    const auto absent = KvOp{KvOp::Kind::require_absent, "plugin.x", "p", "none", ""};

    // Appends: of one project, of several, with keys, replayed, with key space, cursors, erasures.
    append({Unit("p").action("a.one")});
    append(
        {Unit("p").action("a.two").key("request-1"),
         Unit("q").event({{Column::action, Text("a.two")}}, kNoTime, Text("event-1")),
         Unit("r").action("b.one")}
    );
    append({Unit("p").action("a.two").key("request-1")});
    append({Unit("p").put("plugin.x", "k", "1").kv(absent), Unit("q").put("plugin.x", "k", "2")});
    append({Unit("p").kv({KvOp::Kind::erase, "plugin.x", "p", "k", ""})});
    const auto lease =
        threads_->run(store_->lease({"p", "stream", "node-1", std::chrono::seconds(60)}));
    ASSERT_TRUE(lease.has_value() && lease.value().mine);
    append({Unit("p").cursor("stream", 1, lease.value().fence), Unit("q").cursor("stream", 1)});
    append({Unit("p").action("a.deleted").erase(2), Unit("q").erase(2)});
    std::vector<AppendUnit> scrubbing{Unit("p").build(), Unit("q").build()};
    for (AppendUnit& unit : scrubbing) unit.scrub = {{0, Scrub::bit(Column::user_id)}};
    for (const auto& outcome : threads_->run(store_->append(scrubbing)))
        EXPECT_TRUE(outcome.has_value());
    std::vector<AppendUnit> free{Unit("p").action("a.three").build()};
    for (const auto& outcome : threads_->run(store_->append_free(free)))
        EXPECT_TRUE(outcome.has_value());

    // Reads.
    Filter action, text, time, actions;
    action.equals[static_cast<std::size_t>(Column::action)] = "a.two";
    text.text = "nothing of the kind";
    time.from = kFebruary;
    time.before = kMarch + 1;
    actions.actions = {{ActionPattern::Kind::prefix, "a."}};
    for (const Filter& filter : {Filter{}, action, text, time, actions}) {
        const auto page = scan("p", filter);
        (void)threads_->run(store_->count("p", filter, kBudget));
        if (page.batch.events.empty()) continue;
        EXPECT_TRUE(threads_->run(store_->get("p", page.batch.events.front().id)).has_value());
    }
    EXPECT_TRUE(threads_->run(store_->action_counts("p", kFebruary)).has_value());
    AggregateRequest request;
    request.project = "p";
    EXPECT_TRUE(threads_->run(store_->aggregate(request)).has_value());
    request.group_by = Column::user_id;
    request.unique = {Column::action};
    EXPECT_TRUE(threads_->run(store_->aggregate(request)).has_value());
    EXPECT_TRUE(threads_->run(store_->seek("p", {}, 1, kBudget)).has_value());
    EXPECT_TRUE(threads_->run(store_->log_state("p")).has_value());
    EXPECT_TRUE(threads_->run(store_->kv_get("plugin.x", "q", "k")).value().has_value());
    EXPECT_EQ(threads_->run(store_->kv_scan("plugin.x", "q", "", "", 10)).value().size(), 1U);
    EXPECT_EQ(threads_->run(store_->cursor("p", "stream")).value(), 1);
    EXPECT_FALSE(threads_->run(store_->lease({"p", "stream", "node-2", std::chrono::seconds(60)}))
                     .value()
                     .mine);
    EXPECT_TRUE(threads_->run(store_->release_lease("p", "stream", "node-1")).has_value());

    std::set<std::string> seen;
    for (const Plan& plan : plans_since(before)) {
        EXPECT_THAT(unbounded(plan), IsEmpty()) << plan.text();
        expect_handed_down(plan.text());
        seen.insert(plan.tables().begin(), plan.tables().end());
    }
    for (const char* table :
         {"audit_events",
          "commit_marks",
          "event_batches",
          "idempotency_keys",
          "kv",
          "leases",
          "month_counts",
          "project_actions",
          "project_log",
          "project_months",
          "tombstones"})
        EXPECT_TRUE(seen.contains(table)) << table;
}

/// The statements that look at all projects: what they write, or else words that no other has.
/// None is on the way of a request that serves a project: the keeper and the operator list, drop
/// and clean up months, and the key space is read through at start-up.
const std::set<std::string> kOfAllProjects{
    "lead(first_seq) OVER (PARTITION BY project_id",  // the list of months
    "Insert project_log",                             // the floor of each log
    "Delete project_months",
    "Delete project_actions",
    "Delete month_counts",
    "Delete commit_marks",   // by age
    "Delete event_batches",  // below the floor
    "Delete tombstones",
    "Delete rollup_hourly",
    "Delete rollup_blocks",
    "FROM project_log l WHERE l.first_seq > 0",  // what lies below a floor
    "FROM kv WHERE space = $1::text",            // at start-up, and for erasures under way
};

TEST_F(PostgresDistribution, OnlyNamedMaintenanceLooksAtAllProjects) {
    const std::size_t before = mark();
    EXPECT_TRUE(threads_->run(store_->months()).has_value());
    EXPECT_TRUE(threads_->run(store_->kv_scan("plugin.x", "", "", "", 1)).has_value());
    EXPECT_TRUE(
        threads_->run(store_->kv_scan("plugin.x", "", "", std::string("q\0k", 3), 1)).has_value()
    );
    EXPECT_TRUE(threads_->run(store_->drop_month(month_of(kJanuary))).has_value());
    ASSERT_TRUE(postgres::settle(*store_, std::chrono::seconds(120)));
    EXPECT_TRUE(threads_->run(store_->purge_erased({month_of(kMarch)})).has_value());

    std::set<std::string> found;
    for (const Plan& plan : plans_since(before)) {
        expect_handed_down(plan.text());
        if (unbounded(plan).empty()) continue;
        const auto named =
            std::find_if(kOfAllProjects.begin(), kOfAllProjects.end(), [&](const auto& known) {
                return plan.name() == known || plan.text().find(known) != std::string::npos;
            });
        ASSERT_NE(named, kOfAllProjects.end()) << "looks at all projects: " << plan.text();
        found.insert(*named);
    }
    // What is no longer needed shall not stay on the list.
    EXPECT_EQ(found, kOfAllProjects);
}

// A process may stop, or its network, while it holds a lock that others wait for.
TEST_F(PostgresDistribution, NobodyKeepsALockWhileHeSaysNothing) {
    int found = 0;
    for (const Plan& plan : plans_since(0)) {
        if (plan.text().find("pg_advisory_xact_lock") == std::string::npos) continue;
        ++found;
        EXPECT_NE(plan.text().find("idle_in_transaction_session_timeout"), std::string::npos)
            << plan.text();
    }
    EXPECT_GT(found, 0);
}

// --- The test itself

std::set<std::string> unbounded_in(const std::string& node) {
    const auto logged = json::parse("{\"Query Text\": \"\", \"Plan\": " + node + "}");
    return Plan(logged.get_object()).unbounded();
}

TEST(PostgresDistributionPlan, KnowsRowsOfAProjectFromThoseOfAll) {
    EXPECT_THAT(
        unbounded_in(R"j({"Node Type": "Index Scan", "Relation Name": "kv", "Alias": "k",
            "Index Cond": "((project_id = 'p'::text) AND (space = 's'::text))"})j"),
        IsEmpty()
    );
    EXPECT_THAT(
        unbounded_in(R"j({"Node Type": "Index Scan", "Relation Name": "kv", "Alias": "kv",
            "Index Cond": "((space = 's'::text) AND (ROW(project_id, key) > ROW('p', 'k')))"})j"),
        UnorderedElementsAre("kv")
    );
    EXPECT_THAT(
        unbounded_in(R"j({"Node Type": "Seq Scan", "Relation Name": "audit_events_2026_03",
            "Alias": "e"})j"),
        UnorderedElementsAre("audit_events")
    );
    // Joined with a list: "a" is no table.
    const std::string list = R"j({"Node Type": "Hash Join",
        "Hash Cond": "(e.project_id = a.project_id)", "Plans": [
            {"Node Type": "Seq Scan", "Relation Name": "tombstones", "Alias": "e_1"},
            {"Node Type": "Seq Scan", "Relation Name": "kv", "Alias": "k"}]})j";
    EXPECT_THAT(unbounded_in(list), UnorderedElementsAre("kv"));
    // With each other, and nothing says which.
    const std::string both = R"j({"Node Type": "Hash Join",
        "Hash Cond": "(t.project_id = k.project_id)", "Plans": [
            {"Node Type": "Seq Scan", "Relation Name": "tombstones", "Alias": "t"},
            {"Node Type": "Seq Scan", "Relation Name": "kv", "Alias": "k"}]})j";
    EXPECT_THAT(unbounded_in(both), UnorderedElementsAre("kv", "tombstones"));
}

}  // namespace
}  // namespace annal::test
