#include <boost/json.hpp>

#include "runtime/cli/collection.h"
#include "runtime/cli/commands.h"

namespace annal::cli {

namespace json = boost::json;
namespace {

constexpr Collection kEndpoints("/v1/webhooks/endpoints"), kDeliveries("/v1/webhooks/deliveries");

json::object body_of(const Arguments& arguments) {
    json::object body;
    if (arguments.url) body["url"] = *arguments.url;
    if (!arguments.filters.empty())
        body["events"] = json::array(arguments.filters.begin(), arguments.filters.end());
    if (arguments.description) body["description"] = *arguments.description;
    if (arguments.signature_scheme) body["signature_scheme"] = *arguments.signature_scheme;
    return body;
}

int set_status(const Arguments& arguments, const char* status) {
    json::object body;
    body["status"] = status;
    return kEndpoints.change(arguments, body);
}

}  // namespace

int webhooks_create(const Arguments& arguments) {
    return kEndpoints.create(arguments, body_of(arguments));
}
int webhooks_list(const Arguments& arguments) {
    return kEndpoints.list(arguments);
}
int webhooks_get(const Arguments& arguments) {
    return kEndpoints.get(arguments);
}
int webhooks_change(const Arguments& arguments) {
    return kEndpoints.change(arguments, body_of(arguments));
}
int webhooks_enable(const Arguments& arguments) {
    return set_status(arguments, "active");
}
int webhooks_disable(const Arguments& arguments) {
    return set_status(arguments, "disabled");
}
int webhooks_revoke(const Arguments& arguments) {
    return kEndpoints.revoke(arguments);
}

int webhooks_rotate_secret(const Arguments& arguments) {
    json::object body;
    if (arguments.grace_seconds) body["grace_seconds"] = *arguments.grace_seconds;
    return kEndpoints.act(arguments, "/rotate-secret", body);
}

int webhooks_test(const Arguments& arguments) {
    return kEndpoints.act(arguments, "/test");
}

int webhooks_recover(const Arguments& arguments) {
    json::object body;
    body["since"] = arguments.since;
    return kEndpoints.act(arguments, "/recover", body);
}

int webhooks_deliveries(const Arguments& arguments) {
    std::vector<std::string> filters;
    if (arguments.endpoint) filters.push_back("endpoint=" + *arguments.endpoint);
    if (arguments.status) filters.push_back("status=" + *arguments.status);
    if (arguments.event_id) filters.push_back("event_id=" + *arguments.event_id);
    return kDeliveries.list_pages(arguments, "", std::move(filters), arguments.limit);
}

int webhooks_delivery(const Arguments& arguments) {
    return kDeliveries.get(arguments);
}
int webhooks_replay(const Arguments& arguments) {
    return kDeliveries.act(arguments, "/replay");
}

}  // namespace annal::cli
