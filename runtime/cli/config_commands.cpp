#include "runtime/cli/commands.h"

#include <boost/json.hpp>

#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

int config_get(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        LocalClient::Call call;
        call.target = "/v1/config/" + percent_encode(arguments.key);
        call.project = arguments.project;
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
        call.project = arguments.project;
        call.content_type = "application/json";
        call.body = as_json(arguments.value);
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

}  // namespace annal::cli
