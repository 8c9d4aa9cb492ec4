#pragma once

#include <memory>
#include <string>

#include "runtime/http/exchange.h"
#include "runtime/plugin/formats.h"
#include "runtime/store/filter.h"

namespace annal::http {

struct ExportRequest {
    Filter filter;
    std::string cursor;  ///< empty: from the newest
    std::string format;  ///< component name: "csv"
    Pairs options;       ///< for the format
    std::uint32_t rows_max = 100'000;
    std::string next_path;  ///< for Link: rel=next; empty: no such header
};

/// Bulk answers: scan → format → socket, newest first, one page in memory at a time.
class Exporter {
public:
    /// @param formats  outlives it
    Exporter(HostEnvironment& environment, const Formats& formats)
        : environment_(environment), formats_(formats) {}

    /// Answers `exchange` wholly. Before the first byte it looks ahead, within a bound, whether
    /// more than `rows_max` rows match: if so the headers say `Annal-Truncated: true`,
    /// `Annal-Next-Cursor` and `Link: rel=next`, and the body ends at exactly `rows_max` rows.
    /// Where the look-ahead ran into its bound the same names follow as trailers; a client that
    /// takes those and asks for fewer rows than the node allows gets them without a look-ahead. An
    /// error after the first byte cuts the connection, so that a short file never looks like a
    /// whole one.
    /// @error before the first byte: Errc::not_found (no such format; those that exist are named),
    /// Errc::invalid (cursor, option),
    ///        Errc::unavailable. Nothing has been answered then.
    [[nodiscard]] Task<Result<void>> run(
        std::string project, ExportRequest request, std::shared_ptr<Exchange> exchange
    );

private:
    HostEnvironment& environment_;
    const Formats& formats_;
};

}  // namespace annal::http
