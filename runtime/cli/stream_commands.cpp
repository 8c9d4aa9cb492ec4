#include <boost/json.hpp>
#include <charconv>

#include "runtime/cli/collection.h"
#include "runtime/cli/commands.h"
#include "runtime/cli/node.h"

namespace annal::cli {

namespace json = boost::json;
namespace {

constexpr Collection kStreams("/v1/audit/streams");

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
    if (!arguments.stream_format.empty()) body["format"] = arguments.stream_format;
    if (arguments.stream_format == "none") body["format"] = nullptr;
    if (!arguments.values.empty()) {
        BOOST_OUTCOME_TRY(body["config"], settings_from(arguments.values));
    }
    return body;
}

/// What is wrong with the arguments ends the command before a node is asked.
template <class Use>
int with_body(const Arguments& arguments, Use use) {
    Result<json::object> body = body_of(arguments);
    return body ? use(body.value()) : fail(body.error());
}

}  // namespace

int streams_create(const Arguments& arguments) {
    return with_body(arguments, [&](json::object& body) {
        body["destination"] = arguments.destination;
        if (!arguments.start.empty()) body["start"] = start_from(arguments.start);
        if (arguments.probe) body["probe"] = true;
        return kStreams.create(arguments, body);
    });
}

int streams_list(const Arguments& arguments) {
    return kStreams.list(arguments);
}
int streams_get(const Arguments& arguments) {
    return kStreams.get(arguments);
}

int streams_change(const Arguments& arguments) {
    return with_body(arguments, [&](const json::object& body) {
        return kStreams.change(arguments, body);
    });
}

int streams_pause(const Arguments& arguments) {
    return kStreams.act(arguments, "/pause");
}
int streams_resume(const Arguments& arguments) {
    return kStreams.act(arguments, "/resume");
}
int streams_probe(const Arguments& arguments) {
    return kStreams.act(arguments, "/probe");
}
int streams_revoke(const Arguments& arguments) {
    return kStreams.revoke(arguments);
}

int streams_replay(const Arguments& arguments) {
    json::object body;
    body["from_seq"] = arguments.from_seq;
    body["to_seq"] = arguments.to_seq;
    return kStreams.act(arguments, "/replay", body);
}

int streams_dead_letters(const Arguments& arguments) {
    return kStreams.list_pages(arguments, "/dead-letters");
}

int streams_redrive(const Arguments& arguments) {
    json::object body;
    if (!arguments.seqs.empty())
        body["seqs"] = json::array(arguments.seqs.begin(), arguments.seqs.end());
    return kStreams.act(arguments, "/dead-letters/redrive", body);
}

}  // namespace annal::cli
