#pragma once

#include <atomic>
#include <coroutine>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

namespace annal::inline sdk_v1 {

template <class T = void>
class Task;

namespace detail {

/// A coroutine that waits and whatever it waits for: the one that comes second lets the coroutine
/// go on. Work that ends at once therefore costs no stack, however often it is awaited in a loop.
class Rendezvous {
public:
    void set_waiter(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
    /// The waiting side, once the work has been started. False: it has ended already, go on.
    [[nodiscard]] bool wait() noexcept {
        return state_.exchange(kWaiting, std::memory_order_acq_rel) != kDone;
    }
    /// The working side, exactly once and last: what it belongs to may be gone when this returns.
    void arrive() noexcept {
        if (state_.exchange(kDone, std::memory_order_acq_rel) == kWaiting) {
            waiter_.resume();
        }
    }

private:
    enum State : int { kStarted, kWaiting, kDone };
    std::atomic<int> state_{kStarted};
    std::coroutine_handle<> waiter_;
};

struct PromiseBase {
    struct Final {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <class P>
        void await_suspend(std::coroutine_handle<P> self) const noexcept {
            self.promise().rendezvous.arrive();
        }
        void await_resume() const noexcept {}
    };
    [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
    [[nodiscard]] Final final_suspend() const noexcept { return {}; }
    void unhandled_exception() noexcept { exception = std::current_exception(); }
    void rethrow() const {
        if (exception) {
            std::rethrow_exception(exception);
        }
    }

    Rendezvous rendezvous;
    std::exception_ptr exception;
};

template <class T>
struct Promise : PromiseBase {
    [[nodiscard]] Task<T> get_return_object() noexcept;
    template <class V>
    void return_value(V&& v) {
        value.emplace(std::forward<V>(v));
    }
    [[nodiscard]] T take() {
        rethrow();
        return std::move(*value);
    }
    std::optional<T> value;
};

template <>
struct Promise<void> : PromiseBase {
    [[nodiscard]] Task<void> get_return_object() noexcept;
    void return_void() const noexcept {}
    void take() const { rethrow(); }
};

}  // namespace detail

/// A coroutine of the plugin: starts when it is awaited, hands its result or its exception to the
/// one who awaits it.
///
/// It goes on wherever the host completes what it waits for: on any thread, never on two at once.
///
/// GCC 12: in an expression with `co_await`, name braced aggregates and capturing lambdas first; as
/// arguments they are destroyed twice. The functions of this SDK need neither.
template <class T>
class [[nodiscard]] Task {
public:
    using promise_type = detail::Promise<T>;

    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
    Task(const Task&) = delete;
    Task& operator=(const Task&) = delete;
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (handle_) {
            handle_.destroy();
        }
    }

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    [[nodiscard]] bool await_suspend(std::coroutine_handle<> waiter) const {
        auto& rendezvous = handle_.promise().rendezvous;
        rendezvous.set_waiter(waiter);
        handle_.resume();
        return rendezvous.wait();
    }
    T await_resume() const { return handle_.promise().take(); }

private:
    friend promise_type;
    explicit Task(std::coroutine_handle<promise_type> handle) noexcept : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

namespace detail {

template <class T>
Task<T> Promise<T>::get_return_object() noexcept {
    return Task<T>(std::coroutine_handle<Promise<T>>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
    return Task<void>(std::coroutine_handle<Promise<void>>::from_promise(*this));
}

/// The outermost coroutine of a call: runs at once and frees itself. Its body must not throw.
struct Detached {
    struct promise_type {
        [[nodiscard]] Detached get_return_object() const noexcept { return {}; }
        [[nodiscard]] std::suspend_never initial_suspend() const noexcept { return {}; }
        [[nodiscard]] std::suspend_never final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        void unhandled_exception() const noexcept { std::terminate(); }
    };
};

/// Something of the host's that ends with a callback. `Start` begins it, with this object as the
/// callback's `user`, or settles it at once; the callback settles it otherwise.
template <class R, class Start>
class [[nodiscard]] Operation {
public:
    explicit Operation(Start start) : start_(std::move(start)) {}
    Operation(const Operation&) = delete;
    Operation& operator=(const Operation&) = delete;

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    [[nodiscard]] bool await_suspend(std::coroutine_handle<> waiter) {
        rendezvous_.set_waiter(waiter);
        start_(*this);
        return rendezvous_.wait();
    }
    R await_resume() {
        if (exception_) {
            std::rethrow_exception(exception_);
        }
        return std::move(*result_);
    }

    /// Ends the operation with what `make` returns or throws; called once. This object may be gone
    /// afterwards.
    template <class Make>
    void settle(Make&& make) noexcept {
        try {
            result_.emplace(make());
        } catch (...) {
            exception_ = std::current_exception();
        }
        rendezvous_.arrive();
    }

private:
    Start start_;
    Rendezvous rendezvous_;
    std::optional<R> result_;
    std::exception_ptr exception_;
};

}  // namespace detail
}  // namespace annal::inline sdk_v1
