#include "runtime/http/request_parser.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/rfc7230.hpp>
#include <cstring>
#include <limits>

#include "runtime/http/query.h"

namespace annal::http {
namespace {

namespace beast = boost::beast;

Error malformed(std::string what) {
    return {Errc::invalid, "the request is not well-formed HTTP/1.1: " + std::move(what)};
}

/// Path and query of an origin-form or absolute-form target. @error Errc::invalid
Result<std::string_view> origin_of(std::string_view target) {
    if (target.starts_with('/')) return target;
    const std::size_t scheme = target.find("://");
    const bool http = scheme != std::string_view::npos &&
                      (beast::iequals(beast::string_view(target.data(), scheme), "http") ||
                       beast::iequals(beast::string_view(target.data(), scheme), "https"));
    if (!http) return malformed("the request target must be a path that begins with /");
    const std::size_t path = target.find_first_of("/?", scheme + 3);
    if (path == std::string_view::npos) return std::string_view("/");
    if (target[path] == '?') return malformed("the request target has no path");
    return target.substr(path);
}

Result<void> split_target(std::string_view target, Request& request) {
    BOOST_OUTCOME_TRY(const auto origin, origin_of(target));
    const std::size_t question = origin.find('?');
    request.path = origin.substr(0, question);
    if (!percent_decode(request.path)) {
        return Error{
            Errc::invalid,
            "the path has a broken %XX escape, U+0000 or bytes that are not UTF-8: percent-encode "
            "it as UTF-8"};
    }
    if (question == std::string_view::npos) return ok();
    BOOST_OUTCOME_TRY(request.query, parse_query(origin.substr(question + 1)));
    return ok();
}

}  // namespace

HeadScanner::State HeadScanner::bad(const char* problem) {
    problem_ = problem;
    return State::bad;
}

HeadScanner::State HeadScanner::scan(std::string_view text) {
    // A TLS hello on the plain port should be told at once, not time out.
    const auto opens = [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); };
    if (!text.empty() && !opens(text[0])) {
        return bad("it does not begin with a method (is this TLS on the plain port?)");
    }
    while (seen_ < text.size()) {
        const auto* at =
            static_cast<const char*>(std::memchr(text.data() + seen_, '\n', text.size() - seen_));
        const std::size_t end = at ? static_cast<std::size_t>(at - text.data()) : text.size();
        if (seen_ == line_ && line_ > 0 && (text[line_] == ' ' || text[line_] == '\t')) {
            return bad("a header line is folded; send it on one line");
        }
        seen_ = end;
        if (!at) return State::more;
        if (end == 0 || text[end - 1] != '\r')
            return bad("a line ends in LF alone; end it in CRLF");
        seen_ = end + 1;
        if (end - line_ == 1) return State::done;
        line_ = end + 1;
    }
    return State::more;
}

RequestParser::RequestParser(Request& request) : request_(request) {
    // The session bounds the head before it gets here, and the body by the decoded size.
    header_limit(std::numeric_limits<std::uint32_t>::max());
    body_limit(boost::none);
}

Result<void> RequestParser::head(std::string_view text) {
    beast::error_code ec;
    put(boost::asio::const_buffer(text.data(), text.size()), ec);
    const auto target = split_target(target_, request_);
    if (ec) return malformed(ec.message());
    BOOST_OUTCOME_TRYV(target);
    return check();
}

Result<void> RequestParser::check() const {
    if (transfer_encodings_ > 0 && (transfer_encodings_ > 1 || !plain_chunked_ || !chunked())) {
        return malformed("Transfer-Encoding may be 'chunked' only, once");
    }
    if (transfer_encodings_ > 0 && !http11()) {
        return malformed("HTTP/1.0 has no Transfer-Encoding");
    }
    if (hosts_ > 1) return malformed("it has more than one Host header");
    if (http11() && hosts_ == 0) return malformed("HTTP/1.1 needs a Host header");
    if (const auto length = content_length();
        length && *length > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return malformed("Content-Length is beyond 63 bits");
    }
    return ok();
}

Result<void> RequestParser::body(std::string_view& text, BodySink& sink) {
    sink_ = &sink;
    while (!text.empty() && !is_done()) {
        beast::error_code ec;
        taken_ = 0;
        const std::size_t used = put(boost::asio::const_buffer(text.data(), text.size()), ec);
        text.remove_prefix(used);
        if (used - taken_ > framing_max_) {
            return malformed("a chunk header or the trailers are too long");
        }
        if (ec == beast::http::error::need_more) break;
        if (ec) return malformed("its chunked body is broken (" + ec.message() + ")");
        if (used == 0) break;
    }
    sink_ = nullptr;
    return ok();
}

void RequestParser::
    on_request_impl(beast::http::verb, text_view method, text_view target, int version, error_code&) {
    request_.method.assign(method.data(), method.size());
    target_.assign(target.data(), target.size());
    version_ = version;
}

void RequestParser::
    on_field_impl(beast::http::field field, text_view name, text_view value, error_code&) {
    if (!in_head_) return;  // trailers mean nothing to any handler
    if (request_.headers.empty()) request_.headers.reserve(16);
    auto& [kept_name, kept_value] = request_.headers.emplace_back();
    kept_name.resize(name.size());
    std::transform(name.begin(), name.end(), kept_name.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    kept_value.assign(value.data(), value.size());
    if (field == beast::http::field::host) ++hosts_;
    if (field == beast::http::field::transfer_encoding) {
        ++transfer_encodings_;
        plain_chunked_ = plain_chunked_ && beast::iequals(value, "chunked");
    }
}

void RequestParser::on_header_impl(error_code&) {
    in_head_ = false;
}

void RequestParser::on_body_init_impl(const boost::optional<std::uint64_t>&, error_code&) {}

std::size_t RequestParser::on_body_impl(text_view bytes, error_code&) {
    return take(bytes);
}

std::size_t RequestParser::take(text_view bytes) {
    const std::size_t taken = sink_ ? sink_->take({bytes.data(), bytes.size()}) : 0;
    taken_ += taken;
    return taken;
}

void RequestParser::on_chunk_header_impl(std::uint64_t, text_view, error_code&) {}

std::size_t RequestParser::on_chunk_body_impl(std::uint64_t, text_view bytes, error_code&) {
    return take(bytes);
}

void RequestParser::on_finish_impl(error_code&) {}

void RequestParser::on_response_impl(int, text_view, int, error_code&) {}

bool list_has(std::string_view value, std::string_view word) {
    while (!value.empty()) {
        const std::size_t comma = value.find(',');
        std::string_view item = value.substr(0, comma);
        value = comma == std::string_view::npos ? std::string_view() : value.substr(comma + 1);
        item = item.substr(0, item.find(';'));
        const std::size_t first = item.find_first_not_of(" \t");
        if (first == std::string_view::npos) continue;
        item = item.substr(first, item.find_last_not_of(" \t") - first + 1);
        if (beast::iequals(
                beast::string_view(item.data(), item.size()),
                beast::string_view(word.data(), word.size())
            )) {
            return true;
        }
    }
    return false;
}

}  // namespace annal::http
