#include "runtime/control/webhook_routes.h"

#include <boost/json.hpp>

#include "runtime/control/body.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/delivery/pattern_list.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr std::size_t kUrlBytesMax = 2'048, kDescriptionBytesMax = 512;
constexpr std::uint32_t kDeliveriesMax = 200, kDeliveriesDefault = 50;

Error wrong(std::string detail, std::string pointer) {
    return {Errc::unprocessable, std::move(detail), std::move(pointer)};
}

json::value time_or_null(TimeUs at) {
    return at == kNoTime ? json::value(nullptr) : json::value(format_time(at));
}

// --- what a body says

Result<Webhooks::Change> read_change(const json::object& body) {
    Webhooks::Change change;
    if (body.contains("url")) {
        BOOST_OUTCOME_TRY(change.url, string_member(body, "url", kUrlBytesMax));
    }
    if (const json::value* events = body.if_contains("events")) {
        BOOST_OUTCOME_TRY(change.patterns, patterns_of(*events, "/events"));
    }
    if (const json::value* text = body.if_contains("description")) {
        const bool fits = text->is_string() && text->get_string().size() <= kDescriptionBytesMax;
        if (!fits && !text->is_null())
            return wrong("must be text of at most 512 bytes", "/description");
        change.description = fits ? std::string(text->get_string()) : std::string();
    }
    if (const json::value* scheme = body.if_contains("signature_scheme")) {
        change.scheme =
            scheme->is_string() ? scheme_of(std::string(scheme->get_string())) : std::nullopt;
        if (!change.scheme) return wrong("must be authio or timestamped", "/signature_scheme");
    }
    if (const json::value* status = body.if_contains("status")) {
        const std::string text = status->is_string() ? std::string(status->get_string()) : "";
        if (text != "active" && text != "disabled")
            return wrong("must be active or disabled; DELETE revokes", "/status");
        change.enabled = text == "active";
    }
    return change;
}

// --- what an answer says

json::object to_json(const WebhookEndpoint& endpoint) {
    json::object object;
    object["id"] = endpoint.id;
    object["url"] = endpoint.url;
    object["events"] = annal::to_json(endpoint.patterns);
    object["description"] = text_or_null(endpoint.description);
    object["signature_scheme"] = word(endpoint.scheme);
    object["status"] = word(endpoint.status);
    object["reason"] = text_or_null(endpoint.reason);
    object["secret_fingerprint"] = endpoint.fingerprint;
    object["secret_grace_until"] = time_or_null(endpoint.before_until);
    object["created_at"] = format_time(endpoint.created_at);
    object["updated_at"] = format_time(endpoint.updated_at);
    return object;
}

json::value to_json(const std::optional<Recovery>& recovery) {
    if (!recovery) return nullptr;
    json::object object;
    object["since"] = format_time(recovery->since);
    object["next_seq"] = recovery->next;
    object["to_seq"] = recovery->until;
    object["deliveries"] = recovery->queued;
    return object;
}

json::object to_json(const WebhookAttempt& attempt) {
    json::object object;
    object["attempt"] = attempt.number;
    object["at"] = format_time(attempt.at);
    object["status"] = attempt.succeeded() ? "succeeded" : "failed";
    object["http_status"] = attempt.status == 0 ? json::value(nullptr) : attempt.status;
    object["latency_ms"] = static_cast<double>(attempt.latency_us) / 1'000;
    object["error"] = text_or_null(attempt.error);
    object["response_body"] = text_or_null(attempt.answer);
    return object;
}

json::object to_json(const WebhookDelivery& delivery) {
    json::object object;
    object["id"] = delivery.id.text();
    object["endpoint_id"] = delivery.id.endpoint;
    object["event_id"] = delivery.event_id;
    object["seq"] = delivery.id.seq;
    object["status"] = word(delivery.status);
    object["attempts"] = delivery.attempts;
    object["replays"] = delivery.replays;
    object["next_attempt_at"] = time_or_null(delivery.next_at);
    object["ended_at"] = time_or_null(delivery.ended_at);
    const auto& last = delivery.last;
    object["last_http_status"] = last && last->status != 0 ? json::value(last->status) : nullptr;
    object["last_error"] = text_or_null(
        !delivery.reason.empty() ? delivery.reason
        : last                   ? last->error
                                 : ""
    );
    return object;
}

class WebhookRoutes {
public:
    WebhookRoutes(Webhooks& webhooks, const HostEnvironment& host)
        : webhooks_(webhooks), host_(host) {}

    Task<Result<void>> create(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"url", "events", "description", "signature_scheme"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(Webhooks::Change wanted, read_change(body));
        if (!wanted.url) co_return wrong("url is missing", "/url");
        if (!wanted.patterns) co_return wrong("events is missing", "/events");
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const auto issued,
            co_await webhooks_.create(std::move(project), std::move(wanted), actor)
        );
        json::object object = to_json(issued.endpoint);
        object["secret"] = issued.secret;
        co_return co_await answer(*exchange, 201, std::move(object));
    }

    Task<Result<void>> list(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(const auto endpoints, co_await webhooks_.list(std::move(project)));
        json::array data;
        for (const WebhookEndpoint& endpoint : endpoints) data.push_back(to_json(endpoint));
        json::object body;
        body["data"] = std::move(data);
        co_return co_await answer(*exchange, 200, std::move(body));
    }

    Task<Result<void>> get(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        std::string id(exchange->request().param("id"));
        BOOST_OUTCOME_CO_TRY(const auto endpoint, co_await webhooks_.get(project, id));
        BOOST_OUTCOME_CO_TRY(const auto progress, co_await webhooks_.progress(project, id));
        json::object object = to_json(endpoint);
        object["failing_since"] = time_or_null(progress.state.failing_since);
        object["recovery"] = to_json(progress.recovery);
        co_return co_await answer(*exchange, 200, std::move(object));
    }

    Task<Result<void>> patch(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{
            "url", "events", "description", "signature_scheme", "status"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(Webhooks::Change change, read_change(body));
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const auto changed,
            co_await webhooks_.change(std::move(project), std::move(id), std::move(change), actor)
        );
        co_return co_await answer(*exchange, 200, to_json(changed));
    }

    Task<Result<void>> revoke(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRYV(co_await webhooks_.revoke(std::move(project), std::move(id), actor));
        http::Pairs none;
        BOOST_OUTCOME_CO_TRYV(exchange->start(204, none));
        co_return co_await exchange->finish(std::move(none));
    }

    Task<Result<void>> rotate_secret(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"grace_seconds"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object_if_any(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        std::int64_t grace_s = 0;
        if (const json::value* given = body.if_contains("grace_seconds")) {
            BOOST_OUTCOME_CO_TRY(
                grace_s, integer_of(*given, 0, Webhooks::kGraceMaxS, "/grace_seconds")
            );
        }
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const auto issued,
            co_await webhooks_.rotate_secret(std::move(project), std::move(id), grace_s, actor)
        );
        json::object object;
        object["id"] = issued.endpoint.id;
        object["secret"] = issued.secret;
        object["secret_fingerprint"] = issued.endpoint.fingerprint;
        object["secret_grace_until"] = time_or_null(issued.endpoint.before_until);
        co_return co_await answer(*exchange, 200, std::move(object));
    }

    Task<Result<void>> test(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRYV(co_await read_object_if_any(*exchange, {}));
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const DeliveryId made, co_await webhooks_.test(std::move(project), std::move(id), actor)
        );
        json::object object;
        object["delivery_id"] = made.text();
        co_return co_await answer(*exchange, 202, std::move(object));
    }

    Task<Result<void>> recover(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"since"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(const std::string text, string_member(body, "since", 64));
        const auto since = parse_time(text);
        if (!since) co_return wrong(since.error().detail, "/since");
        std::string id(exchange->request().param("id"));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const Recovery begun,
            co_await webhooks_.recover(std::move(project), std::move(id), since.value(), actor)
        );
        json::object object;
        object["since"] = format_time(begun.since);
        object["from_seq"] = begun.next;
        object["to_seq"] = begun.until;
        co_return co_await answer(*exchange, 202, std::move(object));
    }

    Task<Result<void>> deliveries(std::shared_ptr<http::Exchange> exchange) {
        const http::Request& request = exchange->request();
        BOOST_OUTCOME_CO_TRY(
            const std::int64_t limit,
            query_integer(request, "limit", kDeliveriesDefault, 1, kDeliveriesMax)
        );
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        DeliveryLog::Query query;
        query.limit = static_cast<std::uint32_t>(limit + 1);
        BOOST_OUTCOME_CO_TRY(query.behind, behind_of(request, project));
        if (const auto status = request.parameter("status")) {
            query.status = delivery_status_of(*status);
            if (!query.status)
                co_return Error{
                    Errc::invalid, "status must be pending, delivered or failed", "status"};
        }
        BOOST_OUTCOME_CO_TRY(query.endpoints, co_await webhooks_.ids(project));
        if (const auto wanted = request.parameter("endpoint")) {
            const std::string id(*wanted);
            BOOST_OUTCOME_CO_TRYV(co_await webhooks_.get(project, id));
            query.endpoints = {id};
        }
        std::vector<WebhookDelivery> found;
        const auto event = request.parameter("event_id");
        if (event) {
            BOOST_OUTCOME_CO_TRY(query.seq, co_await seq_of(project, std::string(*event)));
        }
        if (!event || query.seq) {
            BOOST_OUTCOME_CO_TRY(
                found, co_await webhooks_.deliveries().list(project, std::move(query))
            );
        }
        const bool more = found.size() > static_cast<std::size_t>(limit);
        if (more) found.pop_back();
        json::array data;
        for (const WebhookDelivery& delivery : found) data.push_back(to_json(delivery));
        json::object body;
        body["data"] = std::move(data);
        body["next_cursor"] = nullptr;
        if (more) body["next_cursor"] = cursor_behind(request, project, found.back().id);
        body["has_more"] = more;
        co_return co_await answer(*exchange, 200, std::move(body));
    }

    Task<Result<void>> delivery(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(DeliveryId id, delivery_in(*exchange));
        const DeliveryLog& log = webhooks_.deliveries();
        BOOST_OUTCOME_CO_TRY(const auto found, co_await log.get(project, std::move(id)));
        BOOST_OUTCOME_CO_TRY(const auto attempts, co_await log.attempts(project, found));
        json::object object = to_json(found);
        json::array list;
        for (const WebhookAttempt& attempt : attempts) list.push_back(to_json(attempt));
        object["attempt_log"] = std::move(list);
        co_return co_await answer(*exchange, 200, std::move(object));
    }

    Task<Result<void>> replay(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRYV(co_await read_object_if_any(*exchange, {}));
        BOOST_OUTCOME_CO_TRY(std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(DeliveryId id, delivery_in(*exchange));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const auto replayed, co_await webhooks_.replay(std::move(project), std::move(id), actor)
        );
        co_return co_await answer(*exchange, 202, to_json(replayed));
    }

private:
    static Result<DeliveryId> delivery_in(const http::Exchange& exchange) {
        const std::string_view text = exchange.request().param("id");
        auto id = DeliveryId::parse(text);
        if (id) return std::move(*id);
        return Error{Errc::not_found, "there is no delivery " + std::string(text.substr(0, 64))};
    }

    /// What a cursor is bound to: the question, and the endpoint behind which it goes on.
    static Filter question(const http::Request& request, const std::string& endpoint) {
        Filter filter;
        filter.text = "webhook deliveries";
        for (const char* name : {"endpoint", "status", "event_id"})
            *filter.text += "\n" + std::string(request.parameter(name).value_or(""));
        *filter.text += "\n" + endpoint;
        return filter;
    }
    std::string cursor_behind(
        const http::Request& request, const std::string& project, const DeliveryId& last
    ) const {
        return host_.cursors->seal(project, question(request, last.endpoint), true, last.seq) +
               "." + last.endpoint;
    }
    Result<std::optional<DeliveryId>> behind_of(
        const http::Request& request, const std::string& project
    ) const {
        std::optional<DeliveryId> behind;
        const auto given = request.parameter("cursor");
        if (!given) return behind;
        const auto dot = given->rfind('.');
        const std::string endpoint(dot == std::string_view::npos ? "" : given->substr(dot + 1));
        BOOST_OUTCOME_TRY(
            const Seq seq,
            host_.cursors->open(given->substr(0, dot), project, question(request, endpoint), true)
        );
        behind = DeliveryId{endpoint, seq};
        return behind;
    }
    /// Nothing: there is no such event.
    Task<Result<std::optional<Seq>>> seq_of(std::string project, std::string text) {
        const auto id = EventId::parse(text);
        if (!id) co_return Error{Errc::invalid, "event_id is no event's id", "event_id"};
        const auto found = co_await host_.store->get(std::move(project), *id);
        std::optional<Seq> seq;
        if (found) seq = found.value().events.front().seq;
        if (!found && found.error().code != Errc::not_found) co_return found.error();
        co_return seq;
    }

    static Task<Result<void>> answer(http::Exchange& exchange, int status, json::object object) {
        const json::value value(std::move(object));
        co_return co_await respond_json(exchange, status, value);
    }

    Webhooks& webhooks_;
    const HostEnvironment& host_;
};

constexpr const char *kRead = "webhooks:read", *kWrite = "webhooks:write";
constexpr RouteEntry<WebhookRoutes> kEntries[] = {
    {"POST", "/v1/webhooks/endpoints", kWrite, &WebhookRoutes::create},
    {"GET", "/v1/webhooks/endpoints", kRead, &WebhookRoutes::list},
    {"GET", "/v1/webhooks/endpoints/{id}", kRead, &WebhookRoutes::get},
    {"PATCH", "/v1/webhooks/endpoints/{id}", kWrite, &WebhookRoutes::patch},
    {"DELETE", "/v1/webhooks/endpoints/{id}", kWrite, &WebhookRoutes::revoke},
    {"POST", "/v1/webhooks/endpoints/{id}/rotate-secret", kWrite, &WebhookRoutes::rotate_secret},
    {"POST", "/v1/webhooks/endpoints/{id}/test", kWrite, &WebhookRoutes::test},
    {"POST", "/v1/webhooks/endpoints/{id}/recover", kWrite, &WebhookRoutes::recover},
    {"GET", "/v1/webhooks/deliveries", kRead, &WebhookRoutes::deliveries},
    {"GET", "/v1/webhooks/deliveries/{id}", kRead, &WebhookRoutes::delivery},
    {"POST", "/v1/webhooks/deliveries/{id}/replay", kWrite, &WebhookRoutes::replay}};

}  // namespace

Result<void> add_webhook_routes(
    http::Router& router, Webhooks& webhooks, const HostEnvironment& host
) {
    const auto routes = std::make_shared<WebhookRoutes>(webhooks, host);
    return add_routes<WebhookRoutes>(router, routes, kEntries, "webhooks");
}

}  // namespace annal::control
