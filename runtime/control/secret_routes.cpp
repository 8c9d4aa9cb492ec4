#include "runtime/control/secret_routes.h"

#include <boost/json.hpp>

#include "runtime/control/body.h"
#include "runtime/core/task_impl.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr std::size_t kFingerprintBytesMax = 64, kKeyBytesMax = 512;

json::object to_json(const Rekeying::Page& page) {
    json::array unopened;
    for (const Rekeying::Unopened& row : page.unopened) {
        json::object object;
        object["space"] = row.space;
        object["project_id"] = row.project;
        object["id"] = row.key;
        object["reason"] = row.reason;
        unopened.push_back(std::move(object));
    }
    json::object object;
    object["resealed"] = page.resealed;
    object["stale"] = page.stale;
    object["current"] = page.current;
    object["unopened"] = std::move(unopened);
    if (page.next) {
        json::object next;
        next["space"] = static_cast<std::int64_t>(page.next->space);
        next["project_id"] = page.next->project;
        next["id"] = page.next->key;
        object["next"] = std::move(next);
    }
    return object;
}

bool take_text(const json::object& from, const char* member, std::string& text) {
    const json::value* value = from.if_contains(member);
    const json::string* found = value != nullptr ? value->if_string() : nullptr;
    if (found == nullptr || found->size() > kKeyBytesMax) return false;
    text.assign(found->data(), found->size());
    return true;
}

Result<Rekeying::Position> position_of(const json::object& body) {
    Rekeying::Position position;
    const json::value* from = body.if_contains("from");
    if (from == nullptr) return position;
    const json::object* object = from->if_object();
    const json::value* space = object != nullptr ? object->if_contains("space") : nullptr;
    const bool right = space != nullptr && space->is_int64() && space->get_int64() >= 0 &&
                       take_text(*object, "project_id", position.project) &&
                       take_text(*object, "id", position.key);
    if (!right) return Error{Errc::unprocessable, "from must be an answer's next", "/from"};
    position.space = static_cast<std::size_t>(space->get_int64());
    return position;
}

class SecretRoutes {
public:
    SecretRoutes(Rekeying& rekeying, std::string first_key)
        : rekeying_(rekeying), first_key_(std::move(first_key)) {}

    Task<Result<void>> rekey(std::shared_ptr<http::Exchange> exchange) {
        std::vector<std::string_view> known{"first_key", "action", "from"};
        BOOST_OUTCOME_CO_TRY(
            const json::object body, co_await read_object(*exchange, std::move(known))
        );
        BOOST_OUTCOME_CO_TRY(
            const std::string first_key, string_member(body, "first_key", kFingerprintBytesMax)
        );
        BOOST_OUTCOME_CO_TRY(const std::string action, string_member(body, "action", 16));
        if (first_key != first_key_)
            co_return Error{
                Errc::conflict,
                "this node was started with another first key than the key ring has now: start it "
                "anew first"};
        json::value answer(json::object{});
        if (action == "finish") {
            BOOST_OUTCOME_CO_TRYV(co_await rekeying_.finish());
        } else if (action == "count" || action == "reseal") {
            const auto mode = action == "count" ? Rekeying::Mode::count : Rekeying::Mode::reseal;
            BOOST_OUTCOME_CO_TRY(Rekeying::Position from, position_of(body));
            BOOST_OUTCOME_CO_TRY(
                const Rekeying::Page page, co_await rekeying_.page(std::move(from), mode)
            );
            answer = to_json(page);
        } else {
            co_return Error{
                Errc::unprocessable, "action must be count, reseal or finish", "/action"};
        }
        co_return co_await respond_json(*exchange, 200, answer);
    }

private:
    Rekeying& rekeying_;
    std::string first_key_;
};

}  // namespace

Result<void> add_secret_routes(http::Router& router, Rekeying& rekeying, std::string first_key) {
    const auto routes = std::make_shared<SecretRoutes>(rekeying, std::move(first_key));
    http::Route route{
        {"POST"},
        "/v1/secrets/rekey",
        "platform",
        "rekey",
        "secrets",
        make_handler([routes](std::shared_ptr<http::Exchange> e) {
            return routes->rekey(std::move(e));
        })};
    return router.add(std::move(route));
}

}  // namespace annal::control
