#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/secret_box.h"
#include "runtime/event/action.h"
#include "runtime/store/event_store.h"
#include "runtime/webhooks/signatures.h"

namespace annal {

/// Where a project wants its events sent, as it is stored.
///
/// Rows: space "host.webhooks", the project, the id as the key. Signing secrets are sealed; nothing
/// else ever holds them.
struct WebhookEndpoint {
    /// disabled: nothing is sent and nothing is put aside for it; `recover` makes up for that.
    /// revoked: for good.
    enum class Status { active, disabled, revoked };

    std::string id;  ///< "web_…"
    std::string project, url, description;
    std::vector<ActionPattern> patterns;
    SignatureScheme scheme = SignatureScheme::body;
    Status status = Status::active;
    std::string reason;         ///< why it is disabled, in words
    std::string sealed;         ///< the signing secret; empty once revoked
    std::string sealed_before;  ///< the one before, until `before_until`
    TimeUs before_until = kNoTime;
    std::string fingerprint;    ///< of the secret, to tell one from another
    std::int64_t revision = 1;  ///< rises with every change
    TimeUs created_at = kNoTime, updated_at = kNoTime;

    [[nodiscard]] std::string to_row() const;
    /// @error Errc::internal  The row is damaged.
    [[nodiscard]] static Result<WebhookEndpoint> from_row(const KvRow& row);

    /// From now on `secret` signs; for `grace` the one before signs as well, where both can.
    void take_secret(
        const SecretBox& box, const std::string& secret, TimeUs now, std::int64_t grace_us
    );
    void forget_secrets();
    /// What signs at `now`. @error  As `SecretBox::open`.
    [[nodiscard]] Result<SigningSecrets> secrets(const SecretBox& box, TimeUs now) const;

    static constexpr const char* kSpace = "host.webhooks";
};

[[nodiscard]] const char* word(WebhookEndpoint::Status status);
[[nodiscard]] const char* word(SignatureScheme scheme);
/// "authio" or "timestamped".
[[nodiscard]] std::optional<SignatureScheme> scheme_of(std::string_view word);

}  // namespace annal
