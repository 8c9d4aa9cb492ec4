#include "runtime/delivery/destinations.h"

#include <algorithm>
#include <boost/json.hpp>

#include "runtime/plugin/destination.h"

namespace annal {
namespace json = boost::json;
namespace {

const char* schema_of(const SinkOffer& destination) {
    const char* schema = destination.component->config_schema;
    return schema != nullptr ? schema : "{}";
}

/// References to the node's own secrets are the operator's to make.
bool names_secrets(const json::value& value) {
    if (const json::array* array = value.if_array())
        return std::any_of(array->begin(), array->end(), names_secrets);
    const json::object* object = value.if_object();
    if (object == nullptr) return false;
    if (object->contains("secretRef")) return true;
    return std::any_of(object->begin(), object->end(), [](const auto& member) {
        return names_secrets(member.value());
    });
}

Error unprocessable(std::string detail, std::string_view key = {}) {
    std::string pointer = "/config";
    if (!key.empty()) pointer += "/" + std::string(key);
    return {Errc::unprocessable, std::move(detail), std::move(pointer)};
}

bool is_url(const json::value& value) {
    if (!value.is_string()) return false;
    const json::string& text = value.get_string();
    return text.starts_with("http://") || text.starts_with("https://");
}

/// An error of `complete_config` speaks of the manifest; the caller of a route never saw one.
std::string shown(const std::pair<std::string, std::string>& error) {
    constexpr std::string_view kManifest = "/spec";
    std::string pointer = error.first;
    if (pointer.starts_with(kManifest)) pointer.erase(0, kManifest.size());
    return pointer + ": " + error.second;
}

}  // namespace

Result<void> Destinations::add(const Manifest& manifest, const Module& module) {
    SinkOffer destination;
    BOOST_OUTCOME_TRY(destination.component, find_component(manifest, module));
    destination.manifest = manifest;
    destination.module = &module;
    destination.scope = manifest.destination->scope;
    destination.name = manifest.destination->name;
    if (destination.name.empty()) destination.name = destination.component->name;
    if (destination.component->type != std::string_view(ANNAL_COMPONENT_SINK))
        return Error{
            Errc::invalid,
            manifest.instance + ": only a sink can be a destination, and " +
                destination.component->name + " is of type " + destination.component->type};
    const ConfigResult config =
        check_operators_part(manifest, *destination.component, environment_.secrets);
    if (!config.errors.empty())
        return Error{
            Errc::invalid,
            manifest.instance + ": " + config.errors.front().first + ": " +
                config.errors.front().second};
    BOOST_OUTCOME_TRYV(provide_http_client(manifest, environment_));
    std::string name = destination.name;
    const auto added = all_.emplace(name, std::move(destination));
    if (!added.second)
        return Error{
            Errc::conflict,
            manifest.instance + ": the destination " + name + " is offered by " +
                added.first->second.manifest.instance + " already; give this one another name"};
    return ok();
}

const SinkOffer* Destinations::find(const std::string& name) const {
    const auto found = all_.find(name);
    return found == all_.end() ? nullptr : &found->second;
}

std::string Destinations::list() const {
    std::string list;
    for (const auto& [name, destination] : all_) list += (list.empty() ? "" : ", ") + name;
    return list.empty() ? "none: no manifest offers one" : list;
}

Result<std::string> Destinations::merged(const SinkOffer& destination, const json::object& config)
    const {
    json::value whole = json::parse(destination.manifest.config_json);
    json::object& operators = whole.as_object();
    for (const auto& member : config) {
        const std::string key(member.key());
        if (operators.contains(key))
            return unprocessable("is set by this server's operator and can't be changed", key);
        if (names_secrets(member.value()))
            return unprocessable("give the secret itself; it is stored encrypted", key);
    }
    for (const auto& member : config) operators[member.key()] = member.value();
    return json::serialize(whole);
}

Result<void> Destinations::check(const SinkOffer& destination, const json::object& config) const {
    BOOST_OUTCOME_TRY(const std::string whole, merged(destination, config));
    const ConfigResult completed =
        complete_config(whole, schema_of(destination), environment_.secrets);
    if (completed.errors.empty()) return check_urls(destination, config);
    std::string detail;
    for (const auto& error : completed.errors)
        detail += (detail.empty() ? "" : "; ") + shown(error);
    return unprocessable(detail);
}

/// What can never be reached is refused now, not with the first delivery.
Result<void> Destinations::check_urls(const SinkOffer& destination, const json::object& config)
    const {
    const std::vector<std::string>& allowed = destination.manifest.permissions.http;
    if (allowed.empty()) return ok();
    BOOST_OUTCOME_TRY(const AddressPolicy policy, outbound_policy(environment_));
    for (const auto& member : config) {
        if (!is_url(member.value())) continue;
        const auto checked =
            check_destination(member.value().get_string().c_str(), policy, allowed);
        if (!checked) return unprocessable(checked.error().detail, std::string(member.key()));
    }
    return ok();
}

Result<std::shared_ptr<Instance>> Destinations::create(
    const SinkOffer& destination, const std::string& id, const json::object& config
) const {
    BOOST_OUTCOME_TRYV(check(destination, config));
    Manifest manifest = destination.manifest;
    manifest.destination.reset();
    manifest.instance = id;
    BOOST_OUTCOME_TRY(manifest.config_json, merged(destination, config));
    BOOST_OUTCOME_TRY(auto instance, Instance::create(manifest, *destination.module, environment_));
    return std::shared_ptr<Instance>(std::move(instance));
}

ConfigResult Destinations::check_operators_part(
    const Manifest& manifest, const annal_component& component, const SecretLookup& secrets
) {
    boost::system::error_code error;
    json::value schema =
        json::parse(component.config_schema != nullptr ? component.config_schema : "{}", error);
    // What is missing may come from the stream.
    if (!error && schema.is_object()) schema.get_object().erase("required");
    return complete_config(manifest.config_json, json::serialize(schema), secrets);
}

std::vector<std::string> Destinations::secret_keys(const SinkOffer& destination) {
    boost::system::error_code error;
    const json::value schema = json::parse(schema_of(destination), error);
    std::vector<std::string> keys;
    const json::value* properties =
        !error && schema.is_object() ? schema.get_object().if_contains("properties") : nullptr;
    if (properties == nullptr || !properties->is_object()) return keys;
    for (const auto& member : properties->get_object()) {
        const json::object* property = member.value().if_object();
        const json::value* mark = property != nullptr ? property->if_contains("x-secret") : nullptr;
        if (mark != nullptr && mark->is_bool() && mark->get_bool()) keys.emplace_back(member.key());
    }
    return keys;
}

}  // namespace annal
