#include "runtime/app/runtime.h"

#include <sys/stat.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <csignal>
#include <future>
#include <thread>

#include "runtime/app/descriptors.h"
#include "runtime/app/key_ring.h"
#include "runtime/app/secrets.h"
#include "runtime/control/api_keys.h"
#include "runtime/control/health.h"
#include "runtime/control/projects.h"
#include "runtime/control/setting_routes.h"
#include "runtime/core/crypto.h"
#include "runtime/core/fatal.h"
#include "runtime/core/run_task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/delivery/stream.h"
#include "runtime/http/export.h"
#include "runtime/http/plugin_handler.h"
#include "runtime/http/server.h"
#include "runtime/http/tail.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/loader.h"
#include "runtime/store/sqlite/sqlite_store.h"

namespace annal {
namespace asio = boost::asio;
namespace {

constexpr std::size_t kIoThreads = 2;
constexpr std::size_t kSinkThreads = 4;
constexpr auto kUsageFlushInterval = std::chrono::seconds(60);

}  // namespace

struct Runtime::State {
    State(NodeSettings s, Role r) : settings(std::move(s)), role(r) {}

    NodeSettings settings;
    Role role;

    SystemClock clock;
    Metrics metrics;
    asio::io_context io;
    asio::any_io_executor executor{io.get_executor()};
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work;
    std::vector<std::thread> threads;
    asio::thread_pool sink_pool{kSinkThreads};
    asio::signal_set signals{io};
    asio::steady_timer housekeeping{io};

    std::uint32_t store_files = SqliteOptions{}.open_files_max;
    std::unique_ptr<EventStore> store;
    std::unique_ptr<Appender> appender;
    std::unique_ptr<CursorCodec> cursors;
    std::unique_ptr<Settings> project_settings;
    std::unique_ptr<control::Projects> projects;
    std::unique_ptr<control::ApiKeys> keys;
    HostEnvironment environment;
    std::optional<Loader> loader;  // instances point into its modules
    std::vector<std::shared_ptr<Instance>> instances;
    std::unique_ptr<http::Exporter> exporter;
    std::unique_ptr<http::TailHub> tails;
    http::Router router;
    std::shared_ptr<http::TlsIdentity> tls;  // null: TCP is plain
    std::unique_ptr<http::Server> server;
    std::vector<std::unique_ptr<Stream>> streams;
    std::string address;
    std::promise<void> stop_requested;
    std::size_t steps_done = 0;
    std::atomic<bool> stopping{false};

    /// Runs a coroutine to its end from outside the io threads.
    template <class T>
    T run(Task<T> task) {
        return run_task(executor, std::move(task));
    }

    Result<void> make_room();
    Result<void> load_tls();
    void reload_tls() const;
    void await_signal();
    Result<void> start_threads();
    void stop_threads();
    Result<void> open_store();
    void close_store();
    Result<void> start_append_path();
    void stop_append_path();
    Result<void> load_control();
    void save_control();
    Result<void> bootstrap();
    Result<void> load_plugins();
    void destroy_plugins();
    Result<void> add_routes();
    Result<void> start_streams();
    void stop_streams();
    Result<void> start_server();
    void stop_server();

    Task<void> keep_house();
    void add_instance(const Manifest& manifest, std::string& errors);
    Result<void> add_plugin_routes();
};

namespace {

template <class State>
struct Step {
    const char* name;
    Result<void> (State::*start)();
    void (State::*stop)();  // null: nothing to undo
};

}  // namespace

Result<void> Runtime::State::make_room() {
    if (!role.listen) return ok();
    Limits& limits = settings.limits;
    const std::uint64_t descriptors = raise_descriptor_limit();
    const auto [carried, files] = share_descriptors(descriptors);
    store_files = files;
    if (carried >= limits.connections_max) return ok();
    log::warn(
        "runtime.few_descriptors",
        {{"descriptors_max", descriptors},
         {"connections_wanted", limits.connections_max},
         {"connections_max", carried},
         {"detail", "raise the hard limit of open files (ulimit -Hn, LimitNOFILE)"}}
    );
    limits.connections_max = carried;
    return ok();
}

Result<void> Runtime::State::load_tls() {
    if (!role.listen || !settings.tls.given()) return ok();
    BOOST_OUTCOME_TRY(tls, http::TlsIdentity::load(settings.tls, metrics));
    return ok();
}

void Runtime::State::reload_tls() const {
    if (!tls) {
        log::info("tls.nothing_to_reload");
        return;
    }
    if (const auto reloaded = tls->reload(); !reloaded) {
        log::error("tls.reload_failed", {{"detail", reloaded.error().detail}});
        return;
    }
    log::info(
        "tls.reloaded",
        {{"certificate_file", tls->options().certificate_file.native()},
         {"expires", format_time(tls->expires_s() * kSecondUs)}}
    );
}

void Runtime::State::await_signal() {
    signals.async_wait([this](boost::system::error_code error, int signal) {
        if (error) return;
        if (signal == SIGHUP) {
            asio::post(sink_pool, [this] { reload_tls(); });  // files are not for io threads
            return await_signal();
        }
        log::info("runtime.stopping", {{"signal", signal}});
        stop_requested.set_value();
    });
}

Result<void> Runtime::State::start_threads() {
    // A peer that is gone is an error of write, not the end of the node: OpenSSL below libcurl, and
    // plugins that write to pipes, can't say so call by call.
    std::signal(SIGPIPE, SIG_IGN);
    work.emplace(io.get_executor());
    for (std::size_t i = 0; i < kIoThreads; ++i) {
        threads.emplace_back([this] {
            try {
                io.run();
            } catch (const std::exception& e) {
                fatal("runtime.unhandled_exception", e.what());
            }
        });
    }
    return ok();
}

void Runtime::State::stop_threads() {
    work.reset();
    signals.cancel();
    io.stop();
    for (std::thread& thread : threads) thread.join();
    threads.clear();
    sink_pool.join();
}

Result<void> Runtime::State::open_store() {
    SqliteOptions options;
    options.directory = settings.data_dir;
    options.segment_events_max = settings.segment_events_max;
    options.open_files_max = store_files;
    BOOST_OUTCOME_TRY(store, open_sqlite_store(options, clock, metrics));
    BOOST_OUTCOME_TRY(const KeyRing ring, KeyRing::open(settings.master_key_file, true));
    cursors = std::make_unique<CursorCodec>(ring.derive("page cursor"));
    return ok();
}

void Runtime::State::close_store() {
    store->close();
}

Result<void> Runtime::State::start_append_path() {
    appender = std::make_unique<Appender>(*store, clock, settings.limits, metrics, executor);
    return ok();
}

void Runtime::State::stop_append_path() {
    run(appender->drain());
}

Result<void> Runtime::State::load_control() {
    project_settings = std::make_unique<Settings>(*store);
    projects = std::make_unique<control::Projects>(*store, *appender, clock);
    keys = std::make_unique<control::ApiKeys>(*store, *appender, clock);
    BOOST_OUTCOME_TRYV(run(project_settings->load()));
    BOOST_OUTCOME_TRYV(run(projects->load()));
    BOOST_OUTCOME_TRYV(run(keys->load()));
    asio::co_spawn(io, keep_house(), asio::detached);
    return ok();
}

void Runtime::State::save_control() {
    stopping = true;
    asio::post(io, [this] { housekeeping.cancel(); });
    run(keys->flush_usage());
}

Task<void> Runtime::State::keep_house() {
    while (!stopping) {
        housekeeping.expires_after(kUsageFlushInterval);
        boost::system::error_code cancelled;
        co_await housekeeping.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
        if (!cancelled) co_await keys->flush_usage();
    }
}

Result<void> Runtime::State::bootstrap() {
    if (settings.bootstrap_key.empty() || keys->knows_secret(settings.bootstrap_key)) return ok();
    if (!projects->exists(settings.bootstrap_project)) {
        auto made = run(projects->create(settings.bootstrap_project, settings.bootstrap_project));
        if (!made) {
            Error error = made.error();
            error.detail = "ANNAL_BOOTSTRAP_PROJECT: " + error.detail;
            return error;
        }
    }
    std::vector<std::string> scopes{"platform", "admin"};
    control::Actor actor{"system", "bootstrap"};
    auto created = run(keys->create(
        settings.bootstrap_project,
        "bootstrap",
        std::move(scopes),
        kNoTime,
        std::move(actor),
        settings.bootstrap_key
    ));
    if (!created) return created.error();
    log::info(
        "bootstrap.key_created",
        {{"project", settings.bootstrap_project}, {"key", created.value().key.id}}
    );
    return ok();
}

void Runtime::State::add_instance(const Manifest& manifest, std::string& errors) {
    const std::string where = manifest.file.string() + ":" + std::to_string(manifest.line) + ": " +
                              manifest.instance + ": ";
    auto module = loader->load(manifest.library, manifest.sha256);
    if (!module) {
        errors += where + module.error().detail + "\n";
        return;
    }
    auto component = find_component(manifest, *module.value());
    if (component && component.value()->type == std::string_view(ANNAL_COMPONENT_JOB)) {
        errors += where + "this version runs no scheduled jobs; remove the manifest\n";
        return;
    }
    auto instance = Instance::create(manifest, *module.value(), environment);
    if (!instance) {
        errors += where + instance.error().detail + "\n";
        return;
    }
    instances.emplace_back(std::move(instance.value()));
}

Result<void> Runtime::State::load_plugins() {
    environment.node = random_token("node_", 16);
    environment.store = store.get();
    environment.appender = appender.get();
    environment.settings = project_settings.get();
    environment.cursors = cursors.get();
    environment.clock = &clock;
    environment.metrics = &metrics;
    environment.limits = &settings.limits;
    environment.executor = &executor;
    environment.secrets = make_secret_lookup(settings.data_dir, process_environment());
    environment.allow_cidrs = settings.allow_cidrs;
    exporter = std::make_unique<http::Exporter>(environment);
    http::connect_exports(environment, *exporter);
    tails = std::make_unique<http::TailHub>(environment, [this](const http::Principal& who) {
        return keys->in_force(who);
    });
    http::connect_tails(environment, *tails);

    ManifestSet set = read_manifests(settings.manifests);
    std::string errors;
    for (const ManifestError& error : set.errors) errors += error.text() + "\n";
    loader.emplace(settings.plugins);
    for (const Manifest& manifest : set.manifests) add_instance(manifest, errors);
    if (errors.empty()) return ok();
    errors.pop_back();
    return Error{Errc::invalid, errors};
}

void Runtime::State::destroy_plugins() {
    streams.clear();
    exporter.reset();
    tails.reset();
    router = http::Router();
    instances.clear();
    loader.reset();
}

Result<void> Runtime::State::add_plugin_routes() {
    for (const auto& instance : instances) {
        const std::string type = instance->component().type;
        if (type == ANNAL_COMPONENT_FORMAT) exporter->add(instance);
        if (type != ANNAL_COMPONENT_HTTP) continue;
        const auto handler = http::make_plugin_handler(instance, environment);
        for (const HttpTrigger& trigger : instance->manifest().http) {
            const std::string owner = instance->manifest().instance + " (" +
                                      instance->manifest().file.string() + ":" +
                                      std::to_string(trigger.line) + ")";
            http::Route route{
                trigger.methods, trigger.route, trigger.scope, trigger.name, owner, handler};
            BOOST_OUTCOME_TRYV(router.add(std::move(route)));
        }
    }
    return ok();
}

Result<void> Runtime::State::add_routes() {
    control::NodeView view;
    view.appender = appender.get();
    view.metrics = &metrics;
    view.not_ready = [this] {
        std::string refusal = store->health().refusal;
        return refusal.empty() ? std::vector<std::string>()
                               : std::vector<std::string>{"the store can't write: " + refusal};
    };
    view.degraded = [this] { return store->health().damaged; };
    view.instances = [this] { return instances; };
    view.streams = [this] {
        std::vector<StreamStatus> all;
        for (const auto& stream : streams) all.push_back(stream->status());
        return all;
    };
    BOOST_OUTCOME_TRYV(control::add_node_routes(router, std::move(view)));
    BOOST_OUTCOME_TRYV(projects->add_routes(router));
    BOOST_OUTCOME_TRYV(control::add_key_routes(router, *keys, *projects));
    BOOST_OUTCOME_TRYV(control::add_setting_routes(router, *project_settings, *appender));
    return add_plugin_routes();
}

Result<void> Runtime::State::start_streams() {
    for (const auto& instance : instances) {
        if (instance->component().type != std::string_view(ANNAL_COMPONENT_SINK)) continue;
        for (const EventsTrigger& trigger : instance->manifest().events)
            streams.push_back(std::make_unique<Stream>(trigger, instance, environment, sink_pool));
    }
    if (role.streams)
        for (const auto& stream : streams) stream->start();
    return ok();
}

void Runtime::State::stop_streams() {
    for (const auto& stream : streams) run(stream->stop());
}

Result<void> Runtime::State::start_server() {
    server =
        std::make_unique<http::Server>(router, *keys, clock, settings.limits, metrics, executor);
    http::ServerOptions options;
    options.listen = role.listen ? settings.listen : "";
    options.unix_socket = settings.unix_socket();
    options.tls = tls;
    BOOST_OUTCOME_TRY(address, server->start(options));
    return ok();
}

void Runtime::State::stop_server() {
    tails->close();  // they would last through the grace
    run(server->stop());
    run(tails->drain());
}

namespace {

template <class State>
const auto& steps() {
    static const std::array<Step<State>, 11> all{{
        {"make room for connections", &State::make_room, nullptr},
        {"load TLS certificate", &State::load_tls, nullptr},
        {"start threads", &State::start_threads, &State::stop_threads},
        {"open store", &State::open_store, &State::close_store},
        {"start append path", &State::start_append_path, &State::stop_append_path},
        {"load control objects", &State::load_control, &State::save_control},
        {"make bootstrap key", &State::bootstrap, nullptr},
        {"load plugins", &State::load_plugins, &State::destroy_plugins},
        {"add routes", &State::add_routes, nullptr},
        {"start streams", &State::start_streams, &State::stop_streams},
        {"start server", &State::start_server, &State::stop_server},
    }};
    return all;
}

}  // namespace

Runtime::Runtime(NodeSettings settings, Role role)
    : state_(std::make_unique<State>(std::move(settings), role)) {}

Runtime::~Runtime() {
    stop();
}

Result<void> Runtime::start() {
    // What is written here is evidence: nothing of it is for others than the owner and the owner's
    // group.
    ::umask(027);
    log::set_level(state_->settings.log_level);
    // From here on a signal waits until wait_for_signal looks for it, so that none falls between
    // start and serving.
    state_->signals.add(SIGTERM);
    state_->signals.add(SIGINT);
    if (state_->role.listen) state_->signals.add(SIGHUP);
    for (const auto& step : steps<State>()) {
        auto done = ((*state_).*step.start)();
        if (!done) {
            Error error = done.error();
            error.detail = std::string(step.name) + ": " + error.detail;
            // A step that failed half-way through may have to be undone, too.
            if (step.start == &State::load_plugins) state_->destroy_plugins();
            stop();
            return error;
        }
        ++state_->steps_done;
    }
    return ok();
}

const std::string& Runtime::address() const {
    return state_->address;
}

void Runtime::wait_for_signal() {
    state_->await_signal();
    state_->stop_requested.get_future().wait();
}

void Runtime::stop() {
    const auto& all = steps<State>();
    while (state_->steps_done > 0) {
        const auto& step = all[--state_->steps_done];
        if (step.stop) ((*state_).*step.stop)();
    }
}

}  // namespace annal
