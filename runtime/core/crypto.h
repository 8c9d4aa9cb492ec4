#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace annal {

using Digest = std::array<std::uint8_t, 32>;

/// SHA-256 over parts fed one after the other.
class Sha256 {
public:
    Sha256();
    ~Sha256();
    Sha256(const Sha256&) = delete;
    Sha256& operator=(const Sha256&) = delete;
    Sha256& update(std::string_view bytes);
    Sha256& update(std::span<const std::uint8_t> bytes);
    /// Ends the computation and makes the object ready for the next one.
    [[nodiscard]] Digest finish();

private:
    void* context_;
};

[[nodiscard]] Digest sha256(std::string_view bytes);
[[nodiscard]] Digest hmac_sha256(std::string_view key, std::string_view bytes);
/// Fills from the operating system's generator (buffered by OpenSSL); ends the process when there
/// is none.
void random_bytes(std::span<std::uint8_t> out);
[[nodiscard]] std::uint64_t random_u64();
[[nodiscard]] bool equal_constant_time(std::string_view a, std::string_view b);

[[nodiscard]] std::string to_hex(std::span<const std::uint8_t> bytes);
[[nodiscard]] std::optional<std::string> from_hex(std::string_view text);
/// base64url without padding.
[[nodiscard]] std::string to_base64url(std::string_view bytes);
[[nodiscard]] std::optional<std::string> from_base64url(std::string_view text);
/// Standard base64, padded.
[[nodiscard]] std::string to_base64(std::string_view bytes);
/// Standard base64, padded or not.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);
/// `prefix` and `bytes` random bytes in Crockford base 32, lower case: "apikey_01k…".
[[nodiscard]] std::string random_token(std::string_view prefix, std::size_t bytes);

}  // namespace annal
