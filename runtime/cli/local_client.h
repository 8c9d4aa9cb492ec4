#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "runtime/core/result.h"

namespace annal::cli {

/// The command line's side of a node: HTTP over its Unix socket, one connection a request,
/// blocking.
class LocalClient {
public:
    explicit LocalClient(std::filesystem::path socket) : socket_(std::move(socket)) {}

    struct Answer {
        int status = 0;
        std::map<std::string, std::string> headers;   ///< names in lower case
        std::map<std::string, std::string> trailers;  ///< likewise
        std::string body;                             ///< empty when `on_body` took it
    };
    struct Call {
        std::string method = "GET", target, project, content_type, body;
        std::map<std::string, std::string> headers;
        /// Takes the body of a 2xx answer in pieces, as soon as they come; false stops. Not called
        /// for other answers.
        std::function<bool(std::string_view)> on_body;
    };

    /// Whether a node listens.
    [[nodiscard]] bool is_up() const;
    /// @error Errc::unavailable  No node listens, or the connection broke.
    [[nodiscard]] Result<Answer> send(const Call& call) const;

private:
    std::filesystem::path socket_;
};

}  // namespace annal::cli
