#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <chrono>

#include "runtime/plugin/service_task.h"

namespace annal {
namespace {

using std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

constexpr std::uint32_t kDelayMsMax = 3'600'000;
// Cancellation is asked for, not announced: this is how late a sleeper may hear of it.
constexpr milliseconds kLookInterval{50};

std::int64_t wall_us(annal_ctx* ctx) noexcept {
    return ctx->environment.clock->wall_us();
}
std::int64_t monotonic_us(annal_ctx* ctx) noexcept {
    return ctx->environment.clock->monotonic_us();
}

Task<Result<void>> sleep(std::shared_ptr<Call> call, milliseconds delay) {
    boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
    const auto until = Steady::now() + delay;
    while (!call->cancelled()) {
        const auto now = Steady::now();
        if (now >= until) co_return ok();
        timer.expires_at(std::min(until, now + kLookInterval));
        co_await timer.async_wait(boost::asio::use_awaitable);
    }
    co_return Error{Errc::cancelled, "the call was cancelled while it waited"};
}

void after(
    annal_ctx* ctx, annal_call* handle, std::uint32_t delay_ms, void* user, annal_done done
) noexcept {
    auto call = Call::share(handle);
    auto work = !call                    ? failing<void>(no_such_call())
                : delay_ms > kDelayMsMax ? failing<void>({Errc::invalid, "a delay of over an hour"})
                                         : sleep(call, milliseconds(delay_ms));
    run_service<void>(*ctx, std::move(work), report_to(std::move(call), user, done));
}

}  // namespace

const annal_clock_v1 kClockService{sizeof(annal_clock_v1), 0, &wall_us, &monotonic_us, &after};

}  // namespace annal
