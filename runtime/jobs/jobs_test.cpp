#include "runtime/jobs/jobs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/thread_pool.hpp>
#include <condition_variable>
#include <thread>

#include "runtime/core/log.h"
#include "tests/support/test_host.h"

namespace annal::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

/// A job of this process; its runs are a test's lambda.
struct TestJob {
    std::function<void(annal_call*, std::string trigger)> on_run;
    const annal_host* host = nullptr;
    std::atomic<int> runs{0}, at_once{0}, most_at_once{0};

    static TestJob*& creating() {
        static TestJob* job = nullptr;
        return job;
    }
    static annal_status create(const annal_init* init, void** self, annal_error*) {
        creating()->host = init->host;
        *self = creating();
        return ANNAL_OK;
    }
    static void destroy(void*) {}
    static void run(void* self, annal_call* call, annal_str trigger, std::int64_t) {
        auto& job = *static_cast<TestJob*>(self);
        const int now = ++job.at_once;
        if (now > job.most_at_once) job.most_at_once = now;
        ++job.runs;
        job.on_run(call, std::string(to_view(trigger)));
        --job.at_once;
    }
    static const Module& module() {
        static const annal_job_v1 table{sizeof(table), 0, &create, &destroy, &run};
        static const annal_component component{
            sizeof(component), 0, ANNAL_COMPONENT_JOB, "test", "{}", &table, nullptr};
        static const annal_component* const components[] = {&component};
        static const annal_module descriptor{
            sizeof(descriptor),
            ANNAL_ABI_MAJOR,
            ANNAL_ABI_MINOR,
            "test",
            "1",
            "test",
            "test",
            1,
            0,
            components};
        static const Module module{&descriptor, {}, {}};
        return module;
    }
};

/// One node; several may share the host's store.
struct Node {
    Node(TestHost& shared, std::string name, std::vector<ScheduleTrigger> schedules)
        : environment(shared.environment), jobs(environment, pool) {
        environment.node = std::move(name);
        environment.clock = &clock;
        manifest.instance = "sweeper";
        manifest.timeout_us = INT64_MAX / 4;  // calls are timed by another clock than the node's
        manifest.schedules = std::move(schedules);
        job.on_run = [this](annal_call* call, const std::string&) {
            job.host->complete(call, nullptr);
        };
        TestJob::creating() = &job;
        auto made = Instance::create(manifest, TestJob::module(), environment);
        EXPECT_TRUE(made.has_value()) << made.error().detail;
        EXPECT_TRUE(jobs.add(std::move(made.value())).has_value());
    }
    ~Node() { pool.join(); }

    HostEnvironment environment;
    ManualClock clock{1'773'500'000'000'000};
    Manifest manifest;
    TestJob job;
    boost::asio::thread_pool pool{1};
    Jobs jobs;
};

class JobsTest : public testing::Test {
protected:
    template <class Condition>
    static bool soon(Condition condition) {
        for (int i = 0; i < 1'000 && !condition(); ++i) std::this_thread::sleep_for(10ms);
        return condition();
    }
    /// A run that lasts until `end`.
    void begin(Node& node) {
        node.job.on_run = [this](annal_call* call, const std::string&) { waiting_ = call; };
        run_.emplace(host_.threads.start(node.jobs.run("sweeper", "daily")));
        ASSERT_TRUE(soon([&] { return waiting_.load() != nullptr; }));
    }
    void end(Node& node) {
        node.job.host->complete(waiting_, nullptr);
        EXPECT_TRUE(run_->get().has_value());
    }
    bool is_cancelled(Node& node) { return node.job.host->cancelled(waiting_) != 0; }
    /// What another node would be told.
    Lease ask_as_other() {
        LeaseRequest request{"host.jobs", "sweeper", "node_b", 1ms};
        return host_.run(host_.store.lease(request)).value();
    }
    static constexpr std::int64_t kDay = 86'400 * kSecondUs;
    TestHost host_;
    std::atomic<annal_call*> waiting_{nullptr};
    std::optional<PendingTask<Result<JobRun>>> run_;
};

TEST_F(JobsTest, RunsAtTheStartAndWhenItsTimeHasCome) {
    Node node(host_, "node_a", {{"daily", kDay, true, 1}});
    node.jobs.start();
    ASSERT_TRUE(soon([&] { return node.job.runs == 1; }));
    node.clock.advance(kDay - kSecondUs);
    std::this_thread::sleep_for(1s);
    EXPECT_EQ(node.job.runs, 1) << "a second is missing";
    node.clock.advance(kSecondUs);
    EXPECT_TRUE(soon([&] { return node.job.runs == 2; }));
    host_.run(node.jobs.stop());
}

TEST_F(JobsTest, WhatIsNotForTheStartWaitsAndARestartDoesNotBeginAnew) {
    {
        Node node(host_, "node_a", {{"daily", kDay, false, 1}});
        node.jobs.start();
        std::this_thread::sleep_for(700ms);
        EXPECT_EQ(node.job.runs, 0);
        node.clock.advance(kDay);
        ASSERT_TRUE(soon([&] { return node.job.runs == 1; }));
        host_.run(node.jobs.stop());
        node.jobs.clear();
    }
    Node again(host_, "node_a", {{"daily", kDay, false, 1}});
    again.clock.advance(kDay + kDay / 2);
    again.jobs.start();
    std::this_thread::sleep_for(700ms);
    EXPECT_EQ(again.job.runs, 0) << "half of its time is left";
    again.clock.advance(kDay / 2);
    EXPECT_TRUE(soon([&] { return again.job.runs == 1; }));
    host_.run(again.jobs.stop());
}

TEST_F(JobsTest, OfTwoNodesOneDoesIt) {
    Node a(host_, "node_a", {{"daily", kDay, false, 1}}),
        b(host_, "node_b", {{"daily", kDay, false, 1}});
    a.jobs.start();
    b.jobs.start();
    a.clock.advance(kDay);
    b.clock.advance(kDay);
    ASSERT_TRUE(soon([&] { return a.job.runs + b.job.runs >= 1; }));
    std::this_thread::sleep_for(1s);
    EXPECT_EQ(a.job.runs + b.job.runs, 1);
    host_.run(a.jobs.stop());
    host_.run(b.jobs.stop());
}

TEST_F(JobsTest, WhoAsksGetsTheReportAndTheRecordStays) {
    Node node(host_, "node_a", {{"daily", kDay, false, 1}, {"dry-run", 0, false, 2}});
    node.job.on_run = [&](annal_call* call, const std::string& trigger) {
        const std::string report = "{\"asked\":\"" + trigger + "\"}";
        EXPECT_EQ(node.job.host->report(call, to_abi(std::string_view("[1]"))), ANNAL_INVALID);
        EXPECT_EQ(node.job.host->report(call, to_abi(std::string_view(report))), ANNAL_OK);
        node.job.host->complete(call, nullptr);
    };
    const auto run = host_.run(node.jobs.run("sweeper", "dry-run"));
    ASSERT_TRUE(run.has_value()) << run.error().detail;
    EXPECT_EQ(run.value().report, "{\"asked\":\"dry-run\"}");
    EXPECT_EQ(run.value().error, "");
    EXPECT_EQ(run.value().node, "node_a");
    const auto list = host_.run(node.jobs.list()).value();
    ASSERT_EQ(list.size(), 2U);
    EXPECT_FALSE(list[0].last);
    ASSERT_TRUE(list[1].last);
    EXPECT_EQ(list[1].last->report, run.value().report);
    const auto none = host_.run(node.jobs.run("sweeper", "weekly"));
    ASSERT_TRUE(none.has_error());
    EXPECT_EQ(none.error().code, Errc::not_found);
    EXPECT_THAT(none.error().detail, HasSubstr("sweeper/daily, sweeper/dry-run"));
}

TEST_F(JobsTest, AFailedRunIsOnRecordWithItsReason) {
    Node node(host_, "node_a", {{"daily", kDay, false, 1}});
    node.job.on_run = [&](annal_call* call, const std::string&) {
        const annal_error error = to_abi(Error{Errc::unavailable, "the broom is broken"});
        node.job.host->complete(call, &error);
    };
    const auto run = host_.run(node.jobs.run("sweeper", "daily"));
    ASSERT_TRUE(run.has_value());
    EXPECT_EQ(run.value().error, "the broom is broken");
    EXPECT_EQ(host_.run(node.jobs.list()).value()[0].last->error, "the broom is broken");
}

TEST_F(JobsTest, NeverTwiceAtOnce) {
    Node node(host_, "node_a", {{"daily", kDay, false, 1}, {"other", kDay, false, 2}});
    ASSERT_NO_FATAL_FAILURE(begin(node));
    const auto second = host_.run(node.jobs.run("sweeper", "other"));
    ASSERT_TRUE(second.has_error());
    EXPECT_EQ(second.error().code, Errc::conflict);
    end(node);
    EXPECT_EQ(node.job.runs, 1);
}

TEST_F(JobsTest, ALongRunKeepsItsLeaseAndAShortOneHoldsNobodyUp) {
    host_.limits.lease_ms = 2'000;
    Node node(host_, "node_a", {{"daily", kDay, false, 1}});
    ASSERT_NO_FATAL_FAILURE(begin(node));
    std::this_thread::sleep_for(3s);
    const Lease lease = ask_as_other();
    EXPECT_FALSE(lease.mine) << "longer than it lasts by itself";
    EXPECT_LE(lease.left, 2s) << "so long others wait when the node dies";
    end(node);
    EXPECT_TRUE(ask_as_other().mine);
}

TEST_F(JobsTest, ARunWhoseLeaseIsGoneIsCancelled) {
    host_.limits.lease_ms = 2'000;
    Node node(host_, "node_a", {{"daily", kDay, false, 1}});
    ASSERT_NO_FATAL_FAILURE(begin(node));
    EXPECT_FALSE(is_cancelled(node));
    host_.store.fail_leases({Errc::unavailable, "the store is away"}, 1'000);
    EXPECT_TRUE(soon([&] { return is_cancelled(node); }));
    end(node);
}

TEST_F(JobsTest, ARunThatNeverEndsHoldsOthersUpForItsTimeoutOnly) {
    host_.limits.lease_ms = 2'000;
    Node node(host_, "node_a", {{"daily", kDay, false, 1}});
    ASSERT_NO_FATAL_FAILURE(begin(node));
    node.clock.advance(node.manifest.timeout_us + kSecondUs);
    EXPECT_TRUE(soon([&] { return ask_as_other().mine; }));
    EXPECT_TRUE(soon([&] { return is_cancelled(node); }));
    end(node);
}

TEST_F(JobsTest, AStopTellsTheRunAndWaitsForIt) {
    Node node(host_, "node_a", {{"daily", kDay, true, 1}});
    std::atomic<annal_call*> given{nullptr};
    std::atomic<bool> told{false};
    node.job.on_run = [&](annal_call* call, const std::string&) { given = call; };
    std::thread worker([&] {
        while (given == nullptr || node.job.host->cancelled(given) == 0)
            std::this_thread::sleep_for(5ms);
        told = true;
        node.job.host->complete(given, nullptr);
    });
    node.jobs.start();
    EXPECT_TRUE(soon([&] { return node.job.runs == 1; }));
    host_.run(node.jobs.stop());
    worker.join();
    EXPECT_TRUE(told);
}

}  // namespace
}  // namespace annal::test
