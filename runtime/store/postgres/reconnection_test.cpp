#include "runtime/store/postgres/reconnection.h"

#include <gtest/gtest.h>

#include <thread>

namespace annal::postgres {
namespace {

using namespace std::chrono_literals;
using Clock = Reconnection::Clock;

Error failure(const char* why) {
    return {Errc::unavailable, why, {}, 1'000};
}

/// How long it refuses from now on.
Clock::duration refused_for(const Reconnection& reconnection) {
    const auto begun = Clock::now();
    while (reconnection.refusal()) std::this_thread::sleep_for(1ms);
    return Clock::now() - begun;
}

TEST(Reconnection, LetsAnyoneTryAtFirst) {
    EXPECT_FALSE(Reconnection().refusal());
}

TEST(Reconnection, SaysWhyTheLastAttemptFailed) {
    Reconnection reconnection;
    reconnection.note_failure(failure("no room"), Clock::now());
    ASSERT_TRUE(reconnection.refusal());
    EXPECT_EQ(reconnection.refusal()->detail, "no room");
}

TEST(Reconnection, WaitsTheLongerTheMoreOftenItFailed) {
    Reconnection reconnection;
    for (const auto expected : {100ms, 200ms, 400ms}) {
        reconnection.note_failure(failure("refused"), Clock::now());
        EXPECT_GT(refused_for(reconnection), expected - 50ms);
    }
}

TEST(Reconnection, CountsAttemptsOfTheSameTimeAsOne) {
    Reconnection reconnection;
    for (int i = 0; i < 16; ++i) reconnection.note_failure(failure("refused"), Clock::now());
    EXPECT_LT(refused_for(reconnection), 500ms);
}

TEST(Reconnection, OpensForAllWhenOneGotIn) {
    Reconnection reconnection;
    reconnection.note_failure(failure("refused"), Clock::now());
    reconnection.note_success();
    EXPECT_FALSE(reconnection.refusal());
}

TEST(Reconnection, LearnsNothingFromAnAttemptOfBeforeThat) {
    Reconnection reconnection;
    const auto begun = Clock::now();
    reconnection.note_success();
    reconnection.note_failure(failure("refused"), begun);
    EXPECT_FALSE(reconnection.refusal());
}

}  // namespace
}  // namespace annal::postgres
