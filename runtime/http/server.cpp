#include "runtime/http/server.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <charconv>
#include <chrono>
#include <cstring>
#include <optional>
#include <vector>

#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/http/session.h"
#include "runtime/http/session_hub.h"

namespace annal::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using local_stream = asio::local::stream_protocol;
using boost::system::error_code;
using std::chrono::milliseconds;

/// What the kernel holds of an answer that the network does not take yet: so little that a reader's
/// pace shows, and that slow readers cost no memory.
constexpr int kNotSentBytes = 128 << 10;

Result<tcp::endpoint> parse_listen(const std::string& text) {
    const Error error{
        Errc::invalid,
        "'" + text +
            "' is no address to listen on: use ADDRESS:PORT such as 127.0.0.1:8080 "
            "or [::1]:8080, with a port from 0 (any free one) to 65535"};
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos) return error;
    std::string host = text.substr(0, colon);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    error_code ec;
    const auto address = asio::ip::make_address(host, ec);
    if (ec || address.is_v6() != bracketed) return error;
    std::uint16_t port = 0;
    const char* first = text.data() + colon + 1;
    const char* last = text.data() + text.size();
    const auto parsed = std::from_chars(first, last, port);
    if (first == last || parsed.ec != std::errc() || parsed.ptr != last) return error;
    return tcp::endpoint(address, port);
}

std::string text_of(const tcp::endpoint& endpoint) {
    const std::string host = endpoint.address().to_string();
    const std::string port = std::to_string(endpoint.port());
    return endpoint.address().is_v6() ? "[" + host + "]:" + port : host + ":" + port;
}

void set_options(tcp::socket& socket) {
    error_code ignored;  // an option that is not set costs speed, not correctness
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    (void)::setsockopt(
        socket.native_handle(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kNotSentBytes, sizeof(int)
    );
}

std::string ip_of(const tcp::socket& socket) {
    error_code ec;
    const auto endpoint = socket.remote_endpoint(ec);
    if (ec) return {};
    const auto address = endpoint.address();
    if (address.is_v6() && address.to_v6().is_v4_mapped()) {
        return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6()).to_string();
    }
    return address.to_string();
}

Error cannot_listen(const std::string& where, const error_code& ec) {
    if (ec == asio::error::address_in_use) {
        return {
            Errc::conflict,
            where +
                " is in use by another process: stop that one, or listen on "
                "another port"};
    }
    if (ec == asio::error::access_denied) {
        return {
            Errc::denied,
            "no permission to listen on " + where + ": ports below 1024 need CAP_NET_BIND_SERVICE"};
    }
    return {Errc::unavailable, "can't listen on " + where + ": " + ec.message()};
}

Result<void> open(tcp::acceptor& acceptor, const tcp::endpoint& endpoint) {
    const std::string where = text_of(endpoint);
    error_code ec;
    acceptor.open(endpoint.protocol(), ec);
    if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec) acceptor.bind(endpoint, ec);
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (ec) return cannot_listen(where, ec);
    return ok();
}

/// Whether somebody accepts connections at `path`. @error Errc::conflict  It is there, but no
/// socket.
Result<bool> is_served(const std::filesystem::path& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) return false;
    if (!S_ISSOCK(status.st_mode)) {
        return Error{
            Errc::conflict,
            path.string() + " exists and is no socket: move it away, or choose another path"};
    }
    asio::io_context context;
    local_stream::socket probe(context);
    error_code ec;
    probe.connect(local_stream::endpoint(path.string()), ec);
    return !ec;
}

Result<void> check_length(const std::filesystem::path& path) {
    if (path.native().size() < sizeof(sockaddr_un::sun_path)) return ok();
    return Error{
        Errc::invalid,
        path.string() + " is too long for a Unix socket: at most " +
            std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes"};
}

Result<void> open(local_stream::acceptor& acceptor, const std::filesystem::path& path) {
    BOOST_OUTCOME_TRYV(check_length(path));
    BOOST_OUTCOME_TRY(const bool served, is_served(path));
    if (served) {
        return Error{
            Errc::conflict, "another server is listening on " + path.string() + ": stop it first"};
    }
    error_code ec;
    ::unlink(path.c_str());
    acceptor.open(local_stream(), ec);
    if (!ec) acceptor.bind(local_stream::endpoint(path.string()), ec);
    // Nobody can connect before listen, so the mode is in place in time.
    if (!ec && ::chmod(path.c_str(), S_IRUSR | S_IWUSR) != 0) {
        ec = error_code(errno, boost::system::system_category());
    }
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (ec) return cannot_listen(path.string(), ec);
    return ok();
}

/// How often deadlines are looked at: fine enough for the shortest of them.
milliseconds tick_of(const Limits& limits) {
    const std::uint32_t shortest = std::min(
        std::min(limits.header_timeout_ms, limits.body_timeout_ms),
        std::min(limits.write_timeout_ms, limits.idle_timeout_ms)
    );
    return milliseconds(std::clamp<std::uint32_t>(shortest / 8, 5, 250));
}

}  // namespace

Result<void> check(const ServerOptions& options) {
    if (!options.listen.empty()) {
        BOOST_OUTCOME_TRYV(parse_listen(options.listen));
    }
    return check_length(options.unix_socket);
}

struct Server::State : std::enable_shared_from_this<Server::State> {
    State(std::shared_ptr<SessionHub> the_hub, asio::any_io_executor the_executor)
        : hub(std::move(the_hub)),
          executor(std::move(the_executor)),
          strand(asio::make_strand(executor)),
          tcp_acceptor(strand),
          local_acceptor(strand),
          sweep_timer(strand),
          change_timer(strand) {}

    std::shared_ptr<SessionHub> hub;
    asio::any_io_executor executor;
    asio::any_io_executor strand;
    tcp::acceptor tcp_acceptor;
    local_stream::acceptor local_acceptor;
    asio::steady_timer sweep_timer, change_timer;
    std::filesystem::path unix_socket;
    std::shared_ptr<const TlsIdentity> tls;  // null: TCP is plain
    bool started = false;
    bool swept = true;  // no sweep is running

    template <class Acceptor>
    Task<void> accept_all(std::shared_ptr<State> self, Acceptor& acceptor, bool local);
    /// Connections that the kernel has made while nobody looked.
    template <class Acceptor>
    void accept_waiting(Acceptor& acceptor, bool local);
    template <class Socket>
    void admit(Socket socket, bool local) const;
    void welcome(std::shared_ptr<Session> session) const;
    Task<void> sweep(std::shared_ptr<State> self);
    Task<void> stop(std::shared_ptr<State> self);
    Task<void> wait_until(bool (SessionHub::*condition)() const, milliseconds timeout);
    void close_listeners();
};

template <class Acceptor>
Task<void> Server::State::accept_all(std::shared_ptr<State>, Acceptor& acceptor, bool local) {
    while (!hub->stopping) {
        const asio::any_io_executor connection = asio::make_strand(executor);
        error_code ec;
        auto socket = co_await acceptor.async_accept(
            connection, asio::redirect_error(asio::use_awaitable, ec)
        );
        if (!ec) {
            admit(std::move(socket), local);
        } else if (hub->stopping || ec == asio::error::operation_aborted) {
            break;
        } else {
            // Out of descriptors, mostly: connections that end make room.
            log::warn("http.accept_failed", {{"detail", ec.message()}});
            asio::steady_timer pause(strand, milliseconds(100));
            error_code ignored;
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        }
    }
}

template <class Acceptor>
void Server::State::accept_waiting(Acceptor& acceptor, bool local) {
    error_code ec;
    acceptor.non_blocking(true, ec);
    for (int i = 0; !ec && i < asio::socket_base::max_listen_connections; ++i) {
        const asio::any_io_executor connection = asio::make_strand(executor);
        auto socket = acceptor.accept(connection, ec);
        if (!ec) admit(std::move(socket), local);
    }
}

template <class Socket>
void Server::State::admit(Socket socket, bool local) const {
    std::string peer_ip;
    if constexpr (std::is_same_v<Socket, tcp::socket>) {
        set_options(socket);
        peer_ip = ip_of(socket);
    }
    const auto connection = *socket.get_executor().template target<Session::Strand>();
    auto secure = tls && !local ? tls->context() : nullptr;
    welcome(std::make_shared<Session>(
        hub,
        connection,
        Session::Socket(std::move(socket)),
        std::move(secure),
        std::move(peer_ip),
        local
    ));
}

void Server::State::welcome(std::shared_ptr<Session> session) const {
    switch (hub->enter(session)) {
        case SessionHub::Welcome::served:
            return session->run();
        case SessionHub::Welcome::refused:
            return session->refuse();
        case SessionHub::Welcome::dropped:
            return;
    }
}

Task<void> Server::State::sweep(std::shared_ptr<State>) {
    const milliseconds tick = tick_of(hub->limits);
    while (!swept) {
        sweep_timer.expires_after(tick);
        error_code ignored;
        co_await sweep_timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
        const std::int64_t now = hub->clock.monotonic_us();
        for (const auto& session : hub->sessions()) session->check_deadline(now);
    }
}

void Server::State::close_listeners() {
    error_code ignored;
    if (tcp_acceptor.is_open()) accept_waiting(tcp_acceptor, false);
    tcp_acceptor.close(ignored);
    if (!local_acceptor.is_open()) return;
    accept_waiting(local_acceptor, true);
    ::unlink(unix_socket.c_str());
    local_acceptor.close(ignored);
}

Task<void> Server::State::wait_until(bool (SessionHub::*condition)() const, milliseconds timeout) {
    const auto end = std::chrono::steady_clock::now() + timeout;
    while (!((*hub).*condition)() && std::chrono::steady_clock::now() < end) {
        change_timer.expires_at(end);
        error_code ignored;
        co_await change_timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    }
}

Task<void> Server::State::stop(std::shared_ptr<State>) {
    hub->stopping = true;
    hub->on_change([weak = weak_from_this()] {
        if (auto state = weak.lock()) {
            asio::post(state->strand, [state] { state->change_timer.cancel(); });
        }
    });
    close_listeners();
    for (const auto& session : hub->sessions()) session->last_call();
    co_await wait_until(&SessionHub::quiet, milliseconds(hub->limits.drain_timeout_ms));
    hub->cut = true;
    for (const auto& session : hub->sessions()) session->cut();
    // A cut session ends as soon as its strand gets to it.
    while (!hub->deserted()) co_await wait_until(&SessionHub::deserted, milliseconds(1000));
    swept = true;
    sweep_timer.cancel();
}

Task<Result<void>> Authenticator::check_project(std::string) {
    co_return ok();
}

Server::Server(
    const Router& router,
    Authenticator& authenticator,
    const Clock& clock,
    const Limits& limits,
    Metrics& metrics,
    asio::any_io_executor executor
)
    : state_(std::make_shared<State>(
          std::make_shared<SessionHub>(router, authenticator, clock, limits, metrics),
          std::move(executor)
      )) {}

Server::~Server() = default;

Result<std::string> Server::start(const ServerOptions& options) {
    State& state = *state_;
    if (state.started) return Error{Errc::internal, "the server has been started already"};
    std::string bound;
    if (!options.listen.empty()) {
        BOOST_OUTCOME_TRY(const auto endpoint, parse_listen(options.listen));
        BOOST_OUTCOME_TRYV(open(state.tcp_acceptor, endpoint));
        error_code ec;
        bound = text_of(state.tcp_acceptor.local_endpoint(ec));
    }
    if (!options.unix_socket.empty()) {
        if (auto opened = open(state.local_acceptor, options.unix_socket); !opened) {
            error_code ignored;
            state.tcp_acceptor.close(ignored);
            state.local_acceptor.close(ignored);
            return opened.error();
        }
        state.unix_socket = options.unix_socket;
    }
    state.tls = options.tls;
    state.started = true;
    state.swept = false;
    if (state.tcp_acceptor.is_open()) {
        asio::co_spawn(
            state.strand, state.accept_all(state_, state.tcp_acceptor, false), asio::detached
        );
    }
    if (state.local_acceptor.is_open()) {
        asio::co_spawn(
            state.strand, state.accept_all(state_, state.local_acceptor, true), asio::detached
        );
    }
    asio::co_spawn(state.strand, state.sweep(state_), asio::detached);
    return bound;
}

void Server::exchange(const Router& router, Authenticator& authenticator) {
    state_->hub->exchange(router, authenticator);
}

Task<void> Server::stop() {
    std::shared_ptr<State> state = state_;
    Task<void> stopped = state->stop(state);
    co_await asio::co_spawn(state->strand, std::move(stopped), asio::use_awaitable);
}

}  // namespace annal::http
