#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/core/clock.h"
#include "runtime/http/exchange.h"

namespace annal::http {

/// How the client learns where the body ends.
enum class Framing {
    none,         ///< the status has no body: 204, 304
    length,       ///< Content-Length
    chunked,      ///< Transfer-Encoding: chunked
    until_close,  ///< HTTP/1.0: the connection ends with it
};

struct ResponseHead {
    int status = 200;
    const Pairs* headers = nullptr;  ///< checked by `check_headers`
    std::string_view request_id;
    TimeUs now = 0;
    Framing framing = Framing::length;
    std::uint64_t length = 0;
    bool close = false;
    bool say_keep_alive = false;  ///< an HTTP/1.0 client that asked for it
};

/// "Not Found"; "Status" for a number without a name.
[[nodiscard]] std::string reason_of(int status);

/// Status line, headers and the empty line. Headers that are the server's own business are passed
/// over.
void append_response_head(std::string& out, const ResponseHead& head);

/// "name: value" lines of `trailers`, without the empty line.
void append_trailers(std::string& out, const Pairs& trailers);

/// @error Errc::invalid  A name that is no token, or a value with a control character: it would
/// break the message.
[[nodiscard]] Result<void> check_headers(const Pairs& headers);

}  // namespace annal::http
