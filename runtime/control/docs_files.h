#pragma once

#include <span>
#include <string_view>

namespace annal::control {

/// A file that the program carries: static, for ever.
struct DocsFile {
    std::string_view name;  ///< "swagger-ui.css"
    std::string_view content_type, bytes;
};

/// What the page at /docs consists of; the page itself is "index.html".
[[nodiscard]] std::span<const DocsFile> docs_files();

}  // namespace annal::control
