#include "runtime/plugin/schema_walk.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <regex>

#include "runtime/plugin/manifest_words.h"

namespace annal {
namespace {

namespace json = boost::json;

constexpr std::size_t kPropertyNameBytesMax = 1024;

constexpr std::array<std::string_view, 7> kTypes = {
    "null", "boolean", "integer", "number", "string", "array", "object"};
constexpr std::array<std::string_view, 8> kOneSchema = {
    "additionalItems",
    "additionalProperties",
    "contains",
    "else",
    "if",
    "not",
    "propertyNames",
    "then"};
constexpr std::array<std::string_view, 3> kSchemaLists = {"allOf", "anyOf", "oneOf"};
constexpr std::array<std::string_view, 3> kSchemaMaps = {
    "definitions", "patternProperties", "properties"};

bool is_schema(const json::value& value) {
    return value.is_object() || value.is_bool();
}

std::optional<std::string> pattern_defect(std::string_view pattern) {
    try {
        const std::regex regex(pattern.begin(), pattern.end());
        return std::nullopt;
    } catch (const std::regex_error& e) {
        return "the pattern " + in_quotes(pattern) + " is no regular expression: " + e.what();
    }
}

std::optional<std::string> type_defect(const json::value& type) {
    if (type.is_array()) {
        for (const auto& one : type.get_array()) {
            if (auto defect = one.is_string() ? type_defect(one) : "type must hold names of types")
                return defect;
        }
        return std::nullopt;
    }
    if (!type.is_string()) return "type must be a name of a type or an array of them";
    const std::string_view word = type.get_string();
    if (std::find(kTypes.begin(), kTypes.end(), word) != kTypes.end()) return std::nullopt;
    return "unknown type " + in_quotes(word) + did_you_mean(word, kTypes) + "; types are " +
           either(kTypes);
}

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view text) {
    if (text.size() > kPropertyNameBytesMax) return false;
    try {
        const std::regex regex(pattern.begin(), pattern.end());
        return std::regex_search(text.begin(), text.end(), regex);
    } catch (const std::regex_error&) {
        return false;
    }
}

const json::value* SchemaWalk::resolve(std::string_view reference) const {
    if (!reference.starts_with('#')) return nullptr;
    boost::system::error_code error;
    // A pointer in a URI fragment; percent escapes in names of definitions are not worth a decoder.
    return root_.find_pointer(reference.substr(1), error);
}

void SchemaWalk::expand_into(const json::value& schema, bool branches, int depth, Schemas& out)
    const {
    if (!schema.is_object() || depth > kSchemaDepthMax) return;
    const auto& object = schema.get_object();
    if (std::find(out.begin(), out.end(), &object) != out.end()) return;
    // Draft 7: what stands beside a $ref is not looked at.
    if (const auto* reference = object.if_contains("$ref"); reference && reference->is_string()) {
        const auto* target = resolve(reference->get_string());
        if (target) expand_into(*target, branches, depth + 1, out);
        return;
    }
    out.push_back(&object);
    for (const auto word : kSchemaLists) {
        const auto* list = object.if_contains(word);
        if (!list || !list->is_array() || (!branches && word != "allOf")) continue;
        for (const auto& one : list->get_array()) expand_into(one, branches, depth + 1, out);
    }
    if (!branches) return;
    for (const auto* word : {"not", "if", "then", "else"}) {
        if (const auto* one = object.if_contains(word)) expand_into(*one, branches, depth + 1, out);
    }
}

bool SchemaWalk::loops(const json::value& schema, Schemas& path) const {
    if (!schema.is_object()) return false;
    const auto& object = schema.get_object();
    if (std::find(path.begin(), path.end(), &object) != path.end() || path.size() > kSchemaDepthMax)
        return true;
    path.push_back(&object);
    bool out = false;
    if (const auto* reference = object.if_contains("$ref"); reference && reference->is_string()) {
        const auto* target = resolve(reference->get_string());
        out = target && loops(*target, path);
    } else {
        for (const auto word : kSchemaLists) {
            const auto* list = object.if_contains(word);
            if (!list || !list->is_array()) continue;
            for (const auto& one : list->get_array()) out = out || loops(one, path);
        }
        for (const auto* word : {"not", "if", "then", "else"}) {
            const auto* one = object.if_contains(word);
            out = out || (one && loops(*one, path));
        }
    }
    path.pop_back();
    return out;
}

SchemaWalk::Schemas SchemaWalk::expand(const json::value& schema, bool branches) const {
    Schemas out;
    expand_into(schema, branches, 0, out);
    return out;
}

SchemaWalk::Schemas SchemaWalk::member(const Schemas& schemas, std::string_view key, bool branches)
    const {
    Schemas out;
    for (const auto* schema : schemas) {
        bool matched = false;
        if (const auto* properties = schema->if_contains("properties");
            properties && properties->is_object()) {
            if (const auto* property = properties->get_object().if_contains(key)) {
                expand_into(*property, branches, 0, out);
                matched = true;
            }
        }
        if (const auto* patterns = schema->if_contains("patternProperties");
            patterns && patterns->is_object()) {
            for (const auto& [pattern, property] : patterns->get_object()) {
                if (!matches_pattern(pattern, key)) continue;
                expand_into(property, branches, 0, out);
                matched = true;
            }
        }
        const auto* rest = schema->if_contains("additionalProperties");
        if (rest && !matched) expand_into(*rest, branches, 0, out);
    }
    return out;
}

SchemaWalk::Schemas SchemaWalk::element(const Schemas& schemas, std::size_t index, bool branches)
    const {
    Schemas out;
    for (const auto* schema : schemas) {
        const auto* items = schema->if_contains("items");
        if (!items) continue;
        if (!items->is_array()) {
            expand_into(*items, branches, 0, out);
        } else if (index < items->get_array().size()) {
            expand_into(items->get_array()[index], branches, 0, out);
        } else if (const auto* rest = schema->if_contains("additionalItems")) {
            expand_into(*rest, branches, 0, out);
        }
    }
    return out;
}

SchemaWalk::Schemas SchemaWalk::at(const std::vector<std::string>& steps, bool branches) const {
    auto schemas = expand(root_, branches);
    for (const auto& step : steps) {
        auto next = member(schemas, step, branches);
        const bool index = !step.empty() && step.size() < 10 &&
                           step.find_first_not_of("0123456789") == std::string::npos;
        if (index) {
            for (const auto* schema : element(schemas, std::stoul(step), branches))
                next.push_back(schema);
        }
        schemas = std::move(next);
    }
    return schemas;
}

std::optional<std::string> SchemaWalk::defect_of_keywords(
    const json::object& schema, const std::string& pointer
) const {
    if (const auto* type = schema.if_contains("type")) {
        if (auto defect = type_defect(*type)) return pointer + "/type: " + *defect;
    }
    if (const auto* pattern = schema.if_contains("pattern")) {
        auto defect =
            pattern->is_string() ? pattern_defect(pattern->get_string()) : "must be a string";
        if (defect) return pointer + "/pattern: " + *defect;
    }
    if (const auto* patterns = schema.if_contains("patternProperties");
        patterns && patterns->is_object()) {
        for (const auto& [pattern, property] : patterns->get_object()) {
            if (auto defect = pattern_defect(pattern))
                return pointer + "/patternProperties: " + *defect;
        }
    }
    return std::nullopt;
}

std::optional<std::string> SchemaWalk::defect_of(
    const json::value& schema, const std::string& pointer, int depth
) const {
    if (depth > kSchemaDepthMax)
        return pointer + ": is nested more than " + std::to_string(kSchemaDepthMax) +
               " levels deep";
    if (!is_schema(schema)) return pointer + ": a schema must be an object or a boolean";
    if (schema.is_bool()) return std::nullopt;
    const auto& object = schema.get_object();
    if (const auto* reference = object.if_contains("$ref")) {
        const auto* target = reference->is_string() ? resolve(reference->get_string()) : nullptr;
        if (!target || !is_schema(*target)) {
            return pointer +
                   "/$ref: must lead to a schema within this document, as in "
                   "\"#/definitions/name\"";
        }
    }
    if (Schemas path; loops(schema, path)) return pointer + ": refers back to itself without end";
    if (auto defect = defect_of_keywords(object, pointer)) return defect;
    for (const auto word : kOneSchema) {
        const auto* one = object.if_contains(word);
        if (!one) continue;
        if (auto defect = defect_of(*one, pointer_to(pointer, word), depth + 1)) return defect;
    }
    for (const auto word : kSchemaLists) {
        const auto* list = object.if_contains(word);
        if (!list) continue;
        const auto below = pointer_to(pointer, word);
        if (!list->is_array() || list->get_array().empty())
            return below + ": must be an array of schemas";
        for (std::size_t i = 0; i < list->get_array().size(); ++i) {
            if (auto defect =
                    defect_of(list->get_array()[i], below + "/" + std::to_string(i), depth + 1))
                return defect;
        }
    }
    for (const auto word : kSchemaMaps) {
        const auto* map = object.if_contains(word);
        if (!map) continue;
        const auto below = pointer_to(pointer, word);
        if (!map->is_object()) return below + ": must be an object of schemas";
        for (const auto& [key, one] : map->get_object()) {
            if (auto defect = defect_of(one, pointer_to(below, key), depth + 1)) return defect;
        }
    }
    const auto* items = object.if_contains("items");
    if (!items) return std::nullopt;
    const auto below = pointer_to(pointer, "items");
    if (!items->is_array()) return defect_of(*items, below, depth + 1);
    for (std::size_t i = 0; i < items->get_array().size(); ++i) {
        if (auto defect =
                defect_of(items->get_array()[i], below + "/" + std::to_string(i), depth + 1))
            return defect;
    }
    return std::nullopt;
}

std::optional<std::string> SchemaWalk::defect() const {
    auto out = defect_of(root_, "", 0);
    if (out && out->starts_with(':')) return "the document" + *out;
    return out;
}

}  // namespace annal
