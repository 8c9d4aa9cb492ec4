#include "tests/support/postgres_cluster.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <string>
#include <thread>

namespace annal::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::ThrowsMessage;

constexpr auto kSoon = 30s;

bool await(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kSoon;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::sleep_for(5ms);
    }
    return true;
}

bool runs(pid_t pid) {
    return std::filesystem::exists("/proc/" + std::to_string(pid));
}

TEST(PostgresCluster, DatabasesAreFreshAndTheirOwn) {
    auto& cluster = shared_cluster();
    const auto first = cluster.create_database();
    const auto second = cluster.create_database();
    EXPECT_NE(first, second);
    cluster.sql(first, "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)");
    EXPECT_EQ(cluster.sql(first, "SELECT id, 'x' FROM t ORDER BY id"), "1|x\n2|x");
    EXPECT_THAT(
        [&] { cluster.sql(second, "SELECT 1; SELECT * FROM t"); },
        ThrowsMessage<std::runtime_error>(HasSubstr("relation \"t\" does not exist"))
    );
    EXPECT_EQ(
        cluster.sql("postgres", "SHOW server_encoding; SHOW fsync; SHOW jit"), "UTF8\noff\noff"
    );
}

TEST(PostgresCluster, RunsWithoutRootsRights) {
    std::filesystem::path status = "/proc/" + std::to_string(shared_cluster().pid()) + "/status";
    std::ifstream file(status);
    std::string line;
    while (std::getline(file, line) && !line.starts_with("Uid:")) {
    }
    EXPECT_THAT(line, Not(HasSubstr("\t0")));
}

/// One for those who stop, freeze and configure it; a thread that is long gone has started it.
PostgresCluster& rough_cluster() {
    static const std::unique_ptr<PostgresCluster> cluster = [] {
        PostgresOptions options;
        options.tcp = true;
        options.settings = {"jit = on", "work_mem = '5MB'"};
        std::unique_ptr<PostgresCluster> made;
        std::thread([&] { made = std::make_unique<PostgresCluster>(options); }).join();
        return made;
    }();
    return *cluster;
}

TEST(PostgresClusterUnderStress, RecoversWhatWasCommittedAfterACrash) {
    auto& cluster = rough_cluster();
    const auto url = cluster.create_database();
    cluster.sql(url, "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 1000)");
    const pid_t before = cluster.pid();
    cluster.stop(PostgresCluster::Mode::immediate);
    EXPECT_FALSE(runs(before));
    EXPECT_EQ(cluster.pid(), 0);
    EXPECT_THROW(cluster.sql(url, "SELECT 1"), std::runtime_error);
    cluster.start();
    EXPECT_NE(cluster.pid(), before);
    EXPECT_EQ(cluster.sql(url, "SELECT count(*) FROM t"), "1000");
    EXPECT_THAT(cluster.log(), HasSubstr("automatic recovery in progress"));
}

TEST(PostgresClusterUnderStress, StartsAgainAfterItsPostmasterWasKilled) {
    auto& cluster = rough_cluster();
    PsqlRun sleeper(cluster.url("postgres"), "SELECT pg_sleep(600)");
    ASSERT_TRUE(await([&] { return cluster.backends().size() == 1; }));
    ASSERT_EQ(::kill(cluster.pid(), SIGKILL), 0);
    ASSERT_TRUE(sleeper.wait(kSoon));
    cluster.start();
    EXPECT_EQ(cluster.sql("postgres", "SELECT 1"), "1");
}

TEST(PostgresClusterUnderStress, FrozenItAnswersNobodyAndThawedItGoesOn) {
    auto& cluster = rough_cluster();
    PsqlRun before(cluster.url("postgres"), "SELECT pg_sleep(0.05); SELECT 'woke'");
    ASSERT_TRUE(await([&] { return !cluster.backends().empty() || before.wait(0ms); }));
    cluster.freeze();
    PsqlRun during(cluster.url("postgres"), "SELECT 'answered'");
    EXPECT_FALSE(during.wait(200ms));
    cluster.thaw();
    const auto woken = before.wait(kSoon);
    ASSERT_TRUE(woken);
    EXPECT_EQ(woken->output, "\nwoke");
    const auto answer = during.wait(kSoon);
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->output, "answered") << answer->errors;
    cluster.freeze();
    cluster.restart();  // also when nobody thawed it
}

TEST(PostgresClusterUnderStress, ListensOnAPortAndKeepsItOverARestart) {
    auto& cluster = rough_cluster();
    const auto port = cluster.tcp_port();
    cluster.restart();
    EXPECT_EQ(cluster.tcp_port(), port);
    const auto url = cluster.tcp_url("postgres");
    EXPECT_EQ(cluster.sql(url, "SHOW jit; SHOW port"), "on\n" + std::to_string(port));
    PsqlRun sleeper(url, "SELECT pg_sleep(600)");
    EXPECT_TRUE(await([&] { return cluster.backends().size() == 1; }));
}

TEST(PostgresClusterUnderStress, ReloadedSettingsHoldForTheNextSession) {
    auto& cluster = rough_cluster();
    cluster.reload_with({"work_mem = '6MB'"});
    EXPECT_EQ(cluster.sql("postgres", "SHOW work_mem"), "6MB");
    cluster.reload_with({"work_mem = '7MB'", "max_connections = 70"});
    EXPECT_EQ(cluster.sql("postgres", "SHOW work_mem"), "7MB");
    EXPECT_THAT(
        [&] { cluster.reload_with({"work_mem = 'much'"}); },
        ThrowsMessage<std::runtime_error>(HasSubstr("settings refused: work_mem"))
    );
    cluster.restart();
    EXPECT_EQ(cluster.sql("postgres", "SHOW work_mem; SHOW max_connections"), "7MB\n70");
}

TEST(PostgresCluster, FailureToStartShowsTheLog) {
    PostgresOptions options;
    options.settings = {"shared_buffers = 'nonsense'"};
    EXPECT_THAT(
        [&] { PostgresCluster cluster(options); },
        ThrowsMessage<std::runtime_error>(HasSubstr("invalid value for parameter \"shared_buffers\""
        ))
    );
}

/// The program that the next tests kill: has a cluster, says where, and waits.
TEST(PostgresCluster, DISABLED_HoldOne) {
    PostgresCluster cluster;
    if (std::getenv("FREEZE_IT") != nullptr) cluster.freeze();
    std::cout << "holding " << cluster.pid() << " " << cluster.folder() << "\n" << std::flush;
    char byte = 0;
    (void)!::read(STDIN_FILENO, &byte, 1);
}

class Holder {
public:
    explicit Holder(std::vector<std::string> environment) {
        std::array<int, 2> input{}, output{};
        if (::pipe2(input.data(), O_CLOEXEC) != 0 || ::pipe2(output.data(), O_CLOEXEC) != 0) {
            throw std::runtime_error("no pipe");
        }
        ChildProgram program;
        program.arguments = {
            std::filesystem::read_symlink("/proc/self/exe"),
            "--gtest_also_run_disabled_tests",
            "--gtest_filter=*DISABLED_HoldOne"};
        program.environment = std::move(environment);
        program.input = input[0];
        program.output = output[1];
        program.death_signal = SIGKILL;
        process_ = start_child(program);
        ::close(input[0]);
        ::close(output[1]);
        input_ = input[1];
        std::FILE* said = ::fdopen(output[0], "r");
        std::array<char, 256> line{}, path{};
        while (std::fgets(line.data(), line.size(), said) != nullptr) {
            if (std::sscanf(line.data(), "holding %d %255s", &postmaster, path.data()) == 2) break;
        }
        (void)std::fclose(said);
        folder = path.data();
    }
    ~Holder() {
        end();
        ::close(input_);
    }
    void end() {
        if (process_ == 0) return;
        ::kill(process_, SIGKILL);
        (void)wait_for_exit(process_, kSoon);
        process_ = 0;
    }

    pid_t postmaster = 0;
    std::string folder;

private:
    pid_t process_ = 0;
    int input_ = -1;
};

class PostgresClusterOfTheKilled : public ::testing::TestWithParam<const char*> {};

TEST_P(PostgresClusterOfTheKilled, LeavesNothing) {
    Holder holder({GetParam()});
    ASSERT_NE(holder.postmaster, 0);
    ASSERT_TRUE(runs(holder.postmaster));
    holder.end();
    EXPECT_TRUE(await([&] { return !runs(holder.postmaster); }));
    EXPECT_TRUE(await([&] { return !std::filesystem::exists(holder.folder); }));
}

INSTANTIATE_TEST_SUITE_P(, PostgresClusterOfTheKilled, ::testing::Values("NONE=", "FREEZE_IT=1"));

}  // namespace
}  // namespace annal::test
