#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "runtime/core/task_impl.h"
#include "runtime/http/session_io.h"

namespace boost::asio::ssl {
class context;
}

namespace annal::http {

/// The bytes of one connection: those of its socket, or what TLS makes of them. Without TLS every
/// call is the socket's own.
///
/// Threads: on the socket's executor, one read and one write at a time. Lifetime: as of a socket,
/// it may be destroyed only when nothing is under way.
class Transport {
public:
    using Socket = boost::asio::generic::stream_protocol::socket;
    using error_code = boost::system::error_code;
    using Read = std::function<void(const error_code&, std::size_t)>;

    /// `tls` null: plain.
    Transport(Socket socket, std::shared_ptr<boost::asio::ssl::context> tls);
    ~Transport();
    Transport(const Transport&) = delete;
    Transport& operator=(const Transport&) = delete;

    [[nodiscard]] bool secure() const { return secure_ != nullptr; }
    /// Only with TLS, before anything else.
    [[nodiscard]] Task<error_code> handshake();

    /// `done(error_code, size)` is called on the executor; the end of the stream is asio's eof.
    template <class Done>
    void read_some(boost::asio::mutable_buffer into, Done done) {
        if (secure_) {
            read_secure(into, std::move(done));
        } else {
            socket_.async_read_some(into, std::move(done));
        }
    }
    /// Sends what goes out without waiting; would_block: use `write_more`.
    [[nodiscard]] std::size_t write_now(const OutputPieces& pieces, error_code& ec) {
        if (!secure_) return socket_.write_some(pieces, ec);
        ec = boost::asio::error::would_block;
        return 0;
    }
    /// Waits until some of `pieces` are sent.
    [[nodiscard]] Task<std::size_t> write_more(const OutputPieces& pieces, error_code& ec);

    /// Says goodbye in TLS and waits for the peer's goodbye; afterwards reads see the socket's own
    /// bytes. No read may be under way.
    [[nodiscard]] Task<void> end_tls();
    /// After a handshake that failed: from here on the socket's own bytes.
    void give_up_tls();
    void shutdown_send(error_code& ec) { socket_.shutdown(Socket::shutdown_send, ec); }
    /// Ends reads and writes under way with operation_aborted.
    void cancel();
    void close();

private:
    struct Secure;
    void read_secure(boost::asio::mutable_buffer into, Read done);

    Socket socket_;
    std::unique_ptr<Secure> secure_;
    std::unique_ptr<Secure> ended_;  // TLS that has said goodbye; it may still be referred to
};

}  // namespace annal::http
