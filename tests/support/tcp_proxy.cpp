#include "tests/support/tcp_proxy.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <future>
#include <memory>
#include <stdexcept>
#include <utility>

namespace annal::test {
namespace {

constexpr std::size_t kConnectionsMax = 256;
constexpr std::size_t kChunkBytesMax = 65536;

/// -1 when the server does not listen or its queue is full.
int connect_to(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
    ::close(fd);
    return -1;
}

void reset(int fd) {
    const linger now{1, 0};
    (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    ::close(fd);
}

/// What there is; nothing when there is none. `ended` becomes true at the stream's end, which a
/// reset is, too.
std::string receive(int fd, bool& ended) {
    std::string chunk(kChunkBytesMax, '\0');
    const ssize_t size = ::recv(fd, chunk.data(), chunk.size(), 0);
    ended = size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR);
    chunk.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    return chunk;
}

/// Sends what can be sent now. `ended` becomes true when nobody receives any more.
void send(int fd, std::string& bytes, bool& ended) {
    const ssize_t size = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (size > 0) bytes.erase(0, static_cast<std::size_t>(size));
    if (size < 0 && errno != EAGAIN && errno != EINTR) {
        ended = true;
        bytes.clear();
    }
}

short when(bool condition, short events) {
    return static_cast<short>(condition ? events : 0);
}

/// Without anything to wait for poll(2) must not see a descriptor at all: it would tell of
/// hang-ups.
pollfd awaiting(int fd, short events) {
    return {events != 0 ? fd : -1, events, 0};
}

}  // namespace

TcpProxy::TcpProxy(std::string socket_path)
    : server_path_(std::move(socket_path)), listener_(bind_free_port()) {
    if (server_path_.size() >= sizeof(sockaddr_un::sun_path)) {
        throw std::runtime_error("path too long: " + server_path_);
    }
    // Only now, so that the port was free: for listening again while connections are open.
    const int on = 1;
    (void)::setsockopt(listener_.descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    admit();
    if (wake_ < 0 || !admitting_) throw std::runtime_error("the proxy cannot listen");
    thread_ = std::thread([this] { loop(); });
}

TcpProxy::~TcpProxy() {
    on_loop([this] {
        close_all();
        ending_ = true;
    });
    thread_.join();
    ::close(listener_.descriptor);
    ::close(wake_);
}

std::string TcpProxy::url(std::string_view database) const {
    return "postgresql://annal@127.0.0.1:" + std::to_string(port()) + "/" + std::string(database) +
           "?sslmode=disable";
}

// --- Demands

void TcpProxy::cut() {
    on_loop([this] { close_all(); });
}

void TcpProxy::stall() {
    on_loop([this] { stalled_ = true; });
}

void TcpProxy::refuse() {
    // Without its listener the socket keeps the port, and the kernel refuses.
    on_loop([this] {
        if (std::exchange(admitting_, false)) (void)::shutdown(listener_.descriptor, SHUT_RDWR);
    });
}

void TcpProxy::resume() {
    on_loop([this] {
        stalled_ = false;
        trigger_.reset();
        if (!admitting_) admit();
    });
}

void TcpProxy::cut_on(std::string pattern, Lost lost, Then then) {
    if (pattern.empty()) throw std::invalid_argument("an empty pattern");
    on_loop([&] {
        const std::lock_guard lock(mutex_);
        cut_happened_ = false;
        trigger_ = Trigger{std::move(pattern), lost, then};
    });
}

bool TcpProxy::await_cut(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, timeout, [this] { return cut_happened_; });
}

std::size_t TcpProxy::connections() {
    std::size_t count = 0;
    on_loop([&] { count = connections_.size(); });
    return count;
}

// --- The loop

void TcpProxy::on_loop(const std::function<void()>& work) {
    auto done = std::make_shared<std::promise<void>>();
    auto result = done->get_future();
    {
        const std::lock_guard lock(mutex_);
        work_.emplace_back([&work, done] {
            work();
            done->set_value();
        });
    }
    (void)::eventfd_write(wake_, 1);
    result.get();
}

void TcpProxy::do_work() {
    eventfd_t count = 0;
    (void)::eventfd_read(wake_, &count);
    std::vector<std::function<void()>> work;
    {
        const std::lock_guard lock(mutex_);
        work.swap(work_);
    }
    for (const auto& piece : work) piece();
}

void TcpProxy::loop() {
    std::vector<pollfd> polled;
    while (!ending_) {
        polled.clear();
        polled.push_back(awaiting(wake_, POLLIN));
        const bool room = connections_.size() < kConnectionsMax;
        polled.push_back(awaiting(listener_.descriptor, when(admitting_ && room, POLLIN)));
        for (auto& each : connections_) {
            const bool passes = !stalled_ && !each.silent;
            const bool hears_client = !each.client_ended && !each.answer_lost;
            each.polled_at = polled.size();
            polled.push_back(awaiting(
                each.client,
                when(passes && hears_client && each.to_server.empty(), POLLIN) |
                    when(passes && !each.to_client.empty(), POLLOUT)
            ));
            polled.push_back(awaiting(
                each.server,
                when(passes && !each.server_ended && each.to_client.empty(), POLLIN) |
                    when(passes && !each.to_server.empty(), POLLOUT)
            ));
        }
        if (::poll(polled.data(), polled.size(), -1) < 0) continue;
        const bool called = polled[0].revents != 0;
        if (called) {
            do_work();
            continue;  // what was asked for holds before anything else is forwarded
        }
        for (auto& each : connections_) {
            forward(each, polled[each.polled_at].revents, polled[each.polled_at + 1].revents);
        }
        std::erase_if(connections_, [](const Connection& each) { return each.client < 0; });
        if (polled[1].revents != 0) accept_one();
    }
}

void TcpProxy::admit() {
    admitting_ = ::listen(listener_.descriptor, SOMAXCONN) == 0;
}

void TcpProxy::accept_one() {
    const int client =
        ::accept4(listener_.descriptor, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) return;
    const int on = 1;
    (void)::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const int server = connect_to(server_path_);
    if (server < 0) return reset(client);
    auto& connection = connections_.emplace_back();
    connection.client = client;
    connection.server = server;
}

void TcpProxy::forward(Connection& connection, short client_events, short server_events) {
    const auto readable = [](short events) { return (events & (POLLIN | POLLHUP | POLLERR)) != 0; };
    if (readable(client_events) && connection.to_server.empty()) from_client(connection);
    if (connection.client < 0 || connection.silent) return;
    if (readable(server_events) && connection.to_client.empty()) from_server(connection);
    if (connection.client < 0 || connection.silent) return;
    if (!connection.to_server.empty()) {
        send(connection.server, connection.to_server, connection.server_ended);
    }
    if (!connection.to_client.empty()) {
        send(connection.client, connection.to_client, connection.client_ended);
    }
    // What one side has said in the end still reaches the other.
    const bool over = (connection.client_ended && connection.to_server.empty()) ||
                      (connection.server_ended && connection.to_client.empty());
    if (over) close(connection);
}

void TcpProxy::from_client(Connection& connection) {
    if (connection.client_ended || connection.answer_lost) return;
    std::string chunk = receive(connection.client, connection.client_ended);
    connection.seen += chunk;
    const bool hit = trigger_ && connection.seen.find(trigger_->pattern) != std::string::npos;
    if (!hit) {
        const std::size_t kept = trigger_ ? trigger_->pattern.size() - 1 : 0;
        connection.seen.erase(0, connection.seen.size() - std::min(connection.seen.size(), kept));
        connection.to_server = std::move(chunk);
        return;
    }
    const Lost lost = trigger_->lost;
    connection.then = trigger_->then;
    trigger_.reset();
    if (lost == Lost::request) {
        lose(connection);
    } else {
        connection.to_server = std::move(chunk);
        connection.answer_lost = true;
    }
}

void TcpProxy::from_server(Connection& connection) {
    if (connection.server_ended) return;
    std::string chunk = receive(connection.server, connection.server_ended);
    const bool said = !chunk.empty() || connection.server_ended;
    if (connection.answer_lost && connection.to_server.empty() && said) return lose(connection);
    connection.to_client = std::move(chunk);
}

void TcpProxy::lose(Connection& connection) {
    if (connection.then == Then::silence) {
        connection.silent = true;
    } else {
        close(connection);
    }
    const std::lock_guard lock(mutex_);
    cut_happened_ = true;
    changed_.notify_all();
}

void TcpProxy::close(Connection& connection) {
    ::close(std::exchange(connection.server, -1));
    const int client = std::exchange(connection.client, -1);
    // An orderly end passes as one.
    if (connection.server_ended && !connection.answer_lost) {
        ::close(client);
    } else {
        reset(client);
    }
}

void TcpProxy::close_all() {
    for (auto& each : connections_) {
        ::close(each.server);
        reset(each.client);
    }
    connections_.clear();
}

}  // namespace annal::test
