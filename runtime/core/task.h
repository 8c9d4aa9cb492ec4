#pragma once

namespace boost::asio {
class any_io_executor;
template <typename T, typename Executor>
class awaitable;
}  // namespace boost::asio

namespace annal {

/// A coroutine on an Asio executor. Forward-declared here so that a header need not pull Asio in; a
/// source file that defines or awaits one includes `runtime/core/task_impl.h`.
///
/// GCC 12: in an expression with `co_await`, name braced aggregates and capturing lambdas first,
/// then move them.
template <class T>
using Task = boost::asio::awaitable<T, boost::asio::any_io_executor>;

}  // namespace annal
