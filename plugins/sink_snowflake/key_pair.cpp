#include "key_pair.h"

#include <annal/sdk/digest.hpp>
#include <annal/sdk/json.hpp>

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cctype>
#include <stdexcept>

namespace sink_snowflake {
namespace {

std::string upper(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) {
        return static_cast<char>(std::toupper(c));
    });
    return out;
}

std::string to_base64url(std::string_view bytes) {
    std::string out = annal::to_base64(bytes);
    std::replace(out.begin(), out.end(), '+', '-');
    std::replace(out.begin(), out.end(), '/', '_');
    out.erase(std::find(out.begin(), out.end(), '='), out.end());
    return out;
}

std::string sign_rs256(EVP_PKEY* key, std::string_view text) {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(
        EVP_MD_CTX_new(), &EVP_MD_CTX_free
    );
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    std::size_t size = 0;
    std::string out;
    const bool sized =
        context && EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
        EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) == 1;
    out.resize(size);
    auto* to = reinterpret_cast<unsigned char*>(out.data());
    if (!sized || EVP_DigestSign(context.get(), to, &size, bytes, text.size()) != 1) {
        throw std::runtime_error("OpenSSL can't sign with the private key");
    }
    out.resize(size);
    return out;
}

}  // namespace

annal::Status KeyPair::read(std::string_view pem) {
    constexpr int kBitsMin = 2048;
    const std::unique_ptr<BIO, decltype(&BIO_free)> in(
        BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free
    );
    // Without a password at hand OpenSSL would ask the terminal for one.
    char no_password[] = "";
    key_.reset(in ? PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, no_password) : nullptr);
    if (!key_ || EVP_PKEY_base_id(key_.get()) != EVP_PKEY_RSA ||
        EVP_PKEY_bits(key_.get()) < kBitsMin) {
        return {
            ANNAL_UNPROCESSABLE,
            "configuration: /private_key: must be an unencrypted RSA key of 2048 bits or more in "
            "PEM form (openssl genrsa 2048 | openssl pkcs8 -topk8 -nocrypt)"};
    }
    return {};
}

std::string KeyPair::fingerprint() const {
    unsigned char* der = nullptr;
    const int size = i2d_PUBKEY(key_.get(), &der);
    if (size <= 0) {
        throw std::runtime_error("OpenSSL can't write the public key");
    }
    const annal::Sha256 digest =
        annal::sha256({reinterpret_cast<const char*>(der), static_cast<std::size_t>(size)});
    OPENSSL_free(der);
    return "SHA256:" + annal::to_base64(annal::view(digest));
}

std::string KeyPair::token(std::string_view account, std::string_view user, std::int64_t now_s)
    const {
    constexpr std::int64_t kLifeS = 59 * 60;
    const std::string subject = account_in_tokens(account) + "." + upper(user);
    std::string payload;
    annal::StringOut out(payload);
    annal::JsonWriter json(out);
    json.begin_object()
        .member("iss", subject + "." + fingerprint())
        .member("sub", subject)
        .member("iat", now_s)
        .member("exp", now_s + kLifeS)
        .end_object();
    const std::string text =
        to_base64url(R"({"alg":"RS256","typ":"JWT"})") + "." + to_base64url(payload);
    return text + "." + to_base64url(sign_rs256(key_.get(), text));
}

std::string account_in_tokens(std::string_view account) {
    return upper(account.substr(0, std::min(account.find('.'), account.size())));
}

}  // namespace sink_snowflake
