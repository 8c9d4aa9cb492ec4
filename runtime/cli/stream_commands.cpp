#include <boost/json.hpp>
#include <charconv>
#include <iostream>

#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;
namespace {

constexpr const char* kStreams = "/v1/audit/streams";

LocalClient::Call call_of(const Arguments& arguments, const char* method, std::string target) {
    LocalClient::Call call;
    call.method = method;
    call.target = std::move(target);
    call.project = arguments.project;
    return call;
}

LocalClient::Call call_with(
    const Arguments& arguments, const char* method, std::string target, const json::object& body
) {
    LocalClient::Call call = call_of(arguments, method, std::move(target));
    call.content_type = "application/json";
    call.body = json::serialize(body);
    return call;
}

std::string path_of(const Arguments& arguments, std::string_view rest = {}) {
    return std::string(kStreams) + "/" + percent_encode(arguments.id) + std::string(rest);
}

/// "key=value", the value as JSON where it is JSON, else as text; "key=" takes a key away.
Result<json::object> settings_from(const std::vector<std::string>& given) {
    json::object config;
    for (const std::string& one : given) {
        const auto equals = one.find('=');
        if (equals == std::string::npos || equals == 0)
            return Error{Errc::invalid, "--set takes key=value, not " + one};
        const std::string key = one.substr(0, equals), text = one.substr(equals + 1);
        boost::system::error_code error;
        json::value value = json::parse(text, error);
        if (text.empty()) {
            value = nullptr;
        } else if (error) {
            value = json::string(text);
        }
        config[key] = std::move(value);
    }
    return config;
}

/// "latest", "earliest", "seq:17", "time:2026-05-14T00:00:00Z".
json::value start_from(const std::string& text) {
    const auto colon = text.find(':');
    const std::string kind = text.substr(0, colon);
    const std::string rest = colon == std::string::npos ? "" : text.substr(colon + 1);
    json::object start;
    if (kind == "seq") {
        std::int64_t seq = -1;
        (void)std::from_chars(rest.data(), rest.data() + rest.size(), seq);  // else: refused as -1
        start["seq"] = seq;
    } else if (kind == "time") {
        start["time"] = rest;
    } else {
        return json::value(text);
    }
    return start;
}

Result<json::object> body_of(const Arguments& arguments) {
    json::object body;
    if (!arguments.name.empty()) body["name"] = arguments.name;
    if (!arguments.filters.empty())
        body["events"] = json::array(arguments.filters.begin(), arguments.filters.end());
    if (!arguments.on_poison.empty()) body["on_poison"] = arguments.on_poison;
    if (!arguments.values.empty()) {
        BOOST_OUTCOME_TRY(body["config"], settings_from(arguments.values));
    }
    return body;
}

int run(const Arguments& arguments, LocalClient::Call (*make)(const Arguments&)) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(make(arguments)));
        return print(answer);
    });
}

int steer(const Arguments& arguments, const char* verb) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        const LocalClient::Call call = call_of(arguments, "POST", path_of(arguments, verb));
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

}  // namespace

int streams_create(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(json::object body, body_of(arguments));
        body["destination"] = arguments.destination;
        if (!arguments.start.empty()) body["start"] = start_from(arguments.start);
        if (arguments.probe) body["probe"] = true;
        const LocalClient::Call call = call_with(arguments, "POST", kStreams, body);
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

int streams_list(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        const LocalClient::Call call = call_of(arguments, "GET", kStreams);
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        for (const json::value& stream : answer.at("data").get_array()) print(stream);
        return kDone;
    });
}

int streams_get(const Arguments& arguments) {
    return run(arguments, [](const Arguments& a) { return call_of(a, "GET", path_of(a)); });
}

int streams_change(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRY(const json::object body, body_of(arguments));
        const LocalClient::Call call = call_with(arguments, "PATCH", path_of(arguments), body);
        BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
        return print(answer);
    });
}

int streams_pause(const Arguments& arguments) {
    return steer(arguments, "/pause");
}
int streams_resume(const Arguments& arguments) {
    return steer(arguments, "/resume");
}
int streams_probe(const Arguments& arguments) {
    return steer(arguments, "/probe");
}

int streams_revoke(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        BOOST_OUTCOME_TRYV(node.send(call_of(arguments, "DELETE", path_of(arguments))));
        std::cout << "revoked " << arguments.id << "\n";
        return kDone;
    });
}

int streams_replay(const Arguments& arguments) {
    return run(arguments, [](const Arguments& a) {
        json::object body;
        body["from_seq"] = a.from_seq;
        body["to_seq"] = a.to_seq;
        return call_with(a, "POST", path_of(a, "/replay"), body);
    });
}

int streams_dead_letters(const Arguments& arguments) {
    return with_node(arguments, [&](Node& node) -> Result<int> {
        for (std::string cursor;;) {
            const std::string query = cursor.empty() ? "?limit=200" : "?limit=200&cursor=" + cursor;
            const LocalClient::Call call =
                call_of(arguments, "GET", path_of(arguments, "/dead-letters" + query));
            BOOST_OUTCOME_TRY(const json::value answer, node.ask(call));
            for (const json::value& letter : answer.at("data").get_array()) print(letter);
            if (!answer.at("has_more").as_bool()) return kDone;
            cursor = answer.at("next_cursor").as_string().c_str();
        }
    });
}

int streams_redrive(const Arguments& arguments) {
    return run(arguments, [](const Arguments& a) {
        json::object body;
        if (!a.seqs.empty()) body["seqs"] = json::array(a.seqs.begin(), a.seqs.end());
        return call_with(a, "POST", path_of(a, "/dead-letters/redrive"), body);
    });
}

}  // namespace annal::cli
