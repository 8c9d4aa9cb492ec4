#include "runtime/plugin/manifest_document.h"

#include <algorithm>
#include <array>
#include <set>

#include "runtime/core/limits.h"
#include "runtime/core/time_text.h"
#include "runtime/plugin/manifest_words.h"

namespace annal {
namespace {

using Words = std::span<const std::string_view>;

constexpr std::size_t kTriggersMax = 256;
constexpr std::size_t kListMax = 256;
constexpr std::uint64_t kBatchBytesMin = 1U << 10;
constexpr std::uint64_t kBatchBytesMax = 64U << 20;
constexpr std::int64_t kTimeoutMinUs = 10'000;
constexpr std::int64_t kTimeoutMaxUs = 3'600LL * 1'000'000;
constexpr std::int64_t kEveryMinUs = 1'000'000;
constexpr std::int64_t kEveryMaxUs = 366LL * 86'400 * 1'000'000;

constexpr std::string_view kNameRule =
    "must match ^[a-z0-9][a-z0-9-]{0,62}$: lower-case letters, digits and hyphens";
constexpr std::string_view kDurationRule =
    "expected a duration like \"250ms\", \"10s\", \"5m\", \"24h\" or \"30d\"";

void expect_constant(const ManifestMapping& mapping, std::string_view key, std::string_view value) {
    const std::array<std::string_view, 1> words = {value};
    const std::string purpose = "must be " + std::string(value);
    if (const auto field = mapping.require(key, purpose))
        (void)field->word(words);  // reports by itself
}

/// A name under the rule of instances and triggers.
std::string read_name(const ManifestMapping& mapping, std::string_view purpose) {
    const auto field = mapping.require("name", purpose);
    if (!field) return {};
    auto name = field->text();
    if (!name) return {};
    if (!is_label_name(*name)) field->fail(in_quotes(*name) + " " + std::string(kNameRule));
    return *name;
}

std::int64_t read_duration(
    const ManifestField& field, std::int64_t min, std::int64_t max, std::string_view range
) {
    if (!field.is(YamlType::text)) {
        field.fail_type("a duration like 250ms, 10s, 5m, 24h or 30d");
        return 0;
    }
    const std::string& text = field.node().Scalar();
    const auto us = parse_duration(text);
    if (!us) {
        field.fail(std::string(kDurationRule) + ", found " + in_quotes(text));
        return 0;
    }
    if (us.value() < min || us.value() > max)
        field.fail("must be from " + std::string(range) + ", found " + in_quotes(text));
    return us.value();
}

std::uint64_t read_size(
    const ManifestField& field, std::uint64_t min, std::uint64_t max, std::string_view range
) {
    const bool scalar = field.is(YamlType::text) || field.is(YamlType::integer);
    if (!scalar) {
        field.fail_type("a size like 65536, 64KiB or 1MiB");
        return 0;
    }
    const std::string& text = field.node().Scalar();
    const auto bytes = parse_size(text);
    if (!bytes) {
        field.fail("expected a size like 65536, \"64KiB\" or \"1MiB\", found " + in_quotes(text));
        return 0;
    }
    if (bytes.value() < min || bytes.value() > max)
        field.fail("must be from " + std::string(range) + ", found " + in_quotes(text));
    return bytes.value();
}

bool read_flag(const ManifestMapping& mapping, std::string_view key) {
    const auto field = mapping.find(key);
    return field && field->boolean().value_or(false);
}

/// Distinct texts that `fits` accepts; `rule` says what that is.
std::vector<std::string> read_list(
    const ManifestField& field, bool (*fits)(std::string_view), std::string_view rule
) {
    std::vector<std::string> out;
    for (const auto& element : field.elements(kListMax)) {
        const auto text = element.text();
        if (!text) continue;
        if (!fits(*text)) {
            element.fail(in_quotes(*text) + " " + std::string(rule));
        } else if (std::find(out.begin(), out.end(), *text) != out.end()) {
            element.fail(in_quotes(*text) + " is listed twice");
        } else {
            out.push_back(*text);
        }
    }
    return out;
}

// --- metadata, library, permissions
// ---------------------------------------------------------------------------------

void read_labels(const ManifestField& field, Manifest& out) {
    if (!field.is(YamlType::mapping)) return field.fail_type("a mapping of strings");
    for (const auto& entry : field.node()) {
        const int line = line_of(entry.first, field.line());
        if (!entry.first.IsScalar()) {
            field.errors().add(line, field.pointer(), "has a key that is no text");
            continue;
        }
        const std::string& key = entry.first.Scalar();
        const ManifestField value(
            field.errors(),
            entry.second,
            pointer_to(field.pointer(), key),
            line_of(entry.second, line)
        );
        if (!is_library_name(key)) {
            value.fail("label names must match ^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$");
            continue;
        }
        const auto text = value.text();
        if (!out.labels.emplace(key, text.value_or("")).second)
            value.fail("is given twice in this mapping");
        if (text && text->size() > 256) value.fail("is longer than 256 bytes");
    }
}

void read_metadata(const ManifestField& field, Manifest& out) {
    constexpr std::array<std::string_view, 2> kKeys = {"name", "labels"};
    const ManifestMapping metadata(field, kKeys);
    if (!metadata.ok()) return;
    out.instance = read_name(metadata, "the name of this instance, unique within the node");
    if (const auto labels = metadata.section("labels")) read_labels(*labels, out);
}

void read_library_name(const ManifestField& field, std::string& out, std::string_view what) {
    const auto name = field.text();
    if (!name) return;
    out = *name;
    if (name->find('/') != std::string::npos) {
        field.fail(
            in_quotes(*name) +
            " is a path: give the name alone, the server looks in its plugin folders"
        );
    } else if (name->ends_with(".so")) {
        field.fail(in_quotes(*name) + ": leave out \".so\"");
    } else if (!is_library_name(*name)) {
        field.fail(
            in_quotes(*name) + " is no " + std::string(what) +
            ": it must match ^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
        );
    }
}

void read_pin(const ManifestField& field, Manifest& out) {
    // Taken as written: a digest may look like a number.
    if (!field.node().IsScalar()) return field.fail_type("a string");
    std::string text = field.node().Scalar();
    const bool hex =
        text.size() == 64 && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
    if (!hex)
        return field.fail("expected the 64 hex digits that `sha256sum` prints for the library");
    for (char& c : text) c = static_cast<char>(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
    out.sha256 = std::move(text);
}

void read_library(const ManifestField& field, Manifest& out) {
    constexpr std::array<std::string_view, 3> kKeys = {"name", "component", "sha256"};
    const ManifestMapping library(field, kKeys);
    if (!library.ok()) return;
    if (const auto name =
            library.require("name", "the library's file name without .so, as in sink_file")) {
        read_library_name(*name, out.library, "library name");
    }
    if (const auto component = library.find("component")) {
        read_library_name(*component, out.component, "component name");
    }
    if (const auto pin = library.find("sha256")) read_pin(*pin, out);
}

void read_store_permission(const ManifestField& field, Permissions& out) {
    constexpr std::array<std::string_view, 2> kWords = {"read", "delete"};
    for (const auto& element : field.elements(kListMax)) {
        const auto word = element.word(kWords);
        if (!word) continue;
        bool& flag = *word == "read" ? out.store_read : out.store_delete;
        if (flag) element.fail(in_quotes(*word) + " is listed twice");
        flag = true;
    }
}

void read_permissions(const ManifestField& field, Permissions& out) {
    constexpr std::array<std::string_view, 8> kKeys = {
        "append", "store", "export", "kv", "config", "retention", "secrets", "http"};
    const ManifestMapping permissions(field, kKeys);
    if (!permissions.ok()) return;
    out.append = read_flag(permissions, "append");
    out.export_ = read_flag(permissions, "export");
    out.kv = read_flag(permissions, "kv");
    out.config = read_flag(permissions, "config");
    out.retention = read_flag(permissions, "retention");
    if (const auto store = permissions.section("store")) read_store_permission(*store, out);
    if (const auto secrets = permissions.section("secrets")) {
        out.secrets = read_list(
            *secrets,
            is_secret_pattern,
            "is no secret: give a name like \"acme/token\", or \"acme/*\" for all below acme/"
        );
    }
    if (const auto http = permissions.section("http")) {
        out.http = read_list(
            *http,
            is_host_port,
            "is no destination: give host:port, as in \"in.acme.example:443\", or \"*:443\" for "
            "any "
            "host at that port"
        );
    }
}

// --- triggers
// -------------------------------------------------------------------------------------------------------

void read_methods(const ManifestMapping& http, const ManifestField& field, HttpTrigger& out) {
    const auto one = http.find("method"), many = http.find("methods");
    if (one && many) return one->fail("give either method or methods, not both");
    if (!one && !many) {
        return field.errors().add(
            field.line(),
            pointer_to(field.pointer(), "methods"),
            "missing: one or more of " + either(method_words())
        );
    }
    if (one) {
        if (auto word = one->word(method_words())) out.methods.push_back(std::move(*word));
        return;
    }
    const auto elements = many->elements(kListMax);
    if (elements.empty() && many->is(YamlType::sequence) && many->node().size() == 0) {
        many->fail("must list one or more of " + either(method_words()));
    }
    for (const auto& element : elements) {
        auto word = element.word(method_words());
        if (!word) continue;
        if (std::find(out.methods.begin(), out.methods.end(), *word) != out.methods.end()) {
            element.fail(in_quotes(*word) + " is listed twice");
            continue;
        }
        out.methods.push_back(std::move(*word));
    }
}

HttpTrigger read_http(const ManifestField& field, std::string name) {
    constexpr std::array<std::string_view, 4> kKeys = {"method", "methods", "route", "scope"};
    HttpTrigger out;
    out.name = std::move(name);
    out.line = field.line();
    const ManifestMapping http(field, kKeys);
    if (!http.ok()) return out;
    read_methods(http, field, out);
    if (const auto route =
            http.require("route", "the path it answers, as in /v1/audit/events/{id}")) {
        out.route = route->text().value_or("");
        const auto defect = out.route.empty() ? std::nullopt : route_defect(out.route);
        if (defect) route->fail("route " + in_quotes(out.route) + " " + *defect);
        if (route->is(YamlType::text) && out.route.empty()) route->fail("must begin with /");
    }
    const std::string purpose = "the scope that a key needs, " + either(scope_words());
    if (const auto scope = http.require("scope", purpose)) {
        out.scope = scope->word(scope_words()).value_or("");
        if (out.scope == "none") out.scope.clear();
    }
    return out;
}

void read_patterns(const ManifestField& field, EventsTrigger& out) {
    out.patterns.clear();
    const auto elements = field.elements(kListMax);
    if (field.is(YamlType::sequence) && field.node().size() == 0) {
        field.fail("must list one or more patterns: \"*\", \"user.*\" or \"user.created\"");
    }
    for (const auto& element : elements) {
        const auto text = element.text();
        if (!text) continue;
        auto pattern = parse_pattern(*text);
        if (pattern) {
            out.patterns.push_back(std::move(pattern).value());
        } else {
            element.fail(
                in_quotes(*text) +
                " is no pattern: give an action like \"user.created\", \"user.*\" or \"*\""
            );
        }
    }
}

void read_batch(const ManifestField& field, EventsTrigger& out) {
    constexpr std::array<std::string_view, 2> kKeys = {"maxEvents", "maxBytes"};
    const ManifestMapping batch(field, kKeys);
    if (!batch.ok()) return;
    if (const auto events = batch.find("maxEvents")) {
        out.batch_events_max =
            static_cast<std::uint32_t>(events->integer(1, kBatchEventsMax).value_or(0));
    }
    if (const auto bytes = batch.find("maxBytes")) {
        out.batch_bytes_max = read_size(*bytes, kBatchBytesMin, kBatchBytesMax, "1KiB to 64MiB");
    }
}

EventsTrigger read_events(const ManifestField& field, std::string name) {
    constexpr std::array<std::string_view, 6> kKeys = {
        "project", "patterns", "from", "batch", "onPoison", "format"};
    constexpr std::array<std::string_view, 2> kFrom = {"earliest", "latest"};
    constexpr std::array<std::string_view, 2> kOnPoison = {"block", "dead_letter"};
    EventsTrigger out;
    out.name = std::move(name);
    out.line = field.line();
    out.patterns = {ActionPattern{}};
    const ManifestMapping events(field, kKeys);
    if (!events.ok()) return out;
    if (const auto project =
            events.require("project", "the id of the project whose events are streamed")) {
        const auto text = project->text();
        if (text && !is_project_word(*text)) {
            project->fail(
                in_quotes(*text) + " is no project id: 1 to 64 letters, digits and _ - . :"
            );
        }
        out.project = text.value_or("");
    }
    if (const auto patterns = events.section("patterns")) read_patterns(*patterns, out);
    if (const auto from = events.find("from")) {
        out.from = from->word(kFrom) == "latest" ? EventsTrigger::From::latest
                                                 : EventsTrigger::From::earliest;
    }
    if (const auto batch = events.section("batch")) read_batch(*batch, out);
    if (const auto poison = events.find("onPoison"))
        out.dead_letter = poison->word(kOnPoison) == "dead_letter";
    if (const auto format = events.find("format")) {
        out.format = format->text().value_or("");
        if (out.format.empty()) format->fail("must be a format's name, such as jsonl");
    }
    return out;
}

DestinationTrigger read_destination(const ManifestField& field) {
    constexpr std::array<std::string_view, 2> kKeys = {"name", "scope"};
    DestinationTrigger out;
    out.line = field.line();
    const ManifestMapping destination(field, kKeys);
    if (!destination.ok()) return out;
    if (const auto name = destination.find("name")) {
        out.name = name->text().value_or("");
        if (!out.name.empty() && !is_destination_name(out.name))
            name->fail(
                in_quotes(out.name) +
                " is no destination's name: 1 to 63 of a-z 0-9 _, a letter first"
            );
    }
    if (const auto scope = destination.find("scope")) {
        out.scope = scope->word(scope_words()).value_or("");
        if (out.scope == "none") out.scope.clear();
    }
    return out;
}

ScheduleTrigger read_schedule(const ManifestField& field, std::string name) {
    constexpr std::array<std::string_view, 2> kKeys = {"every", "atStart"};
    ScheduleTrigger out;
    out.name = std::move(name);
    out.line = field.line();
    const ManifestMapping schedule(field, kKeys);
    if (!schedule.ok()) return out;
    if (const auto every =
            schedule.require("every", "the time between two runs, as in 24h, or never")) {
        if (every->text() != "never")
            out.every_us = read_duration(*every, kEveryMinUs, kEveryMaxUs, "1s to 366d, or never");
    }
    out.at_start = read_flag(schedule, "atStart");
    return out;
}

void read_trigger(const ManifestField& field, std::set<std::string>& names, Manifest& out) {
    constexpr std::array<std::string_view, 5> kKeys = {
        "name", "http", "events", "schedule", "destination"};
    const ManifestMapping trigger(field, kKeys);
    if (!trigger.ok()) return;
    const auto name = read_name(trigger, "the name of this trigger, unique within the document");
    if (!name.empty() && !names.insert(name).second) {
        field.errors().add(
            trigger.find("name")->line(),
            pointer_to(field.pointer(), "name"),
            "the trigger name " + in_quotes(name) +
                " is taken by an earlier trigger of this document"
        );
    }
    const auto http = trigger.find("http"), events = trigger.find("events"),
               schedule = trigger.find("schedule"), destination = trigger.find("destination");
    const int kinds =
        (http ? 1 : 0) + (events ? 1 : 0) + (schedule ? 1 : 0) + (destination ? 1 : 0);
    if (kinds != 1)
        field.fail("must hold exactly one of http, events, schedule and destination beside its name"
        );
    if (http) out.http.push_back(read_http(*http, name));
    if (events) out.events.push_back(read_events(*events, name));
    if (schedule) out.schedules.push_back(read_schedule(*schedule, name));
    if (destination) {
        if (out.destination)
            destination->fail("a document offers one destination; write another for another");
        out.destination = read_destination(*destination);
    }
}

/// A destination's document is a pattern for instances; it is none itself.
void check_destination_alone(const ManifestField& triggers, const Manifest& manifest) {
    const bool alone =
        manifest.http.empty() && manifest.events.empty() && manifest.schedules.empty();
    if (manifest.destination && !alone)
        triggers.fail("destination stands alone: give other triggers a document of their own");
}

// --- spec
// -----------------------------------------------------------------------------------------------------------

void read_config(const ManifestField& field, Manifest& out) {
    out.config_line = field.line();
    if (!field.is(YamlType::mapping))
        return field.fail_type("a mapping of the component's settings");
    if (auto json = to_json(field, out.config_lines)) out.config_json = std::move(*json);
}

void read_limits(const ManifestField& field, Manifest& out) {
    constexpr std::array<std::string_view, 1> kKeys = {"timeout"};
    const ManifestMapping limits(field, kKeys);
    if (const auto timeout = limits.find("timeout")) {
        out.timeout_us = read_duration(*timeout, kTimeoutMinUs, kTimeoutMaxUs, "10ms to 1h");
    }
}

void read_spec(const ManifestField& field, Manifest& out) {
    constexpr std::array<std::string_view, 5> kKeys = {
        "library", "config", "triggers", "limits", "permissions"};
    const ManifestMapping spec(field, kKeys);
    if (!spec.ok()) return;
    if (const auto library =
            spec.require("library", "which library to load, as in {name: sink_file}")) {
        read_library(*library, out);
    }
    if (const auto config = spec.section("config")) read_config(*config, out);
    if (const auto triggers = spec.section("triggers")) {
        std::set<std::string> names;
        for (const auto& trigger : triggers->elements(kTriggersMax))
            read_trigger(trigger, names, out);
        check_destination_alone(*triggers, out);
    }
    if (const auto limits = spec.section("limits")) read_limits(*limits, out);
    if (const auto permissions = spec.section("permissions"))
        read_permissions(*permissions, out.permissions);
}

}  // namespace

bool read_document(const ManifestField& document, Manifest& out) {
    constexpr std::array<std::string_view, 4> kKeys = {"apiVersion", "kind", "metadata", "spec"};
    const auto before = document.errors().count();
    out.line = out.config_line = document.line();
    const ManifestMapping root(document, kKeys);
    if (!root.ok()) return false;
    expect_constant(root, "apiVersion", "annal.dev/v1");
    expect_constant(root, "kind", "Plugin");
    if (const auto metadata = root.require("metadata", "at least {name: …}"))
        read_metadata(*metadata, out);
    if (const auto spec = root.require("spec", "at least {library: {name: …}}"))
        read_spec(*spec, out);
    return document.errors().count() == before;
}

}  // namespace annal
