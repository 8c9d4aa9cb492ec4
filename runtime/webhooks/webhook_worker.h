#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "runtime/plugin/instance.h"
#include "runtime/webhooks/webhook_endpoint.h"

namespace annal {

class HttpClient;

/// What keeps the endpoints that a worker delivers to. Thread-safe.
class WebhookKeeper {
public:
    /// All of a project, the revoked ones too.
    [[nodiscard]] virtual std::vector<WebhookEndpoint> endpoints_of(const std::string& project
    ) const = 0;
    /// Reads them anew.
    [[nodiscard]] virtual Task<Result<void>> reload(std::string project) = 0;
    /// Whether this revision of an endpoint is the one that holds, and may be sent to.
    [[nodiscard]] virtual bool may_send(const WebhookEndpoint& endpoint) const = 0;
    /// This node may not have heard what others have changed.
    [[nodiscard]] virtual bool is_out_of_date() const = 0;
    /// @error  As `SecretBox::open`.
    [[nodiscard]] virtual Result<SigningSecrets> secrets_of(const WebhookEndpoint& endpoint
    ) const = 0;
    /// It has failed for too long, or says that it is gone.
    [[nodiscard]] virtual Task<Result<void>> disable(
        std::string project, std::string id, std::string why
    ) = 0;

protected:
    ~WebhookKeeper() = default;
};

struct WebhookOptions {
    std::chrono::milliseconds timeout{15'000};  ///< of an attempt, with everything
    std::chrono::hours disable_after{5 * 24};   ///< of nothing but failures
    std::chrono::hours keep{30 * 24};           ///< what is recorded of deliveries that have ended
    int recovered_per_second = 100;             ///< of one endpoint
    std::size_t attempts_max = 1'024;           ///< under way at once, of the node
    std::chrono::milliseconds drain{5'000};     ///< what is under way has this long at the end
    /// Above 0: every delay of the schedule is this. For tests.
    std::chrono::milliseconds retry_delay{0};
};

/// The webhooks of one project at work: shares its events out among the endpoints, and delivers.
///
/// One node at a time does this for a project, under the lease "webhooks"; every commit is fenced.
/// Fan-out puts a row into the queue for each endpoint that an event concerns, and moves its cursor
/// in the same commit, so each event is shared out exactly once. Each endpoint then has a lane of
/// its own: what it takes long for costs nobody else. What came of the attempts is committed in
/// groups (256, or 5 ms). A crash between an endpoint's answer and that commit means that it gets
/// the same bytes once more, under the same webhook-id.
///
/// Threads: any. Lifetime: `stop` has returned before what it was given ends.
/// Limits: `WebhookOptions`; per lane 1'024 places of the queue in memory, whatever its length.
class WebhookWorker {
public:
    struct Environment {
        HostEnvironment& host;
        HttpClient& client;
        WebhookKeeper& keeper;
        const WebhookOptions& options;
        std::atomic<std::size_t>& attempts;  ///< under way on this node
    };
    WebhookWorker(std::string project, Environment environment);
    ~WebhookWorker();

    void start();
    /// The keeper has other endpoints now, or somebody has put something into the queue.
    void look();
    /// Gives up what is under way to an endpoint, and returns when nothing is.
    [[nodiscard]] Task<void> cut_off(std::string endpoint);
    void begin_stop();
    /// Returns when nothing runs any more and what came of the attempts is committed.
    [[nodiscard]] Task<void> stop();

    /// The lease, and the cursor of the fan-out.
    static constexpr const char* kLease = "webhooks";
    static constexpr const char* kCreatedAction = "webhook.endpoint.created";

private:
    struct State;
    std::shared_ptr<State> state_;
};

}  // namespace annal
