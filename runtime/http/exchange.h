#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/core/task.h"
#include "runtime/event/event_json.h"

namespace annal::http {

using Pairs = std::vector<std::pair<std::string, std::string>>;

/// Who asks: an API key, or the owner of the node through its Unix socket.
struct Principal {
    std::string key_id;  ///< "apikey_…"; "local" for the Unix socket
    std::string
        project;  ///< the key's project; for the Unix socket what the header Annal-Project says
    std::vector<std::string> scopes;
    /// A scope covers itself; `x:*` covers every `x:…`; `admin` covers everything within the
    /// project; `platform` covers everything.
    [[nodiscard]] bool may(std::string_view scope) const;
};

/// An answer that did not work out, in no product's form yet.
struct Problem {
    int status = 500;
    std::string code;  ///< a stable word: "not_found", "insufficient_scope"
    std::string title, detail;
    std::string request_id;
    std::uint32_t retry_after_s = 0;
    std::vector<Issue> issues;
    Pairs headers;  ///< beside Content-Type and Retry-After: Allow, WWW-Authenticate
};
[[nodiscard]] Problem problem_of(const Error& error);

/// An error document: what the client gets for a `Problem`.
struct Document {
    std::string content_type, body;
};
/// RFC 9457 application/problem+json with request_id and errors: the native form.
[[nodiscard]] Document problem_json(const Problem& problem);

/// What came in. Borrowed strings live as long as the exchange.
struct Request {
    std::string method;  ///< as sent: HEAD stays HEAD on a route of GET
    std::string path;    ///< of the target, still percent-encoded, without the query
    std::string request_id, peer_ip;
    Pairs headers;  ///< names in lower case
    Pairs query;    ///< decoded, in order, duplicates kept
    Pairs params;   ///< of the route's {name}s, decoded
    std::string trigger;
    std::int64_t content_length =
        -1;  ///< as sent, so of the encoded bytes; -1: chunked, or no body

    [[nodiscard]] std::optional<std::string_view> header(std::string_view lower_case_name) const;
    [[nodiscard]] std::optional<std::string_view> parameter(std::string_view query_name
    ) const;  ///< the first
    [[nodiscard]] std::string_view param(std::string_view name) const;
};

/// One request and its answer, on its connection. Use from one coroutine at a time; methods hop to
/// the connection's strand by themselves, so any thread will do, and resume the caller on its own
/// executor. It stays valid after the connection has gone: what would touch the client then says
/// Errc::cancelled. An exchange that is dropped by all before its answer was finished: 500 when
/// nothing has been sent, else the connection is cut, so that a short answer never looks like a
/// whole one.
class Exchange {
public:
    virtual ~Exchange() = default;
    [[nodiscard]] virtual const Request& request() const = 0;
    [[nodiscard]] virtual const Principal& principal() const = 0;
    /// The client is gone, or the server is stopping past its grace. A client that has only ended
    /// what it sends still waits for its answer; whether it has closed altogether shows when
    /// something is written.
    [[nodiscard]] virtual bool cancelled() const = 0;
    /// `cancelled`, or the client has ended what it sends, as most do when they go away: reason
    /// enough to end an answer that would go on for ever.
    [[nodiscard]] virtual bool hung_up() const { return cancelled(); }

    /// The next chunk of the body, decoded; empty at its end. Valid until the next read.
    /// @error Errc::too_large  More than Limits::body_bytes_max, unless `stream_body` was called.
    /// @error Errc::invalid    Broken chunking or gzip. @error Errc::timeout, Errc::cancelled.
    [[nodiscard]] virtual Task<Result<std::string_view>> read() = 0;
    /// Lifts the limit on the whole body: the handler bounds what it keeps.
    virtual void stream_body() = 0;

    /// Status and headers, once. Content-Length, Transfer-Encoding, Connection, Date and
    /// Annal-Request-Id are the server's and passed over. Nothing is sent before the first write or
    /// finish.
    /// @error Errc::internal  Started already, or no final status (200-599).
    /// @error Errc::invalid   A header that can't be sent: its name is no token, or its value has a
    /// control character.
    [[nodiscard]] virtual Result<void> start(int status, Pairs headers) = 0;
    /// Returns when the peer has taken enough for more to come; a few KiB are gathered and follow
    /// by themselves.
    /// @error Errc::cancelled  The client is gone, or asked by HEAD and has its answer.
    [[nodiscard]] virtual Task<Result<void>> write(std::string_view bytes) = 0;
    /// Ends the answer; the connection goes on to the next request. `trailers` are left out when
    /// the client does not take them.
    [[nodiscard]] virtual Task<Result<void>> finish(Pairs trailers) = 0;
    [[nodiscard]] virtual bool started() const = 0;
    /// start + write + finish of `problem` in the form of the route's handler; only before `start`.
    [[nodiscard]] virtual Task<Result<void>> fail(Problem problem) = 0;
    /// start + write + finish in one go: one Content-Length and, where the socket takes it, one
    /// system call. `body` is borrowed until then.
    [[nodiscard]] virtual Task<Result<void>> answer(
        int status, Pairs headers, std::string_view body
    );
    /// Where the other methods run without a hop; a coroutine that talks to the exchange a lot is
    /// best spawned here.
    [[nodiscard]] virtual boost::asio::any_io_executor executor() const;
};

/// start + write + finish in one go.
[[nodiscard]] Task<Result<void>> respond(
    Exchange& exchange, int status, std::string content_type, std::string body
);

/// Answers the requests of a route.
class Handler {
public:
    virtual ~Handler() = default;
    /// Must start an answer or fail; when it returns without either, the client gets a 500. The
    /// exchange may be kept for work after the answer.
    [[nodiscard]] virtual Task<void> handle(std::shared_ptr<Exchange> exchange) = 0;
    /// Error documents in this product's form. Thread-safe.
    [[nodiscard]] virtual Document render(const Problem& problem) const {
        return problem_json(problem);
    }
};

}  // namespace annal::http
