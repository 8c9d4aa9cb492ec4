#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/plugin/address_policy.h"

struct Curl_URL;

namespace annal {

/// Where an outbound request goes: a URL as read by the parser that libcurl connects with, so that
/// what is checked is what is used.
struct Destination {
    struct UrlDeleter {
        void operator()(Curl_URL* url) const;
    };
    std::unique_ptr<Curl_URL, UrlDeleter> url;  ///< for CURLOPT_CURLU
    std::string place;  ///< "host:port" as permissions write it: lower case, IPv6 in brackets
    std::string name;   ///< what is resolved, lower case; with its final dot when it has one
    std::string key;    ///< what libcurl calls the host: `name` without final dot, ":", port
    std::uint16_t port = 0;
    /// The host is an address in any notation that libcurl or the resolver takes for one: decimal,
    /// octal, hex, short, percent-encoded, with a final dot.
    std::optional<Address> literal;

    /// @error Errc::invalid  Not an absolute http or https URL of at most 8 KiB without user,
    /// password, zone, white space or control characters, whose host is ASCII.
    [[nodiscard]] static Result<Destination> read(const std::string& url);
};

/// How a list of permissions ("host:port", "*:port", "*:*") covers a place; nothing: not at all.
/// An entry that names the port wins over "*:*".
[[nodiscard]] std::optional<AddressPolicy::Port> permission_for(
    const std::string& place, const std::vector<std::string>& allowed
);

/// Judges a URL when it is configured, before there is any connection: what no later resolution
/// could make good. Names are judged again by their addresses whenever they are connected to;
/// here only "localhost" and what lies below it is known by itself.
///
/// Threads: any; reads the node's interfaces. Nothing is resolved.
/// @error Errc::unprocessable  Not a URL that a request may have, or a host that is a denied
/// address in whatever notation, or a port that `allowed` and `policy` don't cover; the detail says
/// why.
[[nodiscard]] Result<void> check_destination(
    const std::string& url,
    const AddressPolicy& policy,
    const std::vector<std::string>& allowed = {"*:*"}
);

}  // namespace annal
