#pragma once

#include <boost/json/fwd.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/event/host_event.h"
#include "runtime/http/exchange.h"
#include "runtime/store/event_store.h"
#include "runtime/store/read_space.h"

namespace annal::control {

/// A handler made of one function; what it fails with is rendered as problem+json.
using Action = std::function<Task<Result<void>>(std::shared_ptr<http::Exchange>)>;
[[nodiscard]] std::shared_ptr<http::Handler> make_handler(Action action);

/// The request's body as a JSON object with known keys only.
/// @error Errc::invalid        Not JSON (the position is in the detail), or not an object.
/// @error Errc::unprocessable  A key that is not in `known`, or a duplicate.
[[nodiscard]] Task<Result<boost::json::object>> read_object(
    http::Exchange& exchange, std::vector<std::string_view> known
);
/// A string member. @error Errc::unprocessable  Missing, empty, too long, or not a string.
[[nodiscard]] Result<std::string> string_member(
    const boost::json::object& object, std::string_view key, std::size_t size_max
);

[[nodiscard]] Task<Result<void>> respond_json(
    http::Exchange& exchange, int status, const boost::json::value& body
);

/// Who did it, for the event that records a change.
struct Actor {
    std::string type, id;
};
[[nodiscard]] Actor actor_of(const http::Principal& principal);

}  // namespace annal::control
