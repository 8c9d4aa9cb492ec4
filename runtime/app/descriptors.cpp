#include "runtime/app/descriptors.h"

#include <sys/resource.h>

#include <algorithm>
#include <limits>

namespace annal {
namespace {

/// The file that takes the appends, plugins, the log, the operator's connections.
constexpr std::uint64_t kHouse = 128;
/// Of a store: four reading threads, and a database is open with its log and its shared memory.
constexpr std::uint64_t kEachStoreFile = 4 * 3;
constexpr std::uint64_t kOwnMin = 512, kOwnMax = kHouse + 128 * kEachStoreFile;
constexpr std::uint64_t kOutboundMin = 64, kOutboundMax = 2'048;
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

DescriptorShares share_descriptors(std::uint64_t descriptors) {
    const std::uint64_t own = std::clamp(descriptors / 4, kOwnMin, kOwnMax);
    const std::uint64_t outbound = std::clamp(descriptors / 8, kOutboundMin, kOutboundMax);
    const std::uint64_t taken = own + outbound;
    const std::uint64_t left = descriptors > taken ? descriptors - taken : 0;
    const std::uint64_t max = std::numeric_limits<std::uint32_t>::max();
    DescriptorShares shares;
    shares.connections = static_cast<std::uint32_t>(std::clamp(left, kConnectionsMin, max));
    shares.outbound = static_cast<std::uint32_t>(outbound);
    shares.store_files = static_cast<std::uint32_t>((own - kHouse) / kEachStoreFile);
    return shares;
}

}  // namespace annal
