#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/http/router.h"

namespace annal::control {

/// GET /openapi.json, and GET /docs, the page that shows it, with what the page loads: open to
/// anybody, answered from memory, with an ETag that If-None-Match is compared with.
///
/// The page's Content-Security-Policy lets it load from this node alone.
class DocsRoutes {
public:
    /// @error  As `Router::add`.
    [[nodiscard]] Result<void> add_routes(http::Router& router);
    /// What /openapi.json answers. After the routes are all added, since it describes them, and
    /// before the first request.
    void publish(std::string openapi_json);

private:
    struct Page {
        std::string_view content_type, bytes;
        std::string etag;
    };
    [[nodiscard]] static Page page(std::string_view content_type, std::string_view bytes);
    [[nodiscard]] static Task<Result<void>> answer(
        std::shared_ptr<http::Exchange> exchange, const Page& page
    );

    [[nodiscard]] Task<Result<void>> answer_file(std::shared_ptr<http::Exchange> exchange) const;

    std::string text_;
    Page openapi_;
    std::map<std::string, Page, std::less<>> files_;
};

}  // namespace annal::control
