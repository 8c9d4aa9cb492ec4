// kill -9 in the middle of appends, again and again: what was acknowledged is there, once, without
// a hole, and what commits together is together.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "runtime/core/limits.h"
#include "runtime/core/metrics.h"
#include "runtime/core/task_impl.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/chaos/store_kill_plan.h"

namespace annal::test {
namespace {

namespace fs = std::filesystem;

template <class T>
Task<void> keep_result(Task<T> task, std::optional<T>& result) {
    result.emplace(co_await std::move(task));
}

template <class T>
T run(Task<T> task) {
    std::optional<T> result;
    boost::asio::io_context io;
    boost::asio::co_spawn(io, keep_result(std::move(task), result), boost::asio::detached);
    io.run();
    return std::move(*result);
}

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
    /// in acks_.
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

    void record(const KillAck& ack) {
        ++acknowledged_;
        const auto [known, is_new] = acks_[ack.caller].emplace(ack.n, ack.first_seq);
        // A replay answers what was answered before.
        EXPECT_EQ(known->second, ack.first_seq) << "caller " << ack.caller << " unit " << ack.n;
        if (ack.erased != kNoSeq) {
            erased_[KillUnit::project_of(static_cast<int>(ack.caller))].insert(ack.erased);
        }
    }

    void check() {
        SystemClock clock;
        Metrics metrics;
        SqliteOptions options;
        options.directory = directory_ / "data";
        options.segment_events_max = 1'000'000;
        auto opened = open_sqlite_store(options, clock, metrics);
        ASSERT_TRUE(opened.has_value()) << opened.error().detail;
        EventStore& store = *opened.value();
        std::map<std::string, std::map<std::string, Seq>> by_name;  // project → external id → seq
        for (int p = 0; p < 3; ++p) {
            const std::string project = "p" + std::to_string(p);
            read_log(store, project, by_name[project]);
        }
        for (int caller = 0; caller < kKillCallers; ++caller) {
            check_caller(store, caller, by_name[KillUnit::project_of(caller)]);
        }
        store.close();
    }

    void read_log(
        EventStore& store, const std::string& project, std::map<std::string, Seq>& names
    ) {
        ScanRequest request;
        request.project = project;
        request.newest_first = false;
        request.tombstones = true;
        request.limit = kPageMax;
        request.budget = std::chrono::minutes(1);
        Seq expected = 0;
        TimeUs last_at = 0;
        while (true) {
            const auto page = run(store.scan(request));
            ASSERT_TRUE(page.has_value()) << page.error().detail;
            for (const Event& event : page.value().batch.events) {
                ASSERT_EQ(event.seq, expected++) << "a hole in " << project;
                ASSERT_GT(event.created_at, last_at);
                last_at = event.created_at;
                if (event.deleted) {
                    tombstones_[project].insert(event.seq);
                    continue;
                }
                const std::string name(event[Column::external_id].view());
                ASSERT_TRUE(names.emplace(name, event.seq).second) << name << " is there twice";
                ASSERT_FALSE(erased_[project].contains(event.seq)) << name << " was erased";
            }
            if (page.value().exhausted) {
                break;
            }
            request.after = page.value().scanned;
        }
        const auto total = run(store.count(project, {}, std::chrono::seconds(10)));
        EXPECT_EQ(total.value().count, static_cast<std::int64_t>(names.size()));
    }

    void check_caller(EventStore& store, int caller, const std::map<std::string, Seq>& names) {
        const std::string project = KillUnit::project_of(caller);
        const auto row = run(store.kv_get("plugin.chaos", project, std::to_string(caller)));
        const auto cursor = run(store.cursor("chaos" + std::to_string(caller)));
        ASSERT_TRUE(row.has_value() && cursor.has_value());
        const std::int64_t committed = row.value() ? std::atoll(row.value()->c_str()) : 0;
        EXPECT_EQ(cursor.value(), committed == 0 ? kNoSeq : committed);
        const auto& acks = acks_[caller];
        const std::int64_t answered = acks.empty() ? 0 : acks.rbegin()->first;
        EXPECT_GE(committed, answered) << "an acknowledged unit is lost";
        EXPECT_LE(committed, answered + 1);
        for (std::int64_t n = 1; n <= committed + 1; ++n) {
            const int count = KillUnit::count_of(caller, n);
            for (int i = 0; i < count; ++i) {
                const std::string name =
                    std::to_string(caller) + "/" + std::to_string(n) + "/" + std::to_string(i);
                const auto found = names.find(name);
                const auto ack = acks.find(n);
                if (n > committed) {
                    ASSERT_TRUE(found == names.end()) << name << " without its kv row";
                } else if (i > 0) {  // the first one may have been erased
                    ASSERT_TRUE(found != names.end()) << name << " is lost";
                    if (ack != acks.end()) {
                        ASSERT_EQ(found->second, ack->second + i) << name;
                    }
                } else if (found == names.end() && ack != acks.end()) {
                    ASSERT_TRUE(tombstones_[project].contains(ack->second)) << name << " is lost";
                }
            }
        }
    }

    void kill_often(int times, int segment_events, std::uint32_t seed) {
        std::mt19937 random(seed);
        for (int i = 0; i < times; ++i) {
            SCOPED_TRACE("kill " + std::to_string(i) + ", seed " + std::to_string(seed));
            run_and_kill(segment_events, std::chrono::microseconds(random() % 120'000));
            if (HasFatalFailure()) {
                return;
            }
            // Every second time the next writer itself recovers, with the keeper of the last one
            // cut off.
            if (i % 2 == 0 || i + 1 == times) {
                check();
            }
            if (HasFatalFailure()) {
                return;
            }
        }
        EXPECT_GT(acknowledged_, times);
    }

    fs::path directory_;
    std::map<std::int64_t, std::map<std::int64_t, Seq>> acks_;  // caller → n → first seq
    std::map<std::string, std::set<Seq>> erased_, tombstones_;
    std::int64_t acknowledged_ = 0;
};

TEST_F(StoreKill, FortyTimesInTheMiddleOfAppends) {
    kill_often(40, 20'000, 1);
}

TEST_F(StoreKill, FortyTimesWhileSegmentsAreClosedAndSealed) {
    kill_often(40, 150, 2);
}

}  // namespace
}  // namespace annal::test
