#include "runtime/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <boost/asio/ssl/context.hpp>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string_view>

namespace annal::http {
namespace {

namespace ssl = boost::asio::ssl;

constexpr int kSecurityLevel = 2;  // keys of 112 bits: RSA from 2048, no SHA-1 signatures

/// What OpenSSL's innermost complaint says; the queue is empty afterwards.
std::string complaint() {
    const unsigned long code = ERR_peek_last_error();
    const char* reason = ERR_reason_error_string(code);
    ERR_clear_error();
    return reason ? reason : "not in a form that can be read";
}

Error unusable(const char* what, const std::filesystem::path& file, const std::string& why) {
    return {Errc::invalid, std::string(what) + " " + file.string() + ": " + why};
}

Result<void> check_readable(const char* what, const std::filesystem::path& file) {
    errno = 0;
    std::error_code ignored;
    if (std::filesystem::is_directory(file, ignored))
        return unusable(what, file, "is a directory; name a PEM file");
    if (!std::ifstream(file)) {
        return unusable(what, file, std::string("can't be read: ") + std::strerror(errno));
    }
    return ok();
}

/// A server has nobody to ask: a key with a passphrase is refused instead.
int no_passphrase(char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return 0;
}

int select_http11(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered, unsigned int offered_size, void*) {
    static constexpr unsigned char kHttp11[] = "\x08http/1.1";
    unsigned char* chosen = nullptr;
    const int found = SSL_select_next_proto(
        &chosen, out_size, kHttp11, sizeof(kHttp11) - 1, offered, offered_size
    );
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

void harden(SSL_CTX* context, TlsVersion min_version) {
    SSL_CTX_set_min_proto_version(
        context, min_version == TlsVersion::v1_3 ? TLS1_3_VERSION : TLS1_2_VERSION
    );
    SSL_CTX_set_security_level(context, kSecurityLevel);
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    // Clients resume by tickets; a cache of sessions would be memory that strangers fill.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(context, select_http11, nullptr);
}

Result<void> use_files(SSL_CTX* context, const TlsOptions& options) {
    BOOST_OUTCOME_TRYV(check_readable("tls.certificate_file", options.certificate_file));
    BOOST_OUTCOME_TRYV(check_readable("tls.key_file", options.key_file));
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1) {
        return unusable(
            "tls.certificate_file",
            options.certificate_file,
            "holds no usable PEM certificate (" + complaint() + ")"
        );
    }
    bool has_passphrase = false;
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, &has_passphrase);
    const int used =
        SSL_CTX_use_PrivateKey_file(context, options.key_file.c_str(), SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(context, nullptr);
    if (has_passphrase) {
        ERR_clear_error();
        return unusable(
            "tls.key_file",
            options.key_file,
            "is protected by a passphrase; store it without one, readable by the server alone"
        );
    }
    // OpenSSL compares the key with the certificate while it takes it over.
    const bool mismatch = ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH ||
                          ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_TYPE_MISMATCH;
    if (used == 1 && SSL_CTX_check_private_key(context) == 1) return ok();
    const std::string why = complaint();
    if (used == 1 || mismatch) {
        return unusable(
            "tls.key_file",
            options.key_file,
            "does not belong to the certificate in " + options.certificate_file.string()
        );
    }
    return unusable(
        "tls.key_file", options.key_file, "holds no usable PEM private key (" + why + ")"
    );
}

std::int64_t expiry_of(SSL_CTX* context) {
    const X509* certificate = SSL_CTX_get0_certificate(context);
    std::tm when{};
    if (!certificate || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &when) != 1) return 0;
    return ::timegm(&when);
}

}  // namespace

TlsIdentity::TlsIdentity(TlsOptions options, Metric& expires)
    : options_(std::move(options)), expires_(expires) {}

Result<std::shared_ptr<TlsIdentity>> TlsIdentity::load(TlsOptions options, Metrics& metrics) {
    Metric& expires = metrics.define(
        MetricKind::gauge,
        "annal_tls_certificate_expires_seconds",
        "When the server's certificate ends, in seconds since 1970."
    );
    std::shared_ptr<TlsIdentity> identity(new TlsIdentity(std::move(options), expires));
    BOOST_OUTCOME_TRYV(identity->reload());
    return identity;
}

Result<void> TlsIdentity::reload() {
    auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
    harden(context->native_handle(), options_.min_version);
    BOOST_OUTCOME_TRYV(use_files(context->native_handle(), options_));
    const std::lock_guard lock(mutex_);
    context_ = std::move(context);
    expires_s_ = expiry_of(context_->native_handle());
    expires_.record(static_cast<double>(expires_s_));
    return ok();
}

std::shared_ptr<ssl::context> TlsIdentity::context() const {
    const std::lock_guard lock(mutex_);
    return context_;
}

std::int64_t TlsIdentity::expires_s() const {
    const std::lock_guard lock(mutex_);
    return expires_s_;
}

}  // namespace annal::http
