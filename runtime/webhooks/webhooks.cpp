#include "runtime/webhooks/webhooks.h"

#include <algorithm>
#include <boost/json.hpp>

#include "runtime/core/crypto.h"
#include "runtime/core/log.h"
#include "runtime/core/task_impl.h"
#include "runtime/delivery/change_events.h"
#include "runtime/delivery/pattern_list.h"
#include "runtime/plugin/destination.h"
#include "runtime/store/read_space.h"

namespace annal {
namespace json = boost::json;
namespace {

using Status = WebhookEndpoint::Status;
constexpr const char* kTarget = "webhook_endpoint";
constexpr const char* kTestAction = "webhook.endpoint.tested";
/// A row for each project that has had an endpoint.
constexpr const char *kBegun = "host.webhook_begun", *kFanOut = "fan_out";

Error unknown(const std::string& id) {
    return {Errc::not_found, "there is no webhook endpoint " + id};
}

json::object about(const WebhookEndpoint& endpoint) {
    json::object metadata;
    metadata["url"] = endpoint.url;
    metadata["events"] = to_json(endpoint.patterns);
    return metadata;
}

/// `unit`, and the row from what it was, empty where there was none, to what it is to be.
AppendUnit with_row(
    AppendUnit unit,
    const WebhookEndpoint& endpoint,
    const std::string& before,
    const std::string& row
) {
    const auto guard = before.empty() ? KvOp::Kind::require_absent : KvOp::Kind::require_equals;
    const char* space = WebhookEndpoint::kSpace;
    unit.kv.insert(unit.kv.begin(), {guard, space, endpoint.project, endpoint.id, before});
    unit.kv.push_back({KvOp::Kind::put, space, endpoint.project, endpoint.id, row});
    return unit;
}

/// Whether `now` is `was` with its secrets sealed anew; then `endpoint`, which was to replace it,
/// has them so, too, unless it has others.
bool take_resealed(WebhookEndpoint& endpoint, const std::string& was, const std::string& now) {
    const auto old = WebhookEndpoint::from_row({endpoint.project, endpoint.id, was});
    const auto found = WebhookEndpoint::from_row({endpoint.project, endpoint.id, now});
    if (!old || !found || was == now) return false;
    const WebhookEndpoint &before = old.value(), &after = found.value();
    WebhookEndpoint same = after;
    same.sealed = before.sealed;
    same.sealed_before = before.sealed_before;
    if (same.to_row() != before.to_row()) return false;
    if (endpoint.sealed == before.sealed) endpoint.sealed = after.sealed;
    if (endpoint.sealed_before == before.sealed_before)
        endpoint.sealed_before = after.sealed_before;
    if (endpoint.sealed_before == before.sealed) endpoint.sealed_before = after.sealed;
    return true;
}

}  // namespace

Webhooks::Webhooks(Environment environment)
    : environment_(std::move(environment)), log_(*environment_.host.store) {}

Webhooks::~Webhooks() = default;

// --- rows

Task<Result<void>> Webhooks::load() {
    BOOST_OUTCOME_CO_TRY(
        const auto rows, co_await read_space(*environment_.host.store, WebhookEndpoint::kSpace)
    );
    for (const KvRow& row : rows) {
        BOOST_OUTCOME_CO_TRY(WebhookEndpoint endpoint, WebhookEndpoint::from_row(row));
        std::vector<Known> one;
        one.push_back({std::move(endpoint), row.value});
        take_in(row.project, std::move(one));
    }
    co_return ok();
}

Task<Result<void>> Webhooks::reload(std::string project) {
    for (;;) {
        std::uint64_t before = 0;
        {
            const std::lock_guard lock(mutex_);
            before = edits_;
        }
        BOOST_OUTCOME_CO_TRY(
            const auto rows,
            co_await read_space(*environment_.host.store, WebhookEndpoint::kSpace, project)
        );
        std::vector<Known> found;
        for (const KvRow& row : rows) {
            BOOST_OUTCOME_CO_TRY(WebhookEndpoint endpoint, WebhookEndpoint::from_row(row));
            found.push_back({std::move(endpoint), row.value});
        }
        if (take_all(project, std::move(found), before)) co_return ok();
    }
}

/// All of the project. False: there was an edit since the one that is named, so what was found may
/// be older than that.
bool Webhooks::take_all(const std::string& project, std::vector<Known> found, std::uint64_t as_of) {
    {
        const std::lock_guard lock(mutex_);
        if (edits_ != as_of) return false;
        const auto place = projects_.find(project);
        if (place != projects_.end()) place->second.endpoints.clear();
        place_in(project, std::move(found));
    }
    look(project);
    return true;
}

void Webhooks::take_in(const std::string& project, std::vector<Known> found) {
    {
        const std::lock_guard lock(mutex_);
        place_in(project, std::move(found));
    }
    look(project);
}

void Webhooks::place_in(const std::string& project, std::vector<Known> found) {
    if (found.empty() && !projects_.contains(project)) return;
    Project& place = projects_[project];
    for (Known& known : found) {
        std::string id = known.endpoint.id;
        place.endpoints.insert_or_assign(std::move(id), std::move(known));
    }
    look_after(project, place);
}

void Webhooks::look_after(const std::string& name, Project& project) {
    if (!started_ || stopping_ || project.worker || project.endpoints.empty()) return;
    project.worker = std::make_unique<WebhookWorker>(
        name,
        WebhookWorker::Environment{
            environment_.host,
            *environment_.host.http_client,
            *this,
            environment_.options,
            attempts_}
    );
    project.worker->start();
}

WebhookWorker* Webhooks::worker_of(const std::string& project) {
    const std::lock_guard lock(mutex_);
    const auto found = projects_.find(project);
    return found == projects_.end() ? nullptr : found->second.worker.get();
}

void Webhooks::look(const std::string& project) {
    if (WebhookWorker* worker = worker_of(project)) worker->look();
}

void Webhooks::start() {
    const std::lock_guard lock(mutex_);
    started_ = true;
    for (auto& [name, project] : projects_) look_after(name, project);
}

Task<void> Webhooks::stop() {
    std::vector<WebhookWorker*> workers;
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        for (auto& [name, project] : projects_)
            if (project.worker) workers.push_back(project.worker.get());
    }
    for (WebhookWorker* worker : workers) worker->begin_stop();
    for (WebhookWorker* worker : workers) co_await worker->stop();
}

std::chrono::milliseconds Webhooks::longest_attempt(const std::string& project) const {
    const std::lock_guard lock(mutex_);
    const auto found = projects_.find(project);
    const bool none = found == projects_.end() || found->second.endpoints.empty();
    return none ? std::chrono::milliseconds(0) : environment_.options.timeout;
}

// --- what the workers ask

std::vector<WebhookEndpoint> Webhooks::endpoints_of(const std::string& project) const {
    std::vector<WebhookEndpoint> endpoints;
    const std::lock_guard lock(mutex_);
    const auto found = projects_.find(project);
    if (found == projects_.end()) return endpoints;
    for (const auto& [id, known] : found->second.endpoints) endpoints.push_back(known.endpoint);
    return endpoints;
}

bool Webhooks::may_send(const WebhookEndpoint& endpoint) const {
    const std::lock_guard lock(mutex_);
    const auto project = projects_.find(endpoint.project);
    if (project == projects_.end()) return false;
    const auto found = project->second.endpoints.find(endpoint.id);
    return found != project->second.endpoints.end() &&
           found->second.endpoint.revision == endpoint.revision &&
           found->second.endpoint.status == Status::active;
}

Result<SigningSecrets> Webhooks::secrets_of(const WebhookEndpoint& endpoint) const {
    return endpoint.secrets(environment_.secrets, environment_.host.clock->wall_us());
}

Task<Result<void>> Webhooks::disable(std::string project, std::string id, std::string why) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find_live(std::move(project), std::move(id)));
    const Actor engine{"system", ""};
    const auto done = co_await set_enabled(std::move(known), false, std::move(why), engine);
    if (!done) co_return done.error();
    co_return ok();
}

// --- changes

Result<void> Webhooks::check_url(const std::string& url) const {
    BOOST_OUTCOME_TRY(const AddressPolicy policy, outbound_policy(environment_.host));
    auto checked = check_destination(url, policy);
    if (checked) return ok();
    Error error = checked.error();
    error.pointer = "/url";
    return error;
}

Task<Result<Webhooks::Known>> Webhooks::find(std::string project, std::string id) {
    BOOST_OUTCOME_CO_TRYV(co_await environment_.board.catch_up());
    const std::lock_guard lock(mutex_);
    const auto place = projects_.find(project);
    if (place == projects_.end()) co_return unknown(id);
    const auto found = place->second.endpoints.find(id);
    if (found == place->second.endpoints.end()) co_return unknown(id);
    Known known = found->second;
    co_return known;
}

Task<Result<Webhooks::Known>> Webhooks::find_live(std::string project, std::string id) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(std::move(project), id));
    if (known.endpoint.status == Status::revoked)
        co_return Error{Errc::conflict, "webhook endpoint " + id + " is revoked"};
    co_return known;
}

/// Writes the row with what `unit` holds besides, if it is still as it was.
Task<Result<std::vector<Receipt>>> Webhooks::commit(
    WebhookEndpoint& endpoint, std::string before, AppendUnit unit
) {
    endpoint.updated_at = environment_.host.clock->wall_us();
    if (endpoint.created_at == kNoTime) endpoint.created_at = endpoint.updated_at;
    std::string row = endpoint.to_row();
    unit.project = endpoint.project;
    environment_.board.put_up(unit, endpoint.project);
    auto done = co_await environment_.host.appender->append(with_row(unit, endpoint, before, row));
    if (!done && done.error().code == Errc::conflict && !before.empty()) {
        BOOST_OUTCOME_CO_TRY(
            const auto now,
            co_await environment_.host.store->kv_get(
                WebhookEndpoint::kSpace, endpoint.project, endpoint.id
            )
        );
        if (now && take_resealed(endpoint, before, *now)) {
            row = endpoint.to_row();
            done = co_await environment_.host.appender->append(
                with_row(std::move(unit), endpoint, *now, row)
            );
        }
    }
    if (!done) {
        Error error = done.error();
        if (error.code == Errc::conflict)
            error.detail = "webhook endpoint " + endpoint.id +
                           " was changed by somebody else at the same time; look at it and try "
                           "again";
        co_return error;
    }
    {
        const std::lock_guard lock(mutex_);
        ++edits_;
    }
    std::vector<Known> one;
    one.push_back({endpoint, std::move(row)});
    take_in(endpoint.project, std::move(one));
    co_return std::move(done.value());
}

Task<Result<Webhooks::Issued>> Webhooks::create(std::string project, Change wanted, Actor actor) {
    BOOST_OUTCOME_CO_TRYV(check_url(*wanted.url));
    BOOST_OUTCOME_CO_TRY(const auto others, co_await list(project));
    if (others.size() >= kEndpointsMax)
        co_return Error{
            Errc::busy,
            "there are " + std::to_string(kEndpointsMax) +
                " webhook endpoints in this project; revoke one first"};
    Issued issued;
    WebhookEndpoint& endpoint = issued.endpoint;
    endpoint.id = random_token("web_", 16);
    endpoint.project = project;
    endpoint.url = *wanted.url;
    endpoint.description = wanted.description.value_or("");
    endpoint.patterns = *wanted.patterns;
    endpoint.scheme = wanted.scheme.value_or(SignatureScheme::body);
    issued.secret = make_signing_secret();
    endpoint.take_secret(environment_.secrets, issued.secret, 0, 0);
    EventStore& store = *environment_.host.store;
    for (;;) {
        AppendUnit unit;
        ChangeEvents(actor, kTarget, endpoint.id)
            .add("webhook.endpoint.created", about(endpoint))
            .put_into(unit);
        BOOST_OUTCOME_CO_TRY(
            const Seq shared_out, co_await store.cursor(project, WebhookWorker::kLease)
        );
        bool first = false;
        if (shared_out == kNoSeq) {
            BOOST_OUTCOME_CO_TRY(const auto begun, co_await store.kv_get(kBegun, project, kFanOut));
            first = !begun;
        }
        if (first) {
            // What is in the log already is nobody's; what comes from here on is the fan-out's,
            // which nobody but its worker moves any more.
            BOOST_OUTCOME_CO_TRY(const LogState log, co_await store.log_state(project));
            unit.kv.push_back({KvOp::Kind::require_absent, kBegun, project, kFanOut, {}});
            unit.kv.push_back({KvOp::Kind::put, kBegun, project, kFanOut, "1"});
            if (log.head_seq != kNoSeq)
                unit.cursors.push_back({WebhookWorker::kLease, log.head_seq, 0});
        }
        auto done = co_await commit(endpoint, {}, std::move(unit));
        if (done) co_return issued;
        if (!first || done.error().code != Errc::conflict) co_return done.error();
    }
}

Task<Result<WebhookEndpoint>> Webhooks::set_enabled(
    Known known, bool on, std::string why, Actor actor
) {
    WebhookEndpoint endpoint = known.endpoint;
    const Status wanted = on ? Status::active : Status::disabled;
    if (endpoint.status == wanted) co_return endpoint;
    endpoint.status = wanted;
    endpoint.reason = on ? "" : why;
    ++endpoint.revision;
    json::object metadata = about(endpoint);
    if (!on) metadata["reason"] = why;
    AppendUnit unit;
    ChangeEvents(actor, kTarget, endpoint.id)
        .add(on ? "webhook.endpoint.enabled" : "webhook.endpoint.disabled", metadata)
        .put_into(unit);
    if (!on)
        log::warn(
            "webhook.disabled",
            {{"project", endpoint.project}, {"endpoint", endpoint.id}, {"reason", endpoint.reason}}
        );
    auto done = co_await commit(endpoint, std::move(known.row), std::move(unit));
    if (!done) co_return done.error();
    co_return endpoint;
}

Task<Result<WebhookEndpoint>> Webhooks::change(
    std::string project, std::string id, Change change, Actor actor
) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find_live(project, id));
    WebhookEndpoint endpoint = known.endpoint;
    json::array fields;
    if (change.url && *change.url != endpoint.url) {
        BOOST_OUTCOME_CO_TRYV(check_url(*change.url));
        endpoint.url = *change.url;
        fields.emplace_back("url");
    }
    if (change.patterns && *change.patterns != endpoint.patterns) {
        endpoint.patterns = *change.patterns;
        fields.emplace_back("events");
    }
    if (change.description && *change.description != endpoint.description) {
        endpoint.description = *change.description;
        fields.emplace_back("description");
    }
    if (change.scheme && *change.scheme != endpoint.scheme) {
        endpoint.scheme = *change.scheme;
        fields.emplace_back("signature_scheme");
    }
    if (!fields.empty()) {
        ++endpoint.revision;
        json::object metadata = about(endpoint);
        metadata["fields"] = std::move(fields);
        AppendUnit unit;
        ChangeEvents(actor, kTarget, id).add("webhook.endpoint.updated", metadata).put_into(unit);
        auto done = co_await commit(endpoint, std::move(known.row), std::move(unit));
        if (!done) co_return done.error();
    }
    if (!change.enabled) co_return endpoint;
    BOOST_OUTCOME_CO_TRY(known, co_await find_live(project, id));
    co_return co_await set_enabled(std::move(known), *change.enabled, "by request", actor);
}

Task<Result<void>> Webhooks::revoke(std::string project, std::string id, Actor actor) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(project, id));
    WebhookEndpoint endpoint = known.endpoint;
    if (endpoint.status != Status::revoked) {
        endpoint.status = Status::revoked;
        endpoint.reason.clear();
        endpoint.forget_secrets();
        ++endpoint.revision;
        AppendUnit unit;
        ChangeEvents(actor, kTarget, id).add("webhook.endpoint.revoked").put_into(unit);
        const auto done = co_await commit(endpoint, std::move(known.row), std::move(unit));
        if (!done) co_return done.error();
    }
    WebhookWorker* worker = worker_of(project);
    if (worker != nullptr) co_await worker->cut_off(id);
    co_await environment_.board.wait_for_others();
    co_return ok();
}

Task<Result<Webhooks::Issued>> Webhooks::rotate_secret(
    std::string project, std::string id, std::int64_t grace_s, Actor actor
) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find_live(project, id));
    Issued issued;
    issued.endpoint = known.endpoint;
    issued.secret = make_signing_secret();
    issued.endpoint.take_secret(
        environment_.secrets, issued.secret, environment_.host.clock->wall_us(), grace_s * kSecondUs
    );
    ++issued.endpoint.revision;
    AppendUnit unit;
    ChangeEvents(actor, kTarget, id).add("webhook.endpoint.secret_rotated").put_into(unit);
    const auto done = co_await commit(issued.endpoint, std::move(known.row), std::move(unit));
    if (!done) co_return done.error();
    co_await environment_.board.wait_for_others();
    co_return issued;
}

Task<Result<DeliveryId>> Webhooks::test(std::string project, std::string id, Actor actor) {
    BOOST_OUTCOME_CO_TRY(const Known known, co_await find_live(project, id));
    if (known.endpoint.status != Status::active)
        co_return Error{Errc::conflict, "webhook endpoint " + id + " is disabled"};
    AppendUnit unit;
    unit.project = project;
    ChangeEvents(actor, kTarget, id).add(kTestAction).put_into(unit);
    const auto done = co_await environment_.host.appender->append(std::move(unit));
    if (!done) co_return done.error();
    const Receipt event = done.value().front();
    WebhookDelivery delivery;
    delivery.id = {id, event.seq};
    if (matches_any(known.endpoint.patterns, kTestAction)) co_return delivery.id;
    // Not by the event's name, which any client may post: by who asked.
    delivery.event_id = event.id.text();
    delivery.next_at = environment_.host.clock->wall_us();
    AppendUnit queued;
    queued.project = project;
    put_in_queue(queued.kv, project, delivery);
    environment_.board.put_up(queued, project);
    const auto placed = co_await environment_.host.appender->append(std::move(queued));
    if (!placed) co_return placed.error();
    look(project);
    co_return delivery.id;
}

Task<Result<Recovery>> Webhooks::recover(
    std::string project, std::string id, TimeUs since, Actor actor
) {
    BOOST_OUTCOME_CO_TRY(const Known known, co_await find_live(project, id));
    if (known.endpoint.status != Status::active)
        co_return Error{Errc::conflict, "webhook endpoint " + id + " is disabled; enable it first"};
    EventStore& store = *environment_.host.store;
    BOOST_OUTCOME_CO_TRY(const LogState log, co_await store.log_state(project));
    Recovery recovery;
    recovery.since = since;
    recovery.until = log.head_seq;
    ScanRequest scan;
    scan.project = project;
    scan.filter.from = since;
    scan.newest_first = false;
    scan.tombstones = true;
    scan.limit = 1;
    recovery.next = log.head_seq + 1;
    for (;;) {
        ScanRequest step = scan;
        BOOST_OUTCOME_CO_TRY(const ScanPage page, co_await store.scan(std::move(step)));
        if (!page.batch.events.empty()) recovery.next = page.batch.events.front().seq;
        if (!page.batch.events.empty() || page.exhausted) break;
        scan.after = page.scanned;
    }
    AppendUnit unit;
    unit.project = project;
    json::object metadata;
    metadata["from_seq"] = recovery.next;
    metadata["to_seq"] = recovery.until;
    ChangeEvents(actor, kTarget, id).add("webhook.endpoint.recovering", metadata).put_into(unit);
    unit.kv.push_back({KvOp::Kind::require_absent, Recovery::kSpace, project, id, {}});
    unit.kv.push_back({KvOp::Kind::put, Recovery::kSpace, project, id, recovery.to_text()});
    environment_.board.put_up(unit, project);
    auto done = co_await environment_.host.appender->append(std::move(unit));
    if (!done) {
        Error error = done.error();
        if (error.code == Errc::conflict)
            error.detail = "a recovery of webhook endpoint " + id + " is under way";
        co_return error;
    }
    look(project);
    co_return recovery;
}

Task<Result<WebhookDelivery>> Webhooks::replay(std::string project, DeliveryId id, Actor actor) {
    const auto endpoint = co_await find_live(project, id.endpoint);
    if (!endpoint && endpoint.error().code == Errc::not_found)
        co_return Error{Errc::not_found, "there is no delivery " + id.text()};
    if (!endpoint) co_return endpoint.error();
    BOOST_OUTCOME_CO_TRY(WebhookDelivery delivery, co_await log_.get(project, id));
    BOOST_OUTCOME_CO_TRY(const std::string stored, co_await log_.stored(project, delivery));
    AppendUnit unit;
    unit.project = project;
    json::object metadata;
    metadata["delivery_id"] = id.text();
    metadata["original_attempts"] = delivery.attempts;
    ChangeEvents(actor, "webhook_delivery", id.endpoint)
        .add("webhook.delivery.replayed", metadata)
        .put_into(unit);
    const TimeUs now = environment_.host.clock->wall_us();
    const bool anew = DeliveryLog::requeue(unit, delivery, stored, now);
    environment_.board.put_up(unit, project);
    auto done = co_await environment_.host.appender->append(std::move(unit));
    if (!done) {
        Error error = done.error();
        if (error.code == Errc::conflict)
            error.detail = "delivery " + id.text() + " has just been tried; look at it again";
        co_return error;
    }
    look(project);
    delivery.status = WebhookDelivery::Status::pending;
    if (anew) ++delivery.replays;
    if (anew) delivery.next_at = now;
    delivery.ended_at = kNoTime;
    co_return delivery;
}

// --- reading

Task<Result<std::vector<WebhookEndpoint>>> Webhooks::list(std::string project) {
    BOOST_OUTCOME_CO_TRYV(co_await environment_.board.catch_up());
    std::vector<WebhookEndpoint> endpoints = endpoints_of(project);
    std::erase_if(endpoints, [](const auto& each) { return each.status == Status::revoked; });
    std::stable_sort(endpoints.begin(), endpoints.end(), [](const auto& a, const auto& b) {
        return a.created_at < b.created_at;
    });
    co_return endpoints;
}

Task<Result<WebhookEndpoint>> Webhooks::get(std::string project, std::string id) {
    BOOST_OUTCOME_CO_TRY(Known known, co_await find(std::move(project), std::move(id)));
    co_return std::move(known.endpoint);
}

Task<Result<std::vector<std::string>>> Webhooks::ids(std::string project) {
    BOOST_OUTCOME_CO_TRYV(co_await environment_.board.catch_up());
    std::vector<std::string> ids;
    for (const WebhookEndpoint& endpoint : endpoints_of(project)) ids.push_back(endpoint.id);
    co_return ids;
}

Task<Result<Webhooks::Progress>> Webhooks::progress(std::string project, std::string id) {
    EventStore& store = *environment_.host.store;
    BOOST_OUTCOME_CO_TRY(
        const auto state, co_await store.kv_get(EndpointState::kSpace, project, id)
    );
    BOOST_OUTCOME_CO_TRY(const auto recovery, co_await store.kv_get(Recovery::kSpace, project, id));
    Progress progress;
    if (state) progress.state = EndpointState::from_text(*state);
    if (recovery) progress.recovery = Recovery::from_text(*recovery);
    co_return progress;
}

}  // namespace annal
