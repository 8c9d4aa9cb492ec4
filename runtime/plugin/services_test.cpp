// Every host service, through the C ABI, as a plugin sees it.
#include "runtime/plugin/services.h"

#include <gtest/gtest.h>

#include <map>

#include "runtime/event/event_json.h"
#include "tests/support/test_host.h"

namespace annal {
namespace {

using test::Promised;
using test::TestCall;
using test::TestHost;
using test::TestPlugin;

annal_str str(std::string_view text) {
    return to_abi(text);
}

annal_event event_of(std::string_view action) {
    annal_event event{};
    event.seq = -1;
    event.created_at_us = event.occurred_at_us = ANNAL_TIME_NONE;
    event.action = str(action);
    event.actor_type = str("user");
    event.actor_id = str("usr_1");
    return event;
}

annal_term text_term(std::uint32_t field, std::uint32_t op, std::string_view text) {
    return {field, op, str(text), 0};
}
annal_term time_term(std::uint32_t field, std::uint32_t op, std::int64_t at) {
    return {field, op, {nullptr, 0}, at};
}

/// What a page callback said, copied out of the callback.
struct PageCopy {
    std::vector<Seq> seqs;
    std::vector<std::string> actions, ids;
    std::string cursor;
    bool has_more = false;
    std::optional<Error> error;
};

class ServicesTest : public testing::Test {
protected:
    void SetUp() override {
        Permissions& p = plugin.manifest.permissions;
        p.append = p.store_read = p.store_delete = p.export_ = p.kv = p.config = true;
        p.secrets = {"token", "aws/*"};
        host.environment.secrets = [](const std::string& name) -> std::optional<std::string> {
            if (name == "missing" || name == "aws/none") return std::nullopt;
            return "value of " + name;
        };
        host.store.hop = true;
        open();
    }
    void open() { instance = plugin.create(host.environment).value(); }

    template <class V>
    const V& service(const char* id) {
        const V* table = plugin.service<V>(id);
        EXPECT_NE(table, nullptr) << id;
        return *table;
    }
    const annal_store_v1& store() { return service<annal_store_v1>(ANNAL_SERVICE_STORE); }
    const annal_codec_v1& codec() { return service<annal_codec_v1>(ANNAL_SERVICE_CODEC); }

    struct Appended {
        std::vector<Seq> seqs;
        std::vector<bool> replayed;
        std::vector<std::string> ids;
        std::optional<Error> error;
    };
    Appended append(
        const annal_batch* batch,
        std::string_view key = {},
        const annal_kv_ops* kv = nullptr,
        annal_call* handle = nullptr
    ) {
        const annal_append request{
            sizeof(annal_append), 0, batch, key.empty() ? annal_str{nullptr, 0} : str(key), kv};
        Promised<Appended> result;
        service<annal_bus_v1>(ANNAL_SERVICE_BUS)
            .append(
                plugin.ctx(),
                handle != nullptr ? handle : call.handle,
                &request,
                &result,
                [](void* user, const annal_receipts* receipts, const annal_error* error) {
                    Appended out;
                    if (error != nullptr) out.error = to_error(*error);
                    EXPECT_NE(receipts == nullptr, error == nullptr);
                    for (std::uint32_t i = 0; receipts != nullptr && i < receipts->count; ++i) {
                        const auto& row =
                            *ANNAL_AT(annal_receipt, receipts->rows, receipts->stride, i);
                        out.seqs.push_back(row.seq);
                        out.replayed.push_back(row.replayed != 0);
                        out.ids.emplace_back(to_view(row.id));
                    }
                    static_cast<Promised<Appended>*>(user)->set(out);
                }
            );
        return result.get();
    }
    Appended append(std::vector<annal_event> events, std::string_view key = {}) {
        const annal_batch batch{
            sizeof(annal_batch),
            static_cast<std::uint32_t>(events.size()),
            sizeof(annal_event),
            0,
            events.data(),
            {nullptr, 0}};
        return append(&batch, key);
    }

    static void take_page(void* user, const annal_page* page, const annal_error* error) {
        PageCopy out;
        if (error != nullptr) out.error = to_error(*error);
        if (page != nullptr) {
            out.has_more = page->has_more != 0;
            EXPECT_EQ(page->next_cursor.ptr != nullptr, out.has_more);
            out.cursor = to_view(page->next_cursor);
            for (std::uint32_t i = 0; i < page->batch->count; ++i) {
                const auto& event =
                    *ANNAL_AT(annal_event, page->batch->events, page->batch->stride, i);
                out.seqs.push_back(event.seq);
                out.actions.emplace_back(to_view(event.action));
                out.ids.emplace_back(to_view(event.id));
            }
        }
        static_cast<Promised<PageCopy>*>(user)->set(out);
    }
    PageCopy scan(
        std::uint32_t limit,
        const std::string& cursor = {},
        const std::vector<annal_term>& terms = {},
        std::uint32_t order = ANNAL_NEWEST_FIRST
    ) {
        const annal_filter filter{
            sizeof(annal_filter),
            static_cast<std::uint32_t>(terms.size()),
            sizeof(annal_term),
            0,
            terms.data()};
        const annal_query query{
            sizeof(annal_query),
            limit,
            &filter,
            cursor.empty() ? annal_str{nullptr, 0} : str(cursor),
            order,
            0,
            0};
        Promised<PageCopy> result;
        store().scan(plugin.ctx(), call.handle, &query, &result, &take_page);
        return result.get();
    }
    PageCopy get(const std::string& id, annal_call* handle = nullptr) {
        Promised<PageCopy> result;
        store().get(
            plugin.ctx(), handle != nullptr ? handle : call.handle, str(id), &result, &take_page
        );
        return result.get();
    }
    std::optional<Error> erase(const std::string& id, std::optional<std::string> reason) {
        Promised<std::optional<Error>> result;
        store().erase(
            plugin.ctx(),
            call.handle,
            str(id),
            reason ? str(*reason) : annal_str{nullptr, 0},
            &result,
            [](void* user, const annal_error* error) {
                static_cast<Promised<std::optional<Error>>*>(user)->set(
                    error != nullptr ? std::optional(to_error(*error)) : std::nullopt
                );
            }
        );
        return result.get();
    }
    const annal_parsed* parse(
        std::string_view body, std::uint32_t form = ANNAL_PARSE_JSON, std::uint32_t first = 0
    ) {
        const annal_parsed* parsed = nullptr;
        const annal_status status = codec().parse(
            plugin.ctx(),
            call.handle,
            {reinterpret_cast<const std::uint8_t*>(body.data()), body.size()},
            form,
            first,
            &parsed
        );
        EXPECT_EQ(status, ANNAL_OK);
        return parsed;
    }
    void fill(int count, std::string_view action = "user.created") {
        EventDraft draft;
        draft[Column::action] = action;
        draft[Column::actor_type] = "user";
        draft[Column::metadata] = "{}";
        host.store.fill("proj_a", draft, count);
    }

    TestHost host;
    TestPlugin plugin;
    std::unique_ptr<Instance> instance;
    TestCall call;
};

// --- log, metrics, clock
// ----------------------------------------------------------------------------------------------

TEST_F(ServicesTest, LogNamesTheInstanceAndKeepsTheLineWellFormed) {
    testing::internal::CaptureStderr();
    std::string long_value(5000, 'v');
    const annal_pair fields[] = {
        {str("attempt"), str("3")},
        {str("level"), str("forged")},
        {str("instance"), str("forged")},
        {str("bad"), str("\xff\xfe")},
        {str("long"), str(long_value)},
        {str("quote"), str("a\"b\n")},
    };
    service<annal_log_v1>(ANNAL_SERVICE_LOG)
        .write(plugin.ctx(), ANNAL_LOG_WARN, str("sink.retry"), fields, 6);
    const std::string line = testing::internal::GetCapturedStderr();
    EXPECT_NE(line.find("\"event\":\"sink.retry\""), std::string::npos) << line;
    EXPECT_NE(line.find("\"instance\":\"test-plugin\""), std::string::npos) << line;
    EXPECT_NE(line.find("\"plugin_level\":\"forged\""), std::string::npos) << line;
    EXPECT_NE(line.find("\"plugin_instance\":\"forged\""), std::string::npos) << line;
    EXPECT_NE(line.find("a\\\"b\\n"), std::string::npos) << line;
    EXPECT_LT(line.size(), 2000U);
    EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
}

TEST_F(ServicesTest, MetricsAreDefinedInCreateOnly) {
    annal_metric* counter = nullptr;
    annal_metric* wrong = nullptr;
    annal_metric* taken = nullptr;
    TestPlugin other;
    other.on_create = [&](const annal_init* init, annal_error*) {
        const auto* metrics = static_cast<const annal_metrics_v1*>(
            init->host->service(init->host->ctx, ANNAL_SERVICE_METRICS)
        );
        counter = metrics->define(
            init->host->ctx, ANNAL_METRIC_COUNTER, str("test_sent_total"), str("Sent.")
        );
        wrong = metrics->define(init->host->ctx, ANNAL_METRIC_COUNTER, str("not legal"), str(""));
        taken = metrics->define(
            init->host->ctx, ANNAL_METRIC_GAUGE, str("test_sent_total"), str("Sent.")
        );
        metrics->record(counter, 2);
        return annal_status{ANNAL_OK};
    };
    const auto made = other.create(host.environment).value();
    EXPECT_NE(counter, nullptr);
    EXPECT_EQ(wrong, nullptr);
    EXPECT_EQ(taken, nullptr);
    const auto& metrics = service<annal_metrics_v1>(ANNAL_SERVICE_METRICS);
    metrics.record(counter, 3);
    metrics.record(nullptr, 1);
    EXPECT_NE(
        host.metrics.render().find("test_sent_total{instance=\"test-plugin\"} 5"), std::string::npos
    ) << host.metrics.render();
    EXPECT_EQ(
        metrics.define(plugin.ctx(), ANNAL_METRIC_COUNTER, str("test_late_total"), str("")), nullptr
    );
}

TEST_F(ServicesTest, ClockIsTheHosts) {
    ManualClock clock(1'000);
    clock.advance(7);
    host.environment.clock = &clock;
    const auto& table = service<annal_clock_v1>(ANNAL_SERVICE_CLOCK);
    EXPECT_EQ(table.wall_us(plugin.ctx()), 1'007);
    EXPECT_EQ(table.monotonic_us(plugin.ctx()), 7);
}

/// How `after` ended; no error is success.
struct Waking {
    Promised<std::optional<Error>> woken;
    std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();

    static void done(void* user, const annal_error* error) {
        std::optional<Error> out;
        if (error != nullptr) out = to_error(*error);
        static_cast<Waking*>(user)->woken.set(std::move(out));
    }
    [[nodiscard]] std::chrono::milliseconds took() const {
        return std::chrono::duration_cast<std::chrono::milliseconds>(
            std::chrono::steady_clock::now() - begin
        );
    }
};

TEST_F(ServicesTest, ClockWakesAfterTheDelay) {
    const auto& table = service<annal_clock_v1>(ANNAL_SERVICE_CLOCK);
    for (const std::uint32_t delay_ms : {0U, 30U, 120U}) {
        Waking sleeper;
        table.after(plugin.ctx(), call.handle, delay_ms, &sleeper, Waking::done);
        EXPECT_FALSE(sleeper.woken.get());
        EXPECT_GE(sleeper.took().count(), delay_ms);
    }
}

TEST_F(ServicesTest, ClockWakesSoonAfterTheCallIsCancelled) {
    std::atomic<bool> gone{false};
    Call::Options options;
    options.cancelled = [&] { return gone.load(); };
    const auto own = std::make_shared<Call>(std::move(options));
    annal_call* handle = own->open();
    const auto& table = service<annal_clock_v1>(ANNAL_SERVICE_CLOCK);
    Waking sleeper;
    table.after(plugin.ctx(), handle, 3'600'000, &sleeper, Waking::done);
    EXPECT_FALSE(sleeper.woken.ready_within(std::chrono::milliseconds(100)));
    gone = true;
    const auto error = sleeper.woken.get();
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code, Errc::cancelled);
    own->complete(nullptr);
}

TEST_F(ServicesTest, ClockRefusesWhatItCantWaitFor) {
    const auto& table = service<annal_clock_v1>(ANNAL_SERVICE_CLOCK);
    Waking too_long, dead;
    table.after(plugin.ctx(), call.handle, 3'600'001, &too_long, Waking::done);
    EXPECT_EQ(too_long.woken.get()->code, Errc::invalid);
    table.after(plugin.ctx(), nullptr, 1, &dead, Waking::done);
    EXPECT_EQ(dead.woken.get()->code, Errc::invalid);
}

// --- bus
// --------------------------------------------------------------------------------------------------------------

TEST_F(ServicesTest, AppendGivesReceiptsInOrder) {
    const Appended out = append({event_of("user.created"), event_of("user.deleted")});
    ASSERT_FALSE(out.error) << out.error->detail;
    EXPECT_EQ(out.seqs, (std::vector<Seq>{0, 1}));
    const PageCopy page = scan(10);
    EXPECT_EQ(page.actions, (std::vector<std::string>{"user.deleted", "user.created"}));
    EXPECT_EQ(page.ids[0], out.ids[1]);
}

TEST_F(ServicesTest, AppendFillsInDefaults) {
    annal_event event = event_of("user.created");
    event.metadata = str(R"({"description":"from metadata"})");
    ASSERT_FALSE(append({event}).error);
    ScanRequest request;
    request.project = "proj_a";
    const auto stored = host.run(host.store.scan(request)).value();
    EXPECT_EQ(stored.batch.events[0][Column::auth_type].view(), "user");
    EXPECT_EQ(stored.batch.events[0][Column::description].view(), "from metadata");
}

TEST_F(ServicesTest, AppendNamesEverythingThatIsWrongAndStoresNothing) {
    annal_event bad = event_of("Not An Action");
    bad.ip = str("999.1.1.1");
    annal_event long_one = event_of("user.created");
    const std::string long_text(300, 'x');
    long_one.user_id = str(long_text);
    const Appended out = append({event_of("user.created"), bad, long_one});
    ASSERT_TRUE(out.error);
    EXPECT_EQ(out.error->code, Errc::unprocessable);
    EXPECT_NE(out.error->detail.find("/events/1"), std::string::npos) << out.error->detail;
    EXPECT_NE(out.error->detail.find("/ip"), std::string::npos) << out.error->detail;
    EXPECT_NE(out.error->detail.find("event 2: /user_id"), std::string::npos) << out.error->detail;
    EXPECT_EQ(host.store.appends, 0);
}

TEST_F(ServicesTest, AppendRefusesAnotherProject) {
    annal_event event = event_of("user.created");
    event.project_id = str("proj_b");
    const Appended out = append({event});
    EXPECT_EQ(out.error->code, Errc::unprocessable);
    EXPECT_NE(out.error->detail.find("project_id"), std::string::npos);
    event.project_id = str("proj_a");
    EXPECT_FALSE(append({event}).error);
}

TEST_F(ServicesTest, AppendHonoursIdempotencyKeys) {
    const Appended first = append({event_of("user.created")}, "request-1");
    const Appended again = append({event_of("user.created")}, "request-1");
    EXPECT_EQ(again.seqs, first.seqs);
    EXPECT_EQ(again.replayed, std::vector<bool>{true});
    EXPECT_EQ(append({event_of("user.deleted")}, "request-1").error->code, Errc::conflict);
    EXPECT_EQ(
        append({event_of("user.deleted")}, std::string(1000, 'k')).error->code, Errc::unprocessable
    );
    EXPECT_EQ(append({event_of("user.deleted")}, "\xff").error->code, Errc::unprocessable);
}

TEST_F(ServicesTest, AppendBoundsTheBatch) {
    const std::vector<annal_event> many(10'001, event_of("user.created"));
    EXPECT_EQ(append(many).error->code, Errc::too_large);
    EXPECT_EQ(append({many.begin(), many.end() - 1}).seqs.size(), 10'000U);
}

TEST_F(ServicesTest, AppendRefusesMalformedStructs) {
    EXPECT_EQ(append(nullptr).error->code, Errc::invalid) << "nothing to append";
    const annal_event event = event_of("user.created");
    annal_batch batch{sizeof(annal_batch), 1, 16, 0, &event, {nullptr, 0}};
    EXPECT_EQ(append(&batch).error->code, Errc::invalid) << "stride";
    batch = {4, 1, sizeof(annal_event), 0, &event, {nullptr, 0}};
    EXPECT_EQ(append(&batch).error->code, Errc::invalid) << "struct_size";
}

TEST_F(ServicesTest, AppendReadsElementsByTheirStride) {
    struct Newer {
        annal_event event;
        char more[24];
    };
    std::vector<Newer> events(3, Newer{event_of("user.created"), {}});
    events[2].event.action = str("user.deleted");
    const annal_batch batch{
        sizeof(annal_batch), 3, sizeof(Newer), 0, &events[0].event, {nullptr, 0}};
    EXPECT_EQ(append(&batch).seqs, (std::vector<Seq>{0, 1, 2}));
    EXPECT_EQ(scan(1).actions, std::vector<std::string>{"user.deleted"});
}

TEST_F(ServicesTest, AppendReportsWhatTheStoreSays) {
    host.store.fail_appends(Error{Errc::unavailable, "the disk is full", {}, 2000}, 1000);
    const Appended out = append({event_of("user.created")});
    EXPECT_EQ(out.error->code, Errc::unavailable);
    EXPECT_NE(out.error->detail.find("the disk is full"), std::string::npos);
}

TEST_F(ServicesTest, AHandleThatIsNoCallIsAnErrorEverywhere) {
    annal_call* dead = nullptr;
    {
        const TestCall ended;
        dead = ended.handle;
    }
    const annal_event event = event_of("user.created");
    const annal_batch batch{sizeof(annal_batch), 1, sizeof(annal_event), 0, &event, {nullptr, 0}};
    EXPECT_EQ(append(&batch, {}, nullptr, dead).error->code, Errc::invalid);
    EXPECT_EQ(get("evt_00000000000000000000000000", dead).error->code, Errc::invalid);
    annal_str out{};
    EXPECT_EQ(
        service<annal_config_v1>(ANNAL_SERVICE_CONFIG)
            .get(plugin.ctx(), dead, str("catalog"), &out),
        ANNAL_INVALID
    );
    EXPECT_EQ(
        service<annal_secrets_v1>(ANNAL_SERVICE_SECRETS)
            .get(plugin.ctx(), dead, str("token"), &out),
        ANNAL_INVALID
    );
    const annal_parsed* parsed = nullptr;
    EXPECT_EQ(
        codec().parse(plugin.ctx(), dead, {nullptr, 0}, ANNAL_PARSE_JSON, 0, &parsed), ANNAL_INVALID
    );
}

// --- store
// ------------------------------------------------------------------------------------------------------------

TEST_F(ServicesTest, ScanPagesWithoutLossOrRepeatAndKnowsItsEnd) {
    fill(25);
    for (const std::uint32_t order : {ANNAL_NEWEST_FIRST, ANNAL_OLDEST_FIRST}) {
        std::vector<Seq> seen;
        std::string cursor;
        int pages = 0;
        do {
            const PageCopy page = scan(5, cursor, {}, order);
            ASSERT_FALSE(page.error);
            EXPECT_EQ(page.seqs.size(), 5U);
            seen.insert(seen.end(), page.seqs.begin(), page.seqs.end());
            cursor = page.cursor;
            ++pages;
        } while (!cursor.empty());
        EXPECT_EQ(pages, 5) << "no empty page behind the last";
        ASSERT_EQ(seen.size(), 25U);
        for (Seq i = 0; i < 25; ++i)
            EXPECT_EQ(seen[static_cast<std::size_t>(i)], order == ANNAL_NEWEST_FIRST ? 24 - i : i);
    }
}

TEST_F(ServicesTest, ScanTakesItsLargestPageWithLookAhead) {
    fill(1'001);
    const PageCopy page = scan(1'000);
    EXPECT_EQ(page.seqs.size(), 1'000U);
    EXPECT_TRUE(page.has_more);
    const PageCopy rest = scan(1'000, page.cursor);
    EXPECT_EQ(rest.seqs, std::vector<Seq>{0});
    EXPECT_FALSE(rest.has_more);
}

TEST_F(ServicesTest, ScanOfAnEmptyLogIsEmpty) {
    const PageCopy page = scan(10);
    EXPECT_FALSE(page.error);
    EXPECT_TRUE(page.seqs.empty());
    EXPECT_FALSE(page.has_more);
}

TEST_F(ServicesTest, ScanLoopsOverWindowsUntilThePageIsFull) {
    for (int i = 0; i < 20; ++i) fill(1, "rare.event"), fill(49, "user.created");
    host.store.scan_window = 60;
    const std::vector<annal_term> rare{text_term(ANNAL_FIELD_ACTION, ANNAL_OP_EQ, "rare.event")};
    const PageCopy page = scan(10, {}, rare);
    EXPECT_EQ(page.seqs.size(), 10U);
    EXPECT_TRUE(page.has_more);
    const PageCopy rest = scan(100, page.cursor, rare);
    EXPECT_EQ(rest.seqs.size(), 10U);
    EXPECT_FALSE(rest.has_more);
    EXPECT_GT(host.store.scans, 10);
}

TEST_F(ServicesTest, ScanEndsAPageWhenItsTimeIsUsedUp) {
    fill(1'000);
    host.store.scan_window = 10;
    host.store.scan_delay_ms = 5;
    host.limits.scan_budget_ms = 30;
    const std::vector<annal_term> none{text_term(ANNAL_FIELD_USER_ID, ANNAL_OP_EQ, "nobody")};
    std::string cursor;
    int pages = 0;
    do {
        const PageCopy page = scan(10, cursor, none);
        ASSERT_FALSE(page.error);
        EXPECT_TRUE(page.seqs.empty());
        cursor = page.cursor;
        host.limits.scan_budget_ms = 60'000;  // the second page takes its time
    } while (++pages, !cursor.empty());
    EXPECT_EQ(pages, 2);
}

TEST_F(ServicesTest, ScanStopsWhenTheCallIsGivenUp) {
    fill(1'000);
    host.store.scan_window = 1;
    call.cancel();
    const PageCopy page = scan(10, {}, {text_term(ANNAL_FIELD_USER_ID, ANNAL_OP_EQ, "nobody")});
    ASSERT_TRUE(page.error);
    EXPECT_EQ(page.error->code, Errc::cancelled);
}

TEST_F(ServicesTest, ScanRefusesForeignAndAlteredCursors) {
    fill(10);
    const std::string cursor = scan(5).cursor;
    ASSERT_FALSE(cursor.empty());
    std::string altered = cursor;
    altered[altered.size() / 2] = altered[altered.size() / 2] == 'A' ? 'B' : 'A';
    EXPECT_EQ(scan(5, altered).error->code, Errc::invalid);
    EXPECT_EQ(scan(5, "nonsense").error->code, Errc::invalid);
    EXPECT_EQ(scan(5, cursor, {}, ANNAL_OLDEST_FIRST).error->code, Errc::invalid)
        << "another order";
    EXPECT_EQ(
        scan(5, cursor, {text_term(ANNAL_FIELD_IP, ANNAL_OP_EQ, "1.2.3.4")}).error->code,
        Errc::invalid
    ) << "another filter";
    const std::string foreign = host.cursors.seal("proj_b", Filter{}, true, 5);
    EXPECT_EQ(scan(5, foreign).error->code, Errc::invalid) << "another project";
}

TEST_F(ServicesTest, ScanBoundsItsQuery) {
    EXPECT_EQ(scan(0).error->code, Errc::invalid);
    EXPECT_EQ(scan(1'001).error->code, Errc::invalid);
    EXPECT_EQ(scan(10, {}, {}, 7).error->code, Errc::invalid);
    Promised<PageCopy> result;
    store().scan(plugin.ctx(), call.handle, nullptr, &result, &take_page);
    EXPECT_EQ(result.get().error->code, Errc::invalid);
}

TEST_F(ServicesTest, ScanReportsWhatTheStoreSays) {
    host.store.fail_reads(Error{Errc::unavailable, "closing", {}, 0});
    EXPECT_EQ(scan(10).error->code, Errc::unavailable);
}

TEST_F(ServicesTest, EveryTermSelectsByItsField) {
    using Member = annal_str annal_event::*;
    const std::tuple<std::uint32_t, Member, const char*> fields[] = {
        {ANNAL_FIELD_EXTERNAL_ID, &annal_event::external_id, "x1"},
        {ANNAL_FIELD_ACTOR_TYPE, &annal_event::actor_type, "client"},
        {ANNAL_FIELD_ACTOR_ID, &annal_event::actor_id, "a1"},
        {ANNAL_FIELD_ACTOR_EMAIL, &annal_event::actor_email, "a@example.com"},
        {ANNAL_FIELD_AUTH_TYPE, &annal_event::auth_type, "token"},
        {ANNAL_FIELD_USER_ID, &annal_event::user_id, "u1"},
        {ANNAL_FIELD_ORGANIZATION_ID, &annal_event::organization_id, "o1"},
        {ANNAL_FIELD_CLIENT_ID, &annal_event::client_id, "c1"},
        {ANNAL_FIELD_ISSUER_ID, &annal_event::issuer_id, "i1"},
        {ANNAL_FIELD_AGENT_ID, &annal_event::agent_id, "g1"},
        {ANNAL_FIELD_TARGET_TYPE, &annal_event::target_type, "t1"},
        {ANNAL_FIELD_TARGET_ID, &annal_event::target_id, "ti1"},
        {ANNAL_FIELD_IP, &annal_event::ip, "192.0.2.9"},
        {ANNAL_FIELD_ACTION, &annal_event::action, "one.of.a.kind"},
    };
    fill(3);
    Seq seq = 3;
    for (const auto& [field, member, value] : fields) {
        annal_event event = event_of("user.updated");
        event.*member = str(value);
        ASSERT_FALSE(append({event}).error) << field;
        EXPECT_EQ(
            scan(10, {}, {text_term(field, ANNAL_OP_EQ, value)}).seqs, std::vector<Seq>{seq++}
        ) << field;
    }
}

TEST_F(ServicesTest, PatternsPrefixesTextAndTimesSelect) {
    ASSERT_FALSE(append({event_of("auth.login.ok"),
                         event_of("auth.logout"),
                         event_of("authz.check"),
                         event_of("user.created")})
                     .error);
    const auto seqs = [&](std::vector<annal_term> terms) { return scan(10, {}, terms).seqs; };
    using Seqs = std::vector<Seq>;
    EXPECT_EQ(seqs({text_term(ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, "auth.*")}), (Seqs{1, 0}));
    EXPECT_EQ(
        seqs({text_term(ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, "auth.logout,user.*")}), (Seqs{3, 1})
    );
    EXPECT_EQ(seqs({text_term(ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, "*")}), (Seqs{3, 2, 1, 0}));
    EXPECT_EQ(seqs({text_term(ANNAL_FIELD_ACTION, ANNAL_OP_PREFIX, "auth")}), (Seqs{2, 1, 0}));
    EXPECT_EQ(seqs({text_term(ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS, "LOG")}), (Seqs{1, 0}));
    EXPECT_EQ(seqs({text_term(ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS, "")}), (Seqs{3, 2, 1, 0}));

    ScanRequest all;
    all.project = "proj_a";
    const auto stored = host.run(host.store.scan(all)).value();
    const TimeUs second = stored.batch.events[2].created_at;
    EXPECT_EQ(seqs({time_term(ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM, second)}), (Seqs{3, 2, 1}));
    EXPECT_EQ(seqs({time_term(ANNAL_FIELD_CREATED_AT, ANNAL_OP_AFTER, second)}), (Seqs{3, 2}));
    EXPECT_EQ(seqs({time_term(ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE, second)}), (Seqs{0}));
    EXPECT_EQ(seqs({time_term(ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_FROM, second)}), (Seqs{3, 2, 1}));
    EXPECT_EQ(seqs({time_term(ANNAL_FIELD_OCCURRED_AT, ANNAL_OP_AFTER, INT64_MAX)}), Seqs{});
}

TEST_F(ServicesTest, TermsAboutOneFieldNarrowEachOther) {
    ASSERT_FALSE(
        append({event_of("auth.login.ok"), event_of("auth.logout"), event_of("user.created")}).error
    );
    const auto seqs = [&](std::vector<annal_term> terms) {
        const PageCopy page = scan(10, {}, terms);
        EXPECT_FALSE(page.error) << page.error->detail;
        return page.seqs;
    };
    using Seqs = std::vector<Seq>;
    const auto match = [](const char* list) {
        return text_term(ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, list);
    };
    const auto prefix = [](const char* text) {
        return text_term(ANNAL_FIELD_ACTION, ANNAL_OP_PREFIX, text);
    };
    const auto equal = [](const char* text) {
        return text_term(ANNAL_FIELD_ACTOR_ID, ANNAL_OP_EQ, text);
    };
    EXPECT_EQ(seqs({match("auth.*"), match("auth.login.*,user.*")}), (Seqs{0}));
    EXPECT_EQ(seqs({match("auth.*"), match("*")}), (Seqs{1, 0}));
    EXPECT_EQ(seqs({match("auth.*"), match("user.*")}), Seqs{});
    EXPECT_EQ(seqs({match("auth.logout"), match("auth.*")}), (Seqs{1}));
    EXPECT_EQ(seqs({prefix("auth."), prefix("auth.log")}), (Seqs{1, 0}));
    EXPECT_EQ(seqs({prefix("auth."), prefix("user.")}), Seqs{});
    EXPECT_EQ(seqs({equal("usr_1"), equal("usr_1")}), (Seqs{2, 1, 0}));
    EXPECT_EQ(seqs({equal("usr_1"), equal("usr_2")}), Seqs{});
    EXPECT_EQ(
        seqs(
            {time_term(ANNAL_FIELD_CREATED_AT, ANNAL_OP_FROM, 10),
             time_term(ANNAL_FIELD_CREATED_AT, ANNAL_OP_BEFORE, 5)}
        ),
        Seqs{}
    );
}

TEST_F(ServicesTest, TermsThatDoNotExistAreNamed) {
    const std::pair<annal_term, const char*> bad[] = {
        {text_term(99, ANNAL_OP_EQ, "x"), "field 99 EQ"},
        {text_term(ANNAL_FIELD_USER_ID, ANNAL_OP_PREFIX, "x"), "user_id PREFIX"},
        {text_term(ANNAL_FIELD_USER_ID, ANNAL_OP_MATCH, "x"), "user_id MATCH"},
        {text_term(ANNAL_FIELD_TEXT, ANNAL_OP_EQ, "x"), "text EQ"},
        {text_term(ANNAL_FIELD_CREATED_AT, ANNAL_OP_EQ, "x"), "created_at EQ"},
        {time_term(ANNAL_FIELD_ACTION, ANNAL_OP_FROM, 1), "action FROM"},
        {text_term(ANNAL_FIELD_ACTION, 77, "x"), "action operator 77"},
        {{ANNAL_FIELD_IP, ANNAL_OP_EQ, {nullptr, 0}, 0}, "has no value"},
        {text_term(ANNAL_FIELD_IP, ANNAL_OP_EQ, "\xff"), "UTF-8"},
    };
    for (const auto& [term, words] : bad) {
        const PageCopy page = scan(10, {}, {term});
        ASSERT_TRUE(page.error) << words;
        EXPECT_EQ(page.error->code, Errc::invalid) << words;
        EXPECT_NE(page.error->detail.find(words), std::string::npos) << page.error->detail;
    }
    EXPECT_EQ(
        scan(10, {}, {text_term(ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, "")}).error->code,
        Errc::unprocessable
    );
    EXPECT_EQ(
        scan(10, {}, {text_term(ANNAL_FIELD_ACTION, ANNAL_OP_MATCH, "a.*.b")}).error->code,
        Errc::unprocessable
    );
    const std::string too_long(2'000, 'x');
    EXPECT_EQ(
        scan(10, {}, {text_term(ANNAL_FIELD_TEXT, ANNAL_OP_CONTAINS, too_long)}).error->code,
        Errc::invalid
    );
    const std::vector<annal_term> many(65, text_term(ANNAL_FIELD_IP, ANNAL_OP_EQ, "1.2.3.4"));
    EXPECT_EQ(scan(10, {}, many).error->code, Errc::invalid);
}

TEST_F(ServicesTest, GetFindsBothFormsOfAnId) {
    const std::string id = append({event_of("user.created")}).ids[0];
    EXPECT_EQ(get(id).seqs, std::vector<Seq>{0});
    EXPECT_EQ(get(EventId::parse(id)->uuid()).seqs, std::vector<Seq>{0});
    for (const char* unknown : {"evt_00000000000000000000000000", "nonsense", ""}) {
        EXPECT_EQ(get(unknown).error->code, Errc::not_found) << unknown;
    }
    const TestCall other("proj_b");
    EXPECT_EQ(get(id, other.handle).error->code, Errc::not_found);
}

TEST_F(ServicesTest, EraseLeavesATombstoneAndARecord) {
    const std::string id = append({event_of("user.created")}).ids[0];
    EXPECT_FALSE(erase(id, "asked \"politely\""));
    EXPECT_EQ(get(id).error->code, Errc::not_found);
    EXPECT_EQ(erase(id, "again")->code, Errc::not_found);
    EXPECT_EQ(erase("nonsense", std::nullopt)->code, Errc::not_found);
    ScanRequest request;
    request.project = "proj_a";
    const auto log = host.run(host.store.scan(request)).value();
    ASSERT_EQ(log.batch.events.size(), 1U);
    const Event& record = log.batch.events[0];
    EXPECT_EQ(record[Column::action].view(), "audit_log.entry.deleted");
    EXPECT_EQ(record[Column::actor_id].view(), "apikey_1");
    EXPECT_EQ(record[Column::actor_type].view(), "api_key");
    EXPECT_EQ(record[Column::target_type].view(), "audit_event");
    EXPECT_EQ(record[Column::target_id].view(), id);
    EXPECT_EQ(record[Column::metadata].view(), R"({"seq":0,"reason":"asked \"politely\""})");
}

TEST_F(ServicesTest, EraseTakesTheUuidAndNoReason) {
    const std::string id = append({event_of("user.created")}).ids[0];
    EXPECT_FALSE(erase(EventId::parse(id)->uuid(), std::nullopt));
    const auto record = scan(1);
    EXPECT_EQ(record.actions, std::vector<std::string>{"audit_log.entry.deleted"});
    EXPECT_EQ(erase(id, std::string(1025, 'r'))->code, Errc::unprocessable);
    EXPECT_EQ(erase(id, "\xff")->code, Errc::unprocessable);
}

TEST_F(ServicesTest, ActionsAndLogStateDescribeTheLog) {
    fill(3, "user.created");
    fill(5, "auth.login");
    Promised<std::vector<std::pair<std::string, std::int64_t>>> actions;
    store().actions(
        plugin.ctx(),
        call.handle,
        0,
        &actions,
        [](void* user, const annal_actions* rows, const annal_error* error) {
            ASSERT_EQ(error, nullptr);
            std::vector<std::pair<std::string, std::int64_t>> out;
            for (std::uint32_t i = 0; i < rows->count; ++i) {
                const auto& row = *ANNAL_AT(annal_action_count, rows->rows, rows->stride, i);
                out.emplace_back(to_view(row.action), row.count);
            }
            static_cast<decltype(actions)*>(user)->set(out);
        }
    );
    EXPECT_EQ(
        actions.get(),
        (std::vector<std::pair<std::string, std::int64_t>>{{"auth.login", 5}, {"user.created", 3}})
    );
    Promised<std::pair<Seq, Seq>> state;
    store().log_state(
        plugin.ctx(),
        call.handle,
        &state,
        [](void* user, const annal_log_state* found, const annal_error* error) {
            ASSERT_EQ(error, nullptr);
            static_cast<decltype(state)*>(user)->set({found->first_seq, found->head_seq});
        }
    );
    EXPECT_EQ(state.get(), std::make_pair(Seq{0}, Seq{7}));
}

// --- codec
// ------------------------------------------------------------------------------------------------------------

TEST_F(ServicesTest, ParseHandsOutEventsThatCanBeAppendedAsTheyAre) {
    const std::string body =
        R"({"action":"user.created","actor":{"type":"user","id":"usr_\u0031"},"metadata":{"n":1.10}})";
    const annal_parsed* parsed = parse(body);
    ASSERT_NE(parsed, nullptr);
    EXPECT_EQ(parsed->status, ANNAL_OK);
    EXPECT_EQ(parsed->single, 1U);
    ASSERT_NE(parsed->batch, nullptr);
    EXPECT_EQ(parsed->batch->count, 1U);
    EXPECT_EQ(parsed->indexes[0], 0U);
    EXPECT_EQ(to_view(parsed->batch->events->metadata), R"({"n":1.10})");
    EXPECT_EQ(to_view(parsed->batch->events->actor_id), "usr_1");
    EXPECT_EQ(parsed->batch->events->id.ptr, nullptr);
    EXPECT_FALSE(append(parsed->batch).error);
    EXPECT_EQ(scan(10).actions, std::vector<std::string>{"user.created"});
}

TEST_F(ServicesTest, ParseReportsWhatIsWrongBesideWhatIsRight) {
    const std::string body =
        R"({"events":[{"action":"user.created","actor":{"type":"user"}},{"action":"No"},{"action":"user.deleted","actor":{"type":"user"}}]})";
    const annal_parsed* parsed = parse(body);
    EXPECT_EQ(parsed->status, ANNAL_UNPROCESSABLE);
    ASSERT_EQ(parsed->batch->count, 2U);
    EXPECT_EQ(parsed->indexes[1], 2U);
    ASSERT_GE(parsed->n_issues, 1U);
    EXPECT_EQ(ANNAL_AT(annal_issue, parsed->issues, parsed->issue_stride, 0)->index, 1U);
    const std::string malformed = "{\"action\": nope}";
    const annal_parsed* none = parse(malformed);
    EXPECT_EQ(none->status, ANNAL_INVALID);
    EXPECT_EQ(none->batch, nullptr);
    EXPECT_GE(none->issues[0].offset, 0);
}

TEST_F(ServicesTest, ParseFailsOnlyWhenTheArenaIsExhausted) {
    const TestCall small("proj_a", 16);
    const annal_parsed* parsed = nullptr;
    const std::string_view body = R"({"action":"user.created"})";
    EXPECT_EQ(
        codec().parse(
            plugin.ctx(),
            small.handle,
            {reinterpret_cast<const std::uint8_t*>(body.data()), body.size()},
            ANNAL_PARSE_JSON,
            0,
            &parsed
        ),
        ANNAL_TOO_LARGE
    );
    EXPECT_EQ(parsed, nullptr);
    EXPECT_EQ(codec().parse(plugin.ctx(), call.handle, {nullptr, 0}, 9, 0, &parsed), ANNAL_INVALID)
        << "unknown form";
}

TEST_F(ServicesTest, ABodyWithoutEndIsParsedAndAppendedChunkByChunk) {
    // 300 MB of events through one call whose arena holds 64 MiB.
    const std::string filler(30'000, 'm');
    const std::string chunk = [&] {
        std::string out;
        for (int i = 0; i < 100; ++i) {
            out +=
                R"({"action":"user.created","actor":{"type":"user"},"description":"\u0041","metadata":{"m":")" +
                filler + "\"}}\n";
        }
        return out;
    }();
    for (int i = 0; i < 20; ++i) {
        const annal_parsed* parsed =
            parse(chunk, ANNAL_PARSE_NDJSON, static_cast<std::uint32_t>(i) * 100);
        ASSERT_NE(parsed, nullptr) << i;
        ASSERT_EQ(parsed->status, ANNAL_OK);
        ASSERT_FALSE(append(parsed->batch).error);
    }
    EXPECT_EQ(scan(1).seqs, std::vector<Seq>{1'999});
}

TEST_F(ServicesTest, AStrictProjectTakesKnownActionsOnly) {
    ASSERT_TRUE(
        host.run(host.settings.put(host.appender, "proj_a", "catalog", "\"strict\"", "system", ""))
    );
    const std::string body =
        "\n{\"action\":\"no.such.thing\",\"actor\":{\"type\":\"user\"}}\n\n{\"action\":\"api_key."
        "created\",\"actor\":{\"type\":\"user\"}}\n";
    const annal_parsed* parsed = parse(body, ANNAL_PARSE_NDJSON, 10);
    EXPECT_EQ(parsed->status, ANNAL_UNPROCESSABLE);
    ASSERT_EQ(parsed->n_issues, 1U);
    EXPECT_EQ(to_view(parsed->issues[0].code), "unknown_action");
    EXPECT_EQ(parsed->issues[0].index, 0U);
    EXPECT_EQ(parsed->issues[0].line, 12U);
    ASSERT_EQ(parsed->batch->count, 1U);
    EXPECT_EQ(parsed->indexes[0], 1U);

    const Appended refused = append({event_of("no.such.thing")});
    EXPECT_EQ(refused.error->code, Errc::unprocessable);
    EXPECT_FALSE(append({event_of("api_key.created")}).error);
}

TEST_F(ServicesTest, RenderWritesTheCanonicalLine) {
    const std::string id = append({event_of("user.created")}).ids[0];
    ScanRequest request;
    request.project = "proj_a";
    const auto stored = host.run(host.store.scan(request)).value();
    std::string expected;
    append_canonical_json(expected, stored.batch.events[0]);
    const annal_event event = to_abi(stored.batch.events[0], id);
    WriteBuffer buffer(4096);
    const annal_writer writer = buffer.writer();
    EXPECT_EQ(codec().render(plugin.ctx(), &event, ANNAL_RENDER_CANONICAL, &writer), ANNAL_OK);
    EXPECT_EQ(buffer.view(), expected);
    EXPECT_EQ(codec().render(plugin.ctx(), &event, 9, &writer), ANNAL_UNSUPPORTED);
    WriteBuffer tiny(10);
    const annal_writer short_writer = tiny.writer();
    EXPECT_EQ(
        codec().render(plugin.ctx(), &event, ANNAL_RENDER_CANONICAL, &short_writer), ANNAL_TOO_LARGE
    );
}

TEST_F(ServicesTest, TimesAreReadAndWritten) {
    std::int64_t at = 0;
    EXPECT_EQ(codec().parse_time(plugin.ctx(), str("2026-05-14T18:42:13.001Z"), &at), ANNAL_OK);
    char text[28];
    codec().format_time(plugin.ctx(), at, text);
    EXPECT_STREQ(text, "2026-05-14T18:42:13.001000Z");
    EXPECT_EQ(codec().parse_time(plugin.ctx(), str("yesterday"), &at), ANNAL_INVALID);
}

// --- kv, secrets, config, export
// --------------------------------------------------------------------------------------

class KvTest : public ServicesTest {
protected:
    static annal_kv_op op(std::uint32_t kind, std::string_view key, std::string_view value = {}) {
        return {
            kind, 0, str(key), {reinterpret_cast<const std::uint8_t*>(value.data()), value.size()}};
    }
    static annal_kv_ops ops(const std::vector<annal_kv_op>& list) {
        return {
            sizeof(annal_kv_ops),
            static_cast<std::uint32_t>(list.size()),
            sizeof(annal_kv_op),
            0,
            list.data()};
    }
    std::optional<Error> commit(const std::vector<annal_kv_op>& list) {
        const annal_kv_ops all = ops(list);
        Promised<std::optional<Error>> result;
        service<annal_kv_v1>(ANNAL_SERVICE_KV)
            .commit(
                plugin.ctx(),
                call.handle,
                &all,
                &result,
                [](void* user, const annal_error* error) {
                    static_cast<Promised<std::optional<Error>>*>(user)->set(
                        error != nullptr ? std::optional(to_error(*error)) : std::nullopt
                    );
                }
            );
        return result.get();
    }
    struct Rows {
        std::map<std::string, std::string> rows;
        bool has_more = false;
        std::optional<Error> error;
    };
    Rows rows(
        std::string_view prefix,
        std::string_view after = {},
        std::uint32_t limit = 100,
        annal_call* handle = nullptr
    ) {
        Promised<Rows> result;
        service<annal_kv_v1>(ANNAL_SERVICE_KV)
            .scan(
                plugin.ctx(),
                handle != nullptr ? handle : call.handle,
                str(prefix),
                str(after),
                limit,
                &result,
                [](void* user, const annal_kv_rows* found, const annal_error* error) {
                    Rows out;
                    if (error != nullptr) out.error = to_error(*error);
                    for (std::uint32_t i = 0; found != nullptr && i < found->count; ++i) {
                        const auto& row = *ANNAL_AT(annal_kv_row, found->rows, found->stride, i);
                        out.rows[std::string(to_view(row.key))].assign(
                            reinterpret_cast<const char*>(row.value.ptr), row.value.len
                        );
                    }
                    if (found != nullptr) out.has_more = found->has_more != 0;
                    static_cast<Promised<Rows>*>(user)->set(out);
                }
            );
        return result.get();
    }
};

TEST_F(KvTest, CommitsAllOrNothing) {
    EXPECT_FALSE(commit({op(ANNAL_KV_PUT, "a", "1"), op(ANNAL_KV_PUT, "b", "2")}));
    EXPECT_EQ(commit({op(ANNAL_KV_PUT, "c", "3"), op(ANNAL_KV_ABSENT, "a")})->code, Errc::conflict);
    EXPECT_EQ(
        commit({op(ANNAL_KV_EQUALS, "a", "9"), op(ANNAL_KV_ERASE, "a")})->code, Errc::conflict
    );
    EXPECT_EQ(rows("").rows, (std::map<std::string, std::string>{{"a", "1"}, {"b", "2"}}));
    EXPECT_FALSE(commit({op(ANNAL_KV_ERASE, "a"), op(ANNAL_KV_EQUALS, "a", "1")}))
        << "preconditions come first";
    EXPECT_EQ(rows("").rows, (std::map<std::string, std::string>{{"b", "2"}}));
}

TEST_F(KvTest, ScansByPrefixAndPages) {
    EXPECT_FALSE(commit(
        {op(ANNAL_KV_PUT, "x/1", "1"),
         op(ANNAL_KV_PUT, "x/2", "2"),
         op(ANNAL_KV_PUT, "x/3", ""),
         op(ANNAL_KV_PUT, "y", "4")}
    ));
    const Rows first = rows("x/", {}, 2);
    EXPECT_EQ(first.rows.size(), 2U);
    EXPECT_TRUE(first.has_more);
    const Rows rest = rows("x/", "x/2", 2);
    EXPECT_EQ(rest.rows, (std::map<std::string, std::string>{{"x/3", ""}}));
    EXPECT_FALSE(rest.has_more);
}

TEST_F(KvTest, BelongsToTheInstanceAndTheProject) {
    EXPECT_FALSE(commit({op(ANNAL_KV_PUT, "a", "1")}));
    const TestCall other_project("proj_b");
    EXPECT_TRUE(rows("", {}, 10, other_project.handle).rows.empty());
    EXPECT_EQ(host.run(host.store.kv_get("plugin.test-plugin", "proj_a", "a")).value(), "1");
}

TEST_F(KvTest, BoundsKeysValuesAndOperations) {
    const std::string long_key(513, 'k'), long_value((64U << 10) + 1, 'v'),
        full_value(64U << 10, 'v');
    EXPECT_EQ(commit({op(ANNAL_KV_PUT, "", "1")})->code, Errc::invalid);
    EXPECT_EQ(commit({op(ANNAL_KV_PUT, long_key, "1")})->code, Errc::invalid);
    EXPECT_EQ(commit({op(ANNAL_KV_PUT, "k", long_value)})->code, Errc::too_large);
    EXPECT_EQ(commit({op(9, "k", "1")})->code, Errc::invalid);
    EXPECT_FALSE(commit({op(ANNAL_KV_PUT, long_key.substr(1), full_value)}));
    EXPECT_EQ(
        commit(std::vector<annal_kv_op>(129, op(ANNAL_KV_PUT, "k", full_value)))->code,
        Errc::too_large
    );
    EXPECT_EQ(rows("", {}, 0).error->code, Errc::invalid);
    EXPECT_EQ(rows("", {}, 1'001).error->code, Errc::invalid);
}

TEST_F(KvTest, CommitsTogetherWithEvents) {
    const annal_event event = event_of("user.created");
    const annal_batch batch{sizeof(annal_batch), 1, sizeof(annal_event), 0, &event, {nullptr, 0}};
    const std::vector<annal_kv_op> list{op(ANNAL_KV_PUT, "seen", "1"), op(ANNAL_KV_ABSENT, "seen")};
    const annal_kv_ops all = ops(list);
    EXPECT_FALSE(append(&batch, {}, &all).error);
    EXPECT_EQ(append(&batch, {}, &all).error->code, Errc::conflict);
    EXPECT_EQ(scan(10).seqs, std::vector<Seq>{0}) << "the second event went with its precondition";

    instance.reset();
    plugin.manifest.permissions.kv = false;
    open();
    EXPECT_EQ(append(&batch, {}, &all).error->code, Errc::denied);
}

TEST_F(ServicesTest, SecretsAreGivenByPermission) {
    const auto& secrets = service<annal_secrets_v1>(ANNAL_SERVICE_SECRETS);
    const auto get_secret = [&](const char* name, std::string& value) {
        annal_str out{};
        const annal_status status = secrets.get(plugin.ctx(), call.handle, str(name), &out);
        value = to_view(out);
        return status;
    };
    std::string value;
    EXPECT_EQ(get_secret("token", value), ANNAL_OK);
    EXPECT_EQ(value, "value of token");
    EXPECT_EQ(get_secret("aws/key", value), ANNAL_OK);
    EXPECT_EQ(value, "value of aws/key");
    EXPECT_EQ(get_secret("aws/none", value), ANNAL_NOT_FOUND);
    for (const char* denied : {"tokens", "aws", "aws/", "AWS/key", "other", "", "aws/*x/.."}) {
        const bool below = std::string(denied) == "aws/*x/..";
        EXPECT_EQ(get_secret(denied, value), below ? ANNAL_OK : ANNAL_DENIED) << denied;
        if (!below) {
            EXPECT_EQ(value, "");
        }
    }
}

TEST_F(ServicesTest, ConfigIsTheProjects) {
    const auto& config = service<annal_config_v1>(ANNAL_SERVICE_CONFIG);
    annal_str out{};
    EXPECT_EQ(config.get(plugin.ctx(), call.handle, str("audit_retention_days"), &out), ANNAL_OK);
    EXPECT_EQ(to_view(out), "null");
    ASSERT_TRUE(host.run(
        host.settings.put(host.appender, "proj_a", "audit_retention_days", "30", "system", "")
    ));
    EXPECT_EQ(config.get(plugin.ctx(), call.handle, str("audit_retention_days"), &out), ANNAL_OK);
    EXPECT_EQ(to_view(out), "30");
    EXPECT_EQ(config.get(plugin.ctx(), call.handle, str("nonsense"), &out), ANNAL_NOT_FOUND);
    EXPECT_EQ(out.ptr, nullptr);
}

TEST_F(ServicesTest, ExportIsUnavailableUntilTheServerIsThere) {
    const auto& table = service<annal_export_v1>(ANNAL_SERVICE_EXPORT);
    const annal_export request{};
    const annal_response response{};
    Promised<std::optional<Error>> result;
    const auto done = [](void* user, const annal_error* error) {
        static_cast<Promised<std::optional<Error>>*>(user)->set(
            error != nullptr ? std::optional(to_error(*error)) : std::nullopt
        );
    };
    table.run(plugin.ctx(), call.handle, &request, &response, &result, done);
    EXPECT_EQ(result.get()->code, Errc::unavailable);
    host.environment.run_export =
        [](Call&, const annal_export&, const annal_response&, void* user, annal_done finish) {
            finish(user, nullptr);
        };
    Promised<std::optional<Error>> second;
    table.run(plugin.ctx(), call.handle, &request, &response, &second, done);
    EXPECT_FALSE(second.get());
}

TEST_F(ServicesTest, SoAreLiveTails) {
    const auto& table = service<annal_export_v1>(ANNAL_SERVICE_EXPORT);
    annal_tail request{};
    request.after_seq = 7;
    const annal_response response{};
    const auto done = [](void* user, const annal_error* error) {
        static_cast<Promised<std::optional<Error>>*>(user)->set(
            error != nullptr ? std::optional(to_error(*error)) : std::nullopt
        );
    };
    Promised<std::optional<Error>> result;
    table.tail(plugin.ctx(), call.handle, &request, &response, &result, done);
    EXPECT_EQ(result.get()->code, Errc::unavailable);
    std::int64_t after = 0;
    host.environment.run_tail =
        [&](Call&, const annal_tail& what, const annal_response&, void* user, annal_done finish) {
            after = what.after_seq;
            finish(user, nullptr);
        };
    Promised<std::optional<Error>> second;
    table.tail(plugin.ctx(), call.handle, &request, &response, &second, done);
    EXPECT_FALSE(second.get());
    EXPECT_EQ(after, 7);
}

}  // namespace
}  // namespace annal
