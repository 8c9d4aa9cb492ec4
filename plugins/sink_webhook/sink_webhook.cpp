/// A stream of events as HTTP POST requests to a URL, one for each batch.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: siem-webhook}
///     spec:
///       library: {name: sink_webhook}
///       config:
///         url: https://siem.example/in
///         secret: {secretRef: siem/webhook}
///       triggers:
///         - {name: all, events: {project: proj_1}}
///       permissions: {http: ["siem.example:443"]}
///
/// The body is one line of canonical JSON for each event (`format: ndjson`), or a JSON array of
/// them (`json`); of a stream with a format of its own, a document of that. Beside it:
///
///     Stream-Seq: 12-57          the first and the last seq of the body
///     Stream-Fence: 3            a receiver that has seen a higher one ignores this request
///     Idempotency-Key, webhook-id
///                                the same on every attempt: what to recognize a repetition by
///     webhook-timestamp          of the attempt, in seconds
///     webhook-signature, Authio-Signature
///                                with a secret only; signatures.h says what they sign
///
/// A retry has the same body, byte for byte, and the same keys; its timestamp and what that goes
/// into are new. 2xx is delivered, 408, 425, 429, 5xx and silence are retried (after Retry-After),
/// 400, 413, 415 and 422 reject the batch, anything else, a redirect and 410 included, pauses the
/// stream until somebody looks.
#include <annal/sdk.hpp>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "signatures.h"

namespace {

/// What a request carries anyhow, or what the host's client sets: not for `headers`.
constexpr std::array<std::string_view, 19> kReserved{
    "accept-encoding",
    "authio-signature",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "stream-fence",
    "stream-seq",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
};

bool is_reserved(std::string_view name) {
    std::string lower(name);
    std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
        return static_cast<char>(std::tolower(c));
    });
    return std::find(kReserved.begin(), kReserved.end(), lower) != kReserved.end();
}

bool is_url(std::string_view text) {
    return text.starts_with("https://") || text.starts_with("http://");
}

}  // namespace

class WebhookSink : public annal::Sink {
public:
    static constexpr auto kName = "generic_webhook";
    static constexpr bool kTakesFormats = true;
    static auto config() {
        return std::tuple{
            annal::required("url", &WebhookSink::url_)
                .range(8, 4096)
                .about("where to POST to, http:// or https://"),
            annal::optional_secret("secret", &WebhookSink::secret_)
                .range(1, 1024)
                .about("keys the signatures; whsec_ and base64, or any text that does not begin so"
                ),
            annal::optional("format", &WebhookSink::format_, "ndjson")
                .one_of({"ndjson", "json"})
                .about("ndjson: a line for each event; json: an array of them"),
            annal::optional("headers", &WebhookSink::headers_, {})
                .about("sent with every request, by name"),
        };
    }

    annal::Status open() {
        if (!is_url(url_)) {
            return {
                ANNAL_UNPROCESSABLE, "configuration: /url: must begin with https:// or http://"};
        }
        for (const auto& [name, value] : headers_) {
            if (is_reserved(name)) {
                return {
                    ANNAL_UNPROCESSABLE,
                    "configuration: /headers/" + name + ": is set by the sink itself"};
            }
        }
        if (!secret_.empty()) {
            signatures_ = sink_webhook::Signatures::of(secret_);
            if (!signatures_) {
                return {ANNAL_UNPROCESSABLE, "configuration: /secret: is not base64 behind whsec_"};
            }
        }
        annal::Status status = host().require(ANNAL_SERVICE_CODEC);
        return status.ok() ? host().require(ANNAL_SERVICE_HTTP_CLIENT) : status;
    }

    annal::Status encode(const annal::Batch& batch, annal::Encoder& out) {
        return format_ == "json" ? append_array(batch, out) : out.append_lines(batch);
    }

    annal::Task<annal::Outcome> send(const annal::Call& call, const annal::Delivery& delivery) {
        const std::string seqs =
            std::to_string(delivery.first_seq()) + "-" + std::to_string(delivery.last_seq());
        const std::string id = std::string(delivery.stream()) + ":" + seqs;
        const std::string fence = std::to_string(delivery.fence());
        const std::int64_t now_s = host().wall_us() / 1'000'000;
        const std::string timestamp = std::to_string(now_s);
        std::string authio;
        std::string standard;
        annal::ClientRequest request("POST", url_);
        request.body(delivery.payload())
            .timeout_ms(delivery.timeout_ms(host()))
            .header("Content-Type", content_type(delivery))
            .header("Stream-Seq", seqs)
            .header("Stream-Fence", fence)
            .header("Idempotency-Key", delivery.idempotency_key())
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp);
        if (signatures_) {
            authio = signatures_->authio(delivery.payload());
            standard = signatures_->standard(id, now_s, delivery.payload());
            request.header("Authio-Signature", authio).header("webhook-signature", standard);
        }
        for (const auto& [name, value] : headers_) {
            request.header(name, value);
        }
        const annal::ClientResponse answer = co_await call.fetch(request);
        co_return annal::judge(answer, host().wall_us());
    }

private:
    [[nodiscard]] std::string_view content_type(const annal::Delivery& delivery) const {
        if (!delivery.content_type().empty()) {
            return delivery.content_type();
        }
        return format_ == "json" ? "application/json" : "application/x-ndjson";
    }
    static annal::Status append_array(const annal::Batch& batch, annal::Encoder& out) {
        std::size_t left = batch.size();
        out.push('[');
        for (const annal_event& event : batch) {
            if (annal::Status status = out.append_json(event); !status.ok()) {
                return status;
            }
            out.push(--left > 0 ? ',' : ']');
            out.end_event();
        }
        return {};
    }

    std::string url_, secret_, format_;
    annal::StringMap headers_;
    std::optional<sink_webhook::Signatures> signatures_;
};

ANNAL_PLUGIN("annal.sink-webhook", "1.0.0", "Annal", "Apache-2.0", WebhookSink)
