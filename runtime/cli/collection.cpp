#include "runtime/cli/collection.h"

#include <algorithm>
#include <boost/json.hpp>
#include <iostream>

#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;
namespace {

constexpr std::int64_t kPageRows = 200;

LocalClient::Call call_of(const Arguments& arguments, const char* method, std::string target) {
    LocalClient::Call call;
    call.method = method;
    call.target = std::move(target);
    call.project = arguments.project;
    return call;
}

LocalClient::Call call_with(
    const Arguments& arguments, const char* method, std::string target, const json::value& body
) {
    LocalClient::Call call = call_of(arguments, method, std::move(target));
    if (body.is_null()) return call;
    call.content_type = "application/json";
    call.body = json::serialize(body);
    return call;
}

int ask(const Arguments& arguments, const LocalClient::Call& call) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        if (answer.is_object() && answer.get_object().contains("secret"))
            std::cerr << "annal: the secret is shown this once: keep it\n";
        return print(answer);
    });
}

}  // namespace

std::string Collection::path_of(const Arguments& arguments, std::string_view part) const {
    return std::string(path_) + "/" + percent_encode(arguments.id) + std::string(part);
}

int Collection::create(const Arguments& arguments, const json::object& body) const {
    return ask(arguments, call_with(arguments, "POST", std::string(path_), body));
}

int Collection::list(const Arguments& arguments) const {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        const LocalClient::Call call = call_of(arguments, "GET", std::string(path_));
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        for (const json::value& object : answer.at("data").get_array()) print(object);
        return kDone;
    });
}

int Collection::get(const Arguments& arguments) const {
    return ask(arguments, call_of(arguments, "GET", path_of(arguments)));
}

int Collection::change(const Arguments& arguments, const json::object& body) const {
    return ask(arguments, call_with(arguments, "PATCH", path_of(arguments), body));
}

int Collection::revoke(const Arguments& arguments) const {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRYV(node.send(call_of(arguments, "DELETE", path_of(arguments))));
        std::cout << "revoked " << arguments.id << "\n";
        return kDone;
    });
}

int Collection::act(const Arguments& arguments, std::string_view verb, const json::value& body)
    const {
    return ask(arguments, call_with(arguments, "POST", path_of(arguments, verb), body));
}

int Collection::list_pages(
    const Arguments& arguments,
    std::string_view part,
    std::vector<std::string> filters,
    std::int64_t rows_max
) const {
    const std::string path = part.empty() ? std::string(path_) : path_of(arguments, part);
    return with_node(arguments, [&](Node& node) -> Result<int> {
        std::string cursor;
        for (std::int64_t left = rows_max;;) {
            std::vector<std::string> asked = filters;
            asked.push_back("limit=" + std::to_string(std::min(left, kPageRows)));
            if (!cursor.empty()) asked.push_back("cursor=" + cursor);
            BOOST_OUTCOME_TRY(const std::string query, query_of(asked));
            const LocalClient::Call call = call_of(arguments, "GET", path + query);
            BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
            const json::array& rows = answer.at("data").get_array();
            for (const json::value& row : rows) print(row);
            left -= static_cast<std::int64_t>(rows.size());
            if (left <= 0 || !answer.at("has_more").as_bool()) return kDone;
            cursor = answer.at("next_cursor").as_string().c_str();
        }
    });
}

}  // namespace annal::cli
