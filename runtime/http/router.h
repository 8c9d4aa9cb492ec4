#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/http/exchange.h"

namespace annal::http {

/// One way in: methods and a path pattern to a handler, with the scope that a key must have.
struct Route {
    std::vector<std::string> methods;
    std::string pattern;  ///< "/v1/audit/events/{id}", "/v1/audit/events.{format}"; a segment holds
                          ///< at most one {name}, at its end
    std::string scope;    ///< empty: open to anybody, without a key
    std::string trigger;  ///< handed to the handler
    std::string owner;    ///< for messages: "query-authio (manifests/query_authio.yaml:12)"
    std::shared_ptr<Handler> handler;
};

struct Match {
    const Route* route = nullptr;    ///< null: no such path, or not with this method
    std::vector<std::string> allow;  ///< the path's methods when only the method does not fit
    const Route* nearest =
        nullptr;  ///< whose handler renders the 404 or 405: of those that share the most leading
                  ///< segments with the path the one added first; null when none shares any
    Pairs params;
};

/// Paths to handlers. A literal segment wins over `prefix{name}`, which wins over `{name}`; a
/// trailing slash is accepted. HEAD is served by GET. Methods do not choose between patterns: where
/// the winning one lacks the method it is a 405, and no less exact pattern is tried. Built once at
/// start, then read by all threads.
class Router {
public:
    Router();
    ~Router();
    Router(Router&&) noexcept;
    Router& operator=(Router&&) noexcept;

    /// @error Errc::conflict  The same method and pattern twice (names of parameters do not count);
    /// the detail names both
    ///                        owners.
    /// @error Errc::invalid   A pattern that can't be: the detail says why.
    [[nodiscard]] Result<void> add(Route route);
    /// `path` is the raw path of the request target, still percent-encoded.
    [[nodiscard]] Match match(std::string_view method, std::string_view path) const;
    /// From now on `refusal` is the answer where no route fits, instead of 404 and 405: what a node
    /// says of everything that it does not serve yet.
    void refuse_rest(std::function<Problem()> refusal) { refusal_ = std::move(refusal); }
    [[nodiscard]] std::optional<Problem> refusal() const {
        return refusal_ ? std::optional(refusal_()) : std::nullopt;
    }
    [[nodiscard]] const std::vector<std::unique_ptr<Route>>& routes() const { return routes_; }

private:
    struct Node;
    std::vector<std::unique_ptr<Route>> routes_;
    std::unique_ptr<Node> root_;
    std::function<Problem()> refusal_;
};

}  // namespace annal::http
