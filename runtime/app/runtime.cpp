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
#include <charconv>
#include <csignal>
#include <future>
#include <mutex>
#include <thread>

#include "runtime/app/descriptors.h"
#include "runtime/app/key_ring.h"
#include "runtime/app/secrets.h"
#include "runtime/bus/noticeboard.h"
#include "runtime/control/api_description.h"
#include "runtime/control/api_keys.h"
#include "runtime/control/docs_routes.h"
#include "runtime/control/erasure_routes.h"
#include "runtime/control/health.h"
#include "runtime/control/job_routes.h"
#include "runtime/control/projects.h"
#include "runtime/control/secret_routes.h"
#include "runtime/control/setting_routes.h"
#include "runtime/control/stream_routes.h"
#include "runtime/control/webhook_routes.h"
#include "runtime/core/crypto.h"
#include "runtime/core/fatal.h"
#include "runtime/core/run_task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/delivery/streams.h"
#include "runtime/http/export.h"
#include "runtime/http/plugin_handler.h"
#include "runtime/http/server.h"
#include "runtime/http/tail.h"
#include "runtime/jobs/jobs.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/loader.h"
#include "runtime/plugin/route_descriptions.h"
#include "runtime/retention/retention.h"
#include "runtime/store/directory_lock.h"
#include "runtime/store/postgres/postgres_store.h"
#include "runtime/store/sqlite/sqlite_store.h"
#include "runtime/webhooks/webhooks.h"

namespace annal {
namespace asio = boost::asio;
namespace {

constexpr std::size_t kIoThreads = 2;
constexpr std::size_t kSinkThreads = 4;
constexpr auto kUsageFlushInterval = std::chrono::seconds(60);
constexpr auto kLookInterval = std::chrono::milliseconds(900);  // within Noticeboard::kFresh
constexpr auto kCompareInterval = std::chrono::seconds(2);      // of key rings
constexpr auto kSilenceMax = std::chrono::seconds(3);           // of a store shared with others

// Of waiting for the store at start.
constexpr auto kFirstPause = std::chrono::milliseconds(10), kPause = std::chrono::milliseconds(100);
constexpr auto kQuietWait = std::chrono::seconds(1);     // not worth a word
constexpr auto kWordAgain = std::chrono::minutes(1);     // while the reason stays the same
constexpr auto kCommandWait = std::chrono::seconds(10);  // of a runtime that serves one command

/// Made by the operator, once for all nodes: one that each node made for itself would not fit.
Result<KeyRing> open_common_ring(const std::filesystem::path& file) {
    auto ring = KeyRing::open(file, false);
    if (ring || ring.error().code != Errc::not_found) return ring;
    return Error{
        Errc::invalid,
        ring.error().detail + ", which all nodes of a database share: copy it from another node, " +
            "or make it for the first one with (umask 077; annal secrets new-key > " +
            file.string() + ")"};
}

/// Of "ADDRESS:PORT"; 0 where the node does not listen.
std::uint16_t port_of(const std::string& address) {
    std::uint16_t port = 0;
    const char* const end = address.data() + address.size();
    std::from_chars(address.data() + address.rfind(':') + 1, end, port);
    return port;
}

/// What the next try may not meet any more.
bool passes_by_itself(const Error& error) {
    return error.code == Errc::unavailable || error.code == Errc::timeout;
}

/// What is amiss with the descriptions of routes; the routes themselves are served all the same.
void log_fault(const control::DescriptionFault& fault) {
    using Kind = control::DescriptionFault::Kind;
    const std::string group = fault.group.empty() ? "the node" : fault.group;
    if (fault.kind == Kind::unreadable)
        log::warn("openapi.unreadable", {{"instance", group}, {"detail", fault.detail}});
    else if (fault.kind == Kind::undescribed)
        log::warn("openapi.route_undescribed", {{"instance", group}, {"route", fault.detail}});
    else
        log::debug("openapi.operation_unused", {{"instance", group}, {"operation", fault.detail}});
}

/// Nobody can be known before the store is there; nothing asks who somebody is then.
class NobodyKnown final : public http::Authenticator {
    Task<Result<http::Principal>> authenticate(const http::Request&) override {
        co_return Error{Errc::unavailable, "API keys are not loaded yet", {}, 1'000};
    }
};

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
    asio::steady_timer housekeeping{io}, looking{io}, comparing{io};
    std::function<void(const std::string&)> listening;

    std::uint32_t store_files = SqliteOptions{}.open_files_max;
    DirectoryLock directory;  // where the store does not hold it itself
    std::unique_ptr<EventStore> store;
    std::string first_key;  // of the key ring, by its fingerprint
    std::unique_ptr<control::CommonRing> common_ring;
    std::atomic<bool> ring_outdated{false};
    std::unique_ptr<Appender> appender;
    std::unique_ptr<CursorCodec> cursors;
    std::unique_ptr<Noticeboard> board;
    std::unique_ptr<Settings> project_settings;
    std::unique_ptr<control::Projects> projects;
    std::unique_ptr<control::ApiKeys> keys;
    HostEnvironment environment;
    std::optional<Loader> loader;  // instances point into its modules
    std::vector<std::shared_ptr<Instance>> instances;
    Formats formats;
    std::unique_ptr<http::Exporter> exporter;
    std::unique_ptr<http::TailHub> tails;
    NobodyKnown nobody;
    http::Router waiting_router, router;
    control::DocsRoutes docs;
    std::shared_ptr<http::TlsIdentity> tls;  // null: TCP is plain
    std::unique_ptr<http::Server> server;
    std::optional<SecretBox> secret_box;
    std::unique_ptr<Destinations> destinations;
    std::unique_ptr<Streams> streams;
    std::unique_ptr<Webhooks> webhooks;
    std::unique_ptr<Retention> retention;
    std::unique_ptr<Jobs> jobs;
    std::unique_ptr<control::Rekeying> rekeying;
    std::unique_ptr<control::Erasures> erasures;
    std::string address;
    std::promise<void> stop_requested;
    std::future<void> stop_request{stop_requested.get_future()};
    bool awaiting_signal = false;
    std::mutex waiting_mutex;
    std::string waiting_for = "the node is starting";  // why it does not serve yet
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
    void listen_to_signals();
    void await_signal();
    Result<void> start_threads();
    void stop_threads();
    Result<void> open_store();
    void limit_stop();
    void close_store();
    Result<void> start_server();
    void stop_server();
    Result<void> await_store();
    Result<void> compare_key_rings();
    Result<void> start_append_path();
    void stop_append_path();
    Result<void> load_control();
    void save_control();
    void fill_environment();
    Result<void> bootstrap();
    Result<void> load_plugins();
    void destroy_plugins();
    Result<void> add_routes();
    Result<void> start_streams();
    void stop_streams();
    Result<void> open_doors();

    Result<void> open_sqlite();
    Result<void> open_postgres();
    void use_ring(const KeyRing& ring);
    void tell_address();
    http::Problem not_yet();
    std::vector<std::string> reasons_not_to_append();
    std::vector<std::string> reasons_not_to_serve();
    Task<void> keep_house();
    Task<void> keep_looking();
    Task<void> keep_comparing();
    Result<void> make_bootstrap_project();
    Result<void> add_instances();
    Result<void> add_instance(const Manifest& manifest);
    Result<void> add_host_routes();
    Result<void> add_plugin_routes();
    void describe_routes(control::RouteGroup host);
    std::vector<std::string> plugin_spaces() const;
};

namespace {

template <class State>
struct Step {
    const char* name;
    Result<void> (State::*start)();
    void (State::*stop)();     // null: nothing to undo
    bool needs_store = false;  // tried again where the store may come back
};

}  // namespace

Result<void> Runtime::State::make_room() {
    if (!role.listen) return ok();
    Limits& limits = settings.limits;
    const std::uint64_t descriptors = raise_descriptor_limit();
    const DescriptorShares shares = share_descriptors(descriptors);
    const std::uint32_t carried = shares.connections;
    store_files = shares.store_files;
    environment.outbound_connections = shares.outbound;
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

/// From now on; until then a signal stays for it.
void Runtime::State::await_signal() {
    if (!std::exchange(awaiting_signal, true)) listen_to_signals();
}

void Runtime::State::listen_to_signals() {
    signals.async_wait([this](boost::system::error_code error, int signal) {
        if (error) return;
        if (signal == SIGHUP) {
            asio::post(sink_pool, [this] { reload_tls(); });  // files are not for io threads
            return listen_to_signals();
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
    return settings.shares_store() ? open_postgres() : open_sqlite();
}

Result<void> Runtime::State::open_sqlite() {
    SqliteOptions options;
    options.directory = settings.data_dir;
    options.segment_events_max = settings.segment_events_max;
    options.open_files_max = store_files;
    BOOST_OUTCOME_TRY(store, open_sqlite_store(options, clock, metrics));
    BOOST_OUTCOME_TRY(const KeyRing ring, KeyRing::open(settings.master_key_file, true));
    use_ring(ring);
    common_ring = std::make_unique<control::CommonRing>(*store, std::vector<std::string>());
    return ok();
}

void Runtime::State::use_ring(const KeyRing& ring) {
    cursors = std::make_unique<CursorCodec>(ring.derive_all("page cursor"));
    secret_box = ring.secret_box();
    first_key = ring.fingerprints().front();
}

/// Does not wait for the database: a later step does, when the server can say so.
Result<void> Runtime::State::open_postgres() {
    BOOST_OUTCOME_TRY(directory, DirectoryLock::take(settings.data_dir));
    BOOST_OUTCOME_TRY(const KeyRing ring, open_common_ring(settings.master_key_file));
    use_ring(ring);
    PostgresOptions options = settings.postgres;
    options.start_patience = std::chrono::milliseconds(0);
    BOOST_OUTCOME_TRY(store, open_postgres_store(options, metrics));
    common_ring = std::make_unique<control::CommonRing>(*store, ring.fingerprints());
    return ok();
}

/// Whatever has to end before the store does waits for it, so this ends that in time, too.
void Runtime::State::limit_stop() {
    const std::chrono::milliseconds timeout(settings.limits.drain_timeout_ms);
    if (store) store->give_up_at(std::chrono::steady_clock::now() + timeout);
}

void Runtime::State::close_store() {
    store->close();
    directory = {};
}

Result<void> Runtime::State::start_server() {
    control::NodeView view;
    view.metrics = &metrics;
    view.not_ready = [this] { return std::vector<std::string>{not_yet().detail}; };
    BOOST_OUTCOME_TRYV(control::add_watch_routes(waiting_router, std::move(view)));
    waiting_router.refuse_rest([this] { return not_yet(); });
    server = std::make_unique<http::Server>(
        waiting_router, nobody, clock, settings.limits, metrics, executor
    );
    http::ServerOptions options;
    options.listen = role.listen ? settings.listen : "";
    options.unix_socket = settings.unix_socket();
    options.tls = tls;
    BOOST_OUTCOME_TRY(address, server->start(options));
    return ok();
}

/// At once what has come furthest: undone twice, by the last step that uses it and its own.
void Runtime::State::stop_server() {
    if (!server) return;
    if (tails) tails->close();  // they would last through the grace
    run(server->stop());
    if (tails) run(tails->drain());
    server.reset();
}

http::Problem Runtime::State::not_yet() {
    const std::lock_guard lock(waiting_mutex);
    return http::problem_of(
        {Errc::unavailable, "the node does not serve yet: " + waiting_for, {}, 1'000}
    );
}

void Runtime::State::tell_address() {
    if (role.listen && listening) std::exchange(listening, {})(address);
}

Result<void> Runtime::State::await_store() {
    if (!settings.shares_store()) return ok();
    const StoreHealth health = store->health();
    if (health.refusal.empty()) return ok();
    return Error{health.for_good ? Errc::conflict : Errc::unavailable, health.refusal};
}

/// Cursors and secrets of one node are those of all: a ring of its own would break them.
Result<void> Runtime::State::compare_key_rings() {
    const auto compared = run(common_ring->compare());
    if (compared || compared.error().code != Errc::conflict) return compared;
    return Error{
        Errc::conflict,
        "the key ring " + settings.master_key_file.string() + " " + compared.error().detail};
}

Result<void> Runtime::State::start_append_path() {
    appender = std::make_unique<Appender>(*store, clock, settings.limits, metrics, executor);
    return ok();
}

void Runtime::State::stop_append_path() {
    run(appender->drain());
}

void Runtime::State::fill_environment() {
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
    environment.outbound_ports = settings.outbound_ports;
    environment.go_on_after_failover = settings.go_on_after_failover;
    environment.own_port = port_of(address);
}

Result<void> Runtime::State::load_control() {
    const auto nodes = settings.shares_store() ? Noticeboard::Nodes::many : Noticeboard::Nodes::one;
    board = std::make_unique<Noticeboard>(*store, clock, nodes, executor);
    project_settings = std::make_unique<Settings>(*store, board.get());
    projects = std::make_unique<control::Projects>(*store, *appender, clock, *board);
    keys = std::make_unique<control::ApiKeys>(*store, *appender, clock, *board);
    board->add_reader([this](std::string project) { return project_settings->reload(project); });
    board->add_reader([this](std::string project) { return projects->reload(project); });
    fill_environment();
    destinations = std::make_unique<Destinations>(environment);
    streams = std::make_unique<Streams>(Streams::Environment{
        environment, sink_pool, *destinations, formats, *secret_box, *board});
    retention = std::make_unique<Retention>(
        Retention::Environment{
            environment,
            [this](std::string project) { return streams->positions(project); },
            *destinations,
            sink_pool},
        settings.retention
    );
    environment.retention = retention.get();
    jobs = std::make_unique<Jobs>(environment, sink_pool);
    rekeying = std::make_unique<control::Rekeying>(control::Rekeying::Environment{
        *store, *appender, *board, *secret_box, *common_ring});
    board->add_reader([this](std::string project) { return keys->reload(project); });
    board->add_reader([this](std::string project) { return streams->reload(project); });
    webhooks = std::make_unique<Webhooks>(Webhooks::Environment{environment, *secret_box, *board});
    board->add_reader([this](std::string project) { return webhooks->reload(project); });
    erasures = std::make_unique<control::Erasures>(control::Erasures::Environment{
        environment,
        *board,
        [this] { return plugin_spaces(); },
        [this](const std::string& project) {
            return std::max(streams->longest_attempt(project), webhooks->longest_attempt(project));
        }});
    BOOST_OUTCOME_TRYV(run(board->begin()));
    BOOST_OUTCOME_TRYV(run(project_settings->load()));
    BOOST_OUTCOME_TRYV(run(projects->load()));
    BOOST_OUTCOME_TRYV(run(keys->load()));
    BOOST_OUTCOME_TRYV(run(streams->load()));
    BOOST_OUTCOME_TRYV(run(webhooks->load()));
    asio::co_spawn(io, keep_house(), asio::detached);
    if (!board->has_other_nodes()) return ok();
    asio::co_spawn(io, keep_looking(), asio::detached);
    asio::co_spawn(io, keep_comparing(), asio::detached);
    return ok();
}

void Runtime::State::save_control() {
    stopping = true;
    asio::post(io, [this] {
        housekeeping.cancel();
        looking.cancel();
        comparing.cancel();
    });
    if (reasons_not_to_append().empty()) run(keys->flush_usage());
}

Task<void> Runtime::State::keep_house() {
    while (!stopping) {
        housekeeping.expires_after(kUsageFlushInterval);
        boost::system::error_code cancelled;
        co_await housekeeping.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
        if (!cancelled) co_await keys->flush_usage();
    }
}

/// So that a request seldom has to wait for what other nodes have changed.
Task<void> Runtime::State::keep_looking() {
    while (!stopping) {
        looking.expires_after(kLookInterval);
        boost::system::error_code cancelled;
        co_await looking.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
        if (!cancelled) (void)co_await board->catch_up();  // its age tells of failures
    }
}

/// A node that was left out when keys were exchanged would seal what others soon can't open. Beside
/// the looks at the board, which must not wait for it.
Task<void> Runtime::State::keep_comparing() {
    while (!stopping && !ring_outdated) {
        comparing.expires_after(kCompareInterval);
        boost::system::error_code cancelled;
        co_await comparing.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
        if (cancelled) continue;
        const auto looked = co_await common_ring->look_again();
        if (looked || looked.error().code != Errc::conflict) continue;
        ring_outdated = true;
        log::error("runtime.key_ring_outdated", {{"detail", looked.error().detail}});
    }
}

Result<void> Runtime::State::bootstrap() {
    if (settings.bootstrap_key.empty() || keys->knows_secret(settings.bootstrap_key)) return ok();
    BOOST_OUTCOME_TRYV(make_bootstrap_project());
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
    if (!created) {
        // Another node may have made it since they were loaded.
        BOOST_OUTCOME_TRYV(run(board->catch_up()));
        if (keys->knows_secret(settings.bootstrap_key)) return ok();
        return created.error();
    }
    log::info(
        "bootstrap.key_created",
        {{"project", settings.bootstrap_project}, {"key", created.value().key.id}}
    );
    return ok();
}

Result<void> Runtime::State::make_bootstrap_project() {
    const std::string& project = settings.bootstrap_project;
    if (projects->exists(project)) return ok();
    const auto made = run(projects->create(project, project));
    if (made) return ok();
    BOOST_OUTCOME_TRY(const bool exists, run(projects->find(project)));
    if (exists) return ok();
    Error error = made.error();
    error.detail = "ANNAL_BOOTSTRAP_PROJECT: " + error.detail;
    return error;
}

Result<void> Runtime::State::add_instance(const Manifest& manifest) {
    BOOST_OUTCOME_TRY(const auto* module, loader->load(manifest.library, manifest.sha256));
    const auto component = find_component(manifest, *module);
    if (manifest.destination) return destinations->add(manifest, *module);
    BOOST_OUTCOME_TRY(auto instance, Instance::create(manifest, *module, environment));
    instances.emplace_back(std::move(instance));
    const bool is_job =
        component && component.value()->type == std::string_view(ANNAL_COMPONENT_JOB);
    return is_job ? jobs->add(instances.back()) : ok();
}

/// What is wrong with any of them, all at once. When that is only what may pass by itself, so may
/// the whole.
Result<void> Runtime::State::add_instances() {
    ManifestSet set = read_manifests(settings.manifests);
    std::string errors;
    bool may_pass = set.errors.empty();
    for (const ManifestError& error : set.errors) errors += error.text() + "\n";
    loader.emplace(settings.plugins);
    for (const Manifest& manifest : set.manifests) {
        const auto added = add_instance(manifest);
        if (added) continue;
        may_pass = may_pass && passes_by_itself(added.error());
        errors += manifest.file.string() + ":" + std::to_string(manifest.line) + ": " +
                  manifest.instance + ": " + added.error().detail + "\n";
    }
    if (errors.empty()) return ok();
    errors.pop_back();
    return Error{may_pass ? Errc::unavailable : Errc::invalid, errors};
}

Result<void> Runtime::State::load_plugins() {
    exporter = std::make_unique<http::Exporter>(environment, formats);
    http::connect_exports(environment, *exporter);
    const auto nodes =
        settings.shares_store() ? http::TailHub::Nodes::many : http::TailHub::Nodes::one;
    tails = std::make_unique<http::TailHub>(environment, nodes, [this](const http::Principal& who) {
        return keys->in_force(who);
    });
    http::connect_tails(environment, *tails);

    const auto added = add_instances();
    if (!added) destroy_plugins();
    return added;
}

void Runtime::State::destroy_plugins() {
    jobs->clear();
    retention->retract();
    streams->clear();
    destinations->clear();
    exporter.reset();
    formats.clear();
    tails.reset();
    router = http::Router();
    instances.clear();
    loader.reset();
}

Result<void> Runtime::State::add_plugin_routes() {
    for (const auto& instance : instances) {
        const std::string type = instance->component().type;
        if (type == ANNAL_COMPONENT_FORMAT) formats.add(instance);
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

std::vector<std::string> Runtime::State::plugin_spaces() const {
    std::vector<std::string> spaces;
    for (const auto& instance : instances)
        spaces.push_back("plugin." + instance->manifest().instance);
    return spaces;
}

std::vector<std::string> Runtime::State::reasons_not_to_append() {
    std::vector<std::string> reasons;
    if (std::string refusal = store->health().refusal; !refusal.empty())
        reasons.push_back("the store can't write: " + refusal);
    if (reasons.empty() && board->has_other_nodes() && board->age() > kSilenceMax)
        reasons.push_back(
            "the store has not answered for " + std::to_string(board->age().count() / 1'000) + " s"
        );
    return reasons;
}

std::vector<std::string> Runtime::State::reasons_not_to_serve() {
    std::vector<std::string> reasons = reasons_not_to_append();
    if (ring_outdated)
        reasons.emplace_back("the node's key ring is out of date: copy that of the other nodes");
    return reasons;
}

Result<void> Runtime::State::add_host_routes() {
    control::NodeView view;
    view.appender = appender.get();
    view.metrics = &metrics;
    view.not_ready = [this] { return reasons_not_to_serve(); };
    view.degraded = [this] { return store->health().damaged; };
    view.instances = [this] { return instances; };
    view.streams = [this] { return streams->statuses(); };
    BOOST_OUTCOME_TRYV(control::add_node_routes(router, std::move(view)));
    BOOST_OUTCOME_TRYV(projects->add_routes(router));
    BOOST_OUTCOME_TRYV(control::add_key_routes(router, *keys, *projects));
    BOOST_OUTCOME_TRYV(control::add_setting_routes(router, *project_settings, *appender));
    BOOST_OUTCOME_TRYV(control::add_secret_routes(router, *rekeying, first_key));
    BOOST_OUTCOME_TRYV(control::add_stream_routes(router, *streams, *destinations, *store));
    BOOST_OUTCOME_TRYV(control::add_webhook_routes(router, *webhooks, environment));
    BOOST_OUTCOME_TRYV(control::add_job_routes(router, *jobs));
    BOOST_OUTCOME_TRYV(control::add_erasure_routes(router, *erasures, environment));
    return docs.add_routes(router);
}

Result<void> Runtime::State::add_routes() {
    BOOST_OUTCOME_TRYV(add_host_routes());
    control::RouteGroup host{"", std::string(control::host_route_text()), {}};
    for (const auto& route : router.routes()) {
        for (const std::string& method : route->methods)
            host.routes.push_back(
                {method + " " + route->pattern, {method}, route->pattern, route->scope}
            );
    }
    BOOST_OUTCOME_TRYV(add_plugin_routes());
    describe_routes(std::move(host));
    return ok();
}

void Runtime::State::describe_routes(control::RouteGroup host) {
    std::vector<control::RouteGroup> groups;
    for (const auto& instance : instances) {
        const Manifest& manifest = instance->manifest();
        if (instance->component().type != std::string_view(ANNAL_COMPONENT_HTTP)) continue;
        control::RouteGroup group{
            manifest.instance, std::string(route_text(instance->component())), {}};
        for (const HttpTrigger& trigger : manifest.http)
            group.routes.push_back({trigger.name, trigger.methods, trigger.route, trigger.scope});
        groups.push_back(std::move(group));
    }
    groups.push_back(std::move(host));
    control::ApiDescription described = control::describe_api(groups);
    for (const auto& fault : described.faults) log_fault(fault);
    docs.publish(std::move(described.json));
}

Result<void> Runtime::State::start_streams() {
    for (const auto& instance : instances) {
        if (instance->component().type != std::string_view(ANNAL_COMPONENT_SINK)) continue;
        for (const EventsTrigger& trigger : instance->manifest().events) {
            const auto added = streams->add(trigger, instance);
            if (added) continue;
            const Manifest& manifest = instance->manifest();
            return Error{
                Errc::invalid,
                manifest.file.string() + ":" + std::to_string(trigger.line) + ": " +
                    manifest.instance + ": " + added.error().detail};
        }
    }
    if (!role.streams) return ok();
    BOOST_OUTCOME_TRYV(provide_http_client(environment));
    BOOST_OUTCOME_TRYV(retention->start());
    streams->start();
    webhooks->start();
    jobs->start();
    erasures->start();
    return ok();
}

void Runtime::State::stop_streams() {
    run(erasures->stop());
    run(retention->stop());
    run(jobs->stop());
    run(webhooks->stop());
    run(streams->stop());
}

Result<void> Runtime::State::open_doors() {
    server->exchange(router, *keys);
    tell_address();
    return ok();
}

namespace {

template <class State>
const auto& steps() {
    static const std::array<Step<State>, 14> all{{
        {"make room for connections", &State::make_room, nullptr},
        {"load TLS certificate", &State::load_tls, nullptr},
        {"start threads", &State::start_threads, &State::stop_threads},
        {"open store", &State::open_store, &State::close_store},
        {"start server", &State::start_server, &State::stop_server},
        {"await store", &State::await_store, nullptr, true},
        {"compare key rings", &State::compare_key_rings, nullptr, true},
        {"start append path", &State::start_append_path, &State::stop_append_path},
        {"load control objects", &State::load_control, &State::save_control, true},
        {"make bootstrap key", &State::bootstrap, nullptr, true},
        {"load plugins", &State::load_plugins, &State::destroy_plugins, true},
        {"add routes", &State::add_routes, nullptr},
        {"start streams", &State::start_streams, &State::stop_streams},
        {"open doors", &State::open_doors, &State::stop_server},
    }};
    return all;
}

/// Waiting for a store that others keep and that may come back; silent where it does not take long.
template <class State>
class Wait {
public:
    explicit Wait(State& state) : state_(state) {}

    /// Whether to try again, after a pause; else `error` is why the node ends.
    bool go_on(Error& error) {
        if (!state_.settings.shares_store() || !passes_by_itself(error)) return false;
        const auto waited = Clock::now() - begun_;
        if (!state_.role.listen) {
            std::this_thread::sleep_for(kPause);
            return waited < kCommandWait;
        }
        say(error.detail, waited);
        const auto pause = waited < kQuietWait ? kFirstPause : kPause;
        if (state_.stop_request.wait_for(pause) == std::future_status::timeout) return true;
        error = {Errc::cancelled, "stopped while it waited for the database"};
        return false;
    }
    void over() const {
        if (!said_.empty()) log::info("runtime.store_is_there");
    }

private:
    using Clock = std::chrono::steady_clock;

    void say(const std::string& reason, Clock::duration waited) {
        {
            const std::lock_guard lock(state_.waiting_mutex);
            state_.waiting_for = "it waits for the database: " + reason;
        }
        state_.await_signal();
        if (waited < kQuietWait) return;
        state_.tell_address();
        if (reason == said_ && Clock::now() - said_at_ < kWordAgain) return;
        log::warn("runtime.waits_for_store", {{"reason", reason}});
        said_ = reason;
        said_at_ = Clock::now();
    }

    State& state_;
    Clock::time_point begun_ = Clock::now(), said_at_{};
    std::string said_;
};

template <class State>
Result<void> take(const Step<State>& step, State& state) {
    Wait<State> wait(state);
    for (;;) {
        auto done = (state.*step.start)();
        if (done) {
            wait.over();
            return done;
        }
        Error error = done.error();
        if (step.needs_store && wait.go_on(error)) continue;
        if (error.code != Errc::cancelled)
            error.detail = std::string(step.name) + ": " + error.detail;
        return error;
    }
}

}  // namespace

Runtime::Runtime(NodeSettings settings, Role role)
    : state_(std::make_unique<State>(std::move(settings), role)) {}

Runtime::~Runtime() {
    stop();
}

Result<void> Runtime::start(const std::function<void(const std::string&)>& listening) {
    state_->listening = listening;
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
        auto done = take(step, *state_);
        if (!done) {
            stop();
            return done;
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
    state_->stop_request.wait();
}

void Runtime::stop() {
    const auto& all = steps<State>();
    if (state_->steps_done > 0) state_->limit_stop();
    while (state_->steps_done > 0) {
        const auto& step = all[--state_->steps_done];
        if (step.stop) ((*state_).*step.stop)();
    }
}

}  // namespace annal
