/// The AuthPI dialect of the read API: list, aggregate, one event.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: query-authpi}
///     spec:
///       library: {name: query_authpi}
///       triggers:            # the names are fixed: they say what a route does
///         - {name: list, http: {method: GET, route: "/v1/accounts/{account_id}/events",
///         scope: audit:read}}
///         - {name: aggregate, http: {method: GET,
///         route: "/v1/accounts/{account_id}/events/aggregate", scope: audit:read}}
///         - {name: get, http: {method: GET,
///         route: "/v1/accounts/{account_id}/events/{event_id}", scope: audit:read}}
///       permissions: {store: [read]}
///
/// An account is a project, and a key sees its own alone. Errors, the host's own included, are
/// {"error", "error_description", "request_id"}.
#include <annal/sdk.hpp>
#include <annal/sdk/page_visitor.hpp>
#include <annal/sdk/routes.hpp>
#include <openapi_yaml.hpp>

#include <string>
#include <string_view>
#include <utility>

#include "aggregate_json.h"
#include "event_json.h"
#include "parameters.h"

namespace authpi {
namespace {

using Json = annal::JsonWriter<annal::Buffer>;

constexpr std::string_view kJson = "application/json";
constexpr std::string_view kInvalidRequest = "invalid_request";

annal::Problem invalid(std::string text) {
    return annal::Problem(400, std::string(kInvalidRequest)).detail(std::move(text));
}

/// What a failed read amounts to for a client. Of what it sent, only the list of types and the
/// cursor are left for the host to refuse.
annal::Problem read_problem(const annal::Status& status, const Parameters& asked) {
    switch (status.code()) {
        case ANNAL_UNPROCESSABLE:
            return invalid("query parameter event_types: " + status.text());
        case ANNAL_INVALID:
            return invalid(
                annal::is_null(asked.cursor) ? status.text()
                                             : "query parameter cursor: " + status.text()
            );
        case ANNAL_TOO_LARGE:
            return invalid(status.text());
        default:
            return annal::Problem(status);
    }
}

annal::Problem event_problem(const annal::Status& status) {
    if (status.code() == ANNAL_NOT_FOUND || status.code() == ANNAL_INVALID) {
        return annal::Problem(404, "not_found").detail("this account has no event with this id");
    }
    return annal::Problem(status);
}

/// This API's word for an error, whoever made it: OAuth's where it has one.
std::string_view error_word(const annal_problem& problem) {
    switch (problem.status) {
        case 401:
            return "unauthorized_client";
        case 403:
            return annal::view(problem.code) == "insufficient_scope" ? "insufficient_scope"
                                                                     : "access_denied";
        case 404:
            return "not_found";
        case 405:
            return "method_not_allowed";
        case 413:
            return "request_too_large";
        case 429:
            return "rate_limit_exceeded";
        case 503:
            return "temporarily_unavailable";
        default:
            return problem.status < 500 ? kInvalidRequest : "server_error";
    }
}

std::string_view description_of(const annal_problem& problem) {
    for (const annal_str text : {problem.detail, problem.title}) {
        if (text.len > 0) {
            return annal::view(text);
        }
    }
    return annal::status_title(problem.status);
}

}  // namespace

class QueryAuthpi : public annal::HttpHandler {
public:
    static constexpr auto kName = "query_authpi";
    static constexpr const char* kOpenapi = annal::kOpenapiYaml;

    annal::Status open() { return host().require(ANNAL_SERVICE_STORE); }

    annal::Task<> handle(annal::Request& request, annal::Response& response) {
        static constexpr annal::Route<QueryAuthpi> kRoutes[] = {
            {"list", &QueryAuthpi::list},
            {"aggregate", &QueryAuthpi::aggregate},
            {"get", &QueryAuthpi::get},
        };
        if (request.param("account_id") != request.project()) {
            return deny(request, response);
        }
        return annal::answer_by_trigger<QueryAuthpi>(*this, kRoutes, request, response);
    }

    std::string_view render_problem(const annal_problem& problem, annal::Buffer& body) {
        Json json(body);
        json.begin_object().member("error", error_word(problem));
        json.member("error_description", description_of(problem));
        json.member("request_id", problem.request_id).end_object();
        return kJson;
    }

private:
    annal::Task<> list(annal::Request& request, annal::Response& response) {
        Parameters asked;
        if (const auto fault = read_list_parameters(request, asked)) {
            const annal::Problem problem = invalid(fault->text());
            co_await response.fail(problem);
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object().key("data").begin_array();
        annal::PageVisitor events([&json](const annal_event& event) {
            write_event(json, event);
            return annal::Status();
        });
        annal::Query query(asked.filter);
        query.limit(asked.limit).cursor(asked.cursor);
        const annal::Status status = co_await request.call().scan(query, events);
        if (!status.ok()) {
            const annal::Problem problem = read_problem(status, asked);
            co_await response.fail(problem);
            co_return;
        }
        json.end_array().key("next_cursor");
        if (events.has_more()) {
            json.value(events.next_cursor());
        } else {
            json.value(nullptr);
        }
        json.member("has_more", events.has_more()).end_object();
        co_await send_json(response, body);
    }

    annal::Task<> aggregate(annal::Request& request, annal::Response& response) {
        Parameters asked;
        if (const auto fault = read_aggregate_parameters(request, asked)) {
            const annal::Problem problem = invalid(fault->text());
            co_await response.fail(problem);
            co_return;
        }
        annal::Aggregation what(asked.filter);
        what.interval(asked.interval);
        what.group_by(asked.group_by != nullptr ? asked.group_by->field : 0);
        for (const Dimension* const dimension : asked.unique) {
            what.unique(dimension->field);
        }
        const annal::Aggregate counted = co_await request.call().aggregate(what);
        if (!counted.ok()) {
            const annal::Problem problem = read_problem(counted.status, asked);
            co_await response.fail(problem);
            co_return;
        }
        annal::Buffer body;
        append_aggregate(body, asked, counted);
        co_await send_json(response, body);
    }

    annal::Task<> get(annal::Request& request, annal::Response& response) {
        annal::Buffer body;
        Json json(body);
        annal::PageVisitor events([&json](const annal_event& event) {
            write_event(json, event);
            return annal::Status();
        });
        annal::Status status = co_await request.call().get(request.param("event_id"), events);
        if (status.ok() && events.count() == 0) {
            status = annal::Status(ANNAL_NOT_FOUND, {});
        }
        if (!status.ok()) {
            const annal::Problem problem = event_problem(status);
            co_await response.fail(problem);
            co_return;
        }
        co_await send_json(response, body);
    }

    annal::Task<> deny(annal::Request& request, annal::Response& response) {
        const annal::Problem problem =
            annal::Problem(403, "access_denied")
                .detail(
                    "this key sees the account " + std::string(request.project()) +
                    " alone: use its id in the path, or a key of the other account"
                );
        co_await response.fail(problem);
    }

    annal::Task<> send_json(annal::Response& response, const annal::Buffer& body) {
        if (body.overflowed()) {
            const annal::Problem problem =
                invalid("the answer is too large; ask for a shorter time or a narrower filter");
            co_await response.fail(problem);
            co_return;
        }
        co_await response.send(200, kJson, body.view());
    }
};

}  // namespace authpi

ANNAL_PLUGIN("annal.query-authpi", "1.0.0", "Annal", "Apache-2.0", authpi::QueryAuthpi)
