#include "runtime/event/catalog.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <optional>

#include "runtime/core/fatal.h"
#include "runtime/core/json_text.h"
#include "runtime/core/limits.h"
#include "runtime/core/time_text.h"
#include "runtime/event/action.h"
#include "runtime/event/json_scanner.h"

namespace annal {

extern const std::string_view kCatalogYaml;  // generated from catalog/catalog.yaml

namespace {

using Type = CatalogField::Type;
using Kind = JsonScanner::Kind;

struct TypeName {
    std::string_view yaml;
    Type type;
    std::string_view people;
};

constexpr std::array<TypeName, 6> kTypes = {{
    {"string", Type::string, "a string"},
    {"integer", Type::integer, "an integer"},
    {"boolean", Type::boolean, "a boolean"},
    {"object", Type::object, "an object"},
    {"timestamp", Type::timestamp, "a string with an ISO 8601 time"},
    {"string[]", Type::string_list, "an array of strings"},
}};

std::string_view name_for_people(Type type) {
    return std::find_if(
               kTypes.begin(), kTypes.end(), [&](const TypeName& t) { return t.type == type; }
    )->people;
}

/// yaml-cpp throws; `Catalog::parse` is where that ends.
[[noreturn]] void refuse(const YAML::Node& node, const std::string& what) {
    throw YAML::RepresentationException(node.Mark(), what);
}

std::string text_of(const YAML::Node& parent, const char* key) {
    const YAML::Node node = parent[key];
    if (!node || !node.IsScalar()) {
        refuse(parent, std::string("needs the text `") + key + "`");
    }
    return node.Scalar();
}

CatalogField read_field(const std::string& name, const YAML::Node& node) {
    const std::string type = text_of(node, "type");
    const auto known = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeName& t) {
        return t.yaml == type;
    });
    if (known == kTypes.end()) {
        refuse(node, "unknown type " + quote_bounded(type));
    }
    return {name, known->type, static_cast<bool>(node["example"])};
}

CatalogEntry read_entry(const YAML::Node& node) {
    CatalogEntry entry;
    entry.action = text_of(node, "action");
    if (!is_action(entry.action)) {
        refuse(node, quote_bounded(entry.action) + " is not an action");
    }
    entry.category = text_of(node, "category");
    entry.description = text_of(node, "description");
    entry.severity = text_of(node, "severity");
    const bool sample = text_of(node, "basis") == "sample";
    for (const auto& member : node["metadata"]) {
        CatalogField field = read_field(member.first.Scalar(), member.second);
        field.shown = field.shown && sample;
        entry.fields.push_back(std::move(field));
    }
    return entry;
}

/// Compares the values of one metadata object with the fields that a sample shows.
class StrictCheck final : private JsonProblems {
public:
    explicit StrictCheck(const CatalogEntry& entry) : entry_(entry) {}

    std::vector<Issue> run(std::string_view metadata) {
        Arena arena;
        JsonScanner scanner(metadata, arena, *this);
        const auto on_member = [&](std::string_view key, std::size_t) {
            return member(scanner, key);
        };
        // What is not an object was refused before; there is nothing to compare then.
        if (scanner.peek() == Kind::object && !scanner.object(on_member)) {
            return {};
        }
        return std::move(issues_);
    }

private:
    void problem(std::string_view, std::size_t, std::string) override {}

    bool member(JsonScanner& scanner, std::string_view key) {
        const auto field =
            std::find_if(entry_.fields.begin(), entry_.fields.end(), [&](const CatalogField& f) {
                return f.shown && f.name == key;
            });
        if (field == entry_.fields.end() || scanner.peek() == Kind::null) {
            return scanner.skip(kMetadataDepthMax);
        }
        bool fits = false;
        if (!value(scanner, field->type, fits)) {
            return false;
        }
        if (!fits && issues_.size() < kIssuesPerEventMax) {
            Issue issue;
            issue.pointer = "/metadata" + scanner.pointer();
            issue.code = "wrong_type";
            issue.detail = "must be " + std::string(name_for_people(field->type)) + " in " +
                           entry_.action + ", as the catalog says";
            issues_.push_back(std::move(issue));
        }
        return true;
    }

    /// Consumes a value. False: not JSON.
    static bool value(JsonScanner& scanner, Type type, bool& fits) {
        const Kind kind = scanner.peek();
        switch (type) {
            case Type::string:
                fits = kind == Kind::string;
                break;
            case Type::boolean:
                fits = kind == Kind::boolean;
                break;
            case Type::object:
                fits = kind == Kind::object;
                break;
            case Type::integer:
                return integer(scanner, kind, fits);
            case Type::timestamp:
                return timestamp(scanner, kind, fits);
            case Type::string_list:
                return string_list(scanner, kind, fits);
        }
        return scanner.skip(kMetadataDepthMax);
    }

    static bool integer(JsonScanner& scanner, Kind kind, bool& fits) {
        const std::size_t begin = scanner.offset();
        if (!scanner.skip(kMetadataDepthMax)) {
            return false;
        }
        const auto text = scanner.between(begin, scanner.offset());
        fits = kind == Kind::number && text.find_first_of(".eE") == std::string_view::npos;
        return true;
    }

    static bool timestamp(JsonScanner& scanner, Kind kind, bool& fits) {
        if (kind != Kind::string) {
            return scanner.skip(kMetadataDepthMax);
        }
        JsonScanner::String raw;
        if (!scanner.string(raw)) {
            return false;
        }
        fits = parse_time(scanner.text(raw)).has_value();
        return true;
    }

    static bool string_list(JsonScanner& scanner, Kind kind, bool& fits) {
        if (kind != Kind::array) {
            return scanner.skip(kMetadataDepthMax);
        }
        fits = true;
        return scanner.array([&](std::uint32_t) {
            fits = scanner.peek() == Kind::string && fits;
            return scanner.skip(kMetadataDepthMax);
        });
    }

    const CatalogEntry& entry_;
    std::vector<Issue> issues_;
};

}  // namespace

const Catalog& Catalog::shipped() {
    static const Catalog* const catalog = [] {
        auto parsed = parse(std::string(kCatalogYaml));
        if (!parsed) {
            fatal("catalog.malformed", parsed.error().detail);
        }
        return new Catalog(std::move(parsed).value());
    }();
    return *catalog;
}

Result<Catalog> Catalog::parse(const std::string& yaml) try {
    const YAML::Node root = YAML::Load(yaml);
    const YAML::Node events = root["events"];
    if (!events || !events.IsSequence()) {
        refuse(root, "needs a list `events`");
    }
    Catalog catalog;
    for (const auto& node : events) {
        CatalogEntry entry = read_entry(node);
        std::string action = entry.action;
        if (!catalog.entries_.emplace(std::move(action), std::move(entry)).second) {
            refuse(node, "an action that is listed twice");
        }
    }
    return catalog;
} catch (const YAML::Exception& error) {
    return Error{
        Errc::invalid,
        "the catalog is malformed at line " + std::to_string(error.mark.line + 1) + ": " +
            error.msg};
}

const CatalogEntry* Catalog::find(std::string_view action) const {
    const auto found = entries_.find(action);
    return found == entries_.end() ? nullptr : &found->second;
}

std::vector<Issue> Catalog::strict_check(const EventDraft& draft) const {
    const CatalogEntry* const entry = find(draft[Column::action].view());
    if (entry != nullptr) {
        return StrictCheck(*entry).run(draft[Column::metadata].view());
    }
    Issue issue;
    issue.pointer = "/action";
    issue.code = "unknown_action";
    issue.detail = quote_bounded(draft[Column::action].view()) +
                   " is not in the catalog, and this project takes known actions only";
    return {std::move(issue)};
}

}  // namespace annal
