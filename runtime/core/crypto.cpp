#include "runtime/core/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <vector>

#include "runtime/core/fatal.h"

namespace annal {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::string_view kBase64Url =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::string_view kCrockford = "0123456789abcdefghjkmnpqrstvwxyz";

/// Fetched once: a lookup by name costs more than hashing a short event.
const EVP_MD* sha256_algorithm() {
    static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    if (algorithm == nullptr) {
        fatal("crypto.sha256_missing", "OpenSSL offers no SHA-256; check its installation");
    }
    return algorithm;
}

void require(bool done, const char* what) {
    if (!done) {
        fatal("crypto.failed", what);
    }
}

int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    const char lower = static_cast<char>(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/// Encodes `bytes` as digits of `bits` bits each, most significant first, the last one padded with
/// zeros.
std::string encode_digits(std::string_view bytes, std::string_view alphabet, int bits) {
    std::string out;
    out.reserve(bytes.size() * 8 / static_cast<std::size_t>(bits) + 1);
    std::uint32_t held = 0;
    int count = 0;
    for (const char c : bytes) {
        held = (held << 8) | static_cast<std::uint8_t>(c);
        for (count += 8; count >= bits; count -= bits) {
            out += alphabet[(held >> (count - bits)) & ((1U << bits) - 1)];
        }
    }
    if (count > 0) {
        out += alphabet[(held << (bits - count)) & ((1U << bits) - 1)];
    }
    return out;
}

/// Only the one encoding of a value is taken: padding bits must be zero, so an altered text never
/// decodes the same.
std::optional<std::string> decode_base64(std::string_view text, std::string_view alphabet) {
    if (text.size() % 4 == 1) {
        return std::nullopt;
    }
    std::string out;
    out.reserve(text.size() * 3 / 4);
    std::uint32_t held = 0;
    int count = 0;
    for (const char c : text) {
        const std::size_t digit = alphabet.find(c);
        if (digit == std::string_view::npos) {
            return std::nullopt;
        }
        held = (held << 6) | static_cast<std::uint32_t>(digit);
        count += 6;
        if (count >= 8) {
            count -= 8;
            out += static_cast<char>(held >> count);
        }
    }
    if ((held & ((1U << count) - 1)) != 0) {
        return std::nullopt;
    }
    return out;
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
    require(context_ != nullptr, "no memory for a SHA-256 context");
    require(
        EVP_DigestInit_ex2(static_cast<EVP_MD_CTX*>(context_), sha256_algorithm(), nullptr) == 1,
        "SHA-256 does not start"
    );
}

Sha256::~Sha256() {
    EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context_));
}

Sha256& Sha256::update(std::string_view bytes) {
    require(
        EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_), bytes.data(), bytes.size()) == 1,
        "SHA-256 does not go on"
    );
    return *this;
}

Sha256& Sha256::update(std::span<const std::uint8_t> bytes) {
    return update(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Digest Sha256::finish() {
    auto* context = static_cast<EVP_MD_CTX*>(context_);
    Digest out;
    require(EVP_DigestFinal_ex(context, out.data(), nullptr) == 1, "SHA-256 does not end");
    require(
        EVP_DigestInit_ex2(context, sha256_algorithm(), nullptr) == 1, "SHA-256 does not restart"
    );
    return out;
}

Digest sha256(std::string_view bytes) {
    return Sha256().update(bytes).finish();
}

Digest hmac_sha256(std::string_view key, std::string_view bytes) {
    Digest out;
    unsigned int size = 0;
    const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
    require(
        HMAC(
            sha256_algorithm(),
            key.data(),
            static_cast<int>(key.size()),
            data,
            bytes.size(),
            out.data(),
            &size
        ) != nullptr &&
            size == out.size(),
        "HMAC-SHA-256 fails"
    );
    return out;
}

void random_bytes(std::span<std::uint8_t> out) {
    require(
        RAND_bytes(out.data(), static_cast<int>(out.size())) == 1,
        "the system's random generator gives nothing"
    );
}

std::uint64_t random_u64() {
    std::array<std::uint8_t, 8> bytes;
    random_bytes(bytes);
    std::uint64_t value = 0;
    for (const std::uint8_t byte : bytes) {
        value = (value << 8) | byte;
    }
    return value;
}

bool equal_constant_time(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string to_hex(std::span<const std::uint8_t> bytes) {
    std::string out;
    out.reserve(bytes.size() * 2);
    for (const std::uint8_t byte : bytes) {
        out += kHexDigits[byte >> 4];
        out += kHexDigits[byte & 15];
    }
    return out;
}

std::optional<std::string> from_hex(std::string_view text) {
    if (text.size() % 2 != 0) {
        return std::nullopt;
    }
    std::string out;
    out.reserve(text.size() / 2);
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = hex_value(text[i]);
        const int low = hex_value(text[i + 1]);
        if (high < 0 || low < 0) {
            return std::nullopt;
        }
        out += static_cast<char>(high * 16 + low);
    }
    return out;
}

std::string to_base64url(std::string_view bytes) {
    return encode_digits(bytes, kBase64Url, 6);
}

std::optional<std::string> from_base64url(std::string_view text) {
    return decode_base64(text, kBase64Url);
}

std::string to_base64(std::string_view bytes) {
    std::string text = encode_digits(bytes, kBase64, 6);
    text.append((4 - text.size() % 4) % 4, '=');
    return text;
}

std::optional<std::string> from_base64(std::string_view text) {
    if (text.size() % 4 == 0 && text.ends_with('=')) {
        text.remove_suffix(text.ends_with("==") ? 2 : 1);
    }
    return decode_base64(text, kBase64);
}

std::string random_token(std::string_view prefix, std::size_t bytes) {
    std::vector<std::uint8_t> random(bytes);
    random_bytes(random);
    const std::string_view view(reinterpret_cast<const char*>(random.data()), random.size());
    return std::string(prefix) + encode_digits(view, kCrockford, 5);
}

}  // namespace annal
