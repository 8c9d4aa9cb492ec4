#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/store/event_store.h"

namespace annal {

/// Which event goes to which endpoint; also the name of what is delivered, the same for every
/// attempt: "del_" with the endpoint's own part of its id, "-" and the seq.
struct DeliveryId {
    std::string endpoint;  ///< "web_…"
    Seq seq = kNoSeq;

    [[nodiscard]] std::string text() const;
    [[nodiscard]] static std::optional<DeliveryId> parse(std::string_view text);
};

/// One attempt, as it is recorded.
struct WebhookAttempt {
    std::int64_t number = 1;  ///< from 1, over all replays
    TimeUs at = kNoTime;
    int status = 0;  ///< of HTTP; 0: there was no answer
    std::int64_t latency_us = 0;
    std::string error;   ///< why it failed, in words; empty: it did not
    std::string answer;  ///< on failure the beginning of the answer's body, as UTF-8

    [[nodiscard]] bool succeeded() const { return error.empty(); }
    [[nodiscard]] std::string to_text() const;
    [[nodiscard]] static std::optional<WebhookAttempt> from_text(std::string_view text);
};

/// What is known of one delivery.
///
/// Rows of the key space, in the project; none holds anything of the event's content.
///   host.webhook_queue      endpoint/due/seq      what is to be sent, in this order; due 0: as
///   soon
///                                                 as can be, never tried. The value: the event's
///                                                 id
///   host.webhook_retrying   endpoint/seq          tried, and to be tried again
///   host.webhook_delivered  endpoint/seq          done
///   host.webhook_failed     endpoint/seq          given up
///   host.webhook_attempts   endpoint/seq/number   the attempts that failed
/// So a delivery is in the queue while it is pending, and in one of the three once it was tried.
struct WebhookDelivery {
    enum class Status { pending, delivered, failed };

    DeliveryId id;
    Status status = Status::pending;
    std::string event_id;
    std::int64_t attempts = 0;  ///< over all replays
    std::int64_t tries = 0;     ///< since the schedule began, or began anew
    std::int64_t replays = 0;
    TimeUs next_at = kNoTime;  ///< of a pending one that was tried
    TimeUs ended_at = kNoTime;
    std::string reason;  ///< why it failed without an attempt
    std::optional<WebhookAttempt> last;

    [[nodiscard]] std::string to_text() const;
    /// @error Errc::internal  The row is damaged.
    [[nodiscard]] static Result<WebhookDelivery> from_row(const KvRow& row, Status status);

    static constexpr const char* kQueue = "host.webhook_queue";
    static constexpr const char* kRetrying = "host.webhook_retrying";
    static constexpr const char* kDelivered = "host.webhook_delivered";
    static constexpr const char* kFailed = "host.webhook_failed";
    static constexpr const char* kAttempts = "host.webhook_attempts";
};

[[nodiscard]] const char* word(WebhookDelivery::Status status);
[[nodiscard]] std::optional<WebhookDelivery::Status> delivery_status_of(std::string_view word);

/// A place in the queue.
struct QueuePlace {
    TimeUs due = 0;  ///< 0: never tried
    Seq seq = kNoSeq;
    [[nodiscard]] std::string key(const std::string& endpoint) const;
    [[nodiscard]] static std::optional<QueuePlace> of_key(std::string_view key);
};
/// Keys of `endpoint` begin so, in every space.
[[nodiscard]] std::string rows_of(const std::string& endpoint);
/// In the queue: those that were never tried begin so, and all others follow behind.
[[nodiscard]] std::string fresh_rows_of(const std::string& endpoint);
[[nodiscard]] std::string behind_fresh_rows_of(const std::string& endpoint);
/// The key of a delivery's row: the endpoint, and the seq so that keys sort by it.
[[nodiscard]] std::string delivery_key(const DeliveryId& id);
[[nodiscard]] std::string attempt_key(const DeliveryId& id, std::int64_t number);
/// Adds what makes `delivery` wait for its `next_at`, wherever it was taken out of.
void put_in_queue(
    std::vector<KvOp>& ops, const std::string& project, const WebhookDelivery& delivery
);

}  // namespace annal
