#pragma once

#include <annal/sdk/http.hpp>

#include <span>
#include <string>
#include <string_view>

namespace annal::inline sdk_v1 {

/// What a handler does for one trigger of its manifest.
template <class Handler>
struct Route {
    std::string_view trigger;
    Task<> (Handler::*answer)(Request&, Response&);
};

/// Answers `request` by the route of its trigger; the routes must outlive the task. A trigger
/// without a route is the manifest's fault: a 500 that names the routes there are, and the log line
/// plugin.unknown_trigger.
template <class Handler>
[[nodiscard]] Task<> answer_by_trigger(
    Handler& handler, std::span<const Route<Handler>> routes, Request& request, Response& response
) {
    for (const Route<Handler>& route : routes) {
        if (route.trigger == request.trigger()) {
            co_await (handler.*route.answer)(request, response);
            co_return;
        }
    }
    std::string names;
    for (const Route<Handler>& route : routes) {
        names += (names.empty() ? "" : ", ") + std::string(route.trigger);
    }
    request.call().host().error(
        "plugin.unknown_trigger", {{"trigger", request.trigger()}, {"path", request.path()}}
    );
    const Problem problem =
        Problem(500, "internal")
            .detail(
                "the manifest has a trigger \"" + std::string(request.trigger()) +
                "\"; this plugin knows " + names
            );
    co_await response.fail(problem);
}

}  // namespace annal::inline sdk_v1
