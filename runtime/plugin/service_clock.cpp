#include "runtime/plugin/services.h"

namespace annal {
namespace {

std::int64_t wall_us(annal_ctx* ctx) noexcept {
    return ctx->environment.clock->wall_us();
}
std::int64_t monotonic_us(annal_ctx* ctx) noexcept {
    return ctx->environment.clock->monotonic_us();
}

}  // namespace

const annal_clock_v1 kClockService{sizeof(annal_clock_v1), 0, &wall_us, &monotonic_us};

}  // namespace annal
