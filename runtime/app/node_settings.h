#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/limits.h"
#include "runtime/core/log.h"
#include "runtime/core/result.h"
#include "runtime/http/tls.h"
#include "runtime/plugin/retention_port.h"
#include "runtime/store/postgres/postgres_store.h"

namespace annal {

/// What a node is told when it starts: from a YAML file, each entry overridable by the environment.
struct NodeSettings {
    std::string listen = "127.0.0.1:8080";     ///< listen, ANNAL_LISTEN
    std::filesystem::path data_dir = "./var";  ///< data_dir, ANNAL_DATA_DIR
    std::string store = "sqlite";              ///< store, ANNAL_STORE: sqlite or postgres
    std::vector<std::filesystem::path>
        manifests;  ///< manifests, ANNAL_MANIFESTS (separated by ':')
    std::vector<std::filesystem::path>
        plugins;  ///< plugins, ANNAL_PLUGINS (separated by ':'): folders of libraries
    std::filesystem::path
        master_key_file;  ///< master_key_file, ANNAL_MASTER_KEY_FILE; default DATA_DIR/keyring
    std::vector<std::string> allow_cidrs;  ///< allow_cidrs, ANNAL_ALLOW_CIDRS (separated by ',')
    std::vector<std::uint16_t>
        outbound_ports;                 ///< outbound_ports, ANNAL_OUTBOUND_PORTS (separated by ',')
    bool go_on_after_failover = false;  ///< after_failover, ANNAL_AFTER_FAILOVER: halt or go_on
    std::string bootstrap_key,
        bootstrap_project;  ///< ANNAL_BOOTSTRAP_KEY, ANNAL_BOOTSTRAP_PROJECT; both or none
    http::TlsOptions tls;   ///< tls.*, ANNAL_TLS_CERTIFICATE_FILE, …: both files or none
    log::Level log_level = log::Level::info;     ///< log_level, ANNAL_LOG_LEVEL
    std::uint32_t segment_events_max = 250'000;  ///< sqlite.segment_events
    PostgresOptions postgres;  ///< postgres.*, ANNAL_POSTGRES_URL, ANNAL_POSTGRES_DIRECT_URL
    Limits limits;             ///< limits.*
    /// retention.months, AUTHIO_AUDIT_RETENTION_MONTHS, …: what a retention job without months of
    /// its own goes by.
    RetentionPolicy retention;

    /// Whether other nodes may serve the same data.
    [[nodiscard]] bool shares_store() const { return store == "postgres"; }
    [[nodiscard]] std::filesystem::path unix_socket() const { return data_dir / "annal.sock"; }
};

using Environment = std::function<std::optional<std::string>(const char* name)>;
/// The process's own environment.
[[nodiscard]] Environment process_environment();

/// @param file  empty: only defaults and environment
/// @error Errc::invalid  Every unknown key, bad value and broken line at once, each with file and
/// line or variable name.
[[nodiscard]] Result<NodeSettings> read_node_settings(
    const std::filesystem::path& file, const Environment& environment
);

/// The same for those who go on in spite of errors: what could be read, and every error on a line
/// of its own.
struct SettingsReading {
    NodeSettings settings;
    std::string errors;
};
[[nodiscard]] SettingsReading try_node_settings(
    const std::filesystem::path& file, const Environment& environment
);

/// Folder of the running program: plugins and manifests stand beside it.
[[nodiscard]] std::filesystem::path program_folder();

}  // namespace annal
