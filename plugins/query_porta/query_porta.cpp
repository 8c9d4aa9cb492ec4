/// Porta's audit API: a list with page numbers, and the cleanup of what is older than
/// audit_retention_days.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: query-porta}
///     spec:
///       library: {name: query_porta}
///       triggers:            # the names are fixed: they say what a route does
///         - {name: list, http: {methods: [GET], route: /api/admin/audit, scope: audit:read}}
///         - {name: cleanup, http: {methods: [DELETE], route: /api/admin/audit/cleanup,
///            scope: audit:write}}
///       limits: {timeout: 30s}
///       permissions: {store: [read, delete]}
///
/// A page is whole or an error: where one read of the store ends at its time budget, the next goes
/// on from there until the call's own time is over.
#include <annal/sdk.hpp>
#include <annal/sdk/page_visitor.hpp>
#include <annal/sdk/routes.hpp>
#include <openapi_yaml.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "event_json.h"
#include "parameters.h"
#include "problem_words.h"

namespace porta {
namespace {

constexpr std::string_view kJson = "application/json";

/// What a failed read amounts to for a client.
annal::Problem read_problem(const annal::Status& status, const ListParameters& parameters) {
    if (status.code() == ANNAL_TOO_LARGE) {
        return annal::Problem(400, "page_too_deep")
            .detail(
                "page " + std::to_string(parameters.page) + " of pageSize " +
                std::to_string(parameters.page_size) +
                " begins behind the first 100000 events, which is as deep as a filtered list can "
                "be paged; narrow it, with from and to for example"
            );
    }
    if (status.code() == ANNAL_INVALID || status.code() == ANNAL_UNPROCESSABLE) {
        return annal::Problem(400, "invalid_parameter").detail(status.text());
    }
    return annal::Problem(status);
}

void append_pagination(Json& json, const ListParameters& parameters, std::int64_t total) {
    const std::int64_t size = parameters.page_size;
    json.begin_object()
        .member("total", total)
        .member("page", parameters.page)
        .member("pageSize", size)
        .member("totalPages", total / size + (total % size != 0 ? 1 : 0))
        .end_object();
}

}  // namespace

class QueryPorta : public annal::HttpHandler {
public:
    static constexpr auto kName = "query_porta";
    static constexpr const char* kOpenapi = annal::kOpenapiYaml;

    annal::Status open() {
        annal::Status status = host().require(ANNAL_SERVICE_CODEC);
        return status.ok() ? host().require(ANNAL_SERVICE_STORE) : status;
    }

    annal::Task<> handle(annal::Request& request, annal::Response& response) {
        static constexpr annal::Route<QueryPorta> kRoutes[] = {
            {"list", &QueryPorta::list},
            {"cleanup", &QueryPorta::clean_up},
        };
        return annal::answer_by_trigger<QueryPorta>(*this, kRoutes, request, response);
    }

    std::string_view render_problem(const annal_problem& problem, annal::Buffer& out) {
        return append_problem(out, problem);
    }

private:
    annal::Task<> list(annal::Request& request, annal::Response& response) {
        ListParameters parameters;
        if (const auto problem = read_list_parameters(request, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        const annal::Total total = co_await request.call().count(parameters.filter);
        if (!total.ok()) {
            co_await response.fail(read_problem(total.status, parameters));
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object().key("data").begin_array();
        annal::PageVisitor rows([&](const annal_event& event) {
            return append_event(json, host(), event);
        });
        const std::int64_t wanted = rows_wanted(total, parameters);
        const annal::Status status = co_await fill_page(request, parameters, wanted, rows);
        if (!status.ok()) {
            co_await response.fail(read_problem(status, parameters));
            co_return;
        }
        // A lower bound is no lower than what has been seen.
        const auto shown = static_cast<std::int64_t>(rows.count());
        const std::int64_t seen = shown > 0 ? parameters.skip() + shown : 0;
        json.end_array().key("pagination");
        append_pagination(json, parameters, std::max(total.count, seen));
        json.end_object();
        co_await send_json(response, body, total.at_least);
    }

    annal::Task<> clean_up(annal::Request& request, annal::Response& response) {
        const annal::Cleanup cleanup = co_await request.call().clean_up();
        if (!cleanup.ok()) {
            const annal::Problem problem(cleanup.status);
            co_await response.fail(problem);
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object().member("deleted", cleanup.deleted);
        json.member("retentionDays", cleanup.retention_days);
        json.member("cutoffDate", to_milliseconds(host(), cleanup.cutoff_us)).end_object();
        annal::Headers headers;
        headers.add("content-type", kJson);
        co_await response.send(200, headers, body.view());
    }

    /// Of this page. With a total that is exact no more is looked for than there is: the search for
    /// a row that does not exist would go through the whole log.
    [[nodiscard]] static std::int64_t rows_wanted(
        const annal::Total& total, const ListParameters& parameters
    ) {
        if (total.at_least) {
            return parameters.page_size;
        }
        return std::clamp<std::int64_t>(total.count - parameters.skip(), 0, parameters.page_size);
    }

    /// Reads until there are `wanted` rows, or no more of them in the log.
    template <class Take>
    annal::Task<annal::Status> fill_page(
        annal::Request& request,
        const ListParameters& parameters,
        std::int64_t wanted,
        annal::PageVisitor<Take>& rows
    ) {
        std::string cursor;
        for (std::int64_t missing = wanted; missing > 0;) {
            annal::Query query(parameters.filter);
            query.limit(static_cast<std::uint32_t>(missing));
            if (cursor.empty()) {
                query.skip(parameters.skip());
            } else {
                query.cursor(annal::to_str(cursor));
            }
            annal::Status status = co_await request.call().scan(query, rows);
            if (!status.ok()) {
                co_return status;
            }
            if (!rows.failure().ok()) {
                co_return rows.failure();
            }
            missing = wanted - static_cast<std::int64_t>(rows.count());
            if (missing <= 0 || !rows.has_more()) {
                break;
            }
            if (rows.next_cursor() == cursor || request.call().cancelled()) {
                co_return annal::Status(
                    ANNAL_UNAVAILABLE,
                    "the events of this page were not found in the time allowed; narrow the list "
                    "with from and to"
                );
            }
            cursor = rows.next_cursor();
        }
        co_return annal::Status();
    }

    annal::Task<> send_json(
        annal::Response& response, const annal::Buffer& body, bool is_at_least
    ) {
        if (body.overflowed()) {
            co_await response.fail(annal::Problem(503, "unavailable")
                                       .detail("the page is too large; ask for a smaller pageSize")
            );
            co_return;
        }
        annal::Headers headers;
        headers.add("content-type", kJson);
        if (is_at_least) {
            headers.add("Annal-Total", "at-least");
        }
        co_await response.send(200, headers, body.view());
    }
};

}  // namespace porta

ANNAL_PLUGIN("annal.query-porta", "1.0.0", "Annal", "Apache-2.0", porta::QueryPorta)
