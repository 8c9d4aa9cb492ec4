// Programs on a disk that loses what was not synced: first some that show that the layer bites,
// then the store, a few hundred times.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <random>

#include "runtime/store/sqlite/check.h"
#include "tests/chaos/store_kill_account.h"

namespace annal::test {
namespace {

namespace fs = std::filesystem;

constexpr int kPowerLossExit = 99;

struct Plan {
    std::uint64_t seed = 1;
    std::uint64_t lose_after = 0;
    bool ignore_sync = false;
};

/// How a program ended.
struct Ending {
    int code = -1;
    std::uint64_t lost_sectors = 0, lost_names = 0;
};

class PowerLoss : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (fs::temp_directory_path() / "annal-power-XXXXXX").string();
        base_ = ::mkdtemp(pattern.data());
        new_disk();
    }
    void TearDown() override {
        std::error_code error;
        fs::remove_all(base_, error);
    }

    void new_disk() {
        fs::remove_all(disk());
        fs::create_directory(disk());
    }
    [[nodiscard]] fs::path disk() const { return base_ / "disk"; }

    /// Runs a program of the build folder on the disk; `read` gets its standard output to read.
    template <class Read>
    Ending run(const Plan& how, const std::vector<std::string>& words, Read read) {
        fs::remove(disk().string() + ".loss");
        int pipe[2];
        if (::pipe2(pipe, O_CLOEXEC) != 0) {
            return {};
        }
        const std::string program = std::string(ANNAL_BINARY_DIR) + "/" + words.front();
        std::vector<char*> arguments{const_cast<char*>(program.c_str())};
        for (std::size_t i = 1; i < words.size(); ++i) {
            arguments.push_back(const_cast<char*>(words[i].c_str()));
        }
        arguments.push_back(nullptr);
        const pid_t child = ::fork();
        if (child == 0) {
            set_environment(how);
            ::dup2(pipe[1], STDOUT_FILENO);
            ::execv(program.c_str(), arguments.data());
            ::_exit(127);
        }
        ::close(pipe[1]);
        read(pipe[0]);
        ::close(pipe[0]);
        int status = 0;
        ::waitpid(child, &status, 0);
        Ending ending;
        ending.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
        std::ifstream(disk().string() + ".loss") >> ending.lost_sectors >> ending.lost_names;
        return ending;
    }

    void set_environment(const Plan& how) const {
        const std::string layer = std::string(ANNAL_BINARY_DIR) + "/libsimulated_disk.so";
        ::setenv("LD_PRELOAD", layer.c_str(), 1);
        ::setenv("ANNAL_DISK_ROOT", disk().c_str(), 1);
        ::setenv("ANNAL_DISK_SEED", std::to_string(how.seed).c_str(), 1);
        ::setenv("ANNAL_DISK_LOSE_AFTER", std::to_string(how.lose_after).c_str(), 1);
        if (how.ignore_sync) {
            ::setenv("ANNAL_DISK_IGNORE_SYNC", "1", 1);
        }
        // The layer comes before the sanitizer's library, which minds.
        const char* const options = ::getenv("ASAN_OPTIONS");
        const std::string more = options == nullptr ? "" : std::string(options) + ":";
        ::setenv("ASAN_OPTIONS", (more + "verify_asan_link_order=0").c_str(), 1);
    }

    fs::path base_;
};

class CarelessPrograms : public PowerLoss {
protected:
    /// Runs in which a letter that was said to be safe is not on the disk.
    int runs_with_loss(const std::string& how, bool ignore_sync = false) {
        int losses = 0;
        for (std::uint64_t seed = 1; seed <= 25; ++seed) {
            new_disk();
            std::string said;
            const Plan plan{seed, 40 + seed, ignore_sync};
            const auto ending = run(plan, {"careless_writer", disk(), how}, [&](int from) {
                char letter = 0;
                while (::read(from, &letter, 1) == 1) {
                    said += letter;
                }
            });
            EXPECT_EQ(ending.code, kPowerLossExit);
            EXPECT_FALSE(said.empty());
            losses += is_safe(how, said) ? 0 : 1;
        }
        return losses;
    }

    [[nodiscard]] bool is_safe(const std::string& how, const std::string& said) const {
        if (how == "replace" || how == "hasty") {
            const std::string now = content("file");
            return now == std::string(3'000, said.back()) ||
                   now == std::string(3'000, static_cast<char>(said.back() + 1));
        }
        return std::all_of(said.begin(), said.end(), [this](char letter) {
            return content(std::string(1, letter)) == std::string(3'000, letter);
        });
    }

    [[nodiscard]] std::string content(const std::string& name) const {
        std::ifstream in(disk() / name, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
};

TEST_F(CarelessPrograms, LoseWhatTheyDidNotSync) {
    EXPECT_GE(runs_with_loss("nothing"), 20);
}

TEST_F(CarelessPrograms, LoseFilesWhoseFolderTheyDidNotSync) {
    EXPECT_GE(runs_with_loss("file"), 10);
}

TEST_F(CarelessPrograms, LoseWhatTheyRenamedBeforeItWasSynced) {
    EXPECT_GE(runs_with_loss("hasty"), 10);
}

TEST_F(CarelessPrograms, LoseNothingWhenTheySyncAsTheyShould) {
    EXPECT_EQ(runs_with_loss("all"), 0);
    EXPECT_EQ(runs_with_loss("replace"), 0);
}

TEST_F(CarelessPrograms, LoseEvenThatOnADiskThatLies) {
    EXPECT_GE(runs_with_loss("all", true), 20);
}

class StorePowerLoss : public PowerLoss {
protected:
    /// Runs the writer until power is lost.
    Ending write_until_loss(const Plan& how, int segment_events, int minutes) {
        const std::vector<std::string> words = {
            "store_kill_writer",
            (disk() / "data").string(),
            std::to_string(segment_events),
            std::to_string(minutes)};
        return run(how, words, [this](int from) {
            KillAck ack;
            while (::read(from, &ack, sizeof ack) == static_cast<ssize_t>(sizeof ack)) {
                account_.record(ack);
            }
        });
    }

    /// Loses power again and again on the same data, which begins anew now and then.
    void lose_often(int at_least, int segment_events, int minutes, std::uint64_t calls_max) {
        const std::uint64_t seed = std::random_device()();
        std::mt19937_64 random(seed);
        Ending sum;
        std::int64_t acknowledged = 0;
        // Few losses hit a name that is not synced: it goes on until one has.
        int i = 0;
        for (; (i < at_least || sum.lost_names == 0) && i < 4 * at_least && !HasFailure(); ++i) {
            SCOPED_TRACE("loss " + std::to_string(i) + ", seed " + std::to_string(seed));
            if (i % kLossesPerDisk == 0) {
                acknowledged += account_.acknowledged();
                account_ = {};
                new_disk();
            }
            // The first calls of a run make or recover things: they are hit more often than others.
            const std::uint64_t calls = random() % 3 == 0 ? 250 : calls_max;
            const auto ending =
                write_until_loss({random(), random() % calls}, segment_events, minutes);
            ASSERT_EQ(ending.code, kPowerLossExit);
            sum.lost_sectors += ending.lost_sectors;
            sum.lost_names += ending.lost_names;
            // Every second time the next writer itself recovers, and may lose power over it.
            if (i % 2 == 0 || (i + 1) % kLossesPerDisk == 0) {
                for (const std::string& problem : account_.problems(disk() / "data")) {
                    ADD_FAILURE() << problem;
                }
                expect_sound();
            }
        }
        acknowledged += account_.acknowledged();
        EXPECT_GT(acknowledged, i);
        EXPECT_GT(sum.lost_sectors, static_cast<std::uint64_t>(i));
        EXPECT_GT(sum.lost_names, 0U);
        std::printf(
            "%d losses of power, seed %llu: %lld units acknowledged, %llu sectors and %llu names "
            "lost\n",
            i,
            static_cast<unsigned long long>(seed),
            static_cast<long long>(acknowledged),
            static_cast<unsigned long long>(sum.lost_sectors),
            static_cast<unsigned long long>(sum.lost_names)
        );
    }

    /// Digests, leaves, chains and counts, of the store at rest.
    void expect_sound() const {
        CheckObserver observer;
        observer.problem = [](const CheckProblem& problem) {
            ADD_FAILURE() << problem.file << " " << problem.project << ": " << problem.what;
        };
        const auto report = check_sqlite_store(disk() / "data", observer);
        EXPECT_TRUE(report.has_value());
    }

    static constexpr int kLossesPerDisk = 6;
    KillAccount account_;
};

TEST_F(StorePowerLoss, WhileItAppends) {
    lose_often(70, 20'000, 1, 2'000);
}

TEST_F(StorePowerLoss, WhileSegmentsAreClosedSealedAndErasedIn) {
    lose_often(80, 120, 1, 2'500);
}

TEST_F(StorePowerLoss, WhileMonthsEnd) {
    lose_often(70, 400, 24 * 60, 2'500);
}

TEST_F(StorePowerLoss, IsNoticedOnADiskThatLies) {
    int noticed = 0;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
        account_ = {};
        new_disk();
        (void)write_until_loss({seed, 1'500 + seed * 37, true}, 120, 1);
        noticed += account_.problems(disk() / "data").empty() ? 0 : 1;
    }
    EXPECT_GE(noticed, 6);
}

}  // namespace
}  // namespace annal::test
