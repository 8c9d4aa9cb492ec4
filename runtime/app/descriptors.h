#pragma once

#include <cstdint>

namespace annal {

/// Raises the process's limit of open files to what it may have. Returns how many that are.
std::uint64_t raise_descriptor_limit();

/// How the open files that a process may have are shared out.
struct DescriptorShares {
    std::uint32_t connections = 0;  ///< of clients
    std::uint32_t outbound = 0;     ///< connections of plugins to other hosts
    std::uint32_t store_files = 0;  ///< databases that each reading thread of a store keeps open
};
/// The process itself and its store get a quarter, at least 512 and never more than they can use;
/// outbound connections an eighth, from 64 to 2048; clients the rest, at least 16.
[[nodiscard]] DescriptorShares share_descriptors(std::uint64_t descriptors);

}  // namespace annal
