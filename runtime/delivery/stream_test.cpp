#include "runtime/delivery/testing_stream.h"

namespace annal::stream_test {
namespace {

TEST_F(StreamTest, DeliversTheBacklogThenWhatFollowsInOrder) {
    append(35);
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 35; }));
    append(7);
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 42; }));
    stop();
    EXPECT_EQ(to.seqs, range(0, 41));
    EXPECT_EQ(to.overlaps, 0U);
    EXPECT_EQ(committed(), 41);
    const std::string labels = "{project=\"p\",stream=\"memory/all\"}";
    EXPECT_TRUE(shows("annal_stream_delivered_events_total" + labels + " 42"));
    EXPECT_TRUE(shows("annal_stream_lag_seconds" + labels + " 0"));
    EXPECT_TRUE(shows("annal_stream_blocked" + labels + " 0"));
}

TEST_F(StreamTest, GoesOnBehindItsCursorAfterARestart) {
    append(5);
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 5; }));
    stop();
    append(5);
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 10; }));
    stop();
    EXPECT_EQ(to.seqs, range(0, 9));
}

TEST_F(StreamTest, DoesNotSendWhatTheDestinationHolds) {
    append(10);
    to.held = 6;
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 3; }));
    stop();
    EXPECT_EQ(to.seqs, range(7, 9));
}

TEST_F(StreamTest, RefusesADestinationThatIsAheadOfTheLog) {
    append(3);
    to.held = 10;
    start();
    ASSERT_TRUE(eventually([&] { return stream->status().state == "blocked"; }));
    EXPECT_NE(
        stream->status().last_error.find("holds seq 10 but the log ends at 2"), std::string::npos
    );
    EXPECT_TRUE(to.seqs.empty());
    EXPECT_EQ(stream->status().lag_events, 3) << "who can't begin lags, too";
}

TEST_F(StreamTest, ADestinationThatKnowsSeqsOnlyFollowsNoOtherEpoch) {
    host.store.epoch_name = "one";
    append(3);
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 3; }));
    stop();
    host.store.epoch_name = "two";
    host.environment.go_on_after_failover = true;
    append(3);
    start();
    ASSERT_TRUE(in_state("blocked"));
    EXPECT_NE(stream->status().last_error.find("make a new stream"), std::string::npos);
    EXPECT_EQ(to.seqs, range(0, 2));
}

TEST_F(StreamTest, StartsAtTheHeadWhenAskedTo) {
    append(4);
    trigger.from = EventsTrigger::From::latest;
    start();
    ASSERT_TRUE(eventually([&] { return stream->status().state == "active"; }));
    append(2);
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 2; }));
    stop();
    append(1);
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 3; }));
    EXPECT_EQ(to.seqs, range(4, 6));
}

TEST_F(StreamTest, RetriesWithTheIdenticalBytes) {
    append(3);
    to.verdicts = {ANNAL_RETRY, 99 /* unknown: a retry */};
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 3; }));
    stop();
    ASSERT_EQ(to.payloads.size(), 3U);
    EXPECT_EQ(to.payloads[0], "0\n1\n2\n");
    EXPECT_EQ(to.payloads[1], to.payloads[0]);
    EXPECT_EQ(to.payloads[2], to.payloads[0]);
    EXPECT_EQ(to.seqs, range(0, 2));
}

TEST_F(StreamTest, TakesABadIndexForARetry) {
    append(2);
    to.bad_index = true;
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 2; }));
    EXPECT_EQ(to.payloads.size(), 2U);
}

TEST_F(StreamTest, BlocksOnARejectedEventAndNeverSkipsIt) {
    append(2);
    to.poison = {0, 1};
    start();
    ASSERT_TRUE(eventually([&] { return stream->status().state == "blocked"; }));
    append(5);
    std::this_thread::sleep_for(100ms);
    EXPECT_TRUE(to.seqs.empty());
    EXPECT_TRUE(shows("annal_stream_blocked{project=\"p\",stream=\"memory/all\"} 1"));
    EXPECT_FALSE(shows("annal_stream_lag_seconds{project=\"p\",stream=\"memory/all\"} 0"));
    stop();
    EXPECT_EQ(committed(), kNoSeq);
}

TEST_F(StreamTest, WaitsForASinkThatMissedItsDeadlineBeforeItSendsAgain) {
    make_sink(50'000);
    append(2);
    to.keep_next = true;
    start();
    ASSERT_TRUE(eventually([&] {
        return stream->status().last_error.find("missed its deadline") != std::string::npos;
    }));
    EXPECT_EQ(to.payloads.size(), 1U) << "nothing may be sent while the sink holds the batch";
    {
        const std::lock_guard lock(to.mutex);
        --to.in_send;
    }
    to.kept->done(to.kept->d, ANNAL_DELIVERED, nullptr, 0, nullptr);
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 2; })) << "too late counts as a retry";
    EXPECT_EQ(to.overlaps, 0U);
}

TEST_F(StreamTest, SendsATombstoneInPlaceOfADeletedEvent) {
    append(3);
    append(1, "audit_log.entry.deleted", {1});
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 4; }));
    EXPECT_TRUE(to.deleted_seen);
    EXPECT_EQ(to.payloads[0], "0\n1 deleted\n2\n3\n");
}

TEST_F(StreamTest, DeliversOnlyWhatItsPatternsSelect) {
    trigger.patterns = {parse_pattern("auth.*").value()};
    append(2, "auth.signin_attempt");
    append(2, "session.created");
    append(1, "auth.step_up.done");
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 3; }));
    EXPECT_EQ(to.seqs, (std::vector<std::int64_t>{0, 1, 4}));
}

TEST_F(StreamTest, SplitsABatchWhoseEncodedFormIsTooLarge) {
    trigger.batch_bytes_max = 5;
    append(9);
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 9; }));
    EXPECT_EQ(to.seqs, range(0, 8));
    for (const std::string& payload : to.payloads) EXPECT_LE(payload.size(), 5U);
}

TEST_F(StreamTest, SurvivesAStoreThatFailsForAWhile) {
    append(3);
    host.store.fail_reads(Error{Errc::unavailable, "down"}, 3);
    start();
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 3; }));
    // Its cursor too: the next append to fail is the test's own.
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 2; }));
    host.store.fail_appends(Error{Errc::unavailable, "disk full"}, 1);
    EXPECT_FALSE(host.run(host.appender.append([] {
                         AppendUnit unit;
                         unit.project = "p";
                         return unit;
                     }()))
                     .has_value());
    append(1);
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 4; }));
    EXPECT_EQ(to.seqs, range(0, 3));
}

TEST_F(StreamTest, SaysOnceThatTheStoreFailsAndIsActiveAgainAfterwards) {
    trigger.patterns = {parse_pattern("nobody.sends_this").value()};
    start();
    ASSERT_TRUE(in_state("active"));
    testing::internal::CaptureStderr();
    // Two scans, and the measure between them.
    host.store.fail_reads(Error{Errc::unavailable, "down"}, 3);
    append(1);
    ASSERT_TRUE(in_state("retrying"));
    EXPECT_TRUE(in_state("active")) << "though there is nothing to deliver";
    const std::string logged = testing::internal::GetCapturedStderr();
    const auto first = logged.find("stream.scan_failed");
    ASSERT_NE(first, std::string::npos) << logged;
    EXPECT_EQ(logged.find("stream.scan_failed", first + 1), std::string::npos) << logged;
}

TEST_F(StreamTest, StandsByWhileAnotherNodeHasTheLease) {
    host.limits.lease_ms = 300;
    ASSERT_TRUE(ask_as_other().mine);
    append(3);
    start();
    ASSERT_TRUE(in_state("standby"));
    append(2);
    std::this_thread::sleep_for(300ms);
    EXPECT_TRUE(to.payloads.empty());
    EXPECT_EQ(committed(), kNoSeq);
    EXPECT_TRUE(shows("annal_stream_standby" + std::string(kLabels) + " 1"));
    EXPECT_TRUE(shows("annal_stream_lag_events" + std::string(kLabels) + " 0"));
    release("other");
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 5; }));
    ASSERT_TRUE(in_state("active"));
    EXPECT_TRUE(shows("annal_stream_standby" + std::string(kLabels) + " 0"));
    stop();
    EXPECT_EQ(committed(), 4);
}

TEST_F(StreamTest, TakesOverBehindTheOtherNodesCursor) {
    host.limits.lease_ms = 300;
    append(6);
    const Lease other = ask_as_other();
    start();
    ASSERT_TRUE(in_state("standby"));
    // What it did before it was gone, and after this stream had begun to wait.
    ASSERT_TRUE(move_as_other(2, other.fence).has_value());
    EXPECT_TRUE(to.payloads.empty());
    ASSERT_EQ(ask_as_other(1ms).fence, other.fence);  // its last renewal
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 3; }));
    EXPECT_EQ(to.seqs, range(3, 5));
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 5; }));
    EXPECT_FALSE(move_as_other(5, other.fence).has_value());
}

// It has not heard yet that the lease is another's: the next renewal is five seconds away.
TEST_F(StreamTest, AStaleOwnersCommitIsRefusedAndItSendsNothingMore) {
    append(15);
    to.keep_next = true;
    start();
    ASSERT_TRUE(eventually([&] { return to.kept != nullptr; }));
    const Lease other = give_lease_to_other();
    ASSERT_TRUE(move_as_other(3, other.fence).has_value());
    answer_kept(ANNAL_DELIVERED);
    ASSERT_TRUE(in_state("standby"));
    append(5);
    std::this_thread::sleep_for(300ms);
    EXPECT_EQ(to.payloads.size(), 1U);
    EXPECT_EQ(committed(), 3);
    EXPECT_EQ(stream->status().state, "standby");
    stop();
    EXPECT_EQ(ask_as_other().fence, other.fence) << "stopping ends nobody else's lease";
}

TEST_F(StreamTest, ABatchIsNotTriedAgainAfterTheLeaseWasLost) {
    host.limits.lease_ms = 300;
    append(4);
    to.keep_next = true;
    start();
    ASSERT_TRUE(eventually([&] { return to.kept != nullptr; }));
    const Lease other = give_lease_to_other();
    const auto asked = host.store.leases_asked.load();
    ASSERT_TRUE(eventually([&] { return host.store.leases_asked >= asked + 2; }));
    answer_kept(ANNAL_RETRY);
    ASSERT_TRUE(in_state("standby"));
    std::this_thread::sleep_for(700ms);  // longer than the first back-off
    EXPECT_EQ(to.payloads.size(), 1U);
    // When the lease comes back, so does the batch: as the cursor says, not as it was in hand.
    ASSERT_TRUE(move_as_other(1, other.fence).has_value());
    release("other");
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 2; }));
    EXPECT_EQ(to.seqs, range(2, 3));
    EXPECT_EQ(to.overlaps, 0U);
}

TEST_F(StreamTest, RenewsItsLeaseWhileASlowSinkWorks) {
    host.limits.lease_ms = 2'000;
    append(2);
    to.keep_next = true;
    start();
    ASSERT_TRUE(eventually([&] { return to.kept != nullptr; }));
    const auto asked = host.store.leases_asked.load();
    ASSERT_TRUE(eventually([&] { return host.store.leases_asked >= asked + 4; }));
    EXPECT_FALSE(ask_as_other().mine);
    answer_kept(ANNAL_DELIVERED);
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 1; }));
    EXPECT_EQ(to.payloads.size(), 1U);
}

TEST_F(StreamTest, SendsNothingWhileItsLeaseHasRunOut) {
    host.limits.lease_ms = 300;
    append(1);
    start();
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 0; }));
    host.store.fail_leases(Error{Errc::unavailable, "the store is away"}, INT32_MAX);
    std::this_thread::sleep_for(600ms);
    append(3);
    ASSERT_TRUE(in_state("retrying"));
    ASSERT_TRUE(eventually([&] {
        return stream->status().last_error.find("the store is away") != std::string::npos;
    }));
    EXPECT_EQ(to.payloads.size(), 1U);
    host.store.fail_leases({}, 0);
    ASSERT_TRUE(eventually([&] { return to.seqs.size() == 4; }));
    EXPECT_EQ(to.seqs, range(0, 3));
    ASSERT_TRUE(in_state("active"));
}

TEST_F(StreamTest, ALeaseThatRanOutUnderAnAttemptHoldsBackItsCommitOnly) {
    host.limits.lease_ms = 300;
    append(2);
    to.keep_next = true;
    start();
    ASSERT_TRUE(eventually([&] { return to.kept != nullptr; }));
    host.store.fail_leases(Error{Errc::unavailable, "the store is away"}, INT32_MAX);
    std::this_thread::sleep_for(600ms);
    answer_kept(ANNAL_DELIVERED);
    ASSERT_TRUE(in_state("retrying"));
    EXPECT_EQ(committed(), kNoSeq);
    host.store.fail_leases({}, 0);
    // Nobody took the lease meanwhile: nothing is sent twice.
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 1; }));
    EXPECT_EQ(to.payloads.size(), 1U);
}

TEST_F(StreamTest, ReleasesItsLeaseWhenItStops) {
    append(1);
    start();
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 0; }));
    EXPECT_FALSE(ask_as_other().mine);
    stop();
    EXPECT_TRUE(ask_as_other().mine);
}

TEST_F(StreamTest, StopsWhileTheStoreGrantsNoLease) {
    host.store.fail_leases(Error{Errc::unavailable, "the store is away"}, INT32_MAX);
    append(1);
    start();
    ASSERT_TRUE(in_state("retrying"));
    stop();
    EXPECT_TRUE(to.payloads.empty());
}

}  // namespace
}  // namespace annal::stream_test
