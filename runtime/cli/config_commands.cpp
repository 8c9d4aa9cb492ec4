#include "runtime/cli/commands.h"

#include <boost/json.hpp>

#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

namespace {

/// The project that was named, or the one there is. @error Errc::invalid  There are several, or
/// none; those there are are named.
Result<std::string> project_of(const Node& node, const Arguments& arguments) {
    if (!arguments.project.empty()) return arguments.project;
    LocalClient::Call call;
    call.target = "/v1/projects";
    BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
    const json::array& projects = answer.at("data").get_array();
    if (projects.size() == 1) return std::string(projects.front().at("id").as_string());
    std::string names;
    for (const json::value& project : projects) {
        names += (names.empty() ? ": " : ", ") + std::string(project.at("id").as_string());
    }
    return Error{
        Errc::invalid,
        "name the project, with --project or ANNAL_PROJECT: there are " +
            std::to_string(projects.size()) + names};
}

}  // namespace

int config_get(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.target = "/v1/config/" + percent_encode(arguments.key);
        BOOST_OUTCOME_TRY(call.project, project_of(node, arguments));
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

namespace {

/// A value that is not JSON by itself is taken for a string: `--value strict` as well as `--value
/// 365`.
std::string as_json(const std::string& value) {
    boost::system::error_code error;
    (void)json::parse(value, error);  // only whether it parses matters
    return error ? json::serialize(json::value(value)) : value;
}

}  // namespace

int config_set(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.method = "PUT";
        call.target = "/v1/config/" + percent_encode(arguments.key);
        BOOST_OUTCOME_TRY(call.project, project_of(node, arguments));
        call.content_type = "application/json";
        call.body = as_json(arguments.value);
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

}  // namespace annal::cli
