#include "tests/support/http_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace annal::test {
namespace {

[[noreturn]] void fail(const std::string& what) {
    throw std::runtime_error("http client: " + what + ": " + std::strerror(errno));
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return text;
}

std::optional<std::string> find(
    const std::vector<std::pair<std::string, std::string>>& fields, std::string_view name
) {
    for (const auto& [key, value] : fields) {
        if (key == name) return value;
    }
    return std::nullopt;
}

template <class Address>
int connect_to(int family, const Address& address, socklen_t size, const std::string& text) {
    const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) != 0) {
        const int error = errno;
        ::close(fd);
        errno = error;
        fail("connect to " + text);
    }
    return fd;
}

int connect_unix(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof(address.sun_path)) throw std::runtime_error("path too long: " + path);
    std::memcpy(address.sun_path, path.c_str(), path.size());
    return connect_to(AF_UNIX, address, sizeof(address), path);
}

int connect_tcp(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    std::string host = text.substr(0, colon);
    const auto port = static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1)));
    if (host.starts_with('[')) {
        host = host.substr(1, host.size() - 2);
        sockaddr_in6 address{};
        address.sin6_family = AF_INET6;
        address.sin6_port = htons(port);
        if (::inet_pton(AF_INET6, host.c_str(), &address.sin6_addr) != 1) fail("address " + text);
        return connect_to(AF_INET6, address, sizeof(address), text);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) fail("address " + text);
    return connect_to(AF_INET, address, sizeof(address), text);
}

}  // namespace

std::optional<std::string> HttpResponse::header(std::string_view lower_case_name) const {
    return find(headers, lower_case_name);
}

std::optional<std::string> HttpResponse::trailer(std::string_view lower_case_name) const {
    return find(trailers, lower_case_name);
}

HttpClient::HttpClient(const std::string& address, std::chrono::milliseconds timeout)
    : host_(address) {
    const bool unix_socket = address.starts_with('/');
    fd_ = unix_socket ? connect_unix(address) : connect_tcp(address);
    if (unix_socket) {
        host_ = "localhost";
    } else {
        const int on = 1;
        ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    timeval limit{};
    limit.tv_sec = timeout.count() / 1000;
    limit.tv_usec = timeout.count() % 1000 * 1000;
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

HttpClient::~HttpClient() {
    if (fd_ >= 0) ::close(fd_);
}

HttpClient::HttpClient(HttpClient&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      host_(std::move(other.host_)),
      buffer_(std::move(other.buffer_)) {}

HttpResponse HttpClient::request(
    const std::string& method,
    const std::string& target,
    const Headers& headers,
    std::string_view body
) {
    std::string text = method + " " + target + " HTTP/1.1\r\nHost: " + host_ + "\r\n";
    for (const auto& [name, value] : headers)
        text.append(name).append(": ").append(value).append("\r\n");
    const bool may_be_empty = method == "GET" || method == "HEAD" || method == "DELETE";
    if (!body.empty() || !may_be_empty) {
        text += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    }
    text += "\r\n";
    text += body;
    send(text);
    auto response = receive(method == "HEAD");
    if (!response) throw std::runtime_error("http client: no answer to " + method + " " + target);
    return std::move(*response);
}

void HttpClient::send(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) fail("send");
        bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
}

bool HttpClient::fill() {
    std::array<char, 65536> part;
    for (;;) {
        const ssize_t size = ::recv(fd_, part.data(), part.size(), 0);
        if (size > 0) {
            buffer_.append(part.data(), static_cast<std::size_t>(size));
            return true;
        }
        if (size == 0 || errno == ECONNRESET) return false;
        if (errno != EINTR) fail("receive");
    }
}

std::string HttpClient::take(std::size_t size) {
    std::string part = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return part;
}

std::optional<std::string> HttpClient::line() {
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n")) == std::string::npos) {
        if (!fill()) return std::nullopt;
    }
    std::string text = take(end);
    buffer_.erase(0, 2);
    return text;
}

void HttpClient::read_fields(std::vector<std::pair<std::string, std::string>>& fields) {
    for (;;) {
        const auto text = line();
        if (!text) throw std::runtime_error("http client: the connection ended within headers");
        if (text->empty()) return;
        const std::size_t colon = text->find(": ");
        if (colon == std::string::npos)
            throw std::runtime_error("http client: bad header " + *text);
        fields.emplace_back(lower(text->substr(0, colon)), text->substr(colon + 2));
    }
}

bool HttpClient::read_chunks(HttpResponse& response) {
    for (;;) {
        const auto size_line = line();
        if (!size_line) return false;
        const std::size_t size = std::stoul(*size_line, nullptr, 16);
        if (size == 0) {
            read_fields(response.trailers);
            return true;
        }
        while (buffer_.size() < size + 2) {
            if (!fill()) return false;
        }
        response.body += take(size);
        if (take(2) != "\r\n") throw std::runtime_error("http client: bad chunk");
    }
}

std::optional<HttpResponse> HttpClient::receive(bool to_head) {
    const auto status_line = line();
    if (!status_line) {
        if (!buffer_.empty()) throw std::runtime_error("http client: half an answer: " + buffer_);
        return std::nullopt;
    }
    if (!status_line->starts_with("HTTP/1.1 ") || status_line->size() < 12) {
        throw std::runtime_error("http client: no HTTP answer: " + *status_line);
    }
    HttpResponse response;
    response.status = std::stoi(status_line->substr(9, 3));
    read_fields(response.headers);
    response.chunked = response.header("transfer-encoding") == "chunked";
    const bool bodiless =
        to_head || response.status / 100 == 1 || response.status == 204 || response.status == 304;
    if (bodiless) return response;
    if (response.chunked) {
        response.whole = read_chunks(response);
    } else if (const auto length = response.header("content-length")) {
        const std::size_t size = std::stoul(*length);
        while (buffer_.size() < size && fill()) {
        }
        response.whole = buffer_.size() >= size;
        response.body = take(size);
    } else {
        while (fill()) {
        }
        response.body = take(buffer_.size());
    }
    return response;
}

std::string HttpClient::receive_all() {
    while (fill()) {
    }
    return take(buffer_.size());
}

std::string HttpClient::receive_some() {
    if (buffer_.empty()) fill();
    return take(buffer_.size());
}

bool HttpClient::closed_by_peer() {
    (void)receive_all();
    return true;
}

void HttpClient::shutdown_send() {
    ::shutdown(fd_, SHUT_WR);
}

void HttpClient::reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    ::close(std::exchange(fd_, -1));
}

void HttpClient::receive_buffer(int bytes) {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

}  // namespace annal::test
