#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/http/gzip.h"
#include "runtime/http/request_parser.h"
#include "runtime/http/response_head.h"
#include "runtime/http/session.h"

namespace annal::http {

/// One request and its answer on a session: what a handler sees as the `Exchange`.
///
/// The session holds the turn until it is over; the handler holds it through `handle()`, whose last
/// copy reports its end, so that a request which everybody forgot still gets an answer.
class Turn final : public Exchange, public std::enable_shared_from_this<Turn>, private BodySink {
public:
    Turn(std::shared_ptr<Session> session, std::string peer_ip);
    ~Turn() override;

    [[nodiscard]] const Request& request() const override { return request_; }
    [[nodiscard]] const Principal& principal() const override { return principal_; }
    [[nodiscard]] bool cancelled() const override;
    [[nodiscard]] bool hung_up() const override { return client_ended_ || cancelled(); }
    [[nodiscard]] Task<Result<std::string_view>> read() override;
    void stream_body() override { streamed_ = true; }
    [[nodiscard]] Result<void> start(int status, Pairs headers) override;
    [[nodiscard]] Task<Result<void>> write(std::string_view bytes) override;
    [[nodiscard]] Task<Result<void>> finish(Pairs trailers) override;
    [[nodiscard]] bool started() const override { return started_; }
    [[nodiscard]] Task<Result<void>> fail(Problem problem) override;
    [[nodiscard]] Task<Result<void>> answer(int status, Pairs headers, std::string_view body)
        override;
    [[nodiscard]] boost::asio::any_io_executor executor() const override;

    // For the session, on its strand.
    [[nodiscard]] std::shared_ptr<Exchange> handle();
    [[nodiscard]] bool over() const { return over_; }
    [[nodiscard]] bool abandoned() const { return abandoned_; }
    /// Answers in the place of a handler that can't any more: a 500, or the connection is cut.
    Task<void> give_up(const char* event, std::string why);
    void client_ended() { client_ended_ = true; }
    /// The connection has ended: from here on everything says Errc::cancelled.
    void end();
    /// Reads on to the end of the body for the next request. False: too much, or it can't be done.
    Task<bool> drain();
    [[nodiscard]] bool body_ended() const { return parser_.is_done(); }
    [[nodiscard]] bool closes() const { return closes_; }
    void close_after() { must_close_ = true; }
    [[nodiscard]] int status() const { return status_; }
    [[nodiscard]] std::uint64_t bytes_in() const { return bytes_in_; }

    // Filled in by the session before the handler sees the turn.
    Request request_;
    Principal principal_;
    RequestParser parser_;
    std::shared_ptr<Handler> handler_;  // renders the problems; null: the native form
    const Route* route_ = nullptr;
    std::int64_t began_us_ = 0;
    bool keep_alive_ = false;
    bool expects_continue_ = false;
    bool takes_trailers_ = false;
    void undo_gzip() { gzip_.emplace(); }
    void count_in(std::size_t bytes) { bytes_in_ += bytes; }

private:
    struct Release;
    class Calling;

    template <class T>
    Task<T> on_strand(Task<T> work);
    template <class T>
    static Task<void> store(Task<T> work, std::optional<T>& result);
    void released();
    /// Nothing more can be said to the client.
    [[nodiscard]] bool unreachable() const;

    Task<Result<std::string_view>> read_here();
    Task<Result<std::string_view>> next_chunk();
    Task<void> ask_to_continue();
    Result<void> decode();
    Result<void> decode_pieces();
    std::size_t take(std::string_view bytes) override;
    [[nodiscard]] std::size_t wanted() const;
    /// Takes what the body has grown from the node's memory for bodies.
    Result<void> charge();
    [[nodiscard]] Error too_large() const;
    [[nodiscard]] Error too_slow() const;

    Task<Result<void>> write_here(std::string_view bytes);
    Task<Result<void>> finish_here(Pairs trailers);
    Task<Result<void>> answer_here(int status, Pairs headers, std::string_view body);
    Task<Result<void>> fail_here(Problem problem);
    Task<Result<void>> transmit(std::string_view bytes, const Pairs* trailers, bool last);
    void append_head(std::uint64_t length, bool last, bool trailers);
    Document render(const Problem& problem) const;
    /// Whether what is left of the body is worth reading for the sake of the next request.
    [[nodiscard]] bool drains() const;
    void decide_close();
    void flush_soon(int hops);
    Task<void> flush(std::shared_ptr<Turn> self);
    void complete();

    std::shared_ptr<Session> session_;
    std::atomic<bool> gone_{false};
    std::atomic<bool> client_ended_{false};
    std::atomic<bool> over_{false};
    std::atomic<bool> started_{false};
    std::atomic<bool> streamed_{false};
    bool abandoned_ = false;
    bool calling_ = false;

    // The body.
    std::string chunk_;
    std::optional<GzipReader> gzip_;
    std::optional<Error> body_error_;
    std::optional<Error> sink_error_;
    bool body_done_ = false;
    std::uint64_t delivered_ = 0;
    std::uint64_t memory_ = 0;  // taken from the node's for this body
    std::uint64_t bytes_in_ = 0;

    // The answer.
    int status_ = 0;
    Pairs headers_;
    Framing framing_ = Framing::length;
    bool head_sent_ = false;
    bool answered_early_ = false;  // by a flush: the client wants no body
    bool closes_ = false;
    bool must_close_ = false;
    bool sending_ = false;
    bool flush_due_ = false;
    Waker sent_;
    std::string gathered_;  // small writes on their way to one system call
    std::string head_, tail_;
};

}  // namespace annal::http
