#include "runtime/store/postgres/wake_ups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <future>

#include "tests/support/postgres_cluster.h"
#include "tests/support/tcp_proxy.h"

namespace annal::postgres {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr auto kPatience = 30s;

/// What a node was told.
class Heard {
public:
    WakeUps::Appended listener() {
        return [this](const std::vector<std::string>& projects) {
            const std::lock_guard lock(mutex_);
            told_.push_back(projects);
            changed_.notify_all();
        };
    }
    /// The next thing that it is told.
    std::optional<std::vector<std::string>> next(std::chrono::milliseconds patience = kPatience) {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_for(lock, patience, [this] { return told_.size() > seen_; }))
            return std::nullopt;
        return told_[seen_++];
    }
    std::size_t count() {
        const std::lock_guard lock(mutex_);
        return told_.size();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::vector<std::string>> told_;
    std::size_t seen_ = 0;
};

class WakeUpsTest : public testing::Test {
protected:
    WakeUpsTest() {
        for (auto* node : {&a_, &b_}) {
            (*node)->wake_ups.on_appended((*node)->heard.listener());
            // Each new connection may have missed something.
            EXPECT_THAT((*node)->heard.next(), testing::Optional(IsEmpty()));
        }
    }
    struct Node {
        Node(const std::string& url, Watchdog& watchdog)
            : wake_ups({url, 5s, 10'000ms}, watchdog, metrics) {}
        Metrics metrics;
        Heard heard;
        WakeUps wake_ups;
    };

    const std::string url_ = test::shared_cluster().create_database();
    Watchdog watchdog_;
    std::unique_ptr<Node> a_ = std::make_unique<Node>(url_, watchdog_);
    std::unique_ptr<Node> b_ = std::make_unique<Node>(url_, watchdog_);
};

TEST_F(WakeUpsTest, OtherNodesAreToldWhichProjects) {
    a_->wake_ups.note({"p", "q"});
    EXPECT_THAT(b_->heard.next(), testing::Optional(ElementsAre("p", "q")));
    b_->wake_ups.note({"r"});
    EXPECT_THAT(a_->heard.next(), testing::Optional(ElementsAre("r")));
    EXPECT_EQ(b_->heard.count(), 2U) << "a node does not hear itself";
}

TEST_F(WakeUpsTest, ManyAppendsAreOneWakeUp) {
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 2'000; ++i) a_->wake_ups.note({"p" + std::to_string(i % 10)});
    a_->wake_ups.note({"last"});
    std::size_t told = 0;
    for (bool last = false; !last; ++told) {
        const auto projects = b_->heard.next();
        ASSERT_TRUE(projects.has_value());
        last = std::find(projects->begin(), projects->end(), "last") != projects->end();
    }
    const auto took = std::chrono::steady_clock::now() - begin;
    EXPECT_LE(told, 2 + static_cast<std::size_t>(took / 20ms));
}

TEST_F(WakeUpsTest, TooManyProjectsAreAllOfThem) {
    std::set<std::string> projects;
    for (int i = 0; i < 1'000; ++i) projects.insert("project_" + std::to_string(i));
    a_->wake_ups.note(projects);
    EXPECT_THAT(b_->heard.next(), testing::Optional(IsEmpty()));
}

TEST_F(WakeUpsTest, ANewConnectionMayHaveMissedEverything) {
    test::shared_cluster().sql(
        url_,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()"
    );
    EXPECT_THAT(a_->heard.next(), testing::Optional(IsEmpty()));
    EXPECT_THAT(b_->heard.next(), testing::Optional(IsEmpty()));
    std::optional<std::vector<std::string>> heard;
    do {  // that the other has a new connection may come first, or with it
        a_->wake_ups.note({"p"});
        heard = b_->heard.next();
    } while (heard == std::vector<std::string>());
    EXPECT_THAT(heard, testing::Optional(ElementsAre("p")));
}

/// A node behind a network of its own.
class WakeUpsBehindANetwork : public testing::Test {
protected:
    WakeUpsBehindANetwork() {
        wake_ups_.on_appended(heard_.listener());
        EXPECT_THAT(heard_.next(), testing::Optional(IsEmpty()));
    }

    test::TcpProxy proxy_{test::shared_cluster().socket_path()};
    Watchdog watchdog_;
    Metrics metrics_;
    Heard heard_;
    WakeUps wake_ups_{{proxy_.url("postgres"), 5s, 10'000ms}, watchdog_, metrics_};
};

TEST_F(WakeUpsBehindANetwork, OthersMakeUpForWhatWasLostOnItsWay) {
    Metrics metrics;
    Heard other;
    WakeUps direct({test::shared_cluster().url("postgres"), 5s, 10'000ms}, watchdog_, metrics);
    direct.on_appended(other.listener());
    EXPECT_THAT(other.next(), testing::Optional(IsEmpty()));
    proxy_.cut_on("pg_notify", test::TcpProxy::Lost::request);
    wake_ups_.note({"p"});
    ASSERT_TRUE(proxy_.await_cut(10s));
    EXPECT_THAT(other.next(10s), testing::Optional(IsEmpty()));
}

TEST_F(WakeUpsBehindANetwork, SaysWhetherItHears) {
    const auto says = [this](const std::string& value) {
        const std::string line = "annal_postgres_wake_ups_connected " + value;
        const auto end = std::chrono::steady_clock::now() + kPatience;
        while (metrics_.render().find("\n" + line) == std::string::npos) {
            if (std::chrono::steady_clock::now() > end) return false;
            std::this_thread::sleep_for(10ms);
        }
        return true;
    };
    EXPECT_TRUE(says("1"));
    proxy_.refuse();
    proxy_.cut();
    EXPECT_TRUE(says("0"));
    proxy_.resume();
    EXPECT_TRUE(says("1"));
}

TEST_F(WakeUpsBehindANetwork, AServerThatSaysNothingDoesNotHoldTheEndUp) {
    proxy_.stall();
    auto stopped = std::async(std::launch::async, [this] { wake_ups_.stop(); });
    EXPECT_EQ(stopped.wait_for(15s), std::future_status::ready);
    proxy_.resume();
}

}  // namespace
}  // namespace annal::postgres
