#include "runtime/http/export.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/http/plugin_handler.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "tests/support/fake_exchange.h"
#include "tests/support/test_host.h"

namespace annal::http {
namespace {

using test::ExchangeRecord;
using test::FakeExchange;
using test::Promised;
using test::TestHost;

/// A format of this process: a header line, "<seq>,<action>" lines, a closing line. Option
/// "header"="no" leaves the first out; option "fail_at"="<seq>" makes encode fail there.
class LineFormat {
public:
    static std::shared_ptr<Instance> create(HostEnvironment& environment) {
        Manifest manifest;
        manifest.instance = "lines";
        return Instance::create(manifest, module(), environment).value();
    }
    static inline std::atomic<int> open_documents{0};

private:
    struct Document {
        std::int64_t fail_at = -1;
    };
    static void put(const annal_writer* out, std::string_view text) {
        std::size_t cap = 0;
        std::uint8_t* room = out->reserve(out->w, text.size(), &cap);
        ASSERT_NE(room, nullptr);
        std::copy(text.begin(), text.end(), room);
        out->commit(out->w, text.size());
    }
    static annal_status refuse(annal_error* error, annal_status code, std::string_view text) {
        error->code = code;
        error->text_len = static_cast<std::uint32_t>(text.size());
        std::copy(text.begin(), text.end(), error->text);
        return code;
    }
    static annal_status create_instance(const annal_init*, void** self, annal_error*) {
        *self = nullptr;
        return ANNAL_OK;
    }
    static void destroy_instance(void*) {}
    static annal_status begin(
        void*,
        const annal_pair* options,
        std::uint32_t n,
        void** document,
        const annal_writer* out,
        annal_error* error
    ) {
        bool header = true;
        auto made = std::make_unique<Document>();
        for (std::uint32_t i = 0; i < n; ++i) {
            const std::string key(to_view(options[i].key)), value(to_view(options[i].value));
            if (key == "header" && value == "no")
                header = false;
            else if (key == "fail_at")
                made->fail_at = std::stoll(value);
            else
                return refuse(error, ANNAL_INVALID, "unknown option " + key);
        }
        if (header) put(out, "seq,action\n");
        *document = made.release();
        ++open_documents;
        return ANNAL_OK;
    }
    static annal_status encode(
        void* document, const annal_batch* batch, const annal_writer* out, annal_error* error
    ) {
        std::string text;
        for (std::uint32_t i = 0; i < batch->count; ++i) {
            const annal_event& event = *ANNAL_AT(annal_event, batch->events, batch->stride, i);
            if (event.seq == static_cast<Document*>(document)->fail_at)
                return refuse(error, ANNAL_INTERNAL, "can't encode this");
            text += std::to_string(event.seq) + "," + std::string(to_view(event.action)) + "\n";
        }
        put(out, text);
        return ANNAL_OK;
    }
    static annal_status end(void*, const annal_writer* out, annal_error*) {
        put(out, "end\n");
        return ANNAL_OK;
    }
    static void release(void* document) {
        delete static_cast<Document*>(document);
        --open_documents;
    }
    static const Module& module() {
        static const annal_format_v1 table{
            sizeof(annal_format_v1),
            0,
            to_abi(std::string_view("text/lines")),
            to_abi(std::string_view("txt")),
            &create_instance,
            &destroy_instance,
            &begin,
            &encode,
            &end,
            &release};
        static const annal_component component{
            sizeof(annal_component), 0, ANNAL_COMPONENT_FORMAT, "lines", "{}", &table, nullptr};
        static const annal_component* const components[] = {&component};
        static const annal_module descriptor{
            sizeof(annal_module), 1, 0, "dev.annal.lines", "1", "", "", 1, 0, components};
        static const Module module{&descriptor, {}, {}};
        return module;
    }
};

class ExportTest : public testing::Test {
protected:
    void SetUp() override {
        host.store.hop = true;
        formats.add(LineFormat::create(host.environment));
        request.format = "lines";
        request.options = {{"header", "no"}};
        request.next_path = "/v1/audit/events.txt?type=a";
    }
    void TearDown() override {
        EXPECT_EQ(LineFormat::open_documents, 0) << "every document is released";
    }

    void fill(
        std::int64_t count,
        std::string_view action = "user.created",
        std::string_view metadata = "{}"
    ) {
        EventDraft draft;
        draft[Column::action] = action;
        draft[Column::actor_type] = "user";
        draft[Column::metadata] = metadata;
        host.store.fill("proj_a", draft, count);
    }
    struct Answer {
        std::shared_ptr<ExchangeRecord> record;
        std::optional<Error> error;
        std::vector<Seq> seqs;
    };
    static Task<Result<void>> run_on(
        Exporter& e, ExportRequest r, std::shared_ptr<FakeExchange> exchange
    ) {
        co_return co_await e.run("proj_a", std::move(r), std::move(exchange));
    }
    Answer run(const std::function<void(FakeExchange&)>& prepare = {}) {
        Answer out;
        out.record = std::make_shared<ExchangeRecord>();
        auto exchange = std::make_shared<FakeExchange>(out.record);
        if (prepare) prepare(*exchange);
        const auto outcome = host.run(run_on(exporter, request, exchange));
        exchange.reset();
        if (!outcome) out.error = outcome.error();
        std::istringstream lines(out.record->body);
        for (std::string line; std::getline(lines, line);) {
            if (!line.empty() && line[0] >= '0' && line[0] <= '9')
                out.seqs.push_back(std::stoll(line));
        }
        return out;
    }
    static std::vector<Seq> down(Seq from, Seq to) {
        std::vector<Seq> out;
        for (Seq seq = from; seq >= to; --seq) out.push_back(seq);
        return out;
    }
    static void take_trailers(FakeExchange& exchange) {
        exchange.wanted.headers = {{"te", "trailers"}};
    }
    /// The look-ahead has no time at all.
    void blind() { host.limits.scan_budget_ms = 0; }

    TestHost host;
    Formats formats;
    Exporter exporter{host.environment, formats};
    ExportRequest request;
};

TEST_F(ExportTest, OfAnEmptyLogIsAnEmptyDocument) {
    request.options.clear();
    const Answer answer = run();
    EXPECT_FALSE(answer.error);
    EXPECT_EQ(answer.record->status, 200);
    EXPECT_EQ(answer.record->body, "seq,action\nend\n");
    EXPECT_EQ(answer.record->header("Content-Type"), "text/lines");
    EXPECT_EQ(
        answer.record->header("Content-Disposition"), "attachment; filename=\"audit-events.txt\""
    );
    EXPECT_FALSE(answer.record->header("Annal-Truncated"));
    EXPECT_TRUE(answer.record->finished);
}

TEST_F(ExportTest, SendsTheNewestFirst) {
    fill(3'000);
    const Answer answer = run();
    EXPECT_EQ(answer.seqs, down(2'999, 0));
    EXPECT_TRUE(answer.record->body.ends_with("0,user.created\nend\n"));
    EXPECT_FALSE(answer.record->header("Annal-Truncated"));
    EXPECT_FALSE(answer.record->header("Trailer"));
}

TEST_F(ExportTest, OfExactlyTheLimitIsNotMarked) {
    fill(100'000);
    const Answer answer = run();
    EXPECT_FALSE(answer.error);
    EXPECT_EQ(answer.seqs.size(), 100'000U);
    EXPECT_EQ(answer.seqs, down(99'999, 0));
    EXPECT_FALSE(answer.record->header("Annal-Truncated"));
    EXPECT_FALSE(answer.record->header("Annal-Next-Cursor"));
    EXPECT_TRUE(answer.record->trailers.empty());
}

TEST_F(ExportTest, OfOneMoreIsMarkedBeforeItsFirstByteAndContinued) {
    fill(100'001);
    const Answer answer = run();
    EXPECT_EQ(answer.seqs, down(100'000, 1));
    EXPECT_EQ(answer.record->header("Annal-Truncated"), "true");
    const auto cursor = answer.record->header("Annal-Next-Cursor");
    ASSERT_TRUE(cursor);
    EXPECT_EQ(
        answer.record->header("Link"),
        "</v1/audit/events.txt?type=a&cursor=" + *cursor + ">; rel=\"next\""
    );
    EXPECT_TRUE(answer.record->trailers.empty());
    request.cursor = *cursor;
    const Answer rest = run();
    EXPECT_EQ(rest.seqs, std::vector<Seq>{0});
    EXPECT_FALSE(rest.record->header("Annal-Truncated"));
}

TEST_F(ExportTest, FollowsItsCursorsThroughTheWholeLog) {
    fill(1'000);
    request.rows_max = 300;
    std::vector<Seq> seen;
    int parts = 0;
    do {
        const Answer answer = run();
        ASSERT_FALSE(answer.error);
        seen.insert(seen.end(), answer.seqs.begin(), answer.seqs.end());
        request.cursor = answer.record->header("Annal-Next-Cursor").value_or("");
        fill(5);  // what comes meanwhile disturbs nothing
        ++parts;
    } while (!request.cursor.empty());
    EXPECT_EQ(parts, 4);
    EXPECT_EQ(seen, down(999, 0));
}

TEST_F(ExportTest, OfAFilterLooksAheadToo) {
    for (int i = 0; i < 500; ++i) fill(1, "rare.event"), fill(9, "user.created");
    request.filter.actions = {{ActionPattern::Kind::prefix, "rare."}};
    request.rows_max = 300;
    const Answer answer = run();
    EXPECT_EQ(answer.seqs.size(), 300U);
    EXPECT_EQ(answer.record->header("Annal-Truncated"), "true");
    request.cursor = *answer.record->header("Annal-Next-Cursor");
    const Answer rest = run();
    EXPECT_EQ(rest.seqs.size(), 200U);
    EXPECT_FALSE(rest.record->header("Annal-Truncated"));
    EXPECT_LT(rest.seqs.front(), answer.seqs.back());
    request.rows_max = 200;
    EXPECT_FALSE(run().record->header("Annal-Truncated")) << "exactly as many as remain";
}

TEST_F(ExportTest, WithTombstonesDoesNotCountThem) {
    fill(1'000);
    for (Seq seq = 0; seq < 1'000; seq += 2) {
        AppendUnit unit;
        unit.project = "proj_a";
        unit.erase.push_back(seq);
        ASSERT_TRUE(host.run(host.appender.append(unit)));
    }
    request.rows_max = 500;
    Answer answer = run();
    EXPECT_EQ(answer.seqs.size(), 500U);
    EXPECT_FALSE(answer.record->header("Annal-Truncated"));
    request.rows_max = 499;
    answer = run();
    EXPECT_EQ(answer.seqs.size(), 499U);
    EXPECT_EQ(answer.record->header("Annal-Truncated"), "true");
    request.cursor = *answer.record->header("Annal-Next-Cursor");
    EXPECT_EQ(run().seqs, std::vector<Seq>{1});
}

TEST_F(ExportTest, WhoseLookAheadRanOutSaysItInTrailers) {
    fill(1'000);
    blind();
    request.rows_max = 300;
    const Answer answer = run(take_trailers);
    EXPECT_EQ(answer.record->header("Trailer"), "Annal-Truncated, Annal-Next-Cursor, Link");
    EXPECT_FALSE(answer.record->header("Annal-Truncated"));
    EXPECT_EQ(answer.seqs, down(999, 700));
    EXPECT_EQ(answer.record->trailer("Annal-Truncated"), "true");
    EXPECT_TRUE(answer.record->trailer("Link"));
    request.cursor = *answer.record->trailer("Annal-Next-Cursor");
    request.rows_max = 700;
    const Answer rest = run(take_trailers);
    EXPECT_EQ(rest.seqs, down(699, 0));
    EXPECT_EQ(rest.record->trailer("Annal-Truncated"), "false");
    EXPECT_FALSE(rest.record->trailer("Annal-Next-Cursor"));
}

TEST_F(ExportTest, NeverLeavesAClientWithoutTrailersInTheDark) {
    fill(1'000);
    blind();
    request.rows_max = 300;
    const Answer answer = run();
    EXPECT_EQ(answer.record->header("Annal-Truncated"), "unknown");
    EXPECT_FALSE(answer.record->header("Trailer"));
    EXPECT_EQ(answer.seqs.size(), 300U);
}

TEST_F(ExportTest, RefusesBeforeTheFirstByte) {
    fill(10);
    const auto refused = [&](Errc code, std::string_view words) {
        const Answer answer = run();
        ASSERT_TRUE(answer.error) << words;
        EXPECT_EQ(answer.error->code, code) << words;
        EXPECT_NE(answer.error->detail.find(words), std::string::npos) << answer.error->detail;
        EXPECT_EQ(answer.record->status, 0) << "nothing was answered";
    };
    request.format = "csv";
    refused(Errc::not_found, "there are: lines");
    request.format = "lines";
    request.options = {{"colour", "red"}};
    refused(Errc::invalid, "unknown option colour");
    request.options.clear();
    request.cursor = "nonsense";
    refused(Errc::invalid, "");
    request.cursor = host.cursors.seal("proj_b", Filter{}, true, 5);
    refused(Errc::invalid, "");
    Filter other;
    other.text = "x";
    request.cursor = host.cursors.seal("proj_a", other, true, 5);
    refused(Errc::invalid, "");
    request.cursor.clear();
    request.rows_max = 0;
    refused(Errc::invalid, "at least 1");
    request.rows_max = 10;
    host.store.fail_reads(Error{Errc::unavailable, "the store is closing", {}, 0});
    refused(Errc::unavailable, "closing");
    request.options = {{"fail_at", "9"}};
    refused(Errc::internal, "can't encode this");
}

TEST_F(ExportTest, KeepsToTheNodesOwnLimit) {
    fill(10);
    host.limits.export_rows_max = 4;
    const Answer answer = run();
    EXPECT_EQ(answer.seqs, down(9, 6));
    EXPECT_EQ(answer.record->header("Annal-Truncated"), "true");
}

/// The same over the store that ships.
class SqliteExportTest : public ExportTest {
protected:
    void SetUp() override {
        ExportTest::SetUp();
        std::string pattern = testing::TempDir() + "annal-export-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory = pattern;
        SqliteOptions options;
        options.directory = directory;
        options.segment_events_max = 40'000;  // several segments, sealed and open
        store = open_sqlite_store(options, host.clock, host.metrics).value();
        host.environment.store = store.get();
    }
    void TearDown() override {
        store->close();
        store.reset();
        std::filesystem::remove_all(directory);
        ExportTest::TearDown();
    }
    void append(int count) {
        EventDraft draft;
        draft[Column::action] = "user.created";
        draft[Column::actor_type] = "user";
        draft[Column::user_id] = "usr_1";
        draft[Column::metadata] = "{}";
        while (count > 0) {
            std::vector<AppendUnit> units(1);
            units[0].project = "proj_a";
            units[0].events.assign(static_cast<std::size_t>(std::min(count, 10'000)), draft);
            count -= static_cast<int>(units[0].events.size());
            const auto outcomes = host.run(store->append(units));
            ASSERT_TRUE(outcomes[0]) << outcomes[0].error().detail;
        }
    }
    std::filesystem::path directory;
    std::unique_ptr<EventStore> store;
};

TEST_F(SqliteExportTest, MarksOneMoreThanTheLimitAndOnlyThat) {
    host.limits.scan_budget_ms = 60'000;
    append(100'000);
    Answer answer = run();
    EXPECT_FALSE(answer.error);
    EXPECT_EQ(answer.seqs, down(99'999, 0));
    EXPECT_FALSE(answer.record->header("Annal-Truncated"));

    append(1);
    answer = run();
    EXPECT_EQ(answer.seqs, down(100'000, 1));
    EXPECT_EQ(answer.record->header("Annal-Truncated"), "true");
    request.cursor = answer.record->header("Annal-Next-Cursor").value();
    EXPECT_EQ(run().seqs, std::vector<Seq>{0});

    request.cursor.clear();
    request.filter.equals[static_cast<std::size_t>(Column::user_id)] = "usr_1";
    answer = run();
    EXPECT_EQ(answer.seqs, down(100'000, 1));
    EXPECT_EQ(answer.record->header("Annal-Truncated"), "true") << "with a filter too";
}

TEST_F(ExportTest, ThatFailsInTheMiddleIsCut) {
    fill(20'000);
    request.options = {{"fail_at", "10"}};
    testing::internal::CaptureStderr();
    const Answer answer = run();
    const std::string log = testing::internal::GetCapturedStderr();
    ASSERT_TRUE(answer.error);
    EXPECT_EQ(answer.record->status, 200);
    EXPECT_FALSE(answer.record->finished);
    EXPECT_NE(log.find("export.cut"), std::string::npos) << log;
}

TEST_F(ExportTest, EndsWhenTheClientLeaves) {
    fill(100'000);
    const Answer answer =
        run([](FakeExchange& exchange) { exchange.record->gone_after = 200'000; });
    ASSERT_TRUE(answer.error);
    EXPECT_EQ(answer.error->code, Errc::cancelled);
    EXPECT_FALSE(answer.record->finished);
    EXPECT_LT(answer.record->body_bytes, 400'000U);
    EXPECT_LT(host.store.scans, 60) << "the log is not read on for nobody";
}

TEST_F(ExportTest, EndsWhenTheClientLeavesDuringALongSearch) {
    fill(5'000);
    host.store.scan_window = 1;
    request.filter.equals[static_cast<std::size_t>(Column::user_id)] = "nobody";
    blind();
    const Answer answer = run([](FakeExchange& exchange) { exchange.record->gone = true; });
    ASSERT_TRUE(answer.error);
    EXPECT_EQ(answer.error->code, Errc::cancelled);
    EXPECT_LT(host.store.scans, 5);
}

TEST_F(ExportTest, BoundsWhatItHoldsHoweverLargeItsRowsAre) {
    const std::string metadata = "{\"m\":\"" + std::string(60'000, 'm') + "\"}";
    fill(3'000, "user.created", metadata);  // 180 MB
    ::malloc_trim(0);
    const auto resident = [] {
        std::ifstream statm("/proc/self/statm");
        std::size_t size = 0, pages = 0;
        statm >> size >> pages;
        return pages * 4096;
    };
    const std::size_t before = resident();
    std::size_t peak = before;
    host.store.hop = true;
    const Answer answer = run();
    peak = std::max(peak, resident());
    EXPECT_EQ(answer.seqs.size(), 3'000U);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    EXPECT_LT(peak - before, 48U << 20) << "one page of at most 4 MiB and a buffer, not 180 MB";
#endif
}

TEST_F(ExportTest, AnswersAPluginsResponseWithoutPassingThroughIt) {
    fill(2'000);
    connect_exports(host.environment, exporter);
    test::TestPlugin plugin;
    plugin.manifest.permissions.export_ = true;
    plugin.manifest.timeout_us = 100'000;
    struct Context {
        test::TestPlugin& plugin;
        annal_call* call;
    };
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response* response) {
        const annal_pair options[] = {
            {to_abi(std::string_view("header")), to_abi(std::string_view("no"))}};
        const annal_term term{
            ANNAL_FIELD_ACTION, ANNAL_OP_EQ, to_abi(std::string_view("user.created")), 0};
        const annal_filter filter{sizeof(annal_filter), 1, sizeof(annal_term), 0, &term};
        const annal_export what{
            sizeof(annal_export),
            500,
            &filter,
            {nullptr, 0},
            to_abi(std::string_view("lines")),
            options,
            1,
            0,
            {nullptr, 0}};
        plugin.service<annal_export_v1>(ANNAL_SERVICE_EXPORT)
            ->run(
                plugin.ctx(),
                call,
                &what,
                response,
                new Context{plugin, call},
                [](void* user, const annal_error* error) {
                    const std::unique_ptr<Context> context(static_cast<Context*>(user));
                    EXPECT_EQ(error, nullptr);
                    context->plugin.host->complete(context->call, error);
                }
            );
    };
    const std::shared_ptr<Instance> instance = plugin.create(host.environment).value();
    const auto handler = make_plugin_handler(instance, host.environment);
    const auto record = std::make_shared<ExchangeRecord>();
    record->write_delay_ms =
        150;  // a slow client outlasts the plugin's timeout: that is no fault of the plugin
    boost::asio::co_spawn(
        host.executor,
        handler->handle(std::make_shared<FakeExchange>(record)),
        boost::asio::detached
    );
    record->wait_dropped();
    EXPECT_EQ(record->status, 200);
    EXPECT_TRUE(record->finished);
    EXPECT_EQ(std::count(record->body.begin(), record->body.end(), '\n'), 501);
    EXPECT_EQ(record->header("Annal-Truncated"), "true");
    host.drain();
}

}  // namespace
}  // namespace annal::http
