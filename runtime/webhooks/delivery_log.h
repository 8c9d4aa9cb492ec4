#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/store/event_store.h"
#include "runtime/webhooks/webhook_delivery.h"

namespace annal {

/// What has become of deliveries, as every node can read it. Thread-safe.
class DeliveryLog {
public:
    explicit DeliveryLog(EventStore& store) : store_(store) {}

    struct Query {
        std::vector<std::string> endpoints;  ///< of these
        std::optional<WebhookDelivery::Status> status;
        std::optional<Seq> seq;            ///< of this event
        std::optional<DeliveryId> behind;  ///< the last of the page before
        std::uint32_t limit = 50;
    };
    /// The newest event's first, and of one event by endpoint. Each endpoint's rows are found by
    /// key, whatever there is of others.
    [[nodiscard]] Task<Result<std::vector<WebhookDelivery>>> list(std::string project, Query query)
        const;
    /// @error Errc::not_found
    [[nodiscard]] Task<Result<WebhookDelivery>> get(std::string project, DeliveryId id) const;
    /// Oldest first; the one that succeeded is the last.
    [[nodiscard]] Task<Result<std::vector<WebhookAttempt>>> attempts(
        std::string project, WebhookDelivery delivery
    ) const;
    /// Puts a delivery into the queue for `now`, wherever it stands, if it still stands there.
    /// False: it waits for its first attempt anyway.
    [[nodiscard]] static bool requeue(
        AppendUnit& unit, const WebhookDelivery& delivery, const std::string& stored, TimeUs now
    );
    /// The row that `get` read. Empty: it has none but its place in the queue.
    [[nodiscard]] Task<Result<std::string>> stored(std::string project, WebhookDelivery delivery)
        const;

private:
    struct Source;
    Task<Result<void>> read(
        std::string project, const Query& query, Source source, std::vector<WebhookDelivery>& into
    ) const;

    EventStore& store_;
};

}  // namespace annal
