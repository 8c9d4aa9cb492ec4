#include <boost/json.hpp>

#include "runtime/cli/collection.h"
#include "runtime/cli/commands.h"

namespace annal::cli {
namespace {

constexpr Collection kErasures("/v1/audit/erasures");

}  // namespace

int erasures_create(const Arguments& arguments) {
    boost::json::object body;
    body["user_id"] = arguments.user_id;
    return kErasures.create(arguments, body);
}
int erasures_list(const Arguments& arguments) {
    return kErasures.list_pages(arguments, "");
}
int erasures_show(const Arguments& arguments) {
    return kErasures.get(arguments);
}

}  // namespace annal::cli
