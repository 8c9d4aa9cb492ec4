#include <algorithm>
#include <boost/json.hpp>

#include "runtime/plugin/manifest.h"
#include "runtime/plugin/manifest_words.h"
#include "runtime/plugin/schema.h"

namespace annal {
namespace {

namespace json = boost::json;

constexpr std::size_t kConfigBytesMax = 1U << 20;
constexpr std::size_t kConfigStringBytesMax = 64U << 10;

using Errors = std::vector<std::pair<std::string, std::string>>;

/// The name in `{"secretRef": name}`; null for anything else.
const json::value* secret_name(const json::value& value) {
    return value.is_object() ? value.get_object().if_contains("secretRef") : nullptr;
}

/// Puts secrets in the place of their references, so that the schema sees the strings that the
/// component will.
class SecretResolver {
public:
    SecretResolver(const SecretLookup& lookup, Errors& errors) : lookup_(lookup), errors_(errors) {}

    void resolve(json::value& value, const std::string& pointer) {
        if (const auto* name = secret_name(value)) {
            value = secret(*name, value.get_object().size(), pointer);
        } else if (value.is_object()) {
            for (auto& [key, member] : value.get_object())
                resolve(member, pointer_to(pointer, key));
        } else if (value.is_array()) {
            std::size_t index = 0;
            for (auto& element : value.get_array())
                resolve(element, pointer_to(pointer, std::to_string(index++)));
        } else if (value.is_string() && value.get_string().size() > kConfigStringBytesMax) {
            errors_.emplace_back(pointer, "is longer than 64 KiB");
        } else if (value.is_uint64()) {
            // The schema checker knows signed integers only; what is beyond them is a number like
            // any other.
            value = static_cast<double>(value.get_uint64());
        }
    }

private:
    json::string secret(const json::value& name, std::size_t members, const std::string& pointer) {
        if (members != 1 || !name.is_string() || name.get_string().empty()) {
            errors_.emplace_back(
                pointer, "expected {\"secretRef\": \"name\"} and nothing beside it"
            );
            return {};
        }
        const std::string text(name.get_string());
        const auto found = lookup_ ? lookup_(text) : std::nullopt;
        if (!found) {
            errors_.emplace_back(
                pointer, "there is no secret " + in_quotes(text) + " on this node"
            );
            return {};
        }
        if (found->find('\0') != std::string::npos) {
            errors_.emplace_back(pointer, "the secret " + in_quotes(text) + " holds a zero byte");
        }
        return json::string(*found);
    }

    const SecretLookup& lookup_;
    Errors& errors_;
};

bool is_below(std::string_view pointer, std::string_view parent) {
    return pointer.starts_with(parent) &&
           (pointer.size() == parent.size() || pointer[parent.size()] == '/');
}

/// Errors of the schema, but for those about a value that could not be resolved: that has been
/// said.
void add_schema_errors(const Errors& found, Errors& errors) {
    const auto resolved_badly = errors;
    for (const auto& error : found) {
        const bool known =
            std::any_of(resolved_badly.begin(), resolved_badly.end(), [&](const auto& bad) {
                return is_below(error.first, bad.first);
            });
        if (!known) errors.push_back(error);
    }
}

std::string complete(
    const std::string& config_json,
    const std::string& schema_json,
    const SecretLookup& secret,
    Errors& errors
) {
    if (config_json.size() > kConfigBytesMax) {
        errors.emplace_back("", "is larger than 1 MiB");
        return {};
    }
    auto schema = ConfigSchema::parse(schema_json);
    if (!schema) {
        errors.emplace_back(
            "", "the component's own schema can't be applied: " + schema.error().detail
        );
        return {};
    }
    boost::system::error_code error;
    auto value = json::parse(config_json, error);
    if (error) {
        errors.emplace_back("", "is no JSON: " + error.message());
        return {};
    }
    SecretResolver(secret, errors).resolve(value, "");
    add_schema_errors(schema.value().validate(value), errors);
    if (!errors.empty()) return {};
    schema.value().apply_defaults(value);
    for (const auto& [pointer, message] : schema.value().validate(value)) {
        errors.emplace_back(
            pointer, "the component's own default does not fit its schema: " + message
        );
    }
    return json::serialize(value);
}

}  // namespace

ConfigResult complete_config(
    const std::string& config_json, const std::string& schema_json, const SecretLookup& secret
) {
    ConfigResult out;
    try {
        out.json = complete(config_json, schema_json, secret, out.errors);
    } catch (const std::exception&) {
        // Its text might quote a value, and values may be secrets.
        out.errors.emplace_back("", "could not be processed");
    }
    if (!out.errors.empty()) out.json.clear();
    for (auto& error : out.errors) error.first.insert(0, "/spec/config");
    return out;
}

}  // namespace annal
