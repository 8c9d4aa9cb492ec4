#include "streaming_answers.h"

#include <annal/sdk/json.hpp>

#include <charconv>
#include <limits>

namespace sink_snowflake {
namespace {

using annal::Json;

bool parse(std::string_view body, Json& out) {
    Json::Failure failure;
    return Json::parse(body, out, failure);
}

std::string text_of(const Json* value) {
    return value != nullptr && value->is(Json::Kind::string) ? value->string() : std::string();
}

/// A missing or null token means that nothing is committed.
bool read_seq(const Json* token, std::int64_t& seq) {
    seq = -1;
    if (token == nullptr || token->is(Json::Kind::null)) {
        return true;
    }
    const std::string text = text_of(token);
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, seq);
    return text.empty() || (error == std::errc() && stop == end && seq >= 0);
}

bool read(const Json& status, ChannelStatus& out) {
    // Named both ways in the documents.
    const Json* token = status.find("last_committed_offset_token");
    if (token == nullptr) {
        token = status.find("latest_committed_offset_token");
    }
    if (const Json* count = status.find("rows_error_count");
        count != nullptr && count->is(Json::Kind::integer)) {
        out.rows_error_count = count->integer();
    }
    out.error = text_of(status.find("last_error_message"));
    return status.is(Json::Kind::object) && read_seq(token, out.committed_seq);
}

}  // namespace

std::string text_or_member(std::string_view body, std::string_view member) {
    Json document;
    if (parse(body, document)) {
        return document.is(Json::Kind::string) ? document.string() : text_of(document.find(member));
    }
    while (!body.empty() && (body.back() == '\n' || body.back() == '\r' || body.back() == ' ')) {
        body.remove_suffix(1);
    }
    const bool bare = body.find_first_of(" \t\r\n{}<>\"") == std::string_view::npos;
    return bare ? std::string(body) : std::string();
}

std::optional<OpenedChannel> read_opened(std::string_view body) {
    Json document;
    OpenedChannel out;
    if (!parse(body, document)) {
        return std::nullopt;
    }
    out.continuation_token = text_of(document.find("next_continuation_token"));
    const Json* status = document.find("channel_status");
    if (out.continuation_token.empty() || status == nullptr || !read(*status, out.status)) {
        return std::nullopt;
    }
    return out;
}

std::optional<ChannelStatus> read_status(std::string_view body) {
    Json document;
    ChannelStatus out;
    const Json* all = parse(body, document) ? document.find("channel_statuses") : nullptr;
    if (all == nullptr || all->members().size() != 1 || !read(all->members()[0].second, out)) {
        return std::nullopt;
    }
    return out;
}

std::optional<std::string> read_continuation_token(std::string_view body) {
    Json document;
    std::string token =
        parse(body, document) ? text_of(document.find("next_continuation_token")) : std::string();
    return token.empty() ? std::nullopt : std::optional(std::move(token));
}

bool is_stale(const annal::ClientResponse& answer) {
    return answer.ok() && answer.http_status == 400 &&
           answer.body.find("STALE_CONTINUATION_TOKEN") != std::string::npos;
}

}  // namespace sink_snowflake
