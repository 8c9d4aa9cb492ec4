#include "runtime/control/api_description.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "runtime/core/version.h"
#include "runtime/plugin/manifest_words.h"
#include "runtime/plugin/route_descriptions.h"

namespace annal {

extern const std::string_view kHostRoutesYaml;

namespace control {
namespace json = boost::json;
namespace {

constexpr std::string_view kComponents = "#/components/";
constexpr std::string_view kAbout =
    "The audit log of a project: every route that this node serves, as its manifests declare them."
    "\n\nEvery call but those without a lock needs an API key, in any of three forms: "
    "`Authorization: Bearer sk_live_…`, `X-API-Key: sk_live_…`, or HTTP Basic with the key's id "
    "and "
    "secret. The scope that a call needs stands with it; `admin` has every scope within the "
    "project, `platform` all of them.\n\nEach answer carries `Annal-Request-Id`. A path is taken "
    "with and without a slash at its end, and HEAD wherever GET is. A status that is not listed is "
    "a defect.";

/// An error that the host makes itself.
struct HostError {
    int status;
    enum class When { always, with_key, to_write, with_parameters, with_body } when;
    std::string_view description;
    std::string_view header, header_says;  ///< besides Annal-Request-Id; empty: none
};
using When = HostError::When;
constexpr HostError kHostErrors[] = {
    {400, When::always, "Malformed: the request, its query, its body or a parameter.", {}, {}},
    {401,
     When::with_key,
     "No API key, or one that is unknown, revoked or expired.",
     "WWW-Authenticate",
     "The form of credentials that is asked for."},
    {403, When::with_key, "The key lacks a scope, which is named, or may not do this.", {}, {}},
    {404, When::with_parameters, "There is no such thing in this project.", {}, {}},
    {405,
     When::always,
     "Another method than this path has.",
     "Allow",
     "The methods that the path has."},
    {408, When::with_body, "The body did not arrive in time.", {}, {}},
    {413, When::with_body, "The body is larger than this call takes.", {}, {}},
    {415, When::with_body, "The body's media type or encoding is not taken.", {}, {}},
    {429,
     When::to_write,
     "The project's share of the node is used up; nothing was done.",
     "Retry-After",
     "Seconds after which to try again."},
    {431, When::always, "The request's headers are too large.", {}, {}},
    {503,
     When::always,
     "The node can't do it now.",
     "Retry-After",
     "Seconds after which to try again."},
};

std::string_view view(const json::string& text) {
    return {text.data(), text.size()};
}

json::object reference(std::string_view kind, const std::string& name) {
    json::object out;
    out["$ref"] = std::string(kComponents) + std::string(kind) + "/" + name;
    return out;
}

/// The names in "/accounts/{account_id}/events.{format}", in order.
std::vector<std::string> parameter_names(std::string_view pattern) {
    std::vector<std::string> names;
    for (auto open = pattern.find('{'); open != std::string_view::npos;
         open = pattern.find('{', open + 1))
        names.emplace_back(pattern.substr(open + 1, pattern.find('}', open) - open - 1));
    return names;
}

std::string lower(std::string_view word) {
    std::string out(word);
    for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    return out;
}

/// "GET /v1/api-keys/{id}" as a name: "get-v1-api-keys-id".
std::string name_in_one_word(std::string_view text) {
    std::string out;
    for (const char c : lower(text)) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (plain)
            out += c;
        else if (!out.empty() && out.back() != '-')
            out += '-';
    }
    while (!out.empty() && out.back() == '-') out.pop_back();
    return out;
}

/// Puts `prefix` in front of every name of a component that `value` refers to.
void prefix_references(json::value& value, const std::string& prefix) {
    if (json::array* list = value.if_array()) {
        for (json::value& one : *list) prefix_references(one, prefix);
    } else if (json::object* object = value.if_object()) {
        for (auto& member : *object) {
            json::string* text = member.value().if_string();
            if (member.key() != "$ref" || text == nullptr) {
                prefix_references(member.value(), prefix);
                continue;
            }
            std::string whole(view(*text));
            whole.insert(whole.rfind('/') + 1, prefix);
            *text = whole;
        }
    }
}

/// Puts the groups together, one after the other.
class Merger {
public:
    explicit Merger(const std::vector<RouteGroup>& groups) {
        for (const RouteGroup& group : groups) {
            auto read = read_route_descriptions(group.text);
            if (!read)
                faults_.push_back(
                    {DescriptionFault::Kind::unreadable, group.name, read.error().detail}
                );
            texts_.push_back(read ? std::move(read.value()) : RouteDescriptions());
            if (group.name.empty()) native_errors_ = texts_.back().errors;
        }
        for (std::size_t i = 0; i < groups.size(); ++i) add(groups[i], texts_[i]);
    }

    ApiDescription take() && {
        json::object license;
        license["name"] = "Apache License 2.0";
        license["identifier"] = "Apache-2.0";
        json::object info;
        info["title"] = "Annal";
        info["summary"] = "A self-hosted audit log";
        info["description"] = kAbout;
        info["version"] = annal::version();
        info["license"] = std::move(license);
        components_["securitySchemes"] = security_schemes();
        json::object root;
        root["openapi"] = "3.1.0";
        root["info"] = std::move(info);
        root["tags"] = std::move(tags_);
        root["paths"] = std::move(paths_);
        root["components"] = std::move(components_);
        return {json::serialize(root), std::move(faults_)};
    }

private:
    static json::object security_schemes() {
        json::object bearer, header, basic, out;
        bearer["type"] = "http";
        bearer["scheme"] = "bearer";
        bearer["description"] = "`Authorization: Bearer sk_live_…`";
        header["type"] = "apiKey";
        header["in"] = "header";
        header["name"] = "X-API-Key";
        header["description"] = "`X-API-Key: sk_live_…`";
        basic["type"] = "http";
        basic["scheme"] = "basic";
        basic["description"] = "The key's id as the user, its secret as the password.";
        out["bearer"] = std::move(bearer);
        out["header"] = std::move(header);
        out["basic"] = std::move(basic);
        return out;
    }

    void add(const RouteGroup& group, RouteDescriptions& text) {
        const std::string prefix = group.name.empty() ? "" : group.name + ".";
        add_components(prefix, text.components);
        add_host_errors(prefix, text.errors);
        const std::string first_tag = add_tags(group, text.tags);
        std::set<std::string, std::less<>> described;
        for (const DescribedRoute& route : group.routes) {
            const json::value* found = text.operations.if_contains(route.name);
            if (found == nullptr) {
                faults_.push_back(
                    {DescriptionFault::Kind::undescribed,
                     group.name,
                     route.name + " (" + route.pattern + ")"}
                );
            }
            described.insert(route.name);
            for (const std::string& method : route.methods) {
                json::object operation =
                    found != nullptr ? found->get_object() : undescribed(method, route);
                finish(operation, prefix, method, route, first_tag);
            }
        }
        for (const auto& one : text.operations) {
            if (described.contains(std::string_view(one.key().data(), one.key().size()))) continue;
            faults_.push_back({DescriptionFault::Kind::unused, group.name, std::string(one.key())});
        }
    }

    void add_components(const std::string& prefix, json::object& own) {
        for (auto& kind : own) {
            json::object& all = object_in(components_, kind.key());
            for (auto& one : kind.value().get_object()) {
                prefix_references(one.value(), prefix);
                all[prefix + std::string(one.key())] = std::move(one.value());
            }
        }
    }

    /// Once for each group, in its own form; operations refer to them.
    void add_host_errors(const std::string& prefix, const json::object& own) {
        json::value content(own.empty() ? native_errors_ : own);
        if (!own.empty()) prefix_references(content, prefix);
        errors_ = content.get_object();
        json::object& all = object_in(components_, "responses");
        for (const HostError& error : kHostErrors) {
            json::object headers, response;
            headers["Annal-Request-Id"] = header("Names this request, in logs too.", "string");
            if (!error.header.empty())
                headers[error.header] =
                    header(error.header_says, error.header == "Retry-After" ? "integer" : "string");
            response["description"] = error.description;
            response["headers"] = std::move(headers);
            response["content"] = content;
            all[prefix + std::to_string(error.status)] = std::move(response);
        }
    }

    static json::object header(std::string_view says, std::string_view type) {
        json::object schema, out;
        schema["type"] = type;
        out["description"] = says;
        out["schema"] = std::move(schema);
        return out;
    }

    /// The tag of operations that name none.
    std::string add_tags(const RouteGroup& group, const json::array& own) {
        json::array list = own;
        if (list.empty()) {
            json::object tag;
            tag["name"] = group.name.empty() ? "Annal" : group.name;
            list.push_back(std::move(tag));
        }
        for (const json::value& tag : list) {
            const std::string name(view(tag.at("name").get_string()));
            if (tag_names_.insert(name).second) tags_.push_back(tag);
        }
        return std::string(view(list.front().at("name").get_string()));
    }

    static json::object undescribed(const std::string& method, const DescribedRoute& route) {
        json::object answer, answers, out;
        answer["description"] = "What the component answers.";
        answers["default"] = std::move(answer);
        out["summary"] = method + " " + route.pattern;
        out["description"] = "The component that serves it does not describe it.";
        out["responses"] = std::move(answers);
        return out;
    }

    void finish(
        json::object& operation,
        const std::string& prefix,
        const std::string& method,
        const DescribedRoute& route,
        const std::string& tag
    ) {
        json::value whole(std::move(operation));
        prefix_references(whole, prefix);
        json::object& out = whole.get_object();
        std::string id = prefix + own_id(out, route.name);
        if (route.methods.size() > 1) id += "." + lower(method);
        while (!ids_.insert(id).second) id += "-again";
        out["operationId"] = id;
        if (!out.contains("tags")) out["tags"] = json::array{json::value(tag)};
        set_security(out, route);
        const bool has_body = out.contains("requestBody");
        const std::string& path = shown_path(route.pattern);
        set_path_parameters(out, route.pattern, path);
        add_errors(out, prefix, method, route, has_body);
        object_in(paths_, path)[lower(method)] = std::move(whole);
    }

    static std::string own_id(const json::object& operation, const std::string& name) {
        const json::value* own = operation.if_contains("operationId");
        if (own != nullptr && own->is_string()) return std::string(view(own->get_string()));
        return name.find(' ') == std::string::npos ? name : name_in_one_word(name);
    }

    static void set_security(json::object& operation, const DescribedRoute& route) {
        json::array ways;
        if (!route.scope.empty()) {
            for (const char* scheme : {"bearer", "header", "basic"}) {
                json::object way;
                way[scheme] = json::array{json::value(route.scope)};
                ways.push_back(std::move(way));
            }
            std::string says;
            if (const json::value* own = operation.if_contains("description");
                own != nullptr && own->is_string())
                says = std::string(view(own->get_string()));
            while (!says.empty() && says.back() == '\n') says.pop_back();
            says += (says.empty() ? "" : "\n\n") + std::string("Scope: `") + route.scope + "`";
            operation["description"] = says;
        }
        operation["security"] = std::move(ways);
    }

    /// Two patterns of one shape are one path, whose parameters have the names that came first.
    const std::string& shown_path(const std::string& pattern) {
        return shapes_.emplace(route_shape(pattern), pattern).first->second;
    }

    static void set_path_parameters(
        json::object& operation, const std::string& pattern, const std::string& shown
    ) {
        json::array all;
        const auto names = parameter_names(pattern), shown_names = parameter_names(shown);
        json::array own;
        if (json::value* list = operation.if_contains("parameters")) own = list->get_array();
        for (std::size_t i = 0; i < names.size(); ++i) {
            json::object parameter = described_parameter(own, names[i]);
            parameter["name"] = shown_names[i];
            parameter["required"] = true;
            all.push_back(std::move(parameter));
        }
        for (json::value& one : own)
            if (!is_in_path(one)) all.push_back(std::move(one));
        if (all.empty())
            operation.erase("parameters");
        else
            operation["parameters"] = std::move(all);
    }

    static bool is_in_path(const json::value& parameter) {
        const json::object* object = parameter.if_object();
        const json::value* in = object != nullptr ? object->if_contains("in") : nullptr;
        return in != nullptr && in->is_string() && in->get_string() == "path";
    }

    static json::object described_parameter(const json::array& own, const std::string& name) {
        for (const json::value& one : own) {
            if (!is_in_path(one)) continue;
            const json::value* found = one.get_object().if_contains("name");
            if (found != nullptr && found->is_string() && view(found->get_string()) == name)
                return one.get_object();
        }
        json::object schema, out;
        schema["type"] = "string";
        out["name"] = name;
        out["in"] = "path";
        out["schema"] = std::move(schema);
        return out;
    }

    void add_errors(
        json::object& operation,
        const std::string& prefix,
        const std::string& method,
        const DescribedRoute& route,
        bool has_body
    ) {
        json::object& answers = operation["responses"].get_object();
        for (auto& answer : answers) {
            json::object& response = answer.value().get_object();
            const bool is_error = answer.key()[0] == '4' || answer.key()[0] == '5';
            if (is_error && !response.contains("$ref") && !response.contains("content"))
                response["content"] = errors_;
        }
        const bool has_key = !route.scope.empty();
        const bool writes = has_key && method != "GET";
        const bool has_parameters = route.pattern.find('{') != std::string::npos;
        for (const HostError& error : kHostErrors) {
            const bool applies = error.when == When::always ||
                                 (error.when == When::with_key && has_key) ||
                                 (error.when == When::to_write && writes) ||
                                 (error.when == When::with_parameters && has_parameters) ||
                                 (error.when == When::with_body && has_body);
            const std::string status = std::to_string(error.status);
            if (applies && !answers.contains(status))
                answers[status] = reference("responses", prefix + status);
        }
    }

    static json::object& object_in(json::object& parent, std::string_view name) {
        json::value& value = parent[name];
        if (!value.is_object()) value = json::object();
        return value.get_object();
    }

    json::array tags_;
    json::object paths_, components_, native_errors_, errors_;
    std::vector<RouteDescriptions> texts_;
    std::set<std::string> tag_names_, ids_;
    std::map<std::string, std::string> shapes_;
    std::vector<DescriptionFault> faults_;
};

}  // namespace

ApiDescription describe_api(const std::vector<RouteGroup>& groups) {
    return Merger(groups).take();
}

std::string_view host_route_text() {
    return kHostRoutesYaml;
}

}  // namespace control
}  // namespace annal
