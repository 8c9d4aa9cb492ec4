#pragma once

/// Verifies webhook requests that Annal has signed. One header, C++17, OpenSSL's libcrypto alone;
/// Apache-2.0.
///
///     const auto verdict = annal::webhook::verify(body, headers, {secret});
///     if (!verdict) return answer(400, verdict.message);
///     if (is_new(verdict.id)) handle(body);  // a delivery may come again, with the same id
///
/// `body` is what came over the wire: JSON that has been parsed and written again is other bytes
/// with another signature.

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal::webhook {

/// What came of it.
enum class Code {
    ok,
    missing_header,    ///< no signature, or a part of the Standard Webhooks headers without the
                       ///< others
    malformed_header,  ///< empty, repeated, longer than 4096 bytes, or not of its form
    too_old,           ///< further from the clock than the tolerance
    too_new,           ///< likewise, in the future
    no_match,          ///< no signature is one of this body under these secrets
    body_only,         ///< signed without a time, and that was not asked for
    invalid_secret,    ///< the receiver's own fault: no secret, an empty or a damaged one
};

/// Which signature was verified.
enum class Scheme { none, standard_webhooks, authio_timestamped, authio_body };

/// What is certain about a request besides its body; false when it is not to be trusted.
struct Verdict {
    Code code = Code::ok;
    std::string message;  ///< why not, for people; holds nothing of the request
    Scheme scheme = Scheme::none;
    std::string id;  ///< webhook-id, where it was signed: standard_webhooks
    std::int64_t timestamp =
        0;  ///< of the attempt, Unix seconds, where signed: all but authio_body

    explicit operator bool() const { return code == Code::ok; }
};

/// Names in any case and values, in any order; one that came twice is there twice.
using Headers = std::vector<std::pair<std::string_view, std::string_view>>;

struct Options {
    /// How far the timestamp may be from the clock, in both directions.
    std::chrono::seconds tolerance{300};
    /// Unix seconds, instead of the system's clock at the call.
    std::optional<std::int64_t> now;
    /// Takes an Authio-Signature without a time alone: such a request can be replayed for ever.
    bool accept_body_only = false;
};

/// Verifies one request.
///
/// With any of the headers webhook-id, webhook-timestamp and webhook-signature, those three count
/// and nothing else does; without them Authio-Signature does. So nobody turns a request into a
/// weaker one by damaging its better signature.
///
/// @param body     the bytes as they were received
/// @param secrets  one, or several while one replaces another: one of them has to fit
/// Threads: any. Throws nothing because of what came in `body` and `headers`; std::bad_alloc, or
/// std::runtime_error where OpenSSL cannot do HMAC-SHA256.
[[nodiscard]] inline Verdict verify(
    std::string_view body,
    const Headers& headers,
    const std::vector<std::string>& secrets,
    const Options& options = {}
);

namespace detail {

inline constexpr std::string_view kPrefix = "whsec_";
inline constexpr std::size_t kHeaderBytesMax = 4096;
inline constexpr std::size_t kSecondsDigitsMax = 12;
inline constexpr std::string_view kBlanks = " \t\r\n";
inline constexpr std::string_view kDigits = "0123456789";
inline constexpr std::string_view kHex = "0123456789abcdefABCDEF";
inline constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

using Mac = std::array<unsigned char, 32>;

/// What went wrong, or nothing.
using Fault = std::optional<Verdict>;

inline Verdict fault(Code code, std::string message) {
    Verdict out;
    out.code = code;
    out.message = std::move(message);
    return out;
}

inline Verdict malformed(std::string_view shown, std::string_view what) {
    return fault(Code::malformed_header, std::string(shown) + ": " + std::string(what));
}

inline Verdict invalid_secret(std::size_t number, std::size_t count, std::string_view what) {
    return fault(
        Code::invalid_secret,
        "secret " + std::to_string(number) + " of " + std::to_string(count) + ": " +
            std::string(what)
    );
}

inline bool starts_with(std::string_view text, std::string_view prefix) {
    return text.substr(0, prefix.size()) == prefix;
}

inline bool consists_of(std::string_view text, std::string_view characters) {
    return text.find_first_not_of(characters) == std::string_view::npos;
}

/// `name` is in lower case. Without the locale, which would change what a header is.
inline bool is_named(std::string_view given, std::string_view name) {
    return std::equal(given.begin(), given.end(), name.begin(), name.end(), [](char a, char b) {
        return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b;
    });
}

inline std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> out;
    for (std::size_t begin = 0;;) {
        const std::size_t end = text.find(separator, begin);
        out.push_back(text.substr(begin, end - begin));
        if (end == std::string_view::npos) return out;
        begin = end + 1;
    }
}

/// What follows `prefix` in those of `pieces` that begin with it.
inline std::vector<std::string_view> values_of(
    const std::vector<std::string_view>& pieces, std::string_view prefix
) {
    std::vector<std::string_view> out;
    for (std::string_view piece : pieces) {
        if (starts_with(piece, prefix)) out.push_back(piece.substr(prefix.size()));
    }
    return out;
}

inline bool is_base64_mac(std::string_view text) {
    return text.size() == 44 && text.back() == '=' && consists_of(text.substr(0, 43), kBase64);
}

inline bool is_hex_mac(std::string_view text) {
    return text.size() == 64 && consists_of(text, kHex);
}

/// Visible ASCII without the dot, which divides what is signed.
inline bool is_id(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) {
        return c > ' ' && c <= '~' && c != '.';
    });
}

/// name=value
inline bool is_element(std::string_view text) {
    const std::size_t end = text.find('=');
    if (end == 0 || end == std::string_view::npos) return false;
    return consists_of(text.substr(0, end), "abcdefghijklmnopqrstuvwxyz0123456789_") &&
           text.find(' ') == std::string_view::npos;
}

inline std::optional<std::int64_t> seconds(std::string_view text) {
    if (text.empty() || text.size() > kSecondsDigitsMax || !consists_of(text, kDigits)) {
        return std::nullopt;
    }
    std::int64_t out = 0;
    for (char c : text) out = out * 10 + (c - '0');
    return out;
}

inline Mac mac(std::string_view key, std::string_view signed_before, std::string_view body) {
    std::string text;
    text.reserve(signed_before.size() + body.size());
    text.append(signed_before).append(body);
    Mac out{};
    const unsigned char* made = HMAC(
        EVP_sha256(),
        key.data(),
        static_cast<int>(key.size()),
        reinterpret_cast<const unsigned char*>(text.data()),
        text.size(),
        out.data(),
        nullptr
    );
    // Its zeros would be a signature that anybody can write down.
    if (made == nullptr) throw std::runtime_error("OpenSSL cannot do HMAC-SHA256");
    return out;
}

inline std::string to_base64(const Mac& bytes) {
    std::string out(44, '\0');
    // It writes a null character behind the text, where a std::string has one.
    EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes.data(), 32);
    return out;
}

inline std::string from_hex(std::string_view text) {
    const auto nibble = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
    std::string out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        out.push_back(static_cast<char>(nibble(text[i]) * 16 + nibble(text[i + 1])));
    }
    return out;
}

/// The bytes of base64 with or without its padding; nothing if it is something else.
inline std::optional<std::string> from_base64(std::string_view text) {
    const std::string_view bare = text.substr(0, text.find_last_not_of('=') + 1);
    const std::size_t padding = text.size() - bare.size(), wanted = (4 - bare.size() % 4) % 4;
    if (bare.empty() || wanted == 3 || (padding != 0 && padding != wanted) ||
        !consists_of(bare, kBase64)) {
        return std::nullopt;
    }
    std::string out;
    std::uint32_t bits = 0;
    int held = 0;
    for (char c : bare) {
        bits = bits << 6U | static_cast<std::uint32_t>(kBase64.find(c));
        held += 6;
        if (held >= 8) {
            held -= 8;
            out.push_back(static_cast<char>(bits >> static_cast<unsigned>(held) & 0xFFU));
        }
    }
    return out;
}

/// Takes the same time wherever the two differ; all of `given` are as long as `expected`.
inline bool is_among(std::string_view expected, const std::vector<std::string>& given) {
    bool found = false;
    for (const std::string& one : given) {
        found |= one.size() == expected.size() &&
                 CRYPTO_memcmp(one.data(), expected.data(), expected.size()) == 0;
    }
    return found;
}

/// The one value of a header, without the blanks around it.
struct Single {
    std::string_view value;
    Fault wrong;
};

inline Single single(const Headers& headers, std::string_view name, std::string_view shown) {
    std::optional<std::string_view> found;
    for (const auto& [given, text] : headers) {
        if (!is_named(given, name)) continue;
        if (found) return {{}, malformed(shown, "is there more than once")};
        found = text;
    }
    if (!found) return {{}, fault(Code::missing_header, std::string(shown) + " is missing")};
    std::string_view value = *found;
    value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
    value = value.substr(0, value.find_last_not_of(" \t") + 1);
    if (value.empty()) return {{}, malformed(shown, "is empty")};
    if (value.size() > kHeaderBytesMax) return {{}, malformed(shown, "is longer than 4096 bytes")};
    if (!std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c <= '~'; })) {
        return {{}, malformed(shown, "holds a character that is not printable ASCII")};
    }
    return {value, std::nullopt};
}

inline bool has(const Headers& headers, std::string_view name) {
    return std::any_of(headers.begin(), headers.end(), [&](const auto& header) {
        return is_named(header.first, name);
    });
}

inline Fault check_secrets(const std::vector<std::string>& secrets) {
    if (secrets.empty()) return fault(Code::invalid_secret, "no secret is given");
    for (std::size_t i = 0; i < secrets.size(); ++i) {
        const std::string& secret = secrets[i];
        if (secret.empty() || secret == kPrefix) {
            return invalid_secret(i + 1, secrets.size(), "is empty");
        }
        if (kBlanks.find(secret.front()) != std::string_view::npos ||
            kBlanks.find(secret.back()) != std::string_view::npos) {
            return invalid_secret(i + 1, secrets.size(), "begins or ends with white space");
        }
    }
    return std::nullopt;
}

/// What webhook-signature may be keyed with: the bytes behind whsec_. A secret without the prefix
/// is one that a stream was given as plain text, or one that has lost it on the way here.
inline Fault add_standard_keys(
    const std::vector<std::string>& secrets, std::vector<std::string>& keys
) {
    for (std::size_t i = 0; i < secrets.size(); ++i) {
        const std::string_view secret = secrets[i];
        const bool prefixed = starts_with(secret, kPrefix);
        auto bytes = from_base64(prefixed ? secret.substr(kPrefix.size()) : secret);
        if (prefixed && !bytes) {
            return invalid_secret(i + 1, secrets.size(), "is not base64 behind whsec_");
        }
        if (!prefixed) keys.emplace_back(secret);
        if (bytes) keys.push_back(std::move(*bytes));
    }
    return std::nullopt;
}

inline std::int64_t unix_seconds() {
    const auto since = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(since).count();
}

inline Fault check_time(std::string_view shown, std::int64_t timestamp, const Options& options) {
    const std::int64_t now = options.now.value_or(unix_seconds());
    const std::int64_t age = now - timestamp, tolerance = options.tolerance.count();
    const std::string tolerated = std::to_string(tolerance) + " s are tolerated";
    const std::string begin = std::string(shown) + ": ";
    if (age < 0 && -age > tolerance) {
        return fault(
            Code::too_new, begin + std::to_string(-age) + " s ahead of the clock; " + tolerated
        );
    }
    if (age >= 0 && age > tolerance) {
        return fault(Code::too_old, begin + std::to_string(age) + " s old; " + tolerated);
    }
    return std::nullopt;
}

inline Verdict no_match(std::string_view shown) {
    return fault(
        Code::no_match, std::string(shown) + ": no signature fits this body and these secrets"
    );
}

inline Verdict verify_standard(
    std::string_view body,
    const Headers& headers,
    const std::vector<std::string>& secrets,
    const Options& options
) {
    const Single id = single(headers, "webhook-id", "webhook-id");
    if (id.wrong) return *id.wrong;
    const Single timestamp = single(headers, "webhook-timestamp", "webhook-timestamp");
    if (timestamp.wrong) return *timestamp.wrong;
    const Single signatures = single(headers, "webhook-signature", "webhook-signature");
    if (signatures.wrong) return *signatures.wrong;
    if (!is_id(id.value)) return malformed("webhook-id", "holds a space or a dot");
    const auto attempted = seconds(timestamp.value);
    if (!attempted) return malformed("webhook-timestamp", "is no number of seconds");
    std::vector<std::string> given;
    for (std::string_view text : values_of(split(signatures.value, ' '), "v1,")) {
        if (is_base64_mac(text)) given.emplace_back(text);
    }
    if (given.empty()) return malformed("webhook-signature", "holds no whole v1 signature");
    if (auto wrong = check_time("webhook-timestamp", *attempted, options)) return *wrong;
    std::vector<std::string> keys;
    if (auto wrong = add_standard_keys(secrets, keys)) return *wrong;
    std::string before(id.value);
    before.append(".").append(timestamp.value).append(".");
    bool matches = false;
    for (const std::string& key : keys) {
        matches |= is_among(to_base64(mac(key, before, body)), given);
    }
    if (!matches) return no_match("webhook-signature");
    Verdict out;
    out.scheme = Scheme::standard_webhooks;
    out.id = id.value;
    out.timestamp = *attempted;
    return out;
}

/// An Authio-Signature, taken apart.
struct AuthioSignature {
    std::vector<std::string> macs;
    std::optional<std::int64_t> timestamp;
    std::string before;  ///< what is signed before the body
};

inline Fault parse_authio(std::string_view value, AuthioSignature& out) {
    const auto elements = split(value, ',');
    if (!std::all_of(elements.begin(), elements.end(), is_element)) {
        return malformed("Authio-Signature", "is no list of name=value");
    }
    const auto times = values_of(elements, "t=");
    if (!times.empty()) {
        out.timestamp = seconds(times.front());
        out.before = std::string(times.front()) + ".";
        if (times.size() > 1 || !out.timestamp) {
            return malformed("Authio-Signature", "t is no number of seconds");
        }
    }
    for (std::string_view text : values_of(elements, "v1=")) {
        if (is_hex_mac(text)) out.macs.push_back(from_hex(text));
    }
    if (out.macs.empty()) return malformed("Authio-Signature", "holds no whole v1 signature");
    return std::nullopt;
}

inline Verdict verify_authio(
    std::string_view body,
    const Headers& headers,
    const std::vector<std::string>& secrets,
    const Options& options
) {
    if (!has(headers, "authio-signature")) {
        return fault(
            Code::missing_header, "neither webhook-signature nor Authio-Signature is there"
        );
    }
    const Single header = single(headers, "authio-signature", "Authio-Signature");
    if (header.wrong) return *header.wrong;
    AuthioSignature signature;
    if (auto wrong = parse_authio(header.value, signature)) return *wrong;
    if (signature.timestamp) {
        if (auto wrong = check_time("Authio-Signature", *signature.timestamp, options)) {
            return *wrong;
        }
    } else if (!options.accept_body_only) {
        return fault(
            Code::body_only,
            "Authio-Signature: signs no time, and a request that can be replayed is not accepted"
        );
    }
    bool matches = false;
    for (const std::string& secret : secrets) {
        // Keyed with the text of the secret as it stands, whsec_ included.
        const Mac ours = mac(secret, signature.before, body);
        matches |=
            is_among({reinterpret_cast<const char*>(ours.data()), ours.size()}, signature.macs);
    }
    if (!matches) return no_match("Authio-Signature");
    Verdict out;
    out.scheme = signature.timestamp ? Scheme::authio_timestamped : Scheme::authio_body;
    out.timestamp = signature.timestamp.value_or(0);
    return out;
}

}  // namespace detail

inline Verdict verify(
    std::string_view body,
    const Headers& headers,
    const std::vector<std::string>& secrets,
    const Options& options
) {
    if (auto wrong = detail::check_secrets(secrets)) return *wrong;
    for (std::string_view name : {"webhook-id", "webhook-timestamp", "webhook-signature"}) {
        if (detail::has(headers, name)) {
            return detail::verify_standard(body, headers, secrets, options);
        }
    }
    return detail::verify_authio(body, headers, secrets, options);
}

}  // namespace annal::webhook
