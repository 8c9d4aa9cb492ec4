#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace annal {

/// Drives any number of libcurl's transfers on one thread: epoll below curl_multi_socket_action.
///
/// Easy handles are passed as `void*`, which is what libcurl's CURL is.
/// Threads:  one for everything but `wake`.
/// Limits:   `connections_max` connections, used and kept; libcurl closes the one unused longest.
class TransferLoop {
public:
    struct Ended {
        void* easy;
        int code;  ///< CURLcode
    };
    explicit TransferLoop(std::size_t connections_max);
    ~TransferLoop();
    TransferLoop(const TransferLoop&) = delete;
    TransferLoop& operator=(const TransferLoop&) = delete;

    /// False: libcurl or the process has no room for a loop; nothing can be added.
    [[nodiscard]] bool works() const { return multi_ != nullptr; }
    /// Begins with the next `turn`. False: nothing was begun.
    [[nodiscard]] bool add(void* easy);
    /// Ends it at once when it is under way; the handle may be used again.
    void remove(void* easy);
    /// The number is a new connection's, or about to be anybody's: what was known of it, and what
    /// epoll has already said, is of another one.
    void forget(int socket);

    /// Whoever brings work from another thread makes it visible first and calls `wake` then; the
    /// loop says `look` before it looks for such work. So nothing is missed, and a loop that is
    /// at work anyway is not woken by a system call each time.
    void wake();
    void look() { asleep_ = true; }
    /// Waits for at most `wait_max`, or until something happens, and lets transfers go on. Returns
    /// those that have ended; they are still to be removed. Valid until the next call.
    const std::vector<Ended>& turn(std::chrono::milliseconds wait_max);

private:
    struct Watch {
        std::uint32_t wanted = 0, registered = 0;
        std::uint32_t life = 0;  ///< of the number: told apart from those before
    };
    struct Callbacks;

    void want(int socket, std::uint32_t events);
    void act(const epoll_event& event);
    void act_on_time();
    void collect();
    [[nodiscard]] int wait_ms(std::chrono::milliseconds wait_max) const;
    Watch& watch(int socket);

    void* multi_ = nullptr;
    int epoll_ = -1, wake_ = -1;
    std::atomic<bool> asleep_{false};
    std::optional<std::chrono::steady_clock::time_point> due_;
    std::vector<Watch> watches_;  // by descriptor
    std::array<epoll_event, 256> events_{};
    std::vector<Ended> ended_;
};

}  // namespace annal
