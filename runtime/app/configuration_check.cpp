#include "runtime/app/configuration_check.h"

#include <set>

#include "runtime/app/key_ring.h"
#include "runtime/app/secrets.h"
#include "runtime/core/metrics.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/delivery/destinations.h"
#include "runtime/http/server.h"
#include "runtime/jobs/jobs.h"
#include "runtime/plugin/instance.h"
#include "runtime/plugin/loader.h"
#include "runtime/plugin/route_descriptions.h"
#include "runtime/store/sqlite/precheck.h"

namespace annal {
namespace {

/// Stands where a plugin's handler would.
class NoHandler final : public http::Handler {
    Task<void> handle(std::shared_ptr<http::Exchange>) override { co_return; }
};

class ManifestCheck {
public:
    ManifestCheck(const NodeSettings& settings, const SecretLookup& secret, bool all_at_once)
        : loader_(settings.plugins), secret_(secret), all_at_once_(all_at_once) {}

    std::string errors(const ManifestSet& set) && {
        for (const ManifestError& error : set.errors) errors_ += error.text() + "\n";
        for (const Manifest& manifest : set.manifests) check(manifest);
        return std::move(errors_);
    }

private:
    void report(const Manifest& manifest, int line, const std::string& message) {
        errors_ += manifest.file.string() + ":" + std::to_string(line) + ": " + message + "\n";
    }

    void check(const Manifest& manifest) {
        auto module = loader_.load(manifest.library, manifest.sha256);
        if (!module) return report(manifest, manifest.line, module.error().detail);
        auto component = find_component(manifest, *module.value());
        if (!component) return report(manifest, manifest.line, component.error().detail);
        if (all_at_once_)
            check_use(manifest, component.value()->type);
        else
            check_description(manifest, *component.value());
        const ConfigResult config =
            manifest.destination
                ? Destinations::check_operators_part(manifest, *component.value(), secret_)
                : complete_config(manifest.config_json, component.value()->config_schema, secret_);
        for (const auto& [pointer, message] : config.errors) {
            ManifestError error{manifest.file, manifest.config_line_of(pointer), pointer, message};
            errors_ += error.text() + "\n";
        }
    }

    /// What a node would serve all the same, saying so in its log: it costs a description only.
    void check_description(const Manifest& manifest, const annal_component& component) {
        const auto text = read_route_descriptions(route_text(component));
        if (!text) {
            return report(
                manifest,
                manifest.line,
                "the component's description of its routes can't be used: " + text.error().detail
            );
        }
        if (text.value().operations.empty()) return;  // it describes none
        for (const HttpTrigger& trigger : manifest.http) {
            if (text.value().operations.contains(trigger.name)) continue;
            std::string described;
            for (const auto& one : text.value().operations)
                described += (described.empty() ? "" : ", ") + std::string(one.key());
            report(
                manifest,
                trigger.line,
                "the component describes no route of the trigger " + trigger.name +
                    ", but those of " + described
            );
        }
    }

    /// What a node that serves this manifest beside the others would refuse.
    void check_use(const Manifest& manifest, std::string_view type) {
        if (manifest.destination && type != ANNAL_COMPONENT_SINK)
            report(manifest, manifest.destination->line, "only a sink can be a destination");
        if (type == ANNAL_COMPONENT_JOB && manifest.schedules.empty())
            report(manifest, manifest.line, Jobs::no_schedule().detail);
        if (type != ANNAL_COMPONENT_HTTP) return;
        for (const HttpTrigger& trigger : manifest.http) {
            const std::string owner = manifest.instance + " (" + manifest.file.string() + ":" +
                                      std::to_string(trigger.line) + ")";
            http::Route route{
                trigger.methods, trigger.route, trigger.scope, trigger.name, owner, handler_};
            const auto added = router_.add(std::move(route));
            if (!added) report(manifest, trigger.line, added.error().detail);
        }
    }

    Loader loader_;
    const SecretLookup& secret_;
    bool all_at_once_;
    http::Router router_;
    std::shared_ptr<http::Handler> handler_ = std::make_shared<NoHandler>();
    std::string errors_;
};

class ConfigurationCheck {
public:
    explicit ConfigurationCheck(SettingsReading reading, const Environment& environment)
        : settings_(std::move(reading.settings)),
          secret_(make_secret_lookup(settings_.data_dir, environment)) {
        report_.errors = std::move(reading.errors);
    }

    ConfigurationReport report() && {
        check_addresses();
        check_tls();
        check_data();
        check_key_ring();
        if (settings_.shares_store() && !settings_.postgres.url.empty()) check_postgres();
        check_plugins();
        return std::move(report_);
    }

private:
    void fail(const std::string& message) { report_.errors += message + "\n"; }
    void say(const std::string& line) { report_.summary += line + "\n"; }

    void check_addresses() {
        http::ServerOptions options;
        options.listen = settings_.listen;
        if (const auto checked = http::check(options); !checked)
            fail("listen: " + checked.error().detail);
        options.listen.clear();
        options.unix_socket = settings_.unix_socket();
        if (const auto checked = http::check(options); !checked)
            fail("data_dir: " + checked.error().detail);
        say("listens on " + settings_.listen + " and " + settings_.unix_socket().string());
    }

    void check_tls() {
        const http::TlsOptions& tls = settings_.tls;
        if (tls.certificate_file.empty() || tls.key_file.empty()) return say("TLS: none");
        Metrics unused;
        const auto loaded = http::TlsIdentity::load(tls, unused);
        if (!loaded) return fail(loaded.error().detail);
        say("TLS: " + tls.certificate_file.string() + ", good until " +
            format_time(loaded.value()->expires_s() * kSecondUs));
    }

    void check_data() {
        for (const std::string& error : precheck_sqlite_store(settings_.data_dir))
            fail("data_dir: " + error);
        std::error_code ignored;
        const bool there = std::filesystem::exists(settings_.data_dir, ignored);
        say("data in " + settings_.data_dir.string() + (there ? "" : ", to be made"));
    }

    void check_key_ring() {
        const auto ring = KeyRing::open(settings_.master_key_file, false);
        const bool absent = !ring && ring.error().code == Errc::not_found;
        const bool may_be_absent = !settings_.shares_store();
        if (!ring && !(absent && may_be_absent))
            return fail(
                "master_key_file: " + ring.error().detail +
                (absent ? "; a database's nodes share one, which is never made silently" : "")
            );
        say("key ring " + settings_.master_key_file.string() + (absent ? ", to be made" : ""));
    }

    /// That it can't be reached is no error of the configuration: a node waits for it.
    void check_postgres() {
        const auto looked = migrate_postgres(settings_.postgres, true);
        const bool unreached = !looked && looked.error().code != Errc::conflict;
        if (unreached) return say("PostgreSQL, not reached now: " + looked.error().detail);
        if (!looked) return fail("postgres.url: " + looked.error().detail);
        const std::size_t missing = looked.value().missing.size();
        if (missing > 0 && !settings_.postgres.migrate)
            return fail(
                "postgres.migrate: is false and the database lacks " +
                looked.value().missing.front() + ": run `annal migrate`"
            );
        say("PostgreSQL, " + (missing == 0 ? "version " + std::to_string(looked.value().version)
                                           : std::to_string(missing) + " migrations to be applied")
        );
    }

    void check_plugins() {
        const ManifestSet set = read_manifests(settings_.manifests);
        report_.errors += ManifestCheck(settings_, secret_, true).errors(set);
        std::size_t routes = 0, streams = 0;
        std::set<std::string> libraries;
        for (const Manifest& manifest : set.manifests) {
            routes += manifest.http.size();
            streams += manifest.events.size();
            libraries.insert(manifest.library);
        }
        say(std::to_string(set.manifests.size()) + " instances of " +
            std::to_string(libraries.size()) + " libraries, " + std::to_string(routes) +
            " routes, " + std::to_string(streams) + " streams");
        for (const Manifest& manifest : set.manifests)
            say("  " + manifest.instance + " (" + manifest.library + ")");
    }

    NodeSettings settings_;
    SecretLookup secret_;
    ConfigurationReport report_;
};

}  // namespace

std::string check_manifests(
    const ManifestSet& manifests, const NodeSettings& settings, const SecretLookup& secret
) {
    return ManifestCheck(settings, secret, false).errors(manifests);
}

ConfigurationReport check_configuration(
    const std::filesystem::path& file, const Environment& environment
) {
    return ConfigurationCheck(try_node_settings(file, environment), environment).report();
}

}  // namespace annal
