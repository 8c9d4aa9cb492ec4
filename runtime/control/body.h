#pragma once

#include <boost/json/fwd.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/event/action.h"
#include "runtime/event/host_event.h"
#include "runtime/http/exchange.h"
#include "runtime/http/router.h"
#include "runtime/store/event_store.h"
#include "runtime/store/read_space.h"

namespace annal::control {

/// A handler made of one function; what it fails with is rendered as problem+json.
using Action = std::function<Task<Result<void>>(std::shared_ptr<http::Exchange>)>;
[[nodiscard]] std::shared_ptr<http::Handler> make_handler(Action action);

/// A call that a member function of `Routes` serves.
template <class Routes>
struct RouteEntry {
    const char *method, *pattern, *scope;
    Task<Result<void>> (Routes::*serve)(std::shared_ptr<http::Exchange>);
};
/// Adds them all; `routes` lives as long as the router. @error  As `Router::add`.
template <class Routes>
[[nodiscard]] Result<void> add_routes(
    http::Router& router,
    const std::shared_ptr<Routes>& routes,
    std::span<const RouteEntry<Routes>> entries,
    const char* owner
) {
    for (const RouteEntry<Routes>& entry : entries) {
        const auto serve = entry.serve;
        auto handler = make_handler([routes, serve](std::shared_ptr<http::Exchange> e) {
            return ((*routes).*serve)(std::move(e));
        });
        http::Route route{
            {entry.method}, entry.pattern, entry.scope, entry.pattern, owner, std::move(handler)};
        BOOST_OUTCOME_TRYV(router.add(std::move(route)));
    }
    return ok();
}

/// The request's body as a JSON object with known keys only.
/// @error Errc::invalid        Not JSON (the position is in the detail), or not an object.
/// @error Errc::unprocessable  A key that is not in `known`, or a duplicate.
[[nodiscard]] Task<Result<boost::json::object>> read_object(
    http::Exchange& exchange, std::vector<std::string_view> known
);
/// The same, or an empty object when there is no body.
[[nodiscard]] Task<Result<boost::json::object>> read_object_if_any(
    http::Exchange& exchange, std::vector<std::string_view> known
);
/// @error Errc::unprocessable  A key that is not in `known`; `pointer` is the object's.
[[nodiscard]] Result<void> check_fields(
    const boost::json::object& object,
    const std::vector<std::string_view>& known,
    const std::string& pointer
);
/// A list of 1 to 100 patterns. @error Errc::unprocessable
[[nodiscard]] Result<std::vector<ActionPattern>> patterns_of(
    const boost::json::value& value, const std::string& pointer
);
/// A whole number in [least, most]. @error Errc::unprocessable
[[nodiscard]] Result<std::int64_t> integer_of(
    const boost::json::value& value,
    std::int64_t least,
    std::int64_t most,
    const std::string& pointer
);
/// A query parameter that is one. @error Errc::invalid
[[nodiscard]] Result<std::int64_t> query_integer(
    const http::Request& request,
    std::string_view name,
    std::int64_t fallback,
    std::int64_t least,
    std::int64_t most
);
/// The project that a call is about. @error Errc::unprocessable  It names none.
[[nodiscard]] Result<std::string> project_of(const http::Exchange& exchange);
/// A string member. @error Errc::unprocessable  Missing, empty, too long, or not a string.
[[nodiscard]] Result<std::string> string_member(
    const boost::json::object& object, std::string_view key, std::size_t size_max
);

/// Null for empty text, as answers show what is not there.
[[nodiscard]] boost::json::value text_or_null(const std::string& text);

[[nodiscard]] Task<Result<void>> respond_json(
    http::Exchange& exchange, int status, const boost::json::value& body
);

using annal::Actor;
/// Who did it, for the event that records a change.
[[nodiscard]] Actor actor_of(const http::Principal& principal);

}  // namespace annal::control
