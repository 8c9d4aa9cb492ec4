#pragma once

#include <annal/sdk/status.hpp>

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sink_snowflake {

/// A user's RSA key, with which Snowflake is asked for tokens.
///
/// Source: docs.snowflake.com, "Authenticating to the server", key pair authentication
class KeyPair {
public:
    /// @param pem  an unencrypted private key, PKCS#8 or PKCS#1
    /// @error UNPROCESSABLE  Not such a key, or of less than 2048 bits.
    annal::Status read(std::string_view pem);

    /// "SHA256:" and the base64 digest of the public key's DER form; as DESC USER shows it.
    [[nodiscard]] std::string fingerprint() const;
    /// A JWT (RS256) that proves to be `user` of `account` for 59 minutes from `now_s` on:
    /// Snowflake takes none of more than an hour.
    [[nodiscard]] std::string token(
        std::string_view account, std::string_view user, std::int64_t now_s
    ) const;

private:
    struct Free {
        void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    };
    std::unique_ptr<EVP_PKEY, Free> key_;
};

/// The account's name within tokens: upper case, without what follows its first dot.
[[nodiscard]] std::string account_in_tokens(std::string_view account);

}  // namespace sink_snowflake
