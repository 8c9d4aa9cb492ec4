#include "runtime/core/result.h"

namespace annal {

int http_status(Errc code) noexcept {
    switch (code) {
        case Errc::invalid:
            return 400;
        case Errc::unprocessable:
            return 422;
        case Errc::unauthenticated:
            return 401;
        case Errc::denied:
            return 403;
        case Errc::not_found:
            return 404;
        case Errc::conflict:
            return 409;
        case Errc::too_large:
            return 413;
        case Errc::unsupported:
            return 415;
        case Errc::busy:
            return 429;
        case Errc::unavailable:
        case Errc::timeout:
            return 503;
        case Errc::cancelled:
            return 499;  // nobody reads it; logs and metrics want a number
        case Errc::internal:
            return 500;
    }
    return 500;
}

const char* name(Errc code) noexcept {
    switch (code) {
        case Errc::invalid:
            return "invalid";
        case Errc::unprocessable:
            return "unprocessable";
        case Errc::unauthenticated:
            return "unauthenticated";
        case Errc::denied:
            return "denied";
        case Errc::not_found:
            return "not_found";
        case Errc::conflict:
            return "conflict";
        case Errc::too_large:
            return "too_large";
        case Errc::unsupported:
            return "unsupported";
        case Errc::busy:
            return "busy";
        case Errc::unavailable:
            return "unavailable";
        case Errc::timeout:
            return "timeout";
        case Errc::cancelled:
            return "cancelled";
        case Errc::internal:
            return "internal";
    }
    return "internal";
}

}  // namespace annal
