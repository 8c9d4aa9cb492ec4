/// Audit logs as the logging product's own clients read them: list, filter metadata, one entry, and
/// the deletion of one.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: query-logging}
///     spec:
///       library: {name: query_logging}
///       triggers:            # the names are fixed: they say what a route does
///         - {name: list, http: {method: GET, route: /api/logging/audit, scope: audit:read}}
///         - {name: filters, http: {method: GET, route: /api/logging/audit/filters, scope:
///         audit:read}}
///         - {name: get, http: {method: GET, route: "/api/logging/audit/{id}", scope: audit:read}}
///         - {name: delete, http: {method: DELETE, route: "/api/logging/audit/{id}", scope:
///         audit:write}}
///       permissions: {store: [read, delete]}
///
/// Pages are rendered straight from the store's rows into one buffer.
#include <annal/sdk.hpp>
#include <annal/sdk/page_visitor.hpp>
#include <annal/sdk/parameters.hpp>
#include <annal/sdk/routes.hpp>
#include <openapi_yaml.hpp>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "entry.h"
#include "list_parameters.h"

namespace logging {
namespace {

constexpr std::string_view kJson = "application/json";

annal::Problem invalid(std::string detail) {
    return annal::Problem(400, "invalid_parameter").detail(std::move(detail));
}

/// What a failed read amounts to for a client. Of what it sent, the cursor and the values of
/// filters are left for the host to refuse.
annal::Problem read_problem(const annal::Status& status) {
    if (status.code() == ANNAL_INVALID || status.code() == ANNAL_UNPROCESSABLE) {
        return invalid(status.text());
    }
    return annal::Problem(status);
}

annal::Problem entry_problem(const annal::Status& status) {
    if (status.code() == ANNAL_NOT_FOUND || status.code() == ANNAL_INVALID) {
        return annal::Problem(404, "not_found")
            .detail("this project has no audit log entry with this id");
    }
    return annal::Problem(status);
}

using Reason = std::string_view;
constexpr annal::Parameter<Reason> kReason[] = {
    {"reason",
     [](const annal::Host&, std::string_view value, Reason& out) -> std::optional<std::string> {
         out = value;
         return value.size() <= 1024 ? std::optional<std::string>()
                                     : "must be at most 1024 bytes long";
     }},
};

/// Reads the parameters of a route that takes those of `table`.
std::optional<annal::Problem> read_reason(
    const annal::Request& request, std::span<const annal::Parameter<Reason>> table, Reason& out
) {
    const auto fault = annal::read_parameters(request, table, annal::ParameterRules{}, out);
    if (!fault) {
        return std::nullopt;
    }
    const std::string_view takes = table.empty() ? "none" : table.front().name;
    return invalid(
        fault->is_unknown ? fault->text() + "; this route takes " + std::string(takes)
                          : fault->text()
    );
}

}  // namespace

class QueryLogging : public annal::HttpHandler {
public:
    static constexpr auto kName = "query_logging";
    static constexpr const char* kOpenapi = annal::kOpenapiYaml;

    annal::Status open() {
        annal::Status status = host().require(ANNAL_SERVICE_CODEC);
        return status.ok() ? host().require(ANNAL_SERVICE_STORE) : status;
    }

    annal::Task<> handle(annal::Request& request, annal::Response& response) {
        static constexpr annal::Route<QueryLogging> kRoutes[] = {
            {"list", &QueryLogging::list},
            {"filters", &QueryLogging::filters},
            {"get", &QueryLogging::get},
            {"delete", &QueryLogging::erase},
        };
        return annal::answer_by_trigger<QueryLogging>(*this, kRoutes, request, response);
    }

    std::string_view render_problem(const annal_problem& problem, annal::Buffer& out) {
        std::string_view detail = annal::view(problem.detail);
        if (detail.empty()) {
            detail = annal::view(problem.title);
        }
        Json json(out);
        json.begin_object()
            .member("detail", detail.empty() ? annal::status_title(problem.status) : detail)
            .end_object();
        return kJson;
    }

private:
    annal::Task<> list(annal::Request& request, annal::Response& response) {
        ListParameters asked;
        if (auto wrong = grammar_.read(request, asked)) {
            const annal::Problem problem = invalid(*std::move(wrong));
            co_await response.fail(problem);
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object().key("items").begin_array();
        annal::PageVisitor entries([&](const annal_event& event) {
            append_entry(json, host(), event);
            return annal::Status();
        });
        annal::Query query(asked.filter);
        query.limit(asked.limit).cursor(asked.cursor);
        if (asked.oldest_first) {
            query.oldest_first();
        }
        const annal::Status status = co_await request.call().scan(query, entries);
        if (!status.ok()) {
            co_await response.fail(read_problem(status));
            co_return;
        }
        annal::Total total;
        if (asked.include_total) {
            total = co_await request.call().count(asked.filter);
        }
        if (!total.ok()) {
            co_await response.fail(read_problem(total.status));
            co_return;
        }
        json.end_array().key("next_cursor");
        entries.has_more() ? json.value(entries.next_cursor()) : json.value(nullptr);
        json.member("next_page", entries.has_more()).member("limit", asked.limit);
        json.member("collection_total", total.count).end_object();
        annal::Headers headers;
        headers.add("content-type", kJson);
        if (total.at_least) {
            headers.add("Annal-Total", "at-least");
        }
        co_await send_json(response, headers, body);
    }

    annal::Task<> filters(annal::Request& request, annal::Response& response) {
        Reason none;
        if (const auto problem = read_reason(request, {}, none)) {
            co_await response.fail(*problem);
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        append_filter_metadata(json);
        annal::Headers headers;
        headers.add("content-type", kJson);
        co_await send_json(response, headers, body);
    }

    annal::Task<> get(annal::Request& request, annal::Response& response) {
        Reason none;
        if (const auto problem = read_reason(request, {}, none)) {
            co_await response.fail(*problem);
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        annal::PageVisitor entry([&](const annal_event& event) {
            append_entry(json, host(), event);
            return annal::Status();
        });
        annal::Status status = co_await request.call().get(request.param("id"), entry);
        if (status.ok() && entry.count() == 0) {
            status = annal::Status(ANNAL_NOT_FOUND, {});
        }
        if (!status.ok()) {
            co_await response.fail(entry_problem(status));
            co_return;
        }
        annal::Headers headers;
        headers.add("content-type", kJson);
        co_await send_json(response, headers, body);
    }

    annal::Task<> erase(annal::Request& request, annal::Response& response) {
        Reason reason;
        if (const auto problem = read_reason(request, kReason, reason)) {
            co_await response.fail(*problem);
            co_return;
        }
        const annal::Status status = co_await request.call().erase(request.param("id"), reason);
        if (!status.ok()) {
            co_await response.fail(entry_problem(status));
            co_return;
        }
        const annal::Headers headers;
        co_await response.send(204, headers, {});
    }

    annal::Task<> send_json(
        annal::Response& response, const annal::Headers& headers, const annal::Buffer& body
    ) {
        if (body.overflowed()) {
            co_await response.fail(annal::Problem(503, "unavailable")
                                       .detail("the page is too large; ask for fewer rows with "
                                               "limit="));
            co_return;
        }
        co_await response.send(200, headers, body.view());
    }

    ListGrammar grammar_;
};

}  // namespace logging

ANNAL_PLUGIN("annal.query-logging", "1.0.0", "Annal", "Apache-2.0", logging::QueryLogging)
