#include "runtime/http/transport.h"

#include <boost/asio/error.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/asio/ssl/stream.hpp>

namespace annal::http {

namespace asio = boost::asio;
namespace ssl = asio::ssl;

struct Transport::Secure {
    Secure(Socket& socket, std::shared_ptr<ssl::context> the_context)
        : context(std::move(the_context)), stream(socket, *context) {}

    std::shared_ptr<ssl::context> context;
    ssl::stream<Socket&> stream;
};

Transport::Transport(Socket socket, std::shared_ptr<ssl::context> tls)
    : socket_(std::move(socket)),
      secure_(tls ? std::make_unique<Secure>(socket_, std::move(tls)) : nullptr) {
    error_code ignored;  // a socket that can't be non-blocking fails at its first use
    socket_.non_blocking(true, ignored);
}

Transport::~Transport() = default;

Task<Transport::error_code> Transport::handshake() {
    error_code ec;
    co_await secure_->stream.async_handshake(
        ssl::stream_base::server, asio::redirect_error(asio::use_awaitable, ec)
    );
    co_return ec;
}

void Transport::read_secure(asio::mutable_buffer into, Read done) {
    secure_->stream.async_read_some(
        into,
        [done = std::move(done)](error_code ec, std::size_t size) {
            // Without a goodbye: HTTP has its own ends, so nothing cut can pass for something
            // whole.
            if (ec == ssl::error::stream_truncated) ec = asio::error::eof;
            done(ec, size);
        }
    );
}

Task<std::size_t> Transport::write_more(const OutputPieces& pieces, error_code& ec) {
    if (secure_) {
        co_return co_await secure_->stream.async_write_some(
            pieces, asio::redirect_error(asio::use_awaitable, ec)
        );
    }
    co_return co_await socket_.async_write_some(
        pieces, asio::redirect_error(asio::use_awaitable, ec)
    );
}

Task<void> Transport::end_tls() {
    error_code ignored;  // a peer that never learns of it sees the end of the socket
    co_await secure_->stream.async_shutdown(asio::redirect_error(asio::use_awaitable, ignored));
    give_up_tls();
}

void Transport::give_up_tls() {
    ended_ = std::move(secure_);
}

void Transport::cancel() {
    error_code ignored;
    socket_.cancel(ignored);
}

void Transport::close() {
    error_code ignored;
    socket_.close(ignored);
}

}  // namespace annal::http
