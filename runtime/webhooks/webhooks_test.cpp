#include "runtime/webhooks/webhooks.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "runtime/webhooks/event_bodies.h"
#include "runtime/webhooks/testing_webhooks.h"

namespace annal {
namespace {

using webhooks_test::Status;
using webhooks_test::WebhooksTest;
using namespace std::chrono_literals;

boost::json::object metadata_of(const Event& event) {
    return boost::json::parse(event[Column::metadata].view()).as_object();
}

// --- endpoints that fail

TEST_F(WebhooksTest, NothingButFailuresForTooLongDisables) {
    receiver.answer("/e", 500);
    start();
    const std::string id = create("/e");
    append();
    ASSERT_TRUE(eventually([&] { return state(id).failing_since != kNoTime; }));
    EXPECT_FALSE(is_disabled(id));
    clock.skip_wall(options.disable_after + 1h);
    ASSERT_TRUE(after_rests([&] { return is_disabled(id); }));
    const EventBatch told = recorded("webhook.endpoint.disabled");
    ASSERT_EQ(told.events.size(), 1U);
    EXPECT_EQ(told.events[0][Column::target_id].view(), id);
    EXPECT_EQ(told.events[0][Column::actor_type].view(), "system");
    EXPECT_EQ(
        metadata_of(told.events[0]).at("reason").as_string(), "nothing but failures for 121 hours"
    );
    ASSERT_TRUE(eventually([&] { return state(id).failing_since == kNoTime; }));
    // What waits stays, and what comes is not put aside.
    const std::size_t attempts = receiver.count("/e");
    append();
    const std::string other = create("/other");
    append();
    ASSERT_TRUE(eventually([&] { return has_all(other, 1); }));
    EXPECT_EQ(queued(id), 1U);
    EXPECT_EQ(receiver.count("/e"), attempts);
    receiver.answer("/e", 200);
    ASSERT_TRUE(enable(id, true));
    EXPECT_TRUE(after_rests([&] { return has_all(id, 1); }));
}

TEST_F(WebhooksTest, OneSuccessInBetweenBeginsAnew) {
    receiver.answer("/e", 500);
    start();
    const std::string id = create("/e");
    append();
    ASSERT_TRUE(eventually([&] { return state(id).failing_since != kNoTime; }));
    receiver.answer("/e", 200);
    ASSERT_TRUE(after_rests([&] { return has_all(id, 1); }));
    EXPECT_EQ(state(id).failing_since, kNoTime);
    clock.skip_wall(options.disable_after + 1h);
    const TimeUs later = clock.wall_us();
    receiver.answer("/e", 500);
    const Seq seq = append();
    ASSERT_TRUE(after_rests([&] { return receiver.seqs("/e")[seq] > 3; }));
    ASSERT_TRUE(eventually([&] { return state(id).failing_since != kNoTime; }));
    EXPECT_GE(state(id).failing_since, later);
    EXPECT_FALSE(is_disabled(id));
}

TEST_F(WebhooksTest, ADisablingThatTheStoreRefusesIsTriedAgain) {
    receiver.answer("/e", 500);
    start();
    const std::string id = create("/e");
    append();
    ASSERT_TRUE(eventually([&] { return state(id).failing_since != kNoTime; }));
    // The attempt that is too many ends while nothing can be written.
    receiver.hold("/e");
    ASSERT_TRUE(after_rests([&] { return receiver.held() == 1; }));
    clock.skip_wall(options.disable_after + 1h);
    host.store.fail_appends({Errc::unavailable, "the disk is full"}, 1'000'000);
    const std::int64_t refused = host.store.appends;
    receiver.answer("/e", 500);
    ASSERT_TRUE(eventually([&] { return host.store.appends > refused + 2; }));
    host.store.fail_appends({}, 0);
    EXPECT_TRUE(after_rests([&] { return is_disabled(id); }));
    EXPECT_EQ(recorded("webhook.endpoint.disabled").events.size(), 1U);
}

TEST_F(WebhooksTest, ADeliveryFailsAfterItsWholeScheduleAndGoesOnWhenItIsReplayed) {
    receiver.answer("/e", 500);
    start();
    const std::string id = create("/e");
    const Seq seq = append();
    ASSERT_TRUE(after_rests([&] { return failed(id).size() == 1; }));
    WebhookDelivery delivery = host.run(webhooks->deliveries().get(kProject, {id, seq})).value();
    EXPECT_EQ(delivery.status, Status::failed);
    EXPECT_EQ(delivery.attempts, 13);
    EXPECT_NE(delivery.ended_at, kNoTime);
    EXPECT_EQ(delivery.next_at, kNoTime);
    EXPECT_EQ(queued(id), 0U);
    EXPECT_EQ(receiver.count("/e"), 13U);
    auto attempts = host.run(webhooks->deliveries().attempts(kProject, delivery)).value();
    ASSERT_EQ(attempts.size(), 13U);
    for (std::size_t i = 0; i < attempts.size(); ++i) {
        EXPECT_EQ(attempts[i].number, static_cast<std::int64_t>(i) + 1);
        EXPECT_EQ(attempts[i].status, 500) << attempts[i].error;
        EXPECT_EQ(attempts[i].answer, "said");
    }

    const auto replayed = host.run(webhooks->replay(kProject, {id, seq}, kActor));
    ASSERT_TRUE(replayed) << replayed.error().detail;
    EXPECT_EQ(replayed.value().status, Status::pending);
    ASSERT_TRUE(after_rests([&] { return receiver.count("/e") >= 15; }));
    receiver.answer("/e", 200);
    ASSERT_TRUE(after_rests([&] { return has_all(id, 1); }));
    EXPECT_TRUE(failed(id).empty());
    delivery = delivered(id).at(0);
    EXPECT_EQ(delivery.attempts, static_cast<std::int64_t>(receiver.count("/e")));
    EXPECT_GT(delivery.attempts, 15);
    EXPECT_EQ(delivery.replays, 1);
    attempts = host.run(webhooks->deliveries().attempts(kProject, delivery)).value();
    ASSERT_EQ(attempts.size(), receiver.count("/e"));
    EXPECT_EQ(attempts[13].number, 14);
    EXPECT_TRUE(attempts.back().succeeded());
    std::set<std::string> ids;
    for (const auto& request : receiver.requests("/e")) ids.insert(request.header("webhook-id"));
    EXPECT_EQ(ids.size(), 1U);
    EXPECT_EQ(recorded("webhook.delivery.replayed").events.size(), 1U);
}

TEST_F(WebhooksTest, WhatEndedLongerAgoThanItIsKeptIsPurged) {
    receiver.answer("/e", 500);
    start();
    const std::string id = create("/e"), other = create("/other");
    const Seq seq = append(2);
    ASSERT_TRUE(after_rests([&] { return failed(id).size() == 2 && has_all(other, 2); }));
    EXPECT_EQ(rows(WebhookDelivery::kAttempts, id).size(), 26U);
    clock.skip_wall(options.keep - 1h);
    receiver.answer("/e", 200);
    const auto replayed = host.run(webhooks->replay(kProject, {id, seq}, kActor));
    ASSERT_TRUE(replayed);
    ASSERT_TRUE(after_rests([&] { return delivered(id).size() == 1; }));
    // The other one is older than that, and this one not.
    clock.skip_wall(2h);
    clock.skip_monotonic(2h);
    nudge();
    ASSERT_TRUE(eventually([&] { return failed(id).empty() && delivered(other).empty(); }));
    ASSERT_EQ(delivered(id).size(), 1U);
    EXPECT_EQ(delivered(id)[0].id.seq, seq);
    EXPECT_EQ(rows(WebhookDelivery::kAttempts, id).size(), 13U);
    clock.skip_wall(options.keep);
    clock.skip_monotonic(2h);
    nudge();
    ASSERT_TRUE(eventually([&] { return delivered(id).empty(); }));
    EXPECT_TRUE(rows(WebhookDelivery::kAttempts, id).empty());
}

TEST_F(WebhooksTest, AnEndpointWhoseSecretCantBeOpenedGetsNothing) {
    start();
    const std::string id = create("/sealed");
    stop();
    load(other_box, board);
    webhooks->start();
    const std::string open = create("/open");
    append(3);
    ASSERT_TRUE(eventually([&] { return has_all(open, 3); }));
    ASSERT_TRUE(eventually([&] { return queued(id) == 3; }));
    EXPECT_EQ(receiver.count("/sealed"), 0U);
    EXPECT_EQ(state(id).failing_since, kNoTime);
    stop();
    start();
    ASSERT_TRUE(eventually([&] { return has_all(id, 3); }));
    EXPECT_EQ(receiver.seqs("/sealed").size(), 3U);
    for (const WebhookDelivery& each : delivered(id)) EXPECT_EQ(each.attempts, 1);
}

// --- fan-out

TEST_F(WebhooksTest, ManyEndpointsGetOneEvent) {
    constexpr int kEndpoints = 200;
    start();
    std::vector<std::string> ids;
    for (int i = 0; i < kEndpoints; ++i) ids.push_back(create("/" + std::to_string(i)));
    const Seq seq = append();
    for (int i = 0; i < kEndpoints; ++i) {
        const std::string& id = ids[static_cast<std::size_t>(i)];
        ASSERT_TRUE(eventually([&] { return has_all(id, 1); })) << i;
        EXPECT_EQ(receiver.seqs("/" + std::to_string(i)), (std::map<Seq, int>{{seq, 1}}));
    }
    EXPECT_TRUE(shows("annal_webhook_attempts_total{outcome=\"delivered\",project=\"p\"} 200"));
}

TEST_F(WebhooksTest, AnEndpointGetsWhatComesAfterItsOwnCreation) {
    constexpr int kWriters = 3, kAppends = 40, kEndpoints = 6;
    start();
    append();
    const auto write = [](Appender& appender) -> Task<bool> {
        bool done = true;
        for (int i = 0; i < kAppends; ++i) {
            AppendUnit unit = unit_of(2);
            const auto outcome = co_await appender.append(std::move(unit));
            done = done && outcome.has_value();
        }
        co_return done;
    };
    std::vector<PendingTask<bool>> writers;
    for (int i = 0; i < kWriters; ++i) writers.push_back(host.threads.start(write(host.appender)));
    std::vector<std::string> ids;
    for (int i = 0; i < kEndpoints; ++i) ids.push_back(create("/" + std::to_string(i)));
    for (auto& each : writers) EXPECT_TRUE(each.get());
    append();

    std::map<std::string, Seq> created;
    for (const Event& event : recorded("webhook.endpoint.created").events)
        created[std::string(event[Column::target_id].view())] = event.seq;
    const EventBatch all = recorded("test.happened");
    ASSERT_EQ(all.events.size(), static_cast<std::size_t>(2 + kWriters * kAppends * 2));
    for (int i = 0; i < kEndpoints; ++i) {
        const std::string& id = ids[static_cast<std::size_t>(i)];
        std::map<Seq, int> wanted;
        for (const Event& event : all.events)
            if (event.seq > created.at(id)) wanted[event.seq] = 1;
        ASSERT_TRUE(eventually([&] { return has_all(id, wanted.size()); })) << i;
        EXPECT_EQ(receiver.seqs("/" + std::to_string(i)), wanted) << i;
    }
}

TEST_F(WebhooksTest, ASecondEndpointTakesNothingFromTheFirst) {
    load();  // nothing is shared out yet, and the log is empty
    const std::string first = create("/first");
    append(3);
    const std::string second = create("/second");
    append(2);
    webhooks->start();
    EXPECT_TRUE(eventually([&] { return has_all(first, 5); }));
    EXPECT_TRUE(eventually([&] { return has_all(second, 2); }));
}

TEST_F(WebhooksTest, TheFirstEndpointOfALogTakesNothingThatIsInIt) {
    append(5);
    load();
    const std::string id = create("/e", "*");
    const Seq seq = append();
    webhooks->start();
    ASSERT_TRUE(eventually([&] { return has_all(id, 1); }));
    EXPECT_EQ(receiver.seqs("/e"), (std::map<Seq, int>{{seq, 1}}));
}

TEST_F(WebhooksTest, ACursorBeyondTheLogDeliversNothing) {
    start();
    const std::string id = create("/e");
    append();
    ASSERT_TRUE(eventually([&] { return has_all(id, 1); }));
    stop();
    const Seq before = cursor();
    move_cursor(1'000);
    append(2);
    const std::int64_t asked = host.store.leases_asked;
    start();
    ASSERT_TRUE(eventually([&] { return host.store.leases_asked > asked; }));
    append();
    nudge();
    EXPECT_EQ(queued(id), 0U);
    EXPECT_EQ(receiver.count("/e"), 1U);
    EXPECT_EQ(cursor(), 1'000);
    move_cursor(before);
    EXPECT_TRUE(eventually([&] { return has_all(id, 4); }));
}

TEST_F(WebhooksTest, T7WhatRetentionDroppedBeforeItWasSharedOutIsSaid) {
    start();
    const std::string id = create("/e");
    append();
    ASSERT_TRUE(eventually([&] { return has_all(id, 1); }));
    stop();
    const Seq from = cursor() + 1, first = append(5);
    host.store.drop_before(kProject, first + 3);
    start();
    ASSERT_TRUE(eventually([&] { return has_all(id, 3); }));
    const EventBatch told = recorded("webhook.gap");
    ASSERT_EQ(told.events.size(), 1U);
    EXPECT_EQ(metadata_of(told.events[0]).at("from_seq"), from);
    EXPECT_EQ(metadata_of(told.events[0]).at("to_seq"), first + 2);
    EXPECT_EQ(told.events[0][Column::actor_type].view(), "system");
}

TEST_F(WebhooksTest, T7WhatRetentionDropsAheadOfAFanOutAtWorkIsSaid) {
    host.limits.lease_ms = 3'000;  // the next tenure begins when it is renewed
    start();
    const std::string id = create("/e");
    append();
    ASSERT_TRUE(eventually([&] { return has_all(id, 1); }));
    host.store.fail_reads({Errc::unavailable, "the store is away"}, 1'000'000);
    const Seq first = append(5);
    host.store.drop_before(kProject, first + 3);
    host.store.fail_reads({Errc::unavailable, ""}, 0);
    ASSERT_TRUE(eventually([&] { return has_all(id, 3); }));
    const EventBatch told = recorded("webhook.gap");
    ASSERT_EQ(told.events.size(), 1U);
    EXPECT_EQ(metadata_of(told.events[0]).at("from_seq"), first);
    EXPECT_EQ(metadata_of(told.events[0]).at("to_seq"), first + 2);
    append();
    EXPECT_TRUE(eventually([&] { return has_all(id, 4); }));
}

TEST_F(WebhooksTest, T7AnEndpointWhoseCreationWasDroppedGetsWhatIsLeft) {
    load();
    const std::string id = create("/e");
    const Seq first = append(5);
    host.store.drop_before(kProject, first + 3);
    const std::string later = create("/later");
    append();
    webhooks->start();
    ASSERT_TRUE(eventually([&] { return has_all(id, 3) && has_all(later, 1); }));
    const EventBatch told = recorded("webhook.gap");
    ASSERT_EQ(told.events.size(), 1U);
    EXPECT_EQ(metadata_of(told.events[0]).at("from_seq"), 0);
    EXPECT_EQ(metadata_of(told.events[0]).at("to_seq"), first + 2);
}

// Those behind the cursor are the fan-out's to queue; a recovery is asked for while nobody
// delivers.
TEST_F(WebhooksTest, ARecoveryLeavesToTheFanOutWhatThatHasNotSeen) {
    host.limits.lease_ms = 3'000;
    start();
    const std::string id = create("/e");
    std::size_t posted = 0;
    for (int round = 0; round < 5; ++round) {
        give_lease_to_other();
        ASSERT_TRUE(eventually([&] { return shows("annal_webhook_standby{project=\"p\"} 1"); }));
        append(20);
        posted += 20;
        const auto asked = host.run(webhooks->recover(kProject, id, 0, kActor));
        ASSERT_TRUE(asked) << asked.error().detail;
        release("other");
        ASSERT_TRUE(eventually([&] { return has_all(id, posted); }));
        ASSERT_TRUE(eventually([&] {
            return !host.run(host.store.kv_get(Recovery::kSpace, kProject, id)).value();
        }));
    }
    for (const auto& [seq, times] : receiver.seqs("/e")) EXPECT_EQ(times, 1) << seq;
}

// --- permission

/// A node among others, which hears them when a test says so.
struct NodeOfManyTest : WebhooksTest {
    ManualClock hears{kSecondUs};
    Noticeboard of_many{host.store, hears, Noticeboard::Nodes::many, host.executor};
};

TEST_F(NodeOfManyTest, WhatWaitedForPermissionIsReadAfterwards) {
    ASSERT_TRUE(host.run(of_many.begin()));
    load(box, of_many);
    webhooks->start();
    const std::string id = create("/e");
    append();
    ASSERT_TRUE(eventually([&] { return has_all(id, 1); }));
    hears.advance(Noticeboard::kFresh.count() * 1'000 + 1'000);
    ASSERT_TRUE(of_many.is_stale());
    const Seq seq = append(2);
    ASSERT_TRUE(eventually([&] { return cursor() == seq + 1; }));
    std::this_thread::sleep_for(200ms);
    AppendUnit unit;
    unit.project = kProject;
    unit.erase = {seq};
    ASSERT_TRUE(host.run(host.appender.append(std::move(unit))));
    clock.skip_monotonic(std::chrono::microseconds(EventBodies::kKeptForUs + 1));
    ASSERT_TRUE(host.run(of_many.catch_up()));
    ASSERT_TRUE(eventually([&] { return delivered(id).size() == 2 && queued(id) == 0; }));
    ASSERT_EQ(failed(id).size(), 1U);
    EXPECT_EQ(failed(id)[0].reason, "the event is not in the log any more");
    EXPECT_EQ(receiver.seqs("/e").count(seq), 0U);
}

// --- the lease

TEST_F(WebhooksTest, ALeaseThatWasTakenEndsTheTenureAndLosesNothing) {
    host.limits.lease_ms = 3'000;
    start();
    const std::string id = create("/e");
    const Seq first = append(3);
    ASSERT_TRUE(eventually([&] { return has_all(id, 3); }));
    receiver.hold("/e");
    append(2);
    ASSERT_TRUE(receiver.wait_for("/e", 4));
    ASSERT_TRUE(eventually([&] { return queued(id) == 2; }));
    give_lease_to_other();
    receiver.answer("/e", 200);  // the commit of what comes of this is refused
    append(2);
    ASSERT_TRUE(eventually([&] { return shows("annal_webhook_standby{project=\"p\"} 1"); }));
    EXPECT_EQ(delivered(id).size(), 3U);
    EXPECT_EQ(queued(id), 2U);
    release("other");
    ASSERT_TRUE(eventually([&] { return has_all(id, 7); }));
    for (const WebhookDelivery& each : delivered(id)) EXPECT_EQ(each.attempts, 1);
    std::map<Seq, int> seqs = receiver.seqs("/e");
    EXPECT_EQ(seqs.size(), 7U);
    // What was committed is not sent again.
    for (Seq seq = first; seq < first + 3; ++seq) EXPECT_EQ(seqs[seq], 1) << seq;
    std::map<Seq, std::set<std::string>> ids;
    for (const auto& each : receiver.requests("/e"))
        ids[each.seq()].insert(each.header("webhook-id"));
    for (const auto& [seq, names] : ids) EXPECT_EQ(names.size(), 1U) << seq;
}

TEST_F(WebhooksTest, AnAttemptThatHangsIsGivenUpWithTheLease) {
    host.limits.lease_ms = 300;
    start();
    const std::string id = create("/e");
    receiver.hold("/e");
    append();
    ASSERT_TRUE(receiver.wait_for("/e", 1));
    give_lease_to_other();
    ASSERT_TRUE(eventually([&] { return shows("annal_webhook_standby{project=\"p\"} 1"); }));
    EXPECT_EQ(queued(id), 1U);
    receiver.answer("/e", 200);
    release("other");
    ASSERT_TRUE(eventually([&] { return has_all(id, 1); }));
    EXPECT_EQ(delivered(id)[0].attempts, 1);
}

// A worker is started with the keeper's mutex held, which its tenure asks for.
TEST_F(WebhooksTest, AWorkerWhoseTenureBeginsAtOnceWaitsForNobody) {
    constexpr int kProjects = 200;
    start();
    for (int i = 0; i < kProjects; ++i) {
        Webhooks::Change wanted;
        wanted.url = receiver.url("/e");
        wanted.patterns = parse_patterns("test.*").value();
        const std::string project = "p" + std::to_string(i);
        ASSERT_TRUE(host.run(webhooks->create(project, wanted, kActor))) << i;
    }
}

// --- ends

TEST_F(WebhooksTest, AStopWaitsNoLongerThanItMayForAnEndpointThatHangs) {
    options.drain = 100ms;
    start();
    const std::string id = create("/e");
    receiver.hold("/e");
    const Seq seq = append(2);
    ASSERT_TRUE(receiver.wait_for("/e", 1));
    stop();  // an attempt has much longer here
    EXPECT_EQ(queued(id), 2U);
    EXPECT_TRUE(rows(WebhookDelivery::kRetrying, id).empty());
    load();
    const auto delivery = host.run(webhooks->deliveries().get(kProject, {id, seq})).value();
    EXPECT_EQ(delivery.status, Status::pending);
    EXPECT_EQ(delivery.attempts, 0);
    receiver.answer("/e", 200);
    webhooks->start();
    EXPECT_TRUE(eventually([&] { return has_all(id, 2); }));
}

TEST_F(WebhooksTest, AStopCommitsWhatEndsWithinItsTime) {
    options.drain = 600s;
    start();
    const std::string id = create("/e");
    receiver.hold("/e");
    append();
    ASSERT_TRUE(receiver.wait_for("/e", 1));
    auto stopping = host.threads.start([](Webhooks& w) -> Task<bool> {
        co_await w.stop();
        co_return true;
    }(*webhooks));
    receiver.answer("/e", 200);
    EXPECT_TRUE(stopping.get());
    EXPECT_TRUE(has_all(id, 1));
}

TEST_F(WebhooksTest, ARevocationReturnsWhenNothingIsUnderWay) {
    start();
    const std::string id = create("/e"), other = create("/other");
    receiver.hold("/e");
    append(3);
    ASSERT_TRUE(receiver.wait_for("/e", 1));
    ASSERT_TRUE(eventually([&] { return has_all(other, 3); }));
    const auto done = host.run(webhooks->revoke(kProject, id, kActor));
    ASSERT_TRUE(done) << done.error().detail;
    EXPECT_TRUE(shows("annal_webhook_attempts_under_way{project=\"p\"} 0"));
    const std::size_t sent = receiver.count("/e");
    append();
    ASSERT_TRUE(eventually([&] { return has_all(other, 4); }));
    ASSERT_TRUE(eventually([&] { return queued(id) == 0; }));
    EXPECT_EQ(receiver.count("/e"), sent);
    ASSERT_EQ(failed(id).size(), 3U);
    for (const WebhookDelivery& each : failed(id)) {
        EXPECT_EQ(each.reason, "the endpoint was revoked");
        EXPECT_EQ(each.attempts, 0);
    }
    const auto again = host.run(webhooks->replay(kProject, failed(id)[0].id, kActor));
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, Errc::conflict);
}

TEST_F(WebhooksTest, ADeliveryThatEndsAsItsEndpointIsRevokedHasOneEnd) {
    start();
    for (int round = 0; round < 10; ++round) {
        const std::string path = "/" + std::to_string(round), id = create(path);
        receiver.hold(path);
        append(4);
        ASSERT_TRUE(receiver.wait_for(path, 1));
        host.store.append_delay_ms = round % 3;
        receiver.answer(path, 200);
        ASSERT_TRUE(host.run(webhooks->revoke(kProject, id, kActor)));
        ASSERT_TRUE(eventually([&] { return delivered(id).size() + failed(id).size() >= 4; }));
        ASSERT_TRUE(eventually([&] { return queued(id) == 0; }));
        std::set<Seq> seqs;
        for (const auto& each : delivered(id)) EXPECT_TRUE(seqs.insert(each.id.seq).second);
        for (const auto& each : failed(id)) EXPECT_TRUE(seqs.insert(each.id.seq).second);
        EXPECT_EQ(seqs.size(), 4U);
        EXPECT_TRUE(rows(WebhookDelivery::kRetrying, id).empty());
    }
}

// --- faults

TEST_F(WebhooksTest, AStoreThatFailsNowAndThenDelaysButLosesNothing) {
    constexpr int kRounds = 12, kEach = 25;
    host.limits.lease_ms = 10'000;  // so that one that was refused is soon asked for again
    start();
    const std::string id = create("/e"), slow = create("/slow");
    for (int round = 0; round < kRounds; ++round) {
        append_at_last(kEach);
        host.store.fail_reads({Errc::unavailable, "the disk is away"}, 1 + round % 3);
        host.store.fail_appends({Errc::unavailable, "the disk is full"}, 1 + round % 2);
        host.store.fail_leases({Errc::timeout, "no answer"}, 1);
        (void)host.run(webhooks->reload(kProject));  // it may fail, too
        ASSERT_TRUE(receiver.wait_for("/e", static_cast<std::size_t>(round) + 1));
    }
    host.store.fail_reads({}, 0);
    host.store.fail_appends({}, 0);
    ASSERT_TRUE(eventually([&] { return has_all(id, kRounds * kEach); }));
    ASSERT_TRUE(eventually([&] { return has_all(slow, kRounds * kEach); }));
    for (const char* path : {"/e", "/slow"}) {
        const std::map<Seq, int> seqs = receiver.seqs(path);
        EXPECT_EQ(seqs.size(), static_cast<std::size_t>(kRounds * kEach));
        for (const auto& [seq, times] : seqs) EXPECT_EQ(times, 1) << path << " " << seq;
    }
}

TEST_F(WebhooksTest, AnEndpointThatIsSwitchedOffAndOnGetsAllThatWaits) {
    constexpr int kEvents = 600;  // more than one read of the queue
    start();
    const std::string id = create("/e");
    receiver.hold("/e");
    append(kEvents);
    ASSERT_TRUE(receiver.wait_for("/e", 1));
    ASSERT_TRUE(eventually([&] { return queued(id) == kEvents; }));
    for (int i = 0; i < 5; ++i) {
        ASSERT_TRUE(enable(id, false));
        ASSERT_TRUE(enable(id, true));
    }
    receiver.answer("/e", 200);
    ASSERT_TRUE(eventually([&] { return delivered(id).size() > kEvents / 2; }));
    ASSERT_TRUE(enable(id, false));
    ASSERT_TRUE(enable(id, true));
    ASSERT_TRUE(eventually([&] { return has_all(id, kEvents); }));
    EXPECT_EQ(receiver.seqs("/e").size(), static_cast<std::size_t>(kEvents));
}

}  // namespace
}  // namespace annal
