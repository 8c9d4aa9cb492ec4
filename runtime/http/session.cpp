#include "runtime/http/session.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/beast/core/string.hpp>
#include <exception>

#include "runtime/core/log.h"
#include "runtime/http/session_turn.h"

namespace annal::http {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

constexpr std::size_t kHeadReadBytes = 8U << 10;
constexpr std::size_t kBodyReadBytes = 64U << 10;
constexpr std::size_t kIdleBufferBytes = 32U << 10;
/// How long a connection that is being closed still takes what the client sends: with unread bytes
/// the kernel would reset it, and the client might lose the answer.
constexpr std::uint32_t kLingerMs = 2'000;
/// How long an idle connection of a stopping server may still hand over what is on its way, so that
/// a client in the rhythm of request and answer learns of the end from an answer, not from a reset.
constexpr std::uint32_t kLastCallMs = 250;

constexpr std::int64_t us(std::uint32_t ms) {
    return std::int64_t{ms} * 1000;
}

Problem problem(int status, std::string code, std::string detail) {
    Problem p;
    p.status = status;
    p.code = std::move(code);
    p.detail = std::move(detail);
    return p;
}

bool is_sane_id(std::string_view id) {
    return !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               c == '-' || c == '_' || c == '.' || c == ':';
    });
}

bool same_word(std::string_view a, std::string_view b) {
    return a.size() == b.size() &&
           boost::beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

std::string shorten(std::string_view text) {
    constexpr std::size_t kShown = 200;
    if (text.size() <= kShown) return std::string(text);
    std::size_t end = kShown;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    return std::string(text.substr(0, end)) + "…";
}

std::string join(const std::vector<std::string>& words) {
    std::string all;
    for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
    return all;
}

Problem unsupported_encoding(std::string_view encoding) {
    Problem p = problem(
        415,
        "unsupported",
        "Content-Encoding '" + shorten(encoding) + "' is not supported: send gzip or none"
    );
    p.headers.emplace_back("Accept-Encoding", "gzip");
    return p;
}

/// The path as it may be logged: a key that somebody put there by mistake is cut off.
std::string_view without_secret(std::string_view path) {
    constexpr std::string_view kKeyPrefix = "sk_live_";
    const auto at = path.find(kKeyPrefix);
    return path.substr(0, at == std::string_view::npos ? at : at + kKeyPrefix.size());
}

/// What the headers ask of the connection rather than of the handler.
std::optional<Problem> read_wishes(Turn& turn) {
    for (const auto& [name, value] : turn.request_.headers) {
        if (name == "te") {
            turn.takes_trailers_ = turn.takes_trailers_ || list_has(value, "trailers");
        } else if (name == "expect") {
            if (!same_word(value, "100-continue")) {
                return problem(417, "unsupported", "Expect may be 100-continue only");
            }
            turn.expects_continue_ = turn.parser_.http11() && !turn.parser_.is_done();
        }
    }
    return std::nullopt;
}

std::optional<Problem> read_encoding(Turn& turn) {
    bool gzip = false;
    for (const auto& [name, value] : turn.request_.headers) {
        if (name != "content-encoding" || value.empty() || same_word(value, "identity")) continue;
        const bool known = same_word(value, "gzip") || same_word(value, "x-gzip");
        if (!known || gzip) return unsupported_encoding(value);
        gzip = true;
    }
    if (gzip && !turn.parser_.is_done()) turn.undo_gzip();
    return std::nullopt;
}

/// An authenticator that throws must not cost the connection.
Task<Result<Principal>> authenticate(Authenticator& authenticator, const Request& request) {
    std::string why;
    try {
        co_return co_await authenticator.authenticate(request);
    } catch (const std::exception& e) {
        why = e.what();
    }
    log::error("http.authenticator_threw", {{"request_id", request.request_id}, {"detail", why}});
    co_return Error{Errc::internal, "the credentials could not be checked; the log has the reason"};
}

/// Counts a handler that is at work, also when its coroutine is destroyed.
class AtWork {
public:
    explicit AtWork(std::shared_ptr<SessionHub> hub) : hub_(std::move(hub)) {}
    ~AtWork() {
        if (hub_) hub_->handler_ended();
    }
    AtWork(AtWork&&) noexcept = default;
    AtWork(const AtWork&) = delete;
    AtWork& operator=(const AtWork&) = delete;

private:
    std::shared_ptr<SessionHub> hub_;
};

Task<void> run_handler(
    AtWork,
    std::shared_ptr<Turn> turn,
    std::shared_ptr<Handler> handler,
    std::shared_ptr<Exchange> exchange
) {
    std::string why;
    bool threw = false;
    try {
        co_await handler->handle(exchange);
    } catch (const std::exception& e) {
        threw = true;
        why = e.what();
    } catch (...) {
        threw = true;
        why = "an exception of unknown type";
    }
    if (threw) co_await turn->give_up("http.handler_threw", std::move(why));
}

}  // namespace

Session::Session(
    std::shared_ptr<SessionHub> hub,
    Strand strand,
    Socket socket,
    std::shared_ptr<asio::ssl::context> tls,
    std::string peer_ip,
    bool local
)
    : hub_(std::move(hub)),
      strand_(strand),
      executor_(std::move(strand)),
      transport_(std::move(socket), std::move(tls)),
      peer_ip_(std::move(peer_ip)),
      local_(local),
      body_patience_(hub_->limits.body_timeout_ms, hub_->limits.body_rate_min_bytes_per_s),
      write_patience_(hub_->limits.write_timeout_ms, hub_->limits.write_rate_min_bytes_per_s) {}

void Session::run() {
    asio::co_spawn(executor_, serve(shared_from_this()), asio::detached);
}

void Session::refuse() {
    asio::co_spawn(executor_, serve_refusal(shared_from_this()), asio::detached);
}

void Session::last_call() {
    asio::post(strand_, [self = shared_from_this()] {
        if (self->wait_ == Wait::first_byte) self->wait_for(Wait::first_byte, self->idle_us());
    });
}

void Session::cut() {
    asio::post(strand_, [self = shared_from_this()] { self->die(); });
}

void Session::check_deadline(std::int64_t now_us) {
    if (deadline_us_.load(std::memory_order_relaxed) > now_us) return;
    asio::post(strand_, [self = shared_from_this(), now_us] { self->deadline_passed(now_us); });
}

void Session::deadline_passed(std::int64_t now_us) {
    if (deadline_us_.load(std::memory_order_relaxed) > now_us) return;
    const Wait what = wait_;
    wait_over();
    if (what == Wait::write || what == Wait::linger || what == Wait::handshake) {
        die();
    } else if (what != Wait::nothing) {
        timed_out_ = true;
        transport_.cancel();
        bytes_.wake();
    }
}

void Session::wait_for(Wait what, std::int64_t timeout_us) {
    wait_ = what;
    deadline_us_.store(now() + timeout_us, std::memory_order_relaxed);
}

void Session::wait_over() {
    wait_ = Wait::nothing;
    deadline_us_.store(INT64_MAX, std::memory_order_relaxed);
}

void Session::die() {
    if (dead_) return;
    dead_ = true;
    transport_.close();
    if (current_) current_->end();
    bytes_.wake();
    stopped_.wake();
    turn_.wake();
}

void Session::turn_changed() {
    turn_.wake();
}

// --- Bytes in and out -------------------------------------------------------------------------

void Session::start_read() {
    const bool body = wait_ == Wait::body;
    reading_ = true;
    transport_.read_some(
        input_.prepare(body ? kBodyReadBytes : kHeadReadBytes),
        [self = shared_from_this()](const error_code& ec, std::size_t size) {
            self->on_read(ec, size);
        }
    );
}

void Session::on_read(const error_code& ec, std::size_t size) {
    reading_ = false;
    if (dead_) return;
    input_.commit(size);
    stopped_.wake();
    if (ec == asio::error::operation_aborted) return;  // a timeout, which has woken who waits
    if (ec == asio::error::eof) {
        // Perhaps the client closed only its sending side, and waits for its answer.
        end_of_file_ = true;
        if (current_) current_->client_ended();
    } else if (ec) {
        die();
    }
    bytes_.wake_now();
}

Task<bool> Session::receive() {
    if (dead_ || end_of_file_ || timed_out_) co_return false;
    if (!reading_) start_read();
    co_await bytes_.wait();
    co_return !(dead_ || end_of_file_ || timed_out_);
}

Task<bool> Session::receive_body() {
    const std::int64_t began = now();
    const std::size_t before = input_.size();
    wait_for(Wait::body, body_patience_.left_us());
    const bool received = co_await receive();
    wait_over();
    body_patience_.waited(now() - began, input_.size() - before);
    co_return received;
}

void Session::watch() {
    if (!reading_ && !dead_ && !end_of_file_ && input_.empty()) start_read();
}

Task<Result<void>> Session::send(OutputPieces& pieces) {
    bool waited = false;
    while (!dead_) {
        error_code ec;
        std::size_t sent = 0;
        if (!waited) {
            sent = transport_.write_now(pieces, ec);
            write_patience_.waited(0, sent);
        } else {
            const std::int64_t began = now();
            wait_for(Wait::write, write_patience_.left_us());
            sent = co_await transport_.write_more(pieces, ec);
            wait_over();
            write_patience_.waited(now() - began, sent);
        }
        pieces.consume(sent);
        if (ec && ec != asio::error::would_block && ec != asio::error::try_again) break;
        if (pieces.empty()) co_return ok();
        waited = true;
    }
    die();
    co_return Error{Errc::cancelled, "the client is gone"};
}

// --- One connection ---------------------------------------------------------------------------

Task<void> Session::serve(std::shared_ptr<Session>) {
    try {
        bool goes_on = co_await shake_hands(hub_->limits.header_timeout_ms);
        while (goes_on) goes_on = co_await serve_one();
        co_await linger();
    } catch (const std::exception& e) {
        log::error("http.session_failed", {{"detail", e.what()}});
    }
    finish();
}

void Session::finish() {
    die();
    wait_over();
    current_.reset();
    hub_->leave(this);
}

Task<void> Session::linger() {
    if (dead_ || hub_->cut) co_return;
    wait_for(Wait::linger, us(kLingerMs));
    if (transport_.secure()) {
        co_await stop_reading();
        co_await transport_.end_tls();
    }
    if (end_of_file_) co_return;
    error_code ec;
    transport_.shutdown_send(ec);
    if (ec || (!unread_ && input_.empty())) co_return;
    timed_out_ = false;
    do {
        input_.consume(input_.size());
    } while (co_await receive());
}

Task<void> Session::stop_reading() {
    if (!reading_) co_return;
    transport_.cancel();
    while (reading_ && !dead_) co_await stopped_.wait();
}

Task<bool> Session::shake_hands(std::uint32_t timeout_ms) {
    if (!transport_.secure()) co_return true;
    wait_for(Wait::handshake, us(timeout_ms));
    const error_code ec = co_await transport_.handshake();
    wait_over();
    if (!ec) co_return !dead_;
    hub_->handshake_failed();
    log::debug("http.tls_handshake_failed", {{"detail", ec.message()}, {"peer", peer_ip_}});
    unread_ = true;
    transport_.give_up_tls();
    co_return false;
}

Task<void> Session::serve_refusal(std::shared_ptr<Session>) {
    Problem full = problem(
        503,
        name(Errc::unavailable),
        "the node has its maximum of " + std::to_string(hub_->limits.connections_max) +
            " connections; try again, or reuse connections"
    );
    full.request_id = hub_->new_request_id();
    const Document document = problem_json(full);
    const Pairs headers = {{"Content-Type", document.content_type}, {"Retry-After", "1"}};
    ResponseHead head;
    head.status = full.status;
    head.headers = &headers;
    head.request_id = full.request_id;
    head.now = hub_->clock.wall_us();
    head.length = document.body.size();
    head.close = true;
    std::string text;
    append_response_head(text, head);
    text += document.body;
    OutputPieces pieces;
    pieces.add(text);
    const bool shaken = co_await shake_hands(kLingerMs);
    if (shaken) (void)co_await send(pieces);  // whoever is gone already needs no answer
    unread_ = true;
    co_await linger();
    die();
    hub_->leave(this);
}

void Session::be_patient_again() {
    const Limits& limits = hub_->limits;
    body_patience_ = Patience(limits.body_timeout_ms, limits.body_rate_min_bytes_per_s);
    write_patience_ = Patience(limits.write_timeout_ms, limits.write_rate_min_bytes_per_s);
}

std::int64_t Session::idle_us() const {
    return hub_->stopping ? us(std::min(hub_->limits.idle_timeout_ms, kLastCallMs))
                          : us(hub_->limits.idle_timeout_ms);
}

Task<bool> Session::first_byte() {
    if (!reading_) input_.shrink(kIdleBufferBytes);
    wait_for(Wait::first_byte, idle_us());
    bool connected = true;
    while (connected && !has_first_byte()) {
        connected = co_await receive();
    }
    wait_over();
    co_return has_first_byte();
}

bool Session::has_first_byte() {
    // Empty lines before a request line are passed over; they do not make a connection busy.
    while (input_.view().starts_with("\r\n")) input_.consume(2);
    return !input_.empty() && input_.view() != "\r";
}

Task<bool> Session::serve_one() {
    if (!co_await first_byte()) co_return false;
    auto turn = std::make_shared<Turn>(shared_from_this(), peer_ip_);
    turn->began_us_ = now();
    current_ = turn;
    be_patient_again();
    auto refusal = co_await read_head(*turn);
    if (dead_ || (end_of_file_ && !turn->parser_.is_header_done() && !refusal)) co_return false;
    if (!refusal) refusal = co_await admit(*turn);
    if (refusal) {
        (void)co_await turn->fail(std::move(*refusal));  // a client that is gone needs none
    } else {
        co_await hand_over(turn);
    }
    account(*turn);
    bool goes_on = turn->over() && !dead_ && !turn->closes();
    if (goes_on) goes_on = co_await turn->drain();
    unread_ = !turn->body_ended();
    current_.reset();
    co_return goes_on;
}

Task<std::optional<Problem>> Session::read_head(Turn& turn) {
    const Limits& limits = hub_->limits;
    HeadScanner scanner;
    std::optional<Problem> refusal;
    auto state = HeadScanner::State::more;
    wait_for(Wait::head, us(limits.header_timeout_ms));
    for (;;) {
        const std::string_view text = input_.view();
        state = scanner.scan(text);
        const bool done = state == HeadScanner::State::done;
        if (state == HeadScanner::State::bad) {
            refusal = problem(
                400,
                name(Errc::invalid),
                std::string("the request is not well-formed HTTP/1.1: ") + scanner.problem()
            );
            break;
        }
        if (done ? scanner.size() > limits.header_bytes_max
                 : text.size() >= limits.header_bytes_max) {
            refusal = problem(
                431,
                name(Errc::too_large),
                "the request line and headers are larger than " +
                    std::to_string(limits.header_bytes_max) + " bytes"
            );
            break;
        }
        if (done) break;
        if (co_await receive()) continue;
        if (!timed_out_ || dead_) co_return std::nullopt;
        refusal = problem(
            408,
            name(Errc::timeout),
            "the request's headers did not come within " +
                std::to_string(limits.header_timeout_ms) + " ms"
        );
        break;
    }
    wait_over();
    const std::size_t size = state == HeadScanner::State::done && !refusal ? scanner.size() : 0;
    const std::string_view head = size > 0 ? input_.view().substr(0, size) : input_.view();
    // Also a head that is refused is parsed as far as it goes: its path says in whose form to
    // refuse it.
    const auto parsed = turn.parser_.head(head);
    input_.consume(size);
    turn.count_in(size);
    const auto own_id = turn.request_.header("x-request-id");
    turn.request_.request_id =
        own_id && is_sane_id(*own_id) ? std::string(*own_id) : hub_->new_request_id();
    if (!refusal && !parsed) refusal = problem_of(parsed.error());
    if (!refusal) {
        turn.keep_alive_ = turn.parser_.keep_alive();
        if (const auto length = turn.parser_.content_length()) {
            turn.request_.content_length = static_cast<std::int64_t>(*length);
        }
        refusal = read_wishes(turn);
    }
    if (refusal) {
        turn.close_after();
        find_renderer(turn);
    }
    co_return refusal;
}

void Session::find_renderer(Turn& turn) const {
    if (turn.request_.path.empty()) return;
    const Match match = hub_->router().match(turn.request_.method, turn.request_.path);
    if (match.nearest) turn.handler_ = match.nearest->handler;
}

namespace {

/// Why no route serves it.
Problem nothing_at(const Router& router, const Match& match, const Request& request) {
    if (auto refusal = router.refusal()) return std::move(*refusal);
    if (match.allow.empty())
        return problem(404, "not_found", "there is nothing at " + shorten(request.path));
    const std::string allow = join(match.allow);
    Problem refusal = problem(
        405,
        "method_not_allowed",
        shorten(request.method) + " is not possible at " + shorten(request.path) + ", but " + allow
    );
    refusal.headers.emplace_back("Allow", allow);
    return refusal;
}

}  // namespace

Task<std::optional<Problem>> Session::admit(Turn& turn) {
    Request& request = turn.request_;
    const Router& router = hub_->router();
    Match match = router.match(request.method, request.path);
    if (match.nearest) turn.handler_ = match.nearest->handler;
    if (!match.route) co_return nothing_at(router, match, request);
    turn.route_ = match.route;
    request.params = std::move(match.params);
    request.trigger = match.route->trigger;
    if (auto refusal = co_await identify(turn, *match.route)) co_return refusal;
    co_return read_encoding(turn);
}

Task<std::optional<Problem>> Session::identify(Turn& turn, const Route& route) {
    if (local_) {
        turn.principal_.key_id = "local";
        turn.principal_.project = turn.request_.header("annal-project").value_or("");
        turn.principal_.scopes = {"platform", "admin"};
        if (turn.principal_.project.empty()) co_return std::nullopt;
        const auto known = co_await hub_->authenticator().check_project(turn.principal_.project);
        if (!known) co_return problem_of(known.error());
        co_return std::nullopt;
    }
    if (route.scope.empty()) co_return std::nullopt;
    auto principal = co_await authenticate(hub_->authenticator(), turn.request_);
    if (!principal) {
        Problem refusal = problem_of(principal.error());
        if (refusal.status == 401) {
            refusal.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"annal\"");
        }
        co_return refusal;
    }
    turn.principal_ = std::move(principal.value());
    if (turn.principal_.may(route.scope)) co_return std::nullopt;
    co_return problem(
        403,
        "insufficient_scope",
        "this needs a key with the scope " + route.scope + ", which " + turn.principal_.key_id +
            " does not have"
    );
}

Task<void> Session::hand_over(std::shared_ptr<Turn> turn) {
    hub_->handler_began();
    AtWork at_work(hub_);
    auto exchange = turn->handle();
    asio::co_spawn(
        executor_,
        run_handler(std::move(at_work), turn, turn->handler_, std::move(exchange)),
        asio::detached
    );
    if (!turn->over() && turn->body_ended()) watch();
    while (!turn->over() && !turn->abandoned() && !dead_) co_await turn_.wait();
    if (turn->abandoned() && !turn->over()) {
        co_await turn->give_up("http.no_answer", "the handler ended without finishing an answer");
    }
}

void Session::account(const Turn& turn) {
    const Request& request = turn.request_;
    // 499, as others log it: the client was gone before its answer.
    const int status = turn.status() == 0 || dead_ ? 499 : turn.status();
    const std::int64_t took_us = now() - turn.began_us_;
    hub_->record(request.method, status, took_us, turn.bytes_in());
    log::debug(
        "http.request",
        {{"request_id", request.request_id},
         {"method", request.method},
         {"path", without_secret(request.path)},
         {"status", status},
         {"duration_us", took_us},
         {"bytes_in", static_cast<std::int64_t>(turn.bytes_in())},
         {"key_id", turn.principal().key_id},
         {"peer", request.peer_ip}}
    );
}

}  // namespace annal::http
