#include "runtime/http/session_turn.h"

#include <algorithm>
#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <charconv>
#include <exception>

#include "runtime/core/log.h"

namespace annal::http {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kChunkBytes = 64U << 10;        // a read hands out at most
constexpr std::size_t kGatherBytes = 16U << 10;       // small writes wait for each other up to here
constexpr std::uint64_t kDrainBytesMax = 256U << 10;  // of a body that nobody reads
/// How often a flush lets others on the strand go first: an answer that comes as start, write and
/// finish from another thread needs two hops to become one system call.
constexpr int kFlushHops = 4;

Error gone() {
    return {Errc::cancelled, "the client is gone"};
}

Error misuse(const char* what) {
    return {Errc::internal, what};
}

void append_hex(std::string& out, std::uint64_t value) {
    std::array<char, 16> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16);
    out.append(digits.data(), end.ptr);
}

class Discard final : public BodySink {
public:
    std::size_t take(std::string_view bytes) override { return bytes.size(); }
};

}  // namespace

/// The deleter of the handle that a handler holds: the turn itself goes on living.
struct Turn::Release {
    std::shared_ptr<Turn> turn;
    void operator()(Exchange*) const { turn->released(); }
};

/// One call at a time: a plugin that breaks the rule gets an error, not a race.
class Turn::Calling {
public:
    explicit Calling(Turn& turn) : turn_(turn), entered_(!turn.calling_) { turn.calling_ = true; }
    ~Calling() {
        if (entered_) turn_.calling_ = false;
    }
    Calling(const Calling&) = delete;
    Calling& operator=(const Calling&) = delete;
    [[nodiscard]] bool entered() const { return entered_; }

private:
    Turn& turn_;
    bool entered_;
};

Turn::Turn(std::shared_ptr<Session> session, std::string peer_ip)
    : parser_(request_), session_(std::move(session)) {
    request_.peer_ip = std::move(peer_ip);
    parser_.limit_framing(session_->hub().limits.header_bytes_max);
}

Turn::~Turn() {
    if (memory_ > 0) session_->hub().give_back(memory_);
}

std::shared_ptr<Exchange> Turn::handle() {
    return {static_cast<Exchange*>(this), Release{shared_from_this()}};
}

void Turn::released() {
    if (over_) return;
    asio::post(session_->strand(), [self = shared_from_this()] {
        if (self->over_) return;
        self->abandoned_ = true;
        self->session_->turn_changed();
    });
}

bool Turn::cancelled() const {
    return gone_ || session_->hub().cut;
}

asio::any_io_executor Turn::executor() const {
    return session_->executor();
}

template <class T>
Task<void> Turn::store(Task<T> work, std::optional<T>& result) {
    result.emplace(co_await std::move(work));
}

template <class T>
Task<T> Turn::on_strand(Task<T> work) {
    const asio::any_io_executor here = co_await asio::this_coro::executor;
    if (session_->strand().running_in_this_thread() && here == session_->executor()) {
        co_return co_await std::move(work);
    }
    // co_spawn wants a value that can be default-constructed, which a Result can't.
    std::optional<T> result;
    Task<void> stored = store(std::move(work), result);
    co_await asio::co_spawn(session_->executor(), std::move(stored), asio::use_awaitable);
    co_return std::move(*result);
}

Task<Result<std::string_view>> Turn::read() {
    return on_strand(read_here());
}
Task<Result<void>> Turn::write(std::string_view bytes) {
    return on_strand(write_here(bytes));
}
Task<Result<void>> Turn::finish(Pairs trailers) {
    return on_strand(finish_here(std::move(trailers)));
}
Task<Result<void>> Turn::fail(Problem problem) {
    return on_strand(fail_here(std::move(problem)));
}
Task<Result<void>> Turn::answer(int status, Pairs headers, std::string_view body) {
    return on_strand(answer_here(status, std::move(headers), body));
}

bool Turn::unreachable() const {
    return over_ || session_->dead() || session_->hub().cut;
}

void Turn::end() {
    gone_ = true;
    over_ = true;
}

// --- The body ---------------------------------------------------------------------------------

Task<Result<std::string_view>> Turn::read_here() {
    const Calling calling(*this);
    if (!calling.entered()) co_return misuse("a read beside another call on the same exchange");
    if (body_error_) co_return *body_error_;
    if (unreachable()) co_return gone();
    auto chunk = co_await next_chunk();
    if (!chunk) body_error_ = chunk.error();
    co_return chunk;
}

std::size_t Turn::wanted() const {
    const std::int64_t length = request_.content_length;
    const bool small = !gzip_ && length > 0 && length <= static_cast<std::int64_t>(kChunkBytes);
    return small ? static_cast<std::size_t>(length) : 1;
}

Error Turn::too_large() const {
    return {
        Errc::too_large,
        "the request body is larger than " + std::to_string(session_->hub().limits.body_bytes_max) +
            " bytes; send it in parts"};
}

Task<Result<std::string_view>> Turn::next_chunk() {
    const Limits& limits = session_->hub().limits;
    const std::uint64_t stated =
        request_.content_length > 0 ? static_cast<std::uint64_t>(request_.content_length) : 0;
    // What is compressed beyond the limit is beyond it decoded, but for absurd input.
    if (!streamed_ && stated > limits.body_bytes_max) co_return too_large();
    chunk_.clear();
    if (body_done_) co_return std::string_view();
    if (wanted() > 1) chunk_.reserve(wanted());
    for (;;) {
        BOOST_OUTCOME_CO_TRYV(decode());
        if (body_done_ || chunk_.size() >= wanted()) break;
        if (expects_continue_) co_await ask_to_continue();
        if (co_await session_->receive_body()) continue;
        if (!session_->timed_out()) co_return gone();
        co_return too_slow();
    }
    expects_continue_ = false;
    if (body_done_) session_->watch();
    delivered_ += chunk_.size();
    if (!streamed_ && delivered_ > limits.body_bytes_max) co_return too_large();
    BOOST_OUTCOME_CO_TRYV(charge());
    co_return std::string_view(chunk_);
}

Result<void> Turn::charge() {
    SessionHub& hub = session_->hub();
    // A handler of a streamed body may hold as much of it as of a whole one.
    const std::uint64_t held =
        streamed_ ? std::min(delivered_, hub.limits.body_bytes_max) : delivered_;
    if (held <= memory_) return ok();
    if (!hub.take_memory(held - memory_)) {
        return Error{
            Errc::unavailable,
            "the node's memory for request bodies is used up; try again",
            {},
            1000};
    }
    memory_ = held;
    return ok();
}

Error Turn::too_slow() const {
    const Limits& limits = session_->hub().limits;
    const std::string time = std::to_string(limits.body_timeout_ms) + " ms";
    if (limits.body_rate_min_bytes_per_s == 0)
        return {Errc::timeout, "no byte of the request body came within " + time};
    return {
        Errc::timeout,
        "the request body lagged " + time + " behind " +
            std::to_string(limits.body_rate_min_bytes_per_s) + " bytes a second"};
}

Task<void> Turn::ask_to_continue() {
    expects_continue_ = false;
    if (head_sent_ || !session_->input().empty() || !parser_.http11()) co_return;
    OutputPieces pieces;
    pieces.add("HTTP/1.1 100 Continue\r\n\r\n");
    // When it can't be sent the read that follows says so.
    (void)co_await session_->send(pieces);
}

Result<void> Turn::decode() {
    if (gzip_ && gzip_->pending()) {
        std::string_view nothing;
        BOOST_OUTCOME_TRYV(gzip_->decode(nothing, chunk_, kChunkBytes));
    }
    BOOST_OUTCOME_TRYV(decode_pieces());
    const bool more_inside = gzip_ && gzip_->pending();
    if (parser_.is_done() && !more_inside) {
        if (gzip_ && !gzip_->whole()) {
            return Error{Errc::invalid, "the gzip body ends too early; send all of it"};
        }
        body_done_ = true;
    } else if (!parser_.is_done() && chunk_.size() < kChunkBytes &&
               session_->input().size() >= session_->hub().limits.header_bytes_max) {
        return Error{Errc::invalid, "a chunk header or the trailers of the body are too long"};
    }
    return ok();
}

Result<void> Turn::decode_pieces() {
    InputBuffer& input = session_->input();
    while (!parser_.is_done() && !input.empty() && chunk_.size() < kChunkBytes) {
        std::string_view rest = input.view();
        const std::size_t before = rest.size();
        BOOST_OUTCOME_TRYV(parser_.body(rest, *this));
        if (sink_error_) return *sink_error_;
        const std::size_t used = before - rest.size();
        input.consume(used);
        bytes_in_ += used;
        if (used == 0) break;
    }
    return ok();
}

std::size_t Turn::take(std::string_view bytes) {
    if (!gzip_) {
        const std::size_t size = std::min(bytes.size(), kChunkBytes - chunk_.size());
        chunk_.append(bytes.data(), size);
        return size;
    }
    std::string_view rest = bytes;
    if (auto decoded = gzip_->decode(rest, chunk_, kChunkBytes); !decoded) {
        sink_error_ = decoded.error();
    }
    return bytes.size() - rest.size();
}

Task<bool> Turn::drain() {
    Discard discard;
    InputBuffer& input = session_->input();
    std::uint64_t drained = 0;
    while (!parser_.is_done()) {
        std::string_view rest = input.view();
        const std::size_t before = rest.size();
        const auto parsed = parser_.body(rest, discard);
        const std::size_t used = before - rest.size();
        input.consume(used);
        bytes_in_ += used;
        drained += used;
        if (!parsed || drained > kDrainBytesMax) co_return false;
        if (parser_.is_done()) break;
        if (input.size() >= session_->hub().limits.header_bytes_max) co_return false;
        if (!co_await session_->receive_body()) co_return false;
    }
    co_return true;
}

// --- The answer -------------------------------------------------------------------------------

Result<void> Turn::start(int status, Pairs headers) {
    if (status < 200 || status > 599) return misuse("an answer's status must be 200 to 599");
    BOOST_OUTCOME_TRYV(check_headers(headers));
    if (started_.exchange(true)) return misuse("the answer has been started already");
    status_ = status;
    headers_ = std::move(headers);
    return ok();
}

Task<Result<void>> Turn::write_here(std::string_view bytes) {
    const Calling calling(*this);
    if (!calling.entered()) co_return misuse("a write beside another call on the same exchange");
    if (!started_) co_return misuse("a write before the start of the answer");
    while (sending_) co_await sent_.wait();
    if (unreachable()) co_return gone();
    if (bytes.empty()) co_return ok();
    if (gathered_.size() + bytes.size() > kGatherBytes) {
        co_return co_await transmit(bytes, nullptr, false);
    }
    gathered_.append(bytes);
    if (!flush_due_) {
        flush_due_ = true;
        flush_soon(kFlushHops);
    }
    co_return ok();
}

Task<Result<void>> Turn::finish_here(Pairs trailers) {
    const Calling calling(*this);
    if (!calling.entered()) co_return misuse("a finish beside another call on the same exchange");
    if (!started_) co_return misuse("a finish before the start of the answer");
    BOOST_OUTCOME_CO_TRYV(check_headers(trailers));
    while (sending_) co_await sent_.wait();
    if (answered_early_) {
        answered_early_ = false;
        co_return ok();
    }
    if (unreachable()) co_return gone();
    co_return co_await transmit({}, &trailers, true);
}

Task<Result<void>> Turn::answer_here(int status, Pairs headers, std::string_view body) {
    const Calling calling(*this);
    if (!calling.entered()) co_return misuse("an answer beside another call on the same exchange");
    BOOST_OUTCOME_CO_TRYV(start(status, std::move(headers)));
    if (unreachable()) co_return gone();
    co_return co_await transmit(body, nullptr, true);
}

Document Turn::render(const Problem& problem) const {
    try {
        if (handler_) return handler_->render(problem);
    } catch (const std::exception& e) {
        log::error(
            "http.render_failed", {{"request_id", request_.request_id}, {"detail", e.what()}}
        );
    }
    return problem_json(problem);
}

Task<Result<void>> Turn::fail_here(Problem problem) {
    if (started_) co_return misuse("the answer has been started already");
    if (problem.request_id.empty()) problem.request_id = request_.request_id;
    if (problem.status < 400 || problem.status > 599) problem.status = 500;
    const bool slow = body_error_ && body_error_->code == Errc::timeout;
    if (slow && problem.code == name(Errc::timeout)) {
        // A deadline that the client missed is the client's error, unlike one that the node missed.
        problem.status = 408;
        problem.title.clear();
        problem.retry_after_s = 0;
    }
    Document document = render(problem);
    Pairs headers = std::move(problem.headers);
    headers.emplace_back("Content-Type", std::move(document.content_type));
    if (problem.retry_after_s > 0) {
        headers.emplace_back("Retry-After", std::to_string(problem.retry_after_s));
    }
    co_return co_await answer_here(problem.status, std::move(headers), document.body);
}

Task<void> Turn::give_up(const char* event, std::string why) {
    log::error(
        event,
        {{"request_id", request_.request_id},
         {"route", route_ ? std::string_view(route_->pattern) : std::string_view()},
         {"owner", route_ ? std::string_view(route_->owner) : std::string_view()},
         {"detail", why}}
    );
    while (sending_) co_await sent_.wait();
    if (unreachable()) co_return;
    if (head_sent_ || calling_) {
        session_->die();
        co_return;
    }
    gathered_.clear();
    headers_.clear();
    started_ = false;
    Error error{Errc::internal, "the request could not be answered; the log has the reason"};
    Problem problem = problem_of(error);
    (void)co_await fail_here(std::move(problem));  // a client that is gone needs none
}

bool Turn::drains() const {
    if (!parser_.is_header_done()) return false;
    const auto left = parser_.content_length_remaining();
    const bool never_comes = expects_continue_ && session_->input().empty();
    return !never_comes && (!left || *left <= kDrainBytesMax);
}

void Turn::decide_close() {
    closes_ = must_close_ || !keep_alive_ || session_->hub().stopping || body_error_ ||
              (!parser_.is_done() && !drains());
}

void Turn::append_head(std::uint64_t length, bool last, bool trailers) {
    decide_close();
    if (status_ == 204 || status_ == 304) {
        framing_ = Framing::none;
    } else if (last && !trailers) {
        framing_ = Framing::length;
    } else if (parser_.http11()) {
        framing_ = Framing::chunked;
    } else {
        framing_ = Framing::until_close;
        closes_ = true;
    }
    ResponseHead head;
    head.status = status_;
    head.headers = &headers_;
    head.request_id = request_.request_id;
    head.now = session_->hub().clock.wall_us();
    head.framing = framing_;
    head.length = length;
    head.close = closes_;
    head.say_keep_alive = !parser_.http11();
    append_response_head(head_, head);
}

Task<Result<void>> Turn::transmit(std::string_view bytes, const Pairs* trailers, bool last) {
    const std::uint64_t size = gathered_.size() + bytes.size();
    const bool trailing = trailers && !trailers->empty() && takes_trailers_ && parser_.http11();
    head_.clear();
    tail_.clear();
    if (!head_sent_) append_head(size, last, trailing);
    const bool bodiless = framing_ == Framing::none || request_.method == "HEAD";
    if (framing_ == Framing::chunked && !bodiless) {
        if (size > 0) {
            append_hex(head_, size);
            head_ += "\r\n";
            tail_ += "\r\n";
        }
        if (last) {
            tail_ += "0\r\n";
            if (trailing) append_trailers(tail_, *trailers);
            tail_ += "\r\n";
        }
    }
    OutputPieces pieces;
    pieces.add(head_);
    if (!bodiless) {
        pieces.add(gathered_);
        pieces.add(bytes);
    }
    pieces.add(tail_);
    head_sent_ = true;
    sending_ = true;
    const auto sent = co_await session_->send(pieces);
    sending_ = false;
    gathered_.clear();
    sent_.wake();
    if (!sent) co_return sent.error();
    answered_early_ = bodiless && !last;
    if (last || bodiless) complete();
    co_return ok();
}

void Turn::flush_soon(int hops) {
    asio::post(session_->strand(), [self = shared_from_this(), hops] {
        if (self->over_ || self->gathered_.empty() || self->sending_) {
            self->flush_due_ = false;
        } else if (hops > 0) {
            self->flush_soon(hops - 1);
        } else {
            self->flush_due_ = false;
            asio::co_spawn(self->session_->executor(), self->flush(self), asio::detached);
        }
    });
}

Task<void> Turn::flush(std::shared_ptr<Turn>) {
    if (sending_ || gathered_.empty() || unreachable()) co_return;
    (void)co_await transmit({}, nullptr, false);  // the next write says that the client is gone
}

void Turn::complete() {
    over_ = true;
    session_->turn_changed();
}

}  // namespace annal::http
