#include "runtime/cli/commands.h"

#include <boost/json.hpp>
#include <iostream>

#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;

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

}  // namespace annal::cli
