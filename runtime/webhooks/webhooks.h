#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/bus/noticeboard.h"
#include "runtime/event/host_event.h"
#include "runtime/webhooks/delivery_log.h"
#include "runtime/webhooks/endpoint_state.h"
#include "runtime/webhooks/webhook_worker.h"

namespace annal {

/// The webhook endpoints of all projects, and the workers of this node that deliver to them.
///
/// Each change is one commit of the endpoint's row and the events that record it. A node hears of
/// another's within Noticeboard::kFresh, and sends nothing while it may not have heard.
///
/// Threads: any. Lifetime: `stop` has returned before what it was given ends.
/// Limits: kEndpointsMax of a project that are not revoked.
class Webhooks final : public WebhookKeeper {
public:
    struct Environment {
        HostEnvironment& host;
        const SecretBox& secrets;
        Noticeboard& board;
        WebhookOptions options = {};
    };
    static constexpr std::size_t kEndpointsMax = 1'000;
    static constexpr std::int64_t kGraceMaxS = 7LL * 24 * 3'600;

    explicit Webhooks(Environment environment);
    ~Webhooks();

    /// Reads all rows, before anything runs.
    [[nodiscard]] Task<Result<void>> load();
    [[nodiscard]] Task<Result<void>> reload(std::string project) override;
    /// Sets the workers to work; `host.http_client` is there.
    void start();
    [[nodiscard]] Task<void> stop();

    struct Change {
        std::optional<std::string> url, description;
        std::optional<std::vector<ActionPattern>> patterns;
        std::optional<SignatureScheme> scheme;
        std::optional<bool> enabled;
    };
    struct Issued {
        WebhookEndpoint endpoint;
        std::string secret;  ///< shown this once
    };
    /// @param wanted  url and patterns are set
    /// @error Errc::unprocessable  A URL that may not be sent to; /url.
    /// @error Errc::busy           kEndpointsMax.
    [[nodiscard]] Task<Result<Issued>> create(std::string project, Change wanted, Actor actor);
    /// Errors of all that follow: Errc::not_found, Errc::conflict (revoked, or changed by somebody
    /// else at the same time), and those of the store.
    [[nodiscard]] Task<Result<WebhookEndpoint>> change(
        std::string project, std::string id, Change change, Actor actor
    );
    /// No attempt begins after it has returned, on any node, and none is under way.
    [[nodiscard]] Task<Result<void>> revoke(std::string project, std::string id, Actor actor);
    /// Every attempt that begins after it has returned is signed with the new secret.
    [[nodiscard]] Task<Result<Issued>> rotate_secret(
        std::string project, std::string id, std::int64_t grace_s, Actor actor
    );
    /// Sends the endpoint an event of its own, whatever it subscribes to.
    [[nodiscard]] Task<Result<DeliveryId>> test(std::string project, std::string id, Actor actor);
    /// Sends again what the endpoint lacks of the events since then. @error Errc::conflict  One is
    /// under way.
    [[nodiscard]] Task<Result<Recovery>> recover(
        std::string project, std::string id, TimeUs since, Actor actor
    );

    /// Without those that are revoked, oldest first.
    [[nodiscard]] Task<Result<std::vector<WebhookEndpoint>>> list(std::string project);
    [[nodiscard]] Task<Result<WebhookEndpoint>> get(std::string project, std::string id);
    struct Progress {
        EndpointState state;
        std::optional<Recovery> recovery;
    };
    [[nodiscard]] Task<Result<Progress>> progress(std::string project, std::string id);

    /// The longest that an attempt of the project's endpoints takes; 0: it has none.
    [[nodiscard]] std::chrono::milliseconds longest_attempt(const std::string& project) const;

    [[nodiscard]] const DeliveryLog& deliveries() const { return log_; }
    /// Of all endpoints, the revoked ones too: what is recorded of them stays readable.
    [[nodiscard]] Task<Result<std::vector<std::string>>> ids(std::string project);
    /// Sends it again, now, and records that. @error Errc::not_found, Errc::conflict
    [[nodiscard]] Task<Result<WebhookDelivery>> replay(
        std::string project, DeliveryId id, Actor actor
    );

    // What the workers ask.
    [[nodiscard]] std::vector<WebhookEndpoint> endpoints_of(const std::string& project
    ) const override;
    [[nodiscard]] bool may_send(const WebhookEndpoint& endpoint) const override;
    [[nodiscard]] bool is_out_of_date() const override { return environment_.board.is_stale(); }
    [[nodiscard]] Result<SigningSecrets> secrets_of(const WebhookEndpoint& endpoint) const override;
    [[nodiscard]] Task<Result<void>> disable(std::string project, std::string id, std::string why)
        override;

private:
    struct Known {
        WebhookEndpoint endpoint;
        std::string row;
    };
    struct Project {
        std::map<std::string, Known> endpoints;
        std::unique_ptr<WebhookWorker> worker;
    };

    [[nodiscard]] Result<void> check_url(const std::string& url) const;
    [[nodiscard]] Task<Result<Known>> find(std::string project, std::string id);
    [[nodiscard]] Task<Result<Known>> find_live(std::string project, std::string id);
    [[nodiscard]] Task<Result<std::vector<Receipt>>> commit(
        WebhookEndpoint& endpoint, std::string before, AppendUnit unit
    );
    [[nodiscard]] Task<Result<WebhookEndpoint>> set_enabled(
        Known known, bool on, std::string why, Actor actor
    );
    bool take_all(const std::string& project, std::vector<Known> found, std::uint64_t as_of);
    void take_in(const std::string& project, std::vector<Known> found);
    // With the mutex held.
    void place_in(const std::string& project, std::vector<Known> found);
    void look_after(const std::string& name, Project& project);
    void look(const std::string& project);
    [[nodiscard]] WebhookWorker* worker_of(const std::string& project);

    Environment environment_;
    DeliveryLog log_;
    std::atomic<std::size_t> attempts_{0};
    mutable std::mutex mutex_;
    bool started_ = false, stopping_ = false;
    std::uint64_t edits_ = 0;
    std::map<std::string, Project> projects_;
};

}  // namespace annal
