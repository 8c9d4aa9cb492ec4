#include <gtest/gtest.h>
#include <annal/sdk.hpp>

#include <new>
#include <stdexcept>

#include "tests/support/mini_host.h"

namespace {

using annal::test::Instance;
using annal::test::MiniHost;
using annal::test::RawBatch;
using annal::test::Reply;
using annal::test::RequestSpec;
using annal::test::StoredEvent;

struct TestSink : annal::Sink {
    static constexpr auto kName = "test";
    std::string mode;
    static auto config() { return std::tuple{annal::optional("mode", &TestSink::mode, "fine")}; }

    annal::Status open() {
        if (mode == "refuse") return {ANNAL_UNPROCESSABLE, "not today"};
        if (mode == "throw_open") throw std::runtime_error("open broke");
        return {};
    }
    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        if (mode == "throw_encode") throw std::runtime_error("encode broke");
        if (mode == "short_encode") return {};
        return out.append_lines(batch);
    }
    annal::Outcome send(const annal::Delivery& delivery) {
        if (mode == "throw_send") throw std::runtime_error("send broke");
        if (mode == "throw_alloc") throw std::bad_alloc();
        if (mode == "throw_int") throw 1;
        if (mode == "default") return {};
        if (mode == "pause") return annal::pause("401");
        if (mode == "partly")
            return annal::delivered().reject_event(1, "too odd").retry_event(2, "later");
        return delivery.payload().empty() ? annal::retry("empty", 1500) : annal::delivered();
    }
    annal::Status position(std::string_view project, std::int64_t& seq) {
        if (mode == "throw_position") throw std::runtime_error("position broke");
        seq = project == "proj_1" ? 41 : -1;
        return {};
    }
};

struct BareSink : annal::Sink {
    static constexpr auto kName = "bare";
    annal::Outcome send(const annal::Delivery&) { return annal::delivered(); }
};

struct TestHandler : annal::HttpHandler {
    static constexpr auto kName = "handler";
    static constexpr const char* kOpenapi = "operations: {}";

    annal::Task<> handle(annal::Request& request, annal::Response& response) {
        const std::string trigger(request.trigger());
        if (trigger == "throw") throw std::runtime_error("handler broke");
        if (trigger == "forget") co_return;
        if (trigger == "throw_after_start") {
            const annal::Headers headers;
            (void)response.start(200, headers);  // the first start can't fail
            co_await response.write("half");
            throw std::runtime_error("too late");
        }
        if (trigger == "echo") {
            std::string body;
            for (;;) {
                const annal::Chunk chunk = co_await request.read();
                if (!chunk.ok()) {
                    co_await response.fail(annal::Problem(chunk.status()));
                    co_return;
                }
                if (chunk.end()) break;
                body += chunk.bytes();
            }
            co_await response.send(200, "text/plain", body);
            co_return;
        }
        if (trigger == "visit_throws") {
            auto visit = [](const annal::Batch&, bool, annal_str) {
                throw std::runtime_error("visitor broke");
            };
            const annal::Filter all;
            (void)co_await request.call().scan(annal::Query(all), visit);  // throws
        }
        co_await answer_with_status(trigger, request, response);
    }

    annal::Task<> answer_with_status(
        std::string trigger, annal::Request& request, annal::Response& response
    ) {
        const annal::Call& call = request.call();
        const annal::Filter all;
        annal::Status status;
        std::string text;
        if (trigger == "scan") {
            const annal::Page page = co_await call.scan(annal::Query(all).limit(2));
            status = page.status();
            for (const annal_event& event : page.events())
                text += std::string(annal::view(event.id)) + ";";
            text += page.has_more() ? annal::view(page.next_cursor()) : "end";
        } else if (trigger == "get") {
            const annal::Page page = co_await call.get("evt_1");
            status = page.status();
            text = page.events().empty() ? "" : annal::view(page.events()[0].action);
        } else if (trigger == "actions") {
            const annal::ActionCounts counts = co_await call.actions(0);
            status = counts.status();
            for (const auto& row : counts.rows())
                text += std::string(annal::view(row.action)) + std::to_string(row.count);
        } else if (trigger == "log_state") {
            const annal::LogState state = co_await call.log_state();
            status = state.status;
            text = std::to_string(state.head_seq);
        } else if (trigger == "erase") {
            status = co_await call.erase("evt_1", "because");
        } else if (trigger == "append") {
            const annal::Receipts receipts = co_await call.append(annal::Append());
            status = receipts.status();
        } else if (trigger == "kv_scan") {
            const annal::KvPage page = co_await call.kv_scan("a", annal::kNull, 1);
            status = page.status;
        } else if (trigger == "kv_commit") {
            annal::KvOps ops;
            ops.put("a", "b");
            status = co_await call.kv_commit(ops);
        } else if (trigger == "fetch") {
            const annal::ClientResponse answer =
                co_await call.fetch(annal::ClientRequest("GET", "http://x/"));
            status = answer.status;
        } else if (trigger == "export") {
            status = co_await call.run_export(annal::Export(all, "csv"), response.raw());
        } else if (trigger == "secret") {
            status = call.secret("x").status;
        } else if (trigger == "setting") {
            status = call.setting("x").status;
        }
        if (!status.ok()) {
            co_await response.fail(annal::Problem(status));
            co_return;
        }
        co_await response.send(200, "text/plain", text);
    }
};

struct TestFormat : annal::Format {
    static constexpr auto kName = "words";
    static constexpr auto kContentType = "text/plain";
    static constexpr auto kFileExtension = "txt";
    struct Document {
        annal::Status encode(const annal::Batch& batch, annal::Writer& out) {
            if (batch.empty()) throw std::runtime_error("nothing to say");
            out.append("row;");
            return {};
        }
        annal::Status end(annal::Writer& out) {
            out.append("end");
            return {};
        }
    };
    annal::Status begin(
        const annal::Options& options, std::unique_ptr<Document>& document, annal::Writer& out
    ) {
        if (!options.empty()) return {};  // forgets to make one
        out.append("begin;");
        document = std::make_unique<Document>();
        return {};
    }
};

struct TestJob : annal::Job {
    static constexpr auto kName = "job";
    annal::Task<annal::Status> run(const annal::Call& call, annal::JobRun run) {
        if (run.trigger() == "throw") throw std::runtime_error("job broke");
        if (run.trigger() == "fail") co_return annal::Status(ANNAL_CONFLICT, "no");
        const annal::LogState state = co_await call.log_state();
        co_return state.status;
    }
};

}  // namespace

ANNAL_PLUGIN(
    "annal.sdk-test",
    "1.2.3",
    "Annal",
    "Apache-2.0",
    TestSink,
    BareSink,
    TestHandler,
    TestFormat,
    TestJob
)

namespace {

const annal_component& component(std::size_t i) {
    return *annal_module_v1()->components[i];
}

TEST(Module, DescribesItsComponents) {
    const annal_module* module = annal_module_v1();
    EXPECT_EQ(module, annal_module_v1());
    EXPECT_EQ(module->struct_size, sizeof(annal_module));
    EXPECT_EQ(module->abi_major, ANNAL_ABI_MAJOR);
    EXPECT_STREQ(module->id, "annal.sdk-test");
    ASSERT_EQ(module->n_components, 5U);
    const char* types[] = {
        ANNAL_COMPONENT_SINK,
        ANNAL_COMPONENT_SINK,
        ANNAL_COMPONENT_HTTP,
        ANNAL_COMPONENT_FORMAT,
        ANNAL_COMPONENT_JOB};
    for (std::size_t i = 0; i < 5; ++i) {
        EXPECT_STREQ(component(i).type, types[i]);
        EXPECT_NE(component(i).config_schema, nullptr);
    }
}

TEST(Module, SaysWhatItsRoutesAreWhereItsClassDoes) {
    EXPECT_STREQ(component(2).openapi, "operations: {}");
    EXPECT_EQ(component(0).openapi, nullptr);
}

TEST(Module, LeavesOptionalFunctionsOut) {
    const auto& full = *static_cast<const annal_sink_v1*>(component(0).vtable);
    const auto& bare = *static_cast<const annal_sink_v1*>(component(1).vtable);
    EXPECT_TRUE(
        ANNAL_HAS(&full, annal_sink_v1, encode) && ANNAL_HAS(&full, annal_sink_v1, position)
    );
    EXPECT_EQ(bare.encode, nullptr);
    EXPECT_EQ(bare.position, nullptr);
}

TEST(Create, ReportsWhyItRefuses) {
    MiniHost host;
    const std::pair<const char*, const char*> cases[] = {
        {R"({"mode":"refuse"})", "not today"},
        {R"({"mode":"throw_open"})", "the plugin threw: open broke"},
        {R"({"mode":3})", "configuration: /mode: must be a string"},
        {R"({"speed":3})", "configuration: /speed: unknown key"},
    };
    for (const auto& [config, text] : cases) {
        const Instance instance(host, component(0), config);
        EXPECT_NE(instance.status(), ANNAL_OK);
        EXPECT_EQ(instance.self(), nullptr);
        EXPECT_EQ(instance.error(), text);
    }
}

class SinkTest : public testing::Test {
protected:
    annal::test::SinkReply deliver(const std::string& mode) {
        const Instance sink(host_, component(0), R"({"mode":")" + mode + "\"}");
        const auto& table = sink.table<annal_sink_v1>();
        const RawBatch batch(host_.events);
        const auto encoded = annal::test::encode(table, sink.self(), batch.get());
        encode_status_ = encoded.status;
        encode_error_ = encoded.error;
        return annal::test::send(table, sink.self(), batch.get(), encoded);
    }
    void SetUp() override { host_.fill(3); }

    MiniHost host_;
    annal_status encode_status_ = ANNAL_OK;
    std::string encode_error_;
};

TEST_F(SinkTest, EncodesEachEventWithItsEnd) {
    const Instance sink(host_, component(0));
    const RawBatch batch(host_.events);
    const auto encoded = annal::test::encode(sink.table<annal_sink_v1>(), sink.self(), batch.get());
    ASSERT_EQ(encoded.status, ANNAL_OK);
    ASSERT_EQ(encoded.ends.size(), 3U);
    EXPECT_EQ(encoded.ends.back(), encoded.bytes.size());
    for (const std::uint64_t end : encoded.ends) EXPECT_EQ(encoded.bytes[end - 1], '\n');
    EXPECT_TRUE(encoded.bytes.starts_with(R"({"id":"evt_0")"));
}

TEST_F(SinkTest, ReportsVerdictsOnce) {
    EXPECT_EQ(deliver("fine").verdict, ANNAL_DELIVERED);
    EXPECT_EQ(deliver("fine").reports, 1);
    const auto paused = deliver("pause");
    EXPECT_EQ(paused.verdict, ANNAL_PAUSE);
    EXPECT_EQ(paused.text, "401");
    const auto partly = deliver("partly");
    EXPECT_EQ(partly.verdict, ANNAL_DELIVERED);
    const std::vector<std::pair<std::uint32_t, std::uint32_t>> expected{
        {1, ANNAL_REJECT}, {2, ANNAL_RETRY}};
    EXPECT_EQ(partly.exceptions, expected);
}

TEST_F(SinkTest, RetriesWhatItDoesNotKnow) {
    for (const char* mode : {"throw_send", "throw_alloc", "throw_int", "default"}) {
        const auto reply = deliver(mode);
        EXPECT_EQ(reply.verdict, ANNAL_RETRY) << mode;
        EXPECT_EQ(reply.reports, 1) << mode;
    }
    EXPECT_EQ(deliver("throw_send").text, "the sink threw: send broke");
}

TEST_F(SinkTest, FailsToEncodeCleanly) {
    (void)deliver("throw_encode");  // looked at below: its encode
    EXPECT_EQ(encode_status_, ANNAL_INTERNAL);
    EXPECT_EQ(encode_error_, "the plugin threw: encode broke");
    (void)deliver("short_encode");
    EXPECT_EQ(encode_status_, ANNAL_INTERNAL);
    EXPECT_EQ(encode_error_, "encode ended 0 events of 3: call end_event once for each");
}

TEST_F(SinkTest, KnowsItsPosition) {
    const auto position = [&](const std::string& mode, std::string_view project) {
        const Instance sink(host_, component(0), R"({"mode":")" + mode + "\"}");
        std::int64_t seq = 7;
        const annal_status status = sink.table<annal_sink_v1>().position(
            sink.self(), annal::to_str(project), &seq, nullptr
        );
        return std::pair(status, seq);
    };
    EXPECT_EQ(position("fine", "proj_1"), std::pair(annal_status{ANNAL_OK}, std::int64_t{41}));
    EXPECT_EQ(position("fine", "proj_2"), std::pair(annal_status{ANNAL_OK}, std::int64_t{-1}));
    EXPECT_EQ(
        position("throw_position", "proj_1"),
        std::pair(annal_status{ANNAL_INTERNAL}, std::int64_t{-1})
    );
}

TEST_F(SinkTest, SaysWhichServiceIsMissing) {
    host_.withheld = {
        ANNAL_SERVICE_CODEC, ANNAL_SERVICE_LOG, ANNAL_SERVICE_CLOCK, ANNAL_SERVICE_METRICS};
    (void)deliver("fine");  // looked at below: its encode
    EXPECT_EQ(encode_status_, ANNAL_UNAVAILABLE);
    EXPECT_NE(encode_error_.find("annal.codec/1"), std::string::npos);
}

/// Everything runs on the caller's stack, or on the host's own thread.
class HandlerTest : public testing::TestWithParam<bool> {
protected:
    Reply ask(const std::string& trigger, RequestSpec spec = {}) {
        const Instance handler(host_, component(2));
        spec.trigger = trigger;
        return host_.request(handler.table<annal_http_v1>(), handler.self(), spec);
    }
    void SetUp() override { host_.fill(3); }
    MiniHost host_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Hosts, HandlerTest, testing::Bool());

TEST_P(HandlerTest, ReadsAndWrites) {
    RequestSpec spec;
    spec.chunks.assign(20'000, "ab");
    const Reply reply = ask("echo", spec);
    EXPECT_EQ(reply.status, 200U);
    EXPECT_EQ(reply.body.size(), 40'000U);
    EXPECT_TRUE(reply.finished);
    EXPECT_FALSE(reply.error);
}

TEST_P(HandlerTest, ReportsABodyThatBreaksOff) {
    const std::pair<annal_status, std::uint32_t> cases[] = {
        {ANNAL_TOO_LARGE, 413}, {ANNAL_INVALID, 400}, {ANNAL_TIMEOUT, 503}, {ANNAL_CANCELLED, 503}};
    for (const auto& [code, status] : cases) {
        RequestSpec spec;
        spec.chunks = {"a"};
        spec.read_end = code;
        EXPECT_EQ(ask("echo", spec).status, status);
    }
}

TEST_P(HandlerTest, CopiesWhatItAwaits) {
    EXPECT_EQ(ask("scan").body, "evt_2;evt_1;c1");
    EXPECT_EQ(ask("get").body, "auth.signin");
    EXPECT_EQ(ask("actions").body, "auth.signin3");
    EXPECT_EQ(ask("log_state").body, "2");
    EXPECT_EQ(ask("erase").status, 200U);
    EXPECT_EQ(host_.last_reason, "because");
}

TEST_P(HandlerTest, EveryMissingServiceIsAClearAnswer) {
    host_.withheld = {
        ANNAL_SERVICE_STORE,
        ANNAL_SERVICE_BUS,
        ANNAL_SERVICE_EXPORT,
        ANNAL_SERVICE_LOG,
        ANNAL_SERVICE_CODEC,
        ANNAL_SERVICE_METRICS,
        ANNAL_SERVICE_CLOCK};
    for (const char* trigger :
         {"scan",
          "get",
          "actions",
          "log_state",
          "erase",
          "append",
          "kv_scan",
          "kv_commit",
          "fetch",
          "export",
          "secret",
          "setting"}) {
        const Reply reply = ask(trigger);
        EXPECT_EQ(reply.status, 503U) << trigger;
        EXPECT_NE(reply.body.find("grant it under spec.permissions"), std::string::npos)
            << trigger << reply.body;
    }
}

TEST_P(HandlerTest, FailsClosed) {
    for (const char* trigger : {"throw", "forget", "throw_after_start", "visit_throws"}) {
        const Reply reply = ask(trigger);
        ASSERT_TRUE(reply.error) << trigger;
        EXPECT_EQ(*reply.error, ANNAL_INTERNAL) << trigger;
        EXPECT_FALSE(reply.finished) << trigger;
    }
    EXPECT_EQ(ask("throw_after_start").body, "half");
    ASSERT_NE(host_.logged("plugin.exception"), nullptr);
    EXPECT_EQ(host_.logged("plugin.exception")->fields.at("what"), "handler broke");
    EXPECT_NE(host_.logged("plugin.response_unfinished"), nullptr);
}

TEST(ProblemJson, HasTheMembersOfRfc9457) {
    MiniHost host;
    const Instance handler(host, component(2));
    const annal_issue issue{
        3, 0, 17, annal::to_str("/a"), annal::to_str("too_long"), annal::to_str("say \"less\"")};
    annal::Problem problem(422, "invalid_events");
    problem.detail("see errors").issues(annal::Rows(&issue, 1));
    const annal_problem raw = problem.raw(annal::to_str("req_1"));
    annal::test::TextWriter text;
    const annal_writer writer = text.writer();
    const annal_str type =
        handler.table<annal_http_v1>().render_problem(handler.self(), &raw, &writer);
    EXPECT_EQ(annal::view(type), "application/problem+json");
    EXPECT_EQ(
        text.text,
        R"({"type":"about:blank","title":"Unprocessable Content","status":422,"detail":"see errors","code":"invalid_events",)"
        R"("request_id":"req_1","errors":[{"index":3,"offset":17,"pointer":"/a","code":"too_long","detail":"say \"less\""}]})"
    );
}

TEST(ProblemJson, LeavesItsIssuesOutWhenTheyDoNotFit) {
    MiniHost host;
    const Instance handler(host, component(2));
    const annal_issue issue{
        3, 0, 17, annal::to_str("/a"), annal::to_str("too_long"), annal::to_str("x")};
    const std::vector<annal_issue> issues(100, issue);
    annal::Problem problem(422, "invalid_events");
    problem.issues(annal::Rows(issues.data(), issues.size()));
    const annal_problem raw = problem.raw(annal::to_str("req_1"));
    annal::test::TextWriter text(500);
    const annal_writer writer = text.writer();
    (void)handler.table<annal_http_v1>().render_problem(
        handler.self(), &raw, &writer
    );  // its type is tested above
    EXPECT_EQ(
        text.text,
        R"({"type":"about:blank","title":"Unprocessable Content","status":422,"code":"invalid_events","request_id":"req_1"})"
    );
}

TEST(Problem, TakesOverRetryHints) {
    EXPECT_EQ(annal::Problem(annal::Status(ANNAL_BUSY, "x", 1001)).retry_after(), 2U);
    EXPECT_EQ(annal::Problem(annal::Status(ANNAL_UNAVAILABLE, "x")).retry_after(), 1U);
    EXPECT_EQ(annal::Problem(annal::Status(ANNAL_CONFLICT, "x")).retry_after(), 0U);
    EXPECT_EQ(annal::Problem(annal::Status(99, "x")).status(), 500U);
}

TEST(Format, FailsClosed) {
    MiniHost host;
    host.fill(1);
    const Instance format(host, component(3));
    const auto& table = format.table<annal_format_v1>();
    annal::test::TextWriter text;
    const annal_writer writer = text.writer();
    void* document = nullptr;
    annal_error error{};
    error.struct_size = sizeof(error);
    ASSERT_EQ(table.begin(format.self(), nullptr, 0, &document, &writer, &error), ANNAL_OK);
    const RawBatch some(host.events);
    const RawBatch none({});
    EXPECT_EQ(table.encode(document, some.get(), &writer, &error), ANNAL_OK);
    EXPECT_EQ(table.encode(document, none.get(), &writer, &error), ANNAL_INTERNAL);
    EXPECT_EQ(annal::Status::from(&error).text(), "the plugin threw: nothing to say");
    EXPECT_EQ(table.end(document, &writer, &error), ANNAL_OK);
    table.release(document);
    EXPECT_EQ(text.text, "begin;row;end");
    const annal_pair option{annal::to_str("a"), annal::to_str("b")};
    EXPECT_EQ(table.begin(format.self(), &option, 1, &document, &writer, &error), ANNAL_INTERNAL);
    EXPECT_EQ(document, nullptr);
    annal::test::TextWriter full(3);
    const annal_writer small = full.writer();
    EXPECT_EQ(table.begin(format.self(), nullptr, 0, &document, &small, &error), ANNAL_TOO_LARGE);
    EXPECT_EQ(document, nullptr);
}

TEST(Job, ReportsHowItWent) {
    for (const bool asynchronous : {false, true}) {
        MiniHost host(asynchronous);
        const Instance job(host, component(4));
        const auto& table = job.table<annal_job_v1>();
        EXPECT_FALSE(host.run(table, job.self(), "fine"));
        const auto failed = host.run(table, job.self(), "fail");
        ASSERT_TRUE(failed);
        EXPECT_EQ(failed->code, ANNAL_CONFLICT);
        const auto thrown = host.run(table, job.self(), "throw");
        ASSERT_TRUE(thrown);
        EXPECT_EQ(thrown->code, ANNAL_INTERNAL);
        EXPECT_EQ(annal::Status::from(&*thrown).text(), "the plugin threw: job broke");
    }
}

}  // namespace
