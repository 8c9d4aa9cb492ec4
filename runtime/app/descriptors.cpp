#include "runtime/app/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

namespace annal {
namespace {

/// The store's databases with their logs and indexes for each reading thread, plugins, the log, the
/// operator's connections.
constexpr std::uint64_t kOwnDescriptors = 512;
constexpr std::uint64_t kConnectionsMin = 16;

}  // namespace

std::uint64_t raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    if (limit.rlim_cur < limit.rlim_max) {
        const rlim_t before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
    }
    return limit.rlim_cur;
}

std::uint32_t connections_carried(std::uint64_t descriptors) {
    const std::uint64_t left = descriptors > kOwnDescriptors ? descriptors - kOwnDescriptors : 0;
    const std::uint64_t max = std::numeric_limits<std::uint32_t>::max();
    return static_cast<std::uint32_t>(std::clamp(left, kConnectionsMin, max));
}

}  // namespace annal
