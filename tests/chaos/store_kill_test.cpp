// kill -9 in the middle of appends, again and again: what was acknowledged is there, once, without
// a hole, and what commits together is together.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <thread>

#include "tests/chaos/store_kill_account.h"

namespace annal::test {
namespace {

namespace fs = std::filesystem;

class StoreKill : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-kill-XXXXXX").string();
        directory_ = ::mkdtemp(pattern.data());
    }
    void TearDown() override {
        std::error_code error;
        fs::remove_all(directory_, error);
    }

    /// Runs a writer and kills it `delay` after its first acknowledgement. What it acknowledged is
    /// in account_.
    void run_and_kill(int segment_events, std::chrono::microseconds delay) {
        int pipe[2];
        ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
        const std::string program = std::string(ANNAL_BINARY_DIR) + "/store_kill_writer";
        const std::string data = (directory_ / "data").string();
        const std::string events = std::to_string(segment_events);
        const pid_t child = ::fork();
        if (child == 0) {
            ::dup2(pipe[1], STDOUT_FILENO);
            ::execl(program.c_str(), program.c_str(), data.c_str(), events.c_str(), nullptr);
            ::_exit(127);
        }
        ASSERT_GT(child, 0);
        ::close(pipe[1]);
        KillAck ack;
        ASSERT_EQ(::read(pipe[0], &ack, sizeof ack), static_cast<ssize_t>(sizeof ack))
            << "the writer ended before its first acknowledgement";
        record(ack);
        std::thread killer([child, delay] {
            std::this_thread::sleep_for(delay);
            ::kill(child, SIGKILL);
        });
        while (::read(pipe[0], &ack, sizeof ack) == static_cast<ssize_t>(sizeof ack)) {
            record(ack);
        }
        killer.join();
        ::close(pipe[0]);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status))
            << "the writer gave up with exit code " << WEXITSTATUS(status);
    }

    void record(const KillAck& ack) { account_.record(ack); }

    void check() {
        for (const std::string& problem : account_.problems(directory_ / "data")) {
            ADD_FAILURE() << problem;
        }
    }

    void kill_often(int times, int segment_events, std::uint32_t seed) {
        std::mt19937 random(seed);
        for (int i = 0; i < times; ++i) {
            SCOPED_TRACE("kill " + std::to_string(i) + ", seed " + std::to_string(seed));
            run_and_kill(segment_events, std::chrono::microseconds(random() % 120'000));
            if (HasFailure()) {
                return;
            }
            // Every second time the next writer itself recovers, with the keeper of the last one
            // cut off.
            if (i % 2 == 0 || i + 1 == times) {
                check();
            }
            if (HasFailure()) {
                return;
            }
        }
        EXPECT_GT(account_.acknowledged(), times);
    }

    fs::path directory_;
    KillAccount account_;
};

TEST_F(StoreKill, FortyTimesInTheMiddleOfAppends) {
    kill_often(40, 20'000, 1);
}

TEST_F(StoreKill, FortyTimesWhileSegmentsAreClosedAndSealed) {
    kill_often(40, 150, 2);
}

}  // namespace
}  // namespace annal::test
