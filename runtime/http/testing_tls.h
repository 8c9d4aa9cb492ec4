#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/socket.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "tests/support/http_client.h"

namespace annal::http::test {

template <auto Free>
struct Freed {
    template <class T>
    void operator()(T* pointer) const {
        Free(pointer);
    }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using File = std::unique_ptr<std::FILE, Freed<std::fclose>>;

inline Key make_key() {
    return Key(EVP_EC_gen("P-256"));
}

/// A certificate of its own for "localhost", good for a day.
inline Certificate make_certificate(EVP_PKEY* key, long serial) {
    Certificate certificate(X509_new());
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 86'400);
    X509_set_pubkey(certificate.get(), key);
    X509_NAME* name = X509_get_subject_name(certificate.get());
    const auto* host = reinterpret_cast<const unsigned char*>("localhost");
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, host, -1, -1, 0);
    X509_set_issuer_name(certificate.get(), name);
    X509_sign(certificate.get(), key, EVP_sha256());
    return certificate;
}

inline void write_certificate(const std::filesystem::path& file, X509* certificate) {
    const File out(std::fopen(file.c_str(), "w"));
    PEM_write_X509(out.get(), certificate);
}

inline void write_key(
    const std::filesystem::path& file, EVP_PKEY* key, const char* passphrase = nullptr
) {
    const File out(std::fopen(file.c_str(), "w"));
    const EVP_CIPHER* cipher = passphrase ? EVP_aes_256_cbc() : nullptr;
    std::string secret = passphrase ? passphrase : "";
    auto* bytes = reinterpret_cast<unsigned char*>(secret.data());
    const int size = static_cast<int>(secret.size());
    PEM_write_PrivateKey(out.get(), key, cipher, bytes, size, nullptr, nullptr);
}

/// A blocking client over TLS on one connection; it trusts anybody.
class TlsClient {
public:
    struct Options {
        int version = 0;   ///< TLS1_2_VERSION, …: this one alone; 0: any
        std::string alpn;  ///< as on the wire: "\x02h2"
        int security_level = 1;
    };
    explicit TlsClient(const std::string& address) : TlsClient(address, Options{}) {}
    TlsClient(const std::string& address, const Options& options)
        : connection_(address), context_(SSL_CTX_new(TLS_client_method())) {
        SSL_CTX_set_security_level(context_.get(), options.security_level);
        if (options.version != 0) {
            SSL_CTX_set_min_proto_version(context_.get(), options.version);
            SSL_CTX_set_max_proto_version(context_.get(), options.version);
        }
        ssl_.reset(SSL_new(context_.get()));
        if (!options.alpn.empty()) {
            const auto* names = reinterpret_cast<const unsigned char*>(options.alpn.data());
            SSL_set_alpn_protos(ssl_.get(), names, static_cast<unsigned>(options.alpn.size()));
        }
        SSL_set_fd(ssl_.get(), connection_.descriptor());
        connected_ = SSL_connect(ssl_.get()) == 1;
    }

    [[nodiscard]] bool connected() const { return connected_; }
    [[nodiscard]] std::string version() const { return SSL_get_version(ssl_.get()); }
    [[nodiscard]] std::string alpn() const {
        const unsigned char* name = nullptr;
        unsigned size = 0;
        SSL_get0_alpn_selected(ssl_.get(), &name, &size);
        return {reinterpret_cast<const char*>(name), size};
    }
    [[nodiscard]] long serial() const {
        const Certificate shown(SSL_get1_peer_certificate(ssl_.get()));
        return ASN1_INTEGER_get(X509_get0_serialNumber(shown.get()));
    }
    bool send(std::string_view bytes) {
        return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size())) > 0;
    }
    /// At least `size` bytes, fewer at the end.
    std::string receive(std::size_t size) {
        std::string text;
        std::string part(1U << 16, '\0');
        while (text.size() < size) {
            const int got = SSL_read(ssl_.get(), part.data(), static_cast<int>(part.size()));
            if (got <= 0) {
                said_goodbye_ = SSL_get_error(ssl_.get(), got) == SSL_ERROR_ZERO_RETURN;
                break;
            }
            text.append(part, 0, static_cast<std::size_t>(got));
        }
        return text;
    }
    std::string receive_all() { return receive(SIZE_MAX); }
    /// The end came in TLS's own words, so it was no cut.
    [[nodiscard]] bool said_goodbye() const { return said_goodbye_; }
    bool renegotiate() {
        return SSL_renegotiate(ssl_.get()) == 1 && SSL_do_handshake(ssl_.get()) == 1;
    }
    /// What the client says goodbye with; it still receives.
    void shutdown() { SSL_shutdown(ssl_.get()); }

private:
    annal::test::HttpClient connection_;
    std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>> context_;
    std::unique_ptr<SSL, Freed<SSL_free>> ssl_;
    bool connected_ = false, said_goodbye_ = false;
};

}  // namespace annal::http::test
