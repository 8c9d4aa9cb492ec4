#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/thread_pool.hpp>

#include "runtime/core/run_task_impl.h"

namespace annal::test {

/// Threads that run coroutines for a test's main thread.
class IoThreads {
public:
    explicit IoThreads(std::size_t count = 2) : pool_(count) {}
    /// Waits until nothing is left to run.
    ~IoThreads() { pool_.join(); }

    [[nodiscard]] boost::asio::any_io_executor executor() { return pool_.get_executor(); }

    /// Runs `task` to its end.
    template <class T>
    T run(Task<T> task) {
        return run_task(executor(), std::move(task));
    }
    template <class T>
    PendingTask<T> start(Task<T> task) {
        return {executor(), std::move(task)};
    }
    /// Drops what has not begun yet; nothing can be run afterwards.
    void stop() {
        pool_.stop();
        pool_.join();
    }
    /// Waits until nothing is left to run; nothing can be run afterwards.
    void drain() { pool_.join(); }

private:
    boost::asio::thread_pool pool_;
};

}  // namespace annal::test
