#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <exception>
#include <optional>
#include <utility>

#include "runtime/core/task_impl.h"
#include "runtime/plugin/call.h"
#include "runtime/plugin/services.h"

namespace annal {

/// What a service says to a handle that stands for no call in flight.
[[nodiscard]] inline Error no_such_call() {
    return {Errc::invalid, "the call is not in flight: it was completed, or never was one"};
}

/// A task that fails at once: arguments that are wrong are reported like everything else, never
/// from within the call.
template <class T>
Task<Result<T>> failing(Error error) {
    co_return std::move(error);
}

template <class T, class Report>
Task<void> report_outcome(Task<Result<T>> work, Report report) {
    std::optional<Result<T>> outcome;
    try {
        outcome.emplace(co_await std::move(work));
    } catch (const std::exception& error) {
        outcome.emplace(Error{Errc::internal, error.what()});
    }
    report(std::move(*outcome));
}

/// Runs `work` on the host's executor and hands its outcome to `report` there, exactly once.
/// `report` must not throw.
template <class T, class Report>
void run_service(const annal_ctx& ctx, Task<Result<T>> work, Report report) {
    boost::asio::co_spawn(
        *ctx.environment.executor,
        report_outcome<T, Report>(std::move(work), std::move(report)),
        boost::asio::detached
    );
}

/// For `annal_done`: success is no error.
inline auto report_to(std::shared_ptr<Call> call, void* user, annal_done done) {
    return [call = std::move(call), user, done](Result<void> outcome) noexcept {
        if (outcome) return done(user, nullptr);
        const annal_error error = to_abi(outcome.error());
        done(user, &error);
    };
}

}  // namespace annal
