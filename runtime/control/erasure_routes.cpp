#include "runtime/control/erasure_routes.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cctype>

#include "runtime/bus/appender.h"
#include "runtime/control/body.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"
#include "runtime/event/event_json.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr std::uint32_t kListMax = 200, kListDefault = 50;
constexpr std::uint32_t kRowsAPage = 200;
constexpr std::size_t kWriteBytes = 32U << 10;
constexpr Column kIdentity[] = {Column::user_id, Column::actor_id, Column::target_id};

json::value time_or_null(TimeUs at) {
    return at == kNoTime ? json::value(nullptr) : json::value(format_time(at));
}

http::Problem held() {
    http::Problem problem;
    problem.status = 409;
    problem.code = "legal_hold";
    problem.title = "Conflict";
    problem.detail =
        "the project is under legal hold, so nothing may be erased; end the hold first "
        "(PUT /v1/config/legal_hold false)";
    return problem;
}

/// The text of user.data_exported.
struct ExportRecord {
    std::string actor_type, actor_id, user_id;
};

class ErasureRoutes {
public:
    ErasureRoutes(Erasures& erasures, HostEnvironment& host) : erasures_(erasures), host_(host) {}

    Task<Result<void>> create(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(std::string user_id, co_await subject_of(*exchange));
        BOOST_OUTCOME_CO_TRY(const std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(const bool is_held, co_await erasures_.is_held(project));
        if (is_held) {
            http::Problem problem = held();
            co_return co_await exchange->fail(std::move(problem));
        }
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const Erasure erasure,
            co_await erasures_.create(project, std::move(user_id), std::move(actor))
        );
        const json::value value(shown(erasure, false));
        co_return co_await respond_json(*exchange, 202, value);
    }

    Task<Result<void>> get(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(const std::string project, project_of(*exchange));
        std::string id(exchange->request().param("id"));
        BOOST_OUTCOME_CO_TRY(const Erasure erasure, co_await erasures_.get(project, std::move(id)));
        BOOST_OUTCOME_CO_TRY(const bool is_held, co_await erasures_.is_held(project));
        const json::value value(shown(erasure, is_held));
        co_return co_await respond_json(*exchange, 200, value);
    }

    Task<Result<void>> list(std::shared_ptr<http::Exchange> exchange) {
        const http::Request& request = exchange->request();
        BOOST_OUTCOME_CO_TRY(
            const std::int64_t limit, query_integer(request, "limit", kListDefault, 1, kListMax)
        );
        std::string before(request.parameter("cursor").value_or(""));
        if (!before.empty() && !before.starts_with("era_"))
            co_return Error{Errc::invalid, "must be the next_cursor of an answer", "cursor"};
        BOOST_OUTCOME_CO_TRY(const std::string project, project_of(*exchange));
        BOOST_OUTCOME_CO_TRY(
            const auto found,
            co_await erasures_.list(
                project, std::move(before), static_cast<std::uint32_t>(limit + 1)
            )
        );
        BOOST_OUTCOME_CO_TRY(const bool is_held, co_await erasures_.is_held(project));
        const bool more = found.size() > static_cast<std::size_t>(limit);
        json::array data;
        for (std::size_t i = 0; i < found.size() - (more ? 1 : 0); ++i)
            data.push_back(shown(found[i], is_held));
        json::object body;
        body["next_cursor"] = nullptr;
        if (more) body["next_cursor"] = found[found.size() - 2].id;
        body["data"] = std::move(data);
        body["has_more"] = more;
        const json::value value(std::move(body));
        co_return co_await respond_json(*exchange, 200, value);
    }

    /// Everything that the log holds about one person, as it is now: one JSON object a line.
    Task<Result<void>> export_subject(std::shared_ptr<http::Exchange> exchange) {
        BOOST_OUTCOME_CO_TRY(const std::string user_id, co_await subject_of(*exchange));
        BOOST_OUTCOME_CO_TRY(const std::string project, project_of(*exchange));
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRY(
            const Seq until, co_await record_export(project, user_id, std::move(actor))
        );
        http::Pairs headers{
            {"Content-Type", "application/x-ndjson"},
            {"Content-Disposition", "attachment; filename=\"subject.jsonl\""},
            {"Cache-Control", "no-store"}};
        BOOST_OUTCOME_CO_TRYV(exchange->start(200, std::move(headers)));
        std::string text;
        for (const Column column : kIdentity) {
            BOOST_OUTCOME_CO_TRYV(co_await send(*exchange, project, user_id, column, until, text));
        }
        if (!text.empty()) {
            BOOST_OUTCOME_CO_TRYV(co_await exchange->write(text));
        }
        co_return co_await exchange->finish({});
    }

private:
    static Task<Result<std::string>> subject_of(http::Exchange& exchange) {
        std::vector<std::string_view> known{"user_id"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(
            std::string user_id, string_member(body, "user_id", Erasures::kUserIdBytesMax)
        );
        const bool blank = std::all_of(user_id.begin(), user_id.end(), [](unsigned char c) {
            return std::isspace(c) != 0;
        });
        if (blank || user_id.find('\0') != std::string::npos)
            co_return Error{
                Errc::unprocessable,
                "user_id must name somebody: it is blank, or holds U+0000",
                "/user_id"};
        co_return user_id;
    }

    static json::object shown(const Erasure& erasure, bool is_held) {
        json::object copies;
        copies["dead_letters"] = erasure.dead_letters;
        copies["webhook_attempts"] = erasure.attempts;
        copies["plugin_rows"] = erasure.plugin_rows;
        copies["streams_and_endpoints"] = erasure.objects;
        json::object by;
        by["type"] = erasure.requested_by.type;
        by["id"] = text_or_null(erasure.requested_by.id);
        json::object object;
        object["id"] = erasure.id;
        object["status"] = erasure.completed ? "completed" : "running";
        object["paused_by"] =
            !erasure.completed && is_held ? json::value("legal_hold") : json::value(nullptr);
        object["requested_at"] = time_or_null(erasure.requested_at);
        object["requested_by"] = std::move(by);
        object["completed_at"] = time_or_null(erasure.completed_at);
        object["through_seq"] =
            erasure.through_seq == kNoSeq ? json::value(nullptr) : json::value(erasure.through_seq);
        object["events"] = erasure.events;
        object["copies"] = std::move(copies);
        return object;
    }

    /// The seq of the last event that was there before the record.
    Task<Result<Seq>> record_export(std::string project, std::string user_id, Actor actor) {
        auto text = std::make_shared<ExportRecord>();
        text->actor_type = std::move(actor.type);
        text->actor_id = std::move(actor.id);
        text->user_id = std::move(user_id);
        EventDraft draft;
        draft[Column::action] = "user.data_exported";
        draft[Column::actor_type] = text->actor_type;
        if (!text->actor_id.empty()) draft[Column::actor_id] = text->actor_id;
        draft[Column::auth_type] = text->actor_type;
        draft[Column::user_id] = text->user_id;
        draft[Column::target_type] = "user";
        draft[Column::target_id] = text->user_id;
        draft[Column::metadata] = "{}";
        AppendUnit unit;
        unit.project = std::move(project);
        unit.events.push_back(draft);
        unit.memory = std::move(text);
        BOOST_OUTCOME_CO_TRY(const auto receipts, co_await host_.appender->append(std::move(unit)));
        co_return receipts.front().seq - 1;
    }

    /// Those whose `column` names the person and no column before it does, oldest first.
    Task<Result<void>> send(
        http::Exchange& exchange,
        const std::string& project,
        const std::string& user_id,
        Column column,
        Seq until,
        std::string& text
    ) {
        std::optional<Seq> after;
        for (bool over = until < 0; !over;) {
            ScanRequest request;
            request.project = project;
            request.filter.equals[static_cast<std::size_t>(column)] = user_id;
            request.newest_first = false;
            request.after = after;
            request.limit = kRowsAPage;
            BOOST_OUTCOME_CO_TRY(
                const ScanPage page, co_await host_.store->scan(std::move(request))
            );
            for (const Event& event : page.batch.events) {
                over = over || event.seq > until;
                if (over || was_sent(event, user_id, column)) continue;
                append_canonical_json(text, event);
                text += '\n';
                if (text.size() < kWriteBytes) continue;
                BOOST_OUTCOME_CO_TRYV(co_await exchange.write(text));
                text.clear();
            }
            over = over || page.exhausted || page.scanned >= until;
            after = page.scanned;
        }
        co_return ok();
    }

    static bool was_sent(const Event& event, const std::string& user_id, Column column) {
        for (const Column earlier : kIdentity) {
            if (earlier == column) return false;
            if (!event[earlier].is_null() && event[earlier].view() == user_id) return true;
        }
        return false;
    }

    Erasures& erasures_;
    HostEnvironment& host_;
};

constexpr RouteEntry<ErasureRoutes> kEntries[] = {
    {"POST", "/v1/audit/erasures", "audit:write", &ErasureRoutes::create},
    {"GET", "/v1/audit/erasures", "audit:write", &ErasureRoutes::list},
    {"GET", "/v1/audit/erasures/{id}", "audit:write", &ErasureRoutes::get},
    {"POST", "/v1/audit/subjects/export", "audit:read", &ErasureRoutes::export_subject}};

}  // namespace

Result<void> add_erasure_routes(http::Router& router, Erasures& erasures, HostEnvironment& host) {
    const auto routes = std::make_shared<ErasureRoutes>(erasures, host);
    return add_routes<ErasureRoutes>(router, routes, kEntries, "erasures");
}

}  // namespace annal::control
