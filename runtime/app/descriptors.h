#pragma once

#include <cstdint>

namespace annal {

/// Raises the process's limit of open files to what it may have. Returns how many that are.
std::uint64_t raise_descriptor_limit();

/// Connections that leave the store, its files and the Unix socket descriptors enough.
[[nodiscard]] std::uint32_t connections_carried(std::uint64_t descriptors);

}  // namespace annal
