#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "annal/abi.h"
#include "runtime/bus/appender.h"
#include "runtime/core/clock.h"
#include "runtime/core/limits.h"
#include "runtime/core/metrics.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/instance.h"
#include "runtime/plugin/settings.h"
#include "runtime/store/page_cursor.h"
#include "tests/support/fake_store.h"
#include "tests/support/io_threads.h"

namespace annal::test {

/// What a runtime gives its plugins, on a store in memory and two threads.
class TestHost {
public:
    TestHost() {
        environment.node = "node-of-this-test";
        environment.store = &store;
        environment.appender = &appender;
        environment.settings = &settings;
        environment.cursors = &cursors;
        environment.clock = &clock;
        environment.metrics = &metrics;
        environment.limits = &limits;
        environment.executor = &executor;
    }
    ~TestHost() { threads.stop(); }
    TestHost(const TestHost&) = delete;
    TestHost& operator=(const TestHost&) = delete;

    /// Waits until nothing is left to run; nothing can be run afterwards. For the end of a test
    /// whose plugin is still being called back.
    void drain() { threads.drain(); }

    /// Runs `task` on the host's threads and waits for its result.
    template <class T>
    T run(Task<T> task) {
        return threads.run(std::move(task));
    }

    IoThreads threads;
    SystemClock clock;
    Limits limits;
    Metrics metrics;
    FakeStore store{clock};
    CursorCodec cursors{"a key of this test only, 32 bytes"};
    Settings settings{store};
    boost::asio::any_io_executor executor{threads.executor()};
    Appender appender{store, clock, limits, metrics, executor};
    HostEnvironment environment;
};

/// A plugin of this process: an annal.http/1 component whose functions are a test's lambdas. One
/// instance at a time is created for each object; functions are set before use.
class TestPlugin {
public:
    TestPlugin() { manifest.instance = "test-plugin", manifest.library = "test_plugin"; }

    /// Creates the instance as a runtime would.
    Result<std::unique_ptr<Instance>> create(HostEnvironment& environment) {
        creating() = this;
        return Instance::create(manifest, module(), environment);
    }

    Manifest manifest;
    std::function<annal_status(const annal_init*, annal_error*)> on_create;
    std::function<void(annal_call*, const annal_request*, const annal_response*)> on_handle;
    const annal_host* host = nullptr;
    std::string config, instance_name;
    std::atomic<int> created{0}, destroyed{0};

    template <class V>
    const V* service(const char* id) const {
        return static_cast<const V*>(host->service(host->ctx, id));
    }
    [[nodiscard]] annal_ctx* ctx() const { return host->ctx; }

    static const Module& module() {
        static const Module module{&descriptor(), {}, {}};
        return module;
    }

private:
    static TestPlugin*& creating() {
        static TestPlugin* plugin = nullptr;
        return plugin;
    }
    static annal_status create_instance(const annal_init* init, void** self, annal_error* error) {
        TestPlugin* plugin = creating();
        plugin->host = init->host;
        plugin->config = to_view(init->config_json);
        plugin->instance_name = to_view(init->instance);
        *self = plugin;
        const annal_status status = plugin->on_create ? plugin->on_create(init, error) : ANNAL_OK;
        if (status == ANNAL_OK) ++plugin->created;
        return status;
    }
    static void destroy_instance(void* self) { ++static_cast<TestPlugin*>(self)->destroyed; }
    static void handle(
        void* self, annal_call* call, const annal_request* request, const annal_response* response
    ) {
        static_cast<TestPlugin*>(self)->on_handle(call, request, response);
    }
    static annal_str render_problem(void*, const annal_problem* problem, const annal_writer* body) {
        const std::string text = "problem " + std::to_string(problem->status) + " " +
                                 std::string(to_view(problem->code)) + ": " +
                                 std::string(to_view(problem->detail));
        std::size_t cap = 0;
        std::uint8_t* room = body->reserve(body->w, text.size(), &cap);
        std::copy(text.begin(), text.end(), room);
        body->commit(body->w, text.size());
        return to_abi(std::string_view("text/x-problem"));
    }
    static const annal_module& descriptor() {
        static const annal_http_v1 table{
            sizeof(annal_http_v1),
            0,
            &create_instance,
            &destroy_instance,
            &handle,
            &render_problem};
        static const char* const schema =
            R"({"type":"object","additionalProperties":false,"properties":{"size":{"type":"integer","default":7}}})";
        static const annal_component component{
            sizeof(annal_component), 0, ANNAL_COMPONENT_HTTP, "test", schema, &table, nullptr};
        static const annal_component* const components[] = {&component};
        static const annal_module module{
            sizeof(annal_module),
            ANNAL_ABI_MAJOR,
            ANNAL_ABI_MINOR,
            "dev.annal.test",
            "1",
            "",
            "",
            1,
            0,
            components};
        return module;
    }
};

/// A call in flight, and what it was completed with.
class TestCall {
public:
    explicit TestCall(std::string project = "proj_a", std::uint64_t arena_bytes_max = 64U << 20) {
        Call::Options options;
        options.project = std::move(project);
        options.actor_type = "api_key";
        options.actor_id = "apikey_1";
        options.arena_bytes_max = arena_bytes_max;
        options.on_complete = [state = state_](const annal_error* error) {
            ++state->completions;
            if (error != nullptr) state->error = to_error(*error);
        };
        options.cancelled = [state = state_] { return state->cancelled.load(); };
        call = std::make_shared<Call>(std::move(options));
        handle = call->open();
    }
    ~TestCall() {
        if (state_->completions == 0) call->complete(nullptr);
    }
    TestCall(const TestCall&) = delete;
    TestCall& operator=(const TestCall&) = delete;

    [[nodiscard]] int completions() const { return state_->completions; }
    [[nodiscard]] const std::optional<Error>& error() const { return state_->error; }
    void cancel() { state_->cancelled = true; }

    std::shared_ptr<Call> call;
    annal_call* handle = nullptr;

private:
    struct State {
        std::atomic<int> completions{0};
        std::atomic<bool> cancelled{false};
        std::optional<Error> error;
    };
    std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// A value that a callback on another thread provides; waiting for it fails loudly after ten
/// seconds.
template <class T>
class Promised {
public:
    void set(T value) { promise_.set_value(std::move(value)); }
    T get() {
        if (future_.wait_for(std::chrono::seconds(10)) != std::future_status::ready) {
            throw std::runtime_error("the callback was not called within 10 s");
        }
        return future_.get();
    }
    [[nodiscard]] bool ready_within(std::chrono::milliseconds time) const {
        return future_.wait_for(time) == std::future_status::ready;
    }

private:
    std::promise<T> promise_;
    std::future<T> future_ = promise_.get_future();
};

}  // namespace annal::test
