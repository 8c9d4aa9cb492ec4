#include "tests/support/free_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <random>
#include <stdexcept>

namespace annal::test {

BoundSocket bind_free_port() {
    std::random_device random;
    for (int tries = 0; tries < 1000; ++tries) {
        const auto port = std::uniform_int_distribution<std::uint16_t>(20000, 32000)(random);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        const int bound = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (bound < 0) break;
        if (::bind(bound, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
            return {bound, port};
        }
        ::close(bound);
    }
    throw std::runtime_error("no free port of 127.0.0.1");
}

}  // namespace annal::test
