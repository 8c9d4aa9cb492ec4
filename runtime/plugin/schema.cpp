#include "runtime/plugin/schema.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>

// Without it valijson ends the process where it could throw.
#define VALIJSON_USE_EXCEPTIONS 1
#include <valijson/adapters/boost_json_adapter.hpp>
#include <valijson/schema.hpp>
#include <valijson/schema_parser.hpp>
#include <valijson/validation_results.hpp>
#include <valijson/validator.hpp>

#include "runtime/plugin/manifest_words.h"
#include "runtime/plugin/schema_walk.h"

namespace annal {

namespace json = boost::json;

struct ConfigSchema::State {
    json::value document;
    valijson::Schema schema;
};

namespace {

using Steps = std::vector<std::string>;

constexpr std::size_t kSchemaBytesMax = 1U << 20;
constexpr int kDefaultsDepthMax = 32;
/// std::regex recurses once or more per byte: what is longer would end the process instead of the
/// call.
constexpr std::size_t kPatternTextMax = 2048;

/// "<root>", "[name]", "[0]" to the steps below the root.
Steps steps_of(const std::vector<std::string>& context) {
    Steps out;
    for (const auto& part : context) {
        if (part.size() >= 2 && part.front() == '[' && part.back() == ']') {
            out.push_back(part.substr(1, part.size() - 2));
        }
    }
    return out;
}

std::string pointer_of(const Steps& steps) {
    std::string out;
    for (const auto& step : steps) out = pointer_to(out, step);
    return out;
}

const json::value* value_at(const json::value& root, const Steps& steps) {
    boost::system::error_code error;
    return root.find_pointer(pointer_of(steps), error);
}

std::string_view type_of(const json::value& value) {
    switch (value.kind()) {
        case json::kind::null:
            return "null";
        case json::kind::bool_:
            return "a boolean";
        case json::kind::int64:
        case json::kind::uint64:
            return "an integer";
        case json::kind::double_:
            return "a number";
        case json::kind::string:
            return "a string";
        case json::kind::array:
            return "a sequence";
        case json::kind::object:
            return "a mapping";
    }
    return "something else";
}

std::string words_of(const json::value& list) {
    std::vector<std::string> texts;
    if (!list.is_array()) return json::serialize(list);
    for (const auto& one : list.get_array()) texts.push_back(json::serialize(one));
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    return either(views);
}

const json::value* keyword(const SchemaWalk::Schemas& schemas, std::string_view word) {
    for (const auto* schema : schemas) {
        if (const auto* value = schema->if_contains(word)) return value;
    }
    return nullptr;
}

std::string type_words(const json::value& type) {
    if (type.is_string()) return std::string(type.get_string());
    std::vector<std::string_view> views;
    for (const auto& one : type.get_array()) views.emplace_back(one.get_string());
    return either(views);
}

/// valijson's sentence, made to say what the schema wants. It tells the keyword only through its
/// wording.
std::string improved(
    std::string description, const SchemaWalk::Schemas& schemas, const json::value* value
) {
    const auto begins = [&](std::string_view text) { return description.starts_with(text); };
    if (begins("Value type not permitted")) {
        const auto* type = keyword(schemas, "type");
        if (type && value)
            return "expected " + type_words(*type) + ", found " + std::string(type_of(*value));
    } else if (begins("Failed to match against any enum")) {
        if (const auto* words = keyword(schemas, "enum")) return "must be " + words_of(*words);
    } else if (begins("Failed to match expected value set by 'const'")) {
        if (const auto* constant = keyword(schemas, "const"))
            return "must be " + json::serialize(*constant);
    } else if (begins("Failed to match regex")) {
        const auto* pattern = keyword(schemas, "pattern");
        if (pattern && pattern->is_string())
            return "must match " + std::string(pattern->get_string());
    }
    if (!description.empty() && description.back() == '.') description.pop_back();
    if (!description.empty() && description[0] >= 'A' && description[0] <= 'Z') {
        description[0] = static_cast<char>(description[0] - 'A' + 'a');
    }
    return description;
}

/// Says only that something below failed, which has its own error.
bool is_wrapper(std::string_view description) {
    constexpr std::array<std::string_view, 5> kWrappers = {
        "Failed to validate against schema associated",
        "Failed to validate item #",
        "Failed to validate against additional properties",
        "Failed to validate against child schema",
        "Failed to validate against dependent schema"};
    return std::any_of(kWrappers.begin(), kWrappers.end(), [&](std::string_view w) {
        return description.starts_with(w);
    });
}

constexpr std::string_view kUnknownKey = "Object contains a property that could not be validated";
constexpr std::string_view kMissingKey = "Missing required property '";

class Report {
public:
    Report(const SchemaWalk& walk, const json::value& value) : walk_(walk), value_(value) {}

    void add(const valijson::ValidationResults::Error& error) {
        const auto steps = steps_of(error.context);
        const auto schemas = walk_.at(steps, true);
        const auto* value = value_at(value_, steps);
        if (is_wrapper(error.description)) {
            wrappers_.emplace_back(pointer_of(steps), improved(error.description, schemas, value));
        } else if (error.description.starts_with(kUnknownKey) && value && value->is_object()) {
            add_unknown_keys(pointer_of(steps), schemas, value->get_object());
        } else if (error.description.starts_with(kMissingKey)) {
            const auto end = error.description.rfind('\'');
            add(pointer_to(
                    pointer_of(steps),
                    error.description.substr(kMissingKey.size(), end - kMissingKey.size())
                ),
                "missing");
        } else {
            add(pointer_of(steps), improved(error.description, schemas, value));
        }
    }

    ConfigSchema::Errors take() {
        if (errors_.empty()) errors_ = std::move(wrappers_);
        if (errors_.empty()) errors_.emplace_back("", "is not allowed by the component's schema");
        return std::move(errors_);
    }

private:
    void add(std::string pointer, std::string message) {
        std::pair entry(std::move(pointer), std::move(message));
        if (std::find(errors_.begin(), errors_.end(), entry) == errors_.end())
            errors_.push_back(std::move(entry));
    }

    void add_unknown_keys(
        const std::string& pointer, const SchemaWalk::Schemas& schemas, const json::object& object
    ) {
        std::vector<std::string_view> known;
        for (const auto* schema : schemas) {
            const auto* properties = schema->if_contains("properties");
            if (!properties || !properties->is_object()) continue;
            for (const auto& [key, unused] : properties->get_object()) {
                if (std::find(known.begin(), known.end(), key) == known.end()) known.push_back(key);
            }
        }
        for (const auto& [key, unused] : object) {
            const bool fits =
                std::find(known.begin(), known.end(), std::string_view(key)) != known.end() ||
                !walk_.member(schemas, key, true).empty();
            if (fits) continue;
            std::string message = "unknown setting " + in_quotes(key) + did_you_mean(key, known);
            message += known.empty() ? "; there are no settings here"
                                     : "; the settings here are " + either(known);
            add(pointer_to(pointer, key), std::move(message));
        }
    }

    const SchemaWalk& walk_;
    const json::value& value_;
    ConfigSchema::Errors errors_, wrappers_;
};

/// Takes `format` out, which draft 7 makes a mere annotation and at which valijson 1.0 throws for
/// anything but strings.
void strip_format(json::value& value, bool is_map) {
    if (value.is_array()) {
        for (auto& element : value.get_array()) strip_format(element, false);
    }
    if (!value.is_object()) return;
    auto& object = value.get_object();
    if (!is_map) object.erase("format");
    for (auto& [key, member] : object) {
        const std::string_view word = key;
        const bool data =
            word == "default" || word == "enum" || word == "const" || word == "examples";
        const bool map = word == "properties" || word == "patternProperties" ||
                         word == "definitions" || word == "dependencies";
        if (is_map || !data) strip_format(member, !is_map && map);
    }
}

/// Values that would end the process inside std::regex.
void find_unfit(
    const json::value& value,
    const SchemaWalk& walk,
    const SchemaWalk::Schemas& schemas,
    const std::string& pointer,
    ConfigSchema::Errors& out
) {
    if (value.is_string()) {
        if (value.get_string().size() > kPatternTextMax && keyword(schemas, "pattern")) {
            out.emplace_back(
                pointer, "is longer than " + std::to_string(kPatternTextMax) + " bytes"
            );
        }
    } else if (value.is_array()) {
        for (std::size_t i = 0; i < value.get_array().size(); ++i) {
            find_unfit(
                value.get_array()[i],
                walk,
                walk.element(schemas, i, true),
                pointer_to(pointer, std::to_string(i)),
                out
            );
        }
    } else if (value.is_object()) {
        for (const auto& [key, member] : value.get_object()) {
            find_unfit(
                member, walk, walk.member(schemas, key, true), pointer_to(pointer, key), out
            );
        }
    }
}

void fill(
    json::value& value, const SchemaWalk& walk, const SchemaWalk::Schemas& schemas, int depth
) {
    if (depth > kDefaultsDepthMax) return;
    if (value.is_array()) {
        auto& array = value.get_array();
        for (std::size_t i = 0; i < array.size(); ++i)
            fill(array[i], walk, walk.element(schemas, i, false), depth + 1);
        return;
    }
    if (!value.is_object()) return;
    auto& object = value.get_object();
    for (const auto* schema : schemas) {
        const auto* properties = schema->if_contains("properties");
        if (!properties || !properties->is_object()) continue;
        for (const auto& [key, property] : properties->get_object()) {
            if (object.contains(key)) continue;
            if (const auto* fallback = keyword(walk.expand(property, false), "default"))
                object.emplace(key, *fallback);
        }
    }
    for (auto& [key, member] : object)
        fill(member, walk, walk.member(schemas, key, false), depth + 1);
}

}  // namespace

ConfigSchema::ConfigSchema(std::unique_ptr<State> state) : state_(std::move(state)) {}
ConfigSchema::~ConfigSchema() = default;
ConfigSchema::ConfigSchema(ConfigSchema&&) noexcept = default;
ConfigSchema& ConfigSchema::operator=(ConfigSchema&&) noexcept = default;

Result<ConfigSchema> ConfigSchema::parse(std::string_view text) {
    if (text.size() > kSchemaBytesMax) return Error{Errc::invalid, "is larger than 1 MiB"};
    boost::system::error_code error;
    auto state = std::make_unique<State>();
    state->document = json::parse(text, error);
    if (error) return Error{Errc::invalid, "is no JSON: " + error.message()};
    if (!state->document.is_object()) return Error{Errc::invalid, "must be a JSON object"};
    strip_format(state->document, false);
    if (const auto defect = SchemaWalk(state->document).defect())
        return Error{Errc::invalid, *defect};
    try {
        valijson::SchemaParser parser(valijson::SchemaParser::kDraft7);
        parser.populateSchema(valijson::adapters::BoostJsonAdapter(state->document), state->schema);
    } catch (const std::exception& e) {
        return Error{Errc::invalid, e.what()};
    }
    return ConfigSchema(std::move(state));
}

ConfigSchema::Errors ConfigSchema::validate(const json::value& value) const {
    const SchemaWalk walk(state_->document);
    Errors unfit;
    find_unfit(value, walk, walk.expand(state_->document, true), "", unfit);
    if (!unfit.empty()) return unfit;
    valijson::ValidationResults results;
    try {
        valijson::Validator validator(valijson::Validator::kStrongTypes);
        if (validator.validate(
                state_->schema, valijson::adapters::BoostJsonAdapter(value), &results
            ))
            return {};
    } catch (const std::exception&) {
        // Its text might quote a value, and values may be secrets.
        if (results.numErrors() == 0)
            return {{"", "could not be checked against the component's schema"}};
    }
    Report report(walk, value);
    for (const auto& one : results) report.add(one);
    return report.take();
}

void ConfigSchema::apply_defaults(json::value& value) const {
    const SchemaWalk walk(state_->document);
    fill(value, walk, walk.expand(state_->document, false), 0);
}

}  // namespace annal
