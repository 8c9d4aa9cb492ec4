#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/http/exchange.h"

namespace annal::http {

/// Where the head of a request ends, found as its bytes come in. Refuses what different servers
/// read differently, before anything is parsed: a line that ends in a bare LF, a folded header
/// line, bytes that can't begin a request line.
class HeadScanner {
public:
    enum class State { more, done, bad };
    /// Looks at the bytes of `text` that it has not seen yet; `text` grows from call to call.
    State scan(std::string_view text);
    /// Length of the head with its empty line. Only after `done`.
    [[nodiscard]] std::size_t size() const { return seen_; }
    [[nodiscard]] const char* problem() const { return problem_; }

private:
    State bad(const char* problem);
    std::size_t seen_ = 0;
    std::size_t line_ = 0;  // where the current line begins
    const char* problem_ = "";
};

/// Takes the decoded bytes of a body, as much as it has room for.
class BodySink {
public:
    virtual ~BodySink() = default;
    /// How many of `bytes` were taken.
    virtual std::size_t take(std::string_view bytes) = 0;
};

/// One request, parsed by Beast straight into a `Request`: the head by `head`, then its body by
/// `body`, piece by piece.
class RequestParser : public boost::beast::http::basic_parser<true> {
public:
    explicit RequestParser(Request& request);
    /// How long one chunk header with its extensions, or all trailers together, may be.
    void limit_framing(std::size_t framing_max) { framing_max_ = framing_max; }

    /// `text` is a whole head, as `HeadScanner` found it. On failure the request holds what was
    /// understood before.
    /// @error Errc::invalid  Not HTTP/1.x, or ambiguous about where its body ends.
    [[nodiscard]] Result<void> head(std::string_view text);
    /// Feeds `sink` from the front of `text` and cuts off what was used. Returns when `text` has
    /// nothing more to give, the sink takes nothing, or the body has ended (`is_done`).
    /// @error Errc::invalid  Broken chunking, or a chunk header or trailers beyond their limit.
    [[nodiscard]] Result<void> body(std::string_view& text, BodySink& sink);

    [[nodiscard]] bool http11() const { return version_ == 11; }

private:
    using error_code = boost::beast::error_code;
    using text_view = boost::beast::string_view;
    void on_request_impl(
        boost::beast::http::verb verb,
        text_view method,
        text_view target,
        int version,
        error_code& ec
    ) override;
    void on_field_impl(
        boost::beast::http::field field, text_view name, text_view value, error_code& ec
    ) override;
    void on_header_impl(error_code& ec) override;
    void on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code& ec) override;
    std::size_t on_body_impl(text_view bytes, error_code& ec) override;
    void on_chunk_header_impl(std::uint64_t size, text_view extensions, error_code& ec) override;
    std::size_t on_chunk_body_impl(std::uint64_t remaining, text_view bytes, error_code& ec)
        override;
    void on_finish_impl(error_code& ec) override;
    void on_response_impl(int status, text_view reason, int version, error_code& ec) override;
    [[nodiscard]] Result<void> check() const;

    Request& request_;
    std::size_t take(text_view bytes);

    BodySink* sink_ = nullptr;
    std::size_t taken_ = 0;  // by the sink, in one step of the parser
    std::size_t framing_max_ = 16U << 10;
    std::string target_;
    int version_ = 11;
    bool in_head_ = true;
    std::uint32_t hosts_ = 0;
    std::uint32_t transfer_encodings_ = 0;
    bool plain_chunked_ = true;
};

/// Whether the comma-separated list `value` has `word` (in any case; parameters after `;` do not
/// count).
[[nodiscard]] bool list_has(std::string_view value, std::string_view word);

}  // namespace annal::http
