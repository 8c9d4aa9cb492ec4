#include "runtime/cli/command_line.h"

#include <CLI/CLI.hpp>

#include "runtime/cli/commands.h"
#include "runtime/core/version.h"

namespace annal {
namespace {

using namespace cli;

using Command = int (*)(const Arguments&);

struct Grammar {
    explicit Grammar(Arguments& arguments) : a(arguments) {}

    CLI::App* add(CLI::App& parent, const char* name, const char* help, Command command) {
        CLI::App* sub = parent.add_subcommand(name, help);
        sub->add_option("--config", a.config, "Settings file (annal.yaml)")
            ->check(CLI::ExistingFile);
        sub->callback([this, command] { chosen = command; });
        return sub;
    }
    void need_project(CLI::App* sub) {
        sub->add_option("--project", a.project, "Project id")->required()->envname("ANNAL_PROJECT");
    }
    /// Where a log with one project needs no name.
    void may_name_project(CLI::App* sub) {
        sub->add_option("--project", a.project, "Project id; default: the only one there is")
            ->envname("ANNAL_PROJECT");
    }
    static CLI::App* group(CLI::App& parent, const char* name, const char* help) {
        CLI::App* sub = parent.add_subcommand(name, help);
        sub->require_subcommand(1);
        return sub;
    }

    /// A command about one object of a project.
    /// @param id  how such an id looks
    CLI::App* add_about(
        CLI::App& parent, const char* id, const char* name, const char* help, Command command
    ) {
        CLI::App* sub = add(parent, name, help, command);
        need_project(sub);
        sub->add_option("id", a.id, id)->required();
        return sub;
    }
    CLI::App* add_to_stream(CLI::App& parent, const char* name, const char* help, Command command) {
        return add_about(parent, "aud_…", name, help, command);
    }
    CLI::App* add_to_endpoint(
        CLI::App& parent, const char* name, const char* help, Command command
    ) {
        return add_about(parent, "web_…", name, help, command);
    }

    void define(CLI::App& app);
    void define_streams(CLI::App& app);
    void define_webhooks(CLI::App& app);
    void define_erasures(CLI::App& app);

    Arguments& a;
    Command chosen = nullptr;
};

void Grammar::define_streams(CLI::App& app) {
    CLI::App* streams = group(app, "streams", "Ordered streams of events to destinations");
    CLI::App* create = add(*streams, "create", "Make a stream", streams_create);
    need_project(create);
    create->add_option("--name", a.name, "What it is for")->required();
    create->add_option("--destination", a.destination, "file, generic_webhook, …")->required();
    create->add_option("--start", a.start, "latest, earliest, seq:17, time:2026-05-14T00:00:00Z");
    create->add_flag("--probe", a.probe, "Only if the destination answers");
    need_project(add(*streams, "list", "List streams, oldest first", streams_list));
    add_to_stream(*streams, "get", "Show a stream", streams_get);
    CLI::App* change = add_to_stream(*streams, "change", "Change a stream", streams_change);
    change->add_option("--name", a.name, "What it is for");
    for (CLI::App* sub : {create, change}) {
        sub->add_option("--set", a.values, "key=value of its configuration; repeatable");
        sub->add_option("--events", a.filters, "Patterns, separated by commas")->delimiter(',');
        sub->add_option("--on-poison", a.on_poison, "dead_letter or block");
        sub->add_option("--format", a.stream_format, "jsonl, csv, …; none: the destination's own");
    }
    add_to_stream(*streams, "pause", "Send nothing more for now", streams_pause);
    add_to_stream(*streams, "resume", "Go on", streams_resume);
    add_to_stream(
        *streams,
        "probe",
        "Ask the destination; a failed stream goes on if it answers",
        streams_probe
    );
    add_to_stream(*streams, "revoke", "End a stream for good", streams_revoke);
    CLI::App* replay = add_to_stream(*streams, "replay", "Send a range again", streams_replay);
    replay->add_option("--from", a.from_seq, "First seq")->required();
    replay->add_option("--to", a.to_seq, "Last seq")->required();
    add_to_stream(*streams, "dead-letters", "List what was put aside", streams_dead_letters);
    CLI::App* redrive =
        add_to_stream(*streams, "redrive", "Send dead letters again", streams_redrive);
    redrive->add_option("--seqs", a.seqs, "Seqs, separated by commas; default: all")
        ->delimiter(',');
}

void Grammar::define_erasures(CLI::App& app) {
    CLI::App* erasures = group(app, "erasures", "Erasure of a person's data from a project");
    CLI::App* create = add(*erasures, "create", "Erase what is personal", erasures_create);
    need_project(create);
    create->add_option("--user-id", a.user_id, "Whose data")->required();
    need_project(add(*erasures, "list", "List erasures, newest first", erasures_list));
    add_about(*erasures, "era_…", "show", "Show how far an erasure has come", erasures_show);
}

void Grammar::define_webhooks(CLI::App& app) {
    CLI::App* webhooks = group(app, "webhooks", "Webhook endpoints, and what is delivered to them");
    CLI::App* create =
        add(*webhooks, "create", "Make an endpoint and show its secret once", webhooks_create);
    need_project(create);
    need_project(add(*webhooks, "list", "List endpoints, oldest first", webhooks_list));
    add_to_endpoint(*webhooks, "get", "Show an endpoint, with its recovery", webhooks_get);
    CLI::App* change = add_to_endpoint(*webhooks, "change", "Change an endpoint", webhooks_change);
    for (CLI::App* sub : {create, change}) {
        const bool needed = sub == create;
        sub->add_option("--url", a.url, "Where to send to")->required(needed);
        sub->add_option("--events", a.filters, "Patterns, separated by commas")
            ->required(needed)
            ->delimiter(',');
        sub->add_option("--description", a.description, "What it is for");
        sub->add_option("--signature-scheme", a.signature_scheme, "authio or timestamped");
    }
    add_to_endpoint(*webhooks, "enable", "Go on, with what was pending, too", webhooks_enable);
    add_to_endpoint(*webhooks, "disable", "Send nothing more for now", webhooks_disable);
    add_to_endpoint(*webhooks, "revoke", "End an endpoint for good", webhooks_revoke);
    CLI::App* rotate = add_to_endpoint(
        *webhooks,
        "rotate-secret",
        "Give it a new secret and show that once",
        webhooks_rotate_secret
    );
    rotate->add_option(
        "--grace-seconds",
        a.grace_seconds,
        "How long the old one signs as well, at most 604800; default: no longer"
    );
    add_to_endpoint(*webhooks, "test", "Send it webhook.endpoint.tested", webhooks_test);
    CLI::App* recover =
        add_to_endpoint(*webhooks, "recover", "Send what it lacks", webhooks_recover);
    recover->add_option("--since", a.since, "ISO 8601 time")->required();

    CLI::App* deliveries =
        add(*webhooks, "deliveries", "List deliveries, newest event first", webhooks_deliveries);
    need_project(deliveries);
    deliveries->add_option("--endpoint", a.endpoint, "web_…");
    deliveries->add_option("--status", a.status, "pending, delivered or failed");
    deliveries->add_option("--event-id", a.event_id, "evt_…");
    deliveries->add_option("--limit", a.limit, "At most so many; default: all")
        ->check(CLI::Range(std::int64_t{1}, INT64_MAX));
    add_about(
        *webhooks, "del_…", "delivery", "Show a delivery with its attempts", webhooks_delivery
    );
    add_about(*webhooks, "del_…", "replay", "Send a delivery again, now", webhooks_replay);
}

void Grammar::define(CLI::App& app) {
    app.require_subcommand(1);
    app.set_version_flag("--version", "annal " + std::string(version()));
    CLI::App* serve_command = add(app, "serve", "Run the server until SIGTERM", serve);
    serve_command->add_flag(
        "--check", a.check, "Only check the configuration, say what would be served, and end"
    );
    CLI::App* migrate_command =
        add(app, "migrate", "Bring the store up to this program's schema", migrate);
    migrate_command->add_flag("--check", a.check, "Only say what is missing");

    CLI::App* keys = group(app, "keys", "API keys");
    CLI::App* create = add(*keys, "create", "Make a key and show its secret once", keys_create);
    need_project(create);
    create->add_option("--name", a.name, "What it is for")->required();
    create->add_option("--scopes", a.scopes, "Scopes, separated by commas")
        ->required()
        ->delimiter(',');
    create->add_option("--expires-at", a.expires_at, "ISO 8601 time");
    need_project(add(*keys, "list", "List keys, newest first", keys_list));
    CLI::App* revoke = add(*keys, "revoke", "Shut a key off", keys_revoke);
    need_project(revoke);
    revoke->add_option("id", a.id, "apikey_…")->required();

    CLI::App* config = group(app, "config", "Settings of a project");
    CLI::App* get = add(*config, "get", "Show a setting", config_get);
    CLI::App* set = add(*config, "set", "Change a setting", config_set);
    for (CLI::App* sub : {get, set}) {
        may_name_project(sub);
        sub->add_option("--key", a.key, "audit_retention_days, catalog, …")->required();
    }
    set->add_option("--value", a.value, "365, strict, null, …")->required();

    CLI::App* secrets = group(app, "secrets", "Master keys");
    CLI::App* new_key = secrets->add_subcommand(
        "new-key", "Make a master key and show it: the line of a key ring file"
    );
    new_key->add_option("--id", a.key_id, "Its name, another one than the ring's other keys have")
        ->capture_default_str();
    new_key->callback([this] { chosen = secrets_new_key; });
    CLI::App* rekey =
        add(*secrets,
            "rekey",
            "Seal every stored secret anew under the first key of the ring",
            secrets_rekey);
    rekey->add_flag("--dry-run", a.dry_run, "Only count");

    CLI::App* jobs = group(app, "jobs", "Scheduled work");
    add(*jobs, "list", "List schedules and how their last runs went", jobs_list);
    CLI::App* retention = group(app, "retention", "How long events stay");
    CLI::App* run = add(
        *retention, "run", "Take away what has outlived its time, now, and say what", retention_run
    );
    run->add_flag("--dry-run", a.dry_run, "Only say what would go");

    CLI::App* plugins = group(app, "plugins", "Plugins and their manifests");
    add(*plugins, "list", "List the instances of the node", plugins_list);
    CLI::App* validate_command =
        add(*plugins, "validate", "Check manifests without starting them", plugins_validate);
    validate_command->add_option(
        "paths", a.paths, "Files or folders; default: the configured ones"
    );

    define_streams(app);
    define_webhooks(app);
    define_erasures(app);

    CLI::App* export_command =
        add(app, "export", "Write events to a file or to standard output", export_events);
    need_project(export_command);
    export_command->add_option("--format", a.format, "csv, jsonl, or another format plugin")
        ->capture_default_str();
    export_command->add_option("--output,-o", a.output, "File; default: standard output");
    export_command->add_option("--filter", a.filters, "name=value as in the REST API; repeatable");
    auto* resume = export_command->add_flag(
        "--resume", a.resume, "Go on where an interrupted export to the same file stopped"
    );
    export_command->add_flag("--overwrite", a.overwrite, "Start anew, whatever was left there")
        ->excludes(resume);
    export_command->add_flag("--no-progress", a.no_progress, "No progress on a terminal");

    CLI::App* tail = add(app, "tail", "Print events as they come in, until Ctrl-C", tail_events);
    need_project(tail);
    tail->add_option("--filter", a.filters, "name=value as in the REST API; repeatable");
    tail->add_option("--after", a.after, "Begin behind this seq (-1: all) instead of now")
        ->check(CLI::Range(std::int64_t{-1}, INT64_MAX));
    tail->add_option("--format", a.tail_format, "Default: line on a terminal, else jsonl")
        ->check(CLI::IsMember({"line", "jsonl"}));

    CLI::App* samples =
        add(app, "load-samples", "Store the sample events in a project of their own", load_samples);
    samples->add_option("--file", a.file, "NDJSON; default: the file shipped with the program");

    CLI::App* backup =
        add(app, "backup", "Copy all that is stored, also of a running server", back_up);
    backup->add_option("--output,-o", a.output, "Folder to make")->required();
    backup->add_option("--data-dir", a.data_dir, "Data directory; default: the configured one");
    backup->add_flag("--without-keyring", a.without_keyring, "Leave the master key out");

    CLI::App* check = add(app, "check", "Verify everything in the data directory", check_data);
    check->add_option(
        "--data-dir", a.data_dir, "Data directory or backup; default: the configured one"
    );
    check->add_flag("--json", a.json, "One JSON object instead of lines");

    CLI::App* clock = group(app, "clock", "The node's wall clock");
    add(*clock, "confirm", "Accept a wall clock that jumped forward", confirm_clock);
}

}  // namespace

int run_command_line(int argc, char** argv) {
    CLI::App app("Annal: a self-hosted audit log");
    Arguments arguments;
    Grammar grammar(arguments);
    grammar.define(app);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        return app.exit(e) == 0 ? kDone : kBadInput;
    }
    return grammar.chosen(arguments);
}

}  // namespace annal
