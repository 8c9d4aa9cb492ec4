#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <type_traits>

#include "runtime/core/task.h"

namespace annal {

static_assert(std::is_same_v<Task<int>, boost::asio::awaitable<int>>);

}  // namespace annal
