#include "runtime/webhooks/signatures.h"

#include <array>

#include "runtime/core/crypto.h"

namespace annal {
namespace {

constexpr std::string_view kPrefix = "whsec_";
constexpr std::size_t kSecretBytes = 32;

std::string_view view(const Digest& digest) {
    return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

std::string key_of(const std::string& secret) {
    const std::string_view text(secret);
    const auto bytes = text.starts_with(kPrefix) ? from_base64(text.substr(kPrefix.size()))
                                                 : std::optional<std::string>();
    return bytes ? *bytes : secret;
}

std::string standard(const std::string& secret, std::string_view signed_text) {
    return "v1," + to_base64(view(hmac_sha256(key_of(secret), signed_text)));
}

std::string authio(
    const std::string& secret,
    SignatureScheme scheme,
    const std::string& time,
    std::string_view body
) {
    if (scheme == SignatureScheme::body) return "v1=" + to_hex(hmac_sha256(secret, body));
    std::string text = time + ".";
    text += body;
    return "t=" + time + ",v1=" + to_hex(hmac_sha256(secret, text));
}

}  // namespace

std::string make_signing_secret() {
    std::array<std::uint8_t, kSecretBytes> bytes{};
    random_bytes(bytes);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return std::string(kPrefix) + to_base64(text);
}

SignatureHeaders signature_headers(
    const SigningSecrets& secrets,
    SignatureScheme scheme,
    std::string_view id,
    std::int64_t timestamp_s,
    std::string_view body
) {
    const std::string time = std::to_string(timestamp_s);
    std::string signed_text;
    signed_text.reserve(id.size() + time.size() + body.size() + 2);
    signed_text.append(id).append(".").append(time).append(".").append(body);
    std::string list = standard(secrets.current, signed_text);
    if (!secrets.before.empty()) list += " " + standard(secrets.before, signed_text);
    return {
        {"Authio-Signature", authio(secrets.current, scheme, time, body)},
        {"webhook-id", std::string(id)},
        {"webhook-timestamp", time},
        {"webhook-signature", std::move(list)}};
}

}  // namespace annal
