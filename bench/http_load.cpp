#include "bench/http_load.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string_view>

namespace annal::bench {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "bench: %s\n", why.c_str());
    std::_Exit(1);
}

/// Finds the end of an answer in bytes that come in pieces, keeping little of them.
class AnswerReader {
public:
    void begin() {
        head_.clear();
        body_.clear();
        tail_.clear();
        in_body_ = false;
        chunked_ = false;
        left_ = 0;
    }
    /// True when the answer is complete.
    bool take(std::string_view bytes) {
        if (!in_body_) {
            head_.append(bytes);
            const std::size_t end = head_.find("\r\n\r\n");
            if (end == std::string::npos) return false;
            const std::string rest = head_.substr(end + 4);
            head_.resize(end + 2);
            read_head();
            in_body_ = true;
            return take_body(rest);
        }
        return take_body(bytes);
    }
    [[nodiscard]] bool ok() const { return head_.size() > 9 && head_[9] == '2'; }
    [[nodiscard]] std::string text() const {
        return head_.substr(0, head_.find('\r')) + " " + body_.substr(0, 400);
    }
    [[nodiscard]] const std::string& body() const { return body_; }

private:
    static constexpr std::size_t kBodyKept = 1U << 20;

    void read_head() {
        for (char& c : head_) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        chunked_ = head_.find("transfer-encoding: chunked") != std::string::npos;
        const std::size_t at = head_.find("content-length: ");
        if (at != std::string::npos)
            std::from_chars(head_.data() + at + 16, head_.data() + head_.size(), left_);
    }
    bool take_body(std::string_view bytes) {
        body_.append(bytes.substr(0, std::min(bytes.size(), kBodyKept - body_.size())));
        if (chunked_) {
            tail_.append(bytes.substr(bytes.size() - std::min<std::size_t>(bytes.size(), 7)));
            if (tail_.size() > 7) tail_.erase(0, tail_.size() - 7);
            return tail_.ends_with("\r\n0\r\n\r\n") || tail_ == "0\r\n\r\n";
        }
        left_ -= std::min<std::uint64_t>(left_, bytes.size());
        return left_ == 0;
    }

    std::string head_, body_, tail_;
    bool in_body_ = false, chunked_ = false;
    std::uint64_t left_ = 0;
};

struct Connection {
    int fd = -1;
    Clock::time_point due;
    std::string out;
    std::size_t sent = 0;
    AnswerReader answer;
};

/// The event loop of one plan.
class Loop {
public:
    Loop(const Address& server, const LoadPlan& plan) : plan_(plan), epoll_(::epoll_create1(0)) {
        for (int i = 0; i < plan.connections; ++i) connections_.push_back(connect(server));
    }
    ~Loop() {
        for (const auto& connection : connections_) ::close(connection->fd);
        ::close(epoll_);
    }
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    LoadResult run() {
        start_ = Clock::now();
        for (const auto& connection : connections_) idle_.push_back(connection.get());
        while (true) {
            begin_what_is_due();
            if (ended_ && idle_.size() == connections_.size()) break;
            wait();
        }
        result_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
        return std::move(result_);
    }

private:
    std::unique_ptr<Connection> connect(const Address& server) {
        auto connection = std::make_unique<Connection>();
        connection->fd = ::socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(server.port);
        ::inet_pton(AF_INET, server.ip.c_str(), &address.sin_addr);
        if (::connect(connection->fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
            give_up(std::string("can't connect: ") + std::strerror(errno));
        const int on = 1;
        ::setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = connection.get();
        ::epoll_ctl(epoll_, EPOLL_CTL_ADD, connection->fd, &event);
        return connection;
    }

    [[nodiscard]] Clock::time_point due_at(std::uint64_t n) const {
        return start_ + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(static_cast<double>(n) / plan_.rate)
                        );
    }
    [[nodiscard]] bool is_over(Clock::time_point now) const {
        if (plan_.requests > 0 && begun_ >= plan_.requests) return true;
        if (plan_.until && plan_.until()) return true;
        return plan_.seconds > 0 &&
               std::chrono::duration<double>(now - start_).count() >= plan_.seconds;
    }

    void begin_what_is_due() {
        const auto now = Clock::now();
        ended_ = ended_ || is_over(now);
        while (!ended_ && !idle_.empty()) {
            const auto due = plan_.rate > 0 ? due_at(begun_) : now;
            if (due > now) return;
            // In turn, so that none is idle long enough for the server to close it.
            Connection* connection = idle_.front();
            idle_.pop_front();
            begin(*connection, due);
            ended_ = is_over(now);
        }
    }

    void begin(Connection& connection, Clock::time_point due) {
        ++begun_;
        connection.due = due;
        connection.out.clear();
        plan_.write(connection.out);
        connection.sent = 0;
        connection.answer.begin();
        push(connection);
    }

    /// Loopback takes a request at once; a large one is finished when the socket takes more.
    void push(Connection& connection) {
        while (connection.sent < connection.out.size()) {
            const ssize_t n = ::send(
                connection.fd,
                connection.out.data() + connection.sent,
                connection.out.size() - connection.sent,
                MSG_NOSIGNAL
            );
            if (n < 0) give_up(std::string("the server cut a connection: ") + std::strerror(errno));
            connection.sent += static_cast<std::size_t>(n);
        }
    }

    void wait() {
        std::array<epoll_event, 64> events{};
        timespec timeout{0, 50'000'000};
        if (plan_.rate > 0 && !ended_ && !idle_.empty()) {
            const auto left =
                std::chrono::duration_cast<std::chrono::nanoseconds>(due_at(begun_) - Clock::now())
                    .count();
            timeout.tv_nsec = std::clamp<std::int64_t>(left, 0, timeout.tv_nsec);
        }
        const int ready = ::epoll_pwait2(
            epoll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr
        );
        for (int i = 0; i < ready; ++i)
            receive(*static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr));
    }

    void receive(Connection& connection) {
        const ssize_t n = ::recv(connection.fd, buffer_.data(), buffer_.size(), 0);
        if (n <= 0) give_up("the server closed a connection: " + connection.answer.text());
        result_.bytes += static_cast<std::uint64_t>(n);
        if (connection.answer.take({buffer_.data(), static_cast<std::size_t>(n)})) end(connection);
    }

    void end(Connection& connection) {
        result_.latencies_ms.push_back(
            std::chrono::duration<double, std::milli>(Clock::now() - connection.due).count()
        );
        if (connection.answer.ok()) {
            ++result_.answered;
        } else {
            if (result_.failed++ == 0) result_.first_failure = connection.answer.text();
        }
        result_.last_answer = connection.answer.body();
        idle_.push_back(&connection);
    }

    const LoadPlan& plan_;
    int epoll_;
    std::vector<std::unique_ptr<Connection>> connections_;
    std::deque<Connection*> idle_;
    std::array<char, 256U << 10> buffer_{};
    Clock::time_point start_;
    std::uint64_t begun_ = 0;
    bool ended_ = false;
    LoadResult result_;
};

}  // namespace

Address Address::parse(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    return {text.substr(0, colon), static_cast<std::uint16_t>(std::stoi(text.substr(colon + 1)))};
}

double LoadResult::percentile(double p) const {
    if (latencies_ms.empty()) return 0;
    auto sorted = latencies_ms;
    const auto at =
        sorted.begin() + static_cast<std::ptrdiff_t>(p * static_cast<double>(sorted.size() - 1));
    std::nth_element(sorted.begin(), at, sorted.end());
    return *at;
}

LoadResult run_load(const Address& server, const LoadPlan& plan) {
    return std::make_unique<Loop>(server, plan)->run();
}

std::string fetch(const Address& server, const std::string& request) {
    LoadPlan plan;
    plan.requests = 1;
    plan.write = [&](std::string& out) { out = request; };
    LoadResult result = run_load(server, plan);
    if (result.failed > 0)
        give_up(request.substr(0, request.find('\r')) + ": " + result.first_failure);
    return std::move(result.last_answer);
}

std::string request_head(
    const std::string& method,
    const std::string& target,
    const std::string& key,
    std::size_t content_length
) {
    std::string head =
        method + " " + target + " HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer " + key + "\r\n";
    if (content_length > 0)
        head +=
            "Content-Type: application/json\r\nContent-Length: " + std::to_string(content_length) +
            "\r\n";
    return head + "\r\n";
}

}  // namespace annal::bench
