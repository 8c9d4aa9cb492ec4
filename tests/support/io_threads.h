#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/core/task_impl.h"

namespace annal::test {

/// Threads that run coroutines for a test's main thread.
class IoThreads {
public:
    explicit IoThreads(std::size_t count = 2) {
        for (std::size_t i = 0; i < count; ++i) threads_.emplace_back([this] { io_.run(); });
    }
    ~IoThreads() {
        work_.reset();
        for (std::thread& thread : threads_) thread.join();
    }

    [[nodiscard]] boost::asio::any_io_executor executor() { return io_.get_executor(); }

    /// Runs `task` to its end.
    template <class T>
    T run(Task<T> task) {
        return wait(start(std::move(task)));
    }

    /// A task under way; its result need not be default-constructible.
    template <class T>
    struct Pending {
        std::shared_ptr<std::optional<T>> result;
        std::future<void> done;
    };
    template <class T>
    Pending<T> start(Task<T> task) {
        auto result = std::make_shared<std::optional<T>>();
        auto done =
            boost::asio::co_spawn(io_, keep(std::move(task), result), boost::asio::use_future);
        return {std::move(result), std::move(done)};
    }
    template <class T>
    T wait(Pending<T> pending) {
        pending.done.get();
        return std::move(**pending.result);
    }
    void run(Task<void> task) {
        boost::asio::co_spawn(io_, std::move(task), boost::asio::use_future).get();
    }

private:
    template <class T>
    static Task<void> keep(Task<T> task, std::shared_ptr<std::optional<T>> result) {
        result->emplace(co_await std::move(task));
    }

    boost::asio::io_context io_;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
        io_.get_executor()};
    std::vector<std::thread> threads_;
};

}  // namespace annal::test
