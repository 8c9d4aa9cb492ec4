#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "runtime/core/task_impl.h"

namespace annal {

/// A task under way whose result need not be default-constructible, as a future's would.
template <class T>
class PendingTask {
public:
    PendingTask(boost::asio::any_io_executor executor, Task<T> task)
        : done_(boost::asio::co_spawn(
              executor, keep(std::move(task), result_), boost::asio::use_future
          )) {}
    /// Waits for the end, once, on a thread that does not serve the executor; throws what the task
    /// threw.
    T get() {
        done_.get();
        return std::move(**result_);
    }

private:
    static Task<void> keep(Task<T> task, std::shared_ptr<std::optional<T>> result) {
        result->emplace(co_await std::move(task));
    }
    std::shared_ptr<std::optional<T>> result_ = std::make_shared<std::optional<T>>();
    std::future<void> done_;
};

/// Runs `task` on `executor` to its end. The caller blocks, so it must not be a thread that serves
/// the executor.
template <class T>
T run_task(boost::asio::any_io_executor executor, Task<T> task) {
    return PendingTask<T>(std::move(executor), std::move(task)).get();
}
inline void run_task(boost::asio::any_io_executor executor, Task<void> task) {
    boost::asio::co_spawn(std::move(executor), std::move(task), boost::asio::use_future).get();
}

/// Runs `task` to its end on the calling thread alone.
template <class T>
T run_task(Task<T> task) {
    boost::asio::io_context io;
    PendingTask<T> pending(io.get_executor(), std::move(task));
    io.run();
    return pending.get();
}

}  // namespace annal
