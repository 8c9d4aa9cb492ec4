#include "signatures.h"

#include <annal/sdk/digest.hpp>

#include <utility>

namespace sink_webhook {

std::optional<Signatures> Signatures::of(std::string secret) {
    constexpr std::string_view kPrefix = "whsec_";
    if (!secret.starts_with(kPrefix)) {
        std::string key = secret;
        return Signatures(std::move(secret), std::move(key));
    }
    std::string text = secret.substr(kPrefix.size());
    if (!text.ends_with('=')) {
        text.append((4 - text.size() % 4) % 4, '=');
    }
    std::optional<std::string> key = annal::from_base64(text);
    if (!key || key->empty()) {
        return std::nullopt;
    }
    return Signatures(std::move(secret), std::move(*key));
}

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
