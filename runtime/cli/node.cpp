#include "runtime/cli/node.h"

#include <boost/json.hpp>
#include <iostream>

namespace annal::cli {

namespace json = boost::json;

namespace {

std::string describe(const LocalClient::Answer& answer) {
    boost::system::error_code error;
    const json::value value = json::parse(answer.body, error);
    if (error || !value.is_object()) return "the node answered " + std::to_string(answer.status);
    const json::object& problem = value.get_object();
    std::string text;
    for (const char* key : {"title", "detail"})
        if (const json::value* part = problem.if_contains(key); part && part->is_string())
            text += (text.empty() ? "" : ": ") + std::string(part->get_string().c_str());
    if (const json::value* issues = problem.if_contains("errors"); issues && issues->is_array())
        for (const json::value& issue : issues->get_array())
            text += "\n  " + json::serialize(issue);
    return text.empty() ? "the node answered " + std::to_string(answer.status) : text;
}

}  // namespace

Result<std::unique_ptr<Node>> Node::reach(const NodeSettings& settings) {
    auto node = std::unique_ptr<Node>(new Node(settings));
    if (node->client_.is_up()) return node;
    NodeSettings quiet = settings;
    quiet.log_level = log::Level::warn;
    node->own_ = std::make_unique<Runtime>(std::move(quiet), Runtime::Role{false, false});
    BOOST_OUTCOME_TRYV(node->own_->start());
    return node;
}

Result<LocalClient::Answer> Node::send(const LocalClient::Call& call) const {
    BOOST_OUTCOME_TRY(LocalClient::Answer answer, client_.send(call));
    if (answer.status / 100 == 2) return answer;
    Error refusal = refusal_of(answer);
    if (answer.status == 503) refusal.detail += " (the node of " + data_dir_.string() + ")";
    return refusal;
}

Result<json::value> Node::ask(const LocalClient::Call& call) const {
    BOOST_OUTCOME_TRY(const LocalClient::Answer answer, send(call));
    boost::system::error_code error;
    json::value value = answer.body.empty() ? json::value() : json::parse(answer.body, error);
    if (error) return Error{Errc::internal, "the node's answer is not JSON"};
    return value;
}

Error refusal_of(const LocalClient::Answer& answer) {
    if (answer.status == 429 || answer.status == 503) return {Errc::busy, describe(answer)};
    return {answer.status == 400 ? Errc::invalid : Errc::unprocessable, describe(answer)};
}

Result<std::string> query_of(const std::vector<std::string>& filters) {
    std::string query;
    for (const std::string& filter : filters) {
        const std::size_t equals = filter.find('=');
        if (equals == std::string::npos || equals == 0)
            return Error{
                Errc::invalid,
                "`" + filter + "` is not a filter: write name=value, like type=auth.*"};
        query += (query.empty() ? "?" : "&") + percent_encode(filter.substr(0, equals)) + "=" +
                 percent_encode(filter.substr(equals + 1));
    }
    return query;
}

int fail(const Error& error, int code) {
    std::cerr << "annal: " << error.detail << "\n";
    return code;
}

int print(const json::value& value) {
    std::cout << json::serialize(value) << "\n";
    return kDone;
}

std::string percent_encode(std::string_view text) {
    static const char* digits = "0123456789ABCDEF";
    std::string out;
    for (const unsigned char c : text) {
        if (std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '~') {
            out += static_cast<char>(c);
        } else {
            out += {'%', digits[c >> 4U], digits[c & 15U]};
        }
    }
    return out;
}

Result<void> need_files(const NodeSettings& settings, const char* instead) {
    if (!settings.shares_store()) return ok();
    return Error{
        Errc::unsupported,
        std::string("the store is postgres, and this is about SQLite's files: ") + instead};
}

Result<NodeSettings> settings_of(const Arguments& arguments) {
    return read_node_settings(arguments.config, process_environment());
}

}  // namespace annal::cli
