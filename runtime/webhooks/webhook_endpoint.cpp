#include "runtime/webhooks/webhook_endpoint.h"

#include <array>
#include <boost/json.hpp>

#include "runtime/core/crypto.h"
#include "runtime/core/json_row.h"
#include "runtime/delivery/pattern_list.h"

namespace annal {
namespace json = boost::json;
namespace {

using Status = WebhookEndpoint::Status;
constexpr std::array kStatuses{Status::active, Status::disabled, Status::revoked};
constexpr std::size_t kFingerprintChars = 12;

std::optional<Status> status_of(const std::string& name) {
    for (const Status status : kStatuses)
        if (name == word(status)) return status;
    return std::nullopt;
}

}  // namespace

const char* word(WebhookEndpoint::Status status) {
    switch (status) {
        case Status::disabled:
            return "disabled";
        case Status::revoked:
            return "revoked";
        case Status::active:
            break;
    }
    return "active";
}

const char* word(SignatureScheme scheme) {
    return scheme == SignatureScheme::timestamped ? "timestamped" : "authio";
}

std::optional<SignatureScheme> scheme_of(std::string_view name) {
    for (const SignatureScheme scheme : {SignatureScheme::body, SignatureScheme::timestamped})
        if (name == word(scheme)) return scheme;
    return std::nullopt;
}

std::string WebhookEndpoint::to_row() const {
    json::object row;
    row["url"] = url;
    row["description"] = description;
    row["events"] = to_json(patterns);
    row["scheme"] = word(scheme);
    row["status"] = word(status);
    if (!reason.empty()) row["reason"] = reason;
    if (!sealed.empty()) row["sealed"] = sealed;
    if (!sealed_before.empty()) {
        row["sealed_before"] = sealed_before;
        row["before_until"] = before_until;
    }
    row["fingerprint"] = fingerprint;
    row["revision"] = revision;
    row["created_at"] = created_at;
    row["updated_at"] = updated_at;
    return json::serialize(row);
}

Result<WebhookEndpoint> WebhookEndpoint::from_row(const KvRow& given) {
    const Error damaged{Errc::internal, "the row of webhook endpoint " + given.key + " is damaged"};
    const auto row = parse_row(given.value);
    if (!row) return damaged;
    WebhookEndpoint endpoint;
    endpoint.id = given.key;
    endpoint.project = given.project;
    endpoint.url = text_in(*row, "url");
    endpoint.description = text_in(*row, "description");
    auto patterns = patterns_in(*row, "events");
    const auto status = status_of(text_in(*row, "status"));
    const auto scheme = scheme_of(text_in(*row, "scheme"));
    if (!patterns || !status || !scheme) return damaged;
    endpoint.patterns = std::move(patterns.value());
    endpoint.status = *status;
    endpoint.scheme = *scheme;
    endpoint.reason = text_in(*row, "reason");
    endpoint.sealed = text_in(*row, "sealed");
    endpoint.sealed_before = text_in(*row, "sealed_before");
    endpoint.before_until = integer_in(*row, "before_until", kNoTime);
    endpoint.fingerprint = text_in(*row, "fingerprint");
    endpoint.revision = integer_in(*row, "revision", 1);
    endpoint.created_at = integer_in(*row, "created_at", kNoTime);
    endpoint.updated_at = integer_in(*row, "updated_at", kNoTime);
    return endpoint;
}

void WebhookEndpoint::take_secret(
    const SecretBox& box, const std::string& secret, TimeUs now, std::int64_t grace_us
) {
    sealed_before.clear();
    before_until = kNoTime;
    if (grace_us > 0 && !sealed.empty()) {
        sealed_before = sealed;
        before_until = now + grace_us;
    }
    sealed = box.seal(project, id, secret);
    fingerprint = to_hex(sha256(secret)).substr(0, kFingerprintChars);
}

void WebhookEndpoint::forget_secrets() {
    sealed.clear();
    sealed_before.clear();
    before_until = kNoTime;
}

Result<SigningSecrets> WebhookEndpoint::secrets(const SecretBox& box, TimeUs now) const {
    SigningSecrets secrets;
    BOOST_OUTCOME_TRY(secrets.current, box.open(project, id, sealed));
    if (!sealed_before.empty() && now < before_until) {
        BOOST_OUTCOME_TRY(secrets.before, box.open(project, id, sealed_before));
    }
    return secrets;
}

}  // namespace annal
