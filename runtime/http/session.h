#pragma once

#include <array>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/strand.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/task_impl.h"
#include "runtime/http/exchange.h"
#include "runtime/http/session_hub.h"
#include "runtime/http/session_io.h"
#include "runtime/http/transport.h"

namespace annal::http {

class Turn;

/// One connection, from accept to close: reads heads, finds out who asks for what, hands each
/// request to its handler as a `Turn`, and goes on when that turn is over.
///
/// Threads: everything on the strand, but for what says so. Lifetime: its own coroutine and its
/// exchanges hold it.
class Session : public std::enable_shared_from_this<Session> {
public:
    using Socket = Transport::Socket;
    using Strand = boost::asio::strand<boost::asio::any_io_executor>;

    /// `socket` must have `strand` as its executor. `tls` null: plain. `local`: through the Unix
    /// socket, so the node's owner.
    Session(
        std::shared_ptr<SessionHub> hub,
        Strand strand,
        Socket socket,
        std::shared_ptr<boost::asio::ssl::context> tls,
        std::string peer_ip,
        bool local
    );

    /// Serves until the connection ends. [any-thread]
    void run();
    /// Tells the client that there are too many connections, and closes. [any-thread]
    void refuse();
    /// The server is stopping: ends the connection if it is idle and stays so for a moment.
    /// [any-thread]
    void last_call();
    /// Ends the connection whatever it is doing. [any-thread]
    void cut();
    /// Ends what takes too long, if its deadline has passed. [any-thread]
    void check_deadline(std::int64_t now_us);

    [[nodiscard]] bool local() const { return local_; }

    // For its turns.
    [[nodiscard]] const Strand& strand() const { return strand_; }
    [[nodiscard]] const boost::asio::any_io_executor& executor() const { return executor_; }
    [[nodiscard]] SessionHub& hub() const { return *hub_; }
    [[nodiscard]] bool dead() const { return dead_; }
    [[nodiscard]] bool timed_out() const { return timed_out_; }
    [[nodiscard]] InputBuffer& input() { return input_; }
    /// Sends all of `pieces`; the first system call is made at once. @error Errc::cancelled  The
    /// connection is dead.
    [[nodiscard]] Task<Result<void>> send(OutputPieces& pieces);
    /// Waits for more bytes in `input`, for a part of a body; false: end of file, timeout or dead.
    [[nodiscard]] Task<bool> receive_body();
    /// Reads ahead while a handler computes, so that a client that goes away is noticed.
    void watch();
    /// The turn's state has changed: its answer has ended, or nobody holds it any more.
    void turn_changed();
    void die();

private:
    enum class Wait { nothing, handshake, first_byte, head, body, write, linger };

    Task<void> serve(std::shared_ptr<Session> self);
    Task<void> serve_refusal(std::shared_ptr<Session> self);
    /// With TLS: agrees on keys. False: the peer can't, and has been told.
    Task<bool> shake_hands(std::uint32_t timeout_ms);
    Task<bool> serve_one();
    Task<bool> first_byte();
    bool has_first_byte();
    [[nodiscard]] std::int64_t idle_us() const;
    void be_patient_again();
    /// A problem with the head, if there is one.
    Task<std::optional<Problem>> read_head(Turn& turn);
    /// Route, credentials, scope, encoding: whatever forbids that the handler sees the request.
    Task<std::optional<Problem>> admit(Turn& turn);
    Task<std::optional<Problem>> identify(Turn& turn, const Route& route);
    void find_renderer(Turn& turn) const;
    Task<void> hand_over(std::shared_ptr<Turn> turn);
    Task<void> linger();
    /// Ends the read that is under way, if there is one.
    Task<void> stop_reading();
    void finish();
    void account(const Turn& turn);

    Task<bool> receive();
    void start_read();
    void on_read(const boost::system::error_code& ec, std::size_t size);
    void wait_for(Wait what, std::int64_t timeout_us);
    void wait_over();
    void deadline_passed(std::int64_t now_us);
    [[nodiscard]] std::int64_t now() const { return hub_->clock.monotonic_us(); }

    std::shared_ptr<SessionHub> hub_;
    Strand strand_;
    boost::asio::any_io_executor executor_;  // the same strand
    Transport transport_;
    std::string peer_ip_;
    bool local_;

    InputBuffer input_;
    bool reading_ = false;
    bool end_of_file_ = false;
    bool timed_out_ = false;
    bool dead_ = false;
    bool unread_ = false;  // the client may still be sending what nobody will read
    Waker bytes_;
    Waker stopped_;  // a read has been cancelled
    Waker turn_;
    std::shared_ptr<Turn> current_;

    Patience body_patience_, write_patience_;  // of the request being served
    Wait wait_ = Wait::nothing;
    std::atomic<std::int64_t> deadline_us_{INT64_MAX};
};

}  // namespace annal::http
