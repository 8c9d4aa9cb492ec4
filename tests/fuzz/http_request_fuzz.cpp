// Reads one HTTP request the way a connection does: the head as it comes in, then the body piece by
// piece into a sink with little room. The result may not depend on the pieces; a chunked body that
// is taken is what an independent reader of RFC 9112 makes of it; a head that is taken is
// unambiguous about its body.
//
// Input: the seed of the pieces, then the bytes of the connection.

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/json_text.h"
#include "runtime/http/query.h"
#include "runtime/http/request_parser.h"
#include "tests/fuzz/fuzzing.h"

namespace {

using annal::fuzz::require;
using annal::http::HeadScanner;
using annal::http::Request;
using annal::http::RequestParser;

struct Outcome {
    HeadScanner::State scan = HeadScanner::State::more;
    std::size_t head = 0;
    bool understood = false, body_ok = false, done = false, chunked = false;
    Request request;
    std::string body;
    std::size_t left = 0;  ///< bytes behind the request

    [[nodiscard]] bool same(const Outcome& o) const {
        return scan == o.scan && head == o.head && understood == o.understood &&
               request.method == o.request.method && request.path == o.request.path &&
               request.headers == o.request.headers && request.query == o.request.query &&
               body_ok == o.body_ok && done == o.done && body == o.body &&
               (!body_ok || left == o.left);
    }
};

class Sink final : public annal::http::BodySink {
public:
    explicit Sink(std::uint8_t seed) : seed_(seed), sizes_(seed) {}
    std::size_t take(std::string_view bytes) override {
        const std::size_t used =
            std::min(bytes.size(), seed_ == 0 ? bytes.size() : sizes_.next(64));
        text.append(bytes.substr(0, used));
        return used;
    }
    std::string text;

private:
    std::uint8_t seed_;
    annal::fuzz::Sizes sizes_;
};

/// Feeds what is there until the parser wants more, as a sink that drains each time makes it.
bool feed(RequestParser& parser, std::string& held, Sink& sink) {
    while (!held.empty() && !parser.is_done()) {
        std::string_view rest = held;
        const bool ok = parser.body(rest, sink).has_value();
        const std::size_t used = held.size() - rest.size();
        held.erase(0, used);
        if (!ok) {
            return false;
        }
        if (used == 0) {
            return true;
        }
    }
    return true;
}

Outcome read(std::string_view text, std::uint8_t seed) {
    Outcome out;
    HeadScanner scanner;
    const auto parts = annal::fuzz::pieces(text, seed);
    std::string held;
    auto part = parts.begin();
    for (; part != parts.end() && out.scan == HeadScanner::State::more; ++part) {
        held += *part;
        out.scan = scanner.scan(held);
    }
    if (out.scan != HeadScanner::State::done) {
        return out;
    }
    out.head = scanner.size();
    require(out.head <= held.size());
    RequestParser parser(out.request);
    out.understood = parser.head(std::string_view(held).substr(0, out.head)).has_value();
    if (!out.understood) {
        return out;
    }
    out.chunked = parser.chunked();
    held.erase(0, out.head);
    Sink sink(seed);
    out.body_ok = feed(parser, held, sink);
    for (; part != parts.end() && out.body_ok; ++part) {
        held += *part;
        out.body_ok = feed(parser, held, sink);
    }
    out.done = parser.is_done();
    out.left = held.size();
    out.body = std::move(sink.text);
    return out;
}

std::size_t count(const Request& request, std::string_view name) {
    return static_cast<std::size_t>(std::count_if(
        request.headers.begin(),
        request.headers.end(),
        [&](const auto& header) { return header.first == name; }
    ));
}

/// The data of a whole chunked body (RFC 9112, 7.1), whatever its extensions and trailers are.
std::optional<std::string> dechunked(std::string_view text) {
    std::string out;
    for (;;) {
        const std::size_t line = text.find("\r\n");
        if (line == std::string_view::npos) {
            return std::nullopt;
        }
        std::size_t size = 0, digits = 0;
        for (; digits < line; ++digits) {
            const char c = static_cast<char>(text[digits] | 0x20);
            const int digit =
                c >= '0' && c <= '9' ? c - '0' : (c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1);
            if (digit < 0) {
                break;
            }
            size = size * 16 + static_cast<std::size_t>(digit);
            if (size > (1U << 30U)) {
                return std::nullopt;
            }
        }
        if (digits == 0) {
            return std::nullopt;
        }
        text.remove_prefix(line + 2);
        if (size == 0) {
            return out;
        }
        if (text.size() < size + 2 || text.substr(size, 2) != "\r\n") {
            return std::nullopt;
        }
        out += text.substr(0, size);
        text.remove_prefix(size + 2);
    }
}

void check_head(const Outcome& outcome) {
    const Request& request = outcome.request;
    require(!request.method.empty() && request.path.starts_with('/'));
    require(annal::http::percent_decode(request.path).has_value());
    require(count(request, "transfer-encoding") <= 1 && count(request, "host") <= 1);
    require(count(request, "transfer-encoding") == 0 || count(request, "content-length") == 0);
    for (const auto& [name, value] : request.headers) {
        require(!name.empty() && name.find_first_of(" :\r\n") == std::string::npos);
        require(value.find_first_of("\r\n") == std::string::npos);
        require(std::none_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; })
        );
    }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    const std::uint8_t seed = annal::fuzz::take_byte(text);
    const Outcome whole = read(text, 0);
    require(read(text, seed).same(whole));
    if (whole.understood) {
        check_head(whole);
    }
    if (whole.understood && whole.body_ok && whole.done && whole.chunked) {
        require(dechunked(text.substr(whole.head)) == whole.body);
    }
    return 0;
}
