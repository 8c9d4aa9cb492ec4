#include "runtime/app/node_settings.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <cstdlib>
#include <map>

#include "runtime/core/time_text.h"
#include "runtime/plugin/address_policy.h"

namespace annal {
namespace {

namespace fs = std::filesystem;

using Apply = std::function<Result<void>(NodeSettings&, const std::string& value)>;

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::size_t begin = 0;
    while (begin <= text.size()) {
        const std::size_t end = std::min(text.find(separator, begin), text.size());
        if (end > begin) parts.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

std::vector<fs::path> to_paths(const std::string& text) {
    const std::vector<std::string> parts = split(text, ':');
    return {parts.begin(), parts.end()};
}

Result<std::uint64_t> parse_number(const std::string& text, std::uint64_t min, std::uint64_t max) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value < min || value > max)
        return Error{
            Errc::invalid,
            "must be a number from " + std::to_string(min) + " to " + std::to_string(max)};
    return value;
}

template <class T>
Apply number(T Limits::*member, std::uint64_t min, std::uint64_t max) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        BOOST_OUTCOME_TRY(const std::uint64_t value, parse_number(v, min, max));
        s.limits.*member = static_cast<T>(value);
        return ok();
    };
}

Apply size(std::uint64_t Limits::*member) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        BOOST_OUTCOME_TRY(const std::uint64_t value, parse_size(v));
        if (value == 0) return Error{Errc::invalid, "must be more than 0 bytes"};
        s.limits.*member = value;
        return ok();
    };
}

Apply months(std::uint32_t RetentionPolicy::*member, std::uint32_t most) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        std::uint32_t value = 0;
        const auto [end, error] = std::from_chars(v.data(), v.data() + v.size(), value);
        if (error != std::errc() || end != v.data() + v.size() || value < 1 || value > most)
            return Error{
                Errc::invalid,
                "must be a whole number of months from 1 to " + std::to_string(most)};
        s.retention.*member = value;
        return ok();
    };
}

/// Bytes a second; 0 asks for none.
Apply rate(std::uint32_t Limits::*member) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        BOOST_OUTCOME_TRY(const std::uint64_t value, parse_size(v));
        if (value > (1U << 30)) return Error{Errc::invalid, "must be at most 1GiB a second"};
        s.limits.*member = static_cast<std::uint32_t>(value);
        return ok();
    };
}

Apply duration(std::uint32_t Limits::*member) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        BOOST_OUTCOME_TRY(const std::int64_t us, parse_duration(v));
        if (us < 1'000 || us > 3'600 * kSecondUs)
            return Error{Errc::invalid, "must be from 1ms to 1h"};
        s.limits.*member = static_cast<std::uint32_t>(us / 1'000);
        return ok();
    };
}

template <class Setter>
Apply text(Setter set) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        set(s, v);
        return ok();
    };
}

/// For what has no sensible meaning when it is empty, as when a script's variable was not set.
template <class Setter>
Apply filled_text(Setter set) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        if (v.empty()) return Error{Errc::invalid, "must not be empty"};
        set(s, v);
        return ok();
    };
}

Result<void> set_allow_cidrs(NodeSettings& s, const std::string& v) {
    s.allow_cidrs.clear();
    for (std::string& range : split(v, ',')) {
        if (!AddressRange::parse(range))
            return Error{
                Errc::invalid, "`" + range + "` is no address range; write it like 10.0.0.0/8"};
        s.allow_cidrs.push_back(std::move(range));
    }
    return ok();
}

Result<void> set_outbound_ports(NodeSettings& s, const std::string& v) {
    s.outbound_ports.clear();
    for (const std::string& port : split(v, ',')) {
        const auto number = parse_number(port, 1, 65'535);
        if (!number)
            return Error{
                Errc::invalid, "`" + port + "` is no port; write a list of them like 9000,9443"};
        s.outbound_ports.push_back(static_cast<std::uint16_t>(number.value()));
    }
    return ok();
}

Result<void> set_after_failover(NodeSettings& s, const std::string& v) {
    if (v != "halt" && v != "go_on")
        return Error{Errc::invalid, "`" + v + "` must be halt or go_on"};
    s.go_on_after_failover = v == "go_on";
    return ok();
}

Result<void> set_store(NodeSettings& s, const std::string& v) {
    if (v != "sqlite" && v != "postgres")
        return Error{
            Errc::invalid, "`" + v + "` is not a store of this build; use sqlite or postgres"};
    s.store = v;
    return ok();
}

/// The value may hold a password, so no message repeats it.
Apply postgres_url(std::string PostgresOptions::*member) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        if (v.empty()) return Error{Errc::invalid, "must not be empty"};
        BOOST_OUTCOME_TRYV(check_postgres_url(v));
        s.postgres.*member = v;
        return ok();
    };
}

Apply connections(std::size_t PostgresOptions::*member) {
    return [=](NodeSettings& s, const std::string& v) -> Result<void> {
        BOOST_OUTCOME_TRY(const std::uint64_t value, parse_number(v, 1, 100));
        s.postgres.*member = static_cast<std::size_t>(value);
        return ok();
    };
}

Result<void> set_migrate(NodeSettings& s, const std::string& v) {
    if (v != "true" && v != "false") return Error{Errc::invalid, "must be true or false"};
    s.postgres.migrate = v == "true";
    return ok();
}

Result<void> set_log_level(NodeSettings& s, const std::string& v) {
    static const std::map<std::string, log::Level> levels{
        {"debug", log::Level::debug},
        {"info", log::Level::info},
        {"warn", log::Level::warn},
        {"error", log::Level::error}};
    auto found = levels.find(v);
    if (found == levels.end()) return Error{Errc::invalid, "must be debug, info, warn or error"};
    s.log_level = found->second;
    return ok();
}

Result<void> set_segment_events(NodeSettings& s, const std::string& v) {
    BOOST_OUTCOME_TRY(const std::uint64_t value, parse_number(v, 100, 250'000));
    s.segment_events_max = static_cast<std::uint32_t>(value);
    return ok();
}

Result<void> set_tls_min_version(NodeSettings& s, const std::string& v) {
    if (v != "1.2" && v != "1.3") return Error{Errc::invalid, "must be \"1.2\" or \"1.3\""};
    s.tls.min_version = v == "1.3" ? http::TlsVersion::v1_3 : http::TlsVersion::v1_2;
    return ok();
}

struct Entry {
    const char* key;       // in the file; "" when only the environment has it
    const char* variable;  // "" when only the file has it
    Apply apply;
};

const std::vector<Entry>& entries() {
    static const std::vector<Entry> all{
        {"listen", "ANNAL_LISTEN", filled_text([](NodeSettings& s, const std::string& v) {
             s.listen = v;
         })},
        {"data_dir", "ANNAL_DATA_DIR", filled_text([](NodeSettings& s, const std::string& v) {
             s.data_dir = v;
         })},
        {"store", "ANNAL_STORE", set_store},
        {"manifests", "ANNAL_MANIFESTS", text([](NodeSettings& s, const std::string& v) {
             s.manifests = to_paths(v);
         })},
        {"plugins", "ANNAL_PLUGINS", text([](NodeSettings& s, const std::string& v) {
             s.plugins = to_paths(v);
         })},
        {"master_key_file",
         "ANNAL_MASTER_KEY_FILE",
         text([](NodeSettings& s, const std::string& v) { s.master_key_file = v; })},
        {"allow_cidrs", "ANNAL_ALLOW_CIDRS", set_allow_cidrs},
        {"outbound_ports", "ANNAL_OUTBOUND_PORTS", set_outbound_ports},
        {"after_failover", "ANNAL_AFTER_FAILOVER", set_after_failover},
        {"log_level", "ANNAL_LOG_LEVEL", set_log_level},
        {"tls.certificate_file",
         "ANNAL_TLS_CERTIFICATE_FILE",
         filled_text([](NodeSettings& s, const std::string& v) { s.tls.certificate_file = v; })},
        {"tls.key_file",
         "ANNAL_TLS_KEY_FILE",
         filled_text([](NodeSettings& s, const std::string& v) { s.tls.key_file = v; })},
        {"tls.min_version", "ANNAL_TLS_MIN_VERSION", set_tls_min_version},
        {"", "ANNAL_BOOTSTRAP_KEY", text([](NodeSettings& s, const std::string& v) {
             s.bootstrap_key = v;
         })},
        {"", "ANNAL_BOOTSTRAP_PROJECT", text([](NodeSettings& s, const std::string& v) {
             s.bootstrap_project = v;
         })},
        {"sqlite.segment_events", "", set_segment_events},
        {"postgres.url", "ANNAL_POSTGRES_URL", postgres_url(&PostgresOptions::url)},
        {"postgres.direct_url",
         "ANNAL_POSTGRES_DIRECT_URL",
         postgres_url(&PostgresOptions::direct_url)},
        {"postgres.migrate", "", set_migrate},
        {"postgres.append_connections", "", connections(&PostgresOptions::append_connections)},
        {"postgres.read_connections", "", connections(&PostgresOptions::read_connections)},
        {"postgres.delivery_connections", "", connections(&PostgresOptions::delivery_connections)},
        {"retention.months",
         "AUTHIO_AUDIT_RETENTION_MONTHS",
         months(&RetentionPolicy::months, RetentionPolicy::kMonthsMax)},
        {"retention.forward_months",
         "AUTHIO_AUDIT_FORWARD_MONTHS",
         months(&RetentionPolicy::forward_months, RetentionPolicy::kForwardMonthsMax)},
        {"limits.body_bytes", "", size(&Limits::body_bytes_max)},
        {"limits.bodies_in_memory", "", size(&Limits::bodies_in_memory_max)},
        {"limits.queue_bytes", "", size(&Limits::queue_bytes_max)},
        {"limits.project_queue_bytes", "", size(&Limits::project_queue_bytes_max)},
        {"limits.connections", "", number(&Limits::connections_max, 1, 1'000'000)},
        {"limits.header_bytes", "", number(&Limits::header_bytes_max, 1'024, 1U << 20)},
        {"limits.export_rows", "", number(&Limits::export_rows_max, 1, 100'000)},
        {"limits.header_timeout", "", duration(&Limits::header_timeout_ms)},
        {"limits.body_timeout", "", duration(&Limits::body_timeout_ms)},
        {"limits.write_timeout", "", duration(&Limits::write_timeout_ms)},
        {"limits.body_rate", "", rate(&Limits::body_rate_min_bytes_per_s)},
        {"limits.write_rate", "", rate(&Limits::write_rate_min_bytes_per_s)},
        {"limits.idle_timeout", "", duration(&Limits::idle_timeout_ms)},
        {"limits.scan_budget", "", duration(&Limits::scan_budget_ms)},
        {"limits.drain_timeout", "", duration(&Limits::drain_timeout_ms)},
        {"limits.lease_ms", "", number(&Limits::lease_ms, 100, 3'600'000)},
        {"limits.tails", "", number(&Limits::tails_max, 1, 100'000)},
        {"limits.tail_heartbeat", "", duration(&Limits::tail_heartbeat_ms)},
        {"limits.tail_buffer", "", size(&Limits::tail_buffer_bytes_max)},
    };
    return all;
}

std::string known_keys() {
    std::string list;
    for (const Entry& entry : entries())
        if (*entry.key) list += (list.empty() ? "" : ", ") + std::string(entry.key);
    return list;
}

/// A scalar as it stands; a sequence of scalars joined as the environment would write it.
std::optional<std::string> value_of(const YAML::Node& node, char separator) {
    if (node.IsScalar()) return node.Scalar();
    if (!node.IsSequence()) return std::nullopt;
    std::string joined;
    for (const YAML::Node& item : node) {
        if (!item.IsScalar()) return std::nullopt;
        if (!joined.empty()) joined += separator;
        joined += item.Scalar();
    }
    return joined;
}

class FileReader {
public:
    FileReader(const fs::path& file, NodeSettings& settings, std::string& errors)
        : file_(file), settings_(settings), errors_(errors) {}

    void read() {
        try {
            const YAML::Node root = YAML::LoadFile(file_.string());
            if (root.IsNull()) return;
            if (!root.IsMap()) return report(root, "must be a mapping of settings");
            for (const auto& member : root) read_member("", member.first, member.second);
        } catch (const YAML::BadFile&) {
            errors_ += file_.string() + ": can't be read\n";
        } catch (const YAML::Exception& e) {
            errors_ += file_.string() + ":" + std::to_string(e.mark.line + 1) + ": " + e.msg + "\n";
        }
    }

private:
    void report(const YAML::Node& node, const std::string& message) {
        errors_ +=
            file_.string() + ":" + std::to_string(node.Mark().line + 1) + ": " + message + "\n";
    }

    void read_member(const std::string& prefix, const YAML::Node& key, const YAML::Node& value) {
        const std::string name = prefix + key.Scalar();
        const bool group =
            name == "limits" || name == "sqlite" || name == "postgres" || name == "tls";
        if (value.IsMap() && prefix.empty() && group) {
            for (const auto& member : value) read_member(name + ".", member.first, member.second);
            return;
        }
        for (const Entry& entry : entries()) {
            if (name != entry.key) continue;
            const bool is_path = name == "manifests" || name == "plugins";
            const auto text_value = value_of(value, is_path ? ':' : ',');
            if (!text_value) return report(value, name + ": must be a value or a list of values");
            auto applied = entry.apply(settings_, *text_value);
            if (!applied) report(value, name + ": " + applied.error().detail);
            return;
        }
        report(key, "unknown setting `" + name + "`; known are: " + known_keys());
    }

    const fs::path& file_;
    NodeSettings& settings_;
    std::string& errors_;
};

void apply_environment(
    const Environment& environment, NodeSettings& settings, std::string& errors
) {
    for (const Entry& entry : entries()) {
        const auto value = *entry.variable ? environment(entry.variable) : std::nullopt;
        if (!value) continue;
        auto applied = entry.apply(settings, *value);
        if (!applied) errors += std::string(entry.variable) + ": " + applied.error().detail + "\n";
    }
}

/// What only several settings together can get wrong.
void check_together(const NodeSettings& settings, std::string& errors) {
    if (settings.store == "postgres" && settings.postgres.url.empty())
        errors += "postgres.url or ANNAL_POSTGRES_URL: must be given when the store is postgres\n";
    // Whoever gives one means it: evidence must not end up in another place than they think.
    if (settings.store.empty() && !settings.postgres.url.empty())
        errors +=
            "postgres.url: the store is not named; say `store: postgres` or `store: sqlite`\n";
    if (settings.tls.certificate_file.empty() != settings.tls.key_file.empty())
        errors += "tls.certificate_file and tls.key_file: both must be given, or none\n";
    if (settings.bootstrap_key.empty() != settings.bootstrap_project.empty())
        errors += "ANNAL_BOOTSTRAP_KEY and ANNAL_BOOTSTRAP_PROJECT: both must be given, or none\n";
    if (!settings.bootstrap_key.empty() && settings.bootstrap_key.size() < 24)
        errors += "ANNAL_BOOTSTRAP_KEY: must have at least 24 characters\n";
}

std::vector<fs::path> first_existing(std::initializer_list<fs::path> candidates) {
    for (const fs::path& candidate : candidates) {
        std::error_code ignored;
        if (fs::exists(candidate, ignored)) return {candidate};
    }
    return {*candidates.begin()};
}

}  // namespace

Environment process_environment() {
    return [](const char* name) -> std::optional<std::string> {
        const char* value = std::getenv(name);
        return value ? std::optional<std::string>(value) : std::nullopt;
    };
}

fs::path program_folder() {
    std::error_code ignored;
    return fs::read_symlink("/proc/self/exe", ignored).parent_path();
}

Result<NodeSettings> read_node_settings(const fs::path& file, const Environment& environment) {
    SettingsReading reading = try_node_settings(file, environment);
    if (reading.errors.empty()) return std::move(reading.settings);
    reading.errors.pop_back();
    return Error{Errc::invalid, reading.errors};
}

SettingsReading try_node_settings(const fs::path& file, const Environment& environment) {
    SettingsReading reading;
    auto& [settings, errors] = reading;
    settings.store.clear();  // so that it shows whether it was named
    if (!file.empty()) FileReader(file, settings, errors).read();
    apply_environment(environment, settings, errors);
    check_together(settings, errors);
    if (settings.store.empty()) settings.store = "sqlite";
    const fs::path here = program_folder();
    if (settings.manifests.empty())
        settings.manifests =
            first_existing({here / "manifests", here / "../share/annal/manifests"});
    if (settings.plugins.empty())
        settings.plugins = first_existing({here / "plugins", here / "../lib/annal/plugins"});
    if (settings.master_key_file.empty()) settings.master_key_file = settings.data_dir / "keyring";
    return reading;
}

}  // namespace annal
