#include "bench/hook_receiver.h"

#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <unordered_map>

namespace annal::bench {
namespace {

constexpr std::int64_t kSecondUs = 1'000'000;

std::int64_t wall_us() {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(since).count();
}

/// "2026-05-14T18:42:13.001234Z" in a body.
std::int64_t created_us(const std::string& text, std::size_t from) {
    constexpr std::string_view kKey = "\"created_at\":\"";
    const auto at = text.find(kKey, from);
    if (at == std::string::npos) return 0;
    std::tm time{};
    int micros = 0;
    const char* begin = text.c_str() + at + kKey.size();
    const char* rest = ::strptime(begin, "%Y-%m-%dT%H:%M:%S", &time);
    if (rest == nullptr || std::sscanf(rest, ".%6d", &micros) != 1) return 0;
    return static_cast<std::int64_t>(::timegm(&time)) * kSecondUs + micros;
}

void watch(int epoll, int socket) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = socket;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event);
}

}  // namespace

struct HookReceiver::Connection {
    int socket = -1, endpoint = 0;
    std::string text;
};

HookReceiver::HookReceiver(int endpoints, int hanging, int per_second)
    : hanging_(hanging), per_second_(per_second) {
    for (int i = 0; i < endpoints; ++i) {
        const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof(address);
        auto* any = reinterpret_cast<sockaddr*>(&address);
        if (::bind(listener, any, size) != 0 || ::listen(listener, 64) != 0) std::abort();
        ::getsockname(listener, any, &size);
        listeners_.push_back(listener);
        ports_.push_back(ntohs(address.sin_port));
    }
    thread_ = std::thread([this] { run(); });
}

HookReceiver::~HookReceiver() {
    stopping_ = true;
    thread_.join();
    for (const int listener : listeners_) ::close(listener);
}

std::string HookReceiver::url(int endpoint) const {
    return "http://127.0.0.1:" + std::to_string(ports_.at(static_cast<std::size_t>(endpoint))) +
           "/hook";
}

std::vector<double> HookReceiver::latencies_ms() {
    const std::lock_guard lock(mutex_);
    return std::move(latencies_ms_);
}

void HookReceiver::answer(Connection& connection, std::size_t body_begin) {
    const std::int64_t now = wall_us();
    std::string_view said = "HTTP/1.1 204 No Content\r\n\r\n";
    if (connection.endpoint == 0 && per_second_ > 0) {
        std::erase_if(window_us_, [&](std::int64_t at) { return at <= now - kSecondUs; });
        if (static_cast<int>(window_us_.size()) >= per_second_) {
            said = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
            ++refused_;
        } else {
            window_us_.push_back(now);
        }
    }
    if (said.find(" 204 ") != std::string_view::npos) {
        ++taken_;
        const std::int64_t created = created_us(connection.text, body_begin);
        const std::lock_guard lock(mutex_);
        if (created > 0) latencies_ms_.push_back(static_cast<double>(now - created) / 1'000);
    }
    (void)::send(connection.socket, said.data(), said.size(), MSG_NOSIGNAL);  // it notices itself
}

/// What has arrived. False: the connection is over.
bool HookReceiver::serve(Connection& connection) {
    std::array<char, 16'384> piece{};
    const ssize_t got = ::recv(connection.socket, piece.data(), piece.size(), 0);
    if (got <= 0) return false;
    connection.text.append(piece.data(), static_cast<std::size_t>(got));
    for (;;) {
        const auto head = connection.text.find("\r\n\r\n");
        if (head == std::string::npos) return true;
        const char* length = ::strcasestr(connection.text.c_str(), "content-length:");
        const std::size_t body = length != nullptr ? std::strtoull(length + 15, nullptr, 10) : 0;
        if (connection.text.size() < head + 4 + body) return true;
        const bool hangs = connection.endpoint >= static_cast<int>(listeners_.size()) - hanging_;
        if (!hangs) answer(connection, head);
        connection.text.erase(0, head + 4 + body);
    }
}

void HookReceiver::run() {
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    std::unordered_map<int, int> endpoint_of;  // listeners
    std::unordered_map<int, Connection> connections;
    for (std::size_t i = 0; i < listeners_.size(); ++i) {
        endpoint_of[listeners_[i]] = static_cast<int>(i);
        watch(epoll, listeners_[i]);
    }
    std::array<epoll_event, 256> events{};
    while (!stopping_) {
        const int count = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 50);
        for (int i = 0; i < count; ++i) {
            const int socket = events.at(static_cast<std::size_t>(i)).data.fd;
            const auto listener = endpoint_of.find(socket);
            if (listener != endpoint_of.end()) {
                const int made = ::accept4(socket, nullptr, nullptr, SOCK_CLOEXEC);
                if (made < 0) continue;
                connections[made] = Connection{made, listener->second, {}};
                watch(epoll, made);
            } else if (!serve(connections[socket])) {
                connections.erase(socket);
                ::close(socket);
            }
        }
    }
    for (const auto& [socket, connection] : connections) ::close(socket);
    ::close(epoll);
}

}  // namespace annal::bench
