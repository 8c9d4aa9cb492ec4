#include "runtime/plugin/outbound_queue.h"

#include <gtest/gtest.h>

#include <map>

namespace annal {
namespace {

std::unique_ptr<OutboundJob> job(const std::string& host) {
    auto out = std::make_unique<OutboundJob>();
    out->destination = Destination::read("http://" + host + "/").value();
    return out;
}

class OutboundQueueTest : public testing::Test {
protected:
    void push(OutboundQueue& queue, const std::string& host, int count) {
        for (int i = 0; i < count; ++i) {
            auto one = job(host);
            ASSERT_TRUE(queue.push(one));
        }
    }
    /// The hosts of what begins until nothing can.
    std::vector<std::string> begin_all(OutboundQueue& queue) {
        std::vector<std::string> out;
        while (auto next = queue.next(
                   [this](const OutboundQueue::Host& host, const OutboundJob&) {
                       return resolved.contains(host.key);
                   },
                   [this](OutboundQueue::Host& host) { asked.push_back(host.key); }
               )) {
            out.push_back(next->host->key);
        }
        return out;
    }
    std::map<std::string, bool> resolved;
    std::vector<std::string> asked;
};

TEST_F(OutboundQueueTest, HostsTakeTurns) {
    OutboundQueue queue({100, 100, 100});
    push(queue, "10.0.0.1", 3);
    push(queue, "10.0.0.2", 1);
    push(queue, "10.0.0.3", 2);
    EXPECT_EQ(
        begin_all(queue),
        (std::vector<std::string>{
            "10.0.0.1:80",
            "10.0.0.2:80",
            "10.0.0.3:80",
            "10.0.0.1:80",
            "10.0.0.3:80",
            "10.0.0.1:80"})
    );
    EXPECT_EQ(queue.waiting(), 0U);
    EXPECT_EQ(queue.active(), 6U);
}

TEST_F(OutboundQueueTest, OneHostAloneGetsItsMaximumAndNoMore) {
    OutboundQueue queue({1'024, 64, 1'000});
    push(queue, "10.0.0.1", 1'000);
    EXPECT_EQ(begin_all(queue).size(), 64U);
    queue.ended("10.0.0.1:80");
    EXPECT_EQ(begin_all(queue).size(), 1U);
    EXPECT_EQ(queue.waiting(), 935U);
}

TEST_F(OutboundQueueTest, HostsThatHangLeaveRoom) {
    OutboundQueue queue({1'024, 64, 1'000});
    for (int i = 0; i < 300; ++i)
        push(queue, "10.0." + std::to_string(i / 100) + "." + std::to_string(i % 100), 64);
    EXPECT_LE(begin_all(queue).size(), 1'024U - 32U) << "none of them ever ends";
    for (int i = 0; i < 30; ++i) push(queue, "10.1.0." + std::to_string(i), 1);
    EXPECT_EQ(begin_all(queue).size(), 30U) << "and others begin at once";
}

TEST_F(OutboundQueueTest, IsNeverFullerThanItsTotal) {
    OutboundQueue queue({16, 8, 100});
    for (int i = 0; i < 50; ++i) push(queue, "10.0.0." + std::to_string(i), 10);
    EXPECT_EQ(begin_all(queue).size(), 16U);
    EXPECT_EQ(begin_all(queue).size(), 0U);
}

TEST_F(OutboundQueueTest, OneHostDoesNotFillTheQueue) {
    OutboundQueue queue({1, 1, 2});
    push(queue, "10.0.0.1", 2);
    auto third = job("10.0.0.1");
    EXPECT_FALSE(queue.push(third));
    EXPECT_NE(third, nullptr) << "it is still there to be told";
    push(queue, "10.0.0.2", 1);
}

TEST_F(OutboundQueueTest, NamesWaitForTheirAddressesAndHoldUpNobody) {
    OutboundQueue queue({10, 10, 10});
    push(queue, "slow.example", 2);
    push(queue, "10.0.0.1", 1);
    EXPECT_EQ(begin_all(queue), (std::vector<std::string>{"10.0.0.1:80"}));
    EXPECT_EQ(asked, (std::vector<std::string>{"slow.example:80"}));
    resolved["slow.example:80"] = true;
    EXPECT_TRUE(begin_all(queue).empty()) << "out of turn until it is told";
    queue.resume(*queue.find("slow.example:80"));
    EXPECT_EQ(begin_all(queue).size(), 2U);
}

TEST_F(OutboundQueueTest, WhatIsOverIsTakenOut) {
    OutboundQueue queue({1, 1, 10});
    push(queue, "10.0.0.1", 2);
    push(queue, "10.0.0.2", 1);
    const auto of_first = [](const OutboundQueue::Host& host, const OutboundJob&) {
        return host.key == "10.0.0.1:80";
    };
    EXPECT_EQ(queue.remove_if(of_first).size(), 2U);
    EXPECT_EQ(queue.waiting(), 1U);
    EXPECT_EQ(begin_all(queue), (std::vector<std::string>{"10.0.0.2:80"}));
    queue.forget_if([](const OutboundQueue::Host&) { return true; });
    EXPECT_EQ(queue.hosts(), 1U) << "what is under way is kept";
    queue.ended("10.0.0.2:80");
    queue.forget_if([](const OutboundQueue::Host&) { return true; });
    EXPECT_EQ(queue.hosts(), 0U);
}

}  // namespace
}  // namespace annal
