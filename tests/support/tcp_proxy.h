#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/free_port.h"

namespace annal::test {

/// The network between a client and a server that listens on a Unix socket: takes connections on a
/// port of 127.0.0.1, forwards them, and fails them on demand. What a function demands holds for
/// every byte from its return on.
///
/// Failures: std::runtime_error from the constructor. A server that does not listen resets the
///           client's connection.
/// Threads:  any. One thread of its own forwards; the destructor resets all connections and joins
/// it. Limits:   256 connections, 128 KiB of bytes under way each; more connections wait.
class TcpProxy {
public:
    /// What `cut_on` loses.
    enum class Lost {
        request,  ///< the server never sees the client's bytes
        answer,   ///< the server gets and answers them; the client never sees the answer
    };
    /// What becomes of the connection then.
    enum class Then {
        reset,    ///< both sides are closed at once, the client's with a reset
        silence,  ///< both stay open, and nothing passes any more, until `cut`
    };

    /// @param socket_path  the server's: `PostgresCluster::socket_path()`
    explicit TcpProxy(std::string socket_path);
    ~TcpProxy();
    TcpProxy(const TcpProxy&) = delete;
    TcpProxy& operator=(const TcpProxy&) = delete;

    [[nodiscard]] std::uint16_t port() const { return listener_.port; }
    /// libpq's URL of a database of the cluster behind, without encryption, so that `cut_on` reads
    /// it.
    [[nodiscard]] std::string url(std::string_view database) const;

    /// Resets all connections. New ones are welcome.
    void cut();
    /// Stops forwarding in both directions, ends of streams included, and closes nothing. New
    /// connections come to a stand, too.
    void stall();
    /// Refuses new connections; those that are there go on.
    void refuse();
    /// Ends `stall` and `refuse`, and takes back a `cut_on` that has not happened. What has waited
    /// is forwarded.
    void resume();

    /// Once, on the first connection whose client sends `pattern`: forwards nothing any more from
    /// the bytes on that were received together with the pattern's end. Other connections, also
    /// later ones, go on. A second call replaces the first.
    ///
    /// With `Lost::answer` it happens when the first bytes after the request have come from the
    /// server: what it answers to a COMMIT has been committed by then.
    /// @param pattern  not empty; of PostgreSQL's protocol as it is on the wire
    void cut_on(std::string pattern, Lost lost, Then then = Then::reset);
    /// Waits until the last `cut_on` has happened. False when it has not within `timeout`.
    [[nodiscard]] bool await_cut(std::chrono::milliseconds timeout);

    /// Connections that are open, those in silence included.
    [[nodiscard]] std::size_t connections();

private:
    struct Trigger {
        std::string pattern;
        Lost lost = Lost::request;
        Then then = Then::reset;
    };
    struct Connection {
        int client = -1, server = -1;
        std::string to_server, to_client;  ///< received, not yet forwarded
        std::string seen;  ///< the last bytes of the client, where a pattern may begin
        bool client_ended = false, server_ended = false;
        bool answer_lost = false;  ///< waits for the answer that will be lost
        bool silent = false;
        Then then = Then::reset;
        std::size_t polled_at = 0;  ///< of the client in the list for poll(2); the server is next
    };

    void loop();
    void on_loop(const std::function<void()>& work);
    void do_work();
    void admit();
    void accept_one();
    void forward(Connection& connection, short client_events, short server_events);
    void from_client(Connection& connection);
    void from_server(Connection& connection);
    void lose(Connection& connection);
    void close(Connection& connection);
    void close_all();

    const std::string server_path_;
    BoundSocket listener_;
    int wake_ = -1;

    // The loop's own.
    std::list<Connection> connections_;
    std::optional<Trigger> trigger_;
    bool stalled_ = false, admitting_ = false, ending_ = false;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::function<void()>> work_;
    bool cut_happened_ = false;
    std::thread thread_;
};

}  // namespace annal::test
