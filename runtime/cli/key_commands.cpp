#include <boost/json.hpp>

#include "runtime/cli/collection.h"
#include "runtime/cli/commands.h"

namespace annal::cli {

namespace json = boost::json;
namespace {

constexpr Collection kKeys("/v1/api-keys");

}  // namespace

int keys_create(const Arguments& arguments) {
    json::object body;
    body["name"] = arguments.name;
    body["scopes"] = json::array(arguments.scopes.begin(), arguments.scopes.end());
    body["project_id"] = arguments.project;
    if (!arguments.expires_at.empty()) body["expires_at"] = arguments.expires_at;
    return kKeys.create(arguments, body);
}

int keys_list(const Arguments& arguments) {
    return kKeys.list(arguments);
}
int keys_revoke(const Arguments& arguments) {
    return kKeys.revoke(arguments);
}

}  // namespace annal::cli
