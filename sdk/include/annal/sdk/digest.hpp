#pragma once

// Not part of annal/sdk.hpp: a plugin that includes it links OpenSSL::Crypto.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <cstddef>
#include <new>
#include <optional>
#include <string>
#include <string_view>

namespace annal::inline sdk_v1 {

using Sha256 = std::array<unsigned char, 32>;

/// The bytes of a digest as text. Borrowed.
[[nodiscard]] inline std::string_view view(const Sha256& digest) {
    return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

[[nodiscard]] inline Sha256 sha256(std::string_view text) {
    Sha256 out{};
    if (EVP_Digest(text.data(), text.size(), out.data(), nullptr, EVP_sha256(), nullptr) != 1) {
        throw std::bad_alloc();  // it has no other way to fail
    }
    return out;
}

[[nodiscard]] inline Sha256 hmac_sha256(std::string_view key, std::string_view text) {
    Sha256 out{};
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    // A NULL key would mean "the key of the last call".
    const char* key_at = key.data() != nullptr ? key.data() : "";
    if (HMAC(
            EVP_sha256(),
            key_at,
            static_cast<int>(key.size()),
            bytes,
            text.size(),
            out.data(),
            nullptr
        ) == nullptr) {
        throw std::bad_alloc();
    }
    return out;
}

/// Lower case.
[[nodiscard]] inline std::string to_hex(std::string_view bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        out += kDigits[byte >> 4U];
        out += kDigits[byte & 15U];
    }
    return out;
}

/// The standard alphabet, padded.
[[nodiscard]] inline std::string to_base64(std::string_view bytes) {
    std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');
    const int length = EVP_EncodeBlock(
        reinterpret_cast<unsigned char*>(out.data()),
        reinterpret_cast<const unsigned char*>(bytes.data()),
        static_cast<int>(bytes.size())
    );
    out.resize(static_cast<std::size_t>(length));
    return out;
}

/// The bytes of `text`, which is of the standard alphabet and padded; nothing when it is not.
[[nodiscard]] inline std::optional<std::string> from_base64(std::string_view text) {
    constexpr std::string_view kAlphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (text.size() % 4 != 0) {
        return std::nullopt;
    }
    const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
    std::string out;
    unsigned bits = 0;
    unsigned held = 0;
    for (const char c : text.substr(0, text.size() - padding)) {
        const std::size_t six = kAlphabet.find(c);
        if (six == std::string_view::npos) {
            return std::nullopt;
        }
        bits = (bits << 6U) | static_cast<unsigned>(six);
        held += 6;
        if (held >= 8) {
            held -= 8;
            out += static_cast<char>((bits >> held) & 0xFFU);
        }
    }
    return out;
}

}  // namespace annal::inline sdk_v1
