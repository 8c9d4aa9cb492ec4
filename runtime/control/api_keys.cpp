#include "runtime/control/api_keys.h"

#include <algorithm>
#include <boost/json.hpp>

#include "runtime/control/projects.h"
#include "runtime/core/json_row.h"
#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr const char* kSpace = "host.api_keys";
// Apart from the keys themselves, so that noting a use can never undo a revocation.
constexpr const char* kUsageSpace = "host.api_key_usage";
// Of keys whose secret was given, so that two nodes which are given one make one key.
constexpr const char* kSecretSpace = "host.api_key_secrets";
constexpr std::size_t kPrefixBytes = 12;
constexpr std::int64_t kUsageResolutionUs = 60 * kSecondUs;

json::array to_json(const std::vector<std::string>& list) {
    return json::array(list.begin(), list.end());
}

std::string to_row(const ApiKey& key) {
    json::object row{
        {"name", key.name},
        {"prefix", key.prefix},
        {"hash", key.hash},
        {"scopes", to_json(key.scopes)},
        {"created_at", key.created_at}};
    if (key.expires_at != kNoTime) row["expires_at"] = key.expires_at;
    if (key.revoked_at != kNoTime) row["revoked_at"] = key.revoked_at;
    return json::serialize(row);
}

Result<ApiKey> from_row(const KvRow& row) {
    const auto stored = parse_row(row.value);
    if (!stored) return Error{Errc::internal, "the row of API key " + row.key + " is damaged"};
    ApiKey key;
    key.id = row.key;
    key.project = row.project;
    key.name = text_in(*stored, "name");
    key.prefix = text_in(*stored, "prefix");
    key.hash = text_in(*stored, "hash");
    if (const json::value* scopes = stored->if_contains("scopes"); scopes && scopes->is_array())
        for (const json::value& scope : scopes->get_array())
            if (scope.is_string()) key.scopes.emplace_back(scope.get_string().c_str());
    key.created_at = integer_in(*stored, "created_at", kNoTime);
    key.expires_at = integer_in(*stored, "expires_at", kNoTime);
    key.revoked_at = integer_in(*stored, "revoked_at", kNoTime);
    return key;
}

std::string hash_of(std::string_view secret) {
    return to_hex(sha256(secret));
}

/// One API key's change as an event of its project.
std::shared_ptr<HostEvent> event_of(const char* action, const ApiKey& key, const Actor& actor) {
    json::object metadata{
        {"name", key.name}, {"prefix", key.prefix}, {"scopes", to_json(key.scopes)}};
    return std::make_shared<HostEvent>(HostEvent{
        action, actor.type, actor.id, "api_key", key.id, json::serialize(metadata)});
}

void change(AppendUnit& unit, const char* action, const ApiKey& key, const Actor& actor) {
    unit.project = key.project;
    auto event = event_of(action, key, actor);
    unit.events.push_back(event->draft());
    unit.memory = std::move(event);
    unit.kv.push_back({KvOp::Kind::put, kSpace, key.project, key.id, to_row(key)});
}

struct Credentials {
    std::string id;  ///< Basic only
    std::string secret;
};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
        return std::tolower(x) == std::tolower(y);
    });
}

Result<Credentials> parse_authorization(std::string_view header) {
    const Error malformed{
        Errc::unauthenticated,
        "Authorization must be `Bearer sk_…` or HTTP Basic with key id and secret"};
    const std::size_t space = header.find(' ');
    if (space == std::string_view::npos) return malformed;
    const std::string_view scheme = header.substr(0, space);
    std::string_view rest = header.substr(space + 1);
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
    if (equal_ignoring_case(scheme, "bearer")) return Credentials{"", std::string(rest)};
    if (!equal_ignoring_case(scheme, "basic")) return malformed;
    const auto decoded = from_base64(rest);
    const std::size_t colon = decoded ? decoded->find(':') : std::string::npos;
    if (colon == std::string::npos) return malformed;
    return Credentials{decoded->substr(0, colon), decoded->substr(colon + 1)};
}

/// Whether a header is there twice with different values: whichever one were taken, somebody else
/// may take the other.
bool is_ambiguous(const http::Request& request, std::string_view lower_case_name) {
    const auto first = request.header(lower_case_name);
    return first &&
           std::any_of(request.headers.begin(), request.headers.end(), [&](const auto& header) {
               return header.first == lower_case_name && header.second != *first;
           });
}

Result<Credentials> find_credentials(const http::Request& request) {
    for (const char* name : {"authorization", "x-api-key"}) {
        if (is_ambiguous(request, name))
            return Error{
                Errc::unauthenticated,
                std::string(name) + " is there twice with different keys; send one"};
    }
    const auto authorization = request.header("authorization");
    const auto api_key = request.header("x-api-key");
    if (!authorization && !api_key)
        return Error{
            Errc::unauthenticated,
            "no API key: send Authorization: Bearer sk_…, X-API-Key: sk_…, or HTTP Basic with key "
            "id and secret"};
    if (!authorization) return Credentials{"", std::string(*api_key)};
    BOOST_OUTCOME_TRY(Credentials credentials, parse_authorization(*authorization));
    if (api_key && *api_key != credentials.secret)
        return Error{
            Errc::unauthenticated, "Authorization and X-API-Key carry different keys; send one"};
    return credentials;
}

}  // namespace

const std::vector<std::string>& known_scopes() {
    static const std::vector<std::string> scopes{
        "audit:read",
        "audit:write",
        "audit:ingest",
        "audit:*",
        "streams:read",
        "streams:write",
        "streams:*",
        "webhooks:read",
        "webhooks:write",
        "webhooks:*",
        "risk:read",
        "risk:write",
        "risk:*",
        "keys:read",
        "keys:write",
        "keys:*",
        "admin",
        "platform"};
    return scopes;
}

Task<Result<void>> ApiKeys::load() {
    BOOST_OUTCOME_CO_TRY(const std::vector<KvRow> keys, co_await read_space(store_, kSpace));
    for (const KvRow& row : keys) {
        BOOST_OUTCOME_CO_TRY(ApiKey key, from_row(row));
        put(std::move(key));
    }
    co_return co_await load_usage("");
}

/// @param project  empty: of all
Task<Result<void>> ApiKeys::load_usage(std::string project) {
    BOOST_OUTCOME_CO_TRY(
        const std::vector<KvRow> usage, co_await read_space(store_, kUsageSpace, project)
    );
    const std::lock_guard lock(mutex_);
    for (const KvRow& row : usage) {
        auto found = by_id_.find({row.project, row.key});
        if (found == by_id_.end()) continue;
        TimeUs& at = found->second->key.last_used_at;
        at = std::max<TimeUs>(at, std::strtoll(row.value.c_str(), nullptr, 10));
    }
    co_return ok();
}

Task<Result<void>> ApiKeys::reload(std::string project) {
    BOOST_OUTCOME_CO_TRY(
        const std::vector<KvRow> rows, co_await read_space(store_, kSpace, project)
    );
    for (const KvRow& row : rows) {
        auto key = from_row(row);
        if (key) {
            merge(std::move(key.value()));
        } else {
            log::error("api_keys.row_damaged", {{"key", row.key}, {"project", row.project}});
        }
    }
    co_return ok();
}

/// What was read may be older than what this node has done since: keys are never deleted, and one
/// that was revoked stays so.
void ApiKeys::merge(ApiKey key) {
    const std::lock_guard lock(mutex_);
    auto& entry = by_id_[{key.project, key.id}];
    if (!entry) {
        entry = std::make_shared<Entry>(Entry{std::move(key), false});
        by_hash_[entry->key.hash] = entry;
    } else if (entry->key.revoked_at == kNoTime) {
        entry->key.revoked_at = key.revoked_at;
    }
}

void ApiKeys::put(ApiKey key) {
    const std::lock_guard lock(mutex_);
    auto entry = std::make_shared<Entry>(Entry{std::move(key), false});
    by_hash_[entry->key.hash] = entry;
    by_id_[{entry->key.project, entry->key.id}] = entry;
}

Task<Result<ApiKeys::Created>> ApiKeys::create(
    std::string project,
    std::string name,
    std::vector<std::string> scopes,
    TimeUs expires_at,
    Actor actor,
    std::string secret
) {
    if (name.empty() || name.size() > 128)
        co_return Error{Errc::unprocessable, "name must have 1 to 128 bytes", "/name"};
    if (scopes.empty())
        co_return Error{Errc::unprocessable, "scopes must name at least one scope", "/scopes"};
    for (std::size_t i = 0; i < scopes.size(); ++i) {
        const auto& known = known_scopes();
        if (std::find(known.begin(), known.end(), scopes[i]) != known.end()) continue;
        std::string list;
        for (const std::string& k : known) list += (list.empty() ? "" : ", ") + k;
        co_return Error{
            Errc::unprocessable,
            "unknown scope; known are: " + list,
            "/scopes/" + std::to_string(i)};
    }
    const bool given = !secret.empty();
    if (!given) secret = random_token("sk_live_", 25);
    ApiKey key;
    key.id = random_token("apikey_", 15);
    key.project = std::move(project);
    key.name = std::move(name);
    key.prefix = secret.substr(0, kPrefixBytes);
    key.hash = hash_of(secret);
    key.scopes = std::move(scopes);
    key.created_at = clock_.wall_us();
    key.expires_at = expires_at;
    AppendUnit unit;
    if (given)
        unit.kv.push_back({KvOp::Kind::require_absent, kSecretSpace, key.project, key.hash, ""});
    change(unit, "api_key.created", key, actor);
    if (given) unit.kv.push_back({KvOp::Kind::put, kSecretSpace, key.project, key.hash, key.id});
    board_.put_up(unit, key.project);
    AppendOutcome done = co_await appender_.append(std::move(unit));
    if (!done) co_return done.error();
    put(key);
    Created created{std::move(key), std::move(secret)};
    co_return created;
}

Task<Result<void>> ApiKeys::revoke(std::string project, std::string id, Actor actor) {
    BOOST_OUTCOME_CO_TRYV(co_await board_.catch_up());
    ApiKey key;
    {
        const std::lock_guard lock(mutex_);
        auto found = by_id_.find({project, id});
        if (found == by_id_.end())
            co_return Error{Errc::not_found, "project " + project + " has no API key " + id};
        if (found->second->key.revoked_at != kNoTime) co_return ok();
        key = found->second->key;
    }
    key.revoked_at = clock_.wall_us();
    AppendUnit unit;
    change(unit, "api_key.revoked", key, actor);
    board_.put_up(unit, key.project);
    AppendOutcome done = co_await appender_.append(std::move(unit));
    if (!done) co_return done.error();
    put(std::move(key));
    co_return ok();
}

Task<Result<std::vector<ApiKey>>> ApiKeys::list(std::string project) {
    if (board_.has_other_nodes()) {
        BOOST_OUTCOME_CO_TRYV(co_await board_.catch_up());
        BOOST_OUTCOME_CO_TRYV(co_await load_usage(project));
    }
    std::vector<ApiKey> keys;
    {
        const std::lock_guard lock(mutex_);
        for (auto it = by_id_.lower_bound({project, ""});
             it != by_id_.end() && it->first.first == project;
             ++it)
            keys.push_back(it->second->key);
    }
    std::sort(keys.begin(), keys.end(), [](const ApiKey& a, const ApiKey& b) {
        return std::pair(b.created_at, b.id) < std::pair(a.created_at, a.id);
    });
    co_return keys;
}

bool ApiKeys::knows_secret(std::string_view secret) const {
    const std::lock_guard lock(mutex_);
    return by_hash_.contains(hash_of(secret));
}

bool ApiKeys::in_force(const http::Principal& who) const {
    if (who.key_id == "local") return true;
    const TimeUs now = clock_.wall_us();
    const std::lock_guard lock(mutex_);
    const auto found = by_id_.find({who.project, who.key_id});
    if (found == by_id_.end()) return false;
    const ApiKey& key = found->second->key;
    return key.revoked_at == kNoTime && (key.expires_at == kNoTime || key.expires_at > now);
}

std::vector<ApiKeys::Usage> ApiKeys::take_usage() {
    std::vector<Usage> usage;
    const std::lock_guard lock(mutex_);
    for (auto& [id, entry] : by_id_) {
        if (!std::exchange(entry->usage_changed, false)) continue;
        AppendUnit unit;
        unit.project = entry->key.project;
        std::string used = std::to_string(entry->key.last_used_at);
        unit.kv.push_back(
            {KvOp::Kind::put, kUsageSpace, entry->key.project, entry->key.id, std::move(used)}
        );
        usage.push_back({entry, std::move(unit)});
    }
    return usage;
}

Task<void> ApiKeys::flush_usage() {
    // A use that another node saw later must not be overwritten.
    if (board_.has_other_nodes()) (void)co_await load_usage("");  // at worst it is a minute behind
    std::vector<Usage> usage = take_usage();
    std::int64_t left = 0;
    std::string why;
    for (Usage& use : usage) {
        AppendOutcome done = co_await appender_.append(std::move(use.unit));
        if (done) continue;
        ++left;
        why = done.error().detail;
        const std::lock_guard lock(mutex_);
        use.entry->usage_changed = true;  // the next flush tries again
    }
    if (left > 0) log::warn("api_keys.usage_not_saved", {{"keys", left}, {"error", why}});
}

/// Whether another node may have made this key, or shut it off.
bool ApiKeys::has_to_look(std::string_view secret) const {
    return board_.has_other_nodes() && (board_.is_stale() || !knows_secret(secret));
}

Result<http::Principal> ApiKeys::check(std::string_view secret, std::string_view id) {
    const std::string hash = hash_of(secret);
    const TimeUs now = clock_.wall_us();
    const std::lock_guard lock(mutex_);
    // Found by hash, so the time of the lookup says nothing about the secret.
    auto found = by_hash_.find(hash);
    if (found == by_hash_.end() || (!id.empty() && found->second->key.id != id))
        return Error{Errc::unauthenticated, "the API key is not known here"};
    ApiKey& key = found->second->key;
    if (key.revoked_at != kNoTime)
        return Error{Errc::unauthenticated, "the API key has been revoked"};
    if (key.expires_at != kNoTime && key.expires_at <= now)
        return Error{
            Errc::unauthenticated, "the API key expired at " + format_time(key.expires_at)};
    if (key.last_used_at == kNoTime || now - key.last_used_at >= kUsageResolutionUs) {
        key.last_used_at = now;
        found->second->usage_changed = true;
    }
    return http::Principal{key.id, key.project, key.scopes};
}

Task<Result<void>> ApiKeys::check_project(std::string project) {
    BOOST_OUTCOME_CO_TRY(const bool there, co_await Projects::is_there(store_, project));
    if (there) co_return ok();
    co_return Error{
        Errc::not_found,
        "there is no project " + project + "; `annal projects list` shows those there are"};
}

Task<Result<http::Principal>> ApiKeys::authenticate(const http::Request& request) {
    BOOST_OUTCOME_CO_TRY(const Credentials credentials, find_credentials(request));
    if (has_to_look(credentials.secret)) {
        BOOST_OUTCOME_CO_TRYV(co_await board_.catch_up());
    }
    co_return check(credentials.secret, credentials.id);
}

}  // namespace annal::control
