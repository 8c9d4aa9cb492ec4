#include "runtime/plugin/instance.h"

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/json/parse.hpp>
#include <span>
#include <string_view>

#include "runtime/plugin/address_policy.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/http_client.h"
#include "runtime/plugin/services.h"

namespace annal {
namespace {

const void* service(annal_ctx* ctx, const char* id) noexcept {
    return ctx == nullptr || id == nullptr ? nullptr : find_service(*ctx, id);
}

void* allocate(annal_call* handle, std::size_t size, std::size_t align) noexcept {
    const auto call = Call::share(handle);
    return call ? call->allocate(size, align) : nullptr;
}

std::int32_t cancelled(annal_call* handle) noexcept {
    const auto call = Call::share(handle);
    return !call || call->cancelled() ? 1 : 0;
}

annal_status report(annal_call* handle, annal_str json) noexcept {
    const auto call = Call::share(handle);
    if (!call) return ANNAL_INVALID;
    if (json.len > Call::kReportBytesMax) return ANNAL_TOO_LARGE;
    boost::system::error_code error;
    const auto value = boost::json::parse(to_view(json), error);
    if (error || !value.is_object()) return ANNAL_INVALID;
    call->set_report(std::string(to_view(json)));
    return ANNAL_OK;
}
void complete(annal_call* handle, const annal_error* error) noexcept {
    Call::complete(handle, error);
}

using Create = annal_status (*)(const annal_init* init, void** self, annal_error* error);
using Destroy = void (*)(void* self);

struct LifeCycle {
    Create create = nullptr;
    Destroy destroy = nullptr;
};

template <class V>
LifeCycle life_cycle_of(const void* table) {
    const auto& functions = *static_cast<const V*>(table);
    return {functions.create, functions.destroy};
}

/// Each kind of component has `create` and `destroy`, though not at the same place of its table.
LifeCycle life_cycle(const annal_component& component) {
    const std::string_view type = component.type;
    if (type == ANNAL_COMPONENT_HTTP) return life_cycle_of<annal_http_v1>(component.vtable);
    if (type == ANNAL_COMPONENT_FORMAT) return life_cycle_of<annal_format_v1>(component.vtable);
    if (type == ANNAL_COMPONENT_SINK) return life_cycle_of<annal_sink_v1>(component.vtable);
    if (type == ANNAL_COMPONENT_JOB) return life_cycle_of<annal_job_v1>(component.vtable);
    return {};
}

std::span<const annal_component* const> components_of(const Module& module) {
    return {module.descriptor->components, module.descriptor->n_components};
}

std::string names_of(const Module& module) {
    std::string names;
    for (const annal_component* component : components_of(module)) {
        names += (names.empty() ? "" : ", ") + std::string(component->name);
    }
    return names.empty() ? "none" : names;
}

Result<std::string> complete_configuration(
    const Manifest& manifest, const annal_component& component, const SecretLookup& secrets
) {
    const std::string schema = component.config_schema != nullptr ? component.config_schema : "{}";
    const SecretLookup no_secrets = [](const std::string&) { return std::nullopt; };
    ConfigResult config =
        complete_config(manifest.config_json, schema, secrets ? secrets : no_secrets);
    if (config.errors.empty()) return std::move(config.json);
    Error error{Errc::unprocessable, {}, {}, 0};
    for (const auto& [pointer, message] : config.errors) {
        error.detail += (error.detail.empty() ? "" : "; ") + pointer + ": " + message;
    }
    error.detail = "the configuration of " + manifest.instance + " is not valid: " + error.detail;
    return error;
}

/// The plugin's code; nothing that it throws can be let through a C function.
annal_status run_create(
    Create create, const annal_init& init, void*& self, annal_error& error
) noexcept {
    return create(&init, &self, &error);
}

void run_destroy(Destroy destroy, void* self) noexcept {
    destroy(self);
}

Error create_error(const Manifest& manifest, annal_status status, annal_error error) {
    error.code = status;
    Error out = to_error(error);
    if (out.detail.empty()) out.detail = "create failed without saying why";
    out.detail = manifest.instance + ": " + out.detail;
    return out;
}

}  // namespace

Result<AddressPolicy> outbound_policy(const HostEnvironment& environment) {
    return AddressPolicy::create(
        environment.allow_cidrs, environment.outbound_ports, environment.own_port
    );
}

// With the first instance that may call out, so that a node without one has no threads for it.
Result<void> provide_http_client(const Manifest& manifest, HostEnvironment& environment) {
    return manifest.permissions.http.empty() ? ok() : provide_http_client(environment);
}

Result<void> provide_http_client(HostEnvironment& environment) {
    if (environment.http_client) return ok();
    BOOST_OUTCOME_TRY(AddressPolicy policy, outbound_policy(environment));
    HttpClient::Options options;
    options.connections_max = environment.outbound_connections;
    options.transfers_max = std::min(options.transfers_max, options.connections_max / 2);
    options.metrics = environment.metrics;
    environment.http_client = std::make_shared<HttpClient>(std::move(policy), std::move(options));
    return ok();
}

struct Instance::State {
    State(
        const Manifest& m, const Module& mod, const annal_component& c, HostEnvironment& environment
    )
        : manifest(m),
          module(mod),
          component(c),
          ctx{environment, manifest.permissions, manifest.instance, "plugin." + manifest.instance},
          host{
              sizeof(annal_host),
              ANNAL_ABI_MAJOR,
              ANNAL_ABI_MINOR,
              &ctx,
              &service,
              &allocate,
              &cancelled,
              &complete,
              &report} {}

    const Manifest manifest;
    const Module& module;
    const annal_component& component;
    annal_ctx ctx;
    const annal_host host;
    void* self = nullptr;
    Destroy destroy = nullptr;  ///< set once there is something to destroy
};

Instance::Instance(std::unique_ptr<State> state) : state_(std::move(state)) {}

Instance::~Instance() {
    if (state_->destroy != nullptr) run_destroy(state_->destroy, state_->self);
}

Result<std::unique_ptr<Instance>> Instance::create(
    const Manifest& manifest, const Module& module, HostEnvironment& environment
) {
    BOOST_OUTCOME_TRY(const annal_component* component, find_component(manifest, module));
    const LifeCycle functions = life_cycle(*component);
    if (functions.create == nullptr || functions.destroy == nullptr) {
        return Error{
            Errc::unsupported,
            manifest.instance + ": this host does not know components of type " + component->type};
    }
    BOOST_OUTCOME_TRY(
        const std::string config, complete_configuration(manifest, *component, environment.secrets)
    );
    BOOST_OUTCOME_TRY(provide_http_client(manifest, environment));

    auto state = std::make_unique<State>(manifest, module, *component, environment);
    const annal_init init{
        sizeof(annal_init),
        0,
        to_abi(std::string_view(manifest.instance)),
        to_abi(std::string_view(config)),
        &state->host,
    };
    annal_error error{};
    error.struct_size = sizeof(error);
    const annal_status status = run_create(functions.create, init, state->self, error);
    state->ctx.creating = false;
    if (status != ANNAL_OK) return create_error(manifest, status, error);
    state->destroy = functions.destroy;
    return std::unique_ptr<Instance>(new Instance(std::move(state)));
}

const Manifest& Instance::manifest() const {
    return state_->manifest;
}
const annal_component& Instance::component() const {
    return state_->component;
}
const Module& Instance::module() const {
    return state_->module;
}
void* Instance::self() const {
    return state_->self;
}

Result<const annal_component*> find_component(const Manifest& manifest, const Module& module) {
    const auto components = components_of(module);
    if (manifest.component.empty()) {
        if (components.size() == 1) return components.front();
        return Error{
            Errc::not_found,
            manifest.instance + ": the library " + manifest.library +
                " has several components; name one with spec.component: " + names_of(module)};
    }
    const auto found =
        std::find_if(components.begin(), components.end(), [&](const annal_component* c) {
            return manifest.component == c->name;
        });
    if (found != components.end()) return *found;
    return Error{
        Errc::not_found,
        manifest.instance + ": the library " + manifest.library + " has no component " +
            manifest.component + "; it has: " + names_of(module)};
}

}  // namespace annal
