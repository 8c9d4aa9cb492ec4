#include "runtime/app/command_line.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "runtime/app/local_client.h"
#include "runtime/app/node_settings.h"
#include "runtime/app/runtime.h"
#include "runtime/plugin/instance.h"
#include "runtime/plugin/loader.h"

namespace annal {
namespace {

namespace json = boost::json;

constexpr int kDone = 0, kFailed = 1, kBadInput = 2;

int fail(const Error& error, int code = kFailed) {
    std::cerr << "annal: " << error.detail << "\n";
    return code;
}

std::string percent_encode(std::string_view text) {
    static const char* digits = "0123456789ABCDEF";
    std::string out;
    for (const unsigned char c : text) {
        if (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~') {
            out += static_cast<char>(c);
        } else {
            out += {'%', digits[c >> 4U], digits[c & 15U]};
        }
    }
    return out;
}

/// A node to talk to: the one that runs, or one of this process's own for as long as the command
/// lasts.
class Node {
public:
    static Result<std::unique_ptr<Node>> reach(const NodeSettings& settings) {
        auto node = std::unique_ptr<Node>(new Node(settings));
        if (node->client_.is_up()) return node;
        NodeSettings quiet = settings;
        quiet.log_level = log::Level::warn;
        node->own_ = std::make_unique<Runtime>(std::move(quiet), Runtime::Role{false, false});
        BOOST_OUTCOME_TRYV(node->own_->start());
        return node;
    }

    /// @error of the answer when it is not 2xx, in the node's own words.
    [[nodiscard]] Result<LocalClient::Answer> send(const LocalClient::Call& call) const {
        BOOST_OUTCOME_TRY(LocalClient::Answer answer, client_.send(call));
        if (answer.status / 100 == 2) return answer;
        return Error{Errc::unprocessable, describe(answer)};
    }

    [[nodiscard]] Result<json::value> ask(const LocalClient::Call& call) const {
        BOOST_OUTCOME_TRY(const LocalClient::Answer answer, send(call));
        boost::system::error_code error;
        json::value value = answer.body.empty() ? json::value() : json::parse(answer.body, error);
        if (error) return Error{Errc::internal, "the node's answer is not JSON"};
        return value;
    }

private:
    explicit Node(const NodeSettings& settings) : client_(settings.unix_socket()) {}

    static std::string describe(const LocalClient::Answer& answer) {
        boost::system::error_code error;
        const json::value value = json::parse(answer.body, error);
        if (error || !value.is_object())
            return "the node answered " + std::to_string(answer.status);
        const json::object& problem = value.get_object();
        std::string text;
        for (const char* key : {"title", "detail"})
            if (const json::value* part = problem.if_contains(key); part && part->is_string())
                text += (text.empty() ? "" : ": ") + std::string(part->get_string().c_str());
        if (const json::value* issues = problem.if_contains("errors"); issues && issues->is_array())
            for (const json::value& issue : issues->get_array())
                text += "\n  " + json::serialize(issue);
        return text.empty() ? "the node answered " + std::to_string(answer.status) : text;
    }

    LocalClient client_;
    std::unique_ptr<Runtime> own_;
};

/// Arguments of all commands; each command reads its own.
struct Arguments {
    std::string config, project, name, id, key, value, format = "jsonl", output, file;
    std::vector<std::string> scopes, filters, paths;
    std::string expires_at;
    bool check = false;
};

Result<NodeSettings> settings_of(const Arguments& arguments) {
    return read_node_settings(arguments.config, process_environment());
}

int print(const json::value& value) {
    std::cout << json::serialize(value) << "\n";
    return kDone;
}

/// Runs `use` with a node; what it fails with is printed.
template <class Use>
int with_node(const Arguments& arguments, Use use) {
    auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    auto node = Node::reach(settings.value());
    if (!node) return fail(node.error());
    Result<int> code = use(*node.value());
    return code ? code.value() : fail(code.error());
}

// --- serve, migrate

int serve(const Arguments& arguments) {
    auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    Runtime runtime(std::move(settings.value()), Runtime::Role{});
    auto started = runtime.start();
    if (!started)
        return fail(started.error(), started.error().code == Errc::invalid ? kBadInput : kFailed);
    std::cout << "listening on " << runtime.address() << std::endl;
    runtime.wait_for_signal();
    runtime.stop();
    return kDone;
}

/// Opening the store brings its schema up to date; a command's own runtime does just that.
int migrate(const Arguments& arguments) {
    return with_node(arguments, [](Node&) -> Result<int> {
        std::cout << "the store is at this program's schema\n";
        return kDone;
    });
}

// --- keys

int keys_create(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        json::object body;
        body["name"] = arguments.name;
        body["scopes"] = json::array(arguments.scopes.begin(), arguments.scopes.end());
        body["project_id"] = arguments.project;
        if (!arguments.expires_at.empty()) body["expires_at"] = arguments.expires_at;
        LocalClient::Call call;
        call.method = "POST";
        call.target = "/v1/api-keys";
        call.project = arguments.project;
        call.content_type = "application/json";
        call.body = json::serialize(body);
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

int keys_list(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.target = "/v1/api-keys";
        call.project = arguments.project;
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        for (const json::value& key : answer.at("data").get_array()) print(key);
        return kDone;
    });
}

int keys_revoke(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.method = "DELETE";
        call.target = "/v1/api-keys/" + percent_encode(arguments.id);
        call.project = arguments.project;
        BOOST_OUTCOME_TRYV(node.send(call));
        std::cout << "revoked " << arguments.id << "\n";
        return kDone;
    });
}

// --- config

int config_get(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.target = "/v1/config/" + percent_encode(arguments.key);
        call.project = arguments.project;
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

/// A value that is not JSON by itself is taken for a string: `--value strict` as well as `--value
/// 365`.
std::string as_json(const std::string& value) {
    boost::system::error_code error;
    (void)json::parse(value, error);  // only whether it parses matters
    return error ? json::serialize(json::value(value)) : value;
}

int config_set(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.method = "PUT";
        call.target = "/v1/config/" + percent_encode(arguments.key);
        call.project = arguments.project;
        call.content_type = "application/json";
        call.body = as_json(arguments.value);
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

// --- plugins

int plugins_list(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.target = "/v1/plugins";
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        for (const json::value& plugin : answer.at("data").get_array()) print(plugin);
        return kDone;
    });
}

/// Everything that can be checked without running a component's code; every error of every file.
std::string validate(const ManifestSet& set, const NodeSettings& settings) {
    std::string errors;
    for (const ManifestError& error : set.errors) errors += error.text() + "\n";
    Loader loader(settings.plugins);
    for (const Manifest& manifest : set.manifests) {
        const std::string where =
            manifest.file.string() + ":" + std::to_string(manifest.line) + ": ";
        auto module = loader.load(manifest.library, manifest.sha256);
        if (!module) {
            errors += where + module.error().detail + "\n";
            continue;
        }
        auto component = find_component(manifest, *module.value());
        if (!component) {
            errors += where + component.error().detail + "\n";
            continue;
        }
        // A secret need not be there yet: whether the rest fits can be told without it.
        const auto any_secret = [](const std::string&) {
            return std::optional<std::string>("secret");
        };
        const ConfigResult config =
            complete_config(manifest.config_json, component.value()->config_schema, any_secret);
        for (const auto& [pointer, message] : config.errors) {
            ManifestError error{manifest.file, manifest.config_line_of(pointer), pointer, message};
            errors += error.text() + "\n";
        }
    }
    return errors;
}

int plugins_validate(const Arguments& arguments) {
    auto settings = settings_of(arguments);
    if (!settings) return fail(settings.error(), kBadInput);
    std::vector<std::filesystem::path> paths(arguments.paths.begin(), arguments.paths.end());
    if (paths.empty()) paths = settings.value().manifests;
    const ManifestSet set = read_manifests(paths);
    const std::string errors = validate(set, settings.value());
    std::cerr << errors;
    if (!errors.empty()) return kBadInput;
    std::cout << set.manifests.size() << " manifests are valid\n";
    return kDone;
}

// --- export

Result<std::string> export_query(const std::vector<std::string>& filters) {
    std::string query;
    for (const std::string& filter : filters) {
        const std::size_t equals = filter.find('=');
        if (equals == std::string::npos || equals == 0)
            return Error{
                Errc::invalid,
                "`" + filter + "` is not a filter: write name=value, like type=auth.*"};
        query += (query.empty() ? "?" : "&") + percent_encode(filter.substr(0, equals)) + "=" +
                 percent_encode(filter.substr(equals + 1));
    }
    return query;
}

/// Where an export goes: a file that appears under its name only when it is whole, or standard
/// output.
class Output {
public:
    static Result<Output> open(const std::string& path) {
        Output output;
        if (path.empty() || path == "-") {
            output.stream_ = stdout;
            return output;
        }
        output.path_ = path;
        output.stream_ = std::fopen(output.partial().c_str(), "wb");
        if (!output.stream_)
            return Error{
                Errc::unavailable, "can't write " + output.partial() + ": " + std::strerror(errno)};
        return output;
    }
    bool write(std::string_view bytes) {
        return std::fwrite(bytes.data(), 1, bytes.size(), stream_) == bytes.size();
    }
    Result<void> close() {
        const bool flushed =
            std::fflush(stream_) == 0 && (path_.empty() || ::fsync(::fileno(stream_)) == 0);
        if (!flushed)
            return Error{
                Errc::unavailable, std::string("can't write the export: ") + std::strerror(errno)};
        if (path_.empty()) return ok();
        std::fclose(stream_);
        if (std::rename(partial().c_str(), path_.c_str()) != 0)
            return Error{
                Errc::unavailable, "can't rename " + partial() + ": " + std::strerror(errno)};
        return ok();
    }

private:
    [[nodiscard]] std::string partial() const { return path_ + ".partial"; }
    std::string path_;
    std::FILE* stream_ = nullptr;
};

std::string header_or_trailer(const LocalClient::Answer& answer, const char* name) {
    for (const auto* fields : {&answer.headers, &answer.trailers})
        if (auto found = fields->find(name); found != fields->end()) return found->second;
    return {};
}

/// Goes on with the cursor until the answer is not cut any more, so that one command writes
/// everything.
Result<int> export_all(Node& node, const Arguments& arguments) {
    BOOST_OUTCOME_TRY(const std::string query, export_query(arguments.filters));
    BOOST_OUTCOME_TRY(Output output, Output::open(arguments.output));
    std::string cursor;
    do {
        LocalClient::Call call;
        call.target = "/v1/audit/events." + percent_encode(arguments.format) + query;
        if (!cursor.empty()) call.target += (query.empty() ? "?cursor=" : "&cursor=") + cursor;
        call.project = arguments.project;
        bool header_passed =
            cursor.empty() || arguments.format != "csv";  // one header row in a joined CSV
        call.on_body = [&](std::string_view piece) {
            if (!header_passed) {
                const std::size_t end = piece.find('\n');
                if (end == std::string_view::npos) return true;
                piece.remove_prefix(end + 1);
                header_passed = true;
            }
            return output.write(piece);
        };
        BOOST_OUTCOME_TRY(const LocalClient::Answer answer, node.send(call));
        cursor = header_or_trailer(answer, "annal-next-cursor");
    } while (!cursor.empty());
    BOOST_OUTCOME_TRYV(output.close());
    return kDone;
}

int export_events(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) { return export_all(node, arguments); });
}

// --- load-samples

Result<std::string> read_file(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in)
        return Error{Errc::not_found, "can't read " + path.string() + ": " + std::strerror(errno)};
    return std::string((std::istreambuf_iterator<char>(in)), {});
}

/// The project that the samples name in their own lines.
Result<std::string> sample_project(const std::string& ndjson) {
    const std::string line = ndjson.substr(0, ndjson.find('\n'));
    boost::system::error_code error;
    const json::value first = json::parse(line, error);
    const json::value* project =
        !error && first.is_object() ? first.get_object().if_contains("project_id") : nullptr;
    if (!project || !project->is_string())
        return Error{Errc::invalid, "the first line of the samples names no project_id"};
    return std::string(project->get_string().c_str());
}

Result<int> load(Node& node, const std::filesystem::path& file) {
    BOOST_OUTCOME_TRY(const std::string events, read_file(file));
    BOOST_OUTCOME_TRY(const std::string project, sample_project(events));
    LocalClient::Call create;
    create.method = "POST";
    create.target = "/v1/projects";
    create.content_type = "application/json";
    create.body = json::serialize(json::object{{"id", project}, {"name", "Samples"}});
    auto created = node.send(create);
    const bool exists =
        !created && created.error().detail.find("exists already") != std::string::npos;
    if (!created && !exists) return created.error();
    LocalClient::Call post;
    post.method = "POST";
    post.target = "/v1/audit/events";
    post.project = project;
    post.content_type = "application/x-ndjson";
    post.headers["Idempotency-Key"] = "load-samples";  // loading twice stores once
    post.body = events;
    BOOST_OUTCOME_TRY(const json::value answer, node.ask(post));
    std::cout << answer.at("data").get_array().size() << " sample events are in project " << project
              << "\n";
    return kDone;
}

int load_samples(const Arguments& arguments) {
    std::filesystem::path file = arguments.file;
    if (file.empty()) {
        const auto here = program_folder();
        file = here / "examples/events/authio.ndjson";
        if (!std::filesystem::exists(file))
            file = here / "../share/annal/examples/events/authio.ndjson";
    }
    return with_node(arguments, [&](Node& node) { return load(node, file); });
}

int confirm_clock(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.method = "POST";
        call.target = "/v1/clock/confirm";
        BOOST_OUTCOME_TRYV(node.send(call));
        std::cout << "the wall clock is taken for right\n";
        return kDone;
    });
}

// --- The grammar of the command line

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
    static CLI::App* group(CLI::App& parent, const char* name, const char* help) {
        CLI::App* sub = parent.add_subcommand(name, help);
        sub->require_subcommand(1);
        return sub;
    }

    void define(CLI::App& app);

    Arguments& a;
    Command chosen = nullptr;
};

void Grammar::define(CLI::App& app) {
    app.require_subcommand(1);
    app.set_version_flag("--version", "annal 0.1.0");
    add(app, "serve", "Run the server until SIGTERM", serve);
    add(app, "migrate", "Bring the store up to this program's schema", migrate);

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
        need_project(sub);
        sub->add_option("--key", a.key, "audit_retention_days, catalog, …")->required();
    }
    set->add_option("--value", a.value, "365, strict, null, …")->required();

    CLI::App* plugins = group(app, "plugins", "Plugins and their manifests");
    add(*plugins, "list", "List the instances of the node", plugins_list);
    CLI::App* validate_command =
        add(*plugins, "validate", "Check manifests without starting them", plugins_validate);
    validate_command->add_option(
        "paths", a.paths, "Files or folders; default: the configured ones"
    );

    CLI::App* export_command =
        add(app, "export", "Write events to a file or to standard output", export_events);
    need_project(export_command);
    export_command->add_option("--format", a.format, "csv, jsonl, or another format plugin")
        ->capture_default_str();
    export_command->add_option("--output,-o", a.output, "File; default: standard output");
    export_command->add_option("--filter", a.filters, "name=value as in the REST API; repeatable");

    CLI::App* samples =
        add(app, "load-samples", "Store the sample events in a project of their own", load_samples);
    samples->add_option("--file", a.file, "NDJSON; default: the file shipped with the program");

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
