#include "runtime/http/response_head.h"

#include <algorithm>
#include <array>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/status.hpp>
#include <cstdio>
#include <ctime>

#include "runtime/core/json_text.h"

namespace annal::http {
namespace {

namespace beast = boost::beast;

bool is_token_char(char c) {
    constexpr std::string_view kSigns = "!#$%&'*+-.^_`|~";
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kSigns.find(c) != std::string_view::npos;
}

bool is_value_char(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte == '\t' || (byte >= 0x20 && byte != 0x7f);
}

bool is_servers_own(std::string_view name) {
    constexpr std::array<std::string_view, 9> kOwn = {
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "annal-request-id",
        "date",
        "upgrade",
        "trailer",
        "server"};
    return std::any_of(kOwn.begin(), kOwn.end(), [&](std::string_view own) {
        return own.size() == name.size() &&
               beast::iequals({own.data(), own.size()}, {name.data(), name.size()});
    });
}

void append_line(std::string& out, std::string_view name, std::string_view value) {
    out.append(name).append(": ").append(value).append("\r\n");
}

/// "Tue, 15 Nov 1994 08:12:31 GMT", formatted once a second and thread.
std::string_view date_text(TimeUs now) {
    struct Cached {
        std::time_t second = -1;
        std::array<char, 64> text{};
        std::size_t size = 0;
    };
    thread_local Cached cached;
    const std::time_t second = now / kSecondUs;
    if (second != cached.second) {
        std::tm tm{};
        gmtime_r(&second, &tm);
        constexpr std::array<const char*, 7> kDays = {
            "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        constexpr std::array<const char*, 12> kMonths = {
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        const int size = std::snprintf(
            cached.text.data(),
            cached.text.size(),
            "%s, %02d %s %04d %02d:%02d:%02d GMT",
            kDays[static_cast<std::size_t>(tm.tm_wday)],
            tm.tm_mday,
            kMonths[static_cast<std::size_t>(tm.tm_mon)],
            tm.tm_year + 1900,
            tm.tm_hour,
            tm.tm_min,
            tm.tm_sec
        );
        cached.size = static_cast<std::size_t>(std::clamp(size, 0, 63));
        cached.second = second;
    }
    return {cached.text.data(), cached.size};
}

void append_framing(std::string& out, const ResponseHead& head) {
    if (head.framing == Framing::length) {
        out += "Content-Length: ";
        append_int(out, static_cast<std::int64_t>(head.length));
        out += "\r\n";
    } else if (head.framing == Framing::chunked) {
        out += "Transfer-Encoding: chunked\r\n";
    }
    if (head.close) {
        out += "Connection: close\r\n";
    } else if (head.say_keep_alive) {
        out += "Connection: keep-alive\r\n";
    }
}

}  // namespace

std::string reason_of(int status) {
    // As RFC 9110 has them, and plugins' own answers with it; Beast's are of RFC 7231.
    if (status == 413) return "Content Too Large";
    if (status == 422) return "Unprocessable Content";
    const auto reason = beast::http::obsolete_reason(static_cast<beast::http::status>(status));
    if (reason.starts_with('<')) return "Status";
    return {reason.data(), reason.size()};
}

void append_response_head(std::string& out, const ResponseHead& head) {
    out += "HTTP/1.1 ";
    append_int(out, head.status);
    out += ' ';
    out += reason_of(head.status);
    out += "\r\n";
    for (const auto& [name, value] : *head.headers) {
        if (!is_servers_own(name)) append_line(out, name, value);
    }
    append_line(out, "Annal-Request-Id", head.request_id);
    append_line(out, "Date", date_text(head.now));
    append_framing(out, head);
    out += "\r\n";
}

void append_trailers(std::string& out, const Pairs& trailers) {
    for (const auto& [name, value] : trailers) {
        if (!is_servers_own(name)) append_line(out, name, value);
    }
}

Result<void> check_headers(const Pairs& headers) {
    for (const auto& [name, value] : headers) {
        if (name.empty() || !std::all_of(name.begin(), name.end(), is_token_char)) {
            return Error{Errc::invalid, "a response header's name is no HTTP token"};
        }
        if (!std::all_of(value.begin(), value.end(), is_value_char)) {
            return Error{
                Errc::invalid,
                "the response header " + name + " has a control character in its value"};
        }
    }
    return ok();
}

}  // namespace annal::http
