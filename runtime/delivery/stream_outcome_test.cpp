#include <boost/json.hpp>

#include "runtime/delivery/batch_plan.h"
#include "runtime/delivery/dead_letter.h"
#include "runtime/delivery/testing_stream.h"

namespace annal::stream_test {
namespace {

/// Keeps nothing; writes down what streams tell it.
class NotingKeeper : public StreamKeeper {
public:
    Task<Result<void>> stream_failed(StreamDefinition, std::int64_t fence, std::string why)
        override {
        const std::lock_guard lock(mutex);
        failures.push_back(std::move(why));
        last_fence = fence;
        if (refuse_times > 0) {
            --refuse_times;
            co_return Error{Errc::unavailable, "the store is away"};
        }
        co_return ok();
    }
    Task<Result<void>> replay_done(StreamDefinition, std::int64_t) override {
        const std::lock_guard lock(mutex);
        ++replays_done;
        co_return ok();
    }
    bool is_out_of_date() const override { return out_of_date; }

    std::mutex mutex;
    std::vector<std::string> failures;
    std::int64_t last_fence = 0;
    int replays_done = 0, refuse_times = 0;
    std::atomic<bool> out_of_date{false};
};

struct StreamOutcomeTest : StreamTest {
    NotingKeeper keeper;
    StreamDefinition definition;

    void SetUp() override {
        StreamTest::SetUp();
        trigger.dead_letter = true;
        definition = StreamDefinition::of("memory", "memory", trigger);
    }
    void run_stream(StreamKeeper* with = nullptr) { start(definition, with); }
    void refuse_by_name(
        std::set<std::int64_t> poison, std::set<std::int64_t> again, const char* reason
    ) {
        to.poison = std::move(poison);
        to.again = std::move(again);
        to.names_poison = true;
        to.reason = reason;
    }
    bool delivered(std::size_t count) {
        return eventually([&] { return to.seqs.size() >= count; });
    }
    std::vector<DeadLetter> letters() {
        const auto rows =
            host.run(host.store.kv_scan(DeadLetter::kSpace, "p", "", "", 1'000)).value();
        std::vector<DeadLetter> out;
        for (const KvRow& row : rows) out.push_back(DeadLetter::from_row(row).value());
        return out;
    }
    std::optional<BatchPlan> plan() {
        const auto row = host.run(host.store.kv_get(BatchPlan::kSpace, "p", kSubscription)).value();
        return row ? BatchPlan::from_text(*row) : std::nullopt;
    }
    Seq head() { return host.run(host.store.log_state("p")).value().head_seq; }
    void mark_for_redrive(Seq seq) {
        AppendUnit unit;
        unit.project = "p";
        for (DeadLetter letter : letters()) {
            if (letter.seq != seq) continue;
            letter.redriving = true;
            unit.kv.push_back(
                {KvOp::Kind::put, DeadLetter::kSpace, "p", letter.key(), letter.to_text()}
            );
        }
        ASSERT_EQ(unit.kv.size(), 1U);
        ASSERT_TRUE(host.run(host.appender.append(std::move(unit))).has_value());
        stream->redrive();
    }
    std::vector<std::string> recorded(const std::string& action) {
        ScanRequest request;
        request.project = "p";
        request.newest_first = false;
        request.limit = 100;
        request.filter.actions = {{ActionPattern::Kind::exact, action}};
        auto page = host.run(host.store.scan(std::move(request)));
        std::vector<std::string> metadata;
        for (const Event& event : page.value().batch.events)
            metadata.emplace_back(event[Column::metadata].view());
        return metadata;
    }
};

TEST_F(StreamOutcomeTest, FindsThePoisonousEventByHalvingAndGoesOnWithoutIt) {
    definition.batch_events_max = 64;
    append(100);
    to.poison = {37};
    to.reason = "400: field missing";
    run_stream();
    ASSERT_TRUE(delivered(99));
    stop();
    std::vector<std::int64_t> all = range(0, 99);
    std::erase(all, 37);
    EXPECT_EQ(to.seqs, all) << "in order, each once, but for the one";
    // 64, 32 (0-31 go), 32-…: at most one attempt a halving, and the delivered halves.
    EXPECT_LE(to.payloads.size(), 18U);
    ASSERT_EQ(letters().size(), 1U);
    EXPECT_EQ(letters()[0].seq, 37);
    EXPECT_EQ(letters()[0].stream, "memory/all");
    EXPECT_EQ(letters()[0].reason, "400: field missing");
    EXPECT_EQ(letters()[0].attempts, 1U);
    EXPECT_EQ(committed(), 99);
    EXPECT_TRUE(shows("annal_stream_dead_letters_total" + std::string(kLabels) + " 1"));
    EXPECT_TRUE(shows("annal_stream_delivered_events_total" + std::string(kLabels) + " 99"));
}

TEST_F(StreamOutcomeTest, FindsSeveralPoisonousEvents) {
    definition.batch_events_max = 32;
    append(64);
    to.poison = {0, 13, 14, 31, 63};
    run_stream();
    ASSERT_TRUE(delivered(59));
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 63; }));
    std::vector<std::int64_t> all = range(0, 63);
    for (const std::int64_t seq : to.poison) std::erase(all, seq);
    EXPECT_EQ(to.seqs, all);
    EXPECT_EQ(letters().size(), 5U);
}

TEST_F(StreamOutcomeTest, PassesOverEventsThatAreRefusedByName) {
    append(10);
    refuse_by_name({3, 7}, {}, "odd");
    run_stream();
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 9; }));
    EXPECT_EQ(to.payloads.size(), 1U);
    EXPECT_EQ(to.seqs.size(), 8U);
    ASSERT_EQ(letters().size(), 2U);
    EXPECT_EQ(letters()[1].reason, "odd");
}

TEST_F(StreamOutcomeTest, SendsWhatIsToBeTriedAgainAndNothingThatWasTaken) {
    append(6);
    to.poison = {2};
    to.names_poison = true;
    to.poison_verdict = ANNAL_RETRY;
    run_stream();
    ASSERT_TRUE(eventually([&] { return to.payloads.size() >= 2; }));
    {
        const std::lock_guard lock(to.mutex);
        to.poison.clear();
    }
    ASSERT_TRUE(delivered(6));
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 5; }));
    EXPECT_EQ(to.payloads[0], "0\n1\n2\n3\n4\n5\n");
    EXPECT_EQ(to.payloads[1], "2\n") << "3, 4 and 5 are there already";
    std::vector<std::int64_t> sorted = to.seqs;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, range(0, 5)) << "each once";
    EXPECT_TRUE(letters().empty());
}

TEST_F(StreamOutcomeTest, RecordsWhatIsRefusedBeforeItWaits) {
    append(3);
    refuse_by_name({0, 1}, {1}, "odd");
    to.retry_after_ms = 3'600'000;
    run_stream();
    ASSERT_TRUE(eventually([&] { return !letters().empty(); }));
    EXPECT_EQ(to.payloads.size(), 1U);
    ASSERT_EQ(letters().size(), 1U);
    EXPECT_EQ(letters()[0].seq, 0);
    EXPECT_EQ(committed(), 0);
}

// What it said of the last counts when the one before it is there.
TEST_F(StreamOutcomeTest, ARefusalOfWhatIsErasedByNowIsNotQuoted) {
    append(3);
    refuse_by_name({1, 2}, {1}, "odd: x@example.com");
    run_stream();
    ASSERT_TRUE(in_state("retrying"));
    AppendUnit unit;
    unit.project = "p";
    unit.scrub.push_back({2, Scrub::kAlways});
    ASSERT_TRUE(host.run(host.appender.append(std::move(unit))).has_value());
    {
        const std::lock_guard lock(to.mutex);
        to.poison.clear();
    }
    ASSERT_TRUE(eventually([&] { return !letters().empty(); }));
    EXPECT_EQ(letters()[0].seq, 2);
    EXPECT_EQ(letters()[0].reason, DeadLetter::kErased);
}

TEST_F(StreamOutcomeTest, BlocksInsteadWhenToldTo) {
    definition.on_poison = StreamDefinition::OnPoison::block;
    append(20);
    to.poison = {5};
    to.reason = "400";
    run_stream(&keeper);
    ASSERT_TRUE(in_state("failed"));
    EXPECT_EQ(to.seqs, range(0, 4)) << "everything before it went";
    EXPECT_EQ(committed(), 4);
    EXPECT_TRUE(letters().empty());
    const std::lock_guard lock(keeper.mutex);
    ASSERT_EQ(keeper.failures.size(), 1U);
    EXPECT_EQ(keeper.failures[0], "event 5 is refused: 400");
}

TEST_F(StreamOutcomeTest, ADestinationThatRefusesEverythingIsNotTakenForPoison) {
    append(200);
    for (std::int64_t seq = 0; seq < 200; ++seq) to.poison.insert(seq);
    run_stream(&keeper);
    ASSERT_TRUE(in_state("failed"));
    EXPECT_TRUE(to.seqs.empty());
    EXPECT_LE(letters().size(), 60U) << "the rest stays in the stream";
    EXPECT_GE(letters().size(), 50U);
    EXPECT_EQ(committed(), letters().back().seq);
    const std::lock_guard lock(keeper.mutex);
    ASSERT_EQ(keeper.failures.size(), 1U);
    EXPECT_NE(keeper.failures[0].find("refuses everything"), std::string::npos);
}

TEST_F(StreamOutcomeTest, AConfigurationFaultStopsTheStreamOnceAndKeepsItsCursor) {
    append(3);
    run_stream(&keeper);
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 2; }));
    {
        const std::lock_guard lock(to.mutex);
        to.poison = {3, 4, 5};
        to.poison_verdict = ANNAL_PAUSE;
        to.reason = "401";
    }
    append(3);
    ASSERT_TRUE(in_state("failed"));
    append(3);
    std::this_thread::sleep_for(200ms);
    EXPECT_EQ(to.payloads.size(), 2U) << "nothing is tried until somebody says so";
    EXPECT_EQ(committed(), 2);
    EXPECT_EQ(stream->status().last_error, "401");
    EXPECT_TRUE(shows("annal_stream_blocked" + std::string(kLabels) + " 1"));
    const std::lock_guard lock(keeper.mutex);
    EXPECT_EQ(keeper.failures, std::vector<std::string>{"401"});
    EXPECT_GT(keeper.last_fence, 0);
}

TEST_F(StreamOutcomeTest, SaysAgainThatItFailedUntilThatIsDurable) {
    keeper.refuse_times = 1;
    append(1);
    to.poison = {0};
    to.poison_verdict = ANNAL_PAUSE;
    run_stream(&keeper);
    ASSERT_TRUE(in_state("failed"));
    const std::lock_guard lock(keeper.mutex);
    EXPECT_EQ(keeper.failures.size(), 2U);
}

TEST_F(StreamOutcomeTest, ADestinationThatDoesNotSayWhereItStandsStopsTheStreamToo) {
    append(1);
    to.position_status = ANNAL_DENIED;
    run_stream(&keeper);
    ASSERT_TRUE(in_state("failed"));
    EXPECT_TRUE(to.payloads.empty());
    const std::lock_guard lock(keeper.mutex);
    EXPECT_EQ(keeper.failures.size(), 1U);
}

TEST_F(StreamOutcomeTest, AsksForItsPositionAgainWhenTheDestinationIsAway) {
    append(1);
    to.position_status = ANNAL_UNAVAILABLE;
    run_stream(&keeper);
    ASSERT_TRUE(in_state("retrying"));
    to.position_status = ANNAL_OK;
    ASSERT_TRUE(delivered(1));
}

TEST_F(StreamOutcomeTest, WaitsAsLongAsTheDestinationAsks) {
    append(1);
    to.verdicts = {ANNAL_RETRY};
    to.retry_after_ms = 1'500;
    const auto begun = std::chrono::steady_clock::now();
    run_stream();
    ASSERT_TRUE(delivered(1));
    EXPECT_GE(std::chrono::steady_clock::now() - begun, 1'500ms);
    EXPECT_EQ(to.payloads.size(), 2U);
}

TEST_F(StreamOutcomeTest, KeepsToItsOwnRate) {
    definition.batch_events_max = 1;
    definition.requests_per_second = 20;
    append(11);
    const auto begun = std::chrono::steady_clock::now();
    run_stream();
    ASSERT_TRUE(delivered(11));
    EXPECT_GE(std::chrono::steady_clock::now() - begun, 490ms);
}

TEST_F(StreamOutcomeTest, SendsNothingWhileItMayHaveMissedAWord) {
    keeper.out_of_date = true;
    append(2);
    run_stream(&keeper);
    ASSERT_TRUE(in_state("retrying"));
    std::this_thread::sleep_for(100ms);
    EXPECT_TRUE(to.payloads.empty());
    keeper.out_of_date = false;
    ASSERT_TRUE(delivered(2));
}

TEST_F(StreamOutcomeTest, ThePlanIsDurableBeforeTheFirstAttempt) {
    append(25);
    to.keep_next = true;
    run_stream();
    ASSERT_TRUE(eventually([&] { return to.kept != nullptr; }));
    const auto planned = plan();
    ASSERT_TRUE(planned);
    EXPECT_EQ(planned->first, 0);
    EXPECT_EQ(planned->last, 9);
    EXPECT_EQ(planned->events, 10U);
    EXPECT_EQ(planned->encoder, "test.memory 1 r0");
    EXPECT_EQ(planned->digest, sha256(to.payloads[0]));
    answer_kept(ANNAL_DELIVERED);
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 24; }));
    EXPECT_FALSE(plan()) << "nothing is planned when nothing is left";
}

// The one that stopped had planned three events; by the time of the next start there are more.
TEST_F(StreamOutcomeTest, TheNextStartSendsThePlannedBytesAndNotMore) {
    append(3);
    to.verdicts = {ANNAL_RETRY};
    run_stream();
    ASSERT_TRUE(in_state("retrying"));
    stop();
    ASSERT_TRUE(plan());
    append(4);
    definition.batch_events_max = 5;
    run_stream();
    ASSERT_TRUE(delivered(7));
    EXPECT_EQ(to.payloads[0], "0\n1\n2\n");
    EXPECT_EQ(to.payloads[1], to.payloads[0]);
    EXPECT_EQ(to.keys[1], to.keys[0]);
    EXPECT_EQ(to.streams[1], "memory/all");
    EXPECT_GT(to.fences[1], to.fences[0]);
    EXPECT_TRUE(recorded("audit_stream.replanned").empty());
}

TEST_F(StreamOutcomeTest, ARetryDoesNotSendWhatWasErasedSince) {
    append(3);
    to.verdicts = {ANNAL_RETRY, ANNAL_RETRY};
    run_stream();
    ASSERT_TRUE(eventually([&] { return to.payloads.size() == 1; }));
    append(1, "audit_log.entry.deleted", {1});
    ASSERT_TRUE(eventually([&] { return to.seqs.size() >= 4; }));
    EXPECT_EQ(to.payloads[0], "0\n1\n2\n");
    EXPECT_EQ(to.payloads[1], "0\n1 deleted\n2\n");
    EXPECT_EQ(to.payloads[2], to.payloads[1]);
    EXPECT_NE(to.keys[1], to.keys[0]) << "other bytes are another delivery";
    const auto events = recorded("audit_stream.replanned");
    ASSERT_EQ(events.size(), 1U);
    const auto metadata = boost::json::parse(events[0]).as_object();
    EXPECT_EQ(metadata.at("planned").as_string(), "0-2");
    EXPECT_EQ(metadata.at("planned_digest").as_string(), to_hex(sha256(to.payloads[0])));
}

TEST_F(StreamOutcomeTest, ABatchThatWaitedForItsTurnDoesNotSendWhatWasErasedSince) {
    append(2);
    keeper.out_of_date = true;
    run_stream(&keeper);
    ASSERT_TRUE(eventually([&] { return plan().has_value(); }));
    append(1, "audit_log.entry.deleted", {1});
    std::this_thread::sleep_for(2'500ms);
    keeper.out_of_date = false;
    ASSERT_TRUE(delivered(3));
    EXPECT_EQ(to.payloads[0], "0\n1 deleted\n");
    EXPECT_EQ(recorded("audit_stream.replanned").size(), 1U);
}

TEST_F(StreamOutcomeTest, PlansAnewWhenTheSettingsHaveChanged) {
    append(3);
    to.verdicts = {ANNAL_RETRY};
    run_stream();
    ASSERT_TRUE(in_state("retrying"));
    stop();
    // Another encoder: here, one that sees another batch because the patterns are others.
    definition.revision = 1;
    definition.patterns = {parse_pattern("nothing.like_it").value()};
    run_stream();
    ASSERT_TRUE(eventually([&] { return !recorded("audit_stream.replanned").empty(); }));
    EXPECT_EQ(recorded("audit_stream.replanned").size(), 1U);
    std::this_thread::sleep_for(100ms);
    EXPECT_EQ(to.payloads.size(), 1U) << "nothing is left to be sent";
}

TEST_F(StreamOutcomeTest, RedrivesADeadLetter) {
    append(5);
    to.poison = {2};
    run_stream();
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 4; }));
    mark_for_redrive(2);
    ASSERT_TRUE(eventually([&] { return letters().size() == 1 && letters()[0].attempts == 2; }));
    EXPECT_FALSE(letters()[0].redriving) << "refused again";
    {
        const std::lock_guard lock(to.mutex);
        to.poison.clear();
    }
    mark_for_redrive(2);
    ASSERT_TRUE(eventually([&] { return letters().empty(); }));
    EXPECT_EQ(to.seqs.back(), 2);
    EXPECT_EQ(to.payloads.back(), "2\n");
    EXPECT_EQ(committed(), 4);
}

TEST_F(StreamOutcomeTest, AReplayEndsWithItsLastEvent) {
    append(20);
    definition.id = "rpl_1";
    definition.known_as = "aud_1";
    definition.until = 12;
    AppendUnit unit;
    unit.project = "p";
    unit.cursors.push_back({definition.subscription, 4, 0});
    ASSERT_TRUE(host.run(host.appender.append(std::move(unit))).has_value());
    run_stream(&keeper);
    ASSERT_TRUE(in_state("done"));
    EXPECT_EQ(to.seqs, range(5, 12));
    EXPECT_EQ(to.streams[0], "aud_1");
    append(3);
    std::this_thread::sleep_for(100ms);
    EXPECT_EQ(to.seqs.size(), 8U);
    const std::lock_guard lock(keeper.mutex);
    EXPECT_EQ(keeper.replays_done, 1);
}

// What is gone can't be sent; that it is gone is, whatever the patterns.
TEST_F(StreamOutcomeTest, T7DeliversAGapRecordInPlaceOfWhatRetentionDropped) {
    for (const char* pattern : {"*", "test.happened"}) {
        SCOPED_TRACE(pattern);
        definition.id = definition.known_as = std::string("gap of ") + pattern;
        definition.subscription = "stream." + definition.id + ".p";
        definition.patterns = {parse_pattern(pattern).value()};
        append(4);
        const Seq before = head();
        run_stream();
        ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == before; }));
        stop();
        append(6);
        host.store.drop_before("p", before + 4);
        to.seqs.clear();
        run_stream();
        // Three of the six are left, and behind them the record of the gap.
        ASSERT_TRUE(delivered(4));
        stop();
        EXPECT_EQ(to.seqs, range(before + 4, before + 7));
        const auto gap = boost::json::parse(recorded("audit_stream.gap").back()).as_object();
        EXPECT_EQ(gap.at("from_seq").as_int64(), before + 1);
        EXPECT_EQ(gap.at("to_seq").as_int64(), before + 3);
    }
}

// A batch that was planned, and waits for its destination, loses its first events: what is left of
// it does not pass for the whole.
TEST_F(StreamOutcomeTest, T7DeliversAGapRecordForThePartOfAPlannedBatchThatRetentionDropped) {
    append(6);
    const Seq last = head();
    to.verdicts.assign(1'000, ANNAL_RETRY);
    run_stream();
    ASSERT_TRUE(eventually([&] { return !to.payloads.empty(); }));
    host.store.drop_before("p", last - 2);
    {
        const std::lock_guard lock(to.mutex);
        to.verdicts.clear();
    }
    // Three of the six, the record of what was planned, and that of the gap.
    ASSERT_TRUE(delivered(5));
    stop();
    EXPECT_EQ(to.seqs, range(last - 2, last + 2));
    ASSERT_EQ(recorded("audit_stream.replanned").size(), 1U);
    ASSERT_EQ(recorded("audit_stream.gap").size(), 1U);
    const auto gap = boost::json::parse(recorded("audit_stream.gap").back()).as_object();
    EXPECT_EQ(gap.at("from_seq").as_int64(), last - 5);
    EXPECT_EQ(gap.at("to_seq").as_int64(), last - 3);
}

// Another stream's gap is nobody's business who has not asked for it.
TEST_F(StreamOutcomeTest, T7DeliversNoOtherStreamsGapRecord) {
    definition.patterns = {parse_pattern("test.happened").value()};
    append(1, "audit_stream.gap");
    append(1);
    run_stream();
    ASSERT_TRUE(delivered(1));
    ASSERT_TRUE(eventually([&] { return stream->status().cursor_seq == 1; }));
    EXPECT_EQ(to.seqs, range(1, 1));
}

TEST_F(StreamOutcomeTest, HaltsWhenTheLogIsOlderThanItsCursor) {
    append(3);
    AppendUnit unit;
    unit.project = "p";
    unit.cursors.push_back({kSubscription, 10, 0});
    ASSERT_TRUE(host.run(host.appender.append(std::move(unit))).has_value());
    run_stream();
    ASSERT_TRUE(in_state("blocked"));
    EXPECT_NE(stream->status().last_error.find("the log ends at 2"), std::string::npos);
    append(20);
    std::this_thread::sleep_for(100ms);
    EXPECT_TRUE(to.payloads.empty()) << "seqs that were given twice must not pass for new events";
}

}  // namespace
}  // namespace annal::stream_test
