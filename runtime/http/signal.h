#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <mutex>
#include <utility>

#include "runtime/core/task_impl.h"

namespace annal::http {

/// One coroutine waits until any thread wakes it. A wake that finds nobody waiting is kept for the
/// next wait; several of those are one.
class Signal {
public:
    Task<void> wait() {
        boost::asio::any_io_executor executor = co_await boost::asio::this_coro::executor;
        auto initiation = [this, executor](auto handler) { park(executor, std::move(handler)); };
        co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(
            initiation, boost::asio::use_awaitable
        );
    }
    /// Only posts. [any-thread]
    void wake() {
        std::unique_lock lock(mutex_);
        woken_ = true;
        resume(std::move(lock));
    }

private:
    using Waiter = boost::asio::any_completion_handler<void()>;

    void park(boost::asio::any_io_executor executor, Waiter waiter) {
        std::unique_lock lock(mutex_);
        executor_ = std::move(executor);
        waiter_.swap(waiter);  // Boost 1.81's assignment calls itself for ever
        resume(std::move(lock));
    }
    /// The waiter may be the last to hold this signal: it is touched no more once that is posted.
    void resume(std::unique_lock<std::mutex> lock) {
        if (!woken_ || !waiter_) return;
        woken_ = false;
        Waiter waiter;
        waiter.swap(waiter_);
        const boost::asio::any_io_executor executor = executor_;
        lock.unlock();
        boost::asio::post(executor, std::move(waiter));
    }

    std::mutex mutex_;
    bool woken_ = false;
    boost::asio::any_io_executor executor_;
    Waiter waiter_;
};

}  // namespace annal::http
