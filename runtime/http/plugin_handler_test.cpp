#include "runtime/http/plugin_handler.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/strand.hpp>
#include <thread>

#include "tests/support/fake_exchange.h"
#include "tests/support/test_host.h"

namespace annal::http {
namespace {

using test::ExchangeRecord;
using test::FakeExchange;
using test::Promised;
using test::TestHost;
using test::TestPlugin;

std::string_view text_of(annal_bytes bytes) {
    return {reinterpret_cast<const char*>(bytes.ptr), bytes.len};
}
annal_bytes bytes_of(std::string_view text) {
    return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

/// What a plugin got, one after the other; safe to fill from any thread.
struct Outcomes {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<annal_status> codes;

    void add(annal_status code) {
        const std::lock_guard lock(mutex);
        codes.push_back(code);
        changed.notify_all();
    }
    std::vector<annal_status> wait(std::size_t count) {
        std::unique_lock lock(mutex);
        changed.wait_for(lock, std::chrono::seconds(10), [&] { return codes.size() >= count; });
        return codes;
    }
    static void done(void* self, const annal_error* error) {
        static_cast<Outcomes*>(self)->add(error != nullptr ? error->code : annal_status{ANNAL_OK});
    }
    static void read_done(void* self, annal_status status, annal_bytes) {
        static_cast<Outcomes*>(self)->add(status);
    }
};

class PluginHandlerTest : public testing::Test {
protected:
    void SetUp() override { plugin.manifest.timeout_us = 10'000'000; }
    void TearDown() override { host.drain(); }

    /// Sends one request through the handler on a strand of its own.
    std::shared_ptr<ExchangeRecord> send(const std::function<void(FakeExchange&)>& prepare = {}) {
        if (!handler) open();
        const auto record = std::make_shared<ExchangeRecord>();
        auto exchange = std::make_shared<FakeExchange>(record);
        if (prepare) prepare(*exchange);
        boost::asio::any_io_executor strand = boost::asio::make_strand(host.executor);
        boost::asio::co_spawn(strand, handler->handle(std::move(exchange)), boost::asio::detached);
        return record;
    }
    void open() {
        instance = plugin.create(host.environment).value();
        handler = make_plugin_handler(instance, host.environment);
    }
    void complete(annal_call* call, Errc code = Errc::internal, const char* text = nullptr) {
        if (text == nullptr) return plugin.host->complete(call, nullptr);
        const annal_error error = to_abi(Error{code, text, {}, 0});
        plugin.host->complete(call, &error);
    }

    TestHost host;
    TestPlugin plugin;
    std::shared_ptr<Instance> instance;
    std::shared_ptr<Handler> handler;
};

TEST_F(PluginHandlerTest, HandsOverTheWholeRequest) {
    std::string seen;
    plugin.on_handle = [&](annal_call* call, const annal_request* r, const annal_response*) {
        for (const annal_str s :
             {r->trigger,
              r->method,
              r->path,
              r->project_id,
              r->key_id,
              r->request_id,
              r->peer_ip}) {
            seen += std::string(to_view(s)) + "|";
        }
        for (std::uint32_t i = 0; i < r->n_headers; ++i)
            seen += std::string(to_view(r->headers[i].key)) + ":" +
                    std::string(to_view(r->headers[i].value)) + "|";
        for (std::uint32_t i = 0; i < r->n_query; ++i)
            seen += std::string(to_view(r->query[i].key)) + "=" +
                    std::string(to_view(r->query[i].value)) + "|";
        for (std::uint32_t i = 0; i < r->n_params; ++i)
            seen += std::string(to_view(r->params[i].key)) + "=" +
                    std::string(to_view(r->params[i].value)) + "|";
        seen += std::to_string(r->content_length);
        const auto shared = Call::share(call);
        seen += "|" + shared->options().project + "|" + shared->options().actor_type + "|" +
                shared->options().actor_id;
        complete(call, Errc::not_found, "no such thing");
    };
    const auto record = send([](FakeExchange& exchange) {
        exchange.wanted.headers = {{"accept", "*/*"}, {"x-empty", ""}};
        exchange.wanted.query = {{"a", "1"}, {"a", "2"}};
        exchange.wanted.params = {{"id", "evt"}};
        exchange.wanted.content_length = 12;
    });
    record->wait_dropped();
    EXPECT_EQ(
        seen,
        "list|GET|/v1/test|proj_a|apikey_1|req_1|192.0.2.1|accept:*/"
        "*|x-empty:|a=1|a=2|id=evt|12|proj_a|api_key|apikey_1"
    );
    ASSERT_TRUE(record->problem);
    EXPECT_EQ(record->status, 404);
    EXPECT_EQ(record->problem->detail, "no such thing");
}

/// Reads the whole body and echoes it in one write for each chunk, from a thread of its own.
struct Echo {
    TestPlugin& plugin;
    annal_call* call;
    const annal_request* request;
    const annal_response* response;
    std::string chunk;

    static void begin(
        TestPlugin& plugin, annal_call* call, const annal_request* q, const annal_response* r
    ) {
        auto* echo = new Echo{plugin, call, q, r, {}};
        const annal_pair headers[] = {
            {to_abi(std::string_view("content-type")), to_abi(std::string_view("text/plain"))}};
        EXPECT_EQ(r->start(r->r, 201, headers, 1), ANNAL_OK);
        q->read(q->r, echo, &Echo::on_read);
    }
    static void on_read(void* user, annal_status status, annal_bytes bytes) {
        auto* echo = static_cast<Echo*>(user);
        EXPECT_EQ(status, ANNAL_OK);
        echo->chunk = text_of(bytes);
        // The plugin's own thread: everything may come from anywhere.
        std::thread([echo] {
            const annal_response* r = echo->response;
            if (!echo->chunk.empty())
                return r->write(r->r, bytes_of(echo->chunk), echo, &Echo::on_written);
            const annal_pair trailers[] = {
                {to_abi(std::string_view("X-Sum")), to_abi(std::string_view("7"))}};
            r->finish(r->r, trailers, 1, echo, &Echo::on_finished);
        }).detach();
    }
    static void on_written(void* user, const annal_error* error) {
        auto* echo = static_cast<Echo*>(user);
        EXPECT_EQ(error, nullptr);
        echo->request->read(echo->request->r, echo, &Echo::on_read);
    }
    static void on_finished(void* user, const annal_error* error) {
        const std::unique_ptr<Echo> echo(static_cast<Echo*>(user));
        EXPECT_EQ(error, nullptr);
        echo->plugin.host->complete(echo->call, nullptr);
    }
};

TEST_F(PluginHandlerTest, StreamsBothWaysFromAnyThread) {
    plugin.on_handle = [&](annal_call* call, const annal_request* q, const annal_response* r) {
        Echo::begin(plugin, call, q, r);
    };
    std::vector<std::shared_ptr<ExchangeRecord>> records;
    for (int i = 0; i < 50; ++i) {
        records.push_back(send([i](FakeExchange& exchange) {
            for (int k = 0; k < 20; ++k)
                exchange.reads.emplace_back(
                    "chunk " + std::to_string(i) + "/" + std::to_string(k) + ";"
                );
            exchange.read_delay_ms = i % 2;
        }));
    }
    for (int i = 0; i < 50; ++i) {
        ExchangeRecord& record = *records[static_cast<std::size_t>(i)];
        record.wait_end();
        std::string expected;
        for (int k = 0; k < 20; ++k)
            expected += "chunk " + std::to_string(i) + "/" + std::to_string(k) + ";";
        EXPECT_EQ(record.body, expected);
        EXPECT_EQ(record.status, 201);
        EXPECT_EQ(record.header("content-type"), "text/plain");
        EXPECT_EQ(record.trailer("X-Sum"), "7");
        EXPECT_FALSE(record.streamed);
        record.wait_dropped();
    }
}

TEST_F(PluginHandlerTest, LiftsTheBodyLimitForNdjson) {
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response*) {
        complete(call, Errc::invalid, "x");
    };
    for (const char* type :
         {"application/x-ndjson", "application/jsonl; charset=utf-8", "Application/NDJSON"}) {
        const auto record = send([&](FakeExchange& exchange) {
            exchange.wanted.headers = {{"content-type", type}};
        });
        record->wait_dropped();
        EXPECT_TRUE(record->streamed) << type;
    }
    const auto record = send([](FakeExchange& exchange) {
        exchange.wanted.headers = {{"content-type", "application/json"}};
    });
    record->wait_dropped();
    EXPECT_FALSE(record->streamed);
}

TEST_F(PluginHandlerTest, ReportsReadErrorsToThePlugin) {
    Outcomes outcomes;
    plugin.on_handle = [&](annal_call* call, const annal_request* q, const annal_response*) {
        struct Context {
            TestPlugin& plugin;
            annal_call* call;
            Outcomes& outcomes;
        };
        q->read(
            q->r,
            new Context{plugin, call, outcomes},
            [](void* user, annal_status status, annal_bytes) {
                const std::unique_ptr<Context> context(static_cast<Context*>(user));
                context->outcomes.add(status);
                const annal_error error =
                    to_abi(Error{static_cast<Errc>(status), "too much", {}, 0});
                context->plugin.host->complete(context->call, &error);
            }
        );
    };
    const auto record = send([](FakeExchange& exchange) {
        exchange.reads.emplace_back(Error{Errc::too_large, "the body", {}, 0});
    });
    record->wait_dropped();
    EXPECT_EQ(outcomes.wait(1), std::vector<annal_status>{ANNAL_TOO_LARGE});
    EXPECT_EQ(record->status, 413);
}

TEST_F(PluginHandlerTest, FailsInThePluginsOwnWords) {
    Outcomes outcomes;
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response* r) {
        const annal_issue issue{
            3,
            4,
            5,
            to_abi(std::string_view("/a")),
            to_abi(std::string_view("too_long")),
            to_abi(std::string_view("is too long"))};
        const annal_problem problem{
            sizeof(annal_problem),
            422,
            to_abi(std::string_view("invalid_events")),
            to_abi(std::string_view("No")),
            {nullptr, 0},
            {nullptr, 0},
            7,
            1,
            sizeof(annal_issue),
            0,
            &issue};
        r->fail(r->r, &problem, &outcomes, &Outcomes::done);
        (void)call;
    };
    annal_call* open_call = nullptr;
    plugin.on_handle = [&, inner = plugin.on_handle](
                           annal_call* call, const annal_request* q, const annal_response* r
                       ) {
        open_call = call;
        inner(call, q, r);
    };
    const auto record = send();
    record->wait_end();
    EXPECT_EQ(outcomes.wait(1), std::vector<annal_status>{ANNAL_OK});
    EXPECT_EQ(record->status, 422);
    EXPECT_EQ(record->problem->code, "invalid_events");
    EXPECT_EQ(record->problem->retry_after_s, 7U);
    ASSERT_EQ(record->problem->issues.size(), 1U);
    EXPECT_EQ(record->problem->issues[0].index, 3U);
    EXPECT_EQ(record->problem->issues[0].line, 4U);
    EXPECT_EQ(record->problem->issues[0].pointer, "/a");
    complete(open_call);
}

TEST_F(PluginHandlerTest, ACallWithoutAnAnswerIsADefect) {
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response*) {
        complete(call);
    };
    const auto record = send();
    record->wait_dropped();
    EXPECT_EQ(record->status, 500);
}

TEST_F(PluginHandlerTest, ACallThatFailsBeforeTheFirstByteIsAnsweredWithItsError) {
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response* r) {
        EXPECT_EQ(r->start(r->r, 200, nullptr, 0), ANNAL_OK);
        complete(call, Errc::busy, "later");
    };
    const auto record = send();
    record->wait_dropped();
    EXPECT_EQ(record->status, 429);
}

TEST_F(PluginHandlerTest, ACallThatEndsInTheMiddleOfItsAnswerIsCut) {
    struct Context {
        TestPlugin& plugin;
        annal_call* call;
    };
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response* r) {
        EXPECT_EQ(r->start(r->r, 200, nullptr, 0), ANNAL_OK);
        r->write(
            r->r,
            bytes_of("half of"),
            new Context{plugin, call},
            [](void* user, const annal_error*) {
                const std::unique_ptr<Context> context(static_cast<Context*>(user));
                context->plugin.host->complete(context->call, nullptr);
            }
        );
    };
    const auto record = send();
    record->wait_dropped();
    EXPECT_EQ(record->body, "half of");
    EXPECT_FALSE(record->finished);
}

TEST_F(PluginHandlerTest, AnAnswerThatWasOnlyFinishedStillGoesOutWhenTheCallEndsAtOnce) {
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response* r) {
        EXPECT_EQ(r->start(r->r, 204, nullptr, 0), ANNAL_OK);
        r->finish(r->r, nullptr, 0, nullptr, [](void*, const annal_error*) {});
        complete(call);
    };
    const auto record = send();
    record->wait_dropped();
    EXPECT_EQ(record->status, 204);
    EXPECT_TRUE(record->finished);
}

TEST_F(PluginHandlerTest, MisuseIsAnErrorNotACrash) {
    Outcomes first, second, early, late;
    annal_call* open_call = nullptr;
    plugin.on_handle = [&](annal_call* call, const annal_request* q, const annal_response* r) {
        open_call = call;
        r->write(r->r, bytes_of("too early"), &early, &Outcomes::done);
        r->finish(r->r, nullptr, 0, &early, &Outcomes::done);
        const annal_pair bad[] = {
            {to_abi(std::string_view("bad name")), to_abi(std::string_view("x"))}};
        EXPECT_EQ(r->start(r->r, 200, bad, 1), ANNAL_INVALID);
        const annal_pair split[] = {
            {to_abi(std::string_view("a")), to_abi(std::string_view("x\r\nSet-Cookie: y"))}};
        EXPECT_EQ(r->start(r->r, 200, split, 1), ANNAL_INVALID);
        EXPECT_EQ(r->start(r->r, 99, nullptr, 0), ANNAL_INVALID);
        EXPECT_EQ(r->start(r->r, 200, nullptr, 0), ANNAL_OK);
        EXPECT_EQ(r->start(r->r, 200, nullptr, 0), ANNAL_INTERNAL);
        const annal_problem problem{
            sizeof(annal_problem), 400, {}, {}, {}, {}, 0, 0, 0, 0, nullptr};
        r->fail(r->r, &problem, &late, &Outcomes::done);
        r->write(r->r, bytes_of("one"), &first, &Outcomes::done);
        r->write(r->r, bytes_of("two"), &second, &Outcomes::done);
        q->read(q->r, &first, &Outcomes::read_done);
        q->read(q->r, &second, &Outcomes::read_done);
    };
    testing::internal::CaptureStderr();
    const auto record = send();
    EXPECT_EQ(early.wait(2), (std::vector<annal_status>{ANNAL_INTERNAL, ANNAL_INTERNAL}));
    EXPECT_EQ(late.wait(1), std::vector<annal_status>{ANNAL_INTERNAL});
    EXPECT_EQ(first.wait(2), (std::vector<annal_status>{ANNAL_OK, ANNAL_OK}));
    EXPECT_EQ(second.wait(2), (std::vector<annal_status>{ANNAL_INTERNAL, ANNAL_INTERNAL}));
    complete(open_call);
    record->wait_dropped();
    EXPECT_EQ(record->body, "one");
    const std::string log = testing::internal::GetCapturedStderr();
    EXPECT_NE(log.find("plugin.response_misused"), std::string::npos);
    EXPECT_NE(log.find("test-plugin"), std::string::npos);
}

TEST_F(PluginHandlerTest, ASilentPluginCostsOnlyItsRequestAndItsLateCallsAreHarmless) {
    plugin.manifest.timeout_us = 50'000;
    const annal_request* request = nullptr;
    const annal_response* response = nullptr;
    Promised<annal_call*> handed;
    plugin.on_handle = [&](annal_call* call, const annal_request* q, const annal_response* r) {
        request = q, response = r;
        EXPECT_EQ(plugin.host->cancelled(call), 0);
        handed.set(call);
    };
    const auto record = send();
    annal_call* call = handed.get();
    record->wait_dropped();
    EXPECT_EQ(record->status, 503);
    EXPECT_EQ(record->problem->code, "timeout");

    // Everything that the plugin does now meets memory that is still there, and an answer that has
    // ended.
    EXPECT_EQ(plugin.host->cancelled(call), 1);
    EXPECT_EQ(to_view(request->path), "/v1/test");
    EXPECT_NE(plugin.host->alloc(call, 100, 8), nullptr);
    EXPECT_EQ(response->start(response->r, 200, nullptr, 0), ANNAL_CANCELLED);
    Outcomes outcomes;
    response->write(response->r, bytes_of("late"), &outcomes, &Outcomes::done);
    EXPECT_EQ(outcomes.wait(1).back(), ANNAL_CANCELLED);
    response->finish(response->r, nullptr, 0, &outcomes, &Outcomes::done);
    EXPECT_EQ(outcomes.wait(2).back(), ANNAL_CANCELLED);
    request->read(request->r, &outcomes, &Outcomes::read_done);
    EXPECT_EQ(outcomes.wait(3).back(), ANNAL_CANCELLED);
    complete(call);
    testing::internal::CaptureStderr();
    complete(call);
    EXPECT_NE(
        testing::internal::GetCapturedStderr().find("plugin.call_completed_twice"),
        std::string::npos
    );
    EXPECT_EQ(record->body, "");
}

TEST_F(PluginHandlerTest, ThousandsOfSilentRequestsTimeOutOnTheirOwn) {
    plugin.manifest.timeout_us = 100'000;
    std::mutex mutex;
    std::vector<annal_call*> calls;
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response*) {
        {
            const std::lock_guard lock(mutex);
            calls.push_back(call);
            if (calls.size() % 2 == 0) return;
        }
        complete(call, Errc::not_found, "answered");
    };
    std::vector<std::shared_ptr<ExchangeRecord>> records;
    for (int i = 0; i < 2'000; ++i) records.push_back(send());
    int silent = 0, answered = 0;
    for (const auto& record : records) {
        record->wait_dropped();
        silent += record->status == 503 ? 1 : 0;
        answered += record->status == 404 ? 1 : 0;
    }
    EXPECT_EQ(silent, 1'000);
    EXPECT_EQ(answered, 1'000);
    const std::lock_guard lock(mutex);
    for (std::size_t i = 1; i < calls.size(); i += 2) complete(calls[i]);
}

TEST_F(PluginHandlerTest, TheTimeThatTheClientTakesDoesNotCount) {
    plugin.manifest.timeout_us = 100'000;
    plugin.on_handle = [&](annal_call* call, const annal_request* q, const annal_response* r) {
        Echo::begin(plugin, call, q, r);
    };
    const auto record = send([](FakeExchange& exchange) {
        exchange.reads.emplace_back("slow");
        exchange.read_delay_ms = 300;
    });
    record->wait_end();
    EXPECT_EQ(record->status, 201);
    EXPECT_EQ(record->body, "slow");
    record->wait_dropped();
}

TEST_F(PluginHandlerTest, AClientThatLeavesCancelsTheCall) {
    Outcomes outcomes;
    Promised<annal_call*> handed;
    const annal_response* response = nullptr;
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response* r) {
        response = r;
        handed.set(call);
    };
    const auto record = send();
    annal_call* call = handed.get();
    EXPECT_EQ(plugin.host->cancelled(call), 0);
    record->gone = true;
    EXPECT_EQ(plugin.host->cancelled(call), 1);
    EXPECT_EQ(response->start(response->r, 200, nullptr, 0), ANNAL_OK);
    response->write(response->r, bytes_of("to nobody"), &outcomes, &Outcomes::done);
    EXPECT_EQ(outcomes.wait(1).back(), ANNAL_CANCELLED);
    response->write(response->r, bytes_of("again"), &outcomes, &Outcomes::done);
    EXPECT_EQ(outcomes.wait(2).back(), ANNAL_CANCELLED);
    EXPECT_EQ(plugin.host->cancelled(call), 1);
    complete(call);
}

TEST_F(PluginHandlerTest, WorkGoesOnAfterTheAnswer) {
    Outcomes outcomes;
    Promised<annal_call*> handed;
    const annal_request* request = nullptr;
    plugin.on_handle = [&](annal_call* call, const annal_request* q, const annal_response* r) {
        request = q;
        EXPECT_EQ(r->start(r->r, 202, nullptr, 0), ANNAL_OK);
        r->finish(r->r, nullptr, 0, &outcomes, &Outcomes::done);
        handed.set(call);
    };
    const auto record = send();
    annal_call* call = handed.get();
    record->wait_dropped();
    EXPECT_EQ(outcomes.wait(1).back(), ANNAL_OK);
    EXPECT_EQ(plugin.host->cancelled(call), 0) << "an answer that was given is no reason to stop";
    EXPECT_EQ(to_view(request->request_id), "req_1");
    EXPECT_NE(plugin.host->alloc(call, 1000, 8), nullptr);
    complete(call);
}

TEST_F(PluginHandlerTest, RendersProblemsInThePluginsForm) {
    open();
    Problem problem;
    problem.status = 404;
    problem.code = "not_found";
    problem.detail = "nothing here";
    const Document document = handler->render(problem);
    EXPECT_EQ(document.content_type, "text/x-problem");
    EXPECT_EQ(document.body, "problem 404 not_found: nothing here");
}

TEST_F(PluginHandlerTest, AResponseOfAnotherKindCanNotBeExportedTo) {
    const Formats formats;
    Exporter exporter(host.environment, formats);
    connect_exports(host.environment, exporter);
    test::TestCall call;
    const annal_export request{
        sizeof(annal_export), 10, nullptr, {}, to_abi(std::string_view("csv")), nullptr, 0, 0, {}};
    const annal_response foreign{};
    Outcomes outcomes;
    host.environment.run_export(*call.call, request, foreign, &outcomes, &Outcomes::done);
    EXPECT_EQ(outcomes.wait(1), std::vector<annal_status>{ANNAL_INVALID});
}

TEST_F(PluginHandlerTest, AnExportThatCanNotBeginLeavesTheAnswerToThePlugin) {
    const Formats formats;
    Exporter exporter(host.environment, formats);
    connect_exports(host.environment, exporter);
    plugin.manifest.permissions.export_ = true;
    struct Context {
        TestPlugin& plugin;
        annal_call* call;
        Outcomes outcomes;
    };
    Promised<Context*> told;
    static Promised<Context*>* tell = nullptr;
    tell = &told;
    plugin.on_handle = [&](annal_call* call, const annal_request*, const annal_response* r) {
        const annal_export request{
            sizeof(annal_export),
            10,
            nullptr,
            {},
            to_abi(std::string_view("csv")),
            nullptr,
            0,
            0,
            {}};
        const auto* table = plugin.service<annal_export_v1>(ANNAL_SERVICE_EXPORT);
        table->run(
            plugin.ctx(),
            call,
            &request,
            r,
            new Context{plugin, call, {}},
            [](void* user, const annal_error* error) {
                auto* context = static_cast<Context*>(user);
                ASSERT_NE(error, nullptr);
                context->outcomes.add(error->code);
                context->plugin.host->complete(context->call, error);
                tell->set(context);
            }
        );
    };
    const auto record = send();
    const std::unique_ptr<Context> context(told.get());
    record->wait_dropped();
    EXPECT_EQ(context->outcomes.codes, std::vector<annal_status>{ANNAL_NOT_FOUND});
    EXPECT_EQ(record->status, 404);
    EXPECT_NE(record->problem->detail.find("csv"), std::string::npos);
}

}  // namespace
}  // namespace annal::http
