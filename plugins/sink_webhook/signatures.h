#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace sink_webhook {

/// Signs requests with one shared secret, in two ways that are sent side by side.
///
/// They key the same HMAC-SHA256 differently, so one secret gives two different results:
/// `authio` takes the secret as the text that it is, `whsec_` included; `standard` takes the bytes
/// that the base64 behind `whsec_` stands for. A secret of another form keys both as plain text.
class Signatures {
public:
    /// Nothing when `secret` begins with `whsec_` and no base64 follows, padded or not: exactly
    /// what sdk/webhooks refuses, too.
    [[nodiscard]] static std::optional<Signatures> of(std::string secret);

    /// "v1=" and the hexadecimal HMAC of the body alone: the header Authio-Signature. It says
    /// nothing of the time, so who accepts it alone accepts a captured request for ever.
    [[nodiscard]] std::string authio(std::string_view body) const;
    /// "v1," and the base64 HMAC of `id.timestamp.body`: the header webhook-signature.
    /// Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md
    [[nodiscard]] std::string standard(
        std::string_view id, std::int64_t timestamp_s, std::string_view body
    ) const;

private:
    Signatures(std::string secret, std::string key)
        : secret_(std::move(secret)), key_(std::move(key)) {}

    std::string secret_;
    std::string key_;  // what `standard` is keyed with
};

}  // namespace sink_webhook
