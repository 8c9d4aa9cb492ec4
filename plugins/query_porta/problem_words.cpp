#include "problem_words.h"

#include <annal/sdk/json.hpp>

namespace porta {

std::string_view error_word(std::uint32_t status) {
    switch (status) {
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "NotFound";
        case 405:
            return "MethodNotAllowed";
        case 408:
            return "RequestTimeout";
        case 409:
            return "Conflict";
        case 413:
            return "PayloadTooLarge";
        case 415:
            return "UnsupportedMediaType";
        case 422:
            return "UnprocessableEntity";
        case 429:
            return "TooManyRequests";
        case 431:
            return "RequestHeaderFieldsTooLarge";
        case 503:
            return "ServiceUnavailable";
        default:
            return status < 500 ? "BadRequest" : "InternalServerError";
    }
}

std::string_view append_problem(annal::Buffer& out, const annal_problem& problem) {
    const std::string_view title =
        problem.title.len > 0 ? annal::view(problem.title) : annal::status_title(problem.status);
    annal::JsonWriter json(out);
    json.begin_object()
        .member("error", error_word(problem.status))
        .member("message", problem.detail.len > 0 ? annal::view(problem.detail) : title)
        .member("statusCode", problem.status)
        .end_object();
    return "application/json";
}

}  // namespace porta
