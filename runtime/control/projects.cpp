#include "runtime/control/projects.h"

#include <algorithm>
#include <boost/json.hpp>

#include "runtime/control/body.h"
#include "runtime/core/task_impl.h"
#include "runtime/core/time_text.h"

namespace annal::control {
namespace json = boost::json;
namespace {

constexpr const char* kSpace = "host.projects";
constexpr const char* kKey = "project";

bool is_project_id(std::string_view id) {
    auto allowed = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; };
    return !id.empty() && id.size() <= 64 && std::all_of(id.begin(), id.end(), allowed);
}

}  // namespace

Task<Result<void>> Projects::load() {
    BOOST_OUTCOME_CO_TRY(std::vector<KvRow> rows, co_await read_space(store_, kSpace));
    const std::lock_guard lock(mutex_);
    for (KvRow& row : rows) rows_[row.project] = std::move(row.value);
    co_return ok();
}

Task<Result<void>> Projects::reload(std::string id) {
    BOOST_OUTCOME_CO_TRY(auto row, co_await store_.kv_get(kSpace, id, kKey));
    const std::lock_guard lock(mutex_);
    if (row) rows_[id] = std::move(*row);
    co_return ok();
}

Task<Result<bool>> Projects::find(std::string id) {
    if (exists(id)) co_return true;
    BOOST_OUTCOME_CO_TRYV(co_await board_.catch_up());
    co_return exists(id);
}

bool Projects::exists(const std::string& id) const {
    const std::lock_guard lock(mutex_);
    return rows_.contains(id);
}

Task<Result<bool>> Projects::is_there(EventStore& store, std::string id) {
    BOOST_OUTCOME_CO_TRY(const auto row, co_await store.kv_get(kSpace, std::move(id), kKey));
    co_return row.has_value();
}

Task<Result<void>> Projects::create(std::string id, std::string name) {
    if (!is_project_id(id))
        co_return Error{Errc::unprocessable, "a project id has 1 to 64 of A-Z a-z 0-9 _ -", "/id"};
    const json::object row{
        {"id", id}, {"name", name}, {"created_at", format_time(clock_.wall_us())}};
    std::string text = json::serialize(row);
    AppendUnit unit;
    unit.project = id;
    unit.kv.push_back({KvOp::Kind::require_absent, kSpace, id, kKey, ""});
    unit.kv.push_back({KvOp::Kind::put, kSpace, id, kKey, text});
    board_.put_up(unit, id);
    AppendOutcome done = co_await appender_.append(std::move(unit));
    if (!done) {
        Error error = done.error();
        if (error.code == Errc::conflict)
            error = Error{Errc::conflict, "project " + id + " exists already", "/id"};
        co_return error;
    }
    const std::lock_guard lock(mutex_);
    rows_[id] = std::move(text);
    co_return ok();
}

Task<Result<void>> Projects::post(std::shared_ptr<http::Exchange> exchange) {
    std::vector<std::string_view> known{"id", "name"};
    BOOST_OUTCOME_CO_TRY(
        const json::object body, co_await read_object(*exchange, std::move(known))
    );
    BOOST_OUTCOME_CO_TRY(std::string name, string_member(body, "name", 128));
    std::string id = random_token("proj_", 10);
    if (body.contains("id")) {
        BOOST_OUTCOME_CO_TRY(id, string_member(body, "id", 64));
    }
    BOOST_OUTCOME_CO_TRYV(co_await create(id, std::move(name)));
    std::string row;
    {
        const std::lock_guard lock(mutex_);
        row = rows_[id];
    }
    const json::value value = json::parse(row);
    co_return co_await respond_json(*exchange, 201, value);
}

Task<Result<void>> Projects::list(std::shared_ptr<http::Exchange> exchange) {
    BOOST_OUTCOME_CO_TRYV(co_await board_.catch_up());
    json::array data;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, row] : rows_) data.push_back(json::parse(row));
    }
    json::object body;
    body["data"] = std::move(data);
    const json::value value(std::move(body));
    co_return co_await respond_json(*exchange, 200, value);
}

Result<void> Projects::add_routes(http::Router& router) {
    http::Route create_route{
        {"POST"}, "/v1/projects", "platform", "create", "projects", make_handler([this](auto e) {
            return post(e);
        })};
    BOOST_OUTCOME_TRYV(router.add(std::move(create_route)));
    http::Route list_route{
        {"GET"}, "/v1/projects", "platform", "list", "projects", make_handler([this](auto e) {
            return list(e);
        })};
    return router.add(std::move(list_route));
}

}  // namespace annal::control
