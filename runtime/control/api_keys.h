#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/bus/appender.h"
#include "runtime/bus/noticeboard.h"
#include "runtime/control/body.h"
#include "runtime/http/server.h"

namespace annal::control {

/// One API key, without its secret.
struct ApiKey {
    std::string id;  ///< "apikey_…"
    std::string project;
    std::string name;
    std::string prefix;  ///< of the secret, for display: "sk_live_ab12"
    std::string hash;    ///< SHA-256 of the secret, hex
    std::vector<std::string> scopes;
    TimeUs created_at = kNoTime;
    TimeUs expires_at = kNoTime;
    TimeUs revoked_at = kNoTime;
    TimeUs last_used_at = kNoTime;  ///< kept to the minute
};

/// The API keys of all projects, and the authentication by them. Secrets (192 bits and more, so an
/// unsalted hash is enough) are shown once and stored hashed. Creation and revocation are events of
/// the project's log, in one commit with the key's row.
///
/// Other nodes: a key that one of them has just made works here at once, and one that it has shut
/// off does not work here after Noticeboard::kFresh; when that can't be known nobody gets in.
///
/// Rows: space "host.api_keys". Threads: any.
class ApiKeys final : public http::Authenticator {
public:
    ApiKeys(EventStore& store, Appender& appender, const Clock& clock, Noticeboard& board)
        : store_(store), appender_(appender), clock_(clock), board_(board) {}
    [[nodiscard]] Task<Result<void>> load();
    /// Reads the keys of a project as another node has left them.
    [[nodiscard]] Task<Result<void>> reload(std::string project);

    struct Created {
        ApiKey key;
        std::string secret;
    };
    /// @param secret  empty: a new one is made
    /// @error Errc::unprocessable  An unknown scope, no scope, or a name out of bounds.
    /// @error Errc::conflict       There is a key with `secret` already.
    [[nodiscard]] Task<Result<Created>> create(
        std::string project,
        std::string name,
        std::vector<std::string> scopes,
        TimeUs expires_at,
        Actor actor,
        std::string secret = {}
    );
    /// Idempotent: revoking a revoked key changes nothing. @error Errc::not_found
    [[nodiscard]] Task<Result<void>> revoke(std::string project, std::string id, Actor actor);
    /// Newest first, with what other nodes have committed; their last uses are known to the minute.
    [[nodiscard]] Task<Result<std::vector<ApiKey>>> list(std::string project);
    [[nodiscard]] Task<Result<void>> check_project(std::string project) override;
    [[nodiscard]] bool knows_secret(std::string_view secret) const;
    /// Whether the key by which `who` came in is neither revoked nor expired; always true for the
    /// node's owner.
    [[nodiscard]] bool in_force(const http::Principal& who) const;
    /// Writes the last_used times that have changed; called now and then.
    [[nodiscard]] Task<void> flush_usage();

    [[nodiscard]] Task<Result<http::Principal>> authenticate(const http::Request& request) override;

private:
    struct Entry {
        ApiKey key;
        bool usage_changed = false;
    };
    struct Usage {
        std::shared_ptr<Entry> entry;
        AppendUnit unit;
    };
    [[nodiscard]] bool has_to_look(std::string_view secret) const;
    [[nodiscard]] Result<http::Principal> check(std::string_view secret, std::string_view id);
    void put(ApiKey key);
    void merge(ApiKey key);
    [[nodiscard]] Task<Result<void>> load_usage(std::string project);
    [[nodiscard]] std::vector<Usage> take_usage();

    EventStore& store_;
    Appender& appender_;
    const Clock& clock_;
    Noticeboard& board_;
    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<Entry>> by_hash_;
    std::map<std::pair<std::string, std::string>, std::shared_ptr<Entry>>
        by_id_;  ///< (project, id)
};

/// Every scope that a key can have.
[[nodiscard]] const std::vector<std::string>& known_scopes();

class Projects;
/// POST and GET /v1/api-keys, DELETE /v1/api-keys/{id}.
[[nodiscard]] Result<void> add_key_routes(http::Router& router, ApiKeys& keys, Projects& projects);

}  // namespace annal::control
