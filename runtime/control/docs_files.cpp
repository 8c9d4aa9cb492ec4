#include "runtime/control/docs_files.h"

#include <array>

// The assembler takes the files in as they are: as literals they would cost the compiler minutes.
#define DOCS_FILE(symbol, path)                                                              \
    asm(".pushsection .rodata\n.balign 16\n"                                                 \
        ".globl annal_docs_" #symbol "\n.hidden annal_docs_" #symbol "\nannal_docs_" #symbol \
        ":\n.incbin \"" path                                                                 \
        "\"\n"                                                                               \
        ".globl annal_docs_" #symbol "_end\n.hidden annal_docs_" #symbol                     \
        "_end\nannal_docs_" #symbol "_end:\n.byte 0\n.popsection\n");                        \
    extern "C" __attribute__((visibility("hidden"))) const char annal_docs_##symbol[];       \
    extern "C" __attribute__((visibility("hidden"))) const char annal_docs_##symbol##_end[]

DOCS_FILE(index_html, ANNAL_DOCS_FOLDER "/index.html");
DOCS_FILE(docs_css, ANNAL_DOCS_FOLDER "/docs.css");
DOCS_FILE(docs_js, ANNAL_DOCS_FOLDER "/docs.js");
DOCS_FILE(swagger_ui_css, ANNAL_SWAGGER_UI_FOLDER "/swagger-ui.css");
DOCS_FILE(swagger_ui_bundle_js, ANNAL_SWAGGER_UI_FOLDER "/swagger-ui-bundle.js");
DOCS_FILE(license, ANNAL_SWAGGER_UI_FOLDER "/LICENSE");
DOCS_FILE(notice, ANNAL_SWAGGER_UI_FOLDER "/NOTICE");
DOCS_FILE(bundle_license, ANNAL_SWAGGER_UI_FOLDER "/swagger-ui-bundle.js.LICENSE.txt");

namespace annal::control {
namespace {

constexpr std::string_view kHtml = "text/html; charset=utf-8", kCss = "text/css; charset=utf-8",
                           kScript = "text/javascript; charset=utf-8",
                           kText = "text/plain; charset=utf-8";

std::string_view bytes(const char* begin, const char* end) {
    return {begin, static_cast<std::size_t>(end - begin)};
}

}  // namespace

#define BYTES(symbol) bytes(annal_docs_##symbol, annal_docs_##symbol##_end)

std::span<const DocsFile> docs_files() {
    static const std::array<DocsFile, 8> kFiles{{
        {"index.html", kHtml, BYTES(index_html)},
        {"docs.css", kCss, BYTES(docs_css)},
        {"docs.js", kScript, BYTES(docs_js)},
        {"swagger-ui.css", kCss, BYTES(swagger_ui_css)},
        {"swagger-ui-bundle.js", kScript, BYTES(swagger_ui_bundle_js)},
        {"LICENSE", kText, BYTES(license)},
        {"NOTICE", kText, BYTES(notice)},
        {"swagger-ui-bundle.js.LICENSE.txt", kText, BYTES(bundle_license)},
    }};
    return kFiles;
}

}  // namespace annal::control
