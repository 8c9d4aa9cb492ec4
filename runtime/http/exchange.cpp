#include "runtime/http/exchange.h"

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/system_executor.hpp>

#include "runtime/core/task_impl.h"

namespace annal::http {
namespace {

std::optional<std::string_view> first(const Pairs& pairs, std::string_view name) {
    for (const auto& [key, value] : pairs) {
        if (key == name) return value;
    }
    return std::nullopt;
}

bool covers(std::string_view held, std::string_view wanted) {
    if (held == wanted || held == "platform") return true;
    if (held == "admin") return wanted != "platform";
    return held.ends_with(":*") && wanted.starts_with(held.substr(0, held.size() - 1));
}

}  // namespace

bool Principal::may(std::string_view scope) const {
    return std::any_of(scopes.begin(), scopes.end(), [&](const std::string& held) {
        return covers(held, scope);
    });
}

std::optional<std::string_view> Request::header(std::string_view lower_case_name) const {
    return first(headers, lower_case_name);
}

std::optional<std::string_view> Request::parameter(std::string_view query_name) const {
    return first(query, query_name);
}

std::string_view Request::param(std::string_view name) const {
    return first(params, name).value_or(std::string_view());
}

Task<Result<void>> Exchange::answer(int status, Pairs headers, std::string_view body) {
    BOOST_OUTCOME_CO_TRYV(start(status, std::move(headers)));
    BOOST_OUTCOME_CO_TRYV(co_await write(body));
    Pairs no_trailers;
    co_return co_await finish(std::move(no_trailers));
}

boost::asio::any_io_executor Exchange::executor() const {
    return boost::asio::system_executor();
}

Task<Result<void>> respond(
    Exchange& exchange, int status, std::string content_type, std::string body
) {
    Pairs headers;
    if (!content_type.empty()) headers.emplace_back("Content-Type", std::move(content_type));
    co_return co_await exchange.answer(status, std::move(headers), body);
}

}  // namespace annal::http
