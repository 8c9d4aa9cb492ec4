// What becomes of calls when the database, its disk or the network fails: errors that say so, in
// bounded time, nothing acknowledged lost, and the same store object goes on afterwards.
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <list>
#include <random>

#include "runtime/core/task_impl.h"
#include "runtime/store/postgres/committed.h"
#include "tests/contract/postgres_nodes.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/tcp_proxy.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

/// A cluster that may be stopped and frozen; tests leave it at work.
PostgresCluster& own_cluster() {
    static const auto cluster = std::make_unique<PostgresCluster>();
    return *cluster;
}

annal::PostgresOptions impatient() {
    annal::PostgresOptions options;
    options.statement_timeout = 1'500ms;
    // One for each kind of call, so that it is clear which one a call meets.
    options.append_connections = 1;
    options.read_connections = 1;
    options.delivery_connections = 1;
    return options;
}

annal::PostgresOptions busy() {
    annal::PostgresOptions options = impatient();
    options.append_connections = 3;
    return options;
}

/// An outage, said so: what to expect and when to come back.
void expect_outage(const Error& error, const std::string& words = {}) {
    EXPECT_TRUE(error.code == Errc::unavailable || error.code == Errc::timeout)
        << name(error.code) << ": " << error.detail;
    EXPECT_GT(error.retry_after_ms, 0U) << error.detail;
    EXPECT_NE(error.detail.find(words), std::string::npos) << error.detail;
}

class PostgresFault : public testing::Test {
protected:
    AppendOutcome append(Node& node, const Unit& unit) {
        auto outcome = node.append(unit);
        account_.record(unit.build(), outcome);
        return outcome;
    }
    void expect_append(Node& node, const std::string& name) {
        const auto outcome = append(node, named_unit("p", name, 2));
        EXPECT_TRUE(outcome.has_value()) << outcome.error().detail;
    }
    /// The same object goes on by itself.
    void expect_recovery(Node& node) {
        const bool well = eventually([&] {
            const auto outcome =
                append(node, named_unit("p", "recovery " + std::to_string(++recoveries_), 1));
            return outcome.has_value() && run_task(node->log_state("p")).has_value() &&
                   run_task(node->scan(request())).has_value() &&
                   run_task(node->lease({"p", "work", "me", 10s})).has_value();
        });
        EXPECT_TRUE(well) << "it does not come back";
        EXPECT_EQ(node->health().refusal, "");
    }
    /// Threads that append without a pause, for as long as the load lives.
    std::unique_ptr<Crowd> load(Node& node) {
        return std::make_unique<Crowd>(4, [&, this](int t, int n) {
            const std::string name = "load " + std::to_string(t) + "/" + std::to_string(n);
            if (append(node, named_unit(t % 2 == 0 ? "p" : "q", name, 1 + n % 30)).has_error())
                std::this_thread::sleep_for(20ms);  // callers come back later
        });
    }
    [[nodiscard]] bool await_progress() {
        const auto before = account_.acknowledged();
        return eventually([&] { return account_.acknowledged() > before + 50; });
    }
    void expect_sound(const std::string& url) {
        expect_none(account_.problems(url));
        expect_none(account_.wrong_errors());
    }
    static ScanRequest request(const std::string& project = "p") {
        ScanRequest made;
        made.project = project;
        return made;
    }

    Account account_;
    int recoveries_ = 0;
};

TEST_F(PostgresFault, ServerThatCrashesUnderLoad) {
    const std::string url = own_cluster().create_database();
    Node node(url, busy());
    auto load = this->load(node);
    for (int i = 0; i < 3; ++i) {
        ASSERT_TRUE(await_progress());
        own_cluster().stop(PostgresCluster::Mode::immediate);
        const auto errors = account_.errors();
        ASSERT_TRUE(eventually([&] { return account_.errors() > errors; }));
        EXPECT_NE(node->health().refusal, "");
        own_cluster().start();
    }
    ASSERT_TRUE(await_progress());
    load->stop();
    expect_recovery(node);
    expect_sound(url);
}

// A standby that was promoted may have lost the last commits.
TEST_F(PostgresFault, ServerThatHasForgottenWhatTheNodeKnows) {
    const std::string url = own_cluster().create_database();
    Node node(url, impatient());
    expect_append(node, "first");
    const std::string known = own_cluster().sql(url, "SELECT count(*) FROM project_actions");
    own_cluster().sql(
        url,
        "DELETE FROM project_actions; SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    );
    expect_append(node, "second");
    EXPECT_EQ(own_cluster().sql(url, "SELECT count(*) FROM project_actions"), known);
}

/// Counts on an io thread, and how long it was kept from it.
class Ticker {
public:
    explicit Ticker(boost::asio::any_io_executor executor) {
        boost::asio::co_spawn(executor, tick(), boost::asio::detached);
    }
    void stop() { stopping_ = true; }
    [[nodiscard]] milliseconds longest_gap() const { return milliseconds(longest_ms_.load()); }
    [[nodiscard]] int ticks() const { return ticks_; }

private:
    Task<void> tick() {
        boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
        while (!stopping_) {
            const auto begin = std::chrono::steady_clock::now();
            timer.expires_after(10ms);
            co_await timer.async_wait(boost::asio::use_awaitable);
            const auto gap =
                std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
            longest_ms_ = std::max<std::int64_t>(longest_ms_, gap.count());
            ++ticks_;
        }
    }
    std::atomic<bool> stopping_{false};
    std::atomic<std::int64_t> longest_ms_{0};
    std::atomic<int> ticks_{0};
};

/// One call of each kind, on one io thread.
struct Calls {
    Calls(IoThreads& threads, Node& node)
        : units{named_unit("p", "in the dark", 1).build()},
          append(threads.start(node->append(units))),
          scan(threads.start(node->scan(scan_request()))),
          state(threads.start(node->log_state("p"))),
          row(threads.start(node->kv_get("host.test", "p", "row"))),
          lease(threads.start(node->lease({"p", "work", "me", 10s}))) {}
    static ScanRequest scan_request() {
        ScanRequest request;
        request.project = "p";
        request.budget = 500ms;
        return request;
    }

    std::vector<AppendUnit> units;
    PendingTask<std::vector<AppendOutcome>> append;
    PendingTask<Result<ScanPage>> scan;
    PendingTask<Result<LogState>> state;
    PendingTask<Result<std::optional<std::string>>> row;
    PendingTask<Result<Lease>> lease;
};

// Everything stands still, and no connection ends: only the watchdog can end the calls.
void expect_calls_end(Node& node, Account& account) {
    IoThreads threads(1);
    Ticker ticker(threads.executor());
    const double lost_before = node.metric("annal_postgres_lost_connections_total");
    const auto took = time_of([&] {
        Calls calls(threads, node);
        const auto append = std::move(calls.append.get().front());
        ASSERT_TRUE(append.has_error());
        expect_outage(append.error());
        account.record(calls.units[0], append);
        const auto scan = calls.scan.get();
        ASSERT_TRUE(scan.has_error());
        expect_outage(scan.error());
        const auto state = calls.state.get();
        ASSERT_TRUE(state.has_error());
        expect_outage(state.error());
        const auto row = calls.row.get();
        ASSERT_TRUE(row.has_error());
        expect_outage(row.error());
        const auto lease = calls.lease.get();
        ASSERT_TRUE(lease.has_error());
        expect_outage(lease.error());
    });
    EXPECT_GT(took, 2s);
    EXPECT_LT(took, 40s);
    const int ticks = ticker.ticks();
    ticker.stop();
    threads.drain();
    EXPECT_LT(ticker.longest_gap(), 1s) << "a call blocked its io thread";
    EXPECT_GT(ticks, 20);
    EXPECT_GE(node.metric("annal_postgres_lost_connections_total"), lost_before + 3)
        << "a connection that never answers was kept";
    std::printf("the calls ended after %lld ms\n", static_cast<long long>(took.count()));
}

TEST_F(PostgresFault, ServerThatFreezes) {
    const std::string url = own_cluster().create_database();
    Node node(url, impatient());
    expect_append(node, "before");
    expect_recovery(node);
    own_cluster().freeze();
    expect_calls_end(node, account_);
    EXPECT_NE(node->health().refusal, "");
    own_cluster().thaw();
    expect_recovery(node);
    expect_sound(url);
}

TEST_F(PostgresFault, NetworkThatStalls) {
    const std::string url = own_cluster().create_database();
    TcpProxy proxy(own_cluster().socket_path());
    Node node(proxy.url(name_in(url)), impatient());
    expect_append(node, "before");
    expect_recovery(node);
    proxy.stall();
    expect_calls_end(node, account_);
    proxy.resume();
    expect_recovery(node);
    expect_sound(url);
}

// Whoever stops has no time for a server that says nothing, nor for what waits behind others.
TEST_F(PostgresFault, WhatIsGivenUpEndsThen) {
    const std::string url = own_cluster().create_database();
    TcpProxy proxy(own_cluster().socket_path());
    Node node(proxy.url(name_in(url)));  // as patient as nodes are
    expect_recovery(node);
    IoThreads threads(1);
    const auto took = time_of([&] {
        proxy.stall();
        node->give_up_at(std::chrono::steady_clock::now() + 500ms);
        std::list<Calls> all;
        for (int i = 0; i < 20; ++i) all.emplace_back(threads, node);
        for (Calls& calls : all) {
            const auto append = std::move(calls.append.get().front());
            ASSERT_TRUE(append.has_error());
            expect_outage(append.error());
            account_.record(calls.units[0], append);
            EXPECT_TRUE(calls.scan.get().has_error());
            EXPECT_TRUE(calls.state.get().has_error());
            EXPECT_TRUE(calls.row.get().has_error());
            const auto lease = calls.lease.get();
            ASSERT_TRUE(lease.has_error());
            expect_outage(lease.error());
        }
        node.close();
    });
    EXPECT_LT(took, 5s);
    threads.drain();
    proxy.resume();
    expect_sound(url);
}

// What still answers is not cut off.
TEST_F(PostgresFault, AServerThatAnswersMayGoOnAfterTheDeadline) {
    const std::string url = own_cluster().create_database();
    Node node(url, impatient());
    expect_recovery(node);
    node->give_up_at(std::chrono::steady_clock::now());
    expect_append(node, "late");
    EXPECT_TRUE(run_task(node->release_lease("p", "work", "me")).has_value());
    expect_sound(url);
}

TEST_F(PostgresFault, NetworkThatIsCutUnderLoad) {
    const std::string url = own_cluster().create_database();
    TcpProxy proxy(own_cluster().socket_path());
    Node node(proxy.url(name_in(url)), busy());
    auto load = this->load(node);
    for (int i = 0; i < 15; ++i) {
        ASSERT_TRUE(await_progress());
        proxy.cut();
    }
    proxy.refuse();
    proxy.cut();
    const auto errors = account_.errors();
    ASSERT_TRUE(eventually([&] { return account_.errors() > errors + 5; }));
    proxy.resume();
    ASSERT_TRUE(await_progress());
    load->stop();
    expect_recovery(node);
    expect_sound(url);
}

// A value needs no other connection, and there is none: the end of what only reads is no part of
// it.
TEST_F(PostgresFault, AReadIsAnsweredThoughItsEndIsLost) {
    const std::string url = own_cluster().create_database();
    TcpProxy proxy(own_cluster().socket_path());
    Node node(proxy.url(name_in(url)), impatient());
    expect_append(node, "before");
    const auto lose_end_of = [&](const auto& read) {
        ASSERT_TRUE(eventually([&] { return read().has_value(); }));
        proxy.cut_on(kCommit, TcpProxy::Lost::request);
        proxy.refuse();
        const auto answer = read();
        EXPECT_TRUE(answer.has_value()) << answer.error().detail;
        EXPECT_TRUE(proxy.await_cut(10s));
        proxy.resume();
    };
    lose_end_of([&] { return run_task(node->log_state("p")); });
    lose_end_of([&] { return run_task(node->action_counts("p", 0)); });
    lose_end_of([&] { return run_task(node->scan(request())); });
    expect_recovery(node);
    expect_sound(url);
}

// As a primary that has become a standby.
TEST_F(PostgresFault, DatabaseThatIsReadOnly) {
    const std::string url = own_cluster().create_database();
    Node node(url, impatient());
    expect_append(node, "before");
    const auto turn = [&](const std::string& state) {
        own_cluster().sql(
            "postgres",
            "ALTER DATABASE " + name_in(url) + " SET default_transaction_read_only = " + state +
                "; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" +
                name_in(url) + "'"
        );
    };
    turn("on");
    const auto refused = append(node, named_unit("p", "refused", 1));
    ASSERT_TRUE(refused.has_error());
    expect_outage(refused.error(), "read-only");
    EXPECT_NE(node->health().refusal.find("read-only"), std::string::npos);
    EXPECT_EQ(node.all("p").size(), 2U) << "what is there can be read";
    turn("off");
    expect_recovery(node);
    expect_sound(url);
}

// A trigger says what a full disk says, for one project.
TEST_F(PostgresFault, DiskThatIsFullByItsErrorCode) {
    const std::string url = own_cluster().create_database();
    Node node(url, impatient());
    expect_append(node, "before");
    Session beside(url);
    beside.run(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'could not "
        "extend file' USING ERRCODE = '53100'; END $$; CREATE TRIGGER full_disk BEFORE INSERT ON "
        "event_batches FOR EACH ROW EXECUTE FUNCTION full_disk()"
    );
    const auto refused = append(node, named_unit("p", "refused", 1));
    ASSERT_TRUE(refused.has_error());
    EXPECT_EQ(refused.error().code, Errc::unavailable);
    expect_outage(refused.error(), "disk is full");
    EXPECT_NE(node->health().refusal.find("disk is full"), std::string::npos);
    beside.run("DROP TRIGGER full_disk ON event_batches");
    expect_recovery(node);
    expect_sound(url);
}

/// A small file system of its own; root alone can have one.
class SmallDisk {
public:
    explicit SmallDisk(const std::string& folder) : folder_(folder) {
        ::mkdir(folder_.c_str(), 0755);
        mounted_ = ::mount("tmpfs", folder_.c_str(), "tmpfs", 0, "size=40m,mode=0777") == 0;
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
    }
    [[nodiscard]] bool is_there() const { return mounted_; }
    [[nodiscard]] const std::string& folder() const { return folder_; }

private:
    const std::string folder_;
    bool mounted_ = false;
};

TEST_F(PostgresFault, DiskThatIsFull) {
    PostgresCluster cluster;
    const SmallDisk disk(cluster.folder() + "/small");
    if (!disk.is_there()) GTEST_SKIP() << "only root can mount a small file system";
    const std::string place = disk.folder() + "/tablespace";
    ::mkdir(place.c_str(), 0777);
    struct stat owner {};
    ASSERT_EQ(::stat((cluster.folder() + "/data").c_str(), &owner), 0);
    ASSERT_EQ(::chown(place.c_str(), owner.st_uid, owner.st_gid), 0);
    cluster.sql("postgres", "CREATE TABLESPACE small LOCATION '" + place + "'");
    cluster.sql("postgres", "CREATE DATABASE on_small TABLESPACE small");
    const std::string url = cluster.url("on_small");
    Node node(url, impatient());
    std::mt19937 random(1);
    Error refusal;
    const bool filled = eventually([&] {
        // Not to be compressed: the disk has to fill.
        Unit unit("p");
        for (int i = 0; i < 20; ++i) {
            std::string noise(60'000, ' ');
            for (char& c : noise) c = static_cast<char>('!' + random() % 90);
            const std::string id = "big " + std::to_string(random());
            unit.event({{Column::external_id, Text(id)}, {Column::metadata, Text(noise)}});
        }
        const auto outcome = append(node, unit);
        if (outcome.has_error()) refusal = outcome.error();
        return outcome.has_error();
    });
    ASSERT_TRUE(filled);
    expect_outage(refusal, "disk is full");
    EXPECT_GT(node.all("p").size(), 20U) << "what is there can be read";
    const auto is_well = [&] { return node->health().refusal.empty(); };
    EXPECT_FALSE(eventually(is_well, 1'500ms)) << "a page with room is no room on the disk";
    ASSERT_EQ(::mount("tmpfs", disk.folder().c_str(), "tmpfs", MS_REMOUNT, "size=200m"), 0);
    EXPECT_TRUE(eventually(is_well)) << "though nobody appends";
    expect_recovery(node);
    expect_sound(url);
    node.close();
    cluster.stop();
}

TEST_F(PostgresFault, ServerWithTooManyConnections) {
    const std::string url = own_cluster().create_database();
    const std::string role = "few_" + name_in(url);
    own_cluster().sql(
        "postgres",
        "CREATE ROLE " + role + " LOGIN CONNECTION LIMIT 2; ALTER DATABASE " + name_in(url) +
            " OWNER TO " + role
    );
    // The keeper has one, the first append the other.
    Node node(url + "&user=" + role, impatient());
    expect_append(node, "before");
    const auto page = run_task(node->scan(request()));
    ASSERT_TRUE(page.has_error());
    expect_outage(page.error(), "too many connections");
    expect_outage(page.error(), "raise max_connections");
    expect_append(node, "meanwhile");
    own_cluster().sql("postgres", "ALTER ROLE " + role + " CONNECTION LIMIT 30");
    expect_recovery(node);
    expect_sound(url);
}

TEST_F(PostgresFault, ARoleThatMayNotMakeTables) {
    const std::string url = own_cluster().create_database();
    const std::string role = "guest_of_" + name_in(url);
    own_cluster().sql("postgres", "CREATE ROLE " + role + " LOGIN");
    try {
        const Node node(url + "&user=" + role, impatient());
        ADD_FAILURE() << "it has migrated";
    } catch (const std::runtime_error& e) {
        EXPECT_NE(std::string(e.what()).find("annal migrate"), std::string::npos) << e.what();
    }
}

// Somebody sits on the lock of one log: the node is well.
TEST_F(PostgresFault, ALogThatIsStuckIsNoOutage) {
    const std::string url = own_cluster().create_database();
    Node node(url);
    expect_append(node, "before");
    Session hog(url);
    hog.run("BEGIN");
    hog.run("SELECT pg_advisory_xact_lock(" + std::to_string(postgres::append_lock("stuck")) + ")");
    const std::vector<Unit> units{named_unit("p", "beside", 1), named_unit("stuck", "held", 1)};
    const auto outcomes = node.append(units);
    EXPECT_TRUE(outcomes[0].has_value());
    ASSERT_TRUE(outcomes[1].has_error());
    EXPECT_EQ(node->health().refusal, "");
    hog.run("ROLLBACK");
    expect_sound(url);
}

// --- What PostgreSQL can't store

const std::vector<std::string>& no_texts() {
    static const std::vector<std::string> texts{
        std::string("a\0b", 3), "\xff", "\xc3", "\xed\xa0\x80", std::string(1, '\0')};
    return texts;
}

TEST_F(PostgresFault, TextThatIsNoneHarmsNoNeighbour) {
    const std::string url = own_cluster().create_database();
    Node node(url);
    int round = 0;
    for (const std::string& bad : no_texts()) {
        std::vector<Unit> units;
        const auto good = [&] { units.push_back(named_unit("p", std::to_string(++round), 1)); };
        good();
        for (std::size_t c = 0; c < kColumns; ++c) {
            units.push_back(Unit("p").action("fine").event({{static_cast<Column>(c), Text(bad)}}));
        }
        good();
        units.push_back(named_unit(bad, "in no project", 1));
        for (const auto kind :
             {KvOp::Kind::put,
              KvOp::Kind::erase,
              KvOp::Kind::require_absent,
              KvOp::Kind::require_equals}) {
            units.push_back(Unit("p").kv({kind, bad, "p", "key", "value"}));
            units.push_back(Unit("p").kv({kind, "space", bad, "key", "value"}));
            units.push_back(Unit("p").kv({kind, "space", "p", bad, "value"}));
        }
        units.push_back(Unit("p").cursor(bad, 1));
        units.push_back(Unit("p").cursor(bad, 1, 7));
        good();
        const double commits = node.metric("annal_store_commits_total");
        const auto outcomes = node.append(units);
        for (std::size_t i = 0; i < units.size(); ++i) {
            const bool named = units[i].build().project == "p" &&
                               units[i].build().events.size() == 1 &&
                               !units[i].build().events[0][Column::external_id].is_null();
            if (named && outcomes[i].has_value()) {
                account_.record(units[i].build(), outcomes[i]);
                continue;
            }
            ASSERT_TRUE(outcomes[i].has_error()) << i;
            EXPECT_EQ(outcomes[i].error().code, Errc::unprocessable)
                << i << ": " << outcomes[i].error().detail;
        }
        EXPECT_EQ(node.metric("annal_store_commits_total"), commits + 1) << "it reached the driver";
    }
    EXPECT_EQ(node.all("p").size(), static_cast<std::size_t>(round));
    expect_sound(url);
}

TEST_F(PostgresFault, QuestionsAboutTimesThatNoCalendarHas) {
    const std::string url = own_cluster().create_database();
    Node node(url);
    expect_append(node, "one");
    // Of the years 0 and 10000, by their distance from UTC; and as far as numbers go.
    constexpr TimeUs kFirst = -62'135'596'800 * kSecondUs - 14 * 3'600 * kSecondUs;
    constexpr TimeUs kLast = 253'402'300'799 * kSecondUs + 14 * 3'600 * kSecondUs;
    for (const TimeUs early : {kFirst, kFirst - 800 * 366 * kDayUs, INT64_MIN + 1}) {
        for (const TimeUs late : {kLast, INT64_MAX}) {
            auto asked = request();
            asked.filter.from = early;
            asked.filter.before = late;
            const auto page = run_task(node->scan(asked));
            ASSERT_TRUE(page.has_value()) << page.error().detail;
            EXPECT_EQ(page.value().batch.events.size(), 2U);
            asked.filter.from = late;
            asked.filter.before = early;
            const auto none = run_task(node->scan(asked));
            ASSERT_TRUE(none.has_value()) << none.error().detail;
            EXPECT_TRUE(none.value().batch.events.empty());
        }
    }
}

// Keys and values are bytes: they may be anything.
TEST_F(PostgresFault, KeysAndValuesMayBeAnyBytes) {
    const std::string url = own_cluster().create_database();
    Node node(url);
    for (const std::string& odd : no_texts()) {
        Unit unit("p");
        unit.event({{Column::action, "a"}}, kNoTime, Text(odd)).key(odd).put("s", "k", odd);
        const auto outcome = append(node, unit);
        ASSERT_TRUE(outcome.has_value()) << outcome.error().detail;
        EXPECT_TRUE(append(node, unit).value().front().replayed);
        EXPECT_EQ(run_task(node->kv_get("s", "p", "k")).value(), odd);
    }
    expect_sound(url);
}

TEST_F(PostgresFault, QuestionsAboutTextThatIsNoneHaveNoAnswer) {
    const std::string url = own_cluster().create_database();
    Node node(url);
    expect_append(node, "one");
    for (const std::string& bad : no_texts()) {
        const auto state = run_task(node->log_state(bad));
        ASSERT_TRUE(state.has_value()) << state.error().detail;
        EXPECT_EQ(state.value().head_seq, kNoSeq);
        const auto foreign = run_task(node->scan(request(bad)));
        ASSERT_TRUE(foreign.has_value()) << foreign.error().detail;
        EXPECT_TRUE(foreign.value().batch.events.empty() && foreign.value().exhausted);
        std::vector<Filter> filters;
        for (std::size_t c = 0; c < kColumns; ++c) filters.emplace_back().equals[c] = bad;
        filters.emplace_back().action_prefix = bad;
        filters.emplace_back().text = bad;
        filters.emplace_back().actions = {{ActionPattern::Kind::exact, bad}};
        for (std::size_t i = 0; i < filters.size(); ++i) {
            auto asked = request();
            asked.filter = filters[i];
            const auto page = run_task(node->scan(asked));
            ASSERT_TRUE(page.has_value()) << i << ": " << page.error().detail;
            const auto total = run_task(node->count("p", filters[i], 5s));
            ASSERT_TRUE(total.has_value()) << i << ": " << total.error().detail;
            EXPECT_EQ(total.value().count, static_cast<int>(page.value().batch.events.size()));
            EXPECT_EQ(total.value().count, 0) << i;
            asked.tombstones = true;
            EXPECT_TRUE(run_task(node->scan(asked)).has_value()) << i;
        }
        EXPECT_EQ(run_task(node->kv_get(bad, "p", "k")).value(), std::nullopt);
        EXPECT_EQ(run_task(node->kv_get("s", bad, "k")).value(), std::nullopt);
        EXPECT_EQ(run_task(node->kv_get("s", "p", bad)).value(), std::nullopt);
        EXPECT_TRUE(run_task(node->kv_scan(bad, "p", "", "", 10)).value().empty());
        EXPECT_TRUE(run_task(node->kv_scan("s", "p", bad, "", 10)).value().empty());
        EXPECT_TRUE(run_task(node->kv_scan("s", "", bad, "", 10)).value().empty());
        EXPECT_TRUE(run_task(node->kv_scan("s", "p", "", bad, 10)).has_value());
        EXPECT_EQ(run_task(node->cursor("p", bad)).value(), kNoSeq);
        EXPECT_EQ(run_task(node->cursor(bad, "s")).value(), kNoSeq);
        EXPECT_TRUE(run_task(node->lease({"p", bad, "me", 1s})).has_error());
        EXPECT_TRUE(run_task(node->release_lease("p", bad, "me")).has_value());
        const auto counts = run_task(node->action_counts(bad, 0));
        ASSERT_TRUE(counts.has_value()) << counts.error().detail;
        EXPECT_TRUE(counts.value().empty());
        const auto none = run_task(node->get(bad, EventId::make(1'000'000, 1)));
        EXPECT_EQ(none.error().code, Errc::not_found) << none.error().detail;
        const auto count = run_task(node->count(bad, {}, 1s));
        ASSERT_TRUE(count.has_value()) << count.error().detail;
        EXPECT_EQ(count.value().count, 0);
    }
    EXPECT_EQ(node.metric("annal_postgres_lost_connections_total"), 0);
}

// An index takes no row that is so long: only the server knows.
TEST_F(PostgresFault, AUnitWhoseDataIsRefusedFailsAlone) {
    const std::string url = own_cluster().create_database();
    Node node(url);
    std::mt19937 random(2);
    std::string noise(12'000, ' ');
    for (char& c : noise) c = static_cast<char>('!' + random() % 90);
    for (const std::size_t victim : {0U, 6U, 12U}) {
        std::vector<Unit> units;
        for (std::size_t i = 0; i < 13; ++i) {
            const std::string name = std::to_string(victim) + "/" + std::to_string(i);
            units.push_back(named_unit(i % 3 == 0 ? "q" : "p", name, 3));
            if (i == victim) units.back().put("space", noise, "value");
        }
        const auto outcomes = node.append(units);
        for (std::size_t i = 0; i < units.size(); ++i) {
            EXPECT_EQ(outcomes[i].has_error(), i == victim) << i;
            if (i != victim) account_.record(units[i].build(), outcomes[i]);
        }
    }
    EXPECT_EQ(account_.acknowledged(), 3U * 12 * 3);
    EXPECT_EQ(node.all("p").size() + node.all("q").size(), 3U * 12 * 3);
    expect_sound(url);
}

}  // namespace
}  // namespace annal::test
