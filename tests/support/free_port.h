#pragma once

#include <cstdint>

namespace annal::test {

/// A TCP socket that is bound to a port of 127.0.0.1 and does not listen yet: connections are
/// refused, and nobody else gets the port. The caller closes it.
struct BoundSocket {
    int descriptor = -1;
    std::uint16_t port = 0;
};

/// Binds to a free port outside of those that the kernel hands out by itself, so that nobody takes
/// it while its server restarts.
///
/// Failures: std::runtime_error.
BoundSocket bind_free_port();

}  // namespace annal::test
