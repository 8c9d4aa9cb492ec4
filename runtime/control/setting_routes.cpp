#include "runtime/control/setting_routes.h"

#include <boost/json.hpp>

#include "runtime/control/body.h"
#include "runtime/core/task_impl.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr std::size_t kValueBytesMax = 4096;

class SettingRoutes {
public:
    SettingRoutes(Settings& settings, Appender& appender)
        : settings_(settings), appender_(appender) {}

    Task<Result<void>> get(std::shared_ptr<http::Exchange> exchange) {
        std::string key(exchange->request().param("key"));
        co_return co_await answer(exchange, std::move(key));
    }

    Task<Result<void>> put(std::shared_ptr<http::Exchange> exchange) {
        std::string text;
        for (;;) {
            BOOST_OUTCOME_CO_TRY(const std::string_view chunk, co_await exchange->read());
            if (chunk.empty()) break;
            if (text.size() + chunk.size() > kValueBytesMax)
                co_return Error{Errc::too_large, "a setting's value may have 4096 bytes"};
            text += chunk;
        }
        boost::system::error_code error;
        const json::value value = json::parse(text, error);
        if (error)
            co_return Error{
                Errc::invalid,
                "the body must be the setting's value as JSON, like 365 or \"strict\": " +
                    error.message()};
        std::string key(exchange->request().param("key"));
        const http::Principal& principal = exchange->principal();
        if (principal.project.empty())
            co_return Error{Errc::unprocessable, "no project: name it in the header Annal-Project"};
        Actor actor = actor_of(principal);
        std::string compact = json::serialize(value);
        BOOST_OUTCOME_CO_TRYV(co_await settings_.put(
            appender_,
            principal.project,
            key,
            std::move(compact),
            std::move(actor.type),
            std::move(actor.id)
        ));
        co_return co_await answer(exchange, std::move(key));
    }

private:
    Task<Result<void>> answer(std::shared_ptr<http::Exchange> exchange, std::string key) {
        BOOST_OUTCOME_CO_TRYV(co_await settings_.catch_up());
        BOOST_OUTCOME_CO_TRY(
            const std::string value, settings_.get(exchange->principal().project, key)
        );
        json::object body;
        body["key"] = key;
        body["value"] = json::parse(value);
        const json::value document(std::move(body));
        co_return co_await respond_json(*exchange, 200, document);
    }

    Settings& settings_;
    Appender& appender_;
};

}  // namespace

Result<void> add_setting_routes(http::Router& router, Settings& settings, Appender& appender) {
    auto routes = std::make_shared<SettingRoutes>(settings, appender);
    http::Route get{
        {"GET"}, "/v1/config/{key}", "admin", "get", "settings", make_handler([routes](auto e) {
            return routes->get(e);
        })};
    BOOST_OUTCOME_TRYV(router.add(std::move(get)));
    http::Route put{
        {"PUT"}, "/v1/config/{key}", "admin", "put", "settings", make_handler([routes](auto e) {
            return routes->put(e);
        })};
    return router.add(std::move(put));
}

}  // namespace annal::control
