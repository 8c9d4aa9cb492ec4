#pragma once

#include <filesystem>
#include <memory>
#include <mutex>

#include "runtime/core/metrics.h"
#include "runtime/core/result.h"

namespace boost::asio::ssl {
class context;
}

namespace annal::http {

enum class TlsVersion { v1_2, v1_3 };

struct TlsOptions {
    std::filesystem::path certificate_file;  ///< PEM: the server's certificate, then its chain
    std::filesystem::path key_file;          ///< PEM, without a passphrase
    TlsVersion min_version = TlsVersion::v1_2;

    [[nodiscard]] bool given() const { return !certificate_file.empty(); }
};

/// The certificate that a server shows and the key that proves it, exchangeable while it runs.
///
/// TLS 1.2 and later with OpenSSL's ciphers of security level 2; no compression, no renegotiation;
/// ALPN offers http/1.1. Its expiry is the gauge `annal_tls_certificate_expires_seconds`.
/// Thread-safe. Lifetime: connections keep the certificate that they began with.
class TlsIdentity {
public:
    /// @error Errc::invalid  A file is missing, unreadable or no PEM, or the two do not belong
    /// together; the detail names the file.
    [[nodiscard]] static Result<std::shared_ptr<TlsIdentity>> load(
        TlsOptions options, Metrics& metrics
    );
    /// Reads both files again; connections from now on get what they hold.
    /// @error as of `load`; then everything stays as it was.
    [[nodiscard]] Result<void> reload();

    [[nodiscard]] std::shared_ptr<boost::asio::ssl::context> context() const;
    [[nodiscard]] const TlsOptions& options() const { return options_; }
    /// When the certificate ends, in seconds since 1970.
    [[nodiscard]] std::int64_t expires_s() const;

private:
    TlsIdentity(TlsOptions options, Metric& expires);

    const TlsOptions options_;
    Metric& expires_;
    mutable std::mutex mutex_;
    std::shared_ptr<boost::asio::ssl::context> context_;
    std::int64_t expires_s_ = 0;
};

}  // namespace annal::http
