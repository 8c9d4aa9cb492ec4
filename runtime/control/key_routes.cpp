#include <algorithm>
#include <boost/json.hpp>

#include "runtime/control/api_keys.h"
#include "runtime/control/projects.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"

namespace annal::control {
namespace json = boost::json;
namespace {

json::value time_or_null(TimeUs at) {
    if (at == kNoTime) return nullptr;
    return json::value(format_time(at));
}

json::object to_json(const ApiKey& key) {
    json::object object;
    object["id"] = key.id;
    object["project_id"] = key.project;
    object["name"] = key.name;
    object["prefix"] = key.prefix;
    object["scopes"] = json::array(key.scopes.begin(), key.scopes.end());
    object["created_at"] = format_time(key.created_at);
    object["expires_at"] = time_or_null(key.expires_at);
    object["revoked_at"] = time_or_null(key.revoked_at);
    object["last_used_at"] = time_or_null(key.last_used_at);
    return object;
}

Result<std::vector<std::string>> scopes_of(const json::object& body) {
    const Error wrong{Errc::unprocessable, "scopes must be an array of scope names", "/scopes"};
    const json::value* value = body.if_contains("scopes");
    if (!value || !value->is_array() || value->get_array().size() > 32) return wrong;
    std::vector<std::string> scopes;
    for (const json::value& scope : value->get_array()) {
        if (!scope.is_string()) return wrong;
        scopes.emplace_back(scope.get_string().c_str());
    }
    return scopes;
}

class KeyRoutes {
public:
    KeyRoutes(ApiKeys& keys, Projects& projects) : keys_(keys), projects_(projects) {}

    Task<Result<void>> create(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"name", "scopes", "project_id", "expires_at"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(std::string name, string_member(body, "name", 128));
        BOOST_OUTCOME_CO_TRY(std::vector<std::string> scopes, scopes_of(body));
        const http::Principal& principal = exchange->principal();
        BOOST_OUTCOME_CO_TRY(std::string project, co_await project_of(body, principal));
        for (const std::string& scope : scopes) {
            if (!principal.may(scope))
                co_return Error{
                    Errc::denied,
                    "a key can't give away a scope that it does not have: " + scope,
                    "/scopes"};
        }
        TimeUs expires_at = kNoTime;
        if (const json::value* value = body.if_contains("expires_at"); value && !value->is_null()) {
            BOOST_OUTCOME_CO_TRY(const std::string text, string_member(body, "expires_at", 64));
            auto at = parse_time(text);
            if (!at) co_return Error{Errc::unprocessable, at.error().detail, "/expires_at"};
            expires_at = at.value();
        }
        Actor actor = actor_of(principal);
        auto created = co_await keys_.create(
            std::move(project), std::move(name), std::move(scopes), expires_at, std::move(actor)
        );
        if (!created) co_return created.error();
        json::object answer = to_json(created.value().key);
        answer["secret"] = created.value().secret;
        const json::value value(std::move(answer));
        co_return co_await respond_json(*exchange, 201, value);
    }

    Task<Result<void>> list(std::shared_ptr<http::Exchange> exchange) {
        json::array data;
        std::string project = exchange->principal().project;
        BOOST_OUTCOME_CO_TRY(const auto keys, co_await keys_.list(std::move(project)));
        for (const ApiKey& key : keys) data.push_back(to_json(key));
        json::object body;
        body["data"] = std::move(data);
        const json::value value(std::move(body));
        co_return co_await respond_json(*exchange, 200, value);
    }

    Task<Result<void>> revoke(std::shared_ptr<http::Exchange> exchange) {
        std::string id(exchange->request().param("id"));
        std::string project = exchange->principal().project;
        Actor actor = actor_of(exchange->principal());
        BOOST_OUTCOME_CO_TRYV(
            co_await keys_.revoke(std::move(project), std::move(id), std::move(actor))
        );
        http::Pairs none;
        BOOST_OUTCOME_CO_TRYV(exchange->start(204, none));
        co_return co_await exchange->finish(std::move(none));
    }

private:
    [[nodiscard]] Task<Result<std::string>> project_of(
        const json::object& body, const http::Principal& principal
    ) {
        std::string project = principal.project;
        if (body.contains("project_id")) {
            BOOST_OUTCOME_CO_TRY(project, string_member(body, "project_id", 64));
        }
        if (project != principal.project && !principal.may("platform"))
            co_return Error{
                Errc::denied, "keys of another project need the scope platform", "/project_id"};
        if (project.empty())
            co_return Error{Errc::unprocessable, "project_id is missing", "/project_id"};
        BOOST_OUTCOME_CO_TRY(const bool exists, co_await projects_.find(project));
        if (!exists)
            co_return Error{
                Errc::not_found,
                "there is no project " + project + "; create it with POST /v1/projects",
                "/project_id"};
        co_return project;
    }

    ApiKeys& keys_;
    Projects& projects_;
};

}  // namespace

Result<void> add_key_routes(http::Router& router, ApiKeys& keys, Projects& projects) {
    auto routes = std::make_shared<KeyRoutes>(keys, projects);
    http::Route create{
        {"POST"},
        "/v1/api-keys",
        "keys:write",
        "create",
        "api keys",
        make_handler([routes](auto e) { return routes->create(e); })};
    BOOST_OUTCOME_TRYV(router.add(std::move(create)));
    http::Route list{
        {"GET"}, "/v1/api-keys", "keys:read", "list", "api keys", make_handler([routes](auto e) {
            return routes->list(e);
        })};
    BOOST_OUTCOME_TRYV(router.add(std::move(list)));
    http::Route revoke{
        {"DELETE"},
        "/v1/api-keys/{id}",
        "keys:write",
        "revoke",
        "api keys",
        make_handler([routes](auto e) { return routes->revoke(e); })};
    return router.add(std::move(revoke));
}

}  // namespace annal::control
