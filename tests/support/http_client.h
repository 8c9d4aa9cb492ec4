#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal::test {

struct HttpResponse {
    int status = 0;
    std::vector<std::pair<std::string, std::string>> headers;  ///< names in lower case
    std::string body;                                          ///< without chunking
    std::vector<std::pair<std::string, std::string>> trailers;
    bool chunked = false;
    bool whole = true;  ///< false: the connection ended before the body did

    [[nodiscard]] std::optional<std::string> header(std::string_view lower_case_name) const;
    [[nodiscard]] std::optional<std::string> trailer(std::string_view lower_case_name) const;
};

/// A blocking HTTP/1.1 client on one connection that also sends any bytes at all and shows those
/// that come back. Failures (no connection, timeout, an answer that is not HTTP) are exceptions
/// with a message: the test ends there.
class HttpClient {
public:
    /// `address` is "127.0.0.1:8080", "[::1]:8080" or the path of a Unix socket.
    explicit HttpClient(
        const std::string& address, std::chrono::milliseconds timeout = std::chrono::seconds(20)
    );
    ~HttpClient();
    HttpClient(HttpClient&& other) noexcept;
    HttpClient& operator=(HttpClient&&) = delete;

    using Headers = std::vector<std::pair<std::string, std::string>>;
    /// Sends a request with Host, Content-Length (when there is a body) and `headers`, and receives
    /// its answer.
    HttpResponse request(
        const std::string& method,
        const std::string& target,
        const Headers& headers = {},
        std::string_view body = {}
    );

    void send(std::string_view bytes);
    /// The next answer; nothing when the connection has ended. Answers 1xx are handed out like
    /// others.
    /// @param to_head  the request was HEAD: there is no body whatever the headers say
    std::optional<HttpResponse> receive(bool to_head = false);
    /// Exactly what comes until the other side closes (a reset counts as closing).
    std::string receive_all();
    /// At least one byte, or nothing at the end.
    std::string receive_some();
    /// Whether the other side has closed, within the timeout and after bytes that nobody asked for.
    bool closed_by_peer();
    void shutdown_send();
    /// For what else speaks on this connection. It stays the client's.
    [[nodiscard]] int descriptor() const { return fd_; }
    /// Closes with a reset instead of a farewell.
    void reset();
    /// A small receive buffer makes a slow reader of this client. Before anything is received.
    void receive_buffer(int bytes);

private:
    bool fill();
    std::string take(std::size_t size);
    std::optional<std::string> line();
    void read_fields(std::vector<std::pair<std::string, std::string>>& fields);
    bool read_chunks(HttpResponse& response);

    int fd_ = -1;
    std::string host_;
    std::string buffer_;
};

}  // namespace annal::test
