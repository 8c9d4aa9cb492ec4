/// The native read API: list, get, types, aggregate, live tail, exports and the legacy list, and
/// the deletion of one event.
///
///     apiVersion: annal.dev/v1
///     kind: Plugin
///     metadata: {name: query-authio}
///     spec:
///       library: {name: query_authio}
///       triggers:            # the names are fixed: they say what a route does
///         - {name: list, http: {methods: [GET], route: /v1/audit/events, scope: audit:read}}
///         - {name: types, http: {methods: [GET], route: /v1/audit/events/types, scope:
///         audit:read}}
///         - {name: aggregate, http: {methods: [GET], route: /v1/audit/events/aggregate, scope:
///         audit:read}}
///         - {name: tail, http: {methods: [GET], route: /v1/audit/events/tail, scope: audit:read}}
///         - {name: get, http: {methods: [GET], route: "/v1/audit/events/{id}", scope: audit:read}}
///         - {name: delete, http: {methods: [DELETE], route: "/v1/audit/events/{id}", scope:
///         audit:write}}
///         - {name: export, http: {methods: [GET], route: "/v1/audit/events.{format}", scope:
///         audit:read}}
///         - {name: legacy, http: {methods: [GET], route: /v1/audit-events, scope: audit:read}}
///       permissions: {store: [read, delete], export: true}
///
/// Pages are rendered straight from the store's rows into one buffer; exports and tails never pass
/// through here at all.
#include <annal/sdk.hpp>
#include <annal/sdk/page_visitor.hpp>
#include <annal/sdk/routes.hpp>
#include <openapi_yaml.hpp>

#include <string>
#include <string_view>
#include <utility>

#include "parameters.h"

namespace authio {
namespace {

using Json = annal::JsonWriter<annal::Buffer>;

constexpr std::int64_t kTypesWindowUs = std::int64_t{30} * 24 * 3600 * 1'000'000;
constexpr std::string_view kJson = "application/json";

/// What a failed read amounts to for a client. Of what it sent, only the cursor and the patterns
/// are left for the host to refuse.
annal::Problem read_problem(const annal::Status& status, bool has_cursor) {
    if (status.code() == ANNAL_UNPROCESSABLE) {
        return annal::Problem(400, "invalid_parameter").detail(status.text());
    }
    if (status.code() == ANNAL_INVALID) {
        return annal::Problem(400, has_cursor ? "invalid_cursor" : "invalid_parameter")
            .detail(status.text());
    }
    return annal::Problem(status);
}

}  // namespace

class QueryAuthio : public annal::HttpHandler {
public:
    static constexpr auto kName = "query_authio";
    static constexpr const char* kOpenapi = annal::kOpenapiYaml;

    annal::Status open() {
        annal::Status status = host().require(ANNAL_SERVICE_CODEC);
        return status.ok() ? host().require(ANNAL_SERVICE_STORE) : status;
    }

    annal::Task<> handle(annal::Request& request, annal::Response& response) {
        static constexpr annal::Route<QueryAuthio> kRoutes[] = {
            {"list", &QueryAuthio::list},
            {"get", &QueryAuthio::get},
            {"types", &QueryAuthio::types},
            {"aggregate", &QueryAuthio::aggregate},
            {"export", &QueryAuthio::export_events},
            {"tail", &QueryAuthio::tail},
            {"legacy", &QueryAuthio::legacy},
            {"delete", &QueryAuthio::erase},
        };
        return annal::answer_by_trigger<QueryAuthio>(*this, kRoutes, request, response);
    }

private:
    annal::Task<> list(annal::Request& request, annal::Response& response) {
        Parameters parameters;
        if (const auto problem =
                read_parameters(request, kFilters | kCursor | kLimit, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object().key("data").begin_array();
        annal::PageVisitor rows([&](const annal_event& event) {
            json.separate();
            return host().render(event, body.writer());
        });
        annal::Query query(parameters.filter);
        query.limit(parameters.limit).cursor(parameters.cursor);
        if (const annal::Status status = co_await scan(request, query, rows); !status.ok()) {
            co_await response.fail(read_problem(status, !annal::is_null(parameters.cursor)));
            co_return;
        }
        json.end_array().key("next_cursor");
        rows.has_more() ? json.value(rows.next_cursor()) : json.value(nullptr);
        json.member("has_more", rows.has_more()).end_object();
        co_await send_json(response, body);
    }

    annal::Task<> get(annal::Request& request, annal::Response& response) {
        Parameters parameters;
        if (const auto problem = read_parameters(request, kNone, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        annal::Buffer body;
        annal::PageVisitor rows([&](const annal_event& event) {
            return host().render(event, body.writer());
        });
        annal::Status status = co_await request.call().get(request.param("id"), rows);
        if (status.ok() && rows.count() == 0) {
            status = annal::Status(ANNAL_NOT_FOUND, {});
        }
        if (!status.ok()) {
            co_await response.fail(event_problem(status));
            co_return;
        }
        if (!rows.failure().ok()) {
            co_await response.fail(annal::Problem(rows.failure()));
            co_return;
        }
        co_await send_json(response, body);
    }

    annal::Task<> erase(annal::Request& request, annal::Response& response) {
        Parameters parameters;
        if (const auto problem = read_parameters(request, kReason, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        const std::string_view reason = parameters.reason.value_or(std::string_view());
        const annal::Status status = co_await request.call().erase(request.param("id"), reason);
        if (!status.ok()) {
            co_await response.fail(event_problem(status));
            co_return;
        }
        const annal::Headers headers;
        co_await response.send(204, headers, {});
    }

    annal::Task<> types(annal::Request& request, annal::Response& response) {
        Parameters parameters;
        if (const auto problem = read_parameters(request, kNone, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        const annal::ActionCounts counts =
            co_await request.call().actions(host().wall_us() - kTypesWindowUs);
        if (!counts.ok()) {
            co_await response.fail(annal::Problem(counts.status()));
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object().key("data").begin_array();
        for (const annal_action_count& row : counts.rows()) {
            json.begin_object().member("action", row.action).member("count", row.count);
            json.member("last_seen", host().format_time(row.last_seen_us)).end_object();
        }
        json.end_array().end_object();
        co_await send_json(response, body);
    }

    /// Buckets are not filled in: where nothing was counted there is none, but for the one bucket
    /// of a question without interval.
    annal::Task<> aggregate(annal::Request& request, annal::Response& response) {
        Parameters parameters;
        if (const auto problem = read_parameters(request, kFilters | kShape, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        annal::Aggregation what(parameters.filter);
        what.group_by(parameters.group_by.value).interval(parameters.interval.value);
        for (const NamedField& field : parameters.unique) {
            what.unique(field.value);
        }
        const annal::Aggregate counted = co_await request.call().aggregate(what);
        if (!counted.ok()) {
            co_await response.fail(read_problem(counted.status, false));
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object();
        write_name(json, "interval", parameters.interval);
        write_name(json, "group_by", parameters.group_by);
        json.key("buckets").begin_array();
        if (counted.rows.empty() && parameters.interval.value == 0) {
            json.raw(R"({"rows":[]})");
        }
        for (std::size_t i = 0; i < counted.rows.size();) {
            i = write_bucket(json, counted.rows, i, parameters);
        }
        json.end_array().end_object();
        co_await send_json(response, body);
    }

    static void write_name(Json& json, std::string_view key, const NamedField& named) {
        json.key(key);
        if (named.value != 0) {
            json.value(named.name);
        } else {
            json.value(nullptr);
        }
    }

    /// The bucket whose first row is row `i`; the number of the next bucket's.
    std::size_t write_bucket(
        Json& json,
        const std::vector<annal::AggregateRow>& rows,
        std::size_t i,
        const Parameters& parameters
    ) const {
        const std::int64_t start_us = rows[i].start_us;
        json.begin_object();
        if (parameters.interval.value != 0) {
            json.member("start", host().format_time(start_us));
        }
        json.key("rows").begin_array();
        for (; i < rows.size() && rows[i].start_us == start_us; ++i) {
            json.begin_object();
            if (parameters.group_by.value != 0) {
                json.member("key", rows[i].key);
            }
            json.member("count", rows[i].count);
            if (!parameters.unique.empty()) {
                json.key("uniques").begin_object();
                for (std::size_t u = 0; u < parameters.unique.size(); ++u) {
                    json.member(parameters.unique[u].name, rows[i].uniques[u]);
                }
                json.end_object();
            }
            json.end_object();
        }
        json.end_array().end_object();
        return i;
    }

    annal::Task<> export_events(annal::Request& request, annal::Response& response) {
        const std::string_view format = request.param("format");
        Parameters parameters;
        const unsigned set = kFilters | kCursor | kRows | (format == "csv" ? kCsvSafe : kNone);
        if (const auto problem = read_parameters(request, set, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        const std::string next_path = path_without_cursor(request);
        annal::Export what(parameters.filter, format);
        what.rows_max(parameters.rows).cursor(parameters.cursor).next_path(next_path);
        if (parameters.csv_safe) {
            what.option("csv_safe", *parameters.csv_safe);
        }
        const annal::Status status = co_await request.call().run_export(what, response.raw());
        co_await end_answer(response, status, !annal::is_null(parameters.cursor));
    }

    /// A reconnecting browser repeats its first URL and adds the header, which is newer.
    annal::Task<> tail(annal::Request& request, annal::Response& response) {
        Parameters parameters;
        if (const auto problem = read_parameters(request, kFilters | kAfter, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        const auto header = request.header("last-event-id");
        if (header && !header->empty()) {
            parameters.after = read_seq(*header);
            if (!parameters.after) {
                co_await response.fail(annal::Problem(400, "invalid_parameter")
                                           .detail("header Last-Event-ID must be the seq of an "
                                                   "event, or -1 for all"));
                co_return;
            }
        }
        annal::Tail what(parameters.filter);
        if (parameters.after) {
            what.after(*parameters.after);
        }
        const annal::Status status = co_await request.call().run_tail(what, response.raw());
        co_await end_answer(response, status, false);
    }

    /// After the host has answered in this plugin's place, or has not.
    annal::Task<> end_answer(
        annal::Response& response, const annal::Status& status, bool has_cursor
    ) {
        // When it is cancelled nobody is left to tell.
        if (status.ok() || status.code() == ANNAL_CANCELLED) {
            response.mark_answered();
            co_return;
        }
        co_await response.fail(read_problem(status, has_cursor));
    }

    /// Pages by time alone: created_at is strictly increasing within a project, so nothing is lost
    /// or repeated.
    annal::Task<> legacy(annal::Request& request, annal::Response& response) {
        Parameters parameters;
        if (const auto problem = read_parameters(request, kLegacy | kLimit, parameters)) {
            co_await response.fail(*problem);
            co_return;
        }
        annal::Buffer body;
        Json json(body);
        json.begin_object().key("data").begin_array();
        std::int64_t last_at_us = 0;
        annal::PageVisitor rows([&](const annal_event& event) {
            last_at_us = event.created_at_us;
            json.separate();
            return host().render(event, body.writer());
        });
        std::string cursor;
        // A page that the time budget ended without a row has no time to go on from: look further.
        do {
            cursor = rows.next_cursor();
            annal::Query query(parameters.filter);
            query.limit(parameters.limit)
                .cursor(cursor.empty() ? annal::kNull : annal::to_str(cursor));
            if (const annal::Status status = co_await scan(request, query, rows); !status.ok()) {
                co_await response.fail(read_problem(status, false));
                co_return;
            }
        } while (rows.count() == 0 && rows.has_more() && !request.call().cancelled());
        if (rows.count() == 0 && rows.has_more()) {
            co_await response.fail(annal::Problem(503, "unavailable")
                                       .detail("no matching event was found in the time allowed; "
                                               "narrow the search with before=")
                                       .retry_after_s(1));
            co_return;
        }
        json.end_array().key("next_before");
        rows.has_more() ? json.value(host().format_time(last_at_us)) : json.value(nullptr);
        json.end_object();
        co_await send_json(response, body);
    }

    template <class Take>
    annal::Task<annal::Status> scan(
        annal::Request& request, const annal::Query& query, annal::PageVisitor<Take>& rows
    ) {
        annal::Status status = co_await request.call().scan(query, rows);
        co_return status.ok() ? rows.failure() : status;
    }

    annal::Task<> send_json(annal::Response& response, const annal::Buffer& body) {
        if (body.overflowed()) {
            co_await response.fail(annal::Problem(503, "unavailable")
                                       .detail("the page is too large; ask for fewer rows"));
            co_return;
        }
        co_await response.send(200, kJson, body.view());
    }

    [[nodiscard]] static annal::Problem event_problem(const annal::Status& status) {
        if (status.code() == ANNAL_NOT_FOUND || status.code() == ANNAL_INVALID) {
            return annal::Problem(404, "not_found")
                .detail("this project has no event with this id");
        }
        return annal::Problem(status);
    }
};

}  // namespace authio

ANNAL_PLUGIN("annal.query-authio", "1.0.0", "Annal", "Apache-2.0", authio::QueryAuthio)
