// Nodes of one PostgreSQL database, killed and stopped in the middle of appends, while others go
// on: what was acknowledged is there, once, in one order, and what commits together is together.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>

#include "tests/chaos/store_kill_account.h"
#include "tests/contract/postgres_nodes.h"
#include "tests/support/postgres_cluster.h"
#include "tests/support/tcp_proxy.h"
#include "tests/support/test_seed.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;

/// What all writers together were told.
struct Told {
    std::mutex mutex;
    KillAccount account;
    std::map<std::int64_t, std::int64_t> last;  // caller → n

    void record(const KillAck& ack) {
        const std::lock_guard lock(mutex);
        account.record(ack);
        last[ack.caller] = ack.n;
    }
    std::int64_t last_of(int caller) {
        const std::lock_guard lock(mutex);
        return last[caller];
    }
};

/// A writer at work.
class Writer {
public:
    Writer(
        Told& told,
        const std::string& url,
        const std::string& direct,
        const std::vector<int>& callers
    )
        : told_(told) {
        int pipe[2];
        if (::pipe2(pipe, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
        std::vector<std::string> words{
            std::string(ANNAL_BINARY_DIR) + "/postgres_kill_writer", url, direct};
        for (const int caller : callers) words.push_back(std::to_string(caller));
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        process_ = ::fork();
        if (process_ == 0) {
            ::dup2(pipe[1], STDOUT_FILENO);
            ::execv(arguments[0], arguments.data());
            ::_exit(127);
        }
        ::close(pipe[1]);
        acks_ = pipe[0];
        reader_ = std::thread([this] {
            KillAck ack;
            while (::read(acks_, &ack, sizeof ack) == static_cast<ssize_t>(sizeof ack)) {
                told_.record(ack);
                ++count_;
            }
        });
    }
    ~Writer() {
        if (process_ > 0) kill();
    }

    /// Waits until it was answered once more.
    [[nodiscard]] bool await_ack() {
        const int before = count_;
        return eventually([&] { return count_ > before; });
    }
    void signal(int number) { ::kill(process_, number); }
    /// It must still have been at work.
    void kill() {
        signal(SIGKILL);
        int status = 0;
        EXPECT_EQ(::waitpid(process_, &status, 0), process_);
        EXPECT_TRUE(WIFSIGNALED(status)) << "it gave up with exit code " << WEXITSTATUS(status);
        process_ = 0;
        reader_.join();
        ::close(acks_);
    }

private:
    Told& told_;
    pid_t process_ = 0;
    int acks_ = -1;
    std::atomic<int> count_ = 0;
    std::thread reader_;
};

class PostgresKill : public testing::Test {
protected:
    std::unique_ptr<Writer> writer(const std::vector<int>& callers) {
        return std::make_unique<Writer>(told_, url_, url_, callers);
    }
    std::unique_ptr<Writer> far_writer(const std::vector<int>& callers) {
        return std::make_unique<Writer>(told_, proxy_.url(name()), url_, callers);
    }
    /// Once nothing of what the killed ones have begun goes on.
    void check() {
        Session beside(url_);
        EXPECT_TRUE(eventually([&] {
            return beside.number(
                       "SELECT count(*) FROM pg_stat_activity WHERE datname = "
                       "current_database() AND application_name = 'annal'"
                   ) == 0;
        }));
        expect_none(Account().problems(url_));
        Node node(url_);
        expect_none(told_.account.problems(node.store()));
    }
    std::int64_t committed(int caller) {
        Node node(url_);
        const auto row = run_task(
            node->kv_get("plugin.chaos", KillUnit::project_of(caller), std::to_string(caller))
        );
        return row.value() ? std::atoll(row.value()->c_str()) : 0;
    }
    [[nodiscard]] std::string name() const {
        const auto begin = url_.find("///") + 3;
        return url_.substr(begin, url_.find('?') - begin);
    }

    const std::string url_ = shared_cluster().create_database();
    TcpProxy proxy_{shared_cluster().socket_path()};
    Told told_;
};

TEST_F(PostgresKill, InTheMiddleOfAppendsWhileTheOtherGoesOn) {
    const auto seed = test_seed();
    std::mt19937 random(seed);
    // Callers 0 and 3 append to one log, from two nodes.
    const std::vector<std::vector<int>> callers{{0, 1}, {2, 3}};
    std::unique_ptr<Writer> writers[2] = {writer(callers[0]), writer(callers[1])};
    for (int i = 0; i < 20 && !HasFailure(); ++i) {
        for (auto& each : writers) ASSERT_TRUE(each->await_ack()) << "kill " << i;
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 80'000));
        const std::size_t victim = random() % 2;
        writers[victim]->kill();
        writers[victim] = writer(callers[victim]);
    }
    for (auto& each : writers) ASSERT_TRUE(each->await_ack());
    for (auto& each : writers) each->kill();
    check();
}

// The next process finds the unit committed: it is answered as a replay, and stored once.
TEST_F(PostgresKill, BetweenCommitAndAnswer) {
    for (int i = 0; i < 5; ++i) {
        auto first = far_writer({0});
        ASSERT_TRUE(first->await_ack());
        proxy_.cut_on(kCommit, TcpProxy::Lost::answer, TcpProxy::Then::silence);
        ASSERT_TRUE(proxy_.await_cut(60s));
        first->kill();
        proxy_.cut();
        EXPECT_EQ(committed(0), told_.last_of(0) + 1);
        auto second = writer({0});
        ASSERT_TRUE(second->await_ack());
        second->kill();
    }
    check();
}

// A process that stands still between its rows and its COMMIT: the server ends its transaction, so
// that the other node has to wait for seconds, and no longer. When it goes on, nothing is wrong.
TEST_F(PostgresKill, StoppedBetweenRowsAndCommit) {
    auto stopped = far_writer({0});
    ASSERT_TRUE(stopped->await_ack());
    proxy_.cut_on(kCommit, TcpProxy::Lost::request, TcpProxy::Then::silence);
    ASSERT_TRUE(proxy_.await_cut(60s));
    stopped->signal(SIGSTOP);
    auto other = writer({3});
    const auto waited = time_of([&] { EXPECT_TRUE(other->await_ack()); });
    std::printf("the other node waited %lld ms\n", static_cast<long long>(waited.count()));
    EXPECT_GT(waited, 2s) << "it had nothing to wait for";
    ASSERT_TRUE(other->await_ack());
    stopped->signal(SIGCONT);
    proxy_.cut();
    EXPECT_TRUE(stopped->await_ack());
    stopped->kill();
    other->kill();
    check();
}

}  // namespace
}  // namespace annal::test
