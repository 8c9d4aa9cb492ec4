#include "runtime/plugin/manifest_node.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <charconv>
#include <cmath>
#include <set>

#include "runtime/core/json_text.h"
#include "runtime/plugin/manifest_words.h"

namespace annal {
namespace {

// Lines beyond these are those of the mapping around.
constexpr std::size_t kLinesMax = 10'000;
constexpr std::size_t kLinePointerMax = 512;
constexpr std::string_view kTagPrefix = "tag:yaml.org,2002:";

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> words) {
    return std::find(words.begin(), words.end(), text) != words.end();
}

std::string_view without_sign(std::string_view text) {
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) text.remove_prefix(1);
    return text;
}

bool is_digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

bool is_based(std::string_view text, std::string_view prefix, std::string_view digits) {
    return text.size() > 2 && text.starts_with(prefix) &&
           text.substr(2).find_first_not_of(digits) == std::string_view::npos;
}

bool is_integer(std::string_view text) {
    return is_digits(without_sign(text)) || is_based(text, "0o", "01234567") ||
           is_based(text, "0x", "0123456789abcdefABCDEF");
}

bool is_special_number(std::string_view text) {
    return is_one_of(without_sign(text), {".inf", ".Inf", ".INF"}) ||
           is_one_of(text, {".nan", ".NaN", ".NAN"});
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
bool is_number(std::string_view text) {
    text = without_sign(text);
    const auto exponent = text.find_first_of("eE");
    if (exponent != std::string_view::npos) {
        if (!is_digits(without_sign(text.substr(exponent + 1)))) return false;
        text = text.substr(0, exponent);
    }
    const auto dot = text.find('.');
    if (dot == std::string_view::npos) return is_digits(text);
    const auto whole = text.substr(0, dot), fraction = text.substr(dot + 1);
    if (whole.empty()) return is_digits(fraction);
    return is_digits(whole) && (fraction.empty() || is_digits(fraction));
}

YamlType plain_type(std::string_view text) {
    if (is_one_of(text, {"", "~", "null", "Null", "NULL"})) return YamlType::null;
    if (is_one_of(text, {"true", "True", "TRUE", "false", "False", "FALSE"}))
        return YamlType::boolean;
    if (is_integer(text)) return YamlType::integer;
    if (is_number(text) || is_special_number(text)) return YamlType::number;
    return YamlType::text;
}

YamlType scalar_type(const YAML::Node& node) {
    const std::string& tag = node.Tag();
    if (tag.empty() || tag == "?") return plain_type(node.Scalar());
    if (tag == "!") return YamlType::text;
    if (!tag.starts_with(kTagPrefix)) return YamlType::unknown_tag;
    const auto name = std::string_view(tag).substr(kTagPrefix.size());
    if (name == "str") return YamlType::text;
    const auto type = plain_type(node.Scalar());
    const bool fits =
        (name == "int" && type == YamlType::integer) ||
        (name == "float" && (type == YamlType::number || type == YamlType::integer)) ||
        (name == "bool" && type == YamlType::boolean) || (name == "null" && type == YamlType::null);
    return fits ? type : YamlType::unknown_tag;
}

/// The value of what `is_integer` accepts; nothing beyond 64 bits.
std::optional<std::int64_t> integer_value(std::string_view text) {
    int base = 10;
    if (text.starts_with("0o")) base = 8;
    if (text.starts_with("0x")) base = 16;
    if (base != 10) text.remove_prefix(2);
    if (text.starts_with('+')) text.remove_prefix(1);
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// The number as JSON writes it: nothing when it is infinite, no number, or beyond a double.
std::optional<std::string> number_text(std::string_view text) {
    if (is_special_number(text)) return std::nullopt;
    if (text.starts_with('+')) text.remove_prefix(1);
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
        return std::nullopt;
    }
    return boost::json::serialize(boost::json::value(value));
}

/// Writes a node as JSON while it checks it.
class JsonWriter {
public:
    JsonWriter(ManifestErrors& errors, ManifestLines& lines) : errors_(errors), lines_(lines) {}

    void write(const YAML::Node& node, const std::string& pointer, int line, int depth) {
        line = line_of(node, line);
        if (stopped_) return;
        if (depth > kManifestDepthMax) {
            return stop(
                line,
                pointer,
                "is nested more than " + std::to_string(kManifestDepthMax) + " levels deep"
            );
        }
        if (++nodes_ > kManifestNodesMax || out_.size() > kManifestBytesMax) {
            return stop(
                line,
                pointer,
                "is too big once its aliases are expanded: at most " +
                    std::to_string(kManifestNodesMax) + " values and 1 MiB"
            );
        }
        if (lines_.size() < kLinesMax && pointer.size() <= kLinePointerMax)
            lines_.emplace(pointer, line);
        switch (yaml_type(node)) {
            case YamlType::null:
                out_ += "null";
                break;
            case YamlType::boolean:
                out_ += (node.Scalar()[0] | 0x20) == 't' ? "true" : "false";
                break;
            case YamlType::integer:
                write_integer(node.Scalar(), pointer, line);
                break;
            case YamlType::number:
                write_number(node.Scalar(), pointer, line);
                break;
            case YamlType::text:
                write_text(node.Scalar(), pointer, line);
                break;
            case YamlType::sequence:
                write_sequence(node, pointer, line, depth);
                break;
            case YamlType::mapping:
                write_mapping(node, pointer, line, depth);
                break;
            case YamlType::unknown_tag:
                errors_.add(
                    line,
                    pointer,
                    "has the tag " + in_quotes(node.Tag()) +
                        ", which does not fit it: remove the tag"
                );
        }
    }
    [[nodiscard]] std::string take() { return std::move(out_); }

private:
    void stop(int line, const std::string& pointer, std::string message) {
        errors_.add(line, pointer, std::move(message));
        stopped_ = true;
    }

    void write_integer(const std::string& text, const std::string& pointer, int line) {
        if (const auto value = integer_value(text)) {
            append_int(out_, *value);
        } else {
            errors_.add(
                line, pointer, "is an integer beyond 64 bits: quote it if it is meant as text"
            );
        }
    }

    void write_number(const std::string& text, const std::string& pointer, int line) {
        if (const auto number = number_text(text)) {
            out_ += *number;
        } else {
            errors_.add(
                line, pointer, "is a number that JSON can't hold: quote it if it is meant as text"
            );
        }
    }

    void write_text(const std::string& text, const std::string& pointer, int line) {
        if (text.find('\0') != std::string::npos || !is_utf8(text)) {
            errors_.add(line, pointer, "holds U+0000 or malformed UTF-8, which text here may not");
        }
        append_json_string(out_, text);
    }

    void write_sequence(const YAML::Node& node, const std::string& pointer, int line, int depth) {
        out_ += '[';
        std::size_t index = 0;
        for (const auto& element : node) {
            if (index > 0) out_ += ',';
            write(element, pointer_to(pointer, std::to_string(index++)), line, depth + 1);
            if (stopped_) return;
        }
        out_ += ']';
    }

    void write_mapping(const YAML::Node& node, const std::string& pointer, int line, int depth) {
        out_ += '{';
        std::set<std::string> seen;
        for (const auto& entry : node) {
            const int key_line = line_of(entry.first, line);
            if (!entry.first.IsScalar()) {
                errors_.add(key_line, pointer, "has a key that is no text");
                continue;
            }
            const std::string& key = entry.first.Scalar();
            const auto below = pointer_to(pointer, key);
            if (key == "<<" && entry.first.Tag() != "!") {
                errors_.add(
                    key_line, below, "merge keys are not part of YAML 1.2: write the keys out"
                );
                continue;
            }
            if (!seen.insert(key).second) {
                errors_.add(key_line, below, "is given twice in this mapping");
                continue;
            }
            if (seen.size() > 1) out_ += ',';
            write_text(key, below, key_line);
            out_ += ':';
            write(entry.second, below, key_line, depth + 1);
            if (stopped_) return;
        }
        out_ += '}';
    }

    ManifestErrors& errors_;
    ManifestLines& lines_;
    std::string out_;
    std::size_t nodes_ = 0;
    bool stopped_ = false;
};

}  // namespace

void ManifestErrors::add(int line, std::string pointer, std::string message) {
    if (++count_ <= kManifestErrorsMax) {
        errors_.push_back({file_, line, std::move(pointer), std::move(message)});
    }
}

std::vector<ManifestError> ManifestErrors::take() {
    std::stable_sort(errors_.begin(), errors_.end(), [](const auto& a, const auto& b) {
        return a.line < b.line;
    });
    if (count_ > kManifestErrorsMax) {
        const int line = errors_.back().line;
        errors_.push_back(
            {file_,
             line,
             "",
             std::to_string(count_ - kManifestErrorsMax) + " more errors are not shown"}
        );
    }
    return std::move(errors_);
}

YamlType yaml_type(const YAML::Node& node) {
    switch (node.Type()) {
        case YAML::NodeType::Sequence:
            return YamlType::sequence;
        case YAML::NodeType::Map:
            return YamlType::mapping;
        case YAML::NodeType::Scalar:
            return scalar_type(node);
        default:
            return YamlType::null;
    }
}

std::string_view describe(YamlType type) {
    constexpr std::array<std::string_view, 8> kNames = {
        "nothing",
        "a boolean",
        "an integer",
        "a number",
        "a string",
        "a sequence",
        "a mapping",
        "a tagged value"};
    return kNames[static_cast<std::size_t>(type)];
}

int line_of(const YAML::Node& node, int otherwise) {
    const auto mark = node.Mark();
    return mark.is_null() ? otherwise : mark.line + 1;
}

void ManifestField::fail_type(std::string_view expected) const {
    const auto type = yaml_type(node_);
    std::string message =
        "expected " + std::string(expected) + ", found " + std::string(describe(type));
    const bool quotable =
        type == YamlType::boolean || type == YamlType::integer || type == YamlType::number;
    if (quotable && expected.starts_with("a string")) {
        message += ": write \"" + node_.Scalar() + "\" in quotes if text is meant";
    }
    if (type == YamlType::text && expected == "true or false")
        message += " " + in_quotes(node_.Scalar());
    fail(std::move(message));
}

std::optional<std::string> ManifestField::text() const {
    if (!is(YamlType::text)) {
        fail_type("a string");
        return std::nullopt;
    }
    const std::string& value = node_.Scalar();
    if (value.find('\0') != std::string::npos || !is_utf8(value)) {
        fail("holds U+0000 or malformed UTF-8");
        return std::nullopt;
    }
    return value;
}

std::optional<bool> ManifestField::boolean() const {
    if (!is(YamlType::boolean)) {
        fail_type("true or false");
        return std::nullopt;
    }
    return (node_.Scalar()[0] | 0x20) == 't';
}

std::optional<std::uint64_t> ManifestField::integer(std::uint64_t min, std::uint64_t max) const {
    const std::string expected =
        "an integer from " + std::to_string(min) + " to " + std::to_string(max);
    if (!is(YamlType::integer)) {
        fail_type(expected);
        return std::nullopt;
    }
    const auto value = integer_value(node_.Scalar());
    if (!value || *value < 0 || static_cast<std::uint64_t>(*value) < min ||
        static_cast<std::uint64_t>(*value) > max) {
        fail("expected " + expected + ", found " + in_quotes(node_.Scalar()));
        return std::nullopt;
    }
    return static_cast<std::uint64_t>(*value);
}

std::optional<std::string> ManifestField::word(std::span<const std::string_view> words) const {
    auto value = text();
    if (value && std::find(words.begin(), words.end(), *value) == words.end()) {
        fail(
            "expected " + either(words) + ", found " + in_quotes(*value) +
            did_you_mean(*value, words)
        );
        return std::nullopt;
    }
    return value;
}

std::vector<ManifestField> ManifestField::elements(std::size_t max) const {
    std::vector<ManifestField> out;
    if (!is(YamlType::sequence)) {
        fail_type("a sequence");
        return out;
    }
    if (node_.size() > max) {
        fail(
            "has " + std::to_string(node_.size()) + " elements, at most " + std::to_string(max) +
            " are allowed"
        );
        return out;
    }
    for (const auto& element : node_) {
        out.emplace_back(
            *errors_,
            element,
            pointer_to(pointer_, std::to_string(out.size())),
            line_of(element, line_)
        );
    }
    return out;
}

ManifestMapping::ManifestMapping(const ManifestField& field, std::span<const std::string_view> keys)
    : self_(field) {
    if (!field.is(YamlType::mapping)) {
        field.fail_type("a mapping with " + either(keys));
        return;
    }
    ok_ = true;
    std::set<std::string> seen;
    for (const auto& entry : field.node()) {
        const int key_line = line_of(entry.first, field.line());
        if (!entry.first.IsScalar()) {
            field.errors().add(
                key_line,
                field.pointer(),
                "has a key that is no text; the keys here are " + either(keys)
            );
            continue;
        }
        const std::string& key = entry.first.Scalar();
        auto pointer =
            pointer_to(field.pointer(), in_quotes(key).size() > 66 ? key.substr(0, 60) : key);
        if (!seen.insert(key).second) {
            field.errors().add(key_line, std::move(pointer), "is given twice in this mapping");
            continue;
        }
        if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
            field.errors().add(
                key_line,
                std::move(pointer),
                "unknown key " + in_quotes(key) + did_you_mean(key, keys) + "; the keys here are " +
                    either(keys)
            );
            continue;
        }
        fields_.emplace_back(
            key,
            ManifestField(
                field.errors(), entry.second, std::move(pointer), line_of(entry.second, key_line)
            )
        );
    }
}

std::optional<ManifestField> ManifestMapping::find(std::string_view key) const {
    for (const auto& [name, field] : fields_) {
        if (name == key) return field;
    }
    return std::nullopt;
}

std::optional<ManifestField> ManifestMapping::section(std::string_view key) const {
    auto field = find(key);
    if (field && field->is_null()) return std::nullopt;
    return field;
}

std::optional<ManifestField> ManifestMapping::require(
    std::string_view key, std::string_view purpose
) const {
    auto field = find(key);
    if (!field && ok_) {
        self_.errors().add(
            self_.line(), pointer_to(self_.pointer(), key), "missing: " + std::string(purpose)
        );
    }
    return field;
}

std::optional<std::string> to_json(const ManifestField& field, ManifestLines& lines) {
    const auto before = field.errors().count();
    JsonWriter writer(field.errors(), lines);
    writer.write(field.node(), field.pointer(), field.line(), 0);
    if (field.errors().count() != before) return std::nullopt;
    return writer.take();
}

}  // namespace annal
