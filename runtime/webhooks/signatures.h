#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace annal {

/// The secrets that a request is signed with.
struct SigningSecrets {
    std::string current;
    std::string before;  ///< of a rotation whose grace is not over; empty: none
};

/// What Authio-Signature covers; an endpoint chooses.
enum class SignatureScheme {
    body,         ///< "v1=" + hex HMAC of the body
    timestamped,  ///< "t=" + unix seconds + ",v1=" + hex HMAC of `t.body`
};

using SignatureHeaders = std::vector<std::pair<std::string, std::string>>;

/// A fresh secret: "whsec_" and 32 random bytes in base64.
[[nodiscard]] std::string make_signing_secret();

/// The headers that let a receiver verify `body`, in two families beside each other. Both are
/// HMAC-SHA256 but keyed differently, so one secret gives different results:
///
/// Authio-Signature    keyed with the secret as the text that it is, `whsec_` included. Exactly one
///                     v1=, of the current secret.
/// webhook-signature   keyed with the bytes that the base64 behind `whsec_` stands for, over
///                     `id.timestamp.body`; one for each secret, so that a rotation hurts nobody.
///                     With webhook-id and webhook-timestamp.
/// Source: seeds 001; github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md
///
/// @param id           of what is sent: the same for every attempt
/// @param timestamp_s  of the attempt
[[nodiscard]] SignatureHeaders signature_headers(
    const SigningSecrets& secrets,
    SignatureScheme scheme,
    std::string_view id,
    std::int64_t timestamp_s,
    std::string_view body
);

}  // namespace annal
