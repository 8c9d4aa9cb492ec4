#include "signatures.h"

#include <annal/sdk/digest.hpp>

#include <utility>

namespace sink_webhook {
namespace {

std::string decoded_key(const std::string& secret) {
    constexpr std::string_view kPrefix = "whsec_";
    if (!secret.starts_with(kPrefix)) {
        return secret;
    }
    // The libraries that verify take it without its padding, too.
    std::string text = secret.substr(kPrefix.size());
    text.append((4 - text.size() % 4) % 4, '=');
    auto bytes = annal::from_base64(text);
    return bytes && !bytes->empty() ? std::move(*bytes) : secret;
}

}  // namespace

Signatures::Signatures(std::string secret)
    : secret_(std::move(secret)), key_(decoded_key(secret_)) {}

std::string Signatures::authio(std::string_view body) const {
    return "v1=" + annal::to_hex(annal::view(annal::hmac_sha256(secret_, body)));
}

std::string Signatures::standard(
    std::string_view id, std::int64_t timestamp_s, std::string_view body
) const {
    std::string text(id);
    text += "." + std::to_string(timestamp_s) + ".";
    text += body;
    return "v1," + annal::to_base64(annal::view(annal::hmac_sha256(key_, text)));
}

}  // namespace sink_webhook
