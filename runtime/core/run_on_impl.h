#pragma once

#include <boost/asio/co_spawn.hpp>
#include <optional>
#include <utility>

#include "runtime/core/task_impl.h"

namespace annal {

namespace run_on_detail {
template <class T>
Task<void> keep(Task<T> task, std::optional<T>& outcome) {
    outcome.emplace(co_await std::move(task));
}
}  // namespace run_on_detail

/// Awaits `task` while it runs on another executor: one whose threads may block, or a strand. The
/// caller goes on where it was.
template <class Executor, class T>
Task<T> run_on(Executor executor, Task<T> task) {
    std::optional<T> outcome;
    auto kept = run_on_detail::keep(std::move(task), outcome);
    co_await boost::asio::co_spawn(
        std::move(executor), std::move(kept), boost::asio::use_awaitable
    );
    co_return std::move(*outcome);
}

}  // namespace annal
