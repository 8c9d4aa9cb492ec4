#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/event/action.h"

namespace annal {

struct HttpTrigger {
    std::string name;
    std::vector<std::string> methods;
    std::string route, scope;
    int line = 0;
};

/// A stream declared in YAML: one project's events, in order, to this sink.
struct EventsTrigger {
    std::string name, project;
    std::vector<ActionPattern> patterns;  ///< default `*`
    enum class From { latest, earliest } from = From::earliest;
    std::uint32_t batch_events_max = 500;
    std::uint64_t batch_bytes_max = 1U << 20;
    bool dead_letter = false;  ///< a refused event is put aside instead of blocking the stream
    std::string format;        ///< that writes the batches; empty: the sink itself
    int line = 0;
};

/// A sink that streams made over REST may name as their destination. The manifest's config holds
/// what the operator has decided for all of them.
struct DestinationTrigger {
    std::string name;   ///< of the destination: the component's, unless the manifest says otherwise
    std::string scope;  ///< that a key needs beside streams:write; empty: none
    int line = 0;
};

struct ScheduleTrigger {
    std::string name;
    std::int64_t every_us = 0;  ///< 0: only when somebody asks for it
    bool at_start = false;
    int line = 0;
};

/// What an instance may use; a service without permission is NULL to it.
struct Permissions {
    bool append = false, store_read = false, store_delete = false, export_ = false, kv = false,
         config = false, retention = false;
    std::vector<std::string> secrets;  ///< names, or "prefix/*"
    std::vector<std::string> http;     ///< "host:port"
};

/// One manifest document: one instance of one component.
struct Manifest {
    std::string instance;  ///< metadata.name, unique within the node
    std::map<std::string, std::string> labels;
    std::string library;    ///< a name, never a path: "sink_file" is lib dir + "sink_file.so"
    std::string component;  ///< defaults to the library's only component
    std::optional<std::string> sha256;
    std::string config_json =
        "{}";  ///< as written, secretRefs unresolved, defaults not applied yet
    std::vector<HttpTrigger> http;
    std::vector<EventsTrigger> events;
    std::optional<DestinationTrigger> destination;  ///< then there is no other trigger
    std::vector<ScheduleTrigger> schedules;
    Permissions permissions;
    std::int64_t timeout_us = 10'000'000;
    std::filesystem::path file;
    int line = 0;                                          ///< of the document
    int config_line = 0;                                   ///< of spec.config
    std::map<std::string, int, std::less<>> config_lines;  ///< of what is below it, by pointer

    /// The line of the setting at `pointer`, or of the nearest that is there around it.
    [[nodiscard]] int config_line_of(std::string_view pointer) const;
};

/// One thing that is wrong with a manifest: "manifests/file.yaml:12: /spec/triggers/0/http/scope:
/// missing".
struct ManifestError {
    std::filesystem::path file;
    int line = 0;
    std::string pointer, message;
    /// One line: whatever the file holds, no control character and no malformed UTF-8 is in it.
    [[nodiscard]] std::string text() const;
};

struct ManifestSet {
    std::vector<Manifest> manifests;
    std::vector<ManifestError> errors;  ///< all of them, in order of file and line
};

/// Reads every *.yaml and *.yml below `paths` (a file, or a folder without its subfolders), several
/// documents a file. Unknown keys, wrong types, duplicate keys and duplicate instance names are
/// errors; none is thrown, all are reported.
[[nodiscard]] ManifestSet read_manifests(const std::vector<std::filesystem::path>& paths);

/// Resolves `{"secretRef": name}` through `secret`, checks `config_json` against `schema_json`
/// (JSON Schema draft 7, `format` being an annotation), and applies the schema's defaults. Errors
/// carry a whole pointer ("/spec/config/url") and never a value. Limits: 1 MiB, 64 KiB a string, 2
/// KiB where the schema has a pattern. Safe from any thread.
using SecretLookup = std::function<std::optional<std::string>(const std::string&)>;
struct ConfigResult {
    std::string json;
    std::vector<std::pair<std::string, std::string>> errors;  ///< pointer, message
};
[[nodiscard]] ConfigResult complete_config(
    const std::string& config_json, const std::string& schema_json, const SecretLookup& secret
);

}  // namespace annal
