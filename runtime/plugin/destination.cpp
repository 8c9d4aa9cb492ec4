#include "runtime/plugin/destination.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

namespace annal {
namespace {

constexpr std::size_t kUrlBytesMax = 8U << 10;

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    });
    return out;
}

std::string part(CURLU* url, CURLUPart which, unsigned flags = 0) {
    char* text = nullptr;
    if (curl_url_get(url, which, &text, flags) != CURLUE_OK) return {};
    std::string out(text);
    curl_free(text);
    return out;
}

bool all_bytes(std::string_view text, unsigned char min, unsigned char max) {
    return std::all_of(text.begin(), text.end(), [=](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte >= min && byte <= max && byte != 0x7f;
    });
}

/// `host` without its final dot. inet_aton reads all that getaddrinfo takes for an IPv4 address.
std::optional<Address> read_literal(const std::string& host) {
    if (const auto strict = Address::parse(host)) return strict;
    in_addr v4{};
    if (inet_aton(host.c_str(), &v4) == 0) return std::nullopt;
    Address out;
    std::memcpy(out.bytes.data(), &v4, sizeof(v4));
    return out;
}

Error bad_url(std::string detail) {
    return {Errc::invalid, std::move(detail), "url", 0};
}

/// What the resolver answers to these names is no secret (RFC 6761).
bool is_localhost(std::string_view key) {
    const std::string_view host = key.substr(0, key.rfind(':'));
    return host == "localhost" || host.ends_with(".localhost");
}

}  // namespace

void Destination::UrlDeleter::operator()(Curl_URL* url) const {
    curl_url_cleanup(url);
}

Result<Destination> Destination::read(const std::string& text) {
    Destination out;
    out.url.reset(curl_url());
    CURLU* const url = out.url.get();
    const bool parsed =
        !text.empty() && text.size() <= kUrlBytesMax && all_bytes(text, 0x21, 0xff) &&
        url != nullptr &&
        curl_url_set(url, CURLUPART_URL, text.c_str(), CURLU_DISALLOW_USER) == CURLUE_OK;
    if (!parsed) return bad_url("not an absolute URL without user and password");
    const std::string scheme = part(url, CURLUPART_SCHEME);
    if (scheme != "http" && scheme != "https") {
        return bad_url("the URL's scheme must be http or https");
    }
    if (!part(url, CURLUPART_ZONEID).empty()) {
        return bad_url("an address with a zone can't be reached");
    }
    out.name = lower(part(url, CURLUPART_HOST));
    // What other letters turn into depends on the process's locale, digits of other scripts among
    // them.
    if (out.name.empty() || !all_bytes(out.name, 0x21, 0x7e)) {
        return bad_url("the URL's host must be ASCII; write an international name as xn--…");
    }
    const std::string port = part(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
    std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (out.port == 0) return bad_url("the URL's port must be 1 to 65535");
    out.place = out.name + ":" + port;
    std::string host = out.name;
    if (host.ends_with('.')) host.pop_back();
    out.literal = read_literal(host);
    if (out.literal) host = out.literal->v6 ? "[" + out.literal->text() + "]" : out.literal->text();
    // So that libcurl looks the host up under the name that its addresses are given to it for.
    if (host.empty() || curl_url_set(url, CURLUPART_HOST, host.c_str(), 0) != CURLUE_OK) {
        return bad_url("the URL's host can't be reached");
    }
    out.key = host + ":" + port;
    return out;
}

std::optional<AddressPolicy::Port> permission_for(
    const std::string& place, const std::vector<std::string>& allowed
) {
    std::optional<AddressPolicy::Port> found;
    for (const std::string& entry : allowed) {
        if (entry == "*:*") {
            found = AddressPolicy::Port::any;
        } else if (entry.starts_with("*:") ? place.ends_with(entry.substr(1)) : lower(entry) == place) {
            return AddressPolicy::Port::named;
        }
    }
    return found;
}

Result<void> check_destination(
    const std::string& url, const AddressPolicy& policy, const std::vector<std::string>& allowed
) {
    const auto refuse = [](std::string why) {
        return Error{Errc::unprocessable, std::move(why), "url", 0};
    };
    const auto read = Destination::read(url);
    if (!read) return refuse(read.error().detail);
    const Destination& destination = read.value();
    const auto permission = permission_for(destination.place, allowed);
    if (!permission) return refuse("no permission covers " + destination.place);
    std::optional<Address> address = destination.literal;
    if (!address && is_localhost(destination.key)) address = Address::parse("127.0.0.1");
    if (!address) return ok();
    auto why = policy.deny(*address, destination.port, *permission, own_addresses());
    if (why) return refuse(destination.place + " can't be reached: " + *why);
    return ok();
}

}  // namespace annal
