#include "runtime/cli/commands.h"

#include <boost/json.hpp>
#include <cstring>
#include <fstream>
#include <iostream>

#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

namespace {

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

}  // namespace

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

}  // namespace annal::cli
