#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace annal::test {

/// Seed of what a test draws at random: `ANNAL_TEST_SEED` where that is set, else a new one.
/// Printed either way, so that what failed can be repeated.
inline std::uint32_t test_seed() {
    const char* given = std::getenv("ANNAL_TEST_SEED");
    const std::uint32_t seed = given != nullptr
                                   ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                                   : std::random_device{}();
    std::printf("ANNAL_TEST_SEED=%u\n", seed);
    std::fflush(stdout);
    return seed;
}

}  // namespace annal::test
