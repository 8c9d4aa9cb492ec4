#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/plugin/manifest.h"

namespace annal {

inline constexpr std::size_t kManifestBytesMax = 1U << 20;  ///< one file
inline constexpr std::size_t kManifestErrorsMax = 200;      ///< one file; the rest is counted
inline constexpr int kManifestDepthMax = 32;                ///< nesting of spec.config
inline constexpr std::size_t kManifestNodesMax =
    100'000;  ///< spec.config after its aliases are expanded

/// Gathers what is wrong with one file, at most `kManifestErrorsMax` of it.
class ManifestErrors {
public:
    explicit ManifestErrors(std::filesystem::path file) : file_(std::move(file)) {}
    void add(int line, std::string pointer, std::string message);
    [[nodiscard]] std::size_t count() const { return count_; }
    /// In order of line.
    [[nodiscard]] std::vector<ManifestError> take();

private:
    std::filesystem::path file_;
    std::vector<ManifestError> errors_;
    std::size_t count_ = 0;
};

/// What a node is in YAML 1.2's core schema: plain scalars are typed by their form, quoted ones are
/// text.
enum class YamlType { null, boolean, integer, number, text, sequence, mapping, unknown_tag };
[[nodiscard]] YamlType yaml_type(const YAML::Node& node);
/// "a string", "an integer": for sentences.
[[nodiscard]] std::string_view describe(YamlType type);
/// From 1; `otherwise` when the parser did not keep it.
[[nodiscard]] int line_of(const YAML::Node& node, int otherwise);

/// A node, where it stands, and where to say what is wrong with it. Each reader reports a wrong
/// type and returns nothing.
class ManifestField {
public:
    ManifestField(ManifestErrors& errors, YAML::Node node, std::string pointer, int line)
        : errors_(&errors), node_(std::move(node)), pointer_(std::move(pointer)), line_(line) {}

    [[nodiscard]] std::optional<std::string> text() const;
    [[nodiscard]] std::optional<bool> boolean() const;
    /// An integer, or the text of a plain or quoted scalar that `parse` understands, within [min,
    /// max].
    [[nodiscard]] std::optional<std::uint64_t> integer(std::uint64_t min, std::uint64_t max) const;
    /// One of `words`.
    [[nodiscard]] std::optional<std::string> word(std::span<const std::string_view> words) const;
    /// The elements of a sequence of at most `max`.
    [[nodiscard]] std::vector<ManifestField> elements(std::size_t max) const;
    void fail(std::string message) const { errors_->add(line_, pointer_, std::move(message)); }
    void fail_type(std::string_view expected) const;

    [[nodiscard]] bool is_null() const { return yaml_type(node_) == YamlType::null; }
    [[nodiscard]] bool is(YamlType type) const { return yaml_type(node_) == type; }
    [[nodiscard]] const YAML::Node& node() const { return node_; }
    [[nodiscard]] const std::string& pointer() const { return pointer_; }
    [[nodiscard]] int line() const { return line_; }
    [[nodiscard]] ManifestErrors& errors() const { return *errors_; }

private:
    ManifestErrors* errors_;
    YAML::Node node_;
    std::string pointer_;
    int line_;
};

/// A mapping of which every key is known. Reading one reports keys that are unknown, given twice,
/// or no text.
class ManifestMapping {
public:
    ManifestMapping(const ManifestField& field, std::span<const std::string_view> keys);
    /// False when the node is no mapping at all; that has been reported.
    [[nodiscard]] bool ok() const { return ok_; }
    [[nodiscard]] std::optional<ManifestField> find(std::string_view key) const;
    /// As `find`, but null counts as absent: for sections whose every line is commented out.
    [[nodiscard]] std::optional<ManifestField> section(std::string_view key) const;
    /// As `find`; absence is reported with `purpose`: "the name of this instance".
    [[nodiscard]] std::optional<ManifestField> require(
        std::string_view key, std::string_view purpose
    ) const;

private:
    ManifestField self_;
    std::vector<std::pair<std::string, ManifestField>> fields_;
    bool ok_ = false;
};

using ManifestLines = std::map<std::string, int, std::less<>>;

/// `field` as JSON text with YAML 1.2 core typing; the lines of what is in it go to `lines`.
/// Reports duplicate keys, merge keys, tags, numbers that JSON can't hold, and documents that are
/// too deep or, once their aliases are expanded, too big.
[[nodiscard]] std::optional<std::string> to_json(const ManifestField& field, ManifestLines& lines);

}  // namespace annal
