#include "runtime/control/docs_routes.h"

#include "runtime/control/body.h"
#include "runtime/control/docs_files.h"
#include "runtime/core/crypto.h"
#include "runtime/core/task_impl.h"

namespace annal::control {
namespace {

constexpr std::string_view kPage = "index.html";
// Styles in attributes are set through the DOM, which no policy forbids; data: are the page's
// icons.
constexpr const char* kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Whether a list of entity tags, as If-None-Match has it, names `etag`.
bool names(std::string_view list, std::string_view etag) {
    while (!list.empty()) {
        const auto comma = list.find(',');
        std::string_view one = list.substr(0, comma);
        list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
        while (one.starts_with(' ')) one.remove_prefix(1);
        while (one.ends_with(' ')) one.remove_suffix(1);
        if (one.starts_with("W/")) one.remove_prefix(2);
        if (one == etag || one == "*") return true;
    }
    return false;
}

}  // namespace

DocsRoutes::Page DocsRoutes::page(std::string_view content_type, std::string_view bytes) {
    return {content_type, bytes, '"' + to_hex(sha256(bytes)).substr(0, 32) + '"'};
}

void DocsRoutes::publish(std::string openapi_json) {
    text_ = std::move(openapi_json);
    openapi_ = page("application/json", text_);
}

Task<Result<void>> DocsRoutes::answer(std::shared_ptr<http::Exchange> exchange, const Page& page) {
    http::Pairs headers{
        {"Cache-Control", "no-cache"},  // kept, but asked for again each time
        {"ETag", page.etag},
        {"Content-Security-Policy", kPolicy},
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"}};
    const auto known = exchange->request().header("if-none-match");
    if (known && names(*known, page.etag)) {
        co_return co_await exchange->answer(304, std::move(headers), std::string_view());
    }
    headers.emplace_back("Content-Type", page.content_type);
    co_return co_await exchange->answer(200, std::move(headers), page.bytes);
}

Task<Result<void>> DocsRoutes::answer_file(std::shared_ptr<http::Exchange> exchange) const {
    const auto found = files_.find(exchange->request().param("file"));
    if (found == files_.end())
        co_return Error{Errc::not_found, "the page at /docs has no such file"};
    co_return co_await answer(std::move(exchange), found->second);
}

Result<void> DocsRoutes::add_routes(http::Router& router) {
    for (const DocsFile& file : docs_files())
        files_.emplace(file.name, page(file.content_type, file.bytes));
    const auto add = [&router](const char* pattern, Action action) {
        http::Route route{{"GET"}, pattern, "", pattern, "docs", make_handler(std::move(action))};
        return router.add(std::move(route));
    };
    BOOST_OUTCOME_TRYV(add("/openapi.json", [this](std::shared_ptr<http::Exchange> exchange) {
        return answer(std::move(exchange), openapi_);
    }));
    BOOST_OUTCOME_TRYV(add("/docs", [this](std::shared_ptr<http::Exchange> exchange) {
        return answer(std::move(exchange), files_.find(kPage)->second);
    }));
    return add("/docs/{file}", [this](std::shared_ptr<http::Exchange> exchange) {
        return answer_file(std::move(exchange));
    });
}

}  // namespace annal::control
