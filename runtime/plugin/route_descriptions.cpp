#include "runtime/plugin/route_descriptions.h"

#include <algorithm>
#include <array>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <cstring>
#include <optional>
#include <string>

#include "runtime/plugin/manifest_words.h"
#include "runtime/plugin/manifest_yaml.h"

namespace annal {
namespace json = boost::json;
namespace {

constexpr std::array<std::string_view, 4> kParts = {"operations", "components", "errors", "tags"};
constexpr std::array<std::string_view, 6> kKinds = {
    "schemas", "responses", "parameters", "examples", "requestBodies", "headers"};
constexpr std::string_view kHere = "#/components/";

std::string_view view(const json::string& text) {
    return {text.data(), text.size()};
}

bool is_component_name(std::string_view name) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    return !name.empty() && name.size() <= 128 && letter(name.front()) &&
           std::all_of(name.begin(), name.end(), [&](char c) {
               return letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
           });
}

/// "200", "4XX", "default"
bool is_status(std::string_view text) {
    if (text == "default") return true;
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    return text.size() == 3 && text[0] >= '1' && text[0] <= '5' &&
           (text.substr(1) == "XX" || (is_digit(text[1]) && is_digit(text[2])));
}

/// Gathers all that is wrong with one document.
class Check {
public:
    Check(const ManifestLines& lines, ManifestErrors& errors) : lines_(lines), errors_(errors) {}

    void document(const json::object& root) {
        for (const auto& member : root) {
            if (std::find(kParts.begin(), kParts.end(), member.key()) != kParts.end()) continue;
            add(pointer_to("", member.key()), "unknown key; the keys here are " + either(kParts));
        }
        components_ = part(root, "components");
        if (components_ != nullptr) check_components();
        if (const json::object* operations = part(root, "operations")) {
            for (const auto& one : *operations)
                check_operation(pointer_to("/operations", one.key()), one.value());
        } else if (!root.contains("operations")) {
            add("/operations", "missing: the routes, by the names of their triggers");
        }
        if (const json::object* errors = part(root, "errors")) check_errors(*errors);
        if (const json::value* tags = root.if_contains("tags")) check_tags(*tags);
        check_references("", root);
    }

private:
    void add(const std::string& pointer, std::string message) {
        const auto at = lines_.find(pointer);
        errors_.add(at != lines_.end() ? at->second : 0, pointer, std::move(message));
    }

    const json::object* part(const json::object& root, std::string_view name) {
        const json::value* value = root.if_contains(name);
        if (value == nullptr || value->is_object()) return value ? &value->get_object() : nullptr;
        add(pointer_to("", name), "must be a mapping");
        return nullptr;
    }

    void check_components() {
        for (const auto& kind : *components_) {
            const std::string pointer = pointer_to("/components", kind.key());
            if (std::find(kKinds.begin(), kKinds.end(), kind.key()) == kKinds.end()) {
                add(pointer, "is none of the kinds that a component may bring: " + either(kKinds));
                continue;
            }
            if (!kind.value().is_object()) {
                add(pointer, "must be a mapping");
                continue;
            }
            for (const auto& one : kind.value().get_object()) {
                if (!is_component_name(one.key()))
                    add(pointer_to(pointer, one.key()),
                        "a name here is a letter and then letters, digits, _ and -");
                if (!one.value().is_object())
                    add(pointer_to(pointer, one.key()), "must be a mapping");
            }
        }
    }

    void check_operation(const std::string& pointer, const json::value& value) {
        const json::object* operation = value.if_object();
        if (operation == nullptr) return add(pointer, "must be a mapping: an Operation Object");
        const json::value* summary = operation->if_contains("summary");
        if (summary == nullptr || !summary->is_string() || summary->get_string().empty())
            add(pointer_to(pointer, "summary"), "missing: what the route does, in a few words");
        const json::value* parameters = operation->if_contains("parameters");
        if (parameters != nullptr && !parameters->is_array())
            add(pointer_to(pointer, "parameters"), "must be a sequence");
        const json::value* answers = operation->if_contains("responses");
        if (answers == nullptr || !answers->is_object() || answers->get_object().empty())
            return add(
                pointer_to(pointer, "responses"), "missing: what the route answers, by status"
            );
        for (const auto& answer : answers->get_object()) {
            if (!is_status(answer.key()) || !answer.value().is_object())
                add(pointer_to(pointer_to(pointer, "responses"), answer.key()),
                    "must be a status such as \"200\" with a Response Object");
        }
    }

    void check_errors(const json::object& errors) {
        for (const auto& type : errors)
            if (!type.value().is_object())
                add(pointer_to("/errors", type.key()), "must be a mapping: a Media Type Object");
    }

    void check_tags(const json::value& tags) {
        const json::array* list = tags.if_array();
        if (list == nullptr) return add("/tags", "must be a sequence of Tag Objects");
        for (std::size_t i = 0; i < list->size(); ++i) {
            const json::object* tag = (*list)[i].if_object();
            const json::value* name = tag != nullptr ? tag->if_contains("name") : nullptr;
            if (name == nullptr || !name->is_string() || name->get_string().empty())
                add(pointer_to("/tags", std::to_string(i)), "must be a mapping with a name");
        }
    }

    /// What a `$ref` names has to be in this document: no other is at hand where it is shown.
    void check_references(const std::string& pointer, const json::value& value) {
        if (const json::array* list = value.if_array()) {
            for (std::size_t i = 0; i < list->size(); ++i)
                check_references(pointer_to(pointer, std::to_string(i)), (*list)[i]);
        } else if (const json::object* object = value.if_object()) {
            for (const auto& member : *object) {
                const json::string* text = member.value().if_string();
                if (member.key() == "$ref" && text != nullptr && !is_there(view(*text)))
                    add(pointer_to(pointer, "$ref"),
                        "refers to nothing in this document's components: " + in_quotes(view(*text))
                    );
                check_references(pointer_to(pointer, member.key()), member.value());
            }
        }
    }
    void check_references(const std::string& pointer, const json::object& object) {
        for (const auto& member : object)
            check_references(pointer_to(pointer, member.key()), member.value());
    }

    [[nodiscard]] bool is_there(std::string_view reference) const {
        if (components_ == nullptr || !reference.starts_with(kHere)) return false;
        reference.remove_prefix(kHere.size());
        const auto slash = reference.find('/');
        if (slash == std::string_view::npos) return false;
        const json::value* kind = components_->if_contains(reference.substr(0, slash));
        return kind != nullptr && kind->is_object() &&
               kind->get_object().contains(reference.substr(slash + 1));
    }

    const ManifestLines& lines_;
    ManifestErrors& errors_;
    const json::object* components_ = nullptr;
};

std::string text_of(std::vector<ManifestError> errors) {
    std::string out;
    for (const ManifestError& error : errors) {
        if (!out.empty()) out += "; ";
        if (error.line > 0) out += "line " + std::to_string(error.line) + ": ";
        out += error.pointer + (error.pointer.empty() ? "" : ": ") + error.message;
    }
    return out;
}

/// The document as JSON; nothing when it is none, which has been reported.
std::optional<json::object> read_document(
    std::string_view text, ManifestErrors& errors, ManifestLines& lines
) {
    const auto documents = read_yaml(std::string(text), errors);
    if (errors.count() > 0) return std::nullopt;
    if (documents.size() != 1 || !documents.front().IsMap()) {
        errors.add(0, "", "must be one document, a mapping");
        return std::nullopt;
    }
    const ManifestField field(errors, documents.front(), "", 1);
    const auto written = to_json(field, lines);
    if (!written) return std::nullopt;
    boost::system::error_code error;
    json::value value = json::parse(*written, error);
    if (error || !value.is_object()) {
        errors.add(0, "", "is no JSON document: " + error.message());
        return std::nullopt;
    }
    return std::move(value.get_object());
}

}  // namespace

Result<RouteDescriptions> read_route_descriptions(std::string_view text) {
    RouteDescriptions out;
    if (text.empty()) return out;
    if (text.size() > kRouteTextBytesMax) return Error{Errc::invalid, "it is longer than 1 MiB"};
    ManifestErrors errors{{}};
    ManifestLines lines;
    auto document = read_document(text, errors, lines);
    if (document) Check(lines, errors).document(*document);
    if (errors.count() > 0) return Error{Errc::invalid, text_of(errors.take())};
    const auto object = [&](std::string_view name) {
        json::value* value = document->if_contains(name);
        return value != nullptr ? std::move(value->get_object()) : json::object();
    };
    out.operations = object("operations");
    out.components = object("components");
    out.errors = object("errors");
    if (json::value* tags = document->if_contains("tags")) out.tags = std::move(tags->get_array());
    return out;
}

std::string_view route_text(const annal_component& component) {
    if (!ANNAL_HAS(&component, annal_component, openapi)) return {};
    return {component.openapi, strnlen(component.openapi, kRouteTextBytesMax + 1)};
}

}  // namespace annal
