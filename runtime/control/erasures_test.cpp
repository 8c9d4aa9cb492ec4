#include "runtime/control/erasures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "runtime/core/task_impl.h"
#include "runtime/delivery/audit_stream.h"
#include "runtime/delivery/dead_letter.h"
#include "runtime/plugin/settings.h"
#include "runtime/webhooks/webhook_delivery.h"
#include "tests/support/fake_store.h"
#include "tests/support/io_threads.h"

namespace annal::control {
namespace {

constexpr auto bit = Scrub::bit;

Event event_of(std::initializer_list<std::pair<Column, Text>> columns) {
    Event event;
    event[Column::action] = "user.changed";
    for (const auto& [column, text] : columns) event[column] = text;
    return event;
}

TEST(Subject, AnEventIsAboutWhoItsUserActorOrTargetIs) {
    for (const Column column : {Column::user_id, Column::actor_id, Column::target_id})
        EXPECT_NE(columns_of_subject(event_of({{column, "usr_x"}}), "usr_x"), 0U) << name(column);
    for (const Column column : {Column::external_id, Column::client_id, Column::actor_email})
        EXPECT_EQ(columns_of_subject(event_of({{column, "usr_x"}}), "usr_x"), 0U) << name(column);
    EXPECT_EQ(columns_of_subject(event_of({{Column::user_id, "usr_xy"}}), "usr_x"), 0U);
    EXPECT_EQ(columns_of_subject(event_of({}), ""), 0U);
}

TEST(Subject, AnotherPersonsIdStays) {
    const Event event = event_of(
        {{Column::user_id, "usr_x"},
         {Column::actor_id, "usr_admin"},
         {Column::actor_email, "admin@example.com"},
         {Column::target_id, "usr_other"},
         {Column::client_id, "usr_x"},
         {Column::external_id, "login/usr_x/7"}}
    );
    EXPECT_EQ(
        columns_of_subject(event, "usr_x"),
        Scrub::kAlways | bit(Column::user_id) | bit(Column::client_id) | bit(Column::external_id)
    );
}

TEST(Subject, WhatTheHostItselfNamesIsNoPerson) {
    const auto about = [](Column type, Text of, Column id) {
        return columns_of_subject(event_of({{type, of}, {id, "x"}}), "x") != 0;
    };
    EXPECT_FALSE(about(Column::actor_type, "api_key", Column::actor_id));
    EXPECT_FALSE(about(Column::actor_type, "system", Column::actor_id));
    EXPECT_TRUE(about(Column::actor_type, "user", Column::actor_id));
    EXPECT_TRUE(about(Column::actor_type, "agent", Column::actor_id));
    for (const char* type :
         {"api_key", "audit_event", "audit_log", "audit_stream", "setting", "webhook_endpoint"})
        EXPECT_FALSE(about(Column::target_type, type, Column::target_id)) << type;
    EXPECT_TRUE(about(Column::target_type, "user", Column::target_id));
    EXPECT_TRUE(about(Column::target_type, "api_key", Column::user_id)) << "somebody's key";
}

TEST(Subject, TheAddressGoesWithTheActorOrWhereNobodyElseIsOne) {
    const Event own = event_of({{Column::actor_id, "usr_x"}, {Column::actor_email, "x@x.example"}});
    EXPECT_TRUE((columns_of_subject(own, "usr_x") & bit(Column::actor_email)) != 0);
    const Event nobody =
        event_of({{Column::user_id, "usr_x"}, {Column::actor_email, "x@x.example"}});
    EXPECT_TRUE((columns_of_subject(nobody, "usr_x") & bit(Column::actor_email)) != 0);
}

TEST(Subject, TheActionIsNeverPersonal) {
    const Event event = event_of({{Column::action, "usr.x"}, {Column::user_id, "usr.x"}});
    EXPECT_EQ(columns_of_subject(event, "usr.x") & bit(Column::action), 0U);
}

TEST(Subject, ATextNamesAWholeIdOnly) {
    for (const char* text :
         {"usr_1", "of usr_1.", "{\"id\":\"usr_1\"}", "a/usr_1/b", "usr_10 usr_1"})
        EXPECT_TRUE(names_subject(text, "usr_1")) << text;
    for (const char* text : {"", "usr_10", "xusr_1", "usr_1_2", "usr_"})
        EXPECT_FALSE(names_subject(text, "usr_1")) << text;
    EXPECT_TRUE(names_subject(R"({"id":"a\"b"})", "a\"b")) << "as JSON writes it";
    EXPECT_TRUE(names_subject("to <x@example.com>", "x@example.com"));
}

TEST(ErasureRow, ComesBackAsItWasWritten) {
    Erasure erasure;
    erasure.id = "era_1";
    erasure.completed = true;
    erasure.requested_by = {"api_key", "apikey_1"};
    erasure.requested_at = 5;
    erasure.completed_at = 6;
    erasure.through_seq = 7;
    erasure.events = 8;
    erasure.dead_letters = 9;
    erasure.attempts = 10;
    erasure.plugin_rows = 11;
    erasure.objects = 12;
    const auto read = Erasure::from_row({"p", "era_1", erasure.to_text()});
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read.value().id, "era_1");
    EXPECT_TRUE(read.value().completed);
    EXPECT_EQ(read.value().requested_by.id, "apikey_1");
    EXPECT_EQ(read.value().completed_at, 6);
    EXPECT_EQ(read.value().through_seq, 7);
    EXPECT_EQ(read.value().to_text(), erasure.to_text());
    EXPECT_EQ(Erasure::from_row({"p", "era_1", "[]"}).error().code, Errc::internal);
}

// --- at work

constexpr const char* kUser = "usr_1";

struct ErasuresTest : testing::Test {
    ManualClock clock{1'780'000'000 * kSecondUs};
    Metrics metrics;
    Limits limits;
    test::FakeStore store{clock};
    test::IoThreads threads;
    boost::asio::any_io_executor executor = threads.executor();
    Appender appender{store, clock, limits, metrics, executor};
    Noticeboard board{store, clock, Noticeboard::Nodes::one, executor};
    Settings settings{store, &board};
    HostEnvironment host = make_host();
    std::vector<std::string> spaces{"plugin.b", "plugin.a"};
    std::atomic<std::chrono::milliseconds> longest_attempt{std::chrono::milliseconds(0)};
    Erasures erasures{
        {host,
         board,
         [this] { return spaces; },
         [this](const std::string&) { return longest_attempt.load(); }}};
    int read_anew = 0;

    HostEnvironment make_host() {
        HostEnvironment made;
        made.node = "node_1";
        made.store = &store;
        made.appender = &appender;
        made.settings = &settings;
        made.clock = &clock;
        made.executor = &executor;
        return made;
    }
    void SetUp() override {
        board.add_reader([this](std::string) -> Task<Result<void>> {
            ++read_anew;
            co_return ok();
        });
    }
    void TearDown() override { threads.run(erasures.stop()); }

    void put(const char* space, const std::string& key, std::string value) {
        AppendUnit unit;
        unit.project = "p";
        unit.kv.push_back({KvOp::Kind::put, space, "p", key, std::move(value)});
        ASSERT_TRUE(threads.run(appender.append(std::move(unit))).has_value());
    }
    std::optional<std::string> get(const char* space, const std::string& key) {
        return threads.run(store.kv_get(space, "p", key)).value();
    }
    void add_event(Text user_id) {
        AppendUnit unit;
        unit.project = "p";
        EventDraft draft;
        draft[Column::action] = "user.changed";
        draft[Column::actor_type] = "user";
        draft[Column::user_id] = user_id;
        unit.events.push_back(draft);
        ASSERT_TRUE(threads.run(appender.append(std::move(unit))).has_value());
    }
    /// So many that an erasure takes 40 steps.
    void add_events_of(Text user_id, const char* project) {
        AppendUnit unit;
        unit.project = project;
        EventDraft draft;
        draft[Column::action] = "user.changed";
        draft[Column::user_id] = user_id;
        for (int i = 0; i < 500; ++i) unit.events.push_back(draft);
        for (int i = 0; i < 40; ++i) ASSERT_TRUE(threads.run(appender.append(unit)).has_value());
    }
    Erasure erase() {
        const auto asked = threads.run(erasures.create("p", kUser, {"api_key", "apikey_1"}));
        EXPECT_TRUE(asked.has_value()) << asked.error().detail;
        erasures.start();
        return wait_for(asked.value().id);
    }
    Erasure wait_for(const std::string& id) {
        for (int i = 0; i < 3'000; ++i) {
            const auto now = threads.run(erasures.get("p", id));
            if (now && now.value().completed) return now.value();
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        ADD_FAILURE() << "it never completes";
        return {};
    }
    /// Until so many of them are through with the events, and the time that they wait has begun.
    bool await_answers(std::ptrdiff_t count) {
        const auto begun = std::chrono::steady_clock::now();
        while (std::chrono::steady_clock::now() - begun < std::chrono::seconds(20)) {
            const auto jobs = threads.run(store.kv_scan("host.erasure_jobs", "p", "", "", 100));
            const auto awaits = [](const KvRow& job) {
                return job.value.find(R"("phase":3)") != std::string::npos;
            };
            const auto& rows = jobs.value();
            if (std::count_if(rows.begin(), rows.end(), awaits) == count) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return false;
    }
    static std::string letter(const char* reason) {
        DeadLetter made;
        made.event_id = "evt_1";
        made.reason = reason;
        return made.to_text();
    }
    static std::string attempt(const char* answer) {
        WebhookAttempt made;
        made.error = "HTTP 500";
        made.answer = answer;
        return made.to_text();
    }
};

TEST_F(ErasuresTest, RowsOfPluginsThatNameThePersonGo) {
    put("plugin.a", "usr_1", "x");
    put("plugin.a", "other", R"({"id":"usr_1"})");
    put("plugin.a", "usr_10", "of usr_10");
    put("plugin.b", "last/usr_1", "");
    put("plugin.c", "usr_1", "an instance that this node does not run");
    const Erasure done = erase();
    EXPECT_EQ(done.plugin_rows, 3);
    EXPECT_FALSE(get("plugin.a", "usr_1"));
    EXPECT_FALSE(get("plugin.a", "other"));
    EXPECT_FALSE(get("plugin.b", "last/usr_1"));
    EXPECT_TRUE(get("plugin.a", "usr_10"));
    EXPECT_TRUE(get("plugin.c", "usr_1"));
}

TEST_F(ErasuresTest, MoreRowsThanAStepTakesAreAllLookedAt) {
    for (int i = 0; i < 450; ++i) put("plugin.a", "k" + std::to_string(1'000 + i), "usr_1");
    EXPECT_EQ(erase().plugin_rows, 450);
    EXPECT_EQ(threads.run(store.kv_scan("plugin.a", "p", "", "", 10)).value().size(), 0U);
}

TEST_F(ErasuresTest, WhatWasSaidOfThePersonsEventsGoesAndOthersStay) {
    add_event("usr_1");
    add_event("usr_2");
    const std::string zero = "00000000000000000000", one = "00000000000000000001";
    put(DeadLetter::kSpace, "aud_1/" + zero, letter("refused: x@example.com"));
    put(DeadLetter::kSpace, "aud_1/" + one, letter("refused: y"));
    const DeliveryId first{"web_1", 0}, second{"web_1", 1};
    put(WebhookDelivery::kAttempts, attempt_key(first, 1), attempt("x@example.com"));
    put(WebhookDelivery::kAttempts, attempt_key(second, 1), attempt("y"));
    put(WebhookDelivery::kAttempts, attempt_key(second, 2), attempt("about usr_1"));
    AuditStream stream;
    stream.id = "aud_1";
    stream.project = "p";
    stream.reason = "failed: usr_1 is not welcome";
    put(AuditStream::kSpace, "aud_1", stream.to_row());
    const Erasure done = erase();
    EXPECT_EQ(done.events, 1);
    EXPECT_EQ(done.dead_letters, 1);
    EXPECT_EQ(done.attempts, 2);
    EXPECT_EQ(done.objects, 1);
    EXPECT_GE(read_anew, 1) << "who keeps streams in memory is told";
    EXPECT_EQ(get(DeadLetter::kSpace, "aud_1/" + zero)->find("x@example.com"), std::string::npos);
    EXPECT_EQ(get(DeadLetter::kSpace, "aud_1/" + one), letter("refused: y"));
    EXPECT_EQ(
        WebhookAttempt::from_text(*get(WebhookDelivery::kAttempts, attempt_key(first, 1)))->answer,
        ""
    );
    EXPECT_EQ(get(WebhookDelivery::kAttempts, attempt_key(second, 1)), attempt("y"));
    EXPECT_EQ(
        get(WebhookDelivery::kAttempts, attempt_key(second, 2))->find("usr_1"), std::string::npos
    );
    EXPECT_EQ(get(AuditStream::kSpace, "aud_1")->find("usr_1"), std::string::npos);
}

TEST_F(ErasuresTest, WhatAttemptsThatWereUnderWayAreAnsweredGoesToo) {
    longest_attempt = std::chrono::seconds(10);
    add_event(kUser);
    const auto asked = threads.run(erasures.create("p", kUser, {"api_key", "a"}));
    ASSERT_TRUE(asked.has_value()) << asked.error().detail;
    erasures.start();
    const auto now = [&] { return threads.run(erasures.get("p", asked.value().id)).value(); };
    ASSERT_TRUE(await_answers(1));
    ASSERT_EQ(now().events, 1);
    clock.advance(10 * kSecondUs);
    std::this_thread::sleep_for(std::chrono::milliseconds(1'500));
    EXPECT_FALSE(now().completed) << "it may be answered, and not committed yet";
    // The answers, and what the host records of one of them.
    const std::string zero = "00000000000000000000";
    put(DeadLetter::kSpace, "aud_1/" + zero, letter("refused: x@example.com"));
    put(WebhookDelivery::kAttempts, attempt_key({"web_1", 0}, 1), attempt("x@example.com"));
    AppendUnit unit;
    unit.project = "p";
    EventDraft failed;
    failed[Column::action] = "audit_stream.failed";
    failed[Column::metadata] = R"({"reason":"usr_1 is not welcome"})";
    unit.events.push_back(failed);
    ASSERT_TRUE(threads.run(appender.append(std::move(unit))).has_value());
    clock.advance(5 * kSecondUs);
    const Erasure done = wait_for(asked.value().id);
    EXPECT_EQ(done.dead_letters, 1);
    EXPECT_EQ(done.attempts, 1);
    EXPECT_EQ(done.events, 2) << "the host's record, too";
}

TEST_F(ErasuresTest, OnesThatAwaitAnswersKeepNoOtherWaiting) {
    longest_attempt = std::chrono::seconds(10);
    for (int i = 0; i < 20; ++i) {
        const std::string user = "waits_" + std::to_string(i);
        add_event(Text(user));
        ASSERT_TRUE(threads.run(erasures.create("p", user, {"api_key", "k"})));
    }
    erasures.start();
    const auto all = [&] { return threads.run(erasures.list("p", "", 100)).value(); };
    const auto erased = [&] {
        const auto found = all();
        return std::count_if(found.begin(), found.end(), [](const Erasure& e) {
            return e.events == 1;
        });
    };
    EXPECT_TRUE(await_answers(20));
    EXPECT_EQ(erased(), 20);
    clock.advance(15 * kSecondUs);
    for (const Erasure& one : all()) EXPECT_TRUE(wait_for(one.id).completed);
}

TEST_F(ErasuresTest, WhereNothingIsErasedNothingIsAwaited) {
    longest_attempt = std::chrono::hours(1);
    add_event("usr_2");
    EXPECT_EQ(erase().events, 0);
}

TEST_F(ErasuresTest, NothingOfTheWorkIsLeftWhenItIsDone) {
    add_event("usr_1");
    const Erasure done = erase();
    EXPECT_EQ(done.requested_by.id, "apikey_1");
    EXPECT_TRUE(threads.run(store.kv_scan("host.erasure_jobs", "", "", "", 10)).value().empty());
    EXPECT_TRUE(threads.run(store.kv_scan("host.open_erasures", "", "", "", 10)).value().empty());
    EXPECT_EQ(get(Erasure::kSpace, done.id)->find("usr_1"), std::string::npos);
}

TEST_F(ErasuresTest, WhoAsksAgainMeanwhileJoins) {
    add_event("usr_1");
    const auto first = threads.run(erasures.create("p", kUser, {"api_key", "a"}));
    add_event("usr_1");
    const auto again = threads.run(erasures.create("p", kUser, {"api_key", "b"}));
    const auto other = threads.run(erasures.create("p", "usr_2", {"api_key", "b"}));
    EXPECT_EQ(first.value().id, again.value().id);
    EXPECT_NE(first.value().id, other.value().id);
    erasures.start();
    EXPECT_EQ(wait_for(first.value().id).events, 2);
    EXPECT_EQ(wait_for(first.value().id).requested_by.id, "a");
    EXPECT_EQ(wait_for(other.value().id).events, 0);
}

TEST_F(ErasuresTest, AHoldPausesWhatRuns) {
    add_event("usr_1");
    const auto asked = threads.run(erasures.create("p", kUser, {"api_key", "a"}));
    ASSERT_TRUE(asked.has_value()) << asked.error().detail;
    ASSERT_TRUE(threads.run(settings.put(appender, "p", "legal_hold", "true", "system", "")));
    EXPECT_EQ(
        threads.run(erasures.create("p", "usr_2", {"api_key", "a"})).error().code, Errc::conflict
    );
    erasures.start();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_EQ(threads.run(erasures.get("p", asked.value().id)).value().events, 0);
    EXPECT_TRUE(threads.run(erasures.is_held("p")).value());
    ASSERT_TRUE(threads.run(settings.put(appender, "p", "legal_hold", "false", "system", "")));
    EXPECT_EQ(wait_for(asked.value().id).events, 1);
}

TEST_F(ErasuresTest, AProjectUnderHoldKeepsNoOtherWaiting) {
    for (int i = 0; i < 150; ++i)
        ASSERT_TRUE(threads.run(erasures.create("a", "u" + std::to_string(i), {"api_key", "k"})));
    ASSERT_TRUE(threads.run(settings.put(appender, "a", "legal_hold", "true", "system", "")));
    add_event(kUser);
    EXPECT_EQ(erase().events, 1);
    EXPECT_EQ(
        threads.run(store.kv_scan("host.erasure_jobs", "a", "", "", 1'000)).value().size(), 150U
    );
    ASSERT_TRUE(threads.run(settings.put(appender, "a", "legal_hold", "false", "system", "")));
    for (int i = 0; i < 3'000; ++i) {
        if (threads.run(store.kv_scan("host.erasure_jobs", "", "", "", 10)).value().empty()) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "what was held is not gone on with";
}

TEST_F(ErasuresTest, ALongOneIsJoinedBetweenItsSteps) {
    add_events_of("usr_busy", "p");
    store.append_delay_ms = 5;  // as long as it takes a joining request to find the job changed
    const auto first = threads.run(erasures.create("p", "usr_busy", {"api_key", "k"})).value();
    erasures.start();
    int joined = 0;
    for (int i = 0; i < 40; ++i) {
        const auto again = threads.run(erasures.create("p", "usr_busy", {"api_key", "k"}));
        ASSERT_TRUE(again.has_value()) << again.error().detail;
        joined += again.value().id == first.id ? 1 : 0;
    }
    EXPECT_GT(joined, 0);
    add_event("usr_busy");
    const auto last = threads.run(erasures.create("p", "usr_busy", {"api_key", "k"})).value();
    EXPECT_EQ(wait_for(last.id).through_seq, 20'000);
}

TEST_F(ErasuresTest, ALongOneKeepsNoOtherWaiting) {
    add_events_of("usr_busy", "a");
    const auto longer = threads.run(erasures.create("a", "usr_busy", {"api_key", "k"})).value();
    store.append_delay_ms = 50;  // for each step
    EXPECT_EQ(erase().events, 0);
    EXPECT_FALSE(threads.run(erasures.get("a", longer.id)).value().completed);
}

}  // namespace
}  // namespace annal::control
